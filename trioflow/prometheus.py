"""Metrics for Prometheus: ``open_worker(…, observers=[Prometheus()])``.

Needs the extra ``prometheus``, which is prometheus-client. That serves them, for example with
``prometheus_client.start_http_server(9000)``; ``trioflow worker --metrics 9000`` does all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from trioflow._measures import INSTRUMENTS, measures_of
from trioflow._observe import Observation
from trioflow.backends.records import QueueStats

__all__ = ["Prometheus"]

_BACKLOG = {
    "running": "Instances that have not ended and are not suspended",
    "suspended": "Suspended instances",
    "pending_instances": "Instances that are ready and that no worker holds",
    "pending_activities": "Activities that wait for a worker, retries included",
    "running_activities": "Activities that a worker holds",
    "workers": "Living workers that take the queue's instances",
    "activity_workers": "Living workers that take the queue's activities",
}


class Prometheus:
    """Counts what workers and clients do, for Prometheus.

    One object is enough for all workers and clients of a process.

    Args:
        registry: Where the metrics are registered; by default prometheus-client's own.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._metrics: dict[str, Counter | Histogram] = {}
        for name, each in INSTRUMENTS.items():
            full = "trioflow_" + name.replace(".", "_")
            if each.kind == "counter":
                self._metrics[name] = Counter(full, each.meaning, each.labels, registry=registry)
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
        self._adds: dict[tuple[str, tuple[str, ...]], Callable[[float], None]] = {}
        self._backlog = {
            field: Gauge(f"trioflow_queue_{field}", meaning, ["queue"], registry=registry)
            for field, meaning in _BACKLOG.items()
        }

    def __repr__(self) -> str:
        return "<Prometheus>"

    def observe(self, observation: Observation, /) -> None:
        """Count it."""
        for name, value, labels in measures_of(observation):
            add = self._adds.get((name, labels))
            if add is None:
                metric = self._metrics[name]
                child = metric.labels(*labels) if labels else metric
                add = child.inc if isinstance(child, Counter) else child.observe
                self._adds[name, labels] = add
            add(value)

    def set_backlog(self, queues: Sequence[QueueStats]) -> None:
        """Take over what ``client.stats()`` gives: the work that waits in each queue, and workers.

        That is the same for all workers of a store, so let one process do it, every minute say.
        """
        for field, gauge in self._backlog.items():
            gauge.clear()
            for queue in queues:
                gauge.labels(queue.queue).set(getattr(queue, field))
