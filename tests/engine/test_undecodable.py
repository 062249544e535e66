"""What is stored and cannot be read here suspends the instance, and is still there afterwards."""

# mypy: ignore-errors

from __future__ import annotations

import contextlib

import msgspec
import pytest
import trio

from tests.engine.driver import (
    START,
    Driver,
    act,
    child_done,
    done,
    nothing_left,
    secret_of,
    signal,
)
from trioflow import (
    JsonCodec,
    Promise,
    Signal,
    WrappedCodec,
    logger,
    send_signal,
    set_status,
    side_effect,
    start_detached,
)
from trioflow._codec.failures.failures import Failure
from trioflow._engine.suspension import NeedsSuspension
from trioflow._model import events as ev
from trioflow._model.commands import RunActivity
from trioflow._model.turns import Turn, encode_turn
from trioflow._model.workflows import Workflow
from trioflow.errors import ValueMismatch

a = act("a", int)
b = act("b", int)
number = Signal("number", int)


async def _child() -> int:
    return 1


child = Workflow(_child, name="child")


async def by_activity():
    return await a()


async def by_child():
    return await child()


async def by_signal():
    return await number.receive()


async def by_signal_nowait():
    await b()
    return number.receive_nowait()


async def by_iteration():
    async for value in number:
        return value


CASES = [
    (by_activity, [done("0:0", "text")], "a() result"),
    (by_child, [child_done("0:0", "text")], "child() result"),
    (by_signal, [signal("number", "text")], "signal 'number'"),
    (by_signal_nowait, [signal("number", "text"), done("0:0", 1)], "signal 'number'"),
    (by_iteration, [signal("number", "text")], "signal 'number'"),
]


@pytest.mark.parametrize(("fn", "events", "what"), CASES, ids=lambda case: str(case)[10:30])
def test_what_cannot_be_read_suspends_whatever_the_workflow_catches(fn, events, what, caplog):
    said = []

    async def stubborn():
        while True:
            try:
                return await fn()
            except BaseException as error:
                said.append(type(error).__name__)
                logger.warning("caught")
                with contextlib.suppress(BaseException):
                    set_status("caught")
                    await b()
                if len(said) > 3:
                    raise
            finally:
                with contextlib.suppress(BaseException):
                    await trio.sleep(0)

    with nothing_left():
        driver = Driver(stubborn, id="order-7")
        turns, history = driver.execution.turns, list(driver.history)
        with pytest.raises(NeedsSuspension) as caught:
            driver.turn(*events)
        report = caught.value.report
        assert report.kind == "undecodable"
        assert report.turn == turns
        assert what in report.message
        assert "'order-7'" in report.message
        assert "resume the instance" in report.message
        assert driver.execution.custom_status is None
        assert not caplog.records
        driver.evict()
        assert driver.history == history
        driver.revive()  # and it waits for it again
        driver.evict()


SECRET = WrappedCodec(JsonCodec(), lambda data: data[::-1], lambda data: data[::-1])
OTHER = WrappedCodec(JsonCodec(), lambda data: data, lambda _: 1 // 0)
HIDDEN = Failure.of(ValueError("card 4711"), SECRET)


async def sends():
    await send_signal("x", number, 1)


async def starts():
    await start_detached(child)


async def by_promise():
    await Promise("paid", int).receive()


@pytest.mark.parametrize(
    ("fn", "kind"),
    [
        (by_activity, ev.ActivityFailed),
        (by_child, ev.ChildFailed),
        (sends, ev.SignalFailed),
        (starts, ev.RequestFailed),
        (by_promise, ev.PromiseRejected),
    ],
)
def test_a_failure_that_cannot_be_read_suspends_too(fn, kind):
    async def catches():
        with contextlib.suppress(Exception):
            await fn()

    with nothing_left():
        driver = Driver(catches)
        event = kind(secret_of(driver) if fn is by_promise else "0:0", HIDDEN)
        driver.execution.codec = OTHER
        with pytest.raises(NeedsSuspension) as caught:
            driver.turn(event)
        assert caught.value.report.kind == "undecodable"
        assert "what the stored ValueError says" in caught.value.report.message
        driver.evict()
        driver.revive()
        driver.execution.codec = SECRET
        driver.turn(event)
        assert driver.outcome is not None


def test_input_that_does_not_fit_names_the_parameter_and_the_function():
    async def wf(count: int):
        return count

    driver = Driver(wf, 1)
    fresh = driver.fresh()
    begun = ev.Started("wf", msgspec.Raw(b'{"count":"many"}'), rules=1)
    with nothing_left(), pytest.raises(NeedsSuspension) as caught:
        fresh.advance([begun], START)
    fresh.evict()
    message = caught.value.report.message
    assert caught.value.report.kind == "undecodable"
    assert "'count'" in message
    assert "its input" in message
    assert __file__ in message


def test_after_the_repair_it_goes_on():
    async def old() -> int:
        return await act("a", int)()

    async def new() -> str:
        return await act("a", str)()

    driver = Driver(Workflow(old, name="wf"))
    with pytest.raises(NeedsSuspension):
        driver.turn(done("0:0", "text"))
    driver.evict()
    driver.workflow = Workflow(new, name="wf")
    driver.revive()
    driver.turn(done("0:0", "text"))
    assert driver.check().result() == "text"


def test_on_replay_what_was_read_once_and_cannot_be_now_suspends_too():
    async def old() -> int:
        side_effect(lambda: "text", str)
        await a()
        return await b()

    async def new() -> int:
        side_effect(lambda: 1, int)
        await a()
        return await b()

    driver = Driver(Workflow(old, name="wf"))
    driver.turn(done("0:1", 1))
    driver.evict()
    with pytest.raises(NeedsSuspension) as caught:
        driver.revive(Workflow(new, name="wf"))
    assert caught.value.report.kind == "undecodable"
    driver.execution.evict()


def test_a_side_effect_that_gives_what_it_does_not_declare_is_the_calls_error():
    async def wf() -> str:
        try:
            side_effect(lambda: 1, str)
        except ValueMismatch:
            return "refused"

    assert Driver(wf).check().result() == "refused"


def test_a_history_of_older_rules_that_went_on_with_the_error_replays():
    async def wf():
        try:
            await number.receive()
        except ValueMismatch:
            await a()
            return "went on"

    driver = Driver(wf, rules=0)
    run = RunActivity(id="0:0", activity="a", input=msgspec.Raw(b"{}"))
    turn = Turn(now=START, events=[signal("number", "text")], commands=[run])
    driver.history.append(encode_turn(turn))
    driver.evict()
    driver.execution = execution = driver.fresh()
    execution.replay(driver.turns)
    driver.turn(done("0:0", 1))
    assert driver.result() == "went on"
