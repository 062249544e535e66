"""Terminating: at once, without asking; and what can no longer be cancelled or terminated."""

from __future__ import annotations

import pytest
import trio

from tests.worker.flow import Gate, gated, until, until_parked, until_status
from trioflow import (
    InstanceFinished,
    InstanceNotFound,
    InstanceTerminated,
    Registry,
    Signal,
)

number = Signal("number", int)


async def test_the_finished_and_the_unknown_cannot_be_cancelled_or_terminated(flow):
    flows = Registry()

    @flows.workflow
    async def work() -> int:
        return 1

    async with flow.worker(flows) as worker:
        await worker.client.run(work.options(id="w"))
        for call in ("cancel", "terminate"):
            with pytest.raises(InstanceFinished, match="'w'"):
                await getattr(worker.client.handle("w"), call)()
            with pytest.raises(InstanceNotFound, match="'nobody'"):
                await getattr(worker.client.handle("nobody"), call)()
        assert await worker.client.handle("w").result() == 1


async def test_terminate_stops_activities_without_asking_the_workflow(flow):
    flows, _, wait, gate = gated()
    cleaned = []

    @flows.workflow
    async def tidy() -> None:
        try:
            await wait()
        finally:
            cleaned.append(1)
            with trio.CancelScope(shield=True):
                await wait()

    gate[:] = [Gate()]
    cleaned.clear()
    async with flow.worker(flows, lease=0.9) as worker:
        handle = await worker.client.start(tidy)
        await gate[0].until_entered()
        await handle.terminate("now")
        with pytest.raises(InstanceTerminated, match="now"):
            await handle.result()

        async def nothing_left():
            return await worker.client.stats() == []

        await until(nothing_left)
        assert gate[0].entered == len(gate[0].left) == 1
        (execution,) = await handle.history()
        assert len(execution.turns) == 1


async def test_a_suspended_instance_can_be_terminated(flow):
    old, new = Registry(), Registry()

    @old.workflow(name="w")
    async def before() -> None:
        await trio.sleep(0.001)
        await number.receive()

    @new.activity
    async def extra() -> None:
        pass

    @new.workflow(name="w")
    async def after() -> None:
        await extra()
        await number.receive()

    async with flow.worker(old) as worker:
        handle = await worker.client.start(before)
        await until_parked(handle, turns=2)
    async with flow.worker(new) as worker:
        handle = worker.client.handle(handle.id)
        await handle.signal(number, 1)
        await until_status(handle, "suspended")
        await handle.cancel("it waits until it is resumed")
        assert (await handle.describe()).status == "suspended"
        await handle.terminate("hopeless")
        with pytest.raises(InstanceTerminated, match="hopeless"):
            await handle.result()
