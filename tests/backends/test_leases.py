"""No statement of an SQL store gives a lease to who has no row, or that somebody else has."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from tests.stores import marked, open_store
from trioflow.backends.commits import InstanceCommit, NewActivity, NewInstance, Unit
from trioflow.backends.sql.statements import LEASE_ACTIVITIES, LEASE_INSTANCES, LEASE_SUSPECTS

SQL = ("sqlite", "postgres", "mariadb")


@asynccontextmanager
async def stored(kind, path, servers):
    """Open a store with free instances and activities, and the worker ``w``; give both halves."""
    backend = open_store(kind, path, servers)()
    await backend.open()
    try:
        await backend.register_worker("w", "w")
        await backend.register_worker("other", "o")
        await backend.create([NewInstance(id, "flow", "q", b"[]") for id in "ab"])
        await backend.take_instances("w", ("q",), 9)
        new = [NewActivity(command, "act", "q", b"", leased=False) for command in ("0:0", "0:1")]
        commits = [
            InstanceCommit(id=id, execution=1, number=0, activities=new, leased=False, due=True)
            for id in "ab"
        ]
        assert await backend.commit("w", [Unit(instances=commits)]) == [None]
        yield backend, backend._store()
    finally:
        await backend.aclose()


def leased(store, worker):
    """Write leases of all kinds, for one row and for two; return how many were written."""
    now = store.clock()
    query = store.dialect.query("SELECT seq FROM instances ORDER BY seq")
    seqs = [seq for (seq,) in store.execute(query).fetchall()]
    keys = [("a", 1, "0:0", ""), ("a", 1, "0:1", "")]
    written = []
    for count in (1, 2):
        for statement in (LEASE_INSTANCES, LEASE_SUSPECTS):
            values = [value for seq in seqs[:count] for value in (seq, worker, now)]
            written.append(store.dialect.write(store.connection, statement, values))
        values = [value for key in keys[:count] for value in (*key, worker)]
        written.append(store.dialect.write(store.connection, LEASE_ACTIVITIES, values))
    return written


@pytest.mark.parametrize("kind", marked(SQL))
async def test_who_has_no_row_gets_nothing(kind, tmp_path, servers):
    async with stored(kind, tmp_path, servers) as (backend, store):
        await backend.release_worker("w")
        assert leased(store, "w") == [0] * 6


@pytest.mark.parametrize("kind", marked(SQL))
async def test_what_somebody_has_is_given_to_nobody_else(kind, tmp_path, servers):
    async with stored(kind, tmp_path, servers) as (backend, store):
        assert len((await backend.take_instances("other", ("q",), 9)).instances) == 2
        assert len((await backend.take_activities("other", ("q",), 9)).activities) == 4
        assert leased(store, "w") == [0] * 6


@pytest.mark.parametrize("kind", marked(SQL))
async def test_a_look_that_somebody_was_faster_than_takes_nothing(kind, tmp_path, servers):
    async with stored(kind, tmp_path, servers) as (backend, store):
        write, asked = store.dialect.write, []

        def late(connection, statement, values):
            asked.append(statement)
            return write(connection, statement, values) - 1

        store.dialect.write = late
        taken = await backend.take_instances("w", ("q",), 9)
        assert (taken.instances, taken.next_at is None) == ([], False)
        tasks = await backend.take_activities("w", ("q",), 9)
        assert (tasks.activities, tasks.next_at is None) == ([], False)
        assert asked == [LEASE_INSTANCES, LEASE_ACTIVITIES]
        del store.dialect.write
        assert len((await backend.take_instances("w", ("q",), 9)).instances) == 2
        assert len((await backend.take_activities("w", ("q",), 9)).activities) == 4


@pytest.mark.parametrize("kind", marked(SQL))
async def test_a_full_workers_look_without_its_row_gives_nothing(kind, tmp_path, servers):
    async with stored(kind, tmp_path, servers) as (backend, store):
        await backend.take_instances("w", ("q",), 9)
        await backend.send("a", b"event")
        store.execute(store.dialect.query("DELETE FROM workers WHERE id = 'w'"))
        assert (await backend.take_instances("w", ("q",), 0)).instances == []
        assert await backend.reclaim(1e6) == ["w"]
        taken = await backend.take_instances("other", ("q",), 9, suspect=True)
        assert [one.id for one in taken.instances] == ["a"]
