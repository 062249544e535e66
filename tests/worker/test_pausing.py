"""Pausing an instance, waiting for a status, and watching it change."""

from __future__ import annotations

import anyio
import pytest
import trio

from tests.worker.flow import Gate, in_memory, serving, until, until_parked
from trioflow import (
    ArgumentError,
    ClientClosed,
    InstanceCancelled,
    InstanceFinished,
    InstanceNotFound,
    InstanceSuspended,
    JsonCodec,
    Registry,
    Signal,
    WrappedCodec,
    open_client,
)

number = Signal("number", int)


def shop():
    flows = Registry()
    gate = Gate()

    @flows.activity
    async def pass_gate() -> int:
        await gate.wait()
        return 5

    @flows.workflow
    async def receives() -> int:
        return await number.receive()

    @flows.workflow
    async def calls() -> int:
        return await pass_gate() + await number.receive()

    @flows.workflow
    async def waits(seconds: float) -> str:
        with trio.move_on_after(seconds):
            return f"got {await number.receive()}"
        return "too late"

    @flows.workflow(timeout=100)
    async def limited() -> int:
        return await number.receive()

    return flows, gate, receives, calls, waits, limited


async def test_a_paused_one_makes_no_turn(flow):
    flows, _, receives, *_ = shop()
    async with flow.worker(flows) as worker, flow.client(flows) as client:
        handle = await worker.client.start(receives)
        await until_parked(handle)
        elsewhere = client.handle(handle.id, receives)
        await elsewhere.pause("holidays")
        await elsewhere.pause("again")
        found = await handle.describe()
        assert (found.status, found.worker) == ("suspended", None)
        assert found.suspension is not None
        assert (found.suspension.kind, found.suspension.reason) == ("paused", "holidays")
        with pytest.raises(InstanceSuspended, match=r"it was paused; handle.*: holidays"):
            await handle.result(wait_suspended=False)
        await handle.signal(number, 3)
        assert (await handle.describe()).unread == 1
        await handle.resume()
        assert await handle.result() == 3
        with pytest.raises(InstanceFinished):
            await handle.pause()
        with pytest.raises(InstanceNotFound):
            await client.handle("nobody").pause()


async def test_the_result_of_a_running_activity_is_kept(flow):
    flows, gate, _, calls, *_ = shop()
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(calls)
        await gate.until_entered()
        await handle.pause()
        gate.open()
        await until(lambda: has_mail(handle))
        assert (await handle.describe()).status == "suspended"
        await handle.resume()
        await handle.signal(number, 1)
        assert await handle.result() == 6
        assert gate.entered == 1


async def has_mail(handle):
    return (await handle.describe()).unread


async def test_it_may_go_on_in_another_worker(flow):
    flows, gate, _, calls, *_ = shop()
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(calls)
        await gate.until_entered()
        await handle.pause()
        async with flow.worker(flows):
            await handle.resume()
            gate.open()
            await handle.signal(number, 2)
            assert await handle.result() == 7
    assert gate.entered == 1


async def test_deadlines_run_on_and_apply_when_it_is_resumed(clock):
    flows, _, _, _, waits, limited = shop()
    async with serving(in_memory(clock), flows) as client:
        for at, value in ((5, "got 1"), (20, "too late")):
            handle = await client.start(waits, 10)
            await trio.sleep(1)
            await handle.pause()
            await trio.sleep(at - 1)
            await handle.signal(number, 1)
            await trio.sleep(50)
            assert (await handle.describe()).status == "suspended"
            await handle.resume()
            assert await handle.result() == value
        handle = await client.start(limited)
        await trio.sleep(1)
        await handle.pause()
        await trio.sleep(150)
        await handle.resume()
        with pytest.raises(TimeoutError):
            await handle.result()


async def test_a_cancel_waits_for_the_resume(clock):
    flows, _, receives, *_ = shop()
    async with serving(in_memory(clock), flows) as client:
        handle = await client.start(receives)
        await until_parked(handle)
        await handle.pause()
        await handle.cancel("enough")
        await trio.sleep(10)
        assert (await handle.describe()).status == "suspended"
        await handle.resume()
        with pytest.raises(InstanceCancelled, match="enough"):
            await handle.result()


async def test_one_that_starts_later_may_be_paused(clock):
    flows, _, receives, *_ = shop()
    async with serving(in_memory(clock), flows) as client:
        handle = await client.start(receives.options(delay=60))
        await handle.pause()
        await handle.signal(number, 1)
        await handle.resume()
        assert (await handle.describe()).turns == 0
        assert await handle.result() == 1
        assert clock.current_time() >= 60


async def test_a_reason_is_sealed_and_checked(clock):
    flows, _, receives, *_ = shop()
    backend = in_memory(clock)
    codec = WrappedCodec(
        JsonCodec(),
        wrap=lambda data: data.swapcase(),
        unwrap=lambda data: data.swapcase(),
    )
    async with open_client(backend, registry=flows, codec=codec) as client:
        handle = await client.start(receives)
        with pytest.raises(ArgumentError, match="a reason"):
            await handle.pause("x" * 5000)
        await handle.pause("a Secret")
        record = await backend.get(handle.id)
        assert record is not None
        assert b"Secret" not in record.outcome
        found = (await handle.describe()).suspension
        assert found is not None
        assert found.reason == "a Secret"
        with pytest.raises(InstanceSuspended, match="a Secret"):
            await handle.result(wait_suspended=False)


# --- waiting and watching ---------------------------------------------------------------------


async def test_a_status_is_waited_for(flow):
    flows, _, receives, *_ = shop()
    async with flow.worker(flows) as worker, flow.client(flows) as client:
        handle = await worker.client.start(receives)
        await handle.wait(status="running")
        reached = []

        async def wait(*wanted):
            found = await client.handle(handle.id).wait(status=wanted)
            reached.append(found.status)

        async with anyio.create_task_group() as group:
            group.start_soon(wait, "suspended", "failed")
            await handle.pause()
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await handle.resume()
            await handle.signal(number, 1)
        assert reached == ["suspended", "completed"]
        assert (await handle.wait()).result == 1
        with pytest.raises(InstanceFinished, match="it is completed, and will not be suspended"):
            await handle.wait(status="suspended")
        with pytest.raises(InstanceNotFound):
            await client.handle("nobody").wait()
        with pytest.raises(ValueError, match="there is no 'done'"):
            await handle.wait(status="done")


async def test_changes_of_the_status_come_as_they_happen(clock):
    flows, _, receives, *_ = shop()
    async with serving(in_memory(clock), flows) as client:
        handle = await client.start(receives)
        seen = []

        async def watch():
            seen.extend([description.status async for description in handle.watch()])

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await trio.sleep(1)
            await handle.pause()
            await trio.sleep(1)
            await handle.resume()
            await trio.sleep(1)
            await handle.signal(number, 1)
        assert seen == ["running", "suspended", "running", "completed"]


async def test_what_waits_ends_when_the_client_is_closed(flow):
    flows, _, receives, *_ = shop()
    ended = []

    async def wait(handle):
        with pytest.raises(ClientClosed):
            await handle.wait()
        ended.append("wait")

    async def watch(handle):
        with pytest.raises(ClientClosed):
            async for _ in handle.watch():
                pass
        ended.append("watch")

    async with anyio.create_task_group() as group, flow.client(flows) as client:
        handle = await client.start(receives)
        group.start_soon(wait, handle)
        group.start_soon(watch, handle)

        async def both_wait():
            return len(client._waits_for_change) == 2

        await until(both_wait)
    assert sorted(ended) == ["wait", "watch"]
