"""What clients change: create, send, cancel, terminate, resume, remove."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from trioflow.backends._common.notices import child_terminated, run_has_ended
from trioflow.backends.commits import Message, NewInstance
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import Effect, Reached
from trioflow.backends.sql.dialect import Write
from trioflow.backends.sql.operations.attributes import write_attributes
from trioflow.backends.sql.operations.cleanup import delete_finished, drop_activities
from trioflow.backends.sql.operations.delivery import deliver, end_unstarted
from trioflow.backends.sql.operations.reads import conditions, select
from trioflow.backends.sql.operations.sharing import free_shared, lock_for_end
from trioflow.backends.sql.rows import new_instance_row, parent_ref
from trioflow.backends.sql.statements import (
    CREATE_INSTANCES,
    LOCK_INSTANCES,
    MARK_REMOVED,
    NEW_REQUESTS,
    REMOVE_ACTIVITIES,
    REMOVE_ATTRIBUTES,
    REMOVE_EXECUTIONS,
    REMOVE_INBOXES,
    REMOVE_INSTANCES,
    REMOVE_REQUESTS,
    REMOVE_TURNS,
)
from trioflow.backends.sql.store import SqlStore

__all__ = [
    "cancel",
    "change_sent",
    "create",
    "create_and_send",
    "remove",
    "resume",
    "retry_now",
    "send",
    "suspend",
    "terminate",
]

T = TypeVar("T")

_OPEN = ("running", "suspended")
_IDS_AT_ONCE = 500
_TRIES = 5
_REMOVED_ROWS = (
    *(REMOVE_TURNS, REMOVE_INBOXES, REMOVE_ACTIVITIES, REMOVE_INSTANCES),
    REMOVE_REQUESTS,
    REMOVE_EXECUTIONS,
)
_NO_EVENT = b""


class _Overtaken(Exception):
    """Somebody created an instance that was not there when it was looked for."""


def create(
    store: SqlStore,
    instances: Sequence[NewInstance],
    reuse: bool = True,  # noqa: FBT001, FBT002 - one of the arguments that a thread is given
    replacing: bytes | None = None,
) -> list[bool]:
    """See `Backend.create`."""

    def change() -> list[bool]:
        if replacing is not None:
            for id in dict.fromkeys(new.id for new in instances):
                terminate(store, id, replacing)
        return _create(store, instances, reuse=reuse)

    return _trying(store, change)


def _trying(store: SqlStore, change: Callable[[], T]) -> T:
    """Make a change in a transaction; again if somebody else made the same one meanwhile."""
    overtaken: tuple[type[Exception], ...] = (_Overtaken, *store.dialect.conflict)
    for _ in range(_TRIES - 1):
        try:
            with store.transaction():
                return change()
        except overtaken:
            pass  # now it is seen
    with store.transaction():
        return change()


def change_sent(store: SqlStore, message: Message) -> bool:
    """Do to an instance what a message of a commit says; return whether it was done.

    That is to create it, if its id is free, or to terminate it.
    """
    if message.new is None:
        return terminate(store, message.instance, message.terminated, message.life) == "done"
    return create(store, [message.new], message.reuse, message.replacing)[0]


def _create(store: SqlStore, instances: Sequence[NewInstance], *, reuse: bool) -> list[bool]:
    found = store.taken([new.id for new in instances])
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


def send(
    store: SqlStore, instance: str, event: bytes, life: str | None = None, request: str = ""
) -> Effect:
    """See `Backend.send`."""
    message = Message(instance, event, life=life)
    if not request:
        return _send(store, message)
    return _trying(store, lambda: _send_request(store, message, request))


def create_and_send(store: SqlStore, new: NewInstance, event: bytes, request: str = "") -> Reached:
    """See `Backend.create_and_send`."""
    return _trying(store, lambda: _create_and_send(store, new, event, request))


def cancel(
    store: SqlStore, instance: str, event: bytes, outcome: bytes, life: str | None = None
) -> Effect:
    """See `Backend.cancel`."""
    return _send(store, Message(instance, event, life=life, unstarted=outcome))


def _send_request(store: SqlStore, message: Message, request: str) -> Effect:
    row = store.execute(store.queries.status_of, message.instance).fetchone()
    if row is None:
        return "not found"
    life = row[1]
    if message.life not in (None, life):
        return "finished"
    if _was_made(store, message.instance, life, request):
        return "unchanged"
    if not deliver(store, msgspec.structs.replace(message, life=life), store.clock()):
        # It has ended since, perhaps by what somebody else has asked for with the same request.
        return "unchanged" if _was_made(store, message.instance, life, request) else "finished"
    store.write(NEW_REQUESTS, [message.instance, life, request])
    return "done"


def _was_made(store: SqlStore, instance: str, life: str, request: str) -> bool:
    found = store.execute(store.queries.request, instance, life, request).fetchone()
    return found is not None


def _create_and_send(store: SqlStore, new: NewInstance, event: bytes, request: str) -> Reached:
    id = new.id
    row = store.execute(store.queries.status_of, id).fetchone()
    life, created = new.life, True
    if row is not None:
        if request and _was_made(store, id, row[1], request):
            return Reached(row[1], repeated=True)
        if deliver(store, Message(id, event, life=row[1]), store.clock()):
            life, created = row[1], False
        elif request and _was_made(store, id, row[1], request):  # as in `_send_request`
            return Reached(row[1], repeated=True)
    if created:
        if not _create(store, [new], reuse=True)[0]:
            raise _Overtaken
        deliver(store, Message(id, event, life=life), store.clock())
    if request:
        store.write(NEW_REQUESTS, [id, life, request])
    return Reached(life, created=created)


def _send(store: SqlStore, message: Message) -> Effect:
    with store.transaction():
        now = store.clock()
        if message.unstarted and end_unstarted(store, message, now):
            return "done"
        if deliver(store, message, now):
            return "done"
        row = store.execute(store.queries.status_of, message.instance).fetchone()
        return "not found" if row is None else "finished"


def terminate(store: SqlStore, instance: str, outcome: bytes, life: str | None = None) -> Effect:
    """See `Backend.terminate`."""
    queries = store.queries
    with store.transaction():
        locked = lock_for_end(store, [instance])
        if len(locked.instances) > 1 and store.dialect.for_update:
            store.write(LOCK_INSTANCES, sorted(locked.instances))
        row = store.execute(queries.parent_of, instance).fetchone()
        if row is None:
            return "not found"
        if row[0] not in _OPEN or life not in (None, row[1]):
            return "finished"
        parent = parent_ref(*row[3:])
        notice = (
            run_has_ended(row[2], instance, "terminated")
            if parent is None
            else child_terminated(outcome, parent)
        )
        family = _family(store, instance)
        now = store.clock()  # what its descendants did before they were locked was before that
        for id in family:
            store.execute(queries.end_instance, "terminated", outcome, now, id)
            store.execute(store.limit_queries.stop_waiting, id)
            store.execute(queries.delete_inbox, id)
            drop_activities(store, id)
        free_shared(store, locked, family, now)
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


def suspend(store: SqlStore, instance: str, report: bytes, life: str | None = None) -> Effect:
    """See `Backend.suspend`."""
    queries = store.queries
    with store.transaction():
        if store.execute(queries.suspend_by_client, report, instance, life).rowcount:
            store.execute(store.limit_queries.stop_waiting, instance)
            return "done"
        row = store.execute(queries.status_of, instance).fetchone()
        if row is None:
            return "not found"
        return "unchanged" if row[0] in _OPEN and life in (None, row[1]) else "finished"


def resume(store: SqlStore, instance: str, life: str | None = None) -> Effect:
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


def retry_now(
    store: SqlStore, instance: str, activity: str | None = None, life: str | None = None
) -> Effect:
    """See `Backend.retry_now`."""
    queries = store.queries
    with store.transaction():
        row = store.execute(queries.status_of, instance).fetchone()
        if row is None:
            return "not found"
        if row[0] not in _OPEN or life not in (None, row[1]):
            return "finished"
        now = store.clock()
        given = (now, instance, row[1], now, activity)
        return "done" if store.execute(queries.hasten_activities, *given).rowcount else "unchanged"


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
