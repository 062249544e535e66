"""The workflows of the golden histories. NEVER EDIT A LINE THAT IS HERE.

The histories beside this file were made by this code, and have to replay with it for ever. What is
new goes into a new module with histories of its own.
"""

from __future__ import annotations

import contextlib
from typing import Any

import anyio
import trio

from trioflow import (
    InstanceFinished,
    InstanceNotFound,
    Registry,
    RetryPolicy,
    Signal,
    continue_as_new,
    info,
    now,
    random,
    send_signal,
    set_status,
    workflow_by_name,
)

flows = Registry()
go = Signal("go", int)
word = Signal("word", str)
never = Signal("never", int)
ONCE = RetryPolicy(max_attempts=1)


@flows.activity
async def double(n: int) -> int:
    return 2 * n


@flows.activity
async def slow(name: str, seconds: float) -> str:
    await trio.sleep(seconds)
    return name


@flows.activity
async def stubborn(seconds: float) -> str:
    with trio.CancelScope(shield=True):
        await trio.sleep(seconds)
    return "done all the same"


@flows.activity(on_cancel="abandon")
async def watch(name: str) -> str:
    await trio.sleep_forever()
    return name


@flows.activity(retry=ONCE)
async def broken(text: str) -> None:
    raise ValueError(text)


# --- trio's constructs ----------------------------------------------------------------------


@flows.workflow
async def nurseries(width: int, depth: int) -> list[Any]:
    async def level(path: str, left: int, into: list[Any]) -> None:
        into.append(f"{path}={await slow(path, 0.1 * len(path) + left)}")
        if left == 0:
            return
        async with trio.open_nursery() as nursery:
            for index in range(width):
                nursery.start_soon(level, f"{path}{index}", left - 1, into)
            await trio.sleep(0.25)
            into.append(f"{path} asks again: {await double(left)}")

    found: list[Any] = []
    await level("r", depth, found)
    return sorted(found)


@flows.workflow
async def started_tasks() -> list[str]:
    """`nursery.start`, channels, events, locks and a condition, all of trio."""
    seen: list[str] = []
    send, receive = trio.open_memory_channel[int](1)
    ready, lock, changed = trio.Event(), trio.Lock(), trio.Condition()

    async def server(task_status: trio.TaskStatus[int]) -> None:
        task_status.started(await double(4))
        await ready.wait()
        async with lock:
            seen.append(await slow("server", 1))

    async def producer() -> None:
        async with send:
            for n in range(3):
                await send.send(await double(n))

    async def consumer() -> None:
        async for n in receive:
            async with lock:
                seen.append(f"consumed {n}: {await slow('c', 0.5)}")
            async with changed:
                changed.notify_all()

    async with trio.open_nursery() as nursery:
        port = await nursery.start(server)
        nursery.start_soon(producer)
        nursery.start_soon(consumer)
        async with changed:
            await changed.wait()
        seen.append(f"port {port}")
        ready.set()
    return seen


@flows.workflow
async def deadlines() -> list[Any]:
    seen: list[Any] = []
    with trio.move_on_after(5) as scope:
        await slow("too slow", 100)
    seen.append(["move_on_after", scope.cancelled_caught, now() - info().started_at])
    try:
        with trio.fail_after(5):
            await trio.sleep(6)
    except trio.TooSlowError as error:
        seen.append(["fail_after", type(error).__name__])
    with trio.move_on_after(30) as outer:
        with trio.move_on_after(10) as inner:
            await never.receive()
        seen.append(["nested", outer.cancelled_caught, inner.cancelled_caught])
        await slow("after the inner", 1)
    with trio.CancelScope() as moved:
        moved.deadline = trio.current_time() + 3
        async with trio.open_nursery() as nursery:
            nursery.start_soon(double, 1)
            await trio.sleep(1)
            moved.deadline += 2
            await trio.sleep_forever()
    seen.append(["moved", moved.cancelled_caught, now() - info().started_at])
    with trio.move_on_at(trio.current_time() - 1) as past:
        await double(99)
    seen.append(["past", past.cancelled_caught])
    await trio.sleep(0)
    await trio.sleep_until(info().started_at + 60)
    seen.append(["until", now() - info().started_at])
    return seen


@flows.workflow
async def many_deadlines() -> list[str]:
    """Several deadlines, of which some come while nobody works."""
    seen: list[str] = []

    async def sleeper(name: str, seconds: float) -> None:
        await trio.sleep(seconds)
        seen.append(name)
        seen.append(await slow(f"{name} went on", 1))

    async def waits(name: str, seconds: float) -> None:
        with trio.move_on_after(seconds) as scope:
            seen.append(f"{name} got {await go.receive()}")
        if scope.cancelled_caught:
            seen.append(f"{name} gave up")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleeper, "c", 30)
        nursery.start_soon(sleeper, "a", 10)
        nursery.start_soon(waits, "w", 25)
        nursery.start_soon(sleeper, "b", 20)
        nursery.start_soon(sleeper, "same as b", 20)
    return seen


@flows.workflow
async def failed_sibling() -> list[str]:
    seen: list[str] = []

    async def cleans_up() -> None:
        try:
            await slow("cancelled", 50)
        finally:
            with trio.CancelScope(shield=True):
                seen.append(await slow("cleaned up", 1))

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cleans_up)
            nursery.start_soon(broken, "one")
            nursery.start_soon(broken, "two")
            nursery.start_soon(trio.sleep, 50)
            nursery.start_soon(waiting.options(id=f"{info().id}/child"))
    except* ValueError as group:
        seen.append("+".join(sorted(str(error) for error in group.exceptions)))
    return seen


