"""A look costs the same, however much waits for a place of a limit."""

from __future__ import annotations

import msgspec
import pytest

from tests.stores import ALL, marked, open_store, opened
from trioflow._model.limits import Limit
from trioflow.backends.abc import Backend
from trioflow.backends.commits import NewInstance, Unit
from trioflow.backends.resets import Beginning, Reset
from trioflow.testing.conformance.stage import DONE, TERMINATED, named, step

_FEW, _MANY = 50, 2_000


@pytest.mark.parametrize("store", marked(ALL))
async def test_looks_cost_the_same_however_many_instances_wait(store, tmp_path, servers):
    costs = []
    for number in (_FEW, _MANY):
        path = tmp_path / str(number)
        path.mkdir()
        async with opened(open_store(store, path, servers)()) as backend:
            await _let_wait(backend, number)
            work = _Work(store, backend)
            await work.prepare()
            before = await work.done()
            for _ in range(10):
                assert (await _take(backend)).next_at is None
            await backend.terminate("n0", TERMINATED)
            assert [one.id for one in (await _take(backend)).instances] == ["n1"]
            await _take(backend)
            costs.append(await work.done() - before)
    few, many = costs
    assert few > 0
    assert many < 1.5 * few


@pytest.mark.parametrize("store", marked(ALL))
@pytest.mark.parametrize("limit", [("queue", "default"), ("activity", "act")], ids=lambda it: it[0])
async def test_looks_cost_the_same_however_many_activities_wait(limit, store, tmp_path, servers):
    kind, name = limit
    costs = []
    for number in (_FEW, _MANY):
        path = tmp_path / str(number)
        path.mkdir()
        async with opened(open_store(store, path, servers)()) as backend:
            await backend.register_worker("w", "w")
            await backend.set_limit(Limit(kind=kind, name=name, concurrency=1))
            await backend.create([NewInstance("a", "flow", "default", b"[]")])
            await _take(backend)
            called = step("a", 0, activities=named(*(f"0:{n}" for n in range(number))))
            assert await backend.commit("w", [Unit(instances=[called])]) == [None]
            taken = await _take_activities(backend)
            assert len(taken.activities) == 1
            while taken.next_at is not None:
                taken = await _take_activities(backend)
            work = _Work(store, backend)
            await work.prepare()
            before = await work.done()
            for _ in range(10):
                taken = await _take_activities(backend)
                assert (taken.activities, taken.next_at, taken.limited) == ([], None, True)
            costs.append(await work.done() - before)
    few, many = costs
    assert few > 0
    assert many < 1.5 * few


@pytest.mark.parametrize("store", marked(("sqlite", "postgres", "mariadb")))
async def test_what_is_reset_while_it_waits_leaves_no_row(store, tmp_path, servers):
    begin = Beginning(turns=[b"{}"], events=1, carried=b"[]")
    again = Reset(
        id="a",
        execution=1,
        turns=2,
        ending=b"{}",
        beginning=begin,
        outcome=TERMINATED,
        inbox=[],
        life="",
    )
    async with opened(open_store(store, tmp_path, servers)()) as backend:
        await backend.register_worker("w", "w")
        await backend.set_limit(Limit(kind="workflow", name="flow", concurrency=1))
        await backend.create([NewInstance("a", "flow", "default", b"[]")])
        await _take(backend)
        for commit in (step("a", 0), step("a", 1, closing=DONE)):
            assert await backend.commit("w", [Unit(instances=[commit])]) == [None]
        await backend.create([NewInstance("b", "flow", "default", b"[]")])
        await _take(backend)
        assert await backend.reset(again) == "done"
        assert (await _take(backend)).instances == []
        assert await _rows_of_waiting(backend) == ["a"]
        again = msgspec.structs.replace(again, execution=2, turns=1)
        assert await backend.reset(again) == "done"
        assert await _rows_of_waiting(backend) == []
        assert await backend.terminate("b", TERMINATED) == "done"
        assert [one.id for one in (await _take(backend)).instances] == ["a"]


async def _rows_of_waiting(backend) -> list[str]:
    def read(store):
        return store.execute(store.dialect.query("SELECT id FROM waiting")).fetchall()

    return [id for (id,) in await backend._read(read)]


async def _take_activities(backend: Backend):
    return await backend.take_activities("w", ("default",), 10)


async def _let_wait(backend: Backend, number: int) -> None:
    await backend.register_worker("w", "w")
    await backend.set_limit(Limit(kind="workflow", name="flow", concurrency=1))
    news = [NewInstance(f"n{n}", "flow", "default", b"[]") for n in range(number)]
    await backend.create(news)
    taken = await _take(backend)
    assert [one.id for one in taken.instances] == ["n0"]
    while taken.next_at is not None:
        taken = await _take(backend)


async def _take(backend: Backend):
    return await backend.take_instances("w", ("default",), 10)


class _Work:
    """Counts what a store reads: steps of SQLite, rows of servers, commands of Redis.

    Args:
        store: Its kind.
        backend: Of which the connection is looked at.
    """

    def __init__(self, store: str, backend) -> None:
        self._store = store
        self._backend = backend
        self._steps = 0
        if store in ("memory", "sqlite"):
            self._connection().set_progress_handler(self._step, 1)

    async def prepare(self) -> None:
        """Let PostgreSQL know how its tables have grown, which it finds out within minutes."""
        if self._store == "postgres":
            await self._backend._run_alone(self._connection().execute, "ANALYZE")

    async def done(self) -> int:
        """Return how much it has done."""
        if self._store in ("memory", "sqlite"):
            return self._steps
        if self._store == "redis":
            import redis  # noqa: PLC0415

            with redis.Redis.from_url(self._backend.address.url) as client:
                return sum(each["calls"] for each in client.info("commandstats").values())
        return await self._backend._run_alone(self._rows)

    def _rows(self) -> int:
        execute = self._connection().execute
        if self._store == "mariadb":
            rows = execute("SHOW SESSION STATUS LIKE 'Handler_read%'").fetchall()
            return sum(int(number) for _, number in rows)
        execute("SELECT pg_stat_force_next_flush()").fetchall()
        query = """SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint
            FROM pg_stat_user_tables WHERE schemaname = ?"""
        return int(execute(query, (self._backend.schema,)).fetchone()[0])

    def _step(self) -> int:
        self._steps += 1
        return 0

    def _connection(self):
        return self._backend._store().connection
