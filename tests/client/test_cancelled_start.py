"""A start that is cancelled never began, or returns its handle: nobody has to guess."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest
import trio

from tests.stores import PassesOn, opened
from tests.worker.flow import in_memory, until
from trioflow import BackendUnavailable, InstanceAlreadyExists, Registry, open_client, open_worker
from trioflow.backends.memory import MemoryBackend

flows = Registry()


@flows.workflow
async def echo(n: int) -> int:
    return n


class Slow(PassesOn):
    """Passes all calls on; what creates an instance waits until it is let through."""

    def __init__(self, backend):
        super().__init__(backend)
        self.asked = anyio.Event()
        self.go = anyio.Event()
        self.lose_answer = False

    async def commit(self, worker, units):
        if not any(commit.new for unit in units for commit in unit.instances):
            return await self._backend.commit(worker, units)
        async with self._handed_over():
            return await self._backend.commit(worker, units)

    async def create(self, instances, **options):
        async with self._handed_over():
            if self.lose_answer:
                await self._backend.create(instances, **options)  # and then the call is made again
            return await self._backend.create(instances, **options)

    @asynccontextmanager
    async def _handed_over(self):
        """As stores do: cancelled before, or waited for."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        self.asked.set()
        with anyio.CancelScope(shield=True):
            await self.go.wait()
            yield


@pytest.fixture(params=["inside", "outside"])
def place(request):
    """Through whose client: a worker's, that begins it at once, or another one's."""
    return request.param


@asynccontextmanager
async def with_client(cached, place):
    slow = Slow(await cached.backend())
    if place == "inside":
        async with cached.worker(flows, backend=slow) as worker:
            yield slow, worker.client
    else:
        async with open_client(slow, registry=flows) as client:
            yield slow, client


async def test_before_anything_was_handed_over(cached, place):
    async with with_client(cached, place) as (slow, client):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await client.start(echo, 1)
        assert scope.cancelled_caught
        slow.go.set()
        # What is started afterwards is stored after what was started before.
        await client.start(echo.options(id="after"), 2)
        assert await client.count() == 1


async def test_when_it_was_handed_over(cached, place):
    handles, ended = [], []

    async def start(client, scope):
        with scope:
            handles.append(await client.start(echo, 5))
            await anyio.sleep_forever()
        ended.append(scope.cancelled_caught)

    async with with_client(cached, place) as (slow, client):
        scope = anyio.CancelScope()
        async with anyio.create_task_group() as group:
            group.start_soon(start, client, scope)
            await slow.asked.wait()
            scope.cancel()
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            assert (handles, ended) == ([], [])
            slow.go.set()
        assert ended == [True]
        assert [d.id for d in await client.list()] == [handles[0].id]
        if place == "inside":
            assert await handles[0].result() == 5


@pytest.mark.parametrize(
    "cached", [("sqlite", "asyncio", 1000)], ids=["sqlite-asyncio"], indirect=True
)
async def test_when_a_task_of_asyncio_is_cancelled_by_itself(cached):
    handles = []

    async def start(client):
        handles.append(await client.start(echo.options(id="x"), 5))

    async with with_client(cached, "inside") as (slow, client):
        task = asyncio.ensure_future(start(client))
        await slow.asked.wait()
        for _ in range(2):
            task.cancel("enough")
            await asyncio.sleep(0)
        assert not task.done()
        slow.go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not handles
        assert await client.handle("x", echo).result() == 5


class Away(MemoryBackend):
    """Nothing new can be stored, until it is back."""

    away = True

    async def commit(self, worker, units):
        if self.away and any(commit.new for unit in units for commit in unit.instances):
            raise BackendUnavailable("out to lunch")
        return await super().commit(worker, units)


async def test_a_store_that_is_away_does_not_keep_the_program_from_ending(caplog, clock):
    async with (
        opened(in_memory(clock, Away)) as backend,
        open_worker(backend, registry=flows, drain=0) as worker,
    ):
        began = trio.current_time()
        with (
            trio.move_on_after(1),
            pytest.raises(BackendUnavailable, match="start of instance"),
        ):
            await worker.client.start(echo.options(id="x"), 5)
        assert 10 < trio.current_time() - began < 13
        # Without a cancellation it is waited for.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.client.run, echo.options(id="y"), 5)
            await trio.sleep(100)
            backend.away = False
        assert {d.status for d in await worker.client.list()} == {"completed"}


async def test_what_was_stored_though_its_answer_was_lost_is_ones_own(cached):
    async with with_client(cached, "outside") as (slow, client):
        slow.lose_answer = True
        slow.go.set()
        handle = await client.start(echo.options(id="x"), 5)
        assert (await handle.describe()).input == {"n": 5}
        slow.lose_answer = False
        with pytest.raises(InstanceAlreadyExists):
            await client.start(echo.options(id="x"), 5)


async def test_a_cancelled_start_of_a_taken_id_says_so(cached, place):
    """It was handed over, so its outcome comes first; the cancellation at the next wait."""
    came = []

    async def start(client, scope):
        with scope:
            try:
                await client.start(echo.options(id="x"), 5)
            except InstanceAlreadyExists as exc:
                came.append(exc)
            await anyio.sleep_forever()
        came.append(scope.cancelled_caught)

    async with with_client(cached, place) as (slow, client):
        async with cached.client(flows) as other:
            await other.start(echo.options(id="x", queue="nobody"), 1)
        scope = anyio.CancelScope()
        async with anyio.create_task_group() as group:
            group.start_soon(start, client, scope)
            await slow.asked.wait()
            scope.cancel()
            slow.go.set()
        assert [type(each) for each in came] == [InstanceAlreadyExists, bool]

        async def alone():
            return await client.count() == 1

        await until(alone)
