"""Code that no longer matches its history is found out, with a report that says what and where."""

# mypy: ignore-errors

from __future__ import annotations

import inspect
from functools import partial
from typing import get_args

import pytest
import trio

from tests.engine.driver import CODEC, Driver, act, done, failed, nothing_left, signal
from trioflow import Signal, continue_as_new, send_signal, side_effect
from trioflow._engine.calls import Caller
from trioflow._engine.execution import Execution
from trioflow._engine.replay import _KINDS, Diverged
from trioflow._engine.strict import StrictExecution
from trioflow._model import events as ev
from trioflow._model.activities import Activity
from trioflow._model.commands import Command
from trioflow._model.workflows import Workflow

charge, ship, notify, audit = (act(name, int) for name in ("charge", "ship", "notify", "audit"))
item = Signal("item", int)


async def _child() -> int:
    return 1


child = Workflow(_child, name="child")


async def steps():
    await charge()
    await ship()
    return await notify()


async def charge_once():
    await charge()


def history():
    """Three of the four turns that `steps` makes."""
    driver = Driver(steps)
    driver.turn(done("0:0", 1))
    driver.turn(done("0:1", 2))
    return driver


def diverge(driver, changed, kind=Execution):
    """Replay a history with other code; return the report. The right code still replays it."""
    with nothing_left():
        execution = kind(Workflow(changed, name="steps"), driver.identity, CODEC, Caller)
        with pytest.raises(Diverged) as caught:
            execution.replay(driver.turns)
        assert execution.evict()
        report = caught.value.report
        del caught, execution
    driver.check()
    if driver.outcome is None:
        driver.evict()
    assert report.kind == "diverged"
    for part in (report.recorded, report.current, report.line):
        assert part in report.message
    assert "Nothing was changed" in report.message
    return report


def line_of(function, text):
    """``file:line`` of the line of a function that has a text."""
    lines, first = inspect.getsourcelines(function)
    number = next(n for n, line in enumerate(lines) if text in line)
    return f"{__file__}:{first + number}"


def test_the_same_code_replays():
    driver = history()
    driver.check()
    driver.turn(done("0:2", 3))
    assert driver.check().result() == 3


def test_an_activity_renamed():
    async def changed():
        await charge()
        await audit()

    report = diverge(history(), changed)
    assert (report.turn, report.task) == (1, "0")
    assert report.recorded == "activity 'ship' (0:1)"
    assert report.current == "activity 'audit' (0:1)"
    assert report.line == line_of(changed, "audit")


def test_an_activity_added():
    async def changed():
        await audit()
        await steps()

    report = diverge(history(), changed)
    assert (report.turn, report.recorded) == (0, "activity 'charge' (0:0)")
    assert report.current == "activity 'audit' (0:0)"
    assert report.line == line_of(changed, "audit")


def test_an_activity_added_in_the_same_turn_is_the_nearest_match():
    async def before():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(charge)
            nursery.start_soon(ship)

    async def after():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(audit)
            nursery.start_soon(charge)
            nursery.start_soon(ship)

    report = diverge(Driver(before), after)
    assert report.recorded == "activity 'charge' (0.0:0)"
    assert report.current == "activity 'audit' (0.0:0)"
    assert "nearest one that the code has in this turn is activity 'charge' (0.1:0)" in (
        report.message
    )


def test_what_the_code_gives_instead_is_not_called_the_nearest():
    async def changed():
        await act("charge_all", int)()

    report = diverge(Driver(charge_once), changed)
    assert report.current == "activity 'charge_all' (0:0)"
    assert "nearest" not in report.message


def test_an_activity_removed():
    async def changed():
        await charge()
        await notify()

    report = diverge(history(), changed)
    assert (report.turn, report.recorded) == (1, "activity 'ship' (0:1)")
    assert report.current == "activity 'notify' (0:1)"


def test_activities_in_another_order():
    async def changed():
        await ship()
        await charge()

    report = diverge(history(), changed)
    assert (report.turn, report.current) == (0, "activity 'ship' (0:0)")


def test_code_that_waits_where_it_called_something():
    async def changed():
        await charge()
        await trio.sleep(5)
        await ship()

    report = diverge(history(), changed)
    assert (report.turn, report.recorded, report.current) == (1, "activity 'ship' (0:1)", "")
    assert report.line == line_of(changed, "sleep")


def test_code_that_calls_something_where_it_waited():
    async def before():
        await trio.sleep(5)

    async def changed():
        await ship()

    report = diverge(Driver(before), changed)
    assert (report.recorded, report.current) == ("", "activity 'ship' (0:0)")


def test_code_that_ends_early():
    async def changed():
        await charge()

    report = diverge(history(), changed)
    assert report.turn == 1
    assert report.recorded == "activity 'ship' (0:1)"


def test_code_that_ends_where_it_waited():
    async def before():
        await trio.sleep(5)

    async def changed():
        return 1

    report = diverge(Driver(before), changed)
    assert (report.recorded, report.current) == ("", "completed")
    assert "the history goes on" in report.message


