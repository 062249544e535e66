"""Sagas: what is undone, when, in which order, and what is told of what could not be undone."""

# mypy: ignore-errors

from __future__ import annotations

from functools import partial

import anyio
import pytest
import trio

from tests.engine.driver import START, Driver, done, failed, shown, stopped
from trioflow import ArgumentError, NotInWorkflow, continue_as_new, now, saga
from trioflow._model import events as ev
from trioflow._model.activities import Activity
from trioflow._model.turns import Cancelled, Continued


class Full(Exception):
    pass


class Stubborn(Exception):
    pass


async def _nobody(what: str) -> str:
    raise AssertionError(what)


book = Activity(_nobody, name="book")
unbook = Activity(_nobody, name="unbook")


def step(s, what):
    return s.do(partial(book, what), undo=partial(unbook, what))


async def trip(end=None, **options):
    async with saga(**options) as s:
        for what in ("hotel", "flight", "car"):
            await step(s, what)
        if end is not None:
            await end()
    return "booked"


def called(driver):
    """What was asked for, in order."""
    return [
        f"{command.activity} {bytes(command.input).decode()[9:-2]}"
        for turn in driver.turns
        for command in turn.commands
        if type(command).__name__ == "RunActivity"
    ]


BOOKED = ["book hotel", "book flight", "book car"]
UNDONE = ["unbook car", "unbook flight", "unbook hotel"]


def begun(wf, *results):
    """An execution whose first calls have these results."""
    driver = Driver(wf)
    for number, result in enumerate(results):
        id = f"0:{number}"
        driver.turn(failed(id, result) if isinstance(result, Exception) else done(id, result))
    return driver


def finish(driver, **activities):
    return driver.finish(
        **{"book": lambda what: what, "unbook": lambda what: what, **activities}
    ).check()


def test_what_succeeds_is_kept():
    driver = finish(Driver(trip))
    assert called(driver) == BOOKED
    assert driver.result() == "booked"


@pytest.mark.parametrize("evict", [False, True])
def test_a_failure_undoes_the_steps_in_reverse(evict):
    def no_cars(what):
        if what == "car":
            raise Full(what)
        return what

    driver = finish(Driver(trip, evict_always=evict), book=no_cars)
    assert called(driver) == BOOKED + UNDONE
    with pytest.raises(Full):
        driver.result()


def test_an_error_of_the_block_itself_undoes_too():
    async def end():
        raise KeyError("after all")

    driver = finish(Driver(partial_of(trip, end)))
    assert called(driver) == BOOKED + UNDONE
    with pytest.raises(KeyError):
        driver.result()


def partial_of(fn, *args, **kwargs):
    async def wf():
        return await fn(*args, **kwargs)

    return wf


def test_a_cancel_undoes_under_a_shield():
    driver = begun(trip, "hotel", "flight")
    driver.turn(ev.CancelRequested("changed my mind"))
    driver.turn(stopped("0:2"))
    finish(driver)
    assert called(driver) == BOOKED + UNDONE
    assert driver.outcome == Cancelled("changed my mind")


def test_a_step_that_a_cancel_kept_from_beginning_is_not_undone():
    async def wf():
        with trio.CancelScope() as scope:
            async with saga() as s:
                await step(s, "hotel")
                scope.cancel()
                await step(s, "flight")

    assert called(finish(Driver(wf))) == ["book hotel", "unbook hotel"]


def test_a_deadline_undoes():
    async def wf():
        with trio.fail_after(50):
            await trip(partial(trio.sleep, 500))

    driver = finish(Driver(wf))
    assert called(driver) == BOOKED + UNDONE
    with pytest.raises(trio.TooSlowError):
        driver.result()


def test_what_could_not_be_undone_is_told_in_a_group():
    def stubborn(what):
        if what != "flight":
            raise Stubborn(what)
        return what

    async def end():
        raise Full("no seats")

    driver = finish(Driver(partial_of(trip, end)), unbook=stubborn)
    assert called(driver) == BOOKED + UNDONE
    with pytest.raises(ExceptionGroup, match="could not be undone") as caught:
        driver.result()
    assert [type(e) for e in caught.value.exceptions] == [Full, Stubborn, Stubborn]
    assert [str(e) for e in caught.value.exceptions] == ["no seats", "car", "hotel"]
    assert "what undoes a step of a saga: unbook" in str(caught.value.exceptions[1].__notes__)


def test_a_cancelled_saga_that_cannot_be_undone_fails():
    """trio takes the cancel out of the group; what is left is an error."""

    def stubborn(what):
        raise Stubborn(what)

    driver = begun(trip, "hotel")
    driver.turn(ev.CancelRequested("enough"))
    driver.turn(stopped("0:1"))
    finish(driver, unbook=stubborn)
    with pytest.raises(ExceptionGroup) as caught:
        driver.result()
    assert [str(e) for e in caught.value.exceptions] == ["flight", "hotel"]


