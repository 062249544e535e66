"""The workers' side of the SQL store: their rows, and the work that they take."""

# ruff: noqa: D102 - what each method promises is said in `Backend`

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, Literal, TypeAlias

import msgspec

from trioflow.backends.records import (
    ActivityKey,
    ActivityTask,
    Heartbeat,
    StoredMessage,
    TakenActivities,
    TakenInstance,
    TakenInstances,
)
from trioflow.backends.sql.core import SqlCore
from trioflow.backends.sql.dialect import Dialect, Update
from trioflow.backends.sql.queries import (
    LEASE_ACTIVITIES,
    LEASE_INSTANCES,
    LEASE_SUSPECTS,
    SUSPECTS_BELOW,
)

__all__ = ["Working", "activity_task"]


# A queue, and a level that occurs in it; see `SUSPECTS_BELOW`.
Level: TypeAlias = tuple[str, int]

# Places in the rows of `Queries.ready_instances`, and of `Queries.visible_activities`.
_READY_AT, _UNREAD = 14, 16
_LIFE = 12


class _NotLeased(Exception):
    """Somebody came between the look at what is free and its lease; all is rolled back."""


class Working(SqlCore):
    """Register, beat, bury; take instances and activities. See `Backend` for what each promises."""

    def register_worker(
        self,
        worker: str,
        name: str,
        queues: Sequence[str],
        activity_queues: Sequence[str],
        lease: float | None,
    ) -> None:
        served = [msgspec.json.encode(each).decode() for each in (queues, activity_queues)]
        with self.dialect.transaction(self.connection):
            register = self.queries.register_worker
            self._execute(register, worker, name, self.clock(), *served, lease)

    def heartbeat(self, worker: str) -> Heartbeat:
        with self.dialect.transaction(self.connection):
            now = self.clock()
            if not self._execute(self.queries.renew_worker, now, worker).rowcount:
                return Heartbeat(alive=False)
            rows = self._execute(self.queries.cancelled_of_worker, worker).fetchall()
        return Heartbeat(alive=True, cancelled=[ActivityKey(*row[:4]) for row in rows])

    def reclaim(self, lease: float) -> list[str]:
        stale = self._execute(self.queries.stale_workers, self.clock() - lease).fetchall()
        buried: list[str] = []
        for (worker,) in stale:
            with self.dialect.transaction(self.connection):
                limit = self.clock() - lease
                if self._execute(self.queries.bury_worker, worker, limit).rowcount:
                    self._free(worker, died=True)
                    buried.append(worker)
        for worker in self._without_rows():
            with self.dialect.transaction(self.connection):
                self._free(worker, died=True)
                buried.append(worker)
        return buried

    def _without_rows(self) -> list[str]:
        """Return who holds something and has no row, though nobody should."""
        held = self._execute(self.queries.instances_without_row).fetchall()
        held += self._execute(self.queries.activities_without_row).fetchall()
        return sorted({worker for (worker,) in held})

    def release_worker(self, worker: str, died: bool = False) -> None:  # noqa: FBT001, FBT002
        with self.dialect.transaction(self.connection):
            if self._execute(self.queries.delete_worker, worker).rowcount:
                self._free(worker, died=died)

    def release_instances(self, worker: str, instances: Sequence[str]) -> list[str]:
        released: list[str] = []
        with self.dialect.transaction(self.connection):
            now = self.clock()
            for id in instances:
                if not self._execute(self.queries.release_instance, now, id, worker).rowcount:
                    continue
                self._execute(self.queries.release_activities, now, id, worker, id)
                marked = self._execute(self.queries.cancelled_of_instance, id, worker, id)
                self._end_cancelled(marked.fetchall(), now)
                released.append(id)
        return released

    def recall(self, worker: str, keep: Sequence[ActivityKey]) -> None:
        kept = {(key.instance, key.execution, key.command, key.life) for key in keep}
        with self.dialect.transaction(self.connection):
            now = self.clock()
            self._execute(self.queries.recall_instances, now, worker, now)
            for key in self._execute(self.queries.activities_of_worker, worker).fetchall():
                if tuple(key) not in kept:
                    self._execute(self.queries.recall_activity, now, *key, worker)
            marked = self._execute(self.queries.cancelled_of_worker, worker).fetchall()
            self._end_cancelled([row for row in marked if tuple(row[:4]) not in kept], now)

    def _free(self, worker: str, *, died: bool) -> None:
        now = self.clock()
        # If it held an instance in isolation, that is to blame, and not its activities.
        blamed = died and self._execute(self.queries.isolated_of_worker, worker).fetchone()
        free = self.queries.bury_instances if died else self.queries.free_instances
        self._execute(free, now, now, worker)
        # First those that are not marked: what is marked meanwhile is found by what follows.
        self._execute(self.queries.free_activities, int(died and not blamed), now, worker)
        self._end_cancelled(self._execute(self.queries.cancelled_of_worker, worker).fetchall(), now)

    def _end_cancelled(self, marked: Sequence[Sequence[Any]], now: float) -> None:
        """End activities that nobody runs any more, and whose cancellation was asked for."""
        for *key, event in marked:
            self._end_activity(key, event, now)

    def take_instances(
        self, worker: str, queues: Sequence[str], limit: int, exclude: Sequence[str], sticky: float
    ) -> TakenInstances:
        now = self.clock()
        if not limit:
            return self._take_own(worker, now)
        query = _Excluding("workflow", exclude, self.dialect)
        levels, apart = _divided(self._levels("instance", queues))

        def eligible() -> tuple[Any, ...]:
            return (now, *exclude, worker, worker, now - sticky)

        def nothing_left(taken: list[TakenInstance]) -> TakenInstances:
            times = self._next_ready(worker, (*levels, *apart), now, query)
            if sticky > 0:
                times += self._next_left(worker, levels, now, query, sticky)
            suspects = self._any_suspect(worker, apart, now, query)
            return TakenInstances(taken, min(times, default=None), suspects)

        ready = self._with_any(query(self.queries.any_ready), levels, eligible())
        if not ready:  # an idle worker does not stand in the way of those that write
            return nothing_left([])
        with suppress(_NotLeased), self.dialect.transaction(self.connection):
            if self._execute(self.queries.worker_alive, worker).fetchone() is None:
                return TakenInstances([], None)
            now = self.clock()
            read = query(self.queries.ready_instances)
            rows = self._by_level(read, ready, eligible(), limit + 1, _by_readiness)
            taken = self._lease_instances(worker, rows[:limit])
            if rows[limit:]:
                suspects = self._any_suspect(worker, apart, now, query)
                return TakenInstances(taken, rows[limit][_READY_AT], suspects)
            return nothing_left(taken)
        return TakenInstances([], now)

    def take_suspect(
        self, worker: str, queues: Sequence[str], exclude: Sequence[str]
    ) -> TakenInstances:
        """Take one that may have killed its worker: what `take_instances` does for ``suspect``."""
        now = self.clock()
        query = _Excluding("workflow", exclude, self.dialect)
        levels, apart = _divided(self._levels("instance", queues))
        taken: list[TakenInstance] = []
        alive = True
        if self._any_suspect(worker, apart, now, query):
            with suppress(_NotLeased), self.dialect.transaction(self.connection):
                alive = self._execute(self.queries.worker_alive, worker).fetchone() is not None
                now = self.clock()
                eligible = (now, *exclude, worker, worker, now)  # whoever ran it last
                read = query(self.queries.ready_instances)
                rows = self._by_level(read, apart, eligible, 1, _by_readiness) if alive else []
                taken = self._lease_instances(worker, rows, LEASE_SUSPECTS)
        if not alive:
            return TakenInstances([], None)
        next_at = min(self._next_ready(worker, (*levels, *apart), now, query), default=None)
        return TakenInstances(taken, next_at, self._any_suspect(worker, apart, now, query))

    def _any_suspect(
        self, worker: str, apart: Sequence[Level], now: float, query: _Excluding
    ) -> bool:
        eligible = (now, *query.names, worker, worker, now)
        return bool(self._with_any(query(self.queries.any_ready), apart, eligible))

    def _levels(self, what: Literal["instance", "activity"], queues: Sequence[str]) -> list[Level]:
        """Return the levels that occur in each queue, the highest first."""
        bounds, lower = {
            "instance": (self.queries.instance_levels, self.queries.lower_instance_level),
            "activity": (self.queries.activity_levels, self.queries.lower_activity_level),
        }[what]
        levels: list[Level] = []
        found = self.dialect.each(self.connection, bounds, [(queue, queue) for queue in queues])
        for queue, ((level, lowest),) in zip(queues, found, strict=True):
            while level is not None:
                levels.append((queue, level))
                if level == lowest:
                    break
                row = self._execute(lower, queue, level).fetchone()
                level = None if row is None else row[0]  # noqa: PLW2901 - one level down
        return sorted(levels, key=_by_height)

    def _with_any(
        self, query: str, levels: Sequence[Level], parameters: tuple[Any, ...]
    ) -> list[Level]:
        """Return those levels for which a query gives anything."""
        asked = [(*level, *parameters) for level in levels]
        found = self.dialect.each(self.connection, query, asked)
        return [level for level, rows in zip(levels, found, strict=True) if rows]

    def _by_level(
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
                of_level += self._execute(query, *values).fetchall()
            of_level.sort(key=order)
            rows += of_level[: most - len(rows)]
            if len(rows) == most:
                break
        return rows

    def _take_own(self, worker: str, now: float) -> TakenInstances:
        taken: list[TakenInstance] = []
        if self._execute(self.queries.any_own_ready, worker, now).fetchone() is not None:
            with suppress(_NotLeased), self.dialect.transaction(self.connection):
                if self._execute(self.queries.worker_alive, worker).fetchone() is None:
                    return TakenInstances([], None)
                now = self.clock()
                rows = self._execute(self.queries.ready_own_instances, worker, now).fetchall()
                taken = self._lease_instances(worker, rows)
        (next_at,) = self._execute(self.queries.next_own_instance, worker, now).fetchone()
        return TakenInstances(taken, next_at)

    def _next_ready(
        self, worker: str, levels: Sequence[Level], now: float, query: _Excluding
    ) -> list[float]:
        later = [(*level, now, *query.names, worker) for level in levels]
        return self._first_of_each(query(self.queries.next_instance), later)

    def _next_left(
        self, worker: str, levels: Sequence[Level], now: float, query: _Excluding, sticky: float
    ) -> list[float]:
        """Return when the first of those that are left to other workers is not any more."""
        asked = [(*level, now, now - sticky, *query.names, worker) for level in levels]
        left = self._first_of_each(query(self.queries.next_sticky), asked)
        return [ready_at + sticky for ready_at in left]

    def _first_of_each(self, query: str, parameters: Sequence[Sequence[Any]]) -> list[float]:
        found = self.dialect.each(self.connection, query, parameters)
        return [rows[0][0] for rows in found if rows]

    def _lease_instances(
        self, worker: str, rows: Sequence[Sequence[Any]], lease: Update = LEASE_INSTANCES
    ) -> list[TakenInstance]:
        if not rows:
            return []
        leases: list[Any] = []
        for row in rows:
            leases += (row[0], worker)
        if self.dialect.write(self.connection, lease, leases) != len(rows):
            raise _NotLeased
        inboxes: dict[str, list[StoredMessage]] = {}
        if with_mail := [row[1] for row in rows if row[_UNREAD]]:
            found = self.dialect.among(self.connection, self.queries.inboxes, with_mail)
            for instance, *message in found:
                inboxes.setdefault(instance, []).append(StoredMessage(*message))
        died = int(lease is LEASE_SUSPECTS)
        return [self._taken_instance(row, inboxes.get(row[1], []), died) for row in rows]

    def _taken_instance(
        self, row: Sequence[Any], inbox: list[StoredMessage], died: int
    ) -> TakenInstance:
        _, id, execution, workflow, queue, input, *parent = row[:10]
        metadata, carried, turns, events, ready_at, wake_at, _, priority, life, deaths = row[10:]
        return TakenInstance(
            id=id,
            execution=execution,
            workflow=workflow,
            queue=queue,
            input=input,
            parent=self._parent(*parent),
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
        )

    def take_activities(
        self, worker: str, queues: Sequence[str], limit: int, exclude: Sequence[str]
    ) -> TakenActivities:
        now = self.clock()
        query = _Excluding("activity", exclude, self.dialect)
        levels = self._levels("activity", queues)

        def next_visible() -> float | None:
            asked = [(*level, now, *exclude) for level in levels]
            return min(self._first_of_each(query(self.queries.next_activity), asked), default=None)

        visible = self._with_any(query(self.queries.any_visible), levels, (now, *exclude))
        if not visible:  # see `take_instances`
            return TakenActivities([], next_visible())
        with suppress(_NotLeased), self.dialect.transaction(self.connection):
            if self._execute(self.queries.worker_alive, worker).fetchone() is None:
                return TakenActivities([], None)
            now = self.clock()
            read = query(self.queries.visible_activities)
            rows = self._by_level(read, visible, (now, *exclude), limit + 1, _by_visibility)
            leases: list[Any] = []
            for row in rows[:limit]:
                leases += (*row[:3], row[_LIFE], worker)
            if leases:
                leased = self.dialect.write(self.connection, LEASE_ACTIVITIES, leases)
                if leased != len(rows[:limit]):
                    raise _NotLeased
            next_at = rows[limit][9] if rows[limit:] else next_visible()
            return TakenActivities([activity_task(row) for row in rows[:limit]], next_at)
        return TakenActivities([], now)


def activity_task(row: Sequence[Any]) -> ActivityTask:
    """Build a task from a row of `Queries.visible_activities`."""
    instance, execution, command, activity, queue, input, options, attempt = row[:8]
    return ActivityTask(
        key=ActivityKey(instance, execution, command, row[_LIFE]),
        activity=activity,
        queue=queue,
        input=input,
        options=options,
        attempt=attempt,
        scheduled_at=row[8],
        failure=row[10],
        priority=row[11],
    )


def _by_readiness(row: Sequence[Any]) -> tuple[float, int]:
    return row[_READY_AT], row[0]


def _by_visibility(row: Sequence[Any]) -> tuple[Any, ...]:
    return row[9], row[8], row[0], row[2]


def _by_height(level: Level) -> int:
    return -level[1]


def _divided(levels: Sequence[Level]) -> tuple[list[Level], list[Level]]:
    """Return the levels of what is taken by all, and those of suspects."""
    apart = [level for level in levels if level[1] < SUSPECTS_BELOW]
    return [level for level in levels if level[1] >= SUSPECTS_BELOW], apart


class _Excluding:
    """Completes queries with what is not wanted."""

    def __init__(self, column: str, names: Sequence[str], dialect: Dialect) -> None:
        self.names = names
        marks = ", ".join("?" * len(names))
        self._clause = dialect.query(f"AND {column} NOT IN ({marks})") if names else ""

    def __call__(self, query: str) -> str:
        return query.replace("{exclude}", self._clause)
