"""Activities in a worker's hands: whose turn it is, and what becomes of those given back."""

from __future__ import annotations

import anyio
import trio
import trio.testing

from tests.worker.flow import Gate
from trioflow import Registry, RetryPolicy, open_worker
from trioflow._worker.real_host import running_host
from trioflow.backends.memory import MemoryBackend


def timeless_host():
    """Return a host on which nothing waits for long, so that nothing is given back to the store."""
    host = running_host()
    host.monotonic = lambda: 0.0
    return host


async def test_what_needs_a_thread_has_its_turn_with_the_others(sqlite):
    flows = Registry()
    begun = []
    gates = []

    @flows.activity
    async def quick() -> None: ...

    @flows.activity
    def quick_in_a_thread() -> None: ...

    @flows.activity
    async def hold() -> None:
        await gates[0].wait()

    @flows.activity
    async def note(name: str) -> None:
        begun.append(name)

    @flows.activity(priority=5)
    def urgent(name: str) -> None:
        begun.append(name)

    @flows.activity
    def plain(name: str) -> None:
        begun.append(name)

    @flows.workflow
    async def work() -> None:
        for _ in range(30):
            await quick()  # so that more are held than may run
            await quick_in_a_thread()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold)
            nursery.start_soon(note, "1")
            nursery.start_soon(plain, "2")
            nursery.start_soon(note, "3")
            nursery.start_soon(urgent, "0")

    gates.append(Gate())
    async with sqlite.worker(flows, max_activities=1, make_host=timeless_host) as worker:
        handle = await worker.client.start(work)
        await gates[0].until_entered()
        (stats,) = await worker.client.stats()
        assert stats.running_activities == 5
        gates[0].open()
        await handle.result()
    assert begun == ["0", "1", "2", "3"]


class Slow(MemoryBackend):
    """Stores the turns of instances when it is let."""

    gate = None

    async def commit(self, worker, units):
        if self.gate is not None and any(unit.instances for unit in units):
            await self.gate.wait()
        return await super().commit(worker, units)


async def test_a_cancel_reaches_what_is_given_back_before_the_cancel_is_stored():
    flows = Registry()
    gates, begun = [], []

    @flows.activity(retry=RetryPolicy(initial_interval=3600, max_interval=3600))
    async def flaky() -> None:
        begun.append(1)
        await gates[0].wait()
        raise OSError

    @flows.activity
    async def reason() -> None:
        await gates[1].wait()

    @flows.workflow
    async def work() -> str:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flaky)
            await reason()
            nursery.cancel_scope.cancel()
        return "done"

    @flows.workflow
    async def other() -> None: ...

    gates.extend((Gate(), Gate()))
    backend = Slow()
    await backend.open()
    async with open_worker(backend, registry=flows, drain=0.0) as worker:
        handle = await worker.client.start(work)
        for gate in gates:
            await gate.until_entered()
        backend.gate = Gate()
        with anyio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.client.run, other)
                await backend.gate.until_entered()
                gates[1].open()
                await trio.testing.wait_all_tasks_blocked()
                gates[0].open()
                await trio.testing.wait_all_tasks_blocked()
                backend.gate.open()
                assert await handle.result() == "done"
    await backend.aclose()
    assert len(begun) == 1