def test_undoing_has_a_deadline_of_its_own():
    async def end():
        raise Full("no seats")

    driver = begun(partial_of(trip, end, undo_timeout=60), "hotel", "flight", "car")
    driver.turn(done("0:3", "car"))
    assert driver.execution.wake_at == START + 60
    assert shown(driver.wake()) == [("CancelActivity", "0:4", "")]
    driver.turn(stopped("0:4"))
    assert called(driver) == BOOKED + UNDONE[:2]
    with pytest.raises(ExceptionGroup) as caught:
        driver.check().result()
    timeout = caught.value.exceptions[1]
    assert type(timeout) is TimeoutError
    assert "longer than 60 s; not undone: unbook, unbook" in str(timeout)


def test_what_fails_beside_the_deadline_of_undoing_is_told_too():
    async def end():
        raise Full("no seats")

    async def fail_when_cancelled():
        try:
            await trio.sleep_forever()
        finally:
            raise Stubborn("in a cleanup")

    async def undo():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_when_cancelled)
            nursery.start_soon(trio.sleep_forever)

    async def wf():
        async with saga(undo_timeout=60) as s:
            s.add_undo(partial(unbook, "hotel"))
            s.add_undo(undo)
            await end()

    driver = Driver(wf)
    driver.wake()
    assert called(driver) == []
    with pytest.raises(ExceptionGroup, match="could not be undone") as caught:
        driver.check().result()
    own, beside, timeout = caught.value.exceptions
    assert (type(own), type(timeout)) == (Full, TimeoutError)
    assert beside.subgroup(Stubborn) is not None
    assert "what undoes a step of a saga:" in str(beside.__notes__)
    assert "not undone:" in str(timeout)
    assert "unbook" in str(timeout)


def test_undos_that_depend_on_results():
    async def wf():
        async with saga() as s:
            number = await s.do(partial(book, "hotel"))
            s.add_undo(partial(unbook, number))
            raise Full

    driver = finish(Driver(wf), book=lambda what: f"{what}-7")
    assert called(driver) == ["book hotel", "unbook hotel-7"]


def test_steps_side_by_side():
    async def wf():
        async with saga() as s, anyio.create_task_group() as group:
            for what in ("hotel", "flight", "car"):
                group.start_soon(step, s, what)

    def no_flights(what):
        if what == "flight":
            raise Full(what)
        return what

    driver = finish(Driver(wf), book=no_flights)
    assert sorted(called(driver)[:3]) == sorted(BOOKED)
    assert called(driver)[3:] == UNDONE
    with pytest.raises(ExceptionGroup):
        driver.result()


def test_sagas_in_sagas():
    async def wf():
        async with saga() as outer:
            await step(outer, "outer")
            async with saga() as inner:
                await step(inner, "inner")
                raise Full

    driver = finish(Driver(wf))
    assert called(driver)[2:] == ["unbook inner", "unbook outer"]


def test_what_leaves_without_an_error_keeps_all():
    async def returns():
        async with saga() as s:
            await step(s, "hotel")
            return now()

    async def continues():
        async with saga() as s:
            await step(s, "hotel")
            continue_as_new()

    assert called(finish(Driver(returns))) == ["book hotel"]
    driver = finish(Driver(continues))
    assert called(driver) == ["book hotel"]
    assert isinstance(driver.outcome, Continued)


def test_an_eviction_undoes_nothing():
    driver = begun(trip, "hotel")
    driver.evict()
    driver.revive()
    assert called(finish(driver)) == BOOKED


# --- mistakes -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["do", "undo", "add_undo"])
@pytest.mark.parametrize("what", ["a call that was made", "no call"])
def test_what_is_no_call(how, what):
    async def wf():
        call = _nobody("x") if what == "a call that was made" else 7
        async with saga() as s:
            if how == "do":
                await s.do(call)
            elif how == "undo":
                await s.do(partial(book, "hotel"), undo=call)
            else:
                s.add_undo(call)

    driver = finish(Driver(wf))
    assert called(driver) == []
    with pytest.raises(ArgumentError, match=r"functools.partial\(activity, argument\)"):
        driver.result()


@pytest.mark.parametrize("undo", [None, partial(unbook, "hotel")])
@pytest.mark.parametrize("entered", [True, False])
def test_a_step_outside_of_the_block(entered, undo):
    async def wf():
        s = saga()
        if entered:
            async with s:
                pass
        await s.do(partial(book, "hotel"), undo=undo)

    driver = Driver(wf).check()
    assert called(driver) == []
    with pytest.raises(RuntimeError, match="belong into its block"):
        driver.result()


def test_outside_of_a_workflow():
    with pytest.raises(NotInWorkflow):
        saga()


@pytest.mark.parametrize("limit", [0, -1, "x"])
def test_a_limit_that_is_none(limit):
    async def wf():
        saga(undo_timeout=limit)

    with pytest.raises((ValueError, TypeError), match="undo_timeout"):
        Driver(wf).check().result()
