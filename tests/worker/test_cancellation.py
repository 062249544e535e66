"""Cancellation reaches everything, is waited for, and loses no result."""

from __future__ import annotations

import threading

import anyio
import anyio.from_thread
import pytest
import trio

from tests.worker.flow import Gate, ends_in, gated, moves_on_when_told, until, until_parked
from trioflow import (
    InstanceCancelled,
    Registry,
    RetryPolicy,
    Signal,
)

number = Signal("number", int)
once = RetryPolicy(max_attempts=1)


class Boom(Exception):
    pass


async def test_a_clients_cancel_stops_the_activity_and_says_why(flow):
    flows, work, _, gate = gated()

    gate.append(Gate())
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work.options(id="w"))
        await gate[0].until_entered()
        await handle.cancel("too late")
        with pytest.raises(InstanceCancelled, match="'w' was cancelled: too late") as raised:
            await handle.result()
        assert raised.value.reason == "too late"
        assert gate[0].left in (["Cancelled"], ["CancelledError"])
        described = await handle.describe()
        assert (described.status, described.reason) == ("cancelled", "too late")
        (execution,) = await handle.history()
        reasons = [
            event.reason
            for turn in execution.turns
            for event in turn.events
            if type(event).__name__ == "CancelRequested"
        ]
        assert reasons == ["too late"]
        assert await worker.client.stats() == []


async def test_a_thread_is_told_through_check_cancelled(flow):
    flows = Registry()
    entered, ended = threading.Event(), threading.Event()

    @flows.activity
    def spin() -> None:
        entered.set()
        try:
            while True:
                anyio.from_thread.check_cancelled()
                ended.wait(0.002)
        finally:
            ended.set()

    @flows.workflow
    async def work() -> None:
        await spin()

    entered.clear()
    ended.clear()
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work)

        async def running():
            return entered.is_set()

        await until(running)
        await handle.cancel()
        with pytest.raises(InstanceCancelled):
            await handle.result()
        assert ended.is_set()


async def test_a_failing_sibling_cancels_what_runs_and_waits_for_its_cleanup(flow):
    flows = Registry()
    gates = []
    order = []

    @flows.activity
    async def long() -> None:
        try:
            await gates[0].wait()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            order.append("long has stopped")

    @flows.activity(retry=once)
    async def fail() -> None:
        await gates[0].until_entered()
        raise Boom("sibling")

    @flows.workflow
    async def work() -> str:
        said = ""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(long)
                nursery.start_soon(trio.sleep, 1e6)
                nursery.start_soon(fail)
        except* Boom as group:
            order.append("caught")
            said = str(group.exceptions[0])
        return said

    gates[:] = [Gate()]
    order.clear()
    async with flow.worker(flows) as worker:
        assert await worker.client.run(work) == "sibling"
        assert order[0] == "long has stopped"


async def test_a_deadline_cancels_an_activity_and_the_workflow_goes_on(flow):
    flows, _, wait, gate = gated()

    @flows.workflow
    async def bounded() -> str:
        async with moves_on_when_told() as scope:
            await wait()
        return f"caught {scope.cancelled_caught}"

    gate[:] = [Gate()]
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(bounded)
        await gate[0].until_entered()
        await handle.signal(ends_in, 0.01)
        assert await handle.result() == "caught True"
        assert len(gate[0].left) == 1
        assert await worker.client.stats() == []


async def test_a_result_that_comes_in_spite_of_the_cancel_is_not_lost(flow):
    flows = Registry()
    gates = []

    @flows.activity
    async def stubborn() -> int:
        try:
            await gates[0].wait()
        except BaseException:
            return 42
        return 0

    @flows.workflow
    async def work() -> list[int]:
        got = []
        async with moves_on_when_told():
            got.append(await stubborn())
            got.append(-1)
            await trio.sleep(0)
            got.append(-2)
        return got

    gates[:] = [Gate()]
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work)
        await gates[0].until_entered()
        await handle.signal(ends_in, 0.01)
        assert await handle.result() == [42, -1]


async def test_cleanup_under_a_shield_may_call_activities_and_children(flow):
    flows = Registry()
    done = []

    @flows.activity
    async def refund(n: int) -> int:
        done.append(n)
        return n

    @flows.workflow
    async def notify(n: int) -> int:
        return await refund(n)

    @flows.workflow
    async def work() -> None:
        try:
            await number.receive()
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(60):
                await refund(1)
                await notify(2)
                await trio.sleep(0.001)

    done.clear()
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work)
        await until_parked(handle)
        await handle.cancel()
        with pytest.raises(InstanceCancelled):
            await handle.result()
        assert done == [1, 2]


