"""Everything of anyio's that does no I/O works in a workflow, also on an asyncio host."""

# mypy: ignore-errors

from __future__ import annotations

import anyio
import anyio.abc
import sniffio

from tests.engine.driver import START, act


async def later(seconds, value):
    await anyio.sleep(seconds)
    return value


def test_gather_keeps_the_order_of_its_arguments(run):
    a, b = act("a", int), act("b", int)

    async def wf():
        first = await anyio.gather(later(2, "x"), later(1, "y"))
        return [list(first), list(await anyio.gather(a(), b(), a()))]

    assert run(wf, a=lambda: 1, b=lambda: 2) == [["x", "y"], [1, 2, 1]]


def test_gather_cancels_the_others_when_one_fails(run):
    a, b = act("a"), act("b")

    def fails():
        raise LookupError("no")

    async def wf():
        seen = []
        try:
            await anyio.gather(b(), a(), later(100, 1))
        except* LookupError as group:
            seen.append(len(group.exceptions))
        return [*seen, anyio.current_time() - START]

    assert run(wf, a=fails, b=lambda: 1) == [1, 0]


def test_amap_and_as_completed(run):
    async def wf():
        doubled = await anyio.amap(lambda n: later(3 - n, n * 2), [0, 1, 2])
        order = []
        async with anyio.as_completed(later(3, "c"), later(1, "a"), later(2, "b")) as results:
            async for handle in results:
                order.append(await handle)  # noqa: PERF401  # `await` is what is tried
        return [list(doubled), order]

    assert run(wf) == [[0, 2, 4], ["a", "b", "c"]]


def test_task_groups_handles_and_start(run):
    async def serve(*, task_status=anyio.TASK_STATUS_IGNORED):
        await anyio.sleep(1)
        task_status.started("ready")
        await anyio.sleep(1)

    async def wf():
        async with anyio.create_task_group() as group:
            ready = await group.start(serve)
            handle = group.create_task(later(2, 5))
            gone = group.create_task(later(50, 6))
            value = await handle
            gone.cancel()
            group.start_soon(later, 1, 1)
        return [str(ready), value, str(gone.status), anyio.current_time() - START]

    result = run(wf)
    assert result[:2] == ["ready", 5]
    assert "cancel" in result[2].lower()
    assert result[3] == 4


def test_scopes_and_timeouts(run):
    async def wf():
        out = []
        with anyio.move_on_after(1) as scope:
            await anyio.sleep_forever()
        out.append(scope.cancelled_caught)
        try:
            with anyio.fail_after(1):
                await anyio.sleep(9)
        except TimeoutError:
            out.append("slow")
        with anyio.CancelScope() as scope:
            scope.cancel("because")
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
            await anyio.sleep(1)
            out.append("never")
        return [*out, anyio.current_time() - START]

    assert run(wf) == [True, "slow", 3]


def test_events_locks_semaphores_limiters_and_conditions(run):
    async def wf():
        lock, semaphore, limiter = anyio.Lock(), anyio.Semaphore(2), anyio.CapacityLimiter(2)
        event, condition, seen = anyio.Event(), anyio.Condition(), []

        async def user(number):
            await event.wait()
            async with semaphore, limiter, lock:
                seen.append(number)
                await anyio.sleep(1)
            async with condition:
                condition.notify()

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(user, number)
            async with condition:
                event.set()
                await condition.wait()
        return [seen, anyio.current_time() - START]

    assert run(wf) == [[0, 1, 2, 3], 4]


def test_memory_streams(run):
    async def wf():
        send, receive = anyio.create_memory_object_stream[int](1)
        seen = []

        async def produce():
            async with send:
                for item in range(4):
                    await send.send(item)

        async with anyio.create_task_group() as group:
            group.start_soon(produce)
            async with receive:
                async for item in receive:
                    seen.append(item)
                    await anyio.sleep(1)
        return seen

    assert run(wf) == [0, 1, 2, 3]


def test_current_task_and_library_are_trios(run):
    async def wf():
        return [anyio.get_current_task().name, sniffio.current_async_library()]

    assert run(wf) == ["wf", "trio"]
