"""What trio has besides I/O works in a workflow: on each host, live, evicted and replayed."""

# mypy: ignore-errors

from __future__ import annotations

import contextvars
import math

import pytest
import trio
from trio._core import _parking_lot  # noqa: TID251  # what the loop has to clean up

from tests.engine.driver import START, Driver

word = contextvars.ContextVar("word", default="unset")


def test_tasks_run_in_the_order_of_their_age_in_every_batch(run):
    async def wf():
        seen = []

        async def worker(number):
            for round_number in range(3):
                seen.append([round_number, number])
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(worker, number)
        return seen

    assert run(wf) == [[r, n] for r in range(3) for n in range(20)]


def test_all_waiters_of_an_event_wake_in_the_order_of_their_age(run):
    async def wf():
        event, seen = trio.Event(), []

        async def waiter(number):
            await event.wait()
            seen.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(waiter, number)
            await trio.sleep(1)
            event.set()
        return seen

    assert run(wf) == list(range(50))


def test_deadlines_of_one_moment_wake_tasks_by_age_others_by_time(run):
    async def wf():
        seen = []

        async def sleeper(number, seconds):
            await trio.sleep(seconds)
            seen.append(number)

        async with trio.open_nursery() as nursery:
            for number, seconds in enumerate([5, 3, 5, 1, 3, 5]):
                nursery.start_soon(sleeper, number, seconds)
        return seen

    assert run(wf) == [3, 1, 4, 0, 2, 5]


def test_cancelled_tasks_wake_by_age_though_trio_keeps_them_in_a_set(run):
    async def wf():
        seen = []

        async def waiter(number):
            try:
                await trio.sleep_forever()
            finally:
                seen.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(waiter, number)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        return seen

    assert run(wf) == list(range(50))


def test_nurseries_start_and_nested_results(run):
    async def serve(number, task_status=trio.TASK_STATUS_IGNORED):
        await trio.sleep(number)
        task_status.started(number * 10)
        await trio.sleep(1)

    async def wf():
        async with trio.open_nursery() as outer, trio.open_nursery() as inner:
            a = await outer.start(serve, 1)
            b = await inner.start(serve, 2)
            return [a, b, trio.current_time()]

    assert run(wf) == [10, 20, START + 3]


def test_a_failure_cancels_the_siblings_and_leaves_as_a_group(run):
    async def wf():
        seen = []

        async def fails():
            await trio.sleep(1)
            raise KeyError("x")

        async def waits():
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                seen.append("cancelled")
                raise

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(waits)
                nursery.start_soon(fails)
        except* KeyError as group:
            seen.append(len(group.exceptions))
        return seen

    assert run(wf) == ["cancelled", 1]


def test_sleeping_and_the_clock(run):
    async def wf():
        begin = trio.current_time()
        await trio.sleep(2.5)
        await trio.sleep_until(begin + 10)
        await trio.sleep(0)  # this too
        await trio.sleep_until(begin)  # in the past
        return [begin, trio.current_time()]

    assert run(wf) == [START, START + 10]


def test_timeouts(run):
    async def wf():
        out = []
        with trio.move_on_after(1) as scope:
            await trio.sleep_forever()
        out.append(scope.cancelled_caught)
        with trio.move_on_at(trio.current_time() + 1) as scope:
            await trio.sleep(0.5)
        out.append(scope.cancelled_caught)
        for limit in (trio.fail_after, lambda s: trio.fail_at(trio.current_time() + s)):
            try:
                with limit(1):
                    await trio.sleep(5)
            except trio.TooSlowError:
                out.append("slow")
        out.append(trio.current_effective_deadline() == math.inf)
        return out

    assert run(wf) == [True, False, "slow", "slow", True]


def test_a_deadline_can_be_moved_and_a_scope_shielded(run):
    async def wf():
        out = []
        with trio.move_on_after(1) as scope:
            scope.deadline += 4
            await trio.sleep_forever()
        out.append(trio.current_time() - START)
        with trio.move_on_after(1):
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
            out.append(trio.current_time() - START)
            await trio.lowlevel.checkpoint()
            out.append("never")
        with trio.move_on_after(1), trio.CancelScope() as inner:
            inner.shield = True
            await trio.sleep(2)
            inner.shield = False
            await trio.lowlevel.checkpoint()
        out.append(inner.cancelled_caught)
        return out

    assert run(wf) == [5, 8, False]


def test_a_scope_made_beforehand_counts_from_its_entry(run):
    async def wf():
        scope = trio.CancelScope(relative_deadline=2)
        await trio.sleep(5)
        with scope:
            await trio.sleep_forever()
        return trio.current_time() - START

    assert run(wf) == 7


@pytest.mark.parametrize("kind", ["Lock", "StrictFIFOLock"])
def test_locks_are_given_in_the_order_of_asking(run, kind):
    async def wf():
        lock, seen = getattr(trio, kind)(), []

        async def user(number):
            async with lock:
                seen.append(number)
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(user, number)
        return [seen, trio.current_time() - START, lock.locked()]

    assert run(wf) == [[0, 1, 2, 3, 4], 5, False]


