"""A worker that was declared dead, and does not know it yet, writes nothing."""

from __future__ import annotations

import pytest
import trio

from tests.stores import PassesOn
from trioflow import Registry, activity_info, open_client, open_worker
from trioflow.backends.memory import MemoryBackend
from trioflow.backends.records import Heartbeat, TakenActivities, TakenInstances
from trioflow.backends.sqlite.backend import SqliteBackend

PATIENCE = 20  # seconds, for what takes much less


class Deaf(PassesOn):
    """Passes everything on, but keeps from a worker that it was buried, until it commits."""

    def __init__(self, store):
        super().__init__(store)
        self.deaf = False
        self.registered = trio.Event()

    async def register_worker(self, *args, **kwargs):
        await self._backend.register_worker(*args, **kwargs)
        self.registered.set()

    async def commit(self, worker, units):
        self.deaf = False
        return await self._backend.commit(worker, units)

    async def take_instances(self, *args, **kwargs):
        if self.deaf:
            return TakenInstances([], None)
        return await self._backend.take_instances(*args, **kwargs)

    async def take_activities(self, *args, **kwargs):
        if self.deaf:
            return TakenActivities([], None)
        return await self._backend.take_activities(*args, **kwargs)

    def heartbeat(self, worker):
        return Heartbeat(alive=True) if self.deaf else self._backend.heartbeat(worker)


def build(gates, begun):
    """Make a workflow of one activity, whose n-th attempt waits for the n-th gate."""
    registry = Registry()

    @registry.activity
    async def guarded(value: int) -> int:
        attempt = activity_info().attempt
        begun[attempt - 1].set()
        await gates[attempt - 1].wait()
        return value + attempt

    @registry.workflow
    async def flow(value: int) -> int:
        with trio.move_on_after(3600):
            value = await guarded(value)
        return await guarded(value) if value < 0 else value

    return registry, flow


async def stored(handle):
    """Return what the worker that was buried could have changed."""
    now = await handle.describe()
    return now.status, now.turns, now.unread, now.activities, await handle.history()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("ends", ["while the other one works", "after the other one"])
async def test_what_a_buried_worker_finishes_is_not_stored(kind, ends, tmp_path, caplog):
    gates, begun = [trio.Event(), trio.Event()], [trio.Event(), trio.Event()]
    registry, flow = build(gates, begun)
    store = MemoryBackend() if kind == "memory" else SqliteBackend(tmp_path / "store.db")
    await store.open()
    first_store = Deaf(store)
    with trio.fail_after(PATIENCE):
        async with (
            open_client(store, registry=registry) as client,
            open_worker(first_store, registry=registry, drain=0.0, name="first"),
        ):
            handle = await client.start(flow, 100)
            await begun[0].wait()
            first_store.registered, first_store.deaf = trio.Event(), True
            await store.reclaim(-1.0)
            async with open_worker(store, registry=registry, drain=0.0):
                await begun[1].wait()
                if ends == "after the other one":
                    gates[1].set()
                    assert await handle.result() == 102
                before = await stored(handle)
                gates[0].set()  # the first worker has its result, and commits it
                await first_store.registered.wait()
                assert await stored(handle) == before
                gates[1].set()
                assert await handle.result() == 102
            # The woken worker goes on, as a new one.
            assert await client.run(flow, 200) == 201
    await store.aclose()
    assert "declared dead" in caplog.text
