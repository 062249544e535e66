"""What the model gives to a worker that asks for work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from trioflow.backends.records import (
    ENDED,
    ActivityKey,
    ActivityTask,
    TakenActivities,
    TakenInstances,
)
from trioflow.testing.lockstep.model.limiting import Limiting
from trioflow.testing.lockstep.model.rows import Activity, Instance
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
    served, waiting = _admitted(state, served, limit, now)
    others = state.workers.keys() - {worker}
    offers = [
        (row, _eligible_at(row, ready_at, others, sticky, now))
        for row in served
        if row not in apart and (ready_at := row.ready_at) is not None
    ]
    overdue = [(row, at) for row in waiting if not row.turns and (at := row.wake_at) is not None]
    return _taken(worker, [*offers, *overdue], limit, apart, now)


def _admitted(
    state: State, served: list[Instance], limit: int, now: float
) -> tuple[list[Instance], list[Instance]]:
    """Leave out what waits for an instance of its workflow to end; admit what does not.

    What is overdue does not wait, if it has no turns yet.

    Returns:
        What may be taken, and what has to wait.
    """
    limiting = state.limiting
    rooms: dict[str, int] = {}
    for (kind, name), one in limiting.limits.items():
        if kind == "workflow" and one.concurrency is not None:
            there = [row for row in state.instances.values() if row.new.workflow == name]
            gone = {(row.new.id, row.new.life) for row in there if row.status in ENDED}
            limiting.admitted -= gone
            rooms[name] = one.concurrency - sum(_named(row, limiting) for row in there)
    best = sorted(served, key=lambda row: (-row.new.priority, row.ready_at or 0.0))
    number = 0
    outside: list[Instance] = []
    for row in best:
        name = row.new.workflow
        waits = name in rooms and not _named(row, limiting) and row.ready(now)
        until = None if row.turns else row.wake_at
        if waits and rooms[name] <= 0 and (until is None or until > now):
            outside.append(row)
        elif row.ready(now) and not _apart(row):
            number += 1
            if waits and number <= limit:
                rooms[name] -= 1
                limiting.admitted.add((row.new.id, row.new.life))
    return [row for row in served if row not in outside], outside


def _named(row: Instance, limiting: Limiting) -> bool:
    return (row.new.id, row.new.life) in limiting.admitted


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
    taken = [row.take(worker, now) for row in eligible[:limit]]
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
    while len(taken) < limit and (following := _next(state, visible, now)) is not None:
        key, one = following
        one.worker = worker
        state.limiting.begin(one.new, now)
        taken.append(one.task(key))
    left = [one.visible_at for _, one in free if one.worker is None]
    version = state.limiting.seen().version
    if not any(kind != "workflow" for kind, _ in state.limiting.limits):
        return TakenActivities(taken, min(left, default=None), limits=version)
    if len(taken) == limit and any(at <= now for at in left):
        return TakenActivities(taken, now, limits=version)
    times = [at for at in left if at > now] + state.limiting.next_at(queues, now)
    waits = any(at <= now for at in left) and not state.limiting.next_at(queues, now)
    return TakenActivities(taken, min(times, default=None), waits, version)


def _next(
    state: State, visible: Sequence[tuple[ActivityKey, Activity]], now: float
) -> tuple[ActivityKey, Activity] | None:
    """Return the best one that the limits allow: of the key whose turn it is, if it has one."""
    leased = [one.new for one in state.activities.values() if one.worker is not None]
    free = [each for each in visible if each[1].worker is None]
    allowed = [each for each in free if state.limiting.allows(leased, each[1].new, now)]
    if not allowed or not state.limiting.seen().has_keys():
        return allowed[0] if allowed else None
    queue = allowed[0][1].new.queue
    lanes = sorted({one.new.limit_key for _, one in allowed if one.new.queue == queue})
    last = state.limiting.turns.get(queue, "")
    following = next((lane for lane in lanes if lane > last), lanes[0])
    return next(each for each in allowed if each[1].new.limit_key == following)
