"""What a scope's ``cancel(reason)`` was given reaches what it cancels, and the history."""

# mypy: ignore-errors

from __future__ import annotations

import anyio
import pytest
import trio

from tests.engine.driver import Driver, act, stopped
from trioflow._codec.limits import REASON_LENGTH
from trioflow._model import events as ev
from trioflow._model.commands import CancelActivity, CancelChild
from trioflow._model.turns import Cancelled
from trioflow._model.workflows import Workflow

charge, ship = act("charge", int), act("ship", int)


async def _child() -> int:
    return 1


child = Workflow(_child, name="child")


def cancelling(cancel, *calls):
    """A workflow that makes calls in a scope, which something cancels five seconds later."""

    async def wf():
        async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(call)
            outer.start_soon(after_a_while, nursery.cancel_scope)

    async def after_a_while(scope):
        await trio.sleep(5)
        cancel(scope)

    return wf


def cancels(turn):
    return [c for c in turn.commands if isinstance(c, CancelActivity | CancelChild)]


def reasons(cancel, *calls):
    """The reasons in the history of what a scope cancels."""
    driver = Driver(cancelling(cancel, *calls))
    found = [command.reason for command in cancels(driver.wake())]
    driver.check()
    driver.evict()
    return found


def test_activities_and_sub_workflows_get_it():
    found = reasons(lambda scope: scope.cancel("out of stock"), charge, child, ship)
    assert found == ["out of stock"] * 3


def test_one_without_a_reason():
    assert reasons(lambda scope: scope.cancel(), charge, child) == [None, None]


def test_the_first_reason_counts():
    def cancel(scope):
        scope.cancel("first")
        scope.cancel("second")

    assert reasons(cancel, charge) == ["first"]


def test_anyios_scopes():
    async def wf():
        async with anyio.create_task_group() as group:
            group.start_soon(charge)
            await anyio.sleep(5)
            group.cancel_scope.cancel(reason="anyio says so")

    driver = Driver(wf)
    assert [command.reason for command in cancels(driver.wake())] == ["anyio says so"]
    driver.turn(stopped("0.0:0"))
    driver.check()


def test_a_deadline_and_a_failure_beside_it_are_no_reason():
    async def late():
        with trio.move_on_after(5):
            await charge()

    async def fails():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(charge)
            await trio.sleep(5)
            raise KeyError("beside it")

    for wf in (late, fails):
        driver = Driver(wf)
        (command,) = cancels(driver.wake())
        assert command.reason is None
        driver.turn(stopped(command.id))
        driver.check()


def test_the_code_sees_its_own_reason():
    async def wf() -> str | None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 50)
                scope.cancel("seen")
                try:
                    await charge()
                except trio.Cancelled as cancelled:
                    reason = cancelled.reason
                    raise
        return reason

    assert Driver(wf).check().result() == "seen"


def test_of_a_cancelled_instance_all_get_its_reason():
    async def wf():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(charge)
            await child()

    driver = Driver(wf)
    turn = driver.turn(ev.CancelRequested("by the client"))
    assert [command.reason for command in cancels(turn)] == ["by the client"] * 2
    driver.turn(stopped("0.0:0"), ev.ChildCancelled("0:0", "by the client"))
    assert driver.check().outcome == Cancelled("by the client")


def test_cleanup_in_a_cancelled_instance_has_reasons_of_its_own():
    async def wf():
        try:
            await charge()
        finally:
            with trio.CancelScope(shield=True) as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ship)
                    await trio.sleep(5)
                    scope.cancel("took too long")

    driver = Driver(wf)
    driver.turn(ev.CancelRequested("by the client"))
    driver.turn(stopped("0:0"))
    assert [command.reason for command in cancels(driver.wake())] == ["took too long"]
    driver.turn(stopped("0.0:0"))
    driver.check()


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("x" * (REASON_LENGTH + 1), "x" * REASON_LENGTH),
        ("a\0b", "a\\x00b"),
        ("\ud800", "\\ud800"),
        ("ü 😀", "ü 😀"),
        ("", ""),
        (7, None),
    ],
)
def test_what_stores_do_not_take(given, stored):
    assert reasons(lambda scope: scope.cancel(given), charge) == [stored]
