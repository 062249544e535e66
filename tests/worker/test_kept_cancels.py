"""A cancel that was committed is not forgotten, whoever dies before it has been obeyed."""

from __future__ import annotations

import anyio
import pytest
import trio

from tests.worker.flow import Dying, Gate, ends_in, moves_on_when_told, until, until_status
from trioflow import InstanceCancelled, Registry, RetryPolicy, activity_info


class Busy:
    """Definitions with an activity that does not stop when it is asked to."""

    def __init__(self):
        self.flows = flows = Registry()
        self.attempts = []
        self.asked = anyio.Event()

        @flows.activity(retry=RetryPolicy(max_attempts=9))
        async def stubborn() -> str:
            self.attempts.append(activity_info().attempt)
            try:
                await anyio.sleep_forever()
            finally:
                self.asked.set()
                with anyio.CancelScope(shield=True):
                    await self.gate.wait()
            return "never"

        @flows.workflow
        async def cancelled() -> str:
            return await stubborn()

        @flows.workflow
        async def late() -> str:
            async with moves_on_when_told():
                return await stubborn()
            return "moved on"

        @flows.workflow
        async def sibling() -> str:
            async with anyio.create_task_group() as group:
                group.start_soon(stubborn)
                await trio.sleep(await ends_in.receive())
                group.cancel_scope.cancel()
            return "moved on"

        @flows.workflow
        async def parent() -> str:
            async with moves_on_when_told():
                return await cancelled()
            return "moved on"

        self.workflows = {f.name.rpartition(".")[2]: f for f in flows.workflows.values()}

    def begin(self):
        self.gate = Gate()
        self.asked = anyio.Event()


@pytest.mark.parametrize("which", ["cancelled", "late", "sibling", "parent"])
async def test_of_an_activity(cached, which):
    busy = Busy()

    busy.begin()
    dying = Dying(await cached.backend())
    async with cached.client(busy.flows) as client:
        async with cached.worker(busy.flows, backend=dying) as worker:
            handle = await client.start(busy.workflows[which].options(id="one"))

            async def begun():
                return busy.attempts

            await until(begun)
            if which == "cancelled":
                await handle.cancel("enough")
            else:
                await handle.signal(ends_in, 0.01)
            await busy.asked.wait()
            dying.die()
            busy.gate.open()
        await client.backend.reclaim(-1.0)
        async with cached.worker(busy.flows):
            if which == "cancelled":
                with pytest.raises(InstanceCancelled, match="enough"):
                    await handle.result()
            else:
                assert await handle.result() == "moved on"
    assert busy.attempts == [1]
    del worker


async def test_of_an_activity_that_is_given_back_instead(cached):
    """The worker ends in order before the activity has obeyed."""
    busy = Busy()

    busy.begin()
    busy.gate.open()
    async with cached.client(busy.flows) as client:
        handle = await client.start(busy.workflows["cancelled"].options(id="one"))
        async with cached.worker(busy.flows):

            async def begun():
                return busy.attempts

            await until(begun)
            await handle.cancel("enough")
        async with cached.worker(busy.flows):
            with pytest.raises(InstanceCancelled, match="enough"):
                await handle.result()


async def test_of_a_child_that_never_began(cached):
    """Nobody serves its queue: the store ends it."""
    flows = Registry()

    @flows.workflow(queue="nobody's")
    async def child() -> None: ...

    @flows.workflow
    async def parent() -> str:
        with trio.move_on_after(0.05):
            await child.options(id="the child")()
        return "moved on"

    async with cached.worker(flows) as worker:
        assert await worker.client.run(parent) == "moved on"
        assert (await worker.client.handle("the child").describe()).status == "cancelled"


async def test_of_an_instance_that_never_began(cached):
    flows = Registry()

    @flows.workflow(queue="nobody's")
    async def lonely() -> None: ...

    async with cached.client(flows) as client:
        handle = await client.start(lonely)
        await handle.cancel("not wanted")
        await until_status(handle, "cancelled")
        with pytest.raises(InstanceCancelled, match="not wanted"):
            await handle.result()
