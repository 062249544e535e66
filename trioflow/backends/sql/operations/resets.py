"""Begin an execution with a part of another one's history: `Backend.reset` and `Backend.fork`.

A reset is made on the row of the instance, locked, if all is still as its planner has seen it. What
may still reach the old execution is cut off by its number: commits and messages for it are refused
from then on. Two things are carried over that others may be working on at that moment:

- activities get a new row, free, with the attempts that the old one has had; the old row is
  deleted, or marked if a worker runs it, as that of an instance that is no more;
- sub-workflows get the address of the new execution, and are taken away from the worker that holds
  them, for it has the old address in its memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trioflow.backends._common.notices import id_taken
from trioflow.backends.commits import NewInstance
from trioflow.backends.records import StoredMessage
from trioflow.backends.resets import Beginning, Reset, ResetResult
from trioflow.backends.sql.operations.attributes import write_attributes
from trioflow.backends.sql.operations.changes import create, terminate
from trioflow.backends.sql.operations.cleanup import drop_activities
from trioflow.backends.sql.operations.delivery import deliver
from trioflow.backends.sql.operations.keeping import keep_reset
from trioflow.backends.sql.operations.sharing import free_shared, lock_for_end
from trioflow.backends.sql.statements import DELIVER, LOCK_INSTANCES, NEW_TURNS
from trioflow.backends.sql.store import SqlStore

__all__ = ["fork", "inbox", "reset"]


class _Changed(Exception):
    """Something is not as whoever planned the reset has seen it."""


def inbox(store: SqlStore, instance: str) -> list[StoredMessage]:
    """See `Backend.inbox`."""
    rows = store.execute(store.queries.inbox_of, instance).fetchall()
    return [StoredMessage(*row) for row in rows]


def reset(store: SqlStore, reset: Reset) -> ResetResult:
    """See `Backend.reset`."""
    try:
        with store.transaction():
            return _reset(store, reset)
    except _Changed:
        return "changed"


def fork(store: SqlStore, new: NewInstance, beginning: Beginning) -> bool:
    """See `Backend.fork`."""
    with store.transaction():
        if not create(store, [new], reuse=False)[0]:
            return False
        now = store.clock()
        size = (len(beginning.turns), beginning.events, len(beginning.inbox))
        kept = (beginning.wake_at, beginning.carried)
        store.execute(store.queries.fork_instance, *size, *kept, new.id)
        _begin(store, (new.id, 1, new.life), beginning, {}, now)
        return True


def _reset(store: SqlStore, reset: Reset) -> ResetResult:
    queries, begin, id = store.queries, reset.beginning, reset.id
    locked = lock_for_end(store, [id])
    if store.dialect.for_update:
        store.write(LOCK_INSTANCES, sorted({id, *reset.adopted, *locked.instances}))
    row = store.execute(queries.reset_fence, id).fetchone()
    if row is None:
        return "not found"
    if row[0] != reset.life:
        return "finished"
    seen = [seq for (seq,) in store.execute(queries.inbox_numbers, id).fetchall()]
    if tuple(row[1:]) != (reset.execution, reset.turns) or sorted(seen) != sorted(reset.inbox):
        raise _Changed
    now = store.clock()
    execution = reset.execution + 1
    for child in reset.adopted:
        named = (child, id, reset.execution, reset.life)
        if not store.execute(queries.adopt, execution, now, now, *named).rowcount:
            raise _Changed
    before = store.execute(queries.attempts, id, reset.execution, reset.life).fetchall()
    keep_reset(store, id, now)
    if not reset.keeps_parent:
        store.execute(queries.orphan, id)
    size = (len(begin.turns), begin.events, len(begin.inbox))
    kept = (begin.wake_at, begin.carried)
    store.execute(store.limit_queries.stop_waiting, id)
    store.execute(queries.reset_instance, execution, *size, now, now, *kept, b"", b"", id)
    store.execute(queries.delete_inbox, id)
    drop_activities(store, id)
    write_attributes(store, {id: begin.attributes}, [id])
    store.write(NEW_TURNS, [id, reset.execution, reset.turns, reset.ending])
    dropped = store.execute(queries.open_children, id, reset.execution, reset.life).fetchall()
    for (child,) in dropped:
        terminate(store, child, reset.outcome)  # it tells the old execution, which is no more
    attempts = {command: tuple(values) for command, *values in before}
    _begin(store, (id, execution, reset.life), begin, attempts, now)
    free_shared(store, locked, [id], now)  # what the old execution had
    return "done"


def _begin(
    store: SqlStore,
    me: tuple[str, int, str],
    begin: Beginning,
    attempts: dict[str, tuple[Any, ...]],
    now: float,
) -> None:
    """Write what belongs to the row of an execution that begins: of an instance, in a life."""
    id, execution, life = me
    turns = [v for n, data in enumerate(begin.turns) for v in (id, execution, n, data)]
    if turns:
        store.write(NEW_TURNS, turns)
    if begin.inbox:
        seq = store.dialect.allocate(store.connection, len(begin.inbox), now)
        rows: list[Any] = []
        for number, one in enumerate(begin.inbox, seq):
            rows += (id, number, execution if one.own else None, one.event, one.at)
        store.dialect.append(store.connection, DELIVER, rows)
    for new in begin.activities:
        attempt, visible_at, scheduled_at, failure, progress = attempts.get(
            new.command, (1, now, now, b"", b"")
        )
        store.execute(
            store.queries.restore_activity,
            *(id, execution, new.command, life, new.queue, new.activity, new.input, new.options),
            *(attempt, visible_at, scheduled_at, failure, new.priority, progress, new.limit_key),
        )
    _create_children(store, begin.children, now)


def _create_children(store: SqlStore, children: Sequence[NewInstance], now: float) -> None:
    for child in children:
        if not create(store, [child])[0]:
            assert child.parent is not None
            deliver(store, id_taken(child.id, child.parent), now)
