"""Sub-workflows whose ids are wanted more than once."""

from __future__ import annotations

import anyio
import pytest
import trio

from tests.worker.flow import Gate, until, until_parked
from trioflow import InstanceAlreadyExists, Registry, Signal

number = Signal("number", int)


@pytest.mark.parametrize("queue", ["default", "other"])
@pytest.mark.parametrize("running", [True, False])
async def test_of_two_children_with_one_id_one_runs_and_the_other_fails(flow, queue, running):
    flows = Registry()

    @flows.workflow
    async def child() -> str:
        await number.receive()
        return "ran"

    @flows.workflow
    async def both() -> list[str]:
        got = []

        async def call():
            try:
                got.append(await child.options(id="x", queue=queue)())
            except InstanceAlreadyExists:
                got.append("exists")

        await number.receive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            nursery.start_soon(call)
        return got

    async with flow.worker(flows) as worker, flow.worker(flows, queues=("other",)):
        if running:
            await worker.client.start(child.options(id="x", queue="third"))
        handles = [await worker.client.start(both), await worker.client.start(both)]
        for handle in handles:
            await until_parked(handle)
            await handle.signal(number, 1)
        if not running:

            async def one_got_neither():
                return await worker.client.list(status="completed")

            await until(one_got_neither)
            await worker.client.handle("x").signal(number, 1)
        got = [result for handle in handles for result in await handle.result()]
        assert sorted(got) == ["exists"] * 3 + ["exists" if running else "ran"]


async def test_an_id_is_used_again_and_again(flow):
    """By a parent that is held throughout, and consumes the end of one as it begins the next."""
    flows = Registry()

    @flows.activity
    async def keep() -> None:
        await gates[0].wait()

    @flows.workflow
    async def child(n: int) -> int:
        return n

    @flows.workflow
    async def again() -> list[int]:
        await number.receive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep)
            found = [await child.options(id="x")(n) for n in range(5)]
            nursery.cancel_scope.cancel()
        return found

    gates = []

    gates.append(Gate())
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(again)
        await until_parked(handle)
        await handle.signal(number, 1)
        with anyio.fail_after(30):
            assert await handle.result() == [0, 1, 2, 3, 4]
