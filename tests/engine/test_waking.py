"""A workflow that wakes a task of another run fails, and the other one goes on unharmed."""

# mypy: ignore-errors

from __future__ import annotations

import contextlib
import types

import pytest
import trio
import trio.testing

from tests.engine.driver import Driver, act, done, nothing_left
from trioflow._engine.replay import Diverged
from trioflow._model import events as ev
from trioflow.errors import DeterminismError

a = act("a", int)


class Hidden:
    """Holds what no module and no scope of a workflow refers to."""

    def __init__(self):
        send, receive = trio.open_memory_channel(0)
        self.held = [
            types.SimpleNamespace(
                event=trio.Event(),
                lot=trio.lowlevel.ParkingLot(),
                send=send,
                receive=receive,
                scopes=[],
            )
        ]

    def __call__(self):
        return self.held[0]


def fails_at(driver, kind, function):
    where = rf"test_waking.py:\d+, in .*{function}: this {kind} does not belong"
    with pytest.raises(DeterminismError, match=where):
        driver.result()
    driver.evict()
    return True


async def host_waits(find, got, wf, waiters):
    """Let host tasks wait, then run the workflow; return its driver once the host has gone on."""

    async def keep(waiter):
        got.append(await waiter(find()))

    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            for waiter in waiters:
                nursery.start_soon(keep, waiter)
            await trio.testing.wait_all_tasks_blocked()
            driver = Driver(wf)
    return driver


def on_trio(fn, *args):
    return trio.run(fn, *args, clock=trio.testing.MockClock(autojump_threshold=0))


async def _receives(held):
    return await held.receive.receive()


async def _sends(held):
    await held.send.send(3)
    return "sent"


async def _waits(held):
    await held.event.wait()
    return "set"


async def _parks(held):
    await held.lot.park()
    return "unparked"


async def _sees_the_end(held):
    try:
        await held.receive.receive()
    except trio.EndOfChannel:
        return "ended"


@pytest.mark.parametrize(
    ("use", "waiters", "expected", "kind"),
    [
        (lambda held: held.send.send_nowait(5), [_receives], [5], "MemorySendChannel"),
        (lambda held: held.receive.receive_nowait(), [_sends], ["sent"], "MemoryReceiveChannel"),
        (lambda held: held.send.close(), [_sees_the_end] * 2, ["ended"] * 2, "MemorySendChannel"),
        (lambda held: held.event.set(), [_waits] * 3, ["set"] * 3, "Event"),
        (lambda held: held.lot.unpark_all(), [_parks] * 3, ["unparked"] * 3, "ParkingLot"),
    ],
)
@pytest.mark.parametrize("then", ["it ends", "it raises", "it waits", "it yields", "it calls"])
def test_tasks_of_the_host_are_woken_all_of_them(use, waiters, expected, kind, then):
    find, got, seen = Hidden(), [], []

    async def wakes():
        use(find())
        seen.append(then)  # the call itself does not raise
        if then == "it raises":
            raise ValueError("mine")
        if then == "it waits":
            await trio.sleep_forever()
        if then == "it yields":
            await trio.lowlevel.cancel_shielded_checkpoint()
        if then == "it calls":
            await a()

    with nothing_left():
        driver = on_trio(host_waits, find, got, wakes, waiters)
        assert got == expected
        assert seen == [then]
        assert fails_at(driver, kind, "<lambda>")
        assert driver.last.commands == []


def test_who_catches_the_error_goes_on():
    find, got = Hidden(), []

    async def wakes() -> str:
        find().event.set()
        try:
            await trio.sleep(5)
        except DeterminismError:
            await trio.sleep(1)
            return "caught"

    driver = on_trio(host_waits, find, got, wakes, [_waits])
    driver.wake()
    assert driver.result() == "caught"


