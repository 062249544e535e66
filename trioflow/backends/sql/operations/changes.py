"""What clients change: create, send, cancel, terminate, resume, remove."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trioflow.backends._common.notices import child_terminated
from trioflow.backends.records import InstanceFilter, Message, NewInstance, Update
from trioflow.backends.sql.dialect import Write
from trioflow.backends.sql.operations.attributes import write_attributes
from trioflow.backends.sql.operations.cleanup import delete_finished, drop_activities
from trioflow.backends.sql.operations.delivery import deliver, end_unstarted
from trioflow.backends.sql.operations.reads import conditions, select
from trioflow.backends.sql.queries import (
    CREATE_INSTANCES,
    LOCK_INSTANCES,
    MARK_REMOVED,
    REMOVE_ACTIVITIES,
    REMOVE_ATTRIBUTES,
    REMOVE_INBOXES,
    REMOVE_INSTANCES,
    REMOVE_TURNS,
)
from trioflow.backends.sql.rows import new_instance_row, parent_ref
from trioflow.backends.sql.store import SqlStore

__all__ = ["cancel", "create", "create_sent", "remove", "resume", "send", "suspend", "terminate"]

_OPEN = ("running", "suspended")
_IDS_AT_ONCE = 500
_TRIES = 5
_REMOVED_ROWS = (REMOVE_TURNS, REMOVE_INBOXES, REMOVE_ACTIVITIES, REMOVE_INSTANCES)
_NO_EVENT = b""


def create(
    store: SqlStore,
    instances: Sequence[NewInstance],
    reuse: bool = True,  # noqa: FBT001, FBT002 - one of the arguments that a thread is given
    replacing: bytes | None = None,
) -> list[bool]:
    """See `Backend.create`."""
    tries = 0
    while True:
        try:
            with store.transaction():
                if replacing is not None:
                    for id in dict.fromkeys(new.id for new in instances):
                        terminate(store, id, replacing)
                return _create(store, instances, reuse=reuse)
        except store.dialect.conflict:
            # Somebody else created one of them meanwhile; now it is seen.
            tries += 1
            if tries == _TRIES:
                raise


def create_sent(store: SqlStore, message: Message) -> bool:
    """Create the instance that a message of a commit has; return whether its id was free."""
    assert message.new is not None
    return create(store, [message.new], message.reuse, message.replacing)[0]


def _create(store: SqlStore, instances: Sequence[NewInstance], *, reuse: bool) -> list[bool]:
    found = store.among(store.queries.taken_ids, [new.id for new in instances])
    known = {id: (status, execution) for id, status, execution in found}
    now = store.clock()
    values: list[Any] = []
    attributes: dict[str, bytes] = {}
    created: list[bool] = []
    for new in instances:
        status, execution = known.get(new.id, ("", 0))
        created.append(status not in _OPEN if reuse else not status)
        if created[-1]:
            if status:
                delete_finished(store, new.id)
            known[new.id] = ("running", 0)
            if new.attributes:
                attributes[new.id] = new.attributes
            values += new_instance_row(new, execution + 1, now, ready_at=max(now, new.start_at))
    if values:
        store.write(CREATE_INSTANCES, values)
    if attributes:
        write_attributes(store, attributes)
    return created


def send(store: SqlStore, instance: str, event: bytes, life: str | None = None) -> Update:
    """See `Backend.send`."""
    return _send(store, Message(instance, event, life=life))


def cancel(
    store: SqlStore, instance: str, event: bytes, outcome: bytes, life: str | None = None
) -> Update:
    """See `Backend.cancel`."""
    return _send(store, Message(instance, event, life=life, unstarted=outcome))


def _send(store: SqlStore, message: Message) -> Update:
    with store.transaction():
        now = store.clock()
        if message.unstarted and end_unstarted(store, message, now):
            return "done"
        if deliver(store, message, now):
            return "done"
        row = store.execute(store.queries.status_of, message.instance).fetchone()
        return "not found" if row is None else "finished"


def terminate(store: SqlStore, instance: str, outcome: bytes, life: str | None = None) -> Update:
    """See `Backend.terminate`."""
    queries = store.queries
    with store.transaction():
        row = store.execute(queries.parent_of, instance).fetchone()
        if row is None:
            return "not found"
        if row[0] not in _OPEN or life not in (None, row[1]):
            return "finished"
        parent = parent_ref(*row[2:])
        notice = None if parent is None else child_terminated(outcome, parent)
        family = _family(store, instance)
        now = store.clock()  # what its descendants did before they were locked was before that
        for id in family:
            store.execute(queries.end_instance, "terminated", outcome, now, id)
            store.execute(queries.delete_inbox, id)
            drop_activities(store, id)
        if notice is not None:
            deliver(store, notice, now)
        return "done"


def _family(store: SqlStore, instance: str) -> list[str]:
    """Return the ids of an instance and its unfinished descendants, locked."""
    ids: list[str] = []
    while True:
        rows = store.execute(store.queries.family, instance).fetchall()
        before, ids = ids, sorted(row[0] for row in rows)
        if ids == before or not store.dialect.for_update:
            return ids
        # Then look again: who was not locked may have started another one.
        store.write(LOCK_INSTANCES, ids)


def suspend(store: SqlStore, instance: str, report: bytes, life: str | None = None) -> Update:
    """See `Backend.suspend`."""
    queries = store.queries
    with store.transaction():
        if store.execute(queries.pause_instance, report, instance, life).rowcount:
            return "done"
        row = store.execute(queries.status_of, instance).fetchone()
        if row is None:
            return "not found"
        return "unchanged" if row[0] in _OPEN and life in (None, row[1]) else "finished"


def resume(store: SqlStore, instance: str, life: str | None = None) -> Update:
    """See `Backend.resume`."""
    queries = store.queries
    with store.transaction():
        now = store.clock()
        given = (b"", now, now, instance, life)
        if store.execute(queries.resume_instance, *given).rowcount:
            return "done"
        row = store.execute(queries.status_of, instance).fetchone()
        if row is None:
            return "not found"
        return "unchanged" if row[0] in _OPEN and life in (None, row[1]) else "finished"


def remove(store: SqlStore, where: InstanceFilter, ids: Sequence[str] | None, limit: int) -> int:
    """See `Backend.remove`."""
    clauses, parameters = conditions(store, where)
    clauses.append("finished_at IS NOT NULL")
    removed = 0
    with store.transaction():
        chunks: list[Sequence[str]] = [()]
        if ids is not None:
            chunks = [ids[at : at + _IDS_AT_ONCE] for at in range(0, len(ids), _IDS_AT_ONCE)]
        for chunk in chunks:
            given = [f"id IN ({', '.join('?' * len(chunk))})"] if chunk else []
            found = select(
                store,
                store.queries.ids,
                [*clauses, *given],
                [*parameters, *chunk, limit - removed],
                "ORDER BY finished_at LIMIT ?",
            ).fetchall()
            if found:
                _remove(store, found)
            removed += len(found)
    return removed


def _remove(store: SqlStore, found: Sequence[Sequence[Any]]) -> None:
    """Remove instances; ``found`` are rows of `Queries.ids`."""
    ids = [id for id, _, _ in found]
    marks = [value for id in ids for value in (id, _NO_EVENT)]
    writes: list[tuple[Write, list[Any]]] = [(MARK_REMOVED, marks)]
    with_attributes = [seq for _, seq, size in found if size]
    if with_attributes:
        writes.append((REMOVE_ATTRIBUTES, with_attributes))
    writes += [(statement, ids) for statement in _REMOVED_ROWS]
    store.dialect.write_all(store.connection, writes)
