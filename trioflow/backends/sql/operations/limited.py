"""Limits across workers: what is allowed now, and how nobody begins more than that.

Theory. Nothing is counted up and down that could be forgotten: what is under way is read each time,
from the leases themselves. So whatever frees a lease gives its place back, the end of a dead worker
included. Whoever leases something that has a limit locks the limit's row first, reads what is under
way, and writes its leases in the same transaction. So between the count and the leases nobody else
can lease under that limit; others can only end something meanwhile.

What a commit begins at once would not be counted. So a worker's row has the version of the limits,
and a commit renews that row only if it is the version that its connection knows (`RENEW_WORKER`):
no statement more than without limits. Whoever changes the limits writes the new version into the
rows of all workers, and so waits for all commits that are under way, and makes those that follow
look again. From then on a unit that asks for too much fails (`over_limits`).

Activities of a limited name that cannot begin would fill each look into their queue. So the first
look that meets one puts it aside, by giving it a key of that name (`_aside`): then it lies in
another part of the index, which is read when there is room. A lease takes that key away again.

Instances of limited workflows are counted in another way, see `operations.admission`.
"""

from __future__ import annotations

import hashlib
import heapq
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from trioflow._model.limits import Limit, LimitKind, Limits
from trioflow.backends._common.budgets import Budget, Budgets, LimitState
from trioflow.backends.commits import InstanceCommit, Unit
from trioflow.backends.records import TakenActivities
from trioflow.backends.sql.limit_queries import ADMIT, COME_BACK, PUT_ASIDE_ACTIVITIES
from trioflow.backends.sql.rows import ASIDE, LIFE, VISIBLE_AT, activity_task
from trioflow.backends.sql.statements import LEASE_ACTIVITIES, LOCK_INSTANCES
from trioflow.backends.sql.store import SqlStore

__all__ = [
    "SOON",
    "Asked",
    "NotLeased",
    "any_aside",
    "forget_version",
    "limits_of_version",
    "over_limits",
    "read_limits",
    "remove_limit",
    "set_limit",
    "take_limited",
]

_decode_limit = msgspec.json.Decoder(Limit).decode
_decode_state = msgspec.json.Decoder(LimitState).decode
_encode = msgspec.json.Encoder().encode

_KEYS = 100  # are read at once: some may be full, or have nothing that is visible
_MOST_KEYS = 1000  # of which it is told when the next of them becomes visible…
_AGAIN = 1.0  # …and if there are more, another look is to be made after so many seconds
_BEFORE_KEYS = '"'  # is greater than the keys of what is put aside, and less than the others
_MOST_ASIDE = 500  # are put aside in one transaction
SOON = 0.05
"""Seconds until a row is looked at again that somebody else has locked."""

_ACTIVITY, _QUEUE, _KEY, _PRIORITY = 3, 4, 14, 11  # in the rows of `Queries.visible_activities`


# --- what clients ask for -----------------------------------------------------------------------


def read_limits(store: SqlStore) -> Limits:
    """See `Backend.limits`."""
    queries = store.limit_queries
    with store.snapshot():
        (version,) = store.execute(queries.seen_version).fetchone()
        rows = store.execute(queries.all).fetchall()
    return Limits.of(version, [_decode_limit(settings) for (settings,) in rows])


def set_limit(store: SqlStore, limit: Limit) -> None:
    """See `Backend.set_limit`."""
    queries = store.limit_queries
    with store.transaction():
        _change_version(store)
        row = store.execute(queries.one, limit.kind, limit.name).fetchone()
        before, state = None, LimitState()
        if row is not None:
            before = _decode_limit(row[0])
            if before.per == limit.per:
                state = _decode_state(row[1])  # what has begun still counts
        store.execute(queries.delete, limit.kind, limit.name)
        values = (limit.kind, limit.name, _encode(limit), _encode(state))
        store.execute(queries.insert, *values)
        if limit.key is None and before is not None:
            _forget_keys(store, before)
        if limit.kind == "workflow" and before is None:  # otherwise it is known who has begun
            store.execute(queries.dismiss_all, limit.name)
            begun = store.execute(queries.begun, limit.name).fetchall()
            if begun:
                store.write(ADMIT, [value for row in begun for value in (limit.name, *row)])


def remove_limit(store: SqlStore, kind: LimitKind, name: str) -> bool:
    """See `Backend.remove_limit`."""
    queries = store.limit_queries
    with store.transaction():
        row = store.execute(queries.one, kind, name).fetchone()
        if row is None:
            return False
        _change_version(store)
        store.execute(queries.delete, kind, name)
        if kind == "workflow":
            store.execute(queries.dismiss_all, name)
            _end_waiting(store, name)
        if kind == "activity":
            store.execute(queries.forget_key, name, _aside(name))
        _forget_keys(store, _decode_limit(row[0]))
        return True


