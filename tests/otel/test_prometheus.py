"""Metrics for Prometheus."""

from __future__ import annotations

import json
import re
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from trioflow import Registry, open_worker
from trioflow._measures import INSTRUMENTS, QUEUE_AGES, QUEUE_GAUGES
from trioflow.prometheus import Prometheus

EXAMPLES = Path(__file__).parents[2] / "examples"

LEFT_OUT = {  # of the dashboard: others say nearly the same
    "workflow.created",
    "workflow.duration",
    "activity.task.scheduled",
    "commit.turns",
    "commit.refused",
    "replay.duration",
    "observations.dropped",
}

flows = Registry()


@flows.activity
async def charge() -> None: ...


@flows.workflow
async def order() -> None:
    await charge()


async def measured(registry: CollectorRegistry) -> None:
    prometheus = Prometheus(registry)
    async with open_worker("memory://", registry=flows, observers=[prometheus]) as worker:
        await worker.client.run(order)
        await worker.client.start(order.options(queue="other"))
        prometheus.set_backlog(await worker.client.stats())


async def test_what_happens_is_counted():
    registry = CollectorRegistry()
    await measured(registry)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"trioflow_{name}", labels)

    assert value("workflow_created_total", workflow="order", subworkflow="false") == 2
    done = {"workflow": "order", "status": "completed"}
    assert value("workflow_finished_total", **done, subworkflow="false") == 1
    assert value("workflow_duration_seconds_count", **done) == 1
    assert value("activity_task_processed_total", activity="charge", status="completed") == 1
    assert value("activity_task_time_in_queue_seconds_count", activity="charge") == 1
    assert value("commit_turns_sum") == value("workflow_task_processed_total", workflow="order")
    assert value("queue_pending_instances", queue="other") == 1
    age = value("queue_oldest_instance_seconds", queue="other")
    assert age is not None
    assert age > 0
    assert value("queue_oldest_activity_seconds", queue="other") == 0
    assert value("queue_workers", queue="other") == 0


async def test_a_queue_without_work_is_gone():
    registry = CollectorRegistry()
    prometheus = Prometheus(registry)
    async with open_worker("memory://", registry=flows) as worker:
        await worker.client.start(order.options(id="o1", queue="other"))
        prometheus.set_backlog(await worker.client.stats())
        await worker.client.handle("o1").terminate()
        prometheus.set_backlog(await worker.client.stats())
    assert registry.get_sample_value("trioflow_queue_running", {"queue": "other"}) is None


async def test_the_dashboard_asks_for_what_there_is():
    registry = CollectorRegistry()
    await measured(registry)
    text = generate_latest(registry).decode()
    names = set(re.findall(r"(?m)^# TYPE (\w+) ", text))
    there = names | {f"{name}_bucket" for name in names}
    dashboard = json.loads((EXAMPLES / "grafana.json").read_text("utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"trioflow_\w+", query)}
    assert asked - there == set()
    shown = {name.removesuffix("_bucket").removesuffix("_seconds") for name in asked}
    shown = {name.removesuffix("_total") for name in shown}
    wanted = {f"trioflow_{name.replace('.', '_')}" for name in INSTRUMENTS if name not in LEFT_OUT}
    wanted |= {f"trioflow_queue_{name}" for name in (*QUEUE_GAUGES, *QUEUE_AGES)}
    assert wanted - shown == {"trioflow_queue_running"}
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_the_page_for_those_who_come_from_go_workflows_names_what_there_is():
    page = EXAMPLES.parent / "docs" / "coming-from" / "go-workflows.md"
    section = page.read_text("utf-8").split("\n## Traces and metrics\n")[1].split("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    theirs, ours = (
        {name for row in rows for name in re.findall(r"`(\w+(?:\.\w+)+)`", row[column])}
        for column in (0, 1)
    )
    same = theirs - {"workflow.cache.size", "workflow.cache.eviction"}
    assert len(same) == 7
    assert (same | ours) - set(INSTRUMENTS) == set()
    assert {"cache.size", "cache.evictions"} <= ours
