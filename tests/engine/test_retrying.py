"""`retrying`: blocks of workflow code that are tried again, with durable waits."""

# mypy: ignore-errors

from __future__ import annotations

import logging

import anyio
import pytest
import trio

from tests.engine.driver import START, Driver, act, done, failed
from trioflow import (
    ArgumentError,
    NonRetryable,
    NotInWorkflow,
    Retry,
    RetryPolicy,
    continue_as_new,
    now,
    retrying,
)
from trioflow._model import events as ev
from trioflow._model.turns import Cancelled, Continued

charge, ship = act("charge", int), act("ship", int)
STEADY = RetryPolicy(max_attempts=3, initial_interval=10, backoff=2, jitter=0)


class Declined(Exception):
    pass


class Gone(Exception):
    pass


def retries(policy, block):
    """A workflow that tries a block; it returns the times of the attempts, or raises."""

    async def wf():
        times = []
        async for attempt in retrying(policy):
            with attempt:
                times.append([attempt.number, now() - START])
                await block(attempt.number)
        return times

    return wf


def finished(wf, **activities):
    """Run it, with and without evictions; return how it ended."""
    driver = Driver(wf).finish(**activities)
    driver.check()
    evicted = Driver(wf, evict_always=True).finish(**activities)
    assert evicted.history == driver.history
    return driver


def test_one_that_succeeds_at_once(run):
    async def good(number):
        assert await charge() == 1

    assert run(retries(STEADY, good), charge=lambda: 1) == [[1, 0.0]]


def failing(times, error=Declined):
    left = [error("no")] * times

    def charge():
        if left:
            raise left.pop()
        return 1

    return charge


async def _charges(number):
    await charge()
    await ship()


def test_it_is_tried_again_after_durable_waits():
    wf = retries(STEADY, _charges)
    driver = Driver(wf)
    assert driver.turn(failed("0:0", Declined("no"))).commands == []
    assert driver.execution.wake_at == START + 10
    driver.wake()
    driver.turn(done("0:1", 1))
    driver.turn(failed("0:2", Declined("no")))
    assert driver.execution.wake_at == START + 30
    driver.evict()
    driver.revive()
    driver.wake()
    driver.turn(done("0:3", 1))
    driver.turn(done("0:4", 1))
    assert driver.check().result() == [[1, 0.0], [2, 10.0], [3, 30.0]]


def test_the_last_error_leaves_it_as_it_is():
    driver = Driver(retries(STEADY, _charges)).finish(charge=failing(9))
    driver.check()
    with pytest.raises(Declined, match="no"):
        driver.result()
    assert driver.ids == ["0:0", "0:1", "0:2"]


def raises(make):
    async def block(number):
        raise make(number)

    return block


def caused(number):
    error = RuntimeError("outer")
    error.__cause__ = Declined("inner")
    return error


@pytest.mark.parametrize(
    "make",
    [
        lambda n: Declined("x"),
        caused,
        lambda n: ExceptionGroup("several", [ValueError("x"), Declined("y")]),
        lambda n: ExceptionGroup("several", [ExceptionGroup("more", [caused(n)])]),
        lambda n: NonRetryable("x"),
        lambda n: ArgumentError("misuse"),
    ],
)
def test_what_is_not_tried_again(make):
    policy = RetryPolicy(max_attempts=9, non_retryable=(Declined,))
    driver = Driver(retries(policy, raises(make))).finish()
    assert len(driver.history) == 1
    with pytest.raises(type(make(1))):
        driver.check().result()


def test_the_block_chooses_the_delay():
    async def block(number):
        if number == 1:
            raise Retry(after=100)

    assert finished(retries(STEADY, block)).result() == [[1, 0.0], [2, 100.0]]


def test_the_policy_has_a_timeout():
    policy = RetryPolicy(max_attempts=None, initial_interval=10, jitter=0, timeout=35)
    driver = finished(retries(policy, raises(Gone)))
    with pytest.raises(Gone, match="3"):
        driver.result()
    assert driver.now == START + 30