def _change_version(store: SqlStore) -> None:
    """Make every commit look again; wait for those that are under way."""
    queries = store.limit_queries
    store.execute(queries.version).fetchone()
    version = secrets.token_hex(8)
    store.execute(queries.set_version, version)
    store.execute(queries.tell_workers, version)


def forget_version(store: SqlStore) -> None:
    """Say that there have never been limits."""
    store.execute(store.limit_queries.set_version, "")


def _end_waiting(store: SqlStore, workflow: str) -> None:
    ids = sorted(
        id for (id,) in store.execute(store.limit_queries.all_waiting, workflow).fetchall()
    )
    if ids:
        if store.dialect.for_update:
            store.write(LOCK_INSTANCES, ids)
        store.write(COME_BACK, ids)
        store.execute(store.limit_queries.forget_waiting, workflow)


def _forget_keys(store: SqlStore, limit: Limit) -> None:
    """Make activities forget the keys that they have by a limit which has none any more."""
    queries = store.limit_queries
    if limit.key is None:
        return
    if limit.kind == "activity":
        store.execute(queries.forget_keys_of_activity, limit.name)
        return
    others = [_decode_limit(settings) for (settings,) in store.execute(queries.all).fetchall()]
    own = [each.name for each in others if each.kind == "activity" and each.key is not None]
    query = _without(store, queries.forget_keys_of_queue, own)
    store.execute(query, limit.name, *own)


# --- what a worker's commit may begin -----------------------------------------------------------


def limits_of_version(store: SqlStore, version: str) -> Limits:
    """Return the limits of a version, which is that of a worker's row."""
    if store.limits.version != version:
        store.limits = read_limits(store)
    return store.limits


def over_limits(limits: Limits, unit: Unit) -> list[str]:
    """Return the ids of those instances of a unit that ask for more than the limits allow."""
    return [commit.id for commit in unit.instances if _is_over(limits, commit)]


def _is_over(limits: Limits, commit: InstanceCommit) -> bool:
    new = commit.new
    if new is not None and (commit.leased or commit.turns) and limits.of_workflow(new.workflow):
        return True
    for activity in commit.activities:
        if activity.leased and limits.of_activity(activity.queue, activity.activity):
            return True
        keyed = limits.key_name(activity.queue, activity.activity) is not None
        if keyed != bool(activity.limit_key):
            return True
    return False


# --- activities ---------------------------------------------------------------------------------


def _aside(activity: str) -> str:
    """Return the key of what is put aside of an activity."""
    return ASIDE + hashlib.blake2b(activity.encode(), digest_size=16).hexdigest()


def any_aside(store: SqlStore, limits: Limits, queues: Sequence[str]) -> bool:
    """Return whether anything is put aside in some queues."""
    asked = [(queue, _aside(one.name)) for one in limits.of_kind("activity") for queue in queues]
    return any(store.each(store.limit_queries.any_of_key, asked))


class Asked(NamedTuple):
    """What a worker asks for, and how to read what has no key.

    Attributes:
        worker: Who takes it; it is alive, and its row locked.
        queues: From where.
        excluded: Names of activities that are left out.
        plain: Returns up to so many visible rows of a queue that have no key, the best first, some
            names left out.
        next_plain: Returns when the next of those becomes visible, some names left out.
    """

    worker: str
    queues: Sequence[str]
    excluded: Sequence[str]
    plain: Callable[[str, Sequence[str], int], list[Any]]
    next_plain: Callable[[Sequence[str]], list[float]]


