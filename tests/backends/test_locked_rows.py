"""What somebody else has locked at the moment of a look is looked for again soon."""

from __future__ import annotations

import contextlib

import pytest

from tests.stores import connection_of, marked, open_store, opened
from trioflow._model.limits import Limit
from trioflow.backends.commits import InstanceCommit, NewActivity, NewInstance, Unit

STORES = ("postgres", "mariadb")


@contextlib.contextmanager
def locked(backend, table, column, value):
    """Have a row locked by a transaction that changes nothing, as a slow look of another worker."""
    schema = f'"{backend.schema}".' if backend.name == "postgres" else ""
    connection = connection_of(backend)()
    if backend.name == "postgres":
        connection.autocommit = False
    else:
        connection.begin()
    cursor = connection.cursor()
    cursor.execute(f"SELECT {column} FROM {schema}{table} WHERE {column} = '{value}' FOR UPDATE")
    assert len(cursor.fetchall()) == 1
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("store", marked(STORES))
async def test_an_instance(store, limited, tmp_path, servers):
    async with opened(open_store(store, tmp_path, servers)()) as backend:
        await backend.register_worker("w", "w")
        if limited:
            await backend.set_limit(Limit(kind="workflow", name="flow", concurrency=1))
        await backend.create([NewInstance("a", "flow", "default", b"[]")])
        with locked(backend, "instances", "id", "a"):
            taken = await backend.take_instances("w", ["default"], 5)
            assert taken.instances == []
            assert taken.next_at is not None
        (row,) = (await backend.take_instances("w", ["default"], 5)).instances
        assert row.id == "a"


@pytest.mark.parametrize("store", marked(STORES))
async def test_an_instance_that_waits_for_a_place(store, tmp_path, servers):
    async with opened(open_store(store, tmp_path, servers)()) as backend:
        await backend.register_worker("w", "w")
        await backend.set_limit(Limit(kind="workflow", name="flow", concurrency=1))
        await backend.create([NewInstance(id, "flow", "default", b"[]") for id in "ab"])
        (row,) = (await backend.take_instances("w", ["default"], 5)).instances
        await backend.terminate(row.id, b"{}")
        (other,) = {"a", "b"} - {row.id}
        with locked(backend, "instances", "id", other):
            taken = await backend.take_instances("w", ["default"], 5)
            assert taken.instances == []
            assert taken.next_at is not None
        (row,) = (await backend.take_instances("w", ["default"], 5)).instances
        assert row.id == other


@pytest.mark.parametrize("store", marked(STORES))
async def test_a_suspect(store, tmp_path, servers):
    async with opened(open_store(store, tmp_path, servers)()) as backend:
        await backend.register_worker("w", "w")
        await backend.register_worker("dead", "dead")
        await backend.create([NewInstance("a", "flow", "default", b"[]")])
        assert (await backend.take_instances("dead", ["default"], 5)).instances
        await backend.release_worker("dead", died=True)
        with locked(backend, "instances", "id", "a"):
            taken = await backend.take_instances("w", ["default"], 1, suspect=True)
            assert (taken.instances, taken.suspects) == ([], True)
            assert taken.next_at is not None
        taken = await backend.take_instances("w", ["default"], 1, suspect=True)
        assert [row.id for row in taken.instances] == ["a"]


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("store", marked(STORES))
async def test_an_activity(store, limited, tmp_path, servers):
    async with opened(open_store(store, tmp_path, servers)()) as backend:
        await backend.register_worker("w", "w")
        if limited:
            await backend.set_limit(Limit(kind="activity", name="act", concurrency=1))
        new = NewInstance("a", "flow", "default", b"[]", life="1" * 32)
        asked = [NewActivity("0:0", "act", "default", b"[]", leased=False)]
        commit = InstanceCommit(
            id="a", execution=1, number=0, new=new, life=new.life, turns=[b"{}"], activities=asked
        )
        assert await backend.commit("w", [Unit(instances=[commit])]) == [None]
        with locked(backend, "activities", "instance", "a"):
            taken = await backend.take_activities("w", ["default"], 5)
            assert taken.activities == []
            assert taken.next_at is not None
        (task,) = (await backend.take_activities("w", ["default"], 5)).activities
        assert task.key.instance == "a"
