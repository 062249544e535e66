"""The workflows whose instances lie in the stores beside this file. NEVER EDIT A LINE HERE.

The stores were made by this code, and their instances have to be finished with it for ever.
"""

from __future__ import annotations

import os

import trio

from trioflow import (
    Registry,
    RetryPolicy,
    Signal,
    activity_info,
    continue_as_new,
    info,
    set_status,
)

flows = Registry()
wrong = Registry()  # with a workflow whose code does not fit its instance's history
go = Signal("go", int)
word = Signal("word", str)
YEARS = 100 * 365 * 24 * 3600.0


@flows.activity
async def quick(text: str) -> str:
    return text


@flows.activity
async def blocks(text: str) -> str:
    """Ends everywhere but in the processes that were killed when the stores were made."""
    if "TRIOFLOW_RECORDING" in os.environ:
        await trio.sleep_forever()
    return text


@flows.activity(retry=RetryPolicy(max_attempts=5, initial_interval=20, jitter=0))
async def flaky(text: str) -> str:
    if activity_info().attempt == 1:
        raise ValueError("the first attempt fails")
    return text


@flows.workflow
async def waits() -> int:
    set_status({"waiting for": "go"})
    number = await go.receive()
    return 2 * number + len(await quick("end"))


@flows.workflow
async def waits_for_years() -> str:
    with trio.fail_after(YEARS):
        return f"went {await go.receive()}"


@flows.workflow
async def sleeps(seconds: float) -> str:
    await trio.sleep(seconds)
    return await quick("slept")


@flows.workflow
async def calls(text: str, queue: str) -> str:
    return await blocks.options(queue=queue)(text)


@flows.workflow
async def retries(text: str) -> str:
    return await flaky(text)


@flows.workflow
async def mixed() -> list[str]:
    """One activity is done, one was running, one waits; and so do a timer and a signal."""
    found: list[str] = []

    async def keep(call, *args) -> None:
        found.append(str(await call(*args)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep, quick, "done")
        nursery.start_soon(keep, blocks, "running")
        nursery.start_soon(keep, quick.options(queue="elsewhere", priority=-3), "free")
        nursery.start_soon(keep, waits_for_years.options(queue="elsewhere"))
        nursery.start_soon(keep, sleeps, 20)
        nursery.start_soon(keep, go.receive)
    return sorted(found)


@flows.workflow
async def stops_an_activity() -> str:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(blocks.options(queue="doomed activities"), "never told")
        await go.receive()
        nursery.cancel_scope.cancel()
    return await quick("stopped")


@flows.workflow
async def cleans_up(queue: str) -> str:
    try:
        await blocks.options(queue=queue)("cleans up")
        await go.receive()
    finally:
        with trio.CancelScope(shield=True):
            set_status(await quick("clean"))
    return "not cancelled"


@flows.workflow
async def abandons() -> int:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                blocks.options(queue="doomed activities", on_cancel="abandon"), "left"
            )
            await go.receive()
            scope.cancel()
    return await go.receive()


@flows.workflow
async def has_a_child(queue: str) -> int:
    return 1 + await waits.options(id=f"{info().id}/child", queue=queue)()


@flows.workflow
async def has_a_quick_child(queue: str) -> str:
    return f"child: {await retells.options(id=f'{info().id}/child', queue=queue)('told')}"


@flows.workflow
async def retells(text: str) -> str:
    return await quick(text)


@flows.workflow
async def cancels_a_child(queue: str) -> str:
    with trio.move_on_after(1) as scope:
        await waits.options(id=f"{info().id}/child", queue=queue)()
    return f"cancelled: {scope.cancelled_caught}"


@flows.workflow
async def collects(seen: list[int]) -> list[int]:
    """Each execution takes one number; the others go over into the next."""
    seen.append(await go.receive())
    await word.receive()
    if len(seen) < 3:
        continue_as_new(seen)
    return [*seen, info().execution]


@flows.workflow
async def fails(text: str) -> None:
    error = ValueError(text)
    error.add_note("as it was told")
    raise error


@flows.workflow(name="changed")
async def right() -> list[str]:
    first = await quick("first")
    await go.receive()
    return [first, await quick("second")]


@wrong.workflow(name="changed")
async def _wrong() -> list[str]:
    await go.receive()
    return [await quick("second")]


@flows.workflow(max_events=50_000)
async def grows(rounds: int) -> int:
    for n in range(rounds):
        await quick(str(n))
    return rounds


@wrong.workflow(name="grows", max_events=100)
async def _grows(rounds: int) -> int:
    return await grows.fn(rounds)


wrong.add(quick)
