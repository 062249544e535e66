"""What type checkers say of observers, and of the tree of tasks."""

from __future__ import annotations

from typing import assert_type

from prometheus_client import CollectorRegistry

from trioflow import Handle, TaskInfo, open_client, open_worker
from trioflow.otel import OpenTelemetry, tracer
from trioflow.prometheus import Prometheus


async def observed() -> None:
    telemetry = OpenTelemetry()
    async with open_worker(observers=[telemetry, Prometheus(CollectorRegistry())]):
        pass
    async with open_client("memory://", observers=[telemetry]) as client:
        Prometheus().set_backlog(await client.stats())
    with tracer().start_as_current_span("payment", attributes={"amount": 3}) as span:
        span.set_attribute("paid", True)
    open_client("memory://", observers=[3])  # type: ignore[list-item]


async def tasks(handle: Handle[int]) -> None:
    assert_type(await handle.tasks(), list[TaskInfo])
    assert_type(await handle.tasks(timeout=1.0), list[TaskInfo])
