"""Lease ready instances and visible activities to a worker.

Theory. A take has two steps. It *looks* without a transaction and without locks: an idle worker
does not stand in the way of those that write. Only if there is something it opens a transaction,
locks the worker's row (so that nobody reclaims the worker meanwhile), reads the best rows, leaving
out those that somebody else has locked, and writes the leases.

Invariant: whatever was read before, the statement that writes a lease demands by itself that the
worker's row exists and that nobody else has the lease (`LEASE_INSTANCES` and its like). If it
touches fewer rows than it names, somebody was faster: the transaction is rolled back, nothing is
taken, and the worker asks again at once.

What is locked at that moment need not change: perhaps somebody only has looked at it, or is rolled
back. So where rows were left out that could have been taken, another look is to be made soon.

Order. What is ready lies in an index of queue, level and time. Levels (see `queries`) are found
one by one; those of suspects lie below all others. Each read takes one level of one queue, so that
it follows the index and touches no row that it does not return; what several queues give at the
same level is merged here, by time. Below the suspects lies what waits for a place of its workflow's
limit, which is not read as the others are: see `admission`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, Literal, NamedTuple, TypeAlias

from trioflow.backends.records import (
    StoredMessage,
    TakenActivities,
    TakenInstance,
    TakenInstances,
)
from trioflow.backends.sql.dialect import Update
from trioflow.backends.sql.operations.admission import Admission, Line
from trioflow.backends.sql.operations.limited import (
    SOON,
    Asked,
    NotLeased,
    any_aside,
    limits_of_version,
    take_limited,
)
from trioflow.backends.sql.rows import (
    LIFE,
    READY_AT,
    UNREAD,
    VISIBLE_AT,
    activity_task,
    taken_instance,
)
from trioflow.backends.sql.statements import (
    LEASE_ACTIVITIES,
    LEASE_INSTANCES,
    LEASE_SUSPECTS,
    SUSPECTS_BELOW,
    WAITING_BELOW,
)
from trioflow.backends.sql.store import SqlStore

__all__ = ["Wanted", "take_activities", "take_instances", "take_own_instances", "take_suspect"]

# A queue, and a level that occurs in it; see `SUSPECTS_BELOW`.
Level: TypeAlias = tuple[str, int]


class Wanted(NamedTuple):
    """Who takes, of which queues, and what not: names of workflows or activities, and instances."""

    worker: str
    queues: Sequence[str]
    exclude: Sequence[str]
    exclude_ids: Sequence[str] = ()


# --- instances ----------------------------------------------------------------------------------


def take_instances(store: SqlStore, wanted: Wanted, limit: int, sticky: float) -> TakenInstances:
    """See `Backend.take_instances`, for a limit of 1 or more and no suspects."""
    look = _Look(store, wanted, "workflow")
    levels, apart, waiting = _divided(_levels(store, "instance", wanted.queues))
    line = look.line()

    def nothing_left(taken: list[TakenInstance], *, waits: bool) -> TakenInstances:
        times = look.next_ready((*levels, *apart))
        if waits:
            times += line.next_overdue(look.now)
        if sticky > 0:
            times += look.next_left(levels, sticky)
        return TakenInstances(taken, min(times, default=None), look.any_suspect(apart))

    ready = look.with_any(look.query(store.queries.any_ready), levels, look.eligible(sticky))
    if not ready and not (waiting and line.may_move(look.now)):
        return nothing_left([], waits=bool(waiting))
    with suppress(NotLeased), store.transaction():
        if not _is_alive(store, wanted.worker):
            return TakenInstances([], None)
        look.now = store.clock()
        best = _best_instances(look, line, ready, sticky, limit, any_waiting=bool(waiting))
        rows = best.rows
        taken = _lease_instances(store, wanted.worker, rows[:limit])
        if best.again:
            next_at = look.now
        elif rows[limit:]:
            next_at = rows[limit][READY_AT]
        elif look.passes_over and (
            look.with_any(look.query(store.queries.any_ready), ready, look.eligible(sticky))
            or (waiting and line.may_move(look.now))
        ):
            next_at = look.now + SOON
        else:
            return nothing_left(taken, waits=best.waits)
        return TakenInstances(taken, next_at, look.any_suspect(apart))
    return TakenInstances([], look.now)


class _Best(NamedTuple):
    """The best rows, one more than are to be taken if there are so many.

    Attributes:
        rows: They.
        waits: Whether something waits for a place of its workflow's limit.
        again: It is to be looked again at once.
    """

    rows: list[Any]
    waits: bool
    again: bool


def _best_instances(
    look: _Look,
    line: Line,
    levels: Sequence[Level],
    sticky: float,
    limit: int,
    *,
    any_waiting: bool,
) -> _Best:
    store, queues = line.store, line.queues
    read = look.query(store.queries.ready_instances)

    def best() -> list[Any]:
        return look.by_level(read, levels, look.eligible(sticky), limit + 1, _by_readiness)

    limits = store.limits.of_kind("workflow") if store.limits.limits else ()
    if not limits:
        return _Best(best(), any_waiting, again=False)
    admission = Admission(line, limits, look.now, limit)
    if any_waiting and line.bring_overdue(look.now):
        levels = _divided(_levels(store, "instance", queues))[0]
    while (rows := admission.admit(best())) is None:
        pass  # what it has put aside is not read again
    return _Best(rows, any_waiting or admission.aside, admission.more)


def take_own_instances(store: SqlStore, worker: str) -> TakenInstances:
    """Take what is ready and already this worker's: `Backend.take_instances` for a limit of 0."""
    queries, now = store.queries, store.clock()
    taken: list[TakenInstance] = []
    if store.execute(queries.any_own_ready, worker, now).fetchone() is not None:
        with suppress(NotLeased), store.transaction():
            if not _is_alive(store, worker):
                return TakenInstances([], None)
            now = store.clock()
            rows = store.execute(queries.ready_own_instances, worker, now).fetchall()
            taken = _lease_instances(store, worker, rows)
    if store.execute(queries.any_own_ready, worker, now).fetchone() is not None:
        return TakenInstances(taken, now + SOON)
    (next_at,) = store.execute(queries.next_own_instance, worker, now).fetchone()
    return TakenInstances(taken, next_at)


