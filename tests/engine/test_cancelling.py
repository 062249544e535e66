"""Cancellation as promised: nothing is lost, all is waited for, nothing starts in vain."""

# mypy: ignore-errors

from __future__ import annotations

import pytest
import trio

from tests.engine.driver import START, act, child_done, done, failed, shown, signal, stopped
from trioflow import Signal, info, send_signal
from trioflow._model import events as ev
from trioflow._model.commands import CancelChild
from trioflow._model.turns import Cancelled, Completed, Failed
from trioflow._model.workflows import Workflow
from trioflow.errors import InstanceCancelled

a, b, cleanup = act("a", int), act("b", int), act("cleanup", int)
item = Signal("item", int)


async def _child() -> int:
    return 1


child = Workflow(_child, name="child")


def kinds(turn):
    return [(kind, id) for kind, id, _ in shown(turn)]


def test_a_cancelled_wait_for_an_activity_goes_on_until_it_has_stopped(drive):
    async def wf():
        with trio.move_on_after(5) as scope:
            await a()
        return [scope.cancelled_caught, trio.current_time() - START]

    driver = drive(wf)
    assert kinds(driver.wake()) == [("CancelActivity", "0:0")]
    assert driver.outcome is None
    driver.turn(stopped("0:0"), now=START + 9)
    assert driver.check().result() == [True, 9]


def test_an_activity_that_finishes_all_the_same_gives_its_result(drive):
    async def wf():
        seen = []
        with trio.move_on_after(5) as scope:
            seen.append(await a())
            seen.append("no checkpoint yet")
            await trio.lowlevel.checkpoint()
            seen.append("never")
        return [seen, scope.cancelled_caught]

    driver = drive(wf)
    driver.wake()
    driver.turn(done("0:0", 7))
    assert driver.check().result() == [[7, "no checkpoint yet"], True]


def test_an_activity_that_fails_after_its_cancel_raises_its_failure(drive):
    async def wf():
        with trio.move_on_after(5):
            await a()

    driver = drive(wf)
    driver.wake()
    driver.turn(failed("0:0", KeyError("late")))
    with pytest.raises(KeyError, match="late"):
        driver.check().result()


def test_deadline_and_result_in_one_turn(drive):
    async def wf():
        with trio.move_on_after(5) as scope:
            value = await a()
            scope.shield = True
            return value

    driver = drive(wf)
    turn = driver.turn(done("0:0", 3), now=START + 5)
    assert turn.commands == []
    assert driver.check().result() == 3


def test_cancel_and_result_in_one_turn_give_the_result_in_either_order(drive):
    async def wf():
        value = await a()
        try:
            await b()
        except trio.Cancelled:
            return value

    for events in (
        [ev.CancelRequested("x"), done("0:0", 3)],
        [done("0:0", 3), ev.CancelRequested("x")],
    ):
        driver = drive(wf)
        driver.turn(*events)
        assert driver.check().result() == 3
        assert driver.ids == ["0:0"]


def test_a_call_that_is_cancelled_in_its_own_turn_was_never_made(drive):
    async def wf():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a)
            nursery.start_soon(child)
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        return "gone"

    driver = drive(wf)
    assert driver.last.commands == []
    assert driver.check().result() == "gone"


def test_a_call_in_a_cancelled_scope_is_never_made(drive):
    async def wf():
        for call in (a, child, item.receive):
            with trio.CancelScope() as scope:
                scope.cancel()
                await call()
            assert scope.cancelled_caught

    driver = drive(wf, first=[signal("item", 1)])
    assert isinstance(driver.check().outcome, Completed)
    assert driver.ids == []
    assert len(driver.execution.messages.unread()) == 1


def test_an_abandoned_activity_is_not_waited_for(drive):
    async def wf():
        with trio.move_on_after(5):
            await a.options(on_cancel="abandon")()
        return [trio.current_time() - START, await b()]

    driver = drive(wf)
    turn = driver.wake()
    assert kinds(turn) == [("CancelActivity", "0:0"), ("RunActivity", "0:1")]
    driver.turn(stopped("0:0"))
    driver.turn(done("0:0", 99))  # a late result is nobody's
    driver.turn(done("0:1", 2))
    assert driver.check().result() == [5, 2]


def test_a_shielded_call_goes_on(drive):
    async def wf():
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                assert await cleanup() == 1
                await trio.sleep(3)

    driver = drive(wf)
    assert kinds(driver.turn(ev.CancelRequested("stop"))) == [("RunActivity", "0:0")]
    assert driver.turn(done("0:0", 1)).outcome is None
    driver.wake()
    assert driver.check().outcome == Cancelled("stop")


def test_cleanup_has_its_own_deadline(drive):
    async def wf():
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(3, shield=True):
                await cleanup()

    driver = drive(wf)
    driver.turn(ev.CancelRequested("stop"))
    assert kinds(driver.wake()) == [("CancelActivity", "0:0")]
    driver.turn(stopped("0:0"))
    assert driver.check().outcome == Cancelled("stop")


