"""Promises: settled once, by whoever has the token, and received as often as one likes."""

# mypy: ignore-errors

from __future__ import annotations

import base64

import pytest
import trio

from tests.engine.driver import raw, secret_of, signal
from trioflow import ArgumentError, NotInWorkflow, Promise, Query, Signal
from trioflow._codec.failures.failures import Failure
from trioflow._engine.tree import tasks_of
from trioflow._model import events as ev
from trioflow._model.promises import Token

stop = Signal("stop", str)


def resolved(driver, value):
    return ev.PromiseResolved(secret_of(driver), raw(value))


def rejected(driver, error):
    return ev.PromiseRejected(secret_of(driver), Failure.of(error))


async def paid():
    promise = Promise("paid", int)
    return [await promise.receive(), await promise.receive()]


def test_its_value_comes_from_outside_and_stays(drive):
    driver = drive(paid)
    assert driver.outcome is None
    driver.turn(resolved(driver, 7))
    assert driver.check().result() == [7, 7]


def test_a_rejected_one_raises(drive):
    driver = drive(paid)
    driver.turn(rejected(driver, ValueError("no money")))
    with pytest.raises(ValueError, match="no money"):
        driver.check().result()


def test_several_wait_and_only_the_first_value_counts(drive):
    async def wf():
        promise, seen = Promise("paid", int), []

        async def wait():
            seen.append(await promise.receive())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)
            with trio.move_on_after(5):
                await promise.receive()
        await stop.receive()
        return [*seen, await promise.receive()]

    driver = drive(wf)
    driver.wake()
    driver.turn(resolved(driver, 1), rejected(driver, ValueError()), resolved(driver, 2))
    driver.turn(resolved(driver, 3), signal("stop", ""))
    assert driver.check().result() == [1, 1, 1]


def test_one_that_is_settled_before_it_is_waited_for(drive):
    async def wf():
        promise = Promise("paid", int)
        await stop.receive()
        return await promise.receive()

    driver = drive(wf)
    driver.turn(resolved(driver, 5))
    driver.turn(signal("stop", ""))
    assert driver.check().result() == 5


def test_a_token_is_as_it_was_and_names_the_instance(drive):
    async def wf():
        token = Promise("paid", int).token
        await stop.receive()
        return token

    driver = drive(wf)
    driver.turn(signal("stop", ""))
    token = driver.check().result()
    assert set(token) <= set(base64.urlsafe_b64encode(bytes(range(256))).decode())
    assert Token.parse(token) == Token(secret_of(driver), "", "wf")
    other = drive(wf)
    assert secret_of(other) != secret_of(driver)
    assert len(secret_of(other)) == 32


def test_one_of_an_earlier_execution_is_ignored(drive):
    driver = drive(paid, first=[ev.PromiseResolved("of another", raw(1))])
    driver.turn(ev.PromiseRejected("of another", Failure.of(ValueError())))
    assert driver.outcome is None
    driver.turn(resolved(driver, 7))
    assert driver.check().result() == [7, 7]


def test_who_waits_for_it_is_shown(drive):
    (task,) = tasks_of(drive(paid).execution)
    assert task.waits_for == "a promise"


def test_a_promise_is_made_in_workflows_only(drive):
    with pytest.raises(NotInWorkflow, match=r"Promise\(\) can only be called inside a workflow"):
        Promise("paid", int)

    async def wf():
        promise = Promise("paid", int)
        assert repr(promise) == "Promise('paid')"
        Query("makes").handler(lambda: Promise("another", int))
        await promise.receive()

    from trioflow._model.queries import Question  # noqa: PLC0415

    answer = drive(wf).execution.answer(Question("makes"))
    assert "called Promise('another'): it may look" in answer.failure.message


@pytest.mark.parametrize("text", ["", "x", "paid", "WzFd", "ä", None, 3])
def test_what_is_no_token_is_refused(text):
    with pytest.raises(ArgumentError, match=r"is no token of a promise: give what promise\.token"):
        Token.parse(text)
