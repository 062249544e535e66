"""Workers' rows, and what becomes of the work that a worker held.

Theory. A worker is alive as long as its row in ``workers`` exists. A lease is the id of a worker
in the column ``worker`` of an instance or of an activity; it has no time of its own. A worker
renews one row, its own, by `heartbeat` and by every commit; once that row is older than the lease
time, any other worker may *reclaim* it: the row is deleted, and all that carried its id is freed,
in one transaction.

Invariants:

- A row that was deleted never comes back: `heartbeat` and `commit` only update it.
- A lease is written only while the row exists, by a statement that demands it (see `taking`), and
  a commit begins by renewing the row. The database lets either that or the deletion be first. So
  what a reclaimed worker held is found by the one that deleted the row; and whoever loses the race
  writes nothing.
- Within `_free`, activities that are not marked are freed first, and then the marked ones ended:
  one that is marked between the two statements is seen by the second.

Suspects. What a dead worker held may have killed it. Its instances therefore become *suspects*:
their level (what the ready ones are sorted by) is lowered by a constant, so that they lie apart
from all others. They are taken one at a time, in isolation, by a worker that was asked to. Taking
one counts a death in advance and raises the level again; a stored turn sets the count to 0, and
whoever gives it back without a turn takes the death back and makes it a suspect again. The
transitions, with the statements that make them:

    ordinary --(its worker is reclaimed)--> suspect, free          `Queries.bury_instances`
    suspect, free --(taken in isolation)--> held, deaths + 1       `LEASE_SUSPECTS`
    held, deaths > 0 --(a turn is stored)--> ordinary, deaths 0    `STEP_INSTANCES`, …
    held, deaths > 0 --(given back)--> suspect, deaths - 1         `Queries.free_instances`, …
    held, deaths > 0 --(its worker is reclaimed)--> suspect        `Queries.bury_instances`

A worker that dies while it has a suspect in isolation dies because of that one: then its
activities are not blamed, and keep their ``attempt``.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from trioflow.backends.records import ActivityKey, Heartbeat
from trioflow.backends.sql.cleanup import end_cancelled
from trioflow.backends.sql.session import Session

__all__ = [
    "heartbeat",
    "recall",
    "reclaim",
    "register_worker",
    "release_instances",
    "release_worker",
]


def register_worker(
    session: Session,
    worker: str,
    name: str,
    served: tuple[Sequence[str], Sequence[str]],
    lease: float | None,
) -> None:
    """See `Backend.register_worker`; ``served`` are its queues and those of its activities."""
    queues = [msgspec.json.encode(each).decode() for each in served]
    with session.transaction():
        now = session.clock()
        session.execute(session.queries.register_worker, worker, name, now, *queues, lease)


def heartbeat(session: Session, worker: str) -> Heartbeat:
    """See `Backend.heartbeat`."""
    with session.transaction():
        now = session.clock()
        if not session.execute(session.queries.renew_worker, now, worker).rowcount:
            return Heartbeat(alive=False)
        rows = session.execute(session.queries.cancelled_of_worker, worker).fetchall()
    return Heartbeat(alive=True, cancelled=[ActivityKey(*row[:4]) for row in rows])


def reclaim(session: Session, lease: float) -> list[str]:
    """See `Backend.reclaim`."""
    session.measure_clock()
    clock, queries = session.clock, session.queries
    stale = session.execute(queries.stale_workers, clock() - lease).fetchall()
    reclaimed: list[str] = []
    for (worker,) in stale:
        with session.transaction():
            if session.execute(queries.bury_worker, worker, clock() - lease).rowcount:
                _free(session, worker, died=True)
                reclaimed.append(worker)
    for worker in _holders_without_row(session):
        with session.transaction():
            _free(session, worker, died=True)
            reclaimed.append(worker)
    return reclaimed


def _holders_without_row(session: Session) -> list[str]:
    """Return who holds something and has no row, though nobody should."""
    held = session.execute(session.queries.instances_without_row).fetchall()
    held += session.execute(session.queries.activities_without_row).fetchall()
    return sorted({worker for (worker,) in held})


def release_worker(session: Session, worker: str, died: bool) -> None:  # noqa: FBT001 - passed on
    """See `Backend.release_worker`."""
    with session.transaction():
        if session.execute(session.queries.delete_worker, worker).rowcount:
            _free(session, worker, died=died)


def release_instances(session: Session, worker: str, instances: Sequence[str]) -> list[str]:
    """See `Backend.release_instances`."""
    queries = session.queries
    released: list[str] = []
    with session.transaction():
        now = session.clock()
        for id in instances:
            if not session.execute(queries.release_instance, now, id, worker).rowcount:
                continue
            session.execute(queries.release_activities, now, id, worker, id)
            marked = session.execute(queries.cancelled_of_instance, id, worker, id)
            end_cancelled(session, marked.fetchall(), now)
            released.append(id)
    return released


def recall(session: Session, worker: str, keep: Sequence[ActivityKey]) -> None:
    """See `Backend.recall`."""
    queries = session.queries
    kept = {(key.instance, key.execution, key.command, key.life) for key in keep}
    with session.transaction():
        now = session.clock()
        session.execute(queries.recall_instances, now, worker, now)
        for key in session.execute(queries.activities_of_worker, worker).fetchall():
            if tuple(key) not in kept:
                session.execute(queries.recall_activity, now, *key, worker)
        marked = session.execute(queries.cancelled_of_worker, worker).fetchall()
        end_cancelled(session, [row for row in marked if tuple(row[:4]) not in kept], now)


def _free(session: Session, worker: str, *, died: bool) -> None:
    """Free what a worker held whose row is gone."""
    queries, now = session.queries, session.clock()
    # If it held an instance in isolation, that is to blame, and not its activities.
    blamed = died and session.execute(queries.isolated_of_worker, worker).fetchone()
    free = queries.bury_instances if died else queries.free_instances
    session.execute(free, now, now, worker)
    # First those that are not marked: what is marked meanwhile is found by what follows.
    session.execute(queries.free_activities, int(died and not blamed), now, worker)
    marked = session.execute(queries.cancelled_of_worker, worker).fetchall()
    end_cancelled(session, marked, now)
