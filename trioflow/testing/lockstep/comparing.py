"""Reduce answers to what must be the same in all stores: without clocks and row numbers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeVar, cast

import msgspec

from trioflow._model.events import ChildCancelled, ChildFailed, decode_event
from trioflow.backends.commits import CommitFailure
from trioflow.backends.records import (
    ActivityKey,
    ActivityTask,
    EndedExecution,
    Heartbeat,
    InstanceRecord,
    QueueStats,
    StoredMessage,
    TakenActivities,
    TakenInstance,
    TakenInstances,
    WorkerInfo,
)

__all__ = [
    "CANCELLED",
    "comparable",
    "difference",
    "in_order",
    "inbox",
    "shown_inbox",
    "taken_activities",
    "taken_instances",
]

T = TypeVar("T")

CANCELLED = b"cancelled"
"""What the events of cancelled activities begin with."""

# A time is one that the run has set itself, or else something of today's, or of today's with a
# sticky time added to it.
_BEFORE_ALL_CLOCKS = 1e9
_STICKY_FROM, _AFTER_ALL_CLOCKS = 2.2e9, 3.5e9
_NOW, _STICKY = 1.7e9, 2.7e9


def _when(at: float | None) -> float | None:
    if at is None or at < _BEFORE_ALL_CLOCKS or at > _AFTER_ALL_CLOCKS:
        return at
    return _NOW if at < _STICKY_FROM else _STICKY


def _next(at: float | None) -> float | None:
    # All that has come is the same: it is worth asking again at once.
    return None if at is None else max(_when(at) or 0.0, _NOW)


def _event(event: bytes) -> bytes:
    """Leave out the words of those that a store writes itself."""
    if not event.startswith(b"{"):
        return event
    found = decode_event(event)
    match found:
        case ChildFailed(id=id, failure=failure):
            return f"child {id} failed: {failure.type}".encode()
        case ChildCancelled(id=id, reason=reason):
            return f"child {id} cancelled: {reason}".encode()
        case _:
            return event


def inbox(messages: Sequence[StoredMessage]) -> list[StoredMessage]:
    """Return an inbox with those in the order of their names that may come in any."""
    ordered: list[StoredMessage] = []
    for cancelled, run in groupby(messages, lambda one: one.event.startswith(CANCELLED)):
        several = list(run)
        if cancelled:
            several.sort(key=lambda one: one.event)
        ordered += several
    return ordered


def _key(key: ActivityKey) -> tuple[str, int, str, str]:
    return key.instance, key.execution, key.command, key.life


def _record(record: InstanceRecord) -> InstanceRecord:
    finished_at = None if record.finished_at is None else _NOW
    return msgspec.structs.replace(
        record, ready_at=_when(record.ready_at), created_at=_NOW, finished_at=finished_at
    )


def _task(task: ActivityTask) -> ActivityTask:
    return msgspec.structs.replace(task, scheduled_at=_NOW, next_at=_when(task.next_at))


def shown_inbox(messages: Sequence[StoredMessage]) -> list[StoredMessage]:
    """Return what of an inbox has to be the same."""
    return [
        StoredMessage(0, _event(message.event), _when(message.at) or 0.0)
        for message in inbox(messages)
    ]


def _taken(one: TakenInstance) -> TakenInstance:
    known = shown_inbox(one.inbox)
    ready_at = _when(one.ready_at)
    return msgspec.structs.replace(one, ready_at=ready_at, inbox=known, created_at=_NOW)


def _heartbeat(beat: Heartbeat) -> Heartbeat:
    marks = sorted(beat.marks().items(), key=lambda mark: _key(mark[0]))
    return Heartbeat(beat.alive, [key for key, _ in marks], [event for _, event in marks])


def _failure(failure: CommitFailure) -> CommitFailure:
    return CommitFailure(*(sorted(ids) for ids in msgspec.structs.astuple(failure)))


def _ended(one: EndedExecution) -> EndedExecution:
    return EndedExecution(one.how, _record(one.record))


def _worker(one: WorkerInfo) -> WorkerInfo:
    return msgspec.structs.replace(one, heartbeat_at=_NOW, started_at=_when(one.started_at))


def _queue(one: QueueStats) -> QueueStats:
    return msgspec.structs.replace(
        one,
        oldest_instance_at=_when(one.oldest_instance_at),
        oldest_activity_at=_when(one.oldest_activity_at),
    )


_SHAPES: dict[type, Callable[[Any], Any]] = {
    InstanceRecord: _record,
    EndedExecution: _ended,
    ActivityTask: _task,
    Heartbeat: _heartbeat,
    CommitFailure: _failure,
    WorkerInfo: _worker,
    QueueStats: _queue,
}


def comparable(answer: object) -> Any:
    """Return what of an answer has to be the same in all stores."""
    if isinstance(answer, list | tuple):
        return [comparable(one) for one in cast("Sequence[object]", answer)]
    if isinstance(answer, dict):
        found = cast("dict[object, object]", answer)
        return {key: comparable(one) for key, one in found.items()}
    shape = _SHAPES.get(type(answer))
    return answer if shape is None else shape(answer)


def in_order(
    found: Sequence[T], key: Callable[[T], Hashable], ranks: Mapping[Any, tuple[float, ...]]
) -> list[T]:
    """Sort those that may come in any order, if all come in the order that is promised.

    Args:
        found: An answer.
        key: What `ranks` knows its parts by.
        ranks: What orders them. Equal ones may come in any order.
    """
    of_each = [ranks.get(key(one), ()) for one in found]
    if of_each != sorted(of_each):
        return list(found)
    numbered = sorted(range(len(found)), key=lambda at: (of_each[at], repr(key(found[at]))))
    return [found[at] for at in numbered]


def taken_instances(
    answer: TakenInstances,
    ranks: Mapping[Any, tuple[float, ...]],
    *,
    alive: bool,
    suspect: bool = False,
) -> Any:
    """Return what of an answer has to be the same, for a worker that is ``alive`` or not."""
    instances = in_order(answer.instances, lambda one: one.id, ranks)
    # Who asks for a suspect asks for nothing else.
    next_at = _next(answer.next_at) if alive and not suspect else None
    return [_taken(one) for one in instances], next_at, answer.suspects and alive


def taken_activities(
    answer: TakenActivities, ranks: Mapping[Any, tuple[float, ...]], *, alive: bool
) -> Any:
    """As `taken_instances`."""
    tasks = in_order(answer.activities, lambda one: one.key, ranks)
    return [_task(one) for one in tasks], _next(answer.next_at) if alive else None


def difference(expected: object, found: object, where: str = "") -> str:
    """Return where two comparable answers begin to differ."""
    if (
        isinstance(expected, msgspec.Struct)
        and isinstance(found, msgspec.Struct)
        and type(expected) is type(found)
    ):
        expected, found = msgspec.structs.asdict(expected), msgspec.structs.asdict(found)
    if isinstance(expected, dict) and isinstance(found, dict):
        wanted, given = cast("dict[object, object]", expected), cast("dict[object, object]", found)
        for key in [*wanted, *(key for key in given if key not in wanted)]:
            if wanted.get(key) != given.get(key):
                return difference(wanted.get(key), given.get(key), f"{where}.{key}")
    if isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        left, right = cast("Sequence[object]", expected), cast("Sequence[object]", found)
        pairs = zip(left, right, strict=True) if len(left) == len(right) else ()
        for at, (one, other) in enumerate(pairs):
            if one != other:
                return difference(one, other, f"{where}[{at}]")
    return f"{where or 'all'}: {expected!r} expected, {found!r} found"