def take_suspect(store: SqlStore, wanted: Wanted) -> TakenInstances:
    """Take one that may have killed its worker: `Backend.take_instances` for ``suspect``."""
    look = _Look(store, wanted, "workflow")
    levels, apart, _ = _divided(_levels(store, "instance", wanted.queues))
    taken: list[TakenInstance] = []
    alive = True
    if look.any_suspect(apart):
        with suppress(NotLeased), store.transaction():
            alive = _is_alive(store, wanted.worker)
            look.now = store.clock()
            read = look.query(store.queries.ready_instances)
            eligible = look.eligible(0.0)  # whoever ran it last
            rows = look.by_level(read, apart, eligible, 1, _by_readiness) if alive else []
            taken = _lease_instances(store, wanted.worker, rows, LEASE_SUSPECTS)
    if not alive:
        return TakenInstances([], None)
    suspects = look.any_suspect(apart)
    if suspects and not taken:
        return TakenInstances(taken, look.now + SOON, suspects)
    next_at = min(look.next_ready((*levels, *apart)), default=None)
    return TakenInstances(taken, next_at, suspects)


def _lease_instances(
    store: SqlStore,
    worker: str,
    rows: Sequence[Sequence[Any]],
    lease: Update = LEASE_INSTANCES,
) -> list[TakenInstance]:
    if not rows:
        return []
    leases: list[Any] = []
    now = store.clock()
    for row in rows:
        leases += (row[0], worker, now)
    if store.write(lease, leases) != len(rows):
        raise NotLeased
    inboxes: dict[str, list[StoredMessage]] = {}
    if with_mail := [row[1] for row in rows if row[UNREAD]]:
        for instance, *message in store.among(store.queries.inboxes, with_mail):
            inboxes.setdefault(instance, []).append(StoredMessage(*message))
    died = int(lease is LEASE_SUSPECTS)
    return [taken_instance(row, inboxes.get(row[1], []), died) for row in rows]


# --- activities ---------------------------------------------------------------------------------


