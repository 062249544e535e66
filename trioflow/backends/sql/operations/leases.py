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

    ordinary --(its worker is reclaimed)--> suspect, free          `Queries.free_as_suspects`
    suspect, free --(taken in isolation)--> held, deaths + 1       `LEASE_SUSPECTS`
    held, deaths > 0 --(a turn is stored)--> ordinary, deaths 0    `STEP_INSTANCES`, …
    held, deaths > 0 --(given back)--> suspect, deaths - 1         `Queries.free_instances`, …
    held, deaths > 0 --(its worker is reclaimed)--> suspect        `Queries.free_as_suspects`

A worker that dies while it has a suspect in isolation dies because of that one: then its
activities are not blamed, and keep their ``attempt``.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from trioflow.backends.records import ActivityKey, Heartbeat
from trioflow.backends.sql.operations.cleanup import end_cancelled
from trioflow.backends.sql.store import SqlStore

__all__ = [
    "end_workers",
    "heartbeat",
    "recall",
    "reclaim",
    "register_worker",
    "release_instances",
    "release_worker",
]


def register_worker(
    store: SqlStore,
    worker: str,
    facts: tuple[str, float | None, str],
    served: tuple[Sequence[str], Sequence[str]],
) -> None:
    """See `Backend.register_worker`.

    Args:
        store: Where.
        worker: Its id.
        facts: Its name, its lease and its version.
        served: Its queues, and those of its activities.
    """
    name, lease, version = facts
    queues = [msgspec.json.encode(each).decode() for each in served]
    with store.transaction():
        # Locked: whoever changes the limits meanwhile changes them in this row as well.
        (limits,) = store.execute(store.limit_queries.version).fetchone()
        now = store.clock()
        row = (worker, name, now, *queues, lease, limits, now, version)
        store.execute(store.queries.register_worker, *row)


def heartbeat(store: SqlStore, worker: str) -> Heartbeat:
    """See `Backend.heartbeat`."""
    with store.transaction():
        now = store.clock()
        if not store.execute(store.queries.renew_worker, now, worker).rowcount:
            return Heartbeat(alive=False)
        rows = store.execute(store.queries.cancelled_of_worker, worker).fetchall()
    keys = [ActivityKey(*row[:4]) for row in rows]
    return Heartbeat(alive=True, cancelled=keys, events=[bytes(row[4]) for row in rows])


def reclaim(store: SqlStore, lease: float) -> list[str]:
    """See `Backend.reclaim`."""
    clock, queries = store.clock, store.queries
    expired = store.execute(queries.expired_workers, clock() - lease).fetchall()
    reclaimed: list[str] = []
    for (worker,) in expired:
        with store.transaction():
            if store.execute(queries.delete_expired_worker, worker, clock() - lease).rowcount:
                store.announce()  # in each transaction, since it is of one
                _free(store, worker, died=True)
                reclaimed.append(worker)
    for worker in _holders_without_row(store):
        with store.transaction():
            store.announce()
            _free(store, worker, died=True)
            reclaimed.append(worker)
    return reclaimed


def _holders_without_row(store: SqlStore) -> list[str]:
    """Return who holds something and has no row, though nobody should."""
    held = store.execute(store.queries.instances_without_row).fetchall()
    held += store.execute(store.queries.activities_without_row).fetchall()
    return sorted({worker for (worker,) in held})


def release_worker(store: SqlStore, worker: str, died: bool) -> None:  # noqa: FBT001 - passed on
    """See `Backend.release_worker`."""
    with store.transaction():
        if store.execute(store.queries.delete_worker, worker).rowcount:
            _free(store, worker, died=died)


def end_workers(store: SqlStore) -> None:
    """Delete the rows of all workers, which are to do no more, though they live.

    What they held is no suspect, but activities may have begun.
    """
    with store.transaction():
        rows = store.execute(store.queries.all_workers).fetchall()
        for worker in [*(worker for (worker,) in rows), *_holders_without_row(store)]:
            store.execute(store.queries.delete_worker, worker)
            _free(store, worker, died=False, begun=True)


def release_instances(store: SqlStore, worker: str, instances: Sequence[str]) -> list[str]:
    """See `Backend.release_instances`."""
    queries = store.queries
    released: list[str] = []
    with store.transaction():
        now = store.clock()
        for id in instances:
            if not store.execute(queries.release_instance, now, id, worker).rowcount:
                continue
            store.execute(queries.release_activities, now, id, worker, id)
            marked = store.execute(queries.cancelled_of_instance, id, worker, id)
            end_cancelled(store, marked.fetchall(), now)
            released.append(id)
    return released


def recall(store: SqlStore, worker: str, keep: Sequence[ActivityKey]) -> None:
    """See `Backend.recall`."""
    queries = store.queries
    kept = {(key.instance, key.execution, key.command, key.life) for key in keep}
    with store.transaction():
        now = store.clock()
        store.execute(queries.recall_instances, now, worker, now)
        for key in store.execute(queries.activities_of_worker, worker).fetchall():
            if tuple(key) not in kept:
                store.execute(queries.recall_activity, now, *key, worker)
        marked = store.execute(queries.cancelled_of_worker, worker).fetchall()
        end_cancelled(store, [row for row in marked if tuple(row[:4]) not in kept], now)


def _free(store: SqlStore, worker: str, *, died: bool, begun: bool = False) -> None:
    """Free what a worker held whose row is gone.

    ``begun``: count an attempt of its activities, though it has not died.
    """
    queries, now = store.queries, store.clock()
    store.execute(store.limit_queries.free_slots_of, worker)
    # If it held an instance in isolation, that is to blame, and not its activities.
    blamed = died and store.execute(queries.isolated_of_worker, worker).fetchone()
    free = queries.free_as_suspects if died else queries.free_instances
    store.execute(free, now, now, worker)
    # First those that are not marked: what is marked meanwhile is found by what follows.
    tried = int(begun or (died and not blamed))
    store.execute(queries.free_activities, tried, now, worker)
    marked = store.execute(queries.cancelled_of_worker, worker).fetchall()
    end_cancelled(store, marked, now)