@pytest.mark.parametrize("kind", [Execution, StrictExecution])
def test_code_that_ends_before_the_last_signal_of_a_turn(kind):
    async def receives(times):
        for _ in range(times):
            await item.receive()

    driver = Driver(partial(receives, 3))
    driver.turn(signal("item", 1), signal("item", 2))
    report = diverge(driver, partial(receives, 1), kind)
    assert (report.turn, report.recorded, report.current) == (1, "", "completed")
    assert "the code ends there (completed), but the history goes on" in report.message

    async def raises():
        await receives(1)
        raise KeyError("new bug")

    report = diverge(driver, raises, kind)
    assert "new bug" in report.message


def test_code_that_ends_with_its_history_but_has_not_seen_all():
    async def receives(times):
        for _ in range(times):
            await item.receive()

    driver = Driver(partial(receives, 2))
    driver.turn(signal("item", 1), signal("item", 2))
    report = diverge(driver, partial(receives, 1))
    assert (report.turn, report.recorded, report.current) == (1, "completed", "completed")
    assert "before it has seen all signals and updates of that turn" in report.message


def test_code_that_goes_on_longer():
    async def changed():
        await steps()
        await audit()

    async def waits():
        await steps()
        await trio.sleep(5)

    driver = history()
    driver.turn(done("0:2", 3))
    report = diverge(driver, changed)
    assert (report.turn, report.current) == (3, "activity 'audit' (0:3)")
    report = diverge(driver, waits)
    assert (report.turn, report.recorded, report.current) == (3, "completed", "")
    assert report.line == line_of(waits, "sleep")


def test_code_that_raises_on_replay():
    async def before():
        await charge()
        await trio.sleep(5)

    async def changed():
        await charge()
        raise KeyError("new bug")

    driver = Driver(before)
    driver.turn(done("0:0", 1))
    report = diverge(driver, changed)
    assert report.current == "failed"
    assert "KeyError" in report.message
    assert "new bug" in report.message


def test_code_that_ends_otherwise():
    async def before():
        return 1

    async def raises():
        raise KeyError("x")

    async def continues():
        continue_as_new()

    driver = Driver(before)
    assert diverge(driver, raises).current == "failed"
    assert diverge(driver, continues).current == "continued"


def test_in_a_nested_task():
    def program(call):
        async def inner():
            await charge()
            await call()

        async def wf():
            async with trio.open_nursery() as outer:
                outer.start_soon(trio.sleep, 50)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(notify)
                    nursery.start_soon(inner)

        return wf, inner

    before, _ = program(ship)
    changed, inner = program(audit)
    driver = Driver(before)
    driver.turn(done("0.2:0", 1))
    report = diverge(driver, changed)
    assert (report.turn, report.task) == (1, "0.2")
    assert report.current == "activity 'audit' (0.2:1)"
    assert report.line == line_of(inner, "await call()")


@pytest.mark.parametrize("change", ["activity", "sub-workflow", "signal", "side effect"])
def test_another_kind_of_command_is_found(change):
    async def changed():
        match change:
            case "activity":
                await charge()
            case "sub-workflow":
                await child()
            case "signal":
                await send_signal("x", item, 1)
            case "side effect":
                side_effect(lambda: pytest.fail("a side effect ran on replay"), int)

    async def before():
        await audit()

    report = diverge(Driver(before), changed)
    assert report.current.startswith(change)


def test_a_side_effect_removed():
    async def before():
        side_effect(lambda: 1, int)
        await charge()

    async def changed():
        await charge()

    report = diverge(Driver(before), changed)
    assert (report.recorded, report.current) == ("side effect (0:0)", "activity 'charge' (0:0)")


def test_cancels_are_compared_too():
    def program(seconds):
        async def wf():
            with trio.move_on_after(seconds):
                await charge()
            await ship()

        return wf

    driver = Driver(program(5))
    driver.wake()
    report = diverge(driver, program(50))
    assert (report.recorded, report.current) == ("cancel of activity (0:0)", "")
    driver = Driver(program(5))
    driver.turn(now=driver.now + 3)
    report = diverge(driver, program(2))
    assert (report.recorded, report.current) == ("", "cancel of activity (0:0)")


def test_the_end_of_a_cancelled_execution_is_compared():
    async def before():
        await charge()

    async def changed():
        try:
            await charge()
        except trio.Cancelled:
            return 1

    driver = Driver(before)
    driver.turn(ev.CancelRequested("x"))
    driver.turn(ev.ActivityCancelled(id="0:0"))
    report = diverge(driver, changed)
    assert (report.recorded, report.current) == ("cancelled", "completed")


def test_arguments_may_change_without_a_divergence():
    def program(amount):
        async def pays(amount: int) -> int:
            return amount

        pays = Activity(pays, name="pays")

        async def wf():
            return await pays(amount)

        return wf

    driver = Driver(program(1))
    driver.execution.evict()
    driver.revive(Workflow(program(2), name=driver.workflow.name))
    driver.turn(done("0:0", 1))
    assert driver.result() == 1


def test_a_failure_handled_otherwise():
    async def before():
        try:
            await charge()
        except KeyError:
            await notify()

    async def changed():
        try:
            await charge()
        except KeyError:
            await audit()

    driver = Driver(before)
    driver.turn(failed("0:0", KeyError("x")))
    assert diverge(driver, changed).current == "activity 'audit' (0:1)"


def test_each_command_has_a_name_in_reports():
    assert set(_KINDS) == set(get_args(Command))
