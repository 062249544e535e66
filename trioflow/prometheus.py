"""Metrics for Prometheus: ``open_worker(…, observers=[Prometheus()])``.

Needs the extra ``prometheus``, which is prometheus-client. That serves them, for example with
``prometheus_client.start_http_server(9000)``; ``trioflow worker --metrics 9000`` does all of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from trioflow._measures import (
    INSTRUMENTS,
    QUEUE_AGES,
    QUEUE_GAUGES,
    Key,
    measured,
    queue_values,
)
from trioflow._observe import Observation
from trioflow._recording import BackgroundObserver
from trioflow.backends.records import QueueStats

__all__ = ["Prometheus"]


class Prometheus(BackgroundObserver):
    """Counts what workers and clients do, for Prometheus.

    One object is enough for all workers and clients of a process. It counts in a thread of its own,
    a moment after something has happened; what was told before a scrape is in the scrape.

    Args:
        registry: Where the metrics are registered; by default prometheus-client's own.
        limit: So many observations may wait to be counted; further ones are dropped, and `dropped`
            says how many.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, *, limit: int = 50_000) -> None:
        super().__init__(limit)
        registry.register(_BeforeScrape(self.flush))  # first, so that it is asked first
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}
        for name, each in INSTRUMENTS.items():
            full = "trioflow_" + name.replace(".", "_")
            if each.kind == "counter":
                self._metrics[name] = Counter(full, each.meaning, each.labels, registry=registry)
            elif each.kind == "gauge":
                self._metrics[name] = Gauge(full, each.meaning, each.labels, registry=registry)
            else:
                unit = "seconds" if each.unit == "s" else ""
                self._metrics[name] = Histogram(
                    full,
                    each.meaning,
                    each.labels,
                    unit=unit,
                    buckets=each.buckets,
                    registry=registry,
                )
        # What counts a value under certain labels: to look for it takes longer than to count.
        self._adds: dict[Key, Callable[[float], None]] = {}
        self._backlog = {
            **{name: _gauge(name, meaning, registry) for name, meaning in QUEUE_GAUGES.items()},
            **{
                name: _gauge(f"{name}_seconds", meaning, registry)
                for name, meaning in QUEUE_AGES.items()
            },
        }

    def __repr__(self) -> str:
        return "<Prometheus>"

    def _record(self, items: list[Observation], dropped: int) -> None:
        measured(items, dropped).write(self._add_to)

    def _add_to(self, key: Key) -> Callable[[float], None]:
        add = self._adds.get(key)
        if add is None:
            name, labels = key
            metric = self._metrics[name]
            child = metric.labels(*labels) if labels else metric
            if isinstance(child, Counter):
                add = child.inc
            else:
                add = child.set if isinstance(child, Gauge) else child.observe
            self._adds[key] = add
        return add

    def set_backlog(self, queues: Sequence[QueueStats]) -> None:
        """Take over what ``client.stats()`` gives: the work that waits in each queue, and workers.

        That is the same for all workers of a store, so let one process do it, every minute say.
        """
        for gauge in self._backlog.values():
            gauge.clear()
        now = time.time()
        for queue in queues:
            for name, value in queue_values(queue, now):
                self._backlog[name].labels(queue.queue).set(value)


class _BeforeScrape(Collector):
    """Has everything counted before the metrics are collected; gives none itself."""

    def __init__(self, flush: Callable[[], object]) -> None:
        self._flush = flush

    def collect(self) -> Iterable[Metric]:
        self._flush()
        return ()

    def describe(self) -> Iterable[Metric]:
        return ()


def _gauge(name: str, meaning: str, registry: CollectorRegistry) -> Gauge:
    return Gauge(f"trioflow_queue_{name}", meaning, ["queue"], registry=registry)
