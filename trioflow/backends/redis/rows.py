"""From the replies of the scripts to records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trioflow.model.events import ParentRef
from trioflow.model.records import (
    ActivityKey,
    ActivityTask,
    CommitFailure,
    Execution,
    Heartbeat,
    InstanceRecord,
    QueueStats,
    StoredMessage,
    TakenActivities,
    TakenInstance,
    TakenInstances,
)

__all__ = [
    "RECORD_FIELDS",
    "TAKEN_FIELDS",
    "activity_task",
    "commit_result",
    "execution",
    "heartbeat",
    "instance_record",
    "queue_stats",
    "taken_activities",
    "taken_instances",
    "texts",
]

TAKEN_FIELDS = (
    *("execution", "workflow", "queue", "input", "parent", "parent_execution", "parent_command"),
    *("metadata", "carried", "turns", "events", "wake_at", "priority"),
)
RECORD_FIELDS = (
    *("execution", "workflow", "queue", "status", "parent", "parent_execution", "parent_command"),
    *("turns", "events", "worker", "input", "metadata", "outcome", "custom_status"),
    *("created_at", "finished_at", "priority", "seq"),
)


def texts(reply: Sequence[bytes]) -> list[str]:
    """Return ids or names."""
    return [text.decode() for text in reply]


def _number(reply: bytes | None) -> float | None:
    return float(reply) if reply else None


def _parent(instance: bytes | None, execution: bytes, command: bytes | None) -> ParentRef | None:
    if instance is None:
        return None
    return ParentRef(instance.decode(), int(execution), (command or b"").decode())


def taken_instances(reply: Sequence[Any]) -> TakenInstances:
    """Read the answer of ``take_instances``."""
    return TakenInstances([_taken_instance(*row) for row in reply[2:]], _number(reply[1]))


def _taken_instance(
    id: bytes, ready_at: bytes, row: Sequence[Any], inbox: Sequence[bytes]
) -> TakenInstance:
    execution, workflow, queue, input, *parent = row[:7]
    metadata, carried, turns, events, wake_at, priority = row[7:]
    messages = [
        StoredMessage(int(inbox[at]), inbox[at + 1].partition(b":")[2])
        for at in range(0, len(inbox), 2)
    ]
    messages.sort(key=_by_number)
    return TakenInstance(
        id=id.decode(),
        execution=int(execution),
        workflow=workflow.decode(),
        queue=queue.decode(),
        input=input,
        parent=_parent(*parent),
        metadata=metadata or b"",
        carried=carried or b"",
        turns=int(turns),
        events=int(events),
        ready_at=float(ready_at),
        wake_at=_number(wake_at),
        inbox=messages,
        priority=int(priority or 0),
    )


def _by_number(message: StoredMessage) -> int:
    return message.seq


def taken_activities(reply: Sequence[Any]) -> TakenActivities:
    """Read the answer of ``take_activities``."""
    return TakenActivities([activity_task(row) for row in reply[2:]], _number(reply[1]))


def activity_task(row: Sequence[Any]) -> ActivityTask:
    """Read what ``describe`` says of an activity."""
    instance, execution, command, activity, queue, input, options, attempt, at = row[:9]
    return ActivityTask(
        key=ActivityKey(instance.decode(), execution, command.decode()),
        activity=activity.decode(),
        queue=queue.decode(),
        input=input,
        options=options,
        attempt=attempt,
        scheduled_at=float(at),
        failure=row[9],
        priority=row[10],
    )


def heartbeat(reply: Sequence[Any]) -> Heartbeat:
    """Read the answer of ``heartbeat``."""
    keys = [ActivityKey(id.decode(), number, command.decode()) for id, number, command in reply[2:]]
    return Heartbeat(alive=bool(reply[1]), cancelled=keys)


def commit_result(reply: Sequence[Any]) -> CommitFailure | None:
    """Read what ``commit`` says of one unit."""
    if not reply:
        return None
    return CommitFailure(taken_ids=texts(reply[1]), lost=texts(reply[2]))


def execution(reply: Sequence[Any]) -> Execution:
    """Read one execution of ``history``."""
    return Execution(reply[0], list(reply[1]))


def instance_record(reply: Sequence[Any]) -> InstanceRecord:
    """Read what ``record`` says of an instance."""
    id, row, unread, ready_at = reply
    execution, workflow, queue, status, *parent = row[:7]
    turns, events, worker, input, metadata, outcome, custom_status = row[7:14]
    created_at, finished_at, priority, _ = row[14:]
    return InstanceRecord(
        id=id.decode(),
        execution=int(execution),
        workflow=workflow.decode(),
        queue=queue.decode(),
        status=status.decode(),
        parent=_parent(*parent),
        turns=int(turns),
        events=int(events),
        unread=unread,
        ready_at=_number(ready_at),
        worker=worker.decode() if worker else None,
        input=input,
        metadata=metadata or b"",
        outcome=outcome or b"",
        custom_status=custom_status or b"",
        created_at=float(created_at),
        finished_at=_number(finished_at),
        priority=int(priority or 0),
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
    )
