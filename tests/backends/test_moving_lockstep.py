"""A store that is moved again and again does what the model does, in random sequences of calls."""

from __future__ import annotations

import contextlib
import secrets

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.backends.test_lockstep import Ticking
from trioflow._client.moving import StoreMove
from trioflow.backends.memory import MemoryBackend
from trioflow.backends.sqlite.backend import SqliteBackend
from trioflow.testing.lockstep import run_lockstep

FEW = settings(
    max_examples=6,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Wandering:
    """Passes calls on to a store; that moves to another one whenever no worker is left.

    With a worker it would not be the same store afterwards: what the worker holds would be free.
    """

    name = "wandering"
    shared = True

    def __init__(self, fresh):
        self._fresh = fresh
        self._store = None
        self.living: set[str] = set()
        self.moves = 0
        self.moved = 0

    async def open(self):
        self._store = self._fresh()
        await self._store.open()

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def register_worker(self, worker, name, **told):
        if not self.living:
            await self._move()
        self.living.add(worker)
        await self._store.register_worker(worker, name, **told)

    async def release_worker(self, worker, **how):
        self.living.discard(worker)
        await self._store.release_worker(worker, **how)

    async def reclaim(self, lease):
        dead = await self._store.reclaim(lease)
        self.living -= {*dead}
        return dead

    async def _move(self):
        source, destination = self._store, self._fresh()
        await destination.open()
        store = destination._store()

        def count_on(number):
            # The machine tries numbers of messages that are gone, which must not come again.
            store.execute("UPDATE counters SET value = ? WHERE name = 'inbox'", number)

        await destination._run(count_on, await highest(source))
        report = await StoreMove(source, destination).run()
        rows, common = await source.export(limit=999), await source.export_common()
        assert await destination.export(limit=999) == rows
        assert await destination.export_common() == common
        self.moves += 1
        self.moved += report.moved
        self._store = destination
        await source.aclose()


async def highest(backend):
    store = backend._store()

    def read():
        return store.execute("SELECT value FROM counters WHERE name = 'inbox'").fetchone()[0]

    return await backend._run(read)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["memory", pytest.param("sqlite", marks=pytest.mark.campaign)])
def test_whoever_is_moved_does_what_the_model_does(kind, tmp_path):
    clock = Ticking()
    all_of_them = []

    def fresh():
        if kind == "memory":
            return MemoryBackend(clock=clock)
        return SqliteBackend(tmp_path / f"{secrets.token_hex(8)}.db", clock=clock)

    @contextlib.asynccontextmanager
    async def empty_store():
        backend = Wandering(fresh)
        all_of_them.append(backend)
        await backend.open()
        try:
            yield backend
        finally:
            await backend.aclose()

    run_lockstep(wandering=empty_store, settings=FEW)
    assert sum(one.moves for one in all_of_them) > 6
    assert sum(one.moved for one in all_of_them) > 6
