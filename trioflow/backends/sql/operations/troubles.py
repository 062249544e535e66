"""Instances in trouble: which ones, and how many.

Theory. Each kind of trouble is found in two ways. Its own indexes give *candidates*: some of the
instances that are in it, at a cost that grows with what is unfinished at most. If they are few, a
list or a count looks at them alone. If they are many, some are soon found among the newest of the
running ones, which are looked through in the order of the list: then clauses say of one instance
whether it is in that trouble. What is finished is read by neither.

A subquery that must be looked up for each instance is written so that no planner makes a join of
it, which would read all that the trouble means.
"""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import Trouble
from trioflow.backends.sql.operations.served import served_queues
from trioflow.backends.sql.store import SqlStore

__all__ = ["MOST_TROUBLES", "candidates", "newest_before", "trouble_clauses", "troubles"]

MOST_TROUBLES = 1000
"""`Backend.troubles` counts so far; and so many instances at most are looked at one by one."""

_RUNNING = "instances.finished_at IS NULL AND instances.status = 'running'"
_FREE = "instances.worker IS NULL AND instances.ready_at <= ?"
# The activities of an instance's present execution.
_OWN = """t.instance = instances.id AND t.execution = instances.execution
    AND t.life = instances.life"""
# What was unread when it was taken has no time; what came later makes it ready from then on.
_HAS_WORK = """(instances.turns = 0 OR instances.wake_at <= ? OR instances.ready_at <= ?
    OR instances.unread > 0 AND instances.ready_at IS NULL)"""


class _Part(NamedTuple):
    """One way of being in a trouble: by the instance's row, or by one of its activities.

    ``clause`` is about the columns of ``instances``, or those of its activity ``t``.
    """

    clause: str
    parameters: tuple[Any, ...]
    by_activity: bool


def _parts(store: SqlStore, kind: Trouble, after: float) -> list[_Part]:
    """Return the ways of being in a trouble, one of which must hold; for a running instance."""
    now = store.clock()
    if kind == "retrying":
        return [_Part("t.attempt > 1", (), by_activity=True)]
    if kind == "overdue":
        since = now - after
        return [
            _Part(_FREE, (since,), by_activity=False),
            _Part("t.worker IS NULL AND t.visible_at <= ?", (since,), by_activity=True),
        ]
    if kind == "unserved":
        queues, activity_queues = served_queues(store, now)
        return [
            *_outside(_FREE, "instances.queue", now, queues, by_activity=False),
            *_outside(
                "t.worker IS NULL AND t.visible_at <= ?",
                *("t.queue", now, activity_queues),
                by_activity=True,
            ),
        ]
    since = now - after
    living = [row[0] for row in store.execute(store.queries.living_ids, now).fetchall()]
    lost = f"NOT IN ({', '.join('?' * len(living))})" if living else "IS NOT NULL"
    stuck = f"coalesce(instances.held_at, instances.created_at) <= ? AND {_HAS_WORK}"
    return [
        _Part(
            f"instances.worker IS NOT NULL AND (instances.worker {lost} OR {stuck})",
            (*living, since, since, since),
            by_activity=False,
        ),
        _Part(f"t.worker IS NOT NULL AND t.worker {lost}", tuple(living), by_activity=True),
    ]


def _outside(
    waits: str, queue: str, now: float, served: list[str] | None, *, by_activity: bool
) -> list[_Part]:
    """Return what waits in a queue that nobody serves; nothing if somebody may serve any."""
    if served is None:
        return []
    among = f" AND {queue} NOT IN ({', '.join('?' * len(served))})" if served else ""
    return [_Part(waits + among, (now, *served), by_activity)]


def trouble_clauses(store: SqlStore, where: InstanceFilter) -> tuple[list[str], list[Any]]:
    """Return the clauses that say of an instance that it is in the trouble that a filter means."""
    if where.trouble is None:
        return [], []
    if where.trouble == "suspended":
        return ["instances.status = 'suspended'", "instances.finished_at IS NULL"], []
    ways: list[str] = []
    parameters: list[Any] = []
    for part in _parts(store, where.trouble, where.trouble_after):
        ways.append(
            f"(SELECT 1 FROM activities AS t WHERE {_OWN} AND {part.clause} LIMIT 1) IS NOT NULL"  # noqa: S608 - our words
            if part.by_activity
            else f"({part.clause})"
        )
        parameters += part.parameters
    clauses = [_RUNNING, f"({' OR '.join(ways) or '1 = 0'})"]
    if where.trouble == "overdue":
        # Implied, and said first: the newest, which are looked through first, are soon passed over.
        clauses.insert(0, "instances.created_at <= ?")
        parameters.insert(0, store.clock() - where.trouble_after)
    return clauses, parameters


def newest_before(store: SqlStore, moment: float) -> int:
    """Return the number of the newest instance that was created before a moment, 0 for none.

    The list is in the order of these numbers, and so in that of their times, unless a clock was set
    back: then some are found later than they might be.
    """
    numbers = "SELECT seq, created_at FROM instances {where} ORDER BY seq DESC LIMIT 1"
    newest = store.execute(store.dialect.query(numbers.format(where=""))).fetchone()
    if newest is None or newest[1] <= moment:
        return 0 if newest is None else int(newest[0])
    until = store.dialect.query(numbers.format(where="WHERE seq <= ?"))
    before, after = 0, int(newest[0])  # halved until nothing is between them
    while before < after - 1:
        middle = (before + after) // 2
        found = store.execute(until, middle).fetchone()
        if found is None or found[1] <= moment:
            before = middle
        else:
            after = int(found[0])
    return before


def candidates(store: SqlStore, kind: Trouble, after: float, most: int) -> list[str]:
    """Return the ids of instances that are in a trouble, ``most`` of them at most, in any order."""
    if kind == "suspended":
        query = _among("instances.finished_at IS NULL AND instances.status = 'suspended'")
        return _ids(store, query, (most,))
    found: dict[str, None] = {}
    for part in _parts(store, kind, after):
        running = _RUNNING.replace("instances.status", f"{store.dialect.unindexed}instances.status")
        query = _among(f"{running} AND ({part.clause})")
        if part.by_activity:
            # CROSS, so that SQLite reads the activities first: they have indexes for this.
            query = f"""SELECT DISTINCT instances.id FROM activities AS t CROSS JOIN instances
                WHERE {_OWN} AND {_RUNNING} AND {part.clause} LIMIT ?"""  # noqa: S608 - our words
        found |= dict.fromkeys(_ids(store, query, (*part.parameters, most)))
        if len(found) >= most:
            break
    return list(found)[:most]


def _among(clause: str) -> str:
    return f"SELECT instances.id FROM instances WHERE {clause} LIMIT ?"  # noqa: S608 - our words


def _ids(store: SqlStore, query: str, parameters: tuple[Any, ...]) -> list[str]:
    return [row[0] for row in store.execute(store.dialect.query(query), *parameters).fetchall()]


def troubles(store: SqlStore, after: float) -> dict[Trouble, int]:
    """See `Backend.troubles`."""
    return {kind: len(candidates(store, kind, after, MOST_TROUBLES)) for kind in get_args(Trouble)}
