"""Workers remove what ended long ago, and nothing that is needed."""

from __future__ import annotations

import anyio
import pytest
import trio

from tests.stores import opened
from tests.worker.flow import in_memory, until
from trioflow import (
    InstanceNotFound,
    Registry,
    Signal,
    activity_info,
    continue_as_new,
    open_client,
    open_worker,
)
from trioflow.backends.memory import MemoryBackend
from trioflow.errors import BackendUnavailable

DAY = 86400.0

number = Signal("number", int)


def shop():
    flows = Registry()

    @flows.activity
    async def key() -> str:
        return activity_info().idempotency_key

    @flows.workflow
    async def keyed() -> str:
        return await key()

    @flows.workflow
    async def counting(n: int = 0) -> int:
        if n == 3:
            return n + await number.receive()
        continue_as_new(n + 1)

    @flows.workflow
    async def child() -> int:
        return 7

    @flows.workflow
    async def parent() -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.options(id="child"))
            await trio.sleep(10 * DAY)
        return await child.options(id="other child")()

    return flows, keyed, counting, parent


async def test_old_instances_and_executions_are_removed_on_every_store(cached):
    """Also, a key of an activity never comes again, though its instance was removed."""
    flows, keyed, counting, _ = shop()
    kept = {"keep_finished": 0.05, "keep_executions": 0.05}
    async with cached.worker(flows) as worker, cached.client(flows) as client:
        first = await worker.client.start(keyed.options(id="x"))
        before = await first.result()
        living = await client.start(counting.options(id="y"))

        async def waits():
            return (await living.describe()).execution == 4

        await until(waits)
        assert len((await client.handle("y").describe()).earlier) == 3
        async with cached.worker(Registry(), **kept):

            async def gone():
                earlier = (await client.handle("y").describe()).earlier
                return not earlier and not await client.count(workflow=keyed)

            await until(gone)
        with pytest.raises(InstanceNotFound):
            await first.result()
        d = await client.handle("y").describe()
        assert (d.execution, d.status, d.earlier) == (4, "running", [])
        assert [each.number for each in await living.history()] == [4]
        await living.signal(number, 1)
        assert await living.result() == 4
        again = await client.start(keyed.options(id="x"))
        after = await again.result()
        assert (await again.describe()).execution == 1
        assert before != after


async def test_what_was_removed_was_not_needed(clock):
    """A parent goes on whose child is gone, though its own worker was away in between."""
    flows, _, _, parent = shop()
    async with opened(in_memory(clock)) as backend, open_client(backend, registry=flows) as client:
        async with open_worker(backend, registry=flows, drain=0) as worker:
            handle = await worker.client.start(parent)
            await client.handle("child").result()
            await handle.pause()
        async with open_worker(backend, registry=Registry(), drain=0, keep_finished=DAY):
            await trio.sleep(2 * DAY)
            with pytest.raises(InstanceNotFound):
                await client.handle("child").describe()
        await client.handle(handle.id).resume()
        async with open_worker(backend, registry=flows, drain=0, keep_finished=DAY):
            assert await client.handle(handle.id, parent).result() == 7


class Flaky(MemoryBackend):
    """A store that is away at first, and tells of the batches."""

    away = 2

    def __init__(self, **options):
        super().__init__(**options)
        self.batches = []

    async def remove(self, where, *, ids=None, limit):
        if self.away:
            self.away -= 1
            raise BackendUnavailable("away")
        removed = await super().remove(where, ids=ids, limit=limit)
        self.batches.append((trio.current_time(), removed))
        return removed


async def test_it_works_in_batches_and_tries_again(clock, monkeypatch):
    monkeypatch.setattr("trioflow._worker.retention._BATCH", 3)
    flows, keyed, _, _ = shop()
    async with opened(in_memory(clock, Flaky)) as backend:
        async with open_worker(backend, registry=flows, drain=0) as worker:
            async with anyio.create_task_group() as group:
                for n in range(7):
                    group.start_soon(worker.client.run, keyed.options(id=f"x{n}"))
            start = trio.current_time()
        async with open_worker(backend, registry=Registry(), drain=0, keep_finished=DAY):
            await trio.sleep(1.5 * DAY)
        removed = [(at, number) for at, number in backend.batches if number]
        assert [number for _, number in removed] == [3, 3, 1]
        assert DAY <= removed[0][0] - start <= DAY + 3600
        assert len(backend.batches) < 1.5 * DAY / 3600 + 5


@pytest.mark.parametrize("option", ["keep_finished", "keep_executions"])
async def test_times_are_checked(option):
    with pytest.raises(ValueError, match=f"{option} is a number of seconds, above 0"):
        open_worker("memory://", **{option: 0})
    with pytest.raises(TypeError, match=option):
        open_worker("memory://", **{option: "1d"})
