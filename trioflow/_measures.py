"""What is measured: names, units and values of metrics, made from what observers are told.

OpenTelemetry and Prometheus have the same ones, under their own spelling of the names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from trioflow._model.commands import RunActivity, StartChild, StartDetached
from trioflow._observe import (
    AttemptEnded,
    BatchStored,
    ExecutionEnded,
    ExecutionReplayed,
    InstanceCreated,
    InstanceSuspended,
    InstanceTaken,
    LeaseWasLost,
    Observation,
    TurnStored,
)

__all__ = [
    "INSTRUMENTS",
    "QUEUE_AGES",
    "QUEUE_GAUGES",
    "Instrument",
    "Key",
    "Measures",
    "measured",
    "queue_values",
]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86_400)
_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Instrument(NamedTuple):
    """One metric.

    Attributes:
        kind: What it is.
        labels: The names of its labels.
        meaning: What it counts.
        unit: ``"s"`` for seconds, or what is counted.
        buckets: The limits of a histogram's buckets.
    """

    kind: Literal["counter", "histogram", "gauge"]
    labels: tuple[str, ...]
    meaning: str
    unit: str = "1"
    buckets: tuple[float, ...] = ()


INSTRUMENTS = {
    "workflow.created": Instrument(
        "counter", ("workflow", "subworkflow"), "Instances that clients and workflows have started"
    ),
    "workflow.finished": Instrument(
        "counter",
        ("workflow", "status", "subworkflow"),
        "Executions that have ended, those that are continued among them",
    ),
    "workflow.duration": Instrument(
        "histogram", ("workflow", "status"), "From an execution's begin to its end", "s", _SECONDS
    ),
    "workflow.suspended": Instrument(
        "counter", ("workflow",), "Instances that workers have suspended"
    ),
    "workflow.task.time_in_queue": Instrument(
        "histogram",
        ("workflow",),
        "From an instance's being ready to its being taken",
        "s",
        _SECONDS,
    ),
    "workflow.task.processed": Instrument("counter", ("workflow",), "Turns that were stored"),
    "activity.task.scheduled": Instrument(
        "counter", ("activity",), "Activities that workflows have called"
    ),
    "activity.task.processed": Instrument(
        "counter", ("activity", "status"), "Attempts of activities that have ended"
    ),
    "activity.task.time_in_queue": Instrument(
        "histogram", ("activity",), "From the call to the begin of the first attempt", "s", _SECONDS
    ),
    "activity.duration": Instrument(
        "histogram", ("activity", "status"), "How long attempts took", "s", _SECONDS
    ),
    "commit.duration": Instrument("histogram", (), "How long transactions took", "s", _SECONDS),
    "commit.turns": Instrument("histogram", (), "Turns in a transaction", "{turn}", _COUNTS),
    "commit.refused": Instrument("counter", (), "Parts of transactions that the store refused"),
    "replay.duration": Instrument(
        "histogram", ("workflow",), "How long replays took", "s", _SECONDS
    ),
    "replay.turns": Instrument("counter", ("workflow",), "Turns that were replayed"),
    "cache.hits": Instrument(
        "counter", ("workflow",), "Instances that were taken and still in memory"
    ),
    "cache.misses": Instrument("counter", ("workflow",), "Instances that had to be replayed"),
    "cache.evictions": Instrument(
        "counter", ("worker",), "Instances that the cache had no room for any more"
    ),
    "cache.size": Instrument("gauge", ("worker",), "Instances in memory that a worker has parked"),
    "worker.instances": Instrument("gauge", ("worker",), "Instances that a worker holds"),
    "worker.leases_lost": Instrument("counter", (), "How often others took a worker for dead"),
    "observations.dropped": Instrument(
        "counter", (), "What is missing in these metrics: too much waited to be recorded"
    ),
}


QUEUE_GAUGES = {
    "running": "Instances that have not ended and are not suspended",
    "suspended": "Suspended instances",
    "pending_instances": "Instances that are ready and that no worker holds",
    "pending_activities": "Activities that wait for a worker, retries included",
    "running_activities": "Activities that a worker holds",
    "workers": "Living workers that take the queue's instances",
    "activity_workers": "Living workers that take the queue's activities",
}
"""What is measured of each queue: fields of `QueueStats`."""
QUEUE_AGES = {
    "oldest_instance": "For how many seconds the instance that waits longest has been ready",
    "oldest_activity": "For how many seconds the activity that waits longest has been visible",
}
"""Seconds since the times in the fields of these names, with ``_at`` behind them; 0 for none."""


def queue_values(queue: object, now: float) -> Iterator[tuple[str, float]]:
    """Give name and value of each metric of a queue, of which these are the `QueueStats`."""
    for name in QUEUE_GAUGES:
        yield name, getattr(queue, name)
    for name in QUEUE_AGES:
        since = getattr(queue, f"{name}_at")
        yield name, 0.0 if since is None else max(0.0, now - since)


Key: TypeAlias = tuple[str, tuple[str, ...]]
"""The name of a metric, and values of its labels in the instrument's order."""