def test_jitter_differs_between_blocks_and_not_on_replay():
    policy = RetryPolicy(max_attempts=2, initial_interval=40, jitter=0.5)

    async def wf():
        ends = []

        async def work():
            async for attempt in retrying(policy):
                with attempt:
                    if attempt.number == 1:
                        raise Gone
            ends.append(now() - START)

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(work)
        return ends

    ends = finished(wf).result()
    assert len(set(ends)) == 4
    assert all(20 <= end <= 60 for end in ends)


def test_a_group_of_tasks_is_tried_again_as_a_whole():
    calls = iter([Gone("a"), None, None, None])

    def charge():
        error = next(calls)
        if error is not None:
            raise error
        return 1

    async def wf():
        async for attempt in retrying(STEADY):
            with attempt:
                async with anyio.create_task_group() as group:
                    group.start_soon(act("charge", int))
                    group.start_soon(act("charge", int))
                return attempt.number

    assert Driver(wf).finish(charge=charge).check().result() == 2


# --- what is no failure ---------------------------------------------------------------------


def test_a_cancel_passes():
    driver = Driver(retries(STEADY, _charges))
    driver.turn(ev.CancelRequested("enough"))
    driver.turn(ev.ActivityCancelled(id="0:0"))
    assert driver.check().outcome == Cancelled("enough")


def test_a_cancel_ends_the_wait():
    driver = Driver(retries(STEADY, _charges))
    driver.turn(failed("0:0", Declined("no")))
    driver.turn(ev.CancelRequested("enough"))
    assert driver.check().outcome == Cancelled("enough")


def test_a_deadline_around_it():
    async def wf():
        with trio.move_on_after(15) as scope:
            async for attempt in retrying(STEADY):
                with attempt:
                    raise Gone
        return [scope.cancelled_caught, now() - START]

    assert finished(wf).result() == [True, 15.0]


def test_continuing_as_new_in_it():
    async def wf():
        async for attempt in retrying(STEADY):
            with attempt:
                continue_as_new()

    assert isinstance(Driver(wf).check().outcome, Continued)


@pytest.mark.parametrize("leave", ["break", "return"])
def test_leaving_the_loop(leave):
    async def wf():
        async for attempt in retrying(STEADY):
            with attempt:
                if leave == "return":
                    return attempt.number
                break
        return 1

    assert finished(wf).result() == 1


def test_an_evicted_execution():
    driver = Driver(retries(STEADY, _charges))
    driver.turn(failed("0:0", Declined("no")))
    driver.evict()


# --- mistakes -------------------------------------------------------------------------------


def test_a_block_without_its_attempt():
    async def wf():
        async for _ in retrying(STEADY):
            await charge()

    driver = Driver(wf).finish(charge=lambda: 1)
    with pytest.raises(RuntimeError, match="'with attempt:'"):
        driver.check().result()


def test_an_attempt_used_twice():
    async def wf():
        async for attempt in retrying(STEADY):
            with attempt:
                pass
            with attempt:
                pass

    with pytest.raises(RuntimeError, match="once in each pass"):
        Driver(wf).check().result()


@pytest.mark.parametrize("policy", [3, "x", RetryPolicy])
def test_what_is_no_policy(policy):
    async def wf():
        retrying(policy)

    with pytest.raises(ArgumentError, match="takes a RetryPolicy"):
        Driver(wf).check().result()


def test_outside_of_a_workflow():
    with pytest.raises(NotInWorkflow):
        retrying()


def test_retries_are_logged_once(caplog):
    caplog.set_level(logging.INFO, "trioflow.workflow")
    Driver(retries(STEADY, _charges), evict_always=True).finish(
        charge=failing(2), ship=lambda: 1
    ).check()
    said = "instance 'wf': a block failed on attempt {} ({}: no); next attempt in {} s"
    name = "tests.engine.test_retrying.Declined"
    assert [record.getMessage() for record in caplog.records] == [
        said.format(1, name, 10),
        said.format(2, name, 20),
    ]