def take_activities(store: SqlStore, wanted: Wanted, limit: int) -> TakenActivities:
    """See `Backend.take_activities`."""
    queries = store.queries
    look = _Look(store, wanted, "activity")
    levels = _levels(store, "activity", wanted.queues)

    def next_visible() -> float | None:
        asked = [(*level, look.now, *wanted.exclude) for level in levels]
        return min(look.first_of_each(look.query(queries.next_activity), asked), default=None)

    visible = look.with_any(look.query(queries.any_visible), levels, (look.now, *wanted.exclude))
    if not visible and not _has_keys(store, wanted):
        return TakenActivities([], next_visible(), limits=store.limits.version)
    with suppress(NotLeased), store.transaction():
        if not _is_alive(store, wanted.worker):
            return TakenActivities([], None)
        look.now = store.clock()
        if store.limits.of_kind("activity", "queue"):
            return _take_limited(store, wanted, limit, look)
        read = look.query(queries.visible_activities)
        now_visible = (look.now, *wanted.exclude)
        rows = look.by_level(read, visible, now_visible, limit + 1, _by_visibility)
        leases: list[Any] = []
        for row in rows[:limit]:
            leases += (*row[:3], row[LIFE], wanted.worker)
        if leases and store.write(LEASE_ACTIVITIES, leases) != len(rows[:limit]):
            raise NotLeased
        next_at = rows[limit][VISIBLE_AT] if rows[limit:] else next_visible()
        if look.passes_over and not rows[limit:]:
            query = look.query(queries.any_visible)
            if look.with_any(query, visible, now_visible):
                next_at = look.now + SOON
        tasks = [activity_task(row) for row in rows[:limit]]
        return TakenActivities(tasks, next_at, limits=store.limits.version)
    return TakenActivities([], look.now)


def _has_keys(store: SqlStore, wanted: Wanted) -> bool:
    """Return whether there may be activities that a plain look does not see.

    They have a key, or are put aside.
    """
    row = store.execute(store.limit_queries.of_worker, wanted.worker).fetchone()
    if row is None:
        return False
    limits = limits_of_version(store, row[0])
    return limits.has_keys() or any_aside(store, limits, wanted.queues)


def _take_limited(store: SqlStore, wanted: Wanted, limit: int, look: _Look) -> TakenActivities:
    def plain(queue: str, left_out: Sequence[str], most: int) -> list[Any]:
        of_queue = _Look(store, Wanted(wanted.worker, [queue], left_out), "activity")
        read = of_queue.query(store.queries.visible_activities)
        levels = _levels(store, "activity", [queue])
        return of_queue.by_level(read, levels, (look.now, *left_out), most, _by_visibility)

    def next_plain(left_out: Sequence[str]) -> list[float]:
        others = _Look(store, Wanted(wanted.worker, wanted.queues, left_out), "activity")
        levels = _levels(store, "activity", wanted.queues)
        asked = [(*level, look.now, *left_out) for level in levels]
        return others.first_of_each(others.query(store.queries.next_activity), asked)

    asked = Asked(wanted.worker, wanted.queues, wanted.exclude, plain, next_plain)
    return take_limited(store, asked, limit)


# --- looking ------------------------------------------------------------------------------------