@flows.workflow
async def cancels_in_the_same_turn() -> list[str]:
    """What is called and cancelled in one turn was never asked for."""
    seen: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(double, 1)
        nursery.start_soon(waiting)
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    seen.append(f"then {await double(2)}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow, "gone", 10)
        nursery.start_soon(double, 3)
        await trio.sleep(1)
        nursery.start_soon(double, 4)
        nursery.cancel_scope.cancel()
    seen.append("left")
    return seen


@flows.workflow
async def completed_all_the_same() -> list[str]:
    with trio.move_on_after(2) as scope:
        result = await stubborn(5)
    seen = [result, str(scope.cancelled_caught), str(now() - info().started_at)]
    async with trio.open_nursery() as nursery:

        async def keep() -> None:
            seen.append(await stubborn(3))
            await trio.lowlevel.checkpoint()
            seen.append("never")

        nursery.start_soon(keep)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    return seen


@flows.workflow
async def abandons() -> str:
    with trio.move_on_after(3):
        await watch("one")
    with trio.move_on_after(3):
        await slow.options(on_cancel="abandon")("two", 1000)
    return await slow("three", 1)


@flows.workflow
async def cleans_up() -> str:
    """A client's cancel, with cleanup under a shield that has a deadline of its own."""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow, "under way", 1000)
            nursery.start_soon(waiting.options(id=f"{info().id}/child"))
            await never.receive()
    finally:
        with trio.move_on_after(10, shield=True):
            await double(1)
            await adding(1)
            await trio.sleep(1000)
    return "not reached"


@flows.workflow
async def swallows_its_cancel() -> str:
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        set_status("I heard")
    with contextlib.suppress(trio.Cancelled):
        await double(1)
    return "went on"


@flows.workflow
async def uses_generators() -> list[int]:
    async def numbers(count: int):
        try:
            for n in range(count):
                yield await double(n)
        finally:
            set_status("generator closed")

    seen = []
    async with contextlib.aclosing(numbers(5)) as source:
        async for n in source:
            seen.append(n)
            if n == 4:
                break
    async with contextlib.AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(double, 10)
        stack.push_async_callback(double, 11)
    return seen


# --- signals --------------------------------------------------------------------------------


@flows.workflow
async def signals() -> list[Any]:
    seen: list[Any] = [await go.receive(), go.receive_nowait()]
    try:
        go.receive_nowait()
    except trio.WouldBlock:
        seen.append("none left")
    async for text in word:
        seen.append(text)
        if text == "stop":
            break
    for _ in range(2):
        with trio.move_on_after(5) as scope:
            seen.append(await go.receive())
        seen.append(f"lost: {scope.cancelled_caught}")

    async def receiver(name: str) -> None:
        seen.append(f"{name} {await go.receive()}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receiver, "first")
        nursery.start_soon(receiver, "second")
        await word.receive()
    return seen


@flows.workflow
async def lost_race() -> list[Any]:
    """The deadline and the signal come in one turn: whoever loses, the signal stays."""
    with trio.move_on_after(10) as scope:
        return ["in time", await go.receive()]
    await double(1)
    return ["late", scope.cancelled_caught, await go.receive()]


@flows.workflow
async def waiting() -> int:
    return await go.receive()


@flows.workflow
async def receives(words: int) -> list[Any]:
    return [await go.receive(), *[await word.receive() for _ in range(words)]]


@flows.workflow
async def sends(target: str, finished: str) -> list[str]:
    seen = []
    await send_signal(target, go, 7)
    for id in ("nobody-is-here", finished):
        try:
            await send_signal(id, go, 1)
        except (InstanceNotFound, InstanceFinished) as error:
            seen.append(f"{type(error).__name__}: {error}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_signal, target, word, "a")
        nursery.start_soon(send_signal, target, word, "b")
    return seen


@flows.workflow
async def continues(seen: list[int], *, rounds: int) -> list[int]:
    seen.append(await go.receive())
    await word.receive()
    seen.append(random().getrandbits(16))
    if rounds > 1:
        continue_as_new(seen, rounds=rounds - 1)
    return [*seen, go.receive_nowait(), info().execution]


# --- sub-workflows --------------------------------------------------------------------------


@flows.workflow
async def adding(n: int) -> int:
    return n + await double(n)


@flows.workflow
async def flaky(text: str, first: int) -> str:
    """Fails in runs whose ids end in a number below `first`."""
    if int(info().id.rpartition(":")[2]) < first:
        await broken(text)
    return text


@flows.workflow
async def ends_with_its_parent(child: str) -> list[str]:
    seen = []
    for how in ("cancelled", "terminated", "continued"):
        try:
            value = await continues.options(id=f"{child}-{how}")([], rounds=2)
            seen.append(f"{how}: {len(value)} values")
        except Exception as error:
            seen.append(f"{how}: {type(error).__name__}: {error}")
    return seen


@flows.workflow
async def parents() -> list[Any]:
    seen: list[Any] = [await adding(1), await adding.options(priority=7)(2)]
    seen.append(list(await anyio.gather(*(adding(n) for n in range(3)))))
    retry = RetryPolicy(max_attempts=3, initial_interval=5, jitter=0)
    seen.append(await flaky.options(retry=retry)("third time lucky", 4))
    try:
        await flaky.options(id="a:0")("broken child", 1)
    except ValueError as error:
        seen.append(["failed", str(error), error.__notes__])
    try:
        await waiting.options(id="taken")()
    except Exception as error:
        seen.append([type(error).__name__, str(error)])
    with trio.move_on_after(4):
        await waiting.options(id=f"{info().id}/late")()
    with trio.move_on_after(4):
        await waiting.options(id=f"{info().id}/never-begun", queue="served later")()
    seen.append(await workflow_by_name("adding", result=int)(n=5))
    return seen
