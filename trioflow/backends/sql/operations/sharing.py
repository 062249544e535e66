"""What instances share: claims in the order of asking, and whether an event is set.

Theory. A claim is a row, numbered within its name. Whoever adds, frees or grants one locks the row
of the name first. A claim keeps the event that its execution waits for; granting it is delivering
that event, in the same transaction. So no place is granted that nobody hears of, and none twice.

A claim is good for one execution. What shows that it can no longer be used is the row of its
instance: so a place comes back however the instance has ended, when the next of that name is looked
at. A terminate, which asks no code, looks at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from trioflow.backends.commits import Message
from trioflow.backends.sql.operations.delivery import deliver
from trioflow.backends.sql.store import SqlStore

__all__ = ["ask_shared", "free_shared"]

_AT_ONCE = 100


def ask_shared(store: SqlStore, message: Message, now: float) -> None:
    """Do what the claim of a message asks for."""
    claim, queries = message.claim, store.shared_queries
    assert claim is not None
    is_set, latest = _lock(store, claim.name)
    key = (message.instance, message.life or "", message.execution or 0, claim.command)
    if claim.how == "free":
        store.execute(queries.free, claim.name, *key)
    elif claim.how == "take":
        latest += 1
        store.execute(queries.change, is_set, latest, claim.name)
        store.execute(queries.add, claim.name, latest, *key, claim.size, message.event)
    else:
        is_set = int(claim.how == "set")
        store.execute(queries.change, is_set, latest, claim.name)
        deliver(store, message, now)
    _grant(store, claim.name, is_set, now)


def free_shared(store: SqlStore, instances: Sequence[str], now: float) -> None:
    """Give to the next what instances had that have been ended."""
    found = store.each(store.shared_queries.names_of, [(id,) for id in instances])
    for name in sorted({name for rows in found for (name,) in rows}):
        is_set, _ = _lock(store, name)
        _grant(store, name, is_set, now)


def _lock(store: SqlStore, name: str) -> tuple[int, int]:
    """Lock the row of a name, or make it; return whether it is set, and the last number."""
    queries = store.shared_queries
    row = store.execute(queries.lock, name).fetchone()
    if row is None:
        with suppress(*store.dialect.conflict), store.transaction():
            store.execute(queries.create, name)
        row = store.execute(queries.lock, name).fetchone()
    return row[0], row[1]


def _grant(store: SqlStore, name: str, is_set: int, now: float) -> None:
    """Grant what can be granted, in the order of asking."""
    queries = store.shared_queries
    held = 0
    for number, *_, gone in store.execute(queries.granted, name).fetchall():
        if gone:
            store.execute(queries.drop, name, number)
        else:
            held += 1
    while rows := store.execute(queries.waiting, name, _AT_ONCE).fetchall():
        for row in rows:
            number, size, gone = row[0], row[4], row[6]
            if not gone and not (held < size if size else is_set):
                return
            if not gone and _tell(store, row, now) and size:
                store.execute(queries.grant, name, number)
                held += 1
            else:
                store.execute(queries.drop, name, number)


def _tell(store: SqlStore, row: Sequence[Any], now: float) -> bool:
    _, instance, execution, life, _, event, _ = row
    return deliver(store, Message(instance, event, execution=execution, life=life), now)