def test_cancellation_is_seen_at_every_checkpoint(drive):
    async def wf():
        seen = 0
        for call in (a, lambda: trio.sleep(1), trio.lowlevel.checkpoint, b, child, item.receive):  # noqa: ASYNC105  # awaited below
            try:
                await call()
            except trio.Cancelled:
                seen += 1
        return seen

    driver = drive(wf)
    driver.turn(ev.CancelRequested())
    assert driver.turn(stopped("0:0")).commands == []
    assert driver.check().result() == 6


def test_code_that_swallows_a_cancel_goes_on_and_ends_by_what_it_returns(drive):
    async def wf(how):
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            if how == "raises":
                raise ValueError("own") from None
        return "own"

    returns, raises = drive(wf, "returns"), drive(wf, "raises")
    returns.turn(ev.CancelRequested("x"))
    assert returns.check().result() == "own"
    raises.turn(ev.CancelRequested("x"))
    assert isinstance(raises.check().outcome, Failed)


def test_a_cancel_before_the_start_never_starts(drive):
    async def wf():
        raise AssertionError("started")

    driver = drive(wf, first=[ev.CancelRequested("early")])
    assert driver.outcome == Cancelled("early")
    assert driver.check().ids == []


def test_a_second_cancel_changes_nothing(drive):
    async def wf():
        with trio.CancelScope(shield=True):
            await a()
        await trio.lowlevel.checkpoint()

    driver = drive(wf)
    driver.turn(ev.CancelRequested("first"))
    driver.turn(ev.CancelRequested("second"))
    driver.turn(done("0:0", 1))
    assert driver.check().outcome == Cancelled("first")


def test_tries_group_exceptions_of_a_cancel_with_failures(drive):
    async def fails():
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("in cleanup")

    async def wf():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails)
            nursery.start_soon(a)

    driver = drive(wf)
    driver.turn(ev.CancelRequested("x"))
    driver.turn(stopped("0.1:0"))
    with pytest.raises(ExceptionGroup) as caught:
        driver.check().result()
    assert caught.group_contains(KeyError)


def test_a_child_is_cancelled_with_the_reason_and_awaited(drive):
    async def wf():
        await child()

    driver = drive(wf)
    turn = driver.turn(ev.CancelRequested("enough"))
    assert turn.commands == [CancelChild(id="0:0", instance="wf/0:0", reason="enough")]
    driver.turn(ev.ChildCancelled(id="0:0", reason="enough"))
    assert driver.check().outcome == Cancelled("enough")


def test_a_child_that_ends_all_the_same_gives_its_result(drive):
    async def wf():
        with trio.CancelScope(shield=False):
            value = await child()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled:
                return value

    driver = drive(wf)
    driver.turn(ev.CancelRequested("enough"))
    driver.turn(child_done("0:0", 4))
    assert driver.check().result() == 4


def test_a_child_that_others_cancelled_is_an_error(drive):
    async def wf():
        try:
            await child()
        except InstanceCancelled as error:
            return [error.instance, error.reason]

    driver = drive(wf)
    driver.turn(ev.ChildCancelled(id="0:0", reason="by hand"))
    assert driver.check().result() == ["wf/0:0", "by hand"]


def test_a_siblings_failure_cancels_and_awaits_the_others(drive):
    async def wf():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a)
            nursery.start_soon(b)
            nursery.start_soon(child)
            nursery.start_soon(trio.sleep_forever)
        return "never"

    driver = drive(wf)
    turn = driver.turn(failed("0.0:0", ValueError("no")))
    assert kinds(turn) == [("CancelActivity", "0.1:0"), ("CancelChild", "0.2:0")]
    assert driver.execution.wake_at is None
    assert driver.turn(stopped("0.1:0")).outcome is None
    driver.turn(ev.ChildCancelled(id="0.2:0"))
    with pytest.raises(ExceptionGroup) as caught:
        driver.check().result()
    assert [type(error) for error in caught.value.exceptions] == [ValueError]


def test_a_cancel_while_a_signal_is_on_its_way_waits_for_its_answer(drive):
    async def wf():
        await send_signal("other", item, 1)
        await trio.sleep_forever()

    driver = drive(wf)
    assert driver.turn(ev.CancelRequested("x")).commands == []
    assert driver.outcome is None
    driver.turn(ev.SignalSent(id="0:0"))
    assert driver.check().outcome == Cancelled("x")


def test_answers_to_nobody_are_ignored(drive):
    async def wf():
        return await a() + info().turns

    driver = drive(wf)
    driver.turn(done("7:7", 1), stopped("0.9:1"), ev.ChildCancelled(id="0:5"), ev.Woken())
    driver.turn(done("0:0", 1), done("0:0", 2))
    assert driver.check().result() == 3