def test_the_error_is_that_of_the_task_at_fault():
    find, got, seen = Hidden(), [], []

    async def wakes() -> None:
        async def bystander():
            await trio.sleep(1)
            seen.append("unharmed")

        async def culprit():
            try:
                find().event.set()
                await trio.sleep(1)
            except DeterminismError:
                seen.append("refused")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(bystander)
            nursery.start_soon(culprit)
            nursery.start_soon(bystander)

    driver = on_trio(host_waits, find, got, wakes, [_waits])
    driver.wake()
    assert driver.result() is None
    assert seen == ["refused", "unharmed", "unharmed"]


def test_a_wait_that_cannot_be_left_is_waited_for_first():
    find, got, waiting = Hidden(), [], []

    async def wakes() -> None:
        async def other():
            await trio.sleep(1)
            trio.lowlevel.reschedule(waiting.pop())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            find().event.set()
            waiting.append(trio.lowlevel.current_task())
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    driver = on_trio(host_waits, find, got, wakes, [_waits])
    assert driver.outcome is None
    driver.wake()
    assert waiting == []
    with pytest.raises(ExceptionGroup) as caught:
        driver.result()
    assert caught.group_contains(DeterminismError, match="this Event does not belong")
    driver.evict()


@pytest.mark.parametrize("kind", ["Event", "MemorySendChannel"])
def test_a_task_of_another_execution_is_woken(host, kind):
    find = Hidden()

    async def waits() -> object:
        return await (_waits if kind == "Event" else _receives)(find())

    async def wakes() -> None:
        if kind == "Event":
            find().event.set()
        else:
            find().send.send_nowait("a value")

    first, second = Driver(waits, id="first"), Driver(wakes, id="second")
    assert fails_at(second, kind, "wakes")
    assert first.outcome is None
    first.turn(ev.Woken())
    assert first.result() == ("set" if kind == "Event" else "a value")


def test_a_scope_of_another_execution_is_cancelled_and_who_did_it_fails():
    find = Hidden()

    async def waits() -> str:
        with trio.CancelScope() as scope:
            find().scopes.append(scope)
            await trio.sleep(100)
        return "cancelled"

    async def cancels() -> None:
        find().scopes[0].cancel()

    first, second = Driver(waits, id="first"), Driver(cancels, id="second")
    assert fails_at(second, "CancelScope", "cancels")
    first.turn(ev.Woken())
    assert first.result() == "cancelled"


def test_a_host_that_cancels_a_scope_of_a_workflow_goes_on_and_the_workflow_fails():
    find = Hidden()

    async def waits() -> None:
        with trio.CancelScope() as scope:
            find().scopes.append(scope)
            await trio.sleep(100)

    async def main():
        driver = Driver(waits)
        find().scopes[0].cancel()
        driver.turn(ev.Woken())
        return driver

    driver = on_trio(main)
    assert fails_at(driver, "CancelScope", "main")


def test_an_eviction_that_wakes_a_task_of_the_host_ends_as_ever():
    find, got = Hidden(), []

    async def wakes() -> None:
        try:
            await a()
        finally:
            find().event.set()

    async def main():
        driver = Driver(wakes)

        async def wait():
            got.append(await _waits(find()))

        with trio.fail_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                with nothing_left():
                    driver.evict()

    on_trio(main)
    assert got == ["set"]


def test_a_replay_that_wakes_a_task_of_the_host_diverges_and_the_host_goes_on():
    find, got = Hidden(), []

    async def wakes() -> None:
        with contextlib.suppress(trio.WouldBlock):
            find().send.send_nowait(5)
        await a()
        await a()

    async def main():
        driver = Driver(wakes)  # nobody receives
        driver.turn(done("0:0", 1))

        async def receive():
            got.append(await _receives(find()))

        with trio.fail_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await trio.testing.wait_all_tasks_blocked()
                execution = driver.fresh()
                with pytest.raises(Diverged):
                    execution.replay(driver.turns)
                execution.evict()
        driver.evict()

    with nothing_left():
        on_trio(main)
    assert got == [5]
