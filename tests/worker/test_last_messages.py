"""What an instance accepted before it ended is seen by it."""

from __future__ import annotations

import anyio
import pytest
import trio

from tests.stores import PassesOn
from tests.worker.flow import Gate, until
from trioflow import InstanceFinished, Registry, Signal

number = Signal("number", int)


class Holding(PassesOn):
    """Passes all calls on; the commit that closes an instance waits until it is let through."""

    def __init__(self, backend):
        super().__init__(backend)
        self.closing = anyio.Event()
        self.go = anyio.Event()
        self.taking = anyio.Lock()  # whoever holds it keeps workers from seeing anything new

    async def take_instances(self, *args, **options):
        async with self.taking:
            return await self._backend.take_instances(*args, **options)

    async def commit(self, worker, units):
        if any(commit.closing for unit in units for commit in unit.instances):
            self.closing.set()
            await self.go.wait()
        return await self._backend.commit(worker, units)


async def test_a_signal_between_the_last_turn_and_its_commit(cached):
    flows = Registry()

    @flows.workflow
    async def drains() -> int:
        await trio.sleep(0)
        total = 0
        while True:
            try:
                total += number.receive_nowait()
            except trio.WouldBlock:
                return total

    holding = Holding(await cached.backend())
    async with cached.client(flows) as client, cached.worker(flows, backend=holding):
        handle = await client.start(drains.options(id="one"))
        await holding.closing.wait()
        await handle.signal(number, 5)
        holding.go.set()
        assert await handle.result() == 5
        with pytest.raises(InstanceFinished):
            await handle.signal(number, 6)


async def test_a_cancel_between_the_last_turn_and_its_commit(cached):
    """It came too late for the workflow, which has no more waits: the result stands."""
    flows = Registry()

    @flows.workflow
    async def ends() -> str:
        await trio.sleep(0)
        return "done"

    holding = Holding(await cached.backend())
    async with cached.client(flows) as client, cached.worker(flows, backend=holding):
        handle = await client.start(ends.options(id="one"))
        await holding.closing.wait()
        await handle.cancel("too late?")
        holding.go.set()

        async def ended():
            return (await handle.describe()).status != "running"

        await until(ended)
        # The turn is made again, with the cancel before it: `sleep(0)` is a checkpoint.
        assert (await handle.describe()).status == "cancelled"


async def test_a_flood_of_signals_while_it_drains(cached):
    flows = Registry()

    @flows.workflow
    async def drains() -> int:
        await number.receive()
        total = 1
        while True:
            try:
                number.receive_nowait()
            except trio.WouldBlock:
                return total
            total += 1

    accepted = 0
    async with cached.worker(flows), cached.client(flows) as client:
        for _ in range(5):
            handle = await client.start(drains)
            sent = 0
            try:
                for n in range(40):
                    await handle.signal(number, n)
                    sent += 1
            except InstanceFinished:
                pass
            assert await handle.result() == sent
            accepted += sent
    assert accepted


async def test_a_signal_while_the_worker_drains_keeps_the_result(cached):
    """The last turn cannot be stored, since nothing is taken any more; what it consumed is."""
    flows = Registry()
    runs = []

    @flows.activity
    async def act() -> str:
        runs.append(1)
        await gate[0].wait()
        return "done"

    @flows.workflow
    async def work() -> str:
        return await act()

    gate = []

    gate.append(Gate())
    holding = Holding(await cached.backend())
    async with cached.client(flows) as client:
        async with cached.worker(flows, backend=holding, drain=5) as worker:
            handle = await client.start(work.options(id="one"))
            await gate[0].until_entered()
            worker._pump.close()
            await holding.taking.acquire()
            await handle.signal(number, 1)
            gate[0].open()
            holding.go.set()
        assert (await handle.describe()).status == "running"
        async with cached.worker(flows):
            assert await handle.result() == "done"
    assert runs == [1]
