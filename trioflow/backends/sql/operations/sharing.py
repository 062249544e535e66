"""What instances share: claims in the order of asking, and whether an event is set.

Theory. A claim is a row, numbered within its name. Whoever adds, frees or grants one locks the row
of the name first. A claim keeps the event that its execution waits for; granting it is delivering
that event, in the same transaction. So no place is granted that nobody hears of, and none twice.

A claim is good for one execution. What shows that it can no longer be used is the row of its
instance: so a place comes back however the instance has ended, when the next of that name is looked
at. A terminate, which asks no code, looks at once.

Order of locks. A grant touches an instance that its transaction had nothing to do with before. So
all transactions lock the names that they need before any instance, sorted (`lock_shared`,
`lock_for_end`); then it is known who may be granted something, and those are locked together with
their own instances, sorted too. No two transactions can then wait for each other. What is missed is
locked when it is needed: names that an instance has asked for since a terminate looked, and who is
granted a place because somebody ended meanwhile who waited before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from trioflow.backends.commits import Message
from trioflow.backends.records import SharedState
from trioflow.backends.sql.operations.delivery import deliver
from trioflow.backends.sql.store import SqlStore

__all__ = [
    "NO_NAMES",
    "LockedNames",
    "ask_shared",
    "free_shared",
    "lock_for_end",
    "lock_shared",
    "shared_state",
]

_AT_ONCE = 100
_MOST_KNOWN = 10_000


class LockedNames:
    """The names that a transaction has locked.

    Attributes:
        states: For each, whether it is set, and its last number.
        instances: Those that may be granted something, or are ended: to be locked next.
    """

    def __init__(self) -> None:
        self.states: dict[str, tuple[int, int]] = {}
        self.instances: set[str] = set()


NO_NAMES = LockedNames()
"""Of a transaction that asks for nothing shared."""


def lock_shared(store: SqlStore, messages: Sequence[Message]) -> LockedNames:
    """Lock the names that messages are about, at the beginning of a transaction."""
    claims = [message.claim for message in messages if message.claim is not None]
    ended = [message.instance for message in messages if message.terminated]
    ended += [message.instance for message in messages if message.replacing is not None]
    if not claims and not ended:
        return NO_NAMES
    freed = Counter(claim.name for claim in claims if claim.how == "free")
    freed.update({claim.name: 0 for claim in claims})
    locked = LockedNames()
    _add_families(store, ended, freed, locked)
    _lock_all(store, freed, {claim.name for claim in claims if claim.how == "set"}, locked)
    return locked


def lock_for_end(store: SqlStore, instances: Sequence[str]) -> LockedNames:
    """Lock the names that instances and their descendants have claims of, before they are ended."""
    freed: Counter[str] = Counter()
    locked = LockedNames()
    _add_families(store, instances, freed, locked)
    _lock_all(store, freed, set(), locked)
    return locked


def _add_families(
    store: SqlStore, roots: Sequence[str], freed: Counter[str], locked: LockedNames
) -> None:
    for rows in store.each(store.queries.family, [(id,) for id in roots]):
        locked.instances.update(id for (id,) in rows)
    claimed = [(id,) for id in sorted(locked.instances)]
    for rows in store.each(store.shared_queries.names_of, claimed):
        freed.update(dict(rows))


def _lock_all(store: SqlStore, freed: Counter[str], set_: set[str], locked: LockedNames) -> None:
    """Lock names, and find out who may be granted a place if so many of each are given back."""
    if not freed:
        return
    queries, names = store.shared_queries, sorted(freed)
    _make(store, names)
    found = store.each(queries.lock, [(name,) for name in names])
    for name, rows in zip(names, found, strict=True):
        locked.states[name] = rows[0] if rows else _lock(store, name)
    if not store.dialect.for_update:
        return
    granted = store.each(queries.granted, [(name,) for name in names])
    waiting = store.each(queries.waiting, [(name, _AT_ONCE) for name in names])
    for name, places, claims in zip(names, granted, waiting, strict=True):
        held = sum(1 for *_, gone in places if not gone) - freed[name]
        for _, instance, _, _, size, _, gone in claims:
            if gone:
                continue
            if not (held < size if size else name in set_):
                break
            locked.instances.add(instance)
            held += 1


def shared_state(store: SqlStore, name: str) -> SharedState:
    """See `Backend.shared_state`."""
    queries = store.shared_queries
    with store.snapshot():
        row = store.execute(queries.is_set, name).fetchone()
        claims = store.execute(queries.claims, name).fetchall()
    there = [(instance, granted) for _, instance, _, _, _, granted, gone in claims if not gone]
    holders = [instance for instance, granted in there if granted]
    waiting = [instance for instance, granted in there if not granted]
    return SharedState(holders, waiting, row is not None and bool(row[0]))


def _make(store: SqlStore, names: Sequence[str]) -> None:
    """Make those rows of names that are missing.

    All of them before the first lock: otherwise who makes one while it holds another one's lock
    could wait for somebody who does the reverse. MySQL locks also those that are there, so all are
    tried, in their order.
    """
    known = store.known_shared
    if known.issuperset(names):
        return
    for name in names:
        store.execute(store.shared_queries.create, name)
    if len(known) > _MOST_KNOWN:
        known.clear()
    known.update(names)  # if this is rolled back, `_lock` finds out


def ask_shared(store: SqlStore, locked: LockedNames, message: Message, now: float) -> None:
    """Do what the claim of a message asks for."""
    claim, queries = message.claim, store.shared_queries
    assert claim is not None
    name = claim.name
    is_set, latest = locked.states.get(name) or _lock(store, name)
    key = (message.instance, message.life or "", message.execution or 0, claim.command)
    if claim.how == "free":
        store.execute(queries.free, name, *key)
    elif claim.how == "take":
        latest += 1
        store.execute(queries.change, is_set, latest, name)
        store.execute(queries.add, name, latest, *key, claim.size, message.event)
    else:
        is_set = int(claim.how == "set")
        store.execute(queries.change, is_set, latest, name)
        deliver(store, message, now)
    if name in locked.states:
        locked.states[name] = is_set, latest
    _grant(store, name, is_set, now)


def free_shared(store: SqlStore, locked: LockedNames, instances: Sequence[str], now: float) -> None:
    """Give to the next what instances had that have been ended."""
    found = store.each(store.shared_queries.names_of, [(id,) for id in instances])
    for name in sorted({name for rows in found for name, _ in rows}):
        is_set, _ = locked.states.get(name) or _lock(store, name)
        _grant(store, name, is_set, now)


def _lock(store: SqlStore, name: str) -> tuple[int, int]:
    """Lock the row of a name, or make it; return whether it is set, and the last number."""
    queries = store.shared_queries
    row = store.execute(queries.lock, name).fetchone()
    if row is None:
        store.execute(queries.create, name)  # if nobody else has meanwhile
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
