"""What is measured: names, units and values of metrics, made from what observers are told.

OpenTelemetry and Prometheus have the same ones, under their own spelling of the names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

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
    "Measure",
    "measures_of",
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


class Measure(NamedTuple):
    """One value of a metric; ``labels`` are in the order of the instrument's."""

    name: str
    value: float
    labels: tuple[str, ...] = ()


def measures_of(observation: Observation) -> Iterator[Measure]:
    """Give what an observation means for the metrics."""
    match observation:
        case TurnStored():
            yield from _of_turn(observation)
        case AttemptEnded():
            yield from _of_attempt(observation)
        case ExecutionEnded():
            yield from _of_end(observation)
        case BatchStored():
            yield from _of_batch(observation)
        case InstanceTaken():
            yield from _of_taken(observation)
        case InstanceCreated():
            yield Measure("workflow.created", 1, (observation.workflow, "false"))
        case InstanceSuspended():
            yield Measure("workflow.suspended", 1, (observation.workflow,))
        case ExecutionReplayed():
            yield Measure("replay.duration", observation.seconds, (observation.workflow,))
            yield Measure("replay.turns", observation.turns, (observation.workflow,))
        case LeaseWasLost():
            yield Measure("worker.leases_lost", 1)


def _of_turn(stored: TurnStored) -> Iterator[Measure]:
    yield Measure("workflow.task.processed", 1, (stored.workflow,))
    for command in stored.turn.commands:
        match command:
            case RunActivity():
                yield Measure("activity.task.scheduled", 1, (command.activity,))
            case StartChild():
                yield Measure("workflow.created", 1, (command.workflow, "true"))
            case StartDetached():
                yield Measure("workflow.created", 1, (command.workflow, "false"))
            case _:
                pass


def _of_attempt(ended: AttemptEnded) -> Iterator[Measure]:
    of = (ended.activity, ended.status)
    yield Measure("activity.task.processed", 1, of)
    yield Measure("activity.duration", ended.ended_at - ended.began_at, of)
    if ended.attempt == 1:
        waited = max(0.0, ended.began_at - ended.scheduled_at)
        yield Measure("activity.task.time_in_queue", waited, (ended.activity,))


def _of_end(ended: ExecutionEnded) -> Iterator[Measure]:
    child = "false" if ended.parent is None else "true"
    yield Measure("workflow.finished", 1, (ended.workflow, ended.status, child))
    yield Measure(
        "workflow.duration", ended.ended_at - ended.started_at, (ended.workflow, ended.status)
    )


def _of_batch(stored: BatchStored) -> Iterator[Measure]:
    yield Measure("commit.duration", stored.seconds)
    yield Measure("commit.turns", stored.turns)
    if stored.refused:
        yield Measure("commit.refused", stored.refused)
    of = (stored.worker,)
    yield Measure("worker.instances", stored.held, of)
    yield Measure("cache.size", stored.cached, of)
    if stored.evicted:
        yield Measure("cache.evictions", stored.evicted, of)


def _of_taken(taken: InstanceTaken) -> Iterator[Measure]:
    of = (taken.workflow,)
    yield Measure("workflow.task.time_in_queue", taken.waited, of)
    if taken.cached is not None:
        yield Measure("cache.hits" if taken.cached else "cache.misses", 1, of)