class _Look:
    """Reads what is visible in queues of which some have limits.

    Args:
        store: Where to read.
        asked: For what.
        budgets: What the limits leave.
        now: The store's time.
    """

    def __init__(self, store: SqlStore, asked: Asked, budgets: Budgets, now: float) -> None:
        self._store = store
        self._queues = tuple(dict.fromkeys(asked.queues))
        self._excluded = tuple(asked.excluded)
        self._plain = asked.plain
        self._budgets = budgets
        self._now = now

    def rows(self, most: int) -> list[Any]:
        """Return up to ``most`` of each queue, in the order in which they are to begin."""
        found: list[list[Any]] = []
        for queue in self._queues:
            room = int(min(self._budgets.room_of_queue(queue), most))
            if not room:
                continue
            if self._budgets.keeper_of(queue) is None:
                found.append(self._unkeyed(queue, room))
            else:
                found.append(self._in_turns(queue, room))
        return list(heapq.merge(*found, key=_rank))

    def next_visible(self) -> list[float]:
        """Return when the next of what has a key becomes visible."""
        queries = self._store.limit_queries
        query = _without(self._store, queries.next_of_key, self._excluded)
        times: list[float] = []
        for queue in self._queues:
            if self._budgets.keeper_of(queue) is None:
                continue
            keys = self._keys(queue, _BEFORE_KEYS, _MOST_KEYS)
            if len(keys) == _MOST_KEYS:
                times.append(self._now + _AGAIN)
            bounds = self._store.each(queries.bounds_of_key, [(queue, key) * 2 for key in keys])
            levels = [
                (queue, key, level)
                for key, ((highest, lowest),) in zip(keys, bounds, strict=True)
                for level in self._levels(queue, key, highest, lowest)
            ]
            asked = [(*level, self._now, *self._excluded) for level in levels]
            times += [rows[0][0] for rows in self._store.each(query, asked) if rows]
        return times

    def _levels(self, queue: str, key: str, level: int | None, lowest: int | None) -> Iterator[int]:
        """Yield the priorities that occur in a key, from one to the lowest."""
        below = self._store.limit_queries.below_of_key
        while level is not None:
            yield level
            if level == lowest:
                return
            row = self._store.execute(below, queue, key, level).fetchone()
            level = None if row is None else row[0]

    def any_waits(self) -> bool:
        """Return whether anything that is visible is left."""
        query = _without(self._store, self._store.limit_queries.any_free, self._excluded)
        asked = [(queue, self._now, *self._excluded) for queue in self._queues]
        return any(self._store.each(query, asked))

    def _left_out(self) -> tuple[str, ...]:
        return (*self._excluded, *sorted(self._budgets.full))

    def _keys(self, queue: str, after: str, most: int) -> list[str]:
        query = self._store.limit_queries.keys_after
        return [key for (key,) in self._store.execute(query, queue, after, queue, most).fetchall()]

    def _keys_from(self, queue: str, last: str) -> Iterator[str]:
        """Yield all keys of a queue, from the next one on; what has none comes after the last."""
        after = last or _BEFORE_KEYS
        while keys := self._keys(queue, after, _KEYS):
            yield from keys
            after = keys[-1]
        yield ""
        after = _BEFORE_KEYS
        while keys := self._keys(queue, after, _KEYS):
            for key in keys:
                if key > last:
                    return
                yield key
            after = keys[-1]

    def _in_turns(self, queue: str, room: int) -> list[Any]:
        """Return rows of a queue whose keys take turns: as many of each, from the next one on."""
        keeper = self._budgets.keeper_of(queue)
        assert keeper is not None
        lanes: list[list[Any]] = []
        wanted = room
        for key in self._keys_from(queue, keeper.turn_of(queue)):
            share = int(min(self._budgets.room_of_key(queue, key), room))
            if not share:
                continue
            rows = self._of_key(queue, key, share) if key else self._unkeyed(queue, share)
            if rows:
                lanes.append(rows)
                wanted -= 1
                if not wanted:
                    break
        turns: list[Any] = []
        while lanes and len(turns) < room:
            turns += [lane.pop(0) for lane in lanes[: room - len(turns)]]
            lanes = [lane for lane in lanes if lane]
        return turns

    def _unkeyed(self, queue: str, most: int) -> list[Any]:
        """Return rows that have no key, those included that were put aside and may begin now."""
        rows = [self._plain(queue, self._excluded, most)]
        names = [name for name in self._budgets.activities() if name not in self._excluded]
        asked = [(queue, _aside(name)) for name in names]
        there = self._store.each(self._store.limit_queries.any_of_key, asked)
        for name, any_aside in zip(names, there, strict=True):
            room = self._budgets.room_of_activity(name) if any_aside else 0
            if room:
                aside = self._of_key(queue, _aside(name), int(min(room, most)))
                rows.append([(*row[:_KEY], "") for row in aside])
        return list(islice(heapq.merge(*rows, key=_rank), most))

    def put_aside(self, rows: Sequence[Any]) -> int:
        """Put those aside that have no key, and whose activity is full; return how many."""
        values: list[Any] = []
        for row in rows:
            if row[_ACTIVITY] in self._budgets.full and not row[_KEY]:
                values += (*row[:3], row[LIFE], _aside(row[_ACTIVITY]))
        if values:
            self._store.write(PUT_ASIDE_ACTIVITIES, values)
        return len(values) // len(PUT_ASIDE_ACTIVITIES.columns)

    def _of_key(self, queue: str, key: str, most: int) -> list[Any]:
        queries, left_out = self._store.limit_queries, self._left_out()
        read = _without(self._store, queries.visible_of_key, left_out)
        bounds = self._store.execute(queries.bounds_of_key, queue, key, queue, key).fetchone()
        rows: list[Any] = []
        for level in self._levels(queue, key, *bounds):
            wanted = (queue, key, level, self._now, *left_out, most - len(rows))
            rows += self._store.execute(read, *wanted).fetchall()
            if len(rows) >= most:
                break
        return rows


