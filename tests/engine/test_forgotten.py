"""A call without ``await`` fails the workflow at the end of its turn, and says where it is."""

# mypy: ignore-errors

from __future__ import annotations

import gc
import inspect

import anyio
import pytest
import trio

from tests.engine.driver import (
    Driver,
    act,
    child_done,
    done,
    nothing_left,
    on_host,
    signal,
    stopped,
)
from trioflow._model.commands import CancelActivity
from trioflow._model.turns import Failed
from trioflow._model.workflows import Workflow
from trioflow.authoring import Signal, send_signal
from trioflow.errors import ArgumentError

a = act("a", int)
b = act("b", int)


async def _child() -> int:
    return 1


child = Workflow(_child, name="child")


def line_in(fn, text):
    lines, first = inspect.getsourcelines(fn)
    return f"{__file__}:{first + next(n for n, line in enumerate(lines) if text in line)}"


async def forgets():
    await a()
    b()
    await a()


def test_the_error_names_the_activity_and_the_line(host):
    def check():
        driver = Driver(forgets)
        turn = driver.turn(done("0:0", 1))
        assert turn.commands == []  # the call that came after it was not stored
        assert isinstance(turn.outcome, Failed)
        message = turn.outcome.failure.message
        assert "activity 'b'" in message
        assert line_in(forgets, "    b()") in message
        assert "await" in message
        driver.check()

    with nothing_left():
        on_host(host, check)


approved = Signal("approved", bool)


async def charges_unasked():
    if not approved.receive():
        return 0
    return await a()


async def sends_nothing():
    send_signal("other", approved, True)
    return await a()


async def steps_by_hand():
    anext(approved)
    return await a()


@pytest.mark.parametrize(
    ("program", "what", "text"),
    [
        (charges_unasked, "receive() of signal 'approved'", "approved.receive()"),
        (sends_nothing, "send_signal() of 'approved'", "send_signal("),
        (steps_by_hand, "receive() of signal 'approved'", "anext("),
    ],
)
def test_signals_are_awaited_too(program, what, text):
    with nothing_left():
        driver = Driver(program)
        assert driver.last.commands == []
        message = driver.outcome.failure.message
        assert what in message
        assert line_in(program, text) in message
        driver.check()


def test_signals_that_are_awaited_later_or_by_others_are_not_forgotten(drive):
    async def wf() -> int:
        later = approved.receive()
        await a()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(approved.receive)
        async for _ in approved:
            return int(await later)

    with nothing_left():
        driver = drive(wf)
        driver.turn(done("0:0", 1))
        for _ in range(3):
            driver.turn(signal("approved", True))
        assert driver.check().result() == 1


def test_executions_of_older_rules_know_no_forgotten_signals():
    async def wf() -> int:
        approved.receive()
        return await a()

    with pytest.warns(RuntimeWarning, match="never awaited"):
        driver = Driver(wf, rules=0)
    driver.turn(done("0:0", 1))
    assert driver.result() == 1


def test_what_runs_is_cancelled_and_waited_for_first():
    cleaned = []

    async def wf():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b)
            try:
                await a()
                child()
                await trio.sleep(100)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)
                    cleaned.append(True)

    with nothing_left():
        driver = Driver(wf)
        turn = driver.turn(done("0:0", 1))
        assert turn.outcome is None
        assert turn.commands == [CancelActivity("0.0:0")]
        driver.turn(stopped("0.0:0"))
        driver.wake()
        assert "workflow 'child'" in driver.outcome.failure.message
        assert cleaned == [True]
        driver.check()


def test_at_the_end_it_fails_too_and_an_error_of_its_own_gets_a_note():
    async def ends() -> int:
        forgotten = b()
        return 1 if forgotten else 2

    async def raises() -> int:
        b()
        raise ValueError("mine")

    with nothing_left():
        driver = Driver(ends)
        assert "activity 'b'" in driver.outcome.failure.message
        driver.check()
        driver = Driver(raises)
        failure = driver.outcome.failure
        assert failure.message == "mine"
        assert "activity 'b'" in failure.notes[0]
        driver.check()


def test_a_call_may_be_made_in_one_turn_and_awaited_in_another(drive):
    async def wf() -> int:
        later = b()
        await a()
        return await later

    with nothing_left():
        driver = drive(wf)
        driver.turn(done("0:0", 1))
        driver.turn(done("0:1", 2))
        assert driver.check().result() == 2
        driver.evict()


def test_a_call_that_is_held_when_its_execution_is_evicted_is_closed():
    async def wf() -> int:
        later = b()
        await a()
        return await later

    with nothing_left():
        Driver(wf).evict()


def test_calls_that_others_start_are_awaited(run):
    async def wf() -> list[int]:
        found = list(await anyio.gather(a(), b()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a)
            nursery.start_soon(a.options(queue="other"))
        with trio.CancelScope() as scope:
            scope.cancel()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(a)
        return found

    assert run(wf, a=lambda: 1, b=lambda: 2) == [1, 2]


def test_executions_of_older_rules_know_no_such_end():
    async def wf() -> int:
        b()
        return await a()

    with pytest.warns(RuntimeWarning, match="never awaited"):
        driver = Driver(wf, rules=0)
    driver.turn(done("0:0", 1))
    assert driver.result() == 1


@pytest.mark.parametrize("call", [a, child, trio.sleep_forever])
def test_a_coroutine_that_is_returned_is_told_to_be_awaited(call):
    async def wf():
        return call()

    with nothing_left():
        driver = Driver(Workflow(wf, name="shop"))
        with pytest.raises(ArgumentError, match=r"shop\(\).*returned a coroutine.*await"):
            driver.check().result()


def test_a_workflow_is_awaited_like_an_activity():
    async def wf() -> int:
        return await child()

    driver = Driver(wf)
    driver.turn(child_done("0:0", 7))
    assert driver.check().result() == 7


class Holder:
    """Holds a call, and itself."""

    def __init__(self, call):
        self.me = self
        self.call = call


def test_when_the_collector_comes_changes_nothing():
    def program(collects):
        async def wf() -> int:
            Holder(b())
            if "within" in collects:
                gc.collect()
            await a()
            Holder(child())
            await a()
            return 7

        wf.__qualname__ = "wf"
        return wf

    def history(collects):
        driver = Driver(program(collects))
        for id in ("0:0", "0:1"):
            if "between" in collects:
                gc.collect()
            driver.turn(done(id, 1))
        driver.check()
        assert driver.result() == 7
        return driver.history

    gc.collect()
    gc.disable()
    try:
        with nothing_left():
            never = history("never")
            assert history("within") == never
            assert history("between") == never
            assert history("within and between") == never
    finally:
        gc.enable()


def test_a_call_that_is_forgotten_is_found_although_the_collector_comes():
    async def wf() -> int:
        b()
        gc.collect()
        await a()

    with nothing_left():
        driver = Driver(wf)
        assert "activity 'b'" in driver.outcome.failure.message


def test_a_call_that_is_let_go_of_in_a_later_turn_is_closed_at_the_end():
    async def wf() -> int:
        later = b()
        await a()
        del later
        await a()
        return 7

    with nothing_left():
        driver = Driver(wf)
        driver.turn(done("0:0", 1))
        driver.turn(done("0:1", 1))
        assert driver.check().result() == 7
