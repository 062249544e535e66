"""What observers cost: Python functions that are called more for each workflow of the tree."""

from __future__ import annotations

import cProfile
from collections.abc import Callable, Sequence
from statistics import mean
from types import CodeType
from unittest import mock

import trio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from benchmarks.measuring import Figure, Sizes, working
from benchmarks.speed import trees_per_second
from benchmarks.stores import fresh
from trioflow import _recording
from trioflow._recording import BackgroundObserver
from trioflow.otel import OpenTelemetry
from trioflow.prometheus import Prometheus

__all__ = ["observing"]


def _telemetry() -> OpenTelemetry:
    spans = TracerProvider()
    spans.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    return OpenTelemetry(spans, MeterProvider([InMemoryMetricReader()]))


_KINDS: dict[str, Callable[[], Sequence[BackgroundObserver]]] = {
    "Prometheus": lambda: [Prometheus(CollectorRegistry())],
    "OpenTelemetry": lambda: [_telemetry()],
    "both": lambda: [Prometheus(CollectorRegistry()), _telemetry()],
}


def _calls_in(profile: cProfile.Profile) -> int:
    """Return how many Python functions were called; builtin ones do not count."""
    return sum(entry.callcount for entry in profile.getstats() if isinstance(entry.code, CodeType))


async def _calls(
    sizes: Sizes, recorders: Sequence[BackgroundObserver], seed: int = 0
) -> tuple[float, float]:
    """Return calls for each workflow: in the loop's thread, and of what is recorded later."""
    # trio runs tasks in a random order, and on that depends how large batches are.
    trio._core._run._r.seed(seed)  # noqa: SLF001, TID251 - so that all are counted alike
    runs = sizes.of(60, 2)
    loop, recording = cProfile.Profile(builtins=False), cProfile.Profile(builtins=False)
    # Recorded afterwards, to be counted by itself. Beside the loop it would slow that, all the more
    # as calls are counted, and turns would be stored in smaller batches, which have more calls.
    with mock.patch.object(_recording, "_GATHERING", 10.0), loop:
        async with working(fresh("memory", sizes.directory), observers=recorders) as client:
            await trees_per_second(client, sizes, runs)
            loop.disable()
            with recording:
                for recorder in recorders:
                    recorder.flush()
            loop.enable()
    workflows = runs * sizes.workflows
    return _calls_in(loop) / workflows, _calls_in(recording) / workflows


async def observing(sizes: Sizes) -> list[Figure]:
    """Calls for each workflow of the tree in memory, without observers and with them."""
    kinds: dict[str, Callable[[], Sequence[BackgroundObserver]]] = {"none": list, **_KINDS}
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    await _calls(sizes, _KINDS["both"]())  # what is imported and cached late
    for seed in range(sizes.of(5, 1)):
        for kind, make in kinds.items():
            found[kind].append(await _calls(sizes, make(), seed))
    base = mean(loop for loop, _ in found["none"])
    figures = [Figure("observing", "calls for each workflow, no observers", base)]
    for kind in _KINDS:
        loop, later = (mean(values) for values in zip(*found[kind], strict=True))
        more = 100 * (loop / base - 1)
        figures += [
            Figure("observing", f"{kind}: more, loop's thread", more, "%", "<= 15"),
            Figure("observing", f"{kind}: more, in the background", 100 * later / base, "%"),
        ]
    return figures
