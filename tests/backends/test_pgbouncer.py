"""PostgreSQL behind PgBouncer in transaction mode: no session of one's own, and no LISTEN."""

from __future__ import annotations

import contextlib
import itertools

import pytest
import trio

psycopg = pytest.importorskip("psycopg")

from tests.servers import pgbouncer, postgres, required  # noqa: E402
from tests.stores import Clock  # noqa: E402
from trioflow import Registry, Signal, open_client, open_worker  # noqa: E402
from trioflow.backends.commits import NewInstance  # noqa: E402
from trioflow.backends.postgres.backend import PostgresBackend  # noqa: E402
from trioflow.errors import BackendUnavailable  # noqa: E402
from trioflow.testing.conformance import Stage, conformance_cases  # noqa: E402

pytestmark = pytest.mark.servers

_numbers = itertools.count()
registry = Registry()
go = Signal("go", int)
runs = []


@registry.activity
async def double(number: int) -> int:
    runs.append(number)
    return 2 * number


@registry.workflow
async def gated(number: int) -> int:
    return await double(number) + await go.receive()


@pytest.fixture
def url(servers):
    return servers.url("pgbouncer")


@pytest.fixture
def schema():
    return f"pooled_{next(_numbers)}"


@pytest.mark.parametrize("case", conformance_cases(), ids=lambda case: case.__name__)
async def test_contract(case, url, schema):
    clock = Clock()

    backend = PostgresBackend(url, schema=schema, pooled=True, clock=clock)
    await backend.open()
    try:
        await case(Stage(backend, clock.advance))
    finally:
        await backend.aclose()


async def test_more_workers_than_sessions_share_them(url, schema):
    store = f"{url}&schema={schema}&pooled=1"
    seen = []

    def look():
        with contextlib.closing(psycopg.connect(url, autocommit=True)) as admin:
            query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            seen.append(admin.execute(query).fetchone()[0])

    async with contextlib.AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(open_worker(store, registry=registry))
        client = await stack.enter_async_context(open_client(store, registry=registry))
        handles = [await client.start(gated, number) for number in range(60)]
        async with trio.open_nursery() as nursery:
            for handle in handles:
                nursery.start_soon(handle.signal, go, 1000)
            nursery.start_soon(trio.to_thread.run_sync, look)
        assert [await each.result() for each in handles] == [
            2 * number + 1000 for number in range(60)
        ]
    assert seen[0] <= pgbouncer.POOL


async def test_several_start_at_once(url, schema):
    backends = [PostgresBackend(url, schema=schema, pooled=True) for _ in range(6)]
    async with trio.open_nursery() as nursery:
        for backend in backends:
            nursery.start_soon(backend.open)
    for backend in backends:
        await backend.aclose()


async def test_another_backend_is_woken_by_asking(url, schema):
    one = PostgresBackend(url, schema=schema, pooled=True)
    other = PostgresBackend(url, schema=schema, pooled=True)
    await one.open()
    await other.open()
    try:
        seen = other.changes()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.wait_change, seen, 1000.0)
            await one.create([NewInstance("a", "flow", "default", b"[]")])
        assert other.changes() > seen
    finally:
        await one.aclose()
        await other.aclose()


async def test_a_pooler_that_is_killed_loses_nothing(tmp_path, schema):
    required("pgbouncer")
    runs.clear()

    with (
        postgres.start(tmp_path) as behind,
        contextlib.closing(pgbouncer.Server(tmp_path, behind)) as server,
    ):
        server.start()
        store = f"{server.url}&schema={schema}&pooled=1"
        async with open_worker(store, registry=registry) as worker:
            handles = [await worker.client.start(gated, number) for number in range(40)]
            await trio.to_thread.run_sync(server.kill)
            with pytest.raises(BackendUnavailable):
                await handles[0].describe()
            await trio.to_thread.run_sync(server.start)
            for handle in handles:
                await handle.signal(go, 1000)
            assert [await each.result() for each in handles] == [
                2 * number + 1000 for number in range(40)
            ]
            assert sorted(set(runs)) == list(range(40))
