"""The layout of rows: from the records of the contract to columns, and back.

The fields of `NewInstance` and of `InstanceRecord` are columns of their names, but for the parent,
which is four. So a field that is added there needs a migration of each database, and nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from trioflow._model.events import ParentRef
from trioflow.backends.commits import NewInstance
from trioflow.backends.records import (
    ActivityKey,
    ActivityTask,
    InstanceRecord,
    StoredMessage,
    TakenInstance,
)

__all__ = [
    "LIFE",
    "NEW_COLUMNS",
    "READY_AT",
    "RECORD_COLUMNS",
    "UNREAD",
    "VISIBLE_AT",
    "activity_task",
    "instance_record",
    "new_instance_row",
    "parent_columns",
    "parent_ref",
    "record_row",
    "taken_instance",
    "unfinished_activity",
]

_PARENT = ("parent", "parent_execution", "parent_command", "parent_life")


def _columns(fields: Sequence[str]) -> tuple[str, ...]:
    at = fields.index("parent")
    return (*fields[:at], *_PARENT, *fields[at + 1 :])


_STORED = NewInstance.__struct_fields__.index("timeout")  # which is last, and no column
NEW_COLUMNS = _columns(NewInstance.__struct_fields__[:_STORED])
RECORD_COLUMNS = _columns(InstanceRecord.__struct_fields__)
_NEW_PARENT = NewInstance.__struct_fields__.index("parent")
_RECORD_PARENT = InstanceRecord.__struct_fields__.index("parent")

# Places in the rows of `Queries.ready_instances`…
READY_AT, UNREAD = 14, 16
# …and of `Queries.visible_activities`.
VISIBLE_AT, LIFE = 9, 12


def parent_ref(instance: str | None, execution: int, command: str, life: str) -> ParentRef | None:
    """Read the four columns that name a parent."""
    return None if instance is None else ParentRef(instance, execution, command, life)


def parent_columns(ref: ParentRef | None) -> tuple[Any, ...]:
    """Return the four columns that name a parent."""
    if ref is None:
        return (None, None, None, "")
    return (ref.instance, ref.execution, ref.command, ref.life)


def new_instance_row(
    new: NewInstance,
    execution: int,
    now: float,
    *,
    turns: int = 0,
    events: int = 0,
    ready_at: float | None,
    wake_at: float | None = None,
    worker: str | None = None,
    sticky_worker: str | None = None,
    custom_status: bytes = b"",
) -> tuple[Any, ...]:
    """Return the values of `CREATE_INSTANCES` for one instance."""
    parent = parent_columns(new.parent)
    fields = msgspec.structs.astuple(new)
    if new.timeout and not turns:
        wake_at = new.first_wake_at(now)
    return (
        *(*fields[:_NEW_PARENT], *parent, *fields[_NEW_PARENT + 1 : _STORED]),
        *(execution, "running", turns, events, ready_at, wake_at, worker, sticky_worker),
        *(custom_status, now, new.priority, execution),
    )


def taken_instance(row: Sequence[Any], inbox: list[StoredMessage], died: int) -> TakenInstance:
    """Read a row of `Queries.ready_instances`.

    Args:
        row: The row.
        inbox: All that is in the instance's inbox.
        died: What the lease adds to the count of deaths.
    """
    _, id, execution, workflow, queue, input, *parent = row[:10]
    metadata, carried, turns, events, ready_at, wake_at, _, priority, life, deaths = row[10:20]
    created_at, start_at, options, attributes = row[20:]
    return TakenInstance(
        id=id,
        execution=execution,
        workflow=workflow,
        queue=queue,
        input=input,
        parent=parent_ref(*parent),
        metadata=metadata,
        carried=carried,
        turns=turns,
        events=events,
        ready_at=ready_at,
        wake_at=wake_at,
        inbox=inbox,
        priority=priority,
        life=life,
        deaths=deaths + died,
        created_at=created_at,
        start_at=start_at,
        options=options,
        attributes=attributes,
    )


def activity_task(row: Sequence[Any]) -> ActivityTask:
    """Read a row of `Queries.visible_activities`."""
    instance, execution, command, activity, queue, input, options, attempt = row[:8]
    return ActivityTask(
        key=ActivityKey(instance, execution, command, row[LIFE]),
        activity=activity,
        queue=queue,
        input=input,
        options=options,
        attempt=attempt,
        scheduled_at=row[8],
        failure=row[10],
        priority=row[11],
        progress=row[13],
        limit_key=row[14],
    )


def unfinished_activity(row: Sequence[Any]) -> ActivityTask:
    """Read a row of `Queries.activities`, which has the worker behind the others."""
    *values, worker = row
    next_at = values[VISIBLE_AT] if worker is None else None
    return msgspec.structs.replace(activity_task(values), next_at=next_at)


def instance_record(row: Sequence[Any]) -> InstanceRecord:
    """Read a row of `Queries.records`."""
    after = _RECORD_PARENT + len(_PARENT)
    parent = parent_ref(*row[_RECORD_PARENT:after])
    values: tuple[Any, ...] = (*row[:_RECORD_PARENT], parent, *row[after:])
    return InstanceRecord(**dict(zip(InstanceRecord.__struct_fields__, values, strict=True)))


def record_row(record: InstanceRecord) -> tuple[Any, ...]:
    """Return the values of `RECORD_COLUMNS`."""
    fields = msgspec.structs.astuple(record)
    parent = parent_columns(record.parent)
    return (*fields[:_RECORD_PARENT], *parent, *fields[_RECORD_PARENT + 1 :])