def take_limited(store: SqlStore, asked: Asked, limit: int) -> TakenActivities:
    """Take activities where there are limits, in the transaction that is open."""
    limits, now = store.limits, store.clock()
    budgets = _budgets(store, limits, asked.queues, now)
    look = _Look(store, asked, budgets, now)
    taken: list[Any] = []
    aside = 0
    more = True
    while more and len(taken) < limit and aside < _MOST_ASIDE:
        full = len(budgets.full) + len(budgets.full_keys)
        rows = look.rows(limit - len(taken))
        begun: list[Any] = []
        left: list[Any] = []
        for row in rows:
            if len(taken) + len(begun) == limit:
                break
            if budgets.take(row[_QUEUE], row[_ACTIVITY], row[_KEY]):
                begun.append(row)
            else:
                left.append(row)
        _lease(store, asked.worker, begun)
        _keep_turns(budgets, begun)
        taken += begun
        number = look.put_aside(left)
        aside += number
        more = bool(begun or number) or len(budgets.full) + len(budgets.full_keys) > full
    for budget in budgets.all:
        if budget.changed:
            names = (budget.limit.kind, budget.limit.name)
            store.execute(store.limit_queries.save, _encode(budget.state), *names)
    waits = look.any_waits()
    in_way = waits and budgets.in_way()
    next_at: float | None = now
    if aside < _MOST_ASIDE and (not waits or len(taken) < limit):
        rates = budgets.next_at()
        times = [*asked.next_plain(asked.excluded), *look.next_visible(), *rates]
        next_at = min(times, default=None)
        if waits and not (in_way or rates) and store.dialect.skip_locked:
            next_at = now + SOON  # no limit keeps what is left waiting
    tasks = [activity_task(row) for row in taken]
    return TakenActivities(tasks, next_at, in_way, limits.version)


def _budgets(store: SqlStore, limits: Limits, queues: Sequence[str], now: float) -> Budgets:
    """Lock the limits of some queues, and return what they leave."""
    queries = store.limit_queries
    mattering = [
        limit
        for limit in limits.of_kind("activity", "queue")
        if limit.kind == "activity" or limit.name in queues
    ]
    # In the order of their names, so that two workers do not wait for each other.
    states = [
        store.execute(queries.state, limit.kind, limit.name).fetchone() for limit in mattering
    ]
    found = [
        Budget(limit, _decode_state(row[0]), now)
        for limit, row in zip(mattering, states, strict=True)
        if row is not None
    ]
    budgets = Budgets(limits, found)
    if any(each.limit.concurrency or each.limit.key_concurrency for each in found):
        for query in (queries.leased, queries.kept):
            for queue, activity, key, number in store.execute(query).fetchall():
                budgets.count(queue, activity, key, number)
    return budgets


def _lease(store: SqlStore, worker: str, rows: Iterable[Any]) -> None:
    leases: list[Any] = []
    for row in rows:
        leases += (*row[:3], row[LIFE], worker)
    if leases and store.write(LEASE_ACTIVITIES, leases) * 5 != len(leases):
        raise NotLeased


def _keep_turns(budgets: Budgets, rows: Sequence[Any]) -> None:
    for row in rows:
        keeper = budgets.keeper_of(row[_QUEUE])
        if keeper is not None:
            keeper.keep_turn(row[_QUEUE], row[_KEY])


class NotLeased(Exception):
    """Somebody came between the look at what is free and its lease; all is rolled back."""


def _without(store: SqlStore, query: str, names: Sequence[str]) -> str:
    clause = ""
    if names:
        clause = store.dialect.query(f"AND activity NOT IN ({', '.join('?' * len(names))})")
    return query.replace("{exclude}", clause)


def _rank(row: Sequence[Any]) -> tuple[Any, ...]:
    return -row[_PRIORITY], row[VISIBLE_AT]