@pytest.mark.parametrize("kind", ["Semaphore", "CapacityLimiter"])
def test_semaphores_and_limiters_let_two_at_a_time_pass(run, kind):
    async def wf():
        limit, seen = getattr(trio, kind)(2), []

        async def user(number):
            async with limit:
                seen.append([number, trio.current_time() - START])
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(user, number)
        return seen

    assert run(wf) == [[0, 0], [1, 0], [2, 1], [3, 1], [4, 2]]


def test_conditions(run):
    async def wf():
        condition, seen = trio.Condition(), []

        async def waiter(number):
            async with condition:
                await condition.wait()
                seen.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(waiter, number)
            await trio.sleep(1)
            async with condition:
                condition.notify(2)
            await trio.sleep(1)
            seen.append("all")
            async with condition:
                condition.notify_all()
        return seen

    assert run(wf) == [0, 1, "all", 2, 3]


def test_memory_channels_with_several_ends(run):
    async def wf():
        send, receive = trio.open_memory_channel(1)
        seen = []

        async def producer(end, number):
            async with end:
                for item in range(2):
                    await end.send([number, item])

        async def consumer(end, number):
            async with end:
                async for item in end:
                    seen.append([number, item])
                    await trio.sleep(number)

        async with trio.open_nursery() as nursery, send, receive:
            for number in range(2):
                nursery.start_soon(producer, send.clone(), number)
                nursery.start_soon(consumer, receive.clone(), number + 1)
        return seen

    assert sorted(item for _, item in run(wf)) == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_lowlevel_checkpoints(run):
    async def wf():
        with trio.CancelScope() as scope:
            scope.cancel()
            await trio.lowlevel.cancel_shielded_checkpoint()
            try:
                await trio.lowlevel.checkpoint_if_cancelled()
            except trio.Cancelled:
                return "cancelled"
        return "went on"

    assert run(wf) == "cancelled"


def test_parking_lots_and_task_locals(run):
    local = trio.lowlevel.RunVar("local", default=0)

    async def wf():
        lot, seen = trio.lowlevel.ParkingLot(), []
        local.set(7)

        async def parks(number):
            await lot.park()
            seen.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(parks, number)
            await trio.sleep(1)
            lot.unpark(count=2)
            await trio.sleep(1)
            lot.unpark_all()
        return [seen, local.get()]

    assert run(wf) == [[0, 1, 2], 7]


def test_context_variables_are_inherited_and_the_hosts_are_not_seen(run):
    word.set("the host's")

    async def wf():
        seen = [word.get()]
        word.set("main")

        async def child():
            seen.append(word.get())
            word.set("child")
            await trio.sleep(1)
            seen.append(word.get())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
        seen.append(word.get())
        return seen

    assert run(wf) == ["unset", "main", "child", "main"]
    assert word.get() == "the host's"
    word.set("unset")


def test_async_generators_run_to_their_end(run):
    async def numbers(count):
        try:
            for number in range(count):
                await trio.sleep(1)
                yield number
        finally:
            await trio.sleep(1)

    async def wf():
        seen = [number async for number in numbers(3)]
        closing = numbers(3)
        async for number in closing:
            seen.append(number)
            break
        await closing.aclose()
        return [*seen, trio.current_time() - START]

    assert run(wf) == [0, 1, 2, 0, 6]


def test_a_scope_entered_and_never_left_does_not_hurt(run):
    async def wf():
        trio.move_on_after(5).__enter__()
        return "ended"

    with pytest.raises(RuntimeError, match=r"[Cc]ancel scope"):
        run(wf)


def test_misnested_scopes_are_an_error_of_the_workflow(run):
    async def wf():
        outer, inner = trio.CancelScope(), trio.CancelScope()
        outer.__enter__()
        inner.__enter__()
        outer.__exit__(None, None, None)

    with pytest.raises(RuntimeError, match=r"[Cc]ancel scope"):
        run(wf)


def test_a_nursery_left_open_is_an_error_and_its_tasks_go(run):
    log = []

    async def child():
        try:
            await trio.sleep_forever()
        finally:
            log.append("gone")

    async def wf():
        nursery = await trio.open_nursery().__aenter__()
        nursery.start_soon(child)
        await trio.sleep(1)

    with pytest.raises(RuntimeError, match="nursery"):
        run(wf)
    assert set(log) == {"gone"}


def test_a_lock_held_at_the_end_keeps_nothing_alive(host):
    async def wf():
        await trio.Lock().acquire()
        return 1

    breakers = _parking_lot.GLOBAL_PARKING_LOT_BREAKER
    before = len(breakers)
    assert Driver(wf).finish().check().result() == 1
    assert len(breakers) == before
