"""Activities: where they run, what they know, and what is made of what they return."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import anyio
import anyio.from_thread
import pytest

from tests.worker.flow import Gate
from trioflow import (
    ActivityTimeout,
    NotInWorkflow,
    PayloadTooLarge,
    Registry,
    RetryPolicy,
    TrioflowError,
    ValueMismatch,
    activity_info,
    info,
)

once = RetryPolicy(max_attempts=1)


@dataclass
class Order:
    id: int
    lines: list[str]


class Shop:
    def __init__(self, name):
        self.name = name


async def run_one(flow, activity, *args, registry, **options):
    """Run one activity in a workflow; return its result, or what it raised."""

    @registry.workflow(name="only")
    async def only() -> object:
        return await activity(*args)

    async with flow.worker(registry, **options) as worker:
        try:
            return await worker.client.run(only)
        except Exception as exc:
            return exc


async def test_async_ones_run_in_the_loop_and_plain_ones_in_threads(cached):
    flows = Registry()

    @flows.activity
    async def in_loop() -> bool:
        return threading.current_thread() is threading.main_thread()

    @flows.activity
    def in_thread() -> bool:
        return threading.current_thread() is threading.main_thread()

    @flows.workflow
    async def work() -> list[bool]:
        return [await in_loop(), await in_thread()]

    async with cached.worker(flows) as worker:
        assert await worker.client.run(work) == [True, False]


async def test_rich_values_come_back_as_what_they_were(cached):
    flows = Registry()

    @flows.activity
    async def split(order: Order, *, at: int = 1) -> tuple[Order, Order]:
        return Order(order.id, order.lines[:at]), Order(order.id, order.lines[at:])

    @flows.workflow
    async def work(order: Order) -> Order:
        left, right = await split(order, at=2)
        assert isinstance(left, Order)
        return Order(left.id + right.id, right.lines + left.lines)

    async with cached.worker(flows) as worker:
        result = await worker.client.run(work, Order(2, ["a", "b", "c"]))
        assert result == Order(4, ["c", "a", "b"])


async def test_what_an_activity_knows_of_its_call(flow):
    flows = Registry()

    @flows.activity
    async def look() -> list[str]:
        me = activity_info()
        return [me.activity, me.instance, me.command, str(me.attempt), me.queue, me.idempotency_key]

    @flows.workflow
    async def work() -> list[list[str]]:
        return list(await anyio.gather(look(), look()))

    async with flow.worker(flows) as worker:
        first, second = await worker.client.run(work.options(id="w"))
        assert first[:2] == ["look", "w"]
        assert first[3:5] == ["1", "default"]
        assert first[5].endswith(f"/1/{first[2]}")
        assert first[5] != second[5]


async def test_each_attempt_knows_its_number_and_the_key_stays(flow):
    flows = Registry()
    seen = []

    @flows.activity(retry=RetryPolicy(initial_interval=0.001, jitter=0))
    def flaky() -> int:
        me = activity_info()
        seen.append((me.attempt, me.idempotency_key))
        if me.attempt < 3:
            raise OSError
        return me.attempt

    assert await run_one(flow, flaky, registry=flows) == 3
    assert [attempt for attempt, _ in seen] == [1, 2, 3]
    assert len({key for _, key in seen}) == 1


async def test_a_wrong_result_is_permanent_and_says_where(flow):
    flows = Registry()
    calls = []

    @flows.activity
    async def wrong() -> list[int]:
        calls.append(1)
        return [1, "two"]

    error = await run_one(flow, wrong, registry=flows)
    assert isinstance(error, ValueMismatch)
    assert "wrong() result" in str(error)
    assert "[1]" in str(error)
    assert calls == [1]


async def test_a_result_that_is_too_large_is_permanent(sqlite):
    flows = Registry()
    calls = []

    @flows.activity
    async def huge() -> str:
        calls.append(1)
        return "x" * 60_000_000

    error = await run_one(sqlite, huge, registry=flows)
    assert isinstance(error, PayloadTooLarge)
    assert calls == [1]


async def test_arguments_that_are_too_large_are_refused_at_the_call(sqlite):
    flows = Registry()

    @flows.activity
    async def take(text: str) -> int:
        return len(text)

    @flows.workflow
    async def work() -> str:
        try:
            await take("x" * 60_000_000)
        except PayloadTooLarge as exc:
            return str(exc)

    @flows.workflow
    async def big(text: str) -> None:
        pass

    async with sqlite.worker(flows) as worker:
        assert "take() arguments" in await worker.client.run(work)
        with pytest.raises(PayloadTooLarge):
            await worker.client.start(big, "x" * 60_000_000)


async def test_a_timeout_cancels_the_attempt_also_in_a_thread(flow):
    flows = Registry()
    stopped = threading.Event()

    @flows.activity(timeout=0.25, retry=once)
    def spin() -> None:
        try:
            while True:
                anyio.from_thread.check_cancelled()
                stopped.wait(0.002)
        finally:
            stopped.set()

    stopped.clear()
    error = await run_one(flow, spin, registry=flows)
    assert isinstance(error, ActivityTimeout)
    assert "0.25" in str(error)
    assert stopped.is_set()


async def test_options_of_a_call_travel_to_another_worker(cached):
    """The worker that runs the activity knows it with other options than the caller asked for."""
    ours, theirs = Registry(), Registry()
    attempts = []

    async def flaky() -> int:
        attempts.append(activity_info().attempt)
        if len(attempts) < 5:
            raise OSError
        return len(attempts)

    here = ours.activity(name="flaky", retry=once)(flaky)
    theirs.activity(name="flaky", retry=once)(flaky)
    policy = RetryPolicy(max_attempts=5, initial_interval=0.001, jitter=0)

    @ours.workflow
    async def work() -> int:
        return await here.options(queue="far", retry=policy)()

    async with (
        cached.worker(ours, queues=["default"]) as worker,
        cached.worker(theirs, queues=["far"], workflows=False),
    ):
        assert await worker.client.run(work) == 5
    assert attempts == [1, 2, 3, 4, 5]


async def test_an_activity_by_default_runs_on_its_instances_queue(cached):
    flows = Registry()

    @flows.activity
    async def where() -> str:
        return activity_info().queue

    @flows.activity(queue="fixed")
    async def fixed() -> str:
        return activity_info().queue

    @flows.workflow
    async def child() -> list[str]:
        return [info().queue, await where(), await fixed()]

    @flows.workflow
    async def work() -> list[list[str]]:
        return [await child(), await child.options(queue="b")()]

    async with cached.worker(flows, queues=["a", "b", "fixed"]) as worker:
        got = await worker.client.run(work.options(queue="a"))
        assert got == [["a", "a", "fixed"], ["b", "b", "fixed"]]


async def test_methods_of_an_object_share_its_state(cached):
    flows = Registry()
    names = Registry()

    class Greeter(Shop):
        @names.activity(name="greet")
        async def greet(self, who: str) -> str:
            return f"{self.name} greets {who}"

    greeter = Greeter("shop")
    flows.add(greeter)

    @flows.workflow
    async def work() -> str:
        return await greeter.greet("you")

    async with cached.worker(flows) as worker:
        assert await worker.client.run(work) == "shop greets you"


async def test_outside_of_a_worker_an_activity_is_the_function_it_is():
    flows = Registry()

    @flows.activity
    async def double(n: int) -> int:
        return n * 2

    @flows.activity
    def triple(n: int) -> int:
        return n * 3

    @flows.workflow
    async def work() -> int:
        return 1

    assert await double(2) == 4
    assert await triple(2) == 6
    with pytest.raises(TrioflowError, match="activity_info"):
        activity_info()
    with pytest.raises(NotInWorkflow, match=r"client\.run\(work"):
        await work()


async def test_a_flood_of_activities_does_not_hold_up_another_instance(cached):
    flows = Registry()

    @flows.activity
    async def quick() -> None:
        pass

    @flows.workflow
    async def flood() -> None:
        for _ in range(20):
            await anyio.gather(*[quick() for _ in range(100)])

    @flows.workflow
    async def single() -> str:
        await quick()
        return "done"

    async with cached.worker(flows) as worker:
        handle = await worker.client.start(flood)
        with anyio.fail_after(30):
            assert await worker.client.run(single) == "done"
        assert (await handle.describe()).status == "running"
        await handle.terminate()


async def test_an_activity_may_use_the_hosts_own_tools(cached):
    """Tasks, threads and contexts of the host are all there; nothing of the workflow's shows."""
    flows = Registry()
    gates = []

    @flows.activity
    async def work_hard() -> list[int]:
        got = []
        async with anyio.create_task_group() as group:
            group.start_soon(gates[0].wait)
            await gates[0].until_entered()
            got.append(await anyio.to_thread.run_sync(lambda: 5))
            gates[0].open()
        return got

    @flows.workflow
    async def work() -> list[int]:
        return await work_hard()

    gates[:] = [Gate()]
    async with cached.worker(flows) as worker:
        assert await worker.client.run(work) == [5]
