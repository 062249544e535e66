"""Locks, semaphores and events that instances share."""

# mypy: ignore-errors

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio

from tests.stores import ALL, marked
from tests.worker.flow import Flow, Gate, serving, until, until_parked
from trioflow import (
    ArgumentError,
    DeterminismError,
    InstanceTerminated,
    NotInWorkflow,
    Query,
    Registry,
    SharedEvent,
    SharedLock,
    SharedSemaphore,
    Signal,
    continue_as_new,
)
from trioflow.backends import SharedState

account = SharedLock("account-7")
go_on = Signal("go on", str)


@pytest.fixture(params=marked([(kind, size) for kind in ALL for size in (1000, 0)], lambda p: p[0]))
def flow(request, tmp_path, servers, harness):
    """Every kind of store, on trio, with executions kept in memory and without."""
    kind, size = request.param
    return Flow(kind, "trio", size, tmp_path, servers).of(harness)


async def test_one_instance_at_a_time_holds_a_lock(flow):
    """Whatever worker runs it, and also when that has been replaced meanwhile."""
    flows = Registry()
    inside, most, order = set(), [], []

    @flows.activity
    async def work(name: str) -> None:
        inside.add(name)
        most.append(len(inside))
        order.append(name)
        await trio.sleep(0.005)
        inside.remove(name)

    @flows.workflow
    async def pay(name: str) -> None:
        async with account:
            await work(name)
            await trio.sleep(0.01)
            await work(name)

    async with flow.worker(flows) as one, flow.worker(flows) as two:
        handles = [
            await (one, two)[number % 2].client.start(pay.options(id=f"p{number}"), f"{number}")
            for number in range(6)
        ]
        for handle in handles:
            await handle.result()
    assert max(most) == 1
    assert len(order) == 12
    assert order[::2] == order[1::2], "nobody came in between"


async def test_a_lock_comes_back_however_its_holder_ends(flow):
    flows = Registry()
    held = Query("held", result=bool)

    @flows.workflow
    async def hold(how: str) -> str:
        inside = False
        held.handler(lambda: inside)
        async with account:
            inside = True
            if how == "fail":
                raise ValueError(how)
            if how == "continue":
                continue_as_new("return")
            if how != "return":
                await trio.sleep_forever()
        return how

    async with flow.worker(flows) as worker:
        client = worker.client
        with pytest.raises(ValueError, match="fail"):
            await client.run(hold, "fail")
        assert await client.run(hold, "continue") == "return"
        for end in ("terminate", "cancel"):
            handle = await client.start(hold, "stay")

            async def has_it(handle=handle):
                return await handle.query(held)

            await until(has_it)
            waits = await client.start(hold, "return")
            await getattr(handle, end)()
            assert await waits.result() == "return"


async def test_who_holds_a_lock_and_who_waits_is_seen(flow):
    """By a client, and in the tree of tasks that the command line draws."""
    flows = Registry()
    opened = SharedEvent("opened")

    @flows.workflow
    async def hold() -> str:
        async with account:
            return await go_on.receive()

    @flows.workflow
    async def watch() -> None:
        await opened.wait()
        await opened.clear()

    async with flow.worker(flows) as worker:
        client = worker.client
        assert await client.shared(account) == SharedState([], [])
        one = await client.start(hold.options(id="one"))
        await until_parked(one)
        two = await client.start(hold.options(id="two"))
        watching = await client.start(watch.options(id="watching"))

        async def all_wait():
            waiting = (await client.shared(account)).waiting
            return waiting and (await client.shared(opened)).waiting

        await until(all_wait)
        assert await client.shared(SharedLock("account-7")) == SharedState(["one"], ["two"])
        assert await client.shared(opened) == SharedState([], ["watching"])
        tasks = await client.handle("two").tasks(timeout=30)
        assert [task.waits_for for task in tasks] == ["the lock 'account-7', held by one"]
        tasks = await client.handle("watching").tasks(timeout=30)
        assert [task.waits_for for task in tasks] == ["the event 'opened'"]
        for handle in (one, two):
            await handle.signal(go_on, "on")
            assert await handle.result() == "on"
        assert await client.shared(account) == SharedState([], [])
        await watching.terminate()
        with pytest.raises(ArgumentError, match="'account-7' is nothing that instances share"):
            await client.shared("account-7")


