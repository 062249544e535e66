"""Which instances of limited workflows may begin, and where the others wait.

Theory. Instances are not counted by their leases, as they come and go, but by their rows in
``admitted``: one is written when an instance is taken for the first time, and stands until it is
found to have ended. Whoever writes one has locked the limit's row.

What finds no place must not stay among what is ready, where every look would read all of it. So
the first look that meets it puts it aside: it lowers its level by a constant, as that of a suspect
is (see `leases`), and writes a row into ``waiting``, which has the order. From then on a look reads
of those that wait as many as there is room for. ``ready_at`` stays, so that to everybody else they
are what they were: ready, and not taken.

What waits comes back when it is taken, when its time is over (it is taken to be ended, whether
there is a place or not), and when the limit is removed. Of what begins with turns, after a reset or
as a fork, it is not known when its time is over: it waits for its place. A row in ``waiting`` means
nothing if the instance's level says something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from trioflow._model.limits import Limit
from trioflow.backends.sql.limit_queries import ADMIT, COME_BACK, DISMISS, PUT_ASIDE, WAIT, WAITED
from trioflow.backends.sql.operations.limited import limits_of_version
from trioflow.backends.sql.rows import LIFE_OF_TAKEN, PRIORITY, READY_AT, TURNS, WAKE_AT
from trioflow.backends.sql.store import SqlStore

__all__ = ["Admission", "Line"]

_MOST = 500  # are put aside, or brought back, in one transaction
_SEQ, _ID, _WORKFLOW, _QUEUE = 0, 1, 3, 4  # in the rows of `Queries.ready_instances`


class Line(NamedTuple):
    """Those that wait, as one worker sees them.

    Attributes:
        store: Where they wait.
        worker: Who looks.
        queues: The queues that it looks into.
        exclude: What leaves out what it does not want, a part of a clause.
        unwanted: The parameters of that.
        workflows: Names of workflows that it does not want.
    """

    store: SqlStore
    worker: str
    queues: Sequence[str]
    exclude: str
    unwanted: Sequence[Any]
    workflows: Sequence[str]

    def may_move(self, now: float) -> bool:
        """Return whether one of them may be taken; without locks, so it is to be asked again."""
        store, queries = self.store, self.store.limit_queries
        row = store.execute(queries.of_worker, self.worker).fetchone()
        if row is None:
            return True  # which is found out where its row is locked
        overdue = self._query(queries.any_overdue)
        if any(store.each(overdue, [(queue, now, *self.unwanted) for queue in self.queues])):
            return True
        query = self._query(queries.first_waiting)
        for limit in limits_of_version(store, row[0]).of_kind("workflow"):
            if limit.name in self.workflows or _room(store, limit)[0] <= 0:
                continue
            asked = [(limit.name, queue, *self.unwanted, 1) for queue in self.queues]
            if any(store.each(query, asked)):
                return True
        return False

    def bring_overdue(self, now: float) -> bool:
        """Put those whose time is over among what is ready; return whether there are any."""
        query = self._query(self.store.limit_queries.overdue)
        asked = [(queue, now, *self.unwanted, _MOST) for queue in self.queues]
        found = self.store.each(query, asked)
        ids = sorted(id for rows in found for (id,) in rows)
        free = [id for (id,) in self.store.among(self.store.limit_queries.lock_waiting, ids)]
        if free:
            self.store.write(COME_BACK, free)
            self.store.write(WAITED, free)
        return bool(free)

    def next_overdue(self, now: float) -> list[float]:
        """Return when the time of the next one is over, of each queue."""
        query = self._query(self.store.limit_queries.next_overdue)
        found = self.store.each(query, [(queue, now, *self.unwanted) for queue in self.queues])
        return [at for rows in found for (at,) in rows if at is not None]

    def first(self, workflow: str, most: int) -> list[Any]:
        """Return the best of a workflow, as `Queries.ready_instances` does, and lock them."""
        query = self._query(self.store.limit_queries.first_waiting)
        asked = [(workflow, queue, *self.unwanted, most) for queue in self.queues]
        found = [row for rows in self.store.each(query, asked) for row in rows]
        found.sort(key=lambda row: tuple(row[1:]))
        return self.store.among(
            self.store.queries.waiting_instances, [row[0] for row in found[:most]]
        )

    def _query(self, query: str) -> str:
        return query.replace("{exclude}", self.exclude)


class Admission:
    """Decides who begins, in the transaction that is open.

    Args:
        line: Those that wait.
        limits: Of workflows; there are some.
        now: The store's time.
        most: How many are to be taken.

    Attributes:
        aside: Whether any were put aside.
        more: There may be more to be put aside, so this is to be done again.
    """

    def __init__(self, line: Line, limits: Sequence[Limit], now: float, most: int) -> None:
        self._store = store = line.store
        self._now, self._most = now, most
        self._room: dict[str, int] = {}
        self._admitted: set[tuple[str, str]] = set()
        self._number = 0
        self.aside = self.more = False
        queries = store.limit_queries
        locked = [
            limit
            for limit in limits
            if store.execute(queries.state, limit.kind, limit.name).fetchone() is not None
        ]
        for limit in locked:
            self._room[limit.name], begun, gone = _room(store, limit)
            self._admitted |= begun
            if gone:
                store.write(DISMISS, gone)
        self._waiting = {
            row[_ID]: row
            for name, room in self._room.items()
            if room > 0 and name not in line.workflows
            for row in line.first(name, min(room, most + 1))
        }

    def admit(self, ready: Sequence[Any]) -> list[Any] | None:
        """Let the best begin.

        Args:
            ready: The best of those that are ready, one more than ``most`` if there are so many.

        Returns:
            The best of those, and of those that wait, which may be taken, one more than ``most`` if
            there are so many. ``None`` if some were put aside: then others of those that are ready
            may be among the best, and are to be read.
        """
        rows = sorted((*ready, *self._waiting.values()), key=_by_rank)
        room = dict(self._room)
        kept: list[Any] = []
        begun: list[Any] = []
        aside: list[Any] = []
        for row in rows:
            workflow = row[_WORKFLOW]
            if not self._is_outside(row):
                kept.append(row)
            elif room[workflow] > 0 or self._is_overdue(row):
                kept.append(row)
                if len(kept) <= self._most:
                    room[workflow] -= 1
                    begun += (workflow, row[_ID], row[LIFE_OF_TAKEN])
            elif row[_ID] not in self._waiting:
                aside.append(row)
        if aside:
            self._put_aside(aside)
            if self._number < _MOST:
                return None
            self.more = True
        if begun:
            self._store.write(ADMIT, begun)
        taken = [row[_ID] for row in kept[: self._most] if row[_ID] in self._waiting]
        if taken:
            self._store.write(WAITED, taken)
        return kept[: self._most + 1]

    def _is_outside(self, row: Sequence[Any]) -> bool:
        """Return whether it needs a place."""
        limited = row[_WORKFLOW] in self._room
        return limited and (row[_ID], row[LIFE_OF_TAKEN]) not in self._admitted

    def _is_overdue(self, row: Sequence[Any]) -> bool:
        """Return whether its time is over."""
        until = _timeout_at(row)
        return until is not None and until <= self._now

    def _put_aside(self, rows: Sequence[Any]) -> None:
        self.aside = True
        self._number += len(rows)
        values: list[Any] = []
        for row in rows:
            values += (row[_ID], row[LIFE_OF_TAKEN], row[_WORKFLOW], row[_QUEUE], -row[PRIORITY])
            values += (row[READY_AT], row[_SEQ], _timeout_at(row))
        self._store.write(WAITED, [row[_ID] for row in rows])  # of an earlier life of an id
        self._store.write(WAIT, values)
        self._store.write(PUT_ASIDE, [row[_SEQ] for row in rows])


def _room(store: SqlStore, limit: Limit) -> tuple[int, set[tuple[str, str]], list[Any]]:
    """Return how many more may begin, who has, and the names of those that have ended since."""
    begun: set[tuple[str, str]] = set()
    gone: list[Any] = []
    rows = store.execute(store.limit_queries.admitted, limit.name).fetchall()
    for instance, life, id, finished_at in rows:
        if id is None or finished_at is not None:
            gone += (instance, life)
        else:
            begun.add((instance, life))
    assert limit.concurrency is not None
    return limit.concurrency - len(begun), begun, gone


def _timeout_at(row: Sequence[Any]) -> float | None:
    """Return when its time is over, if that is known: with turns, ``wake_at`` is any timer's."""
    at: float | None = None if row[TURNS] else row[WAKE_AT]
    return at


def _by_rank(row: Sequence[Any]) -> tuple[Any, ...]:
    return -row[PRIORITY], row[READY_AT], row[_SEQ]