async def test_code_that_swallows_the_cancel_goes_on_and_sees_it_again(flow):
    flows = Registry()

    @flows.workflow
    async def work() -> str:
        seen = 0
        for _ in range(3):
            try:
                await number.receive()
            except trio.Cancelled:
                seen += 1
        return f"seen {seen}"

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work)
        await until_parked(handle)
        await handle.cancel()
        assert await handle.result() == "seen 3"
        assert (await handle.describe()).status == "completed"


async def test_a_workflow_that_fails_while_it_is_cancelled_has_failed(flow):
    flows = Registry()

    @flows.workflow
    async def work() -> None:
        try:
            await number.receive()
        finally:
            raise Boom("in cleanup")

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work)
        await until_parked(handle)
        await handle.cancel()
        with pytest.raises(Boom, match="in cleanup"):
            await handle.result()


async def test_an_activity_that_no_worker_has_taken_is_cancelled_at_once(flow):
    flows, _, wait, _ = gated()

    @flows.workflow
    async def elsewhere() -> None:
        await wait.options(queue="nobody")()

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(elsewhere)

        async def waiting():
            d = await handle.describe()
            return d.activities and d.worker is None

        await until(waiting)
        await handle.cancel()
        with pytest.raises(InstanceCancelled):
            await handle.result()
        assert await worker.client.stats() == []


async def test_an_activity_that_waits_for_capacity_is_cancelled_at_once(flow):
    flows, work, _, gate = gated()

    gate[:] = [Gate()]
    async with flow.worker(flows, max_activities=1) as worker:
        first = await worker.client.start(work)
        await gate[0].until_entered()
        others = [await worker.client.start(work) for _ in range(8)]
        for other in others:
            await other.cancel()
        for other in others:
            with pytest.raises(InstanceCancelled):
                await other.result()
        assert gate[0].entered == 1
        gate[0].open()
        assert await first.result() == "through"


async def test_an_instance_cancelled_before_its_first_turn_never_runs(flow):
    flows, work, _, gate = gated()

    gate[:] = [Gate()]
    async with flow.client() as client:
        handle = await client.start(work)
        await handle.cancel("never mind")
        async with flow.worker(flows):
            with pytest.raises(InstanceCancelled, match="never mind"):
                await handle.result()
    assert not gate[0].entered


async def test_a_second_cancel_changes_nothing(flow):
    flows = Registry()

    @flows.workflow
    async def work() -> None:
        try:
            await number.receive()
        finally:
            with trio.CancelScope(shield=True):
                await number.receive()

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work)
        await until_parked(handle)
        await handle.cancel("first")
        await until_parked(handle, turns=2)
        await handle.cancel("second")
        await until_parked(handle, turns=3)
        await handle.signal(number, 1)
        with pytest.raises(InstanceCancelled, match="first"):
            await handle.result()


async def test_an_abandoned_activity_is_not_waited_for(flow):
    flows = Registry()
    gates = []

    @flows.activity(on_cancel="abandon")
    async def stubborn() -> None:
        with anyio.CancelScope(shield=True):
            await gates[0].wait()

    @flows.workflow
    async def work() -> str:
        with trio.move_on_after(0.01):
            await stubborn()
        return "gone on"

    gates[:] = [Gate()]
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work)
        assert await handle.result() == "gone on"
        assert gates[0].left == []
        gates[0].open()

        async def nothing_left():
            return await worker.client.stats() == []

        await until(nothing_left)
        assert (await handle.describe()).status == "completed"


async def test_a_cancelled_activity_on_another_worker_is_stopped_there(cached):
    flows, _, wait, gate = gated()

    @flows.workflow
    async def remote() -> None:
        await wait.options(queue="far")()

    gate[:] = [Gate()]
    async with (
        cached.worker(flows, activities=False) as worker,
        cached.worker(flows, workflows=False, queues=["far"], lease=0.3),
    ):
        handle = await worker.client.start(remote)
        await gate[0].until_entered()
        await handle.cancel("far away")
        with pytest.raises(InstanceCancelled, match="far away"):
            await handle.result()
        assert len(gate[0].left) == 1
