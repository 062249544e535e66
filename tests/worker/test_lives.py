"""An id's earlier life does not reach into the next one."""

from __future__ import annotations

import anyio
import pytest
import trio

from tests.worker.flow import Gate, until
from trioflow import Registry, activity_info, uuid4


class Jobs:
    """A workflow whose activity waits at a gate in its first life."""

    def __init__(self):
        self.flows = flows = Registry()
        self.running = set()
        self.keys = []

        @flows.activity
        async def job(n: int) -> int:
            self.running.add(n)
            self.keys.append(activity_info().idempotency_key)
            try:
                if n == 1:
                    await self.gate.wait()
            finally:
                self.running.discard(n)
            return n

        @flows.workflow
        async def flow(n: int) -> int:
            return await job(n)

        @flows.workflow
        async def idle(n: int) -> str:
            return f"{n}: {uuid4()}"

        self.flow, self.idle = flow, idle

    async def until_running(self):
        async def there():
            return 1 in self.running

        await until(there)


@pytest.mark.parametrize("removed", [False, True], ids=["again", "removed"])
@pytest.mark.parametrize("where", ["outside", "inside"])
async def test_terminated_and_started_again_at_once(cached, where, removed):
    jobs = Jobs()

    jobs.gate = Gate()
    async with cached.worker(jobs.flows) as worker, cached.client(jobs.flows) as outside:
        client = outside if where == "outside" else worker.client
        await client.start(jobs.flow.options(id="order"), 1)
        await jobs.until_running()
        await client.handle("order").terminate("again, with other data")
        if removed:
            await client.handle("order").remove()
        handle = await client.start(jobs.flow.options(id="order"), 2)
        assert await handle.result() == 2
        assert not jobs.running  # it was stopped before the new life began

        async def stopped():
            return not jobs.running

        await until(stopped)
        assert jobs.gate.left in (["Cancelled"], ["CancelledError"])
    assert len(set(jobs.keys)) == 2


async def test_a_result_of_the_life_before_is_dropped(cached):
    jobs = Jobs()

    jobs.gate = Gate()
    async with (
        cached.client(jobs.flows) as client,
        cached.worker(jobs.flows, workflows=False, drain=5),
        cached.worker(jobs.flows, activities=False),
    ):
        await client.start(jobs.flow.options(id="order"), 1)
        await jobs.until_running()
        await client.handle("order").terminate("again")
        await client.handle("order").remove()
        handle = await client.start(jobs.flow.options(id="order"), 5)
        assert await handle.result() == 5


async def test_keys_and_uuids_are_of_one_life(cached):
    jobs = Jobs()

    jobs.gate = Gate()
    said = set()
    async with cached.worker(jobs.flows) as worker:
        for _ in range(2):
            for workflow in (jobs.idle, jobs.flow):
                handle = await worker.client.start(workflow.options(id="order"), 7)
                said.add(await handle.result())
                await handle.remove()
    assert len(said) == 3  # 7, and two different texts
    assert len(set(jobs.keys)) == 2


async def test_a_start_while_the_terminated_one_commits(sqlite):
    """The worker still speaks of the old life in its open batch when it is given the new one."""
    flows = Registry()
    begun = []

    @flows.activity
    async def quick(n: int) -> int:
        return n

    @flows.workflow
    async def busy(n: int) -> int:
        begun.append(n)
        for _ in range(200 if n < 20 else 20):  # so that it commits when it is terminated
            await quick(n)
        if n < 20:
            await trio.sleep_forever()
        return n

    async with sqlite.worker(flows) as worker, sqlite.client(flows) as client:
        for n in range(20):
            handle = await client.start(busy.options(id="one"), n)

            async def there(n=n):
                return n in begun

            await until(there)
            await client.handle("one").terminate("next")
            del handle
        last = await client.start(busy.options(id="one"), 99)
        assert await last.result() == 99
        with anyio.fail_after(30):
            assert await worker.client.run(busy, 30) == 30