async def test_a_lock_outlives_its_worker(flow):
    """It belongs to the instance, which another worker takes over."""
    flows = Registry()

    @flows.workflow
    async def hold() -> str:
        async with account:
            return await go_on.receive()

    @flows.workflow
    async def second() -> str:
        async with account:
            return "second"

    async with flow.client(flows) as client:
        async with flow.worker(flows):
            first = await client.start(hold)

            async def waits_inside():
                return "go on" in str((await first.describe()).turns) or (
                    (await first.describe()).turns >= 2
                )

            await until(waits_inside)
            other = await client.start(second)

            async def asked():
                return (await other.describe()).turns >= 1

            await until(asked)
        async with flow.worker(flows):
            await trio.sleep(0.05)
            assert (await other.describe()).status == "running"
            await first.signal(go_on, "first")
            assert [await first.result(), await other.result()] == ["first", "second"]


async def test_a_semaphore_has_so_many_places(flow):
    flows = Registry()
    gate = Gate()

    @flows.activity
    async def compute() -> None:
        await gate.wait()

    @flows.workflow
    async def use() -> None:
        async with SharedSemaphore("gpu", 2):
            await compute()

    async with flow.worker(flows) as worker:
        handles = [await worker.client.start(use) for _ in range(5)]
        await gate.until_entered(2)

        async def all_asked():
            return all([(await handle.describe()).turns for handle in handles])

        await until(all_asked)
        assert gate.entered == 2
        gate.open()
        for handle in handles:
            await handle.result()
    assert gate.entered == 5


async def test_an_event_wakes_all(flow):
    flows = Registry()
    opened = SharedEvent("market open")

    @flows.workflow
    async def trade() -> str:
        await opened.wait()
        return "traded"

    @flows.workflow
    async def market(*, opens: bool) -> None:
        await (opened.set() if opens else opened.clear())

    @flows.workflow
    async def impatient() -> str:
        with trio.move_on_after(0.02):
            await opened.wait()
            return "open"
        return "closed"

    async with flow.worker(flows) as worker:
        client = worker.client
        handles = [await client.start(trade) for _ in range(3)]
        assert await client.run(impatient) == "closed"
        await client.run(market, opens=True)
        assert [await handle.result() for handle in handles] == ["traded"] * 3
        assert await client.run(trade) == "traded"
        await client.run(market, opens=False)
        assert await client.run(impatient) == "closed"


async def test_a_cancelled_wait_leaves_the_line(backend):
    flows = Registry()

    @flows.workflow
    async def hold() -> None:
        async with account:
            await trio.sleep(100)

    @flows.workflow
    async def impatient() -> str:
        with trio.move_on_after(10):
            async with account:
                return "got it"
        await trio.sleep(1000)
        return "gave up"

    @flows.workflow
    async def patient() -> float:
        async with account:
            return trio.current_time()

    async with serving(backend, flows) as client:
        start = trio.current_time()
        await client.start(hold)
        await trio.sleep(1)
        gives_up = await client.start(impatient)
        await trio.sleep(1)
        waits = await client.start(patient)
        await waits.result()
        assert trio.current_time() - start == pytest.approx(100, abs=2)
        assert await gives_up.result() == "gave up"


async def test_tasks_of_one_instance_share_too(backend):
    flows = Registry()
    order = []

    @flows.workflow
    async def many() -> list[str]:
        async def one(name: str) -> None:
            async with account:
                order.append(f"{name} in")
                await trio.sleep(5)
                order.append(f"{name} out")

        order.clear()
        async with trio.open_nursery() as nursery:
            for name in "ab":
                nursery.start_soon(one, name)
        return list(order)

    async with serving(backend, flows) as client:
        assert await client.run(many) == ["a in", "a out", "b in", "b out"]