class _Look:
    """Reads what can be taken, level by level.

    Args:
        store: Where to read.
        wanted: Who looks, and for what.
        column: Which one names what is read: the workflow, or the activity.
    """

    def __init__(self, store: SqlStore, wanted: Wanted, column: str) -> None:
        self._session = store
        self._wanted = wanted
        self._worker = wanted.worker
        self._unwanted: tuple[Any, ...] = (*wanted.exclude, *wanted.exclude_ids)
        self._clause = ""
        for named, unwanted in ((column, wanted.exclude), ("id", wanted.exclude_ids)):
            if unwanted:
                marks = ", ".join("?" * len(unwanted))
                self._clause += store.dialect.query(f" AND {named} NOT IN ({marks})")
        self.now = store.clock()
        self.passes_over = bool(store.dialect.skip_locked)

    def line(self) -> Line:
        """Return those that wait for a place of a limit."""
        queues = tuple(dict.fromkeys(self._wanted.queues))
        wanted = (self._worker, queues, self._clause, self._unwanted, self._wanted.exclude)
        return Line(self._session, *wanted)

    def query(self, query: str) -> str:
        """Complete a query with what is not wanted."""
        return query.replace("{exclude}", self._clause)

    def eligible(self, sticky: float) -> tuple[Any, ...]:
        """Return what `Queries.any_ready` needs beside a level."""
        return (self.now, *self._unwanted, self._worker, self._worker, self.now - sticky)

    def any_suspect(self, apart: Sequence[Level]) -> bool:
        """Return whether a suspect is ready and free."""
        query = self.query(self._session.queries.any_ready)
        return bool(self.with_any(query, apart, self.eligible(0.0)))

    def next_ready(self, levels: Sequence[Level]) -> list[float]:
        """Return when the next of each level becomes ready."""
        later = [(*level, self.now, *self._unwanted, self._worker) for level in levels]
        return self.first_of_each(self.query(self._session.queries.next_instance), later)

    def next_left(self, levels: Sequence[Level], sticky: float) -> list[float]:
        """Return when the first of those that are left to other workers is not any more."""
        since = self.now - sticky
        asked = [(*level, self.now, since, *self._unwanted, self._worker) for level in levels]
        left = self.first_of_each(self.query(self._session.queries.next_sticky), asked)
        return [ready_at + sticky for ready_at in left]

    def with_any(
        self, query: str, levels: Sequence[Level], parameters: tuple[Any, ...]
    ) -> list[Level]:
        """Return those levels for which a query gives anything."""
        found = self._session.each(query, [(*level, *parameters) for level in levels])
        return [level for level, rows in zip(levels, found, strict=True) if rows]

    def first_of_each(self, query: str, parameters: Sequence[Sequence[Any]]) -> list[float]:
        """Return the first number that a query gives for each of the parameters."""
        return [rows[0][0] for rows in self._session.each(query, parameters) if rows]

    def by_level(
        self,
        query: str,
        levels: Sequence[Level],
        parameters: tuple[Any, ...],
        most: int,
        order: Callable[[Sequence[Any]], Any],
    ) -> list[Any]:
        """Return up to ``most`` rows, the highest level first."""
        rows: list[Any] = []
        for _, same in groupby(levels, key=_by_height):
            of_level: list[Any] = []
            for level in same:
                values = (*level, *parameters, most - len(rows))
                of_level += self._session.execute(query, *values).fetchall()
            of_level.sort(key=order)
            rows += of_level[: most - len(rows)]
            if len(rows) == most:
                break
        return rows


def _is_alive(store: SqlStore, worker: str) -> bool:
    """Return whether a worker's row exists, and lock it until the transaction ends.

    It says which limits there are.
    """
    row = store.execute(store.queries.worker_alive, worker).fetchone()
    if row is not None and row[0] != store.limits.version:
        limits_of_version(store, row[0])
    return row is not None


def _levels(
    store: SqlStore, what: Literal["instance", "activity"], queues: Sequence[str]
) -> list[Level]:
    """Return the levels that occur in each queue, the highest first."""
    queries = store.queries
    bounds, lower = {
        "instance": (queries.instance_levels, queries.lower_instance_level),
        "activity": (queries.activity_levels, queries.lower_activity_level),
    }[what]
    levels: list[Level] = []
    found = store.each(bounds, [(queue, queue) for queue in queues])
    for queue, ((level, lowest),) in zip(queues, found, strict=True):
        while level is not None:
            levels.append((queue, level))
            if level == lowest:
                break
            row = store.execute(lower, queue, level).fetchone()
            level = None if row is None else row[0]  # noqa: PLW2901 - one level down
    return sorted(levels, key=_by_height)


def _divided(levels: Sequence[Level]) -> tuple[list[Level], list[Level], list[Level]]:
    """Return the levels of what is taken by all, those of suspects, and those of what waits."""
    plain = [level for level in levels if level[1] >= SUSPECTS_BELOW]
    apart = [level for level in levels if WAITING_BELOW <= level[1] < SUSPECTS_BELOW]
    return plain, apart, [level for level in levels if level[1] < WAITING_BELOW]


def _by_readiness(row: Sequence[Any]) -> tuple[float, int]:
    return row[READY_AT], row[0]


def _by_visibility(row: Sequence[Any]) -> tuple[Any, ...]:
    return row[VISIBLE_AT], row[8], row[0], row[2]


def _by_height(level: Level) -> int:
    return -level[1]