class Measures:
    """What observations mean for the metrics, put together: recording a value costs more.

    Attributes:
        counts: By how much each counter grows.
        values: What each histogram takes.
        levels: Where each gauge is now.
    """

    def __init__(self) -> None:
        self.counts: defaultdict[Key, float] = defaultdict(float)
        self.values: defaultdict[Key, list[float]] = defaultdict(list)
        self.levels: dict[Key, float] = {}


def measured(observations: Sequence[Observation], dropped: int) -> Measures:
    """Return what observations mean for the metrics; so many others were dropped before."""
    measures = Measures()
    if dropped:
        measures.counts["observations.dropped", ()] += dropped
    kinds: defaultdict[type[Observation], list[Any]] = defaultdict(list)
    for observation in observations:
        kinds[type(observation)].append(observation)
    for kind, of_kind in kinds.items():
        add = _ADDS.get(kind)
        if add is not None:
            add(measures, of_kind)
    return measures


def _add_turns(measures: Measures, observations: Sequence[TurnStored]) -> None:
    counts = measures.counts
    for stored in observations:
        counts["workflow.task.processed", (stored.workflow,)] += 1
        for command in stored.turn.commands:
            if isinstance(command, RunActivity):
                counts["activity.task.scheduled", (command.activity,)] += 1
            elif isinstance(command, StartChild):
                counts["workflow.created", (command.workflow, "true")] += 1
            elif isinstance(command, StartDetached):
                counts["workflow.created", (command.workflow, "false")] += 1


def _add_attempts(measures: Measures, observations: Sequence[AttemptEnded]) -> None:
    for ended in observations:
        of = (ended.activity, ended.status)
        measures.counts["activity.task.processed", of] += 1
        measures.values["activity.duration", of].append(ended.ended_at - ended.began_at)
        if ended.attempt == 1:
            waited = ended.began_at - ended.scheduled_at
            of_activity = "activity.task.time_in_queue", (ended.activity,)
            measures.values[of_activity].append(waited if waited > 0 else 0.0)


def _add_ends(measures: Measures, observations: Sequence[ExecutionEnded]) -> None:
    for ended in observations:
        of = ended.workflow, ended.status
        child = "false" if ended.parent is None else "true"
        measures.counts["workflow.finished", (*of, child)] += 1
        measures.values["workflow.duration", of].append(ended.ended_at - ended.started_at)


def _add_batches(measures: Measures, observations: Sequence[BatchStored]) -> None:
    for stored in observations:
        of = (stored.worker,)
        measures.values["commit.duration", ()].append(stored.seconds)
        measures.values["commit.turns", ()].append(stored.turns)
        if stored.refused:
            measures.counts["commit.refused", ()] += stored.refused
        measures.levels["worker.instances", of] = stored.held
        measures.levels["cache.size", of] = stored.cached
        if stored.evicted:
            measures.counts["cache.evictions", of] += stored.evicted


def _add_taken(measures: Measures, observations: Sequence[InstanceTaken]) -> None:
    for taken in observations:
        of = (taken.workflow,)
        measures.values["workflow.task.time_in_queue", of].append(taken.waited)
        if taken.cached is not None:
            measures.counts["cache.hits" if taken.cached else "cache.misses", of] += 1


def _add_created(measures: Measures, observations: Sequence[InstanceCreated]) -> None:
    for created in observations:
        measures.counts["workflow.created", (created.workflow, "false")] += 1


def _add_suspended(measures: Measures, observations: Sequence[InstanceSuspended]) -> None:
    for suspended in observations:
        measures.counts["workflow.suspended", (suspended.workflow,)] += 1


def _add_replays(measures: Measures, observations: Sequence[ExecutionReplayed]) -> None:
    for replayed in observations:
        of = (replayed.workflow,)
        measures.values["replay.duration", of].append(replayed.seconds)
        measures.counts["replay.turns", of] += replayed.turns


def _add_leases_lost(measures: Measures, observations: Sequence[LeaseWasLost]) -> None:
    measures.counts["worker.leases_lost", ()] += len(observations)


_ADDS: dict[type[Observation], Callable[[Measures, Sequence[Any]], None]] = {
    TurnStored: _add_turns,
    AttemptEnded: _add_attempts,
    ExecutionEnded: _add_ends,
    BatchStored: _add_batches,
    InstanceTaken: _add_taken,
    InstanceCreated: _add_created,
    InstanceSuspended: _add_suspended,
    ExecutionReplayed: _add_replays,
    LeaseWasLost: _add_leases_lost,
}
