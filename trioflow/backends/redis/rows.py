"""Read records from the replies of the scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar, get_type_hints

import msgspec

from trioflow._model.events import ParentRef
from trioflow._model.info import SuspendReport
from trioflow._model.limits import Limit, Limits
from trioflow.backends.commits import CommitFailure
from trioflow.backends.records import (
    COUNTED,
    ActivityKey,
    ActivityTask,
    EndedExecution,
    Execution,
    Heartbeat,
    InstanceRecord,
    QueueStats,
    Reached,
    SharedState,
    Status,
    StoredMessage,
    TakenActivities,
    TakenInstance,
    TakenInstances,
    TakenQuestion,
    TakenQuestions,
    WorkerInfo,
)

__all__ = [
    "RECORD_FIELDS",
    "TAKEN_FIELDS",
    "Unreadable",
    "activity_task",
    "commit_result",
    "damage_report",
    "ended_executions",
    "execution",
    "heartbeat",
    "inbox",
    "instance_record",
    "limits",
    "queue_stats",
    "reached",
    "taken_activities",
    "taken_instances",
    "taken_questions",
    "texts",
    "unfinished_activity",
    "worker_info",
]

R = TypeVar("R")

_PARENT_FIELDS = ("parent", "parent_execution", "parent_command", "parent_life")
TAKEN_FIELDS = (
    *("execution", "workflow", "queue", "input", *_PARENT_FIELDS, "metadata", "carried"),
    *("turns", "events", "wake_at", "priority", "life", "deaths"),
    *("created_at", "start_at", "options", "attributes"),
)


def texts(reply: Sequence[bytes]) -> list[str]:
    """Return ids or names."""
    return [text.decode() for text in reply]


def _number(reply: bytes | None) -> float | None:
    return float(reply) if reply else None


def _parent(
    instance: bytes | None, execution: bytes, command: bytes | None, life: bytes | None
) -> ParentRef | None:
    if instance is None:
        return None
    named = (command or b"").decode(), (life or b"").decode()
    return ParentRef(instance.decode(), int(execution), *named)


class Unreadable(NamedTuple):
    """An instance that was leased and whose row or inbox cannot be read, and why."""

    id: str
    why: str


def taken_instances(reply: Sequence[Any]) -> tuple[TakenInstances, list[Unreadable]]:
    """Read the answer of ``take_instances``."""
    taken: list[TakenInstance] = []
    unreadable: list[Unreadable] = []
    for row in reply[3:]:
        try:
            taken.append(_taken_instance(*row))
        except (ValueError, TypeError, AttributeError) as exc:
            unreadable.append(Unreadable(row[0].decode(), str(exc)))
    return TakenInstances(taken, _number(reply[1]), bool(reply[2])), unreadable


def damage_report(one: Unreadable) -> str:
    """Return the stored form of the report with which a damaged instance is suspended."""
    message = (
        f"the stored row of instance {one.id!r} cannot be read: {one.why}; mend it in the store "
        "and resume the instance, or terminate it"
    )
    return msgspec.json.encode(SuspendReport(kind="unreadable row", message=message)).decode()


def _taken_instance(
    id: bytes, ready_at: bytes, row: Sequence[Any], inbox: Sequence[bytes]
) -> TakenInstance:
    execution, workflow, queue, input, *parent = row[:8]
    metadata, carried, turns, events, wake_at, priority, life, deaths = row[8:16]
    created_at, start_at, options, attributes = row[16:]
    messages = [_message(inbox[at], inbox[at + 1]) for at in range(0, len(inbox), 2)]
    messages.sort(key=_by_number)
    return TakenInstance(
        id=id.decode(),
        execution=int(execution),
        workflow=workflow.decode(),
        queue=queue.decode(),
        input=_bytes(input),
        parent=_parent(*parent),
        metadata=metadata or b"",
        carried=carried or b"",
        turns=int(turns),
        events=int(events),
        ready_at=float(ready_at),
        wake_at=_number(wake_at),
        inbox=messages,
        priority=int(priority or 0),
        life=(life or b"").decode(),
        deaths=int(deaths or 0),
        created_at=float(created_at or 0),
        start_at=float(start_at or 0),
        options=options or b"",
        attributes=attributes or b"",
    )


def _bytes(stored: bytes | None) -> bytes:
    if stored is None:
        raise TypeError("the input is missing")
    return stored


def _message(number: bytes, stored: bytes) -> StoredMessage:
    """Read one row of an inbox; those of schema 2 have no time."""
    header, colon, event = stored.partition(b":")
    if not colon:
        raise ValueError(f"message {number!r} of the inbox has no header")
    at = header.partition(b"@")[2]
    return StoredMessage(int(number), event, float(at or 0))


def inbox(reply: Sequence[bytes]) -> list[StoredMessage]:
    """Read a whole inbox, in the order of arrival."""
    messages = [_message(reply[at], reply[at + 1]) for at in range(0, len(reply), 2)]
    return sorted(messages, key=_by_number)


def _by_number(message: StoredMessage) -> int:
    return message.seq


def taken_activities(reply: Sequence[Any]) -> tuple[TakenActivities, list[tuple[str, str]]]:
    """Read the answer of ``take_activities``: also instance and command of what it passed over."""
    tasks = [activity_task(row) for row in reply[5:]]
    taken = TakenActivities(tasks, _number(reply[1]), bool(reply[3]), reply[4].decode())
    return taken, [(id.decode(), command.decode()) for id, command in reply[2]]


def activity_task(row: Sequence[Any]) -> ActivityTask:
    """Read what ``describe`` says of an activity."""
    activity, queue, input, options, attempt, at, failure, priority, progress, key = row[4:]
    return ActivityTask(
        key=_key(*row[:4]),
        activity=activity.decode(),
        queue=queue.decode(),
        input=input,
        options=options,
        attempt=attempt,
        scheduled_at=float(at),
        failure=failure,
        priority=priority,
        progress=progress,
        limit_key=key.decode(),
    )


def unfinished_activity(row: Sequence[Any]) -> ActivityTask:
    """Read what ``describe_unfinished`` says of an activity."""
    *values, next_at = row
    known = float(next_at) if next_at else None
    return msgspec.structs.replace(activity_task(values), next_at=known)


def limits(reply: Sequence[Any]) -> Limits:
    """Read the answer of ``limits``."""
    found = [msgspec.msgpack.decode(packed, type=Limit) for packed in reply[1:]]
    return Limits.of(reply[0].decode(), found)


def shared_state(reply: Sequence[Any]) -> SharedState:
    """Read the answer of ``shared_state``."""
    claims = [(id.decode(), granted) for id, granted in zip(reply[1::2], reply[2::2], strict=True)]
    holders = [id for id, granted in claims if granted]
    return SharedState(holders, [id for id, granted in claims if not granted], bool(reply[0]))


def _key(instance: bytes, execution: int, command: bytes, life: bytes) -> ActivityKey:
    return ActivityKey(instance.decode(), execution, command.decode(), life.decode())


def heartbeat(reply: Sequence[Any]) -> Heartbeat:
    """Read the answer of ``heartbeat``."""
    marks = reply[2:]
    keys = [_key(*mark[:4]) for mark in marks]
    return Heartbeat(alive=bool(reply[1]), cancelled=keys, events=[mark[4] for mark in marks])


def commit_result(reply: Sequence[Any]) -> CommitFailure | None:
    """Read what ``commit`` says of one unit."""
    if not reply:
        return None
    return CommitFailure(*map(texts, reply[1:]))


def reached(reply: Sequence[Any]) -> Reached:
    """Read the answer of ``create_and_send``."""
    life, created, repeated = reply
    return Reached(life.decode(), bool(created), bool(repeated))


def execution(reply: Sequence[Any]) -> Execution:
    """Read one execution of ``history``."""
    return Execution(reply[0], list(reply[1]))


def instance_record(reply: Sequence[Any]) -> InstanceRecord:
    """Read what ``record`` says of an instance; of a damaged row what can be read."""
    id, row, unread, ready_at = reply
    read = {
        name: _read(*_READERS[type], stored)
        for (name, type), stored in zip(_IN_HASH.items(), row[len(_PARENT_FIELDS) :], strict=True)
    }
    return InstanceRecord(
        id=id.decode(),
        parent=_read(_parent_of, None, row[: len(_PARENT_FIELDS)]),
        unread=unread,
        ready_at=_number(ready_at),
        **read,
    )


def ended_executions(reply: Sequence[Any]) -> list[EndedExecution]:
    """Read what is kept of ended executions; in order."""
    kept = [EndedExecution(how.decode(), instance_record(row)) for how, row in reply]
    return sorted(kept, key=lambda one: one.record.execution)


def _read(how: Callable[[Any], R], otherwise: R, stored: Any) -> R:
    """Read one field, or return what stands for one that is missing or damaged."""
    try:
        return how(stored) if stored else otherwise
    except (ValueError, TypeError):
        return otherwise


def _status(stored: bytes) -> Status:
    status: Status = msgspec.convert(stored.decode(), Status)
    return status


def _parent_of(stored: Sequence[Any]) -> ParentRef | None:
    return _parent(*stored)


# The fields of a record that are fields of the hash as well, and their types.
_IN_HASH = {
    name: type
    for name, type in get_type_hints(InstanceRecord).items()
    if name not in {"id", "parent", "unread", "ready_at"}
}
# How each type is read, and what stands for a value that is missing or damaged.
_READERS: dict[Any, tuple[Callable[[Any], Any], Any]] = {
    int: (int, 0),
    str: (bytes.decode, ""),
    bytes: (bytes, b""),
    float: (float, 0.0),
    float | None: (float, None),
    str | None: (bytes.decode, None),
    Status: (_status, "suspended"),
}
RECORD_FIELDS = (*_PARENT_FIELDS, *_IN_HASH)


def taken_questions(reply: Sequence[Any]) -> TakenQuestions:
    """Read the answer of ``take_questions``."""
    return TakenQuestions([_question(*row) for row in reply[1:]], bool(reply[0]))


def _question(id: bytes, question: bytes, instance: bytes, life: bytes, *row: Any) -> TakenQuestion:
    execution, workflow, queue, priority, turns, worker = row
    return TakenQuestion(
        id=id.decode(),
        question=question,
        instance=instance.decode(),
        life=life.decode(),
        execution=execution,
        workflow=workflow.decode(),
        queue=queue.decode(),
        priority=priority,
        turns=turns,
        worker=worker.decode() or None,
    )


def queue_stats(row: Sequence[Any]) -> QueueStats:
    """Read what ``stats`` says of one queue."""
    return QueueStats(
        queue=row[0].decode(),
        running=row[1],
        suspended=row[2],
        pending_instances=row[3],
        pending_activities=row[4],
        running_activities=row[5],
        workers=row[6],
        activity_workers=row[7],
        oldest_instance_at=_number(row[8]),
        oldest_activity_at=_number(row[9]),
    )


def worker_info(row: Sequence[Any]) -> WorkerInfo:
    """Read what ``list_workers`` says of one worker."""
    id, name, beat, started, serves, instances, activities, alive = row
    queues, activity_queues, lease, version = _read(_served, _UNSAID, serves)
    return WorkerInfo(
        id=id.decode(),
        name=name.decode(),
        queues=queues,
        activity_queues=activity_queues,
        lease=lease,
        heartbeat_at=float(beat),
        alive=bool(alive),
        instances=min(instances, COUNTED),
        activities=min(activities, COUNTED),
        started_at=_read(_number, None, started),
        version=version,
    )


# Its queues, those of its activities, its lease and its version.
_Served: TypeAlias = tuple[list[str] | None, list[str] | None, float | None, str]
_UNSAID: _Served = (None, None, None, "")


def _served(packed: bytes) -> _Served:
    queues, activity_queues, lease, *rest = msgspec.msgpack.decode(packed)
    version = rest[0] if rest else ""
    return sorted(queues), sorted(activity_queues), lease, version
