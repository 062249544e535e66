"""Keep what is known of executions that have ended, and forget it in time.

The row of an instance says only how its present life is, and its last execution. So an execution
that is continued, or left by a reset, and a life whose id another one takes, leave a row in a table
of their own, which is written then and never changed. For what runs but once nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trioflow.backends.commits import InstanceCommit
from trioflow.backends.records import EndedExecution, InstanceRecord
from trioflow.backends.sql.queries import EXECUTION_COLUMNS
from trioflow.backends.sql.rows import parent_columns, parent_ref
from trioflow.backends.sql.statements import LOCK_INSTANCES, REMOVE_EXECUTIONS_AT, REMOVE_TURNS_OF
from trioflow.backends.sql.store import SqlStore

__all__ = [
    "ended_execution",
    "execution_row",
    "executions",
    "keep_continued",
    "keep_ended",
    "keep_reset",
    "remove_executions",
]

_PARENT = EXECUTION_COLUMNS.index("parent")
_PLAIN = (*EXECUTION_COLUMNS[:_PARENT], *EXECUTION_COLUMNS[_PARENT + 4 :])


def keep_continued(store: SqlStore, commit: InstanceCommit, now: float) -> None:
    """Keep an execution that is about to be continued, as the commit leaves it."""
    store.execute(
        store.queries.keep_continued,
        *(commit.number + len(commit.turns), commit.events if commit.turns else None),
        *(b"", b"", commit.status, now, commit.id),
    )


def keep_reset(store: SqlStore, id: str, now: float) -> None:
    """Keep an execution in whose place a reset is about to begin another one."""
    store.execute(store.queries.keep_reset, b"", b"", now, id)


def keep_ended(store: SqlStore, id: str) -> None:
    """Keep the row of a finished instance whose id is to be used again."""
    store.execute(store.queries.keep_ended, id)


def executions(store: SqlStore, instance: str) -> list[EndedExecution]:
    """See `Backend.executions`."""
    rows = store.execute(store.queries.ended_executions, instance).fetchall()
    return [ended_execution(instance, row) for row in rows]


def ended_execution(instance: str, row: Sequence[Any]) -> EndedExecution:
    """Read how an execution ended and the columns that are kept of it."""
    how, *kept = row
    return EndedExecution(how, _record(instance, kept))


def execution_row(record: InstanceRecord) -> tuple[Any, ...]:
    """Return the columns that are kept of an ended execution."""
    plain = [getattr(record, name) for name in _PLAIN]
    return (*plain[:_PARENT], *parent_columns(record.parent), *plain[_PARENT:])


def _record(id: str, row: list[Any]) -> InstanceRecord:
    values = (*row[:_PARENT], *row[_PARENT + 4 :])
    return InstanceRecord(
        id=id,
        parent=parent_ref(*row[_PARENT : _PARENT + 4]),
        unread=0,
        ready_at=None,
        worker=None,
        **dict(zip(_PLAIN, values, strict=True)),
    )


def remove_executions(store: SqlStore, ended_before: float, limit: int) -> int:
    """See `Backend.remove_executions`."""
    queries = store.queries
    with store.transaction():
        found = store.execute(queries.old_executions, ended_before, limit).fetchall()
        if not found:
            return 0
        ids = sorted({id for id, _ in found})
        store.write(LOCK_INSTANCES, ids)
        # Looked at again, since an instance may have been removed before it was locked: then the
        # present one of its id can have executions of the same numbers.
        ends = {
            (id, number): ended_at
            for id, number, ended_at in store.among(queries.ends_of_executions, ids)
        }
        old = [key for key in map(tuple, found) if ends.get(key, ended_before) < ended_before]
        keys = [value for key in old for value in key]
        if keys:
            writes = [(REMOVE_TURNS_OF, keys), (REMOVE_EXECUTIONS_AT, keys)]
            store.dialect.write_all(store.connection, writes)
        return len(old)
