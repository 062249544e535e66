"""What the model gives to a worker that asks for work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from trioflow.backends.records import ActivityTask, TakenActivities, TakenInstances
from trioflow.testing.lockstep.model.rows import Instance
from trioflow.testing.lockstep.model.state import State

__all__ = ["take_activities", "take_instances", "take_own", "take_suspect"]

Unwanted: TypeAlias = tuple[Sequence[str], Sequence[str]]
"""What is not to be taken: names of workflows, and ids of instances."""


def take_instances(
    state: State,
    worker: str,
    queues: Sequence[str],
    limit: int,
    unwanted: Unwanted,
    *,
    sticky: float,
    now: float,
) -> TakenInstances:
    """Give what is ready; ``limit`` is not 0."""
    served = _served(state, worker, queues, unwanted)
    apart = [row for row in served if _apart(row)]
    others = state.workers.keys() - {worker}
    offers = [
        (row, _eligible_at(row, ready_at, others, sticky, now))
        for row in served
        if row not in apart and (ready_at := row.ready_at) is not None
    ]
    return _taken(worker, offers, limit, apart, now)


def take_own(state: State, worker: str, now: float) -> TakenInstances:
    """Give again what is ready and the worker's already."""
    offers = [
        (row, ready_at)
        for row in state.instances.values()
        if row.worker == worker and (ready_at := row.ready_at) is not None
    ]
    return _taken(worker, offers, len(offers), [], now)


def take_suspect(
    state: State, worker: str, queues: Sequence[str], unwanted: Unwanted, *, now: float
) -> TakenInstances:
    """Give one suspect."""
    apart = [row for row in _served(state, worker, queues, unwanted) if _apart(row)]
    offers = [(row, ready_at) for row in apart if (ready_at := row.ready_at) is not None]
    return _taken(worker, offers, 1, apart, now)


def _served(state: State, worker: str, queues: Sequence[str], unwanted: Unwanted) -> list[Instance]:
    names, ids = unwanted
    return [
        row
        for row in state.instances.values()
        if row.status == "running"
        and row.new.queue in queues
        and row.new.workflow not in names
        and row.new.id not in ids
        and row.worker in (None, worker)
    ]


def _apart(row: Instance) -> bool:
    return row.suspect and row.worker is None


def _eligible_at(
    row: Instance, ready_at: float, others: set[str], sticky: float, now: float
) -> float:
    # What is not ready yet counts from when it is, whoever it is left to then.
    left = ready_at <= now and row.worker is None and row.sticky_worker in others
    return ready_at + sticky if left else ready_at


def _taken(
    worker: str,
    offers: Sequence[tuple[Instance, float]],
    limit: int,
    apart: Sequence[Instance],
    now: float,
) -> TakenInstances:
    """Take what may be taken.

    Args:
        worker: Who takes it.
        offers: Instances, and from when on each is eligible.
        limit: How many of them at most.
        apart: Suspects that were free until now.
        now: The time.
    """
    eligible = [row for row, at in offers if at <= now]
    eligible.sort(key=lambda row: (-row.new.priority, row.ready_at))
    taken = [row.take(worker) for row in eligible[:limit]]
    waiting = [at for row, at in offers if row.ready_at is not None]
    free = [row for row in apart if row.worker is None]
    waiting += [row.ready_at for row in free if row.ready_at is not None and not row.ready(now)]
    suspects = any(row.ready(now) for row in free)
    return TakenInstances(taken, min(waiting, default=None), suspects)


def take_activities(
    state: State,
    worker: str,
    queues: Sequence[str],
    limit: int,
    *,
    exclude: Sequence[str],
    now: float,
) -> TakenActivities:
    """Give activities that are visible."""
    free = [
        (key, one)
        for key, one in state.activities.items()
        if one.worker is None and one.new.queue in queues and one.new.activity not in exclude
    ]
    visible = [(key, one) for key, one in free if one.visible_at <= now]
    visible.sort(key=lambda each: (-each[1].new.priority, each[1].visible_at))
    taken: list[ActivityTask] = []
    for key, one in visible[:limit]:
        one.worker = worker
        taken.append(one.task(key))
    next_at = min((one.visible_at for _, one in free if one.worker is None), default=None)
    return TakenActivities(taken, next_at)