async def test_blocks_may_be_nested(backend):
    flows = Registry()

    @flows.workflow
    async def nested() -> str:
        async with SharedSemaphore("two", 2), SharedSemaphore("two", 2), account:
            return "inside"

    async with serving(backend, flows) as client:
        for _ in range(3):
            assert await client.run(nested) == "inside"


async def test_a_query_may_not_wait_for_a_lock(backend):
    flows = Registry()
    asked = Query("asked", result=str)

    @flows.workflow
    async def work() -> None:
        asked.handler(lambda: SharedEvent("e").set())
        await trio.sleep(1000)

    async with serving(backend, flows) as client:
        handle = await client.start(work)
        with pytest.raises(DeterminismError, match="for the event 'e'"):
            await handle.query(asked)
        await handle.terminate()
        with pytest.raises(InstanceTerminated):
            await handle.result()


async def test_a_block_may_be_left_in_another_task(flow):
    flows = Registry()
    both = SharedSemaphore("both", 2)

    @flows.workflow
    async def stack() -> str:
        async with AsyncExitStack() as held:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(held.enter_async_context, account)
                nursery.start_soon(held.enter_async_context, both)
            async with both:
                await trio.sleep(0.01)
        return "left"

    @flows.workflow
    async def twice() -> str:
        async with account:
            await account.__aexit__(None, None, None)
            with pytest.raises(RuntimeError, match="the lock 'account-7'"):
                await account.__aexit__(None, None, None)
            async with account:
                pass
            async with both, both:
                await account.__aenter__()
        return "all"

    async with flow.worker(flows) as worker:
        assert await worker.client.run(stack) == "left"
        assert await worker.client.run(twice) == "all"


async def test_outside_of_a_workflow_there_is_nothing_to_share():
    with pytest.raises(NotInWorkflow):
        async with account:
            pass
    with pytest.raises(NotInWorkflow):
        await SharedEvent("e").wait()
    with pytest.raises(NotInWorkflow):
        await SharedEvent("e").set()


@pytest.mark.parametrize("size", [0, -1, True, 1.5])
def test_a_size_that_cannot_be_is_refused(size):
    with pytest.raises(ArgumentError, match="size="):
        SharedSemaphore("s", size)
    with pytest.raises(ArgumentError):
        SharedLock("")


async def test_nobody_begins_in_the_middle_of_what_is_held(flow):
    """A reset to a turn inside of the block is refused; one to before it lets the next have it."""
    flows = Registry()

    @flows.workflow
    async def hold() -> str:
        async with account:
            return await go_on.receive()

    @flows.workflow
    async def second() -> str:
        async with account:
            return "second"

    async with flow.worker(flows) as worker:
        client = worker.client
        first = await client.start(hold)

        async def inside():
            return (await first.describe()).turns == 2

        await until(inside)
        other = await client.start(second)

        async def asked():
            return (await other.describe()).turns >= 1

        await until(asked)
        with pytest.raises(ArgumentError, match="the lock 'account-7'"):
            await first.reset(turn=2, reason="inside")
        with pytest.raises(ArgumentError, match="the lock 'account-7'"):
            await client.fork(first.id, turn=1, new_id="fork")
        await first.reset(turn=0, reason="before")
        assert await other.result() == "second"
        await first.signal(go_on, "again")
        assert await first.result() == "again"


@pytest.mark.parametrize("how", ["returns", "raises", "continues"])
async def test_an_end_inside_of_a_block_that_was_never_left_gives_it_to_who_waits(flow, how):
    flows = Registry()

    @flows.workflow
    async def hold(again: bool) -> None:
        if again:
            return
        await account.__aenter__()
        await go_on.receive()
        if how == "raises":
            raise ValueError(how)
        if how == "continues":
            continue_as_new(True)

    @flows.workflow
    async def wait() -> str:
        async with account:
            return "got it"

    async with flow.worker(flows) as worker:
        first = await worker.client.start(hold, False)
        await until_parked(first)
        second = await worker.client.start(wait)
        await until_parked(second)
        await first.signal(go_on, "")
        assert await second.result() == "got it"
