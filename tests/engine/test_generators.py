"""Async generators that are left before their end are cleaned up as trio does it."""

# mypy: ignore-errors

from __future__ import annotations

import gc
import itertools

import pytest
import trio
import trio.testing

from tests.engine.driver import Driver, act, done, stopped
from trioflow.model import events as ev
from trioflow.model.turns import Completed

a = act("a", int)
b = act("b", int)

pytestmark = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")


def generator(log, *, shield=True, fails=False):
    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            with trio.CancelScope(shield=shield):
                await trio.sleep(3)
                log.append("cleaned up")
                if fails:
                    raise ValueError("in the cleanup")

    return numbers


async def leaves(log, **how):
    async for _ in generator(log, **how)():
        break
    await trio.sleep(10)
    return log


def directly(fn):
    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(fn, clock=clock)


@pytest.mark.parametrize("shield", [True, False])
def test_cleanup_waits_only_under_a_shield(shield):
    async def wf() -> list[str]:
        return await leaves([], shield=shield)

    expected = directly(wf)
    assert Driver(wf).finish().check().result() == expected == (["cleaned up"] if shield else [])


def test_cleanup_may_call_activities_and_shifts_no_ids():
    async def numbers():
        try:
            yield 1
        finally:
            with trio.CancelScope(shield=True):
                await a()

    async def wf() -> int:
        async for _ in numbers():
            break
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b)
        return await b()

    driver = Driver(wf)
    assert driver.ids == ["0.0:0", "1:0"]
    driver.turn(done("0.0:0", 1))
    driver.turn(done("1:0", 1))
    driver.turn(done("0:0", 7))
    assert driver.check().result() == 7


def test_the_end_waits_for_what_is_being_cleaned_up_and_closes_what_is_left():
    async def wf() -> list[str]:
        log = []
        kept = [generator(log)() for _ in range(2)]
        for each in kept:
            await each.__anext__()
        async for _ in generator(log)():
            break
        wf.kept = kept  # they live as long as the process
        return log

    driver = Driver(wf)
    assert driver.outcome is None
    driver.finish()
    assert driver.result() == ["cleaned up"] * 3
    moments = [turn.now for turn in driver.turns]
    assert [b - a for a, b in itertools.pairwise(moments)] == [3, 3, 3]
    driver.check()
    del wf.kept


def test_errors_are_logged_once_as_by_trio(caplog):
    async def wf() -> list[str]:
        return await leaves([], fails=True)

    driver = Driver(wf).finish()
    (record,) = caplog.records
    assert record.name == "trio.async_generator_errors"
    assert "in the cleanup" in str(record.exc_info[1])
    caplog.clear()
    assert driver.check().result() == ["cleaned up"]
    assert not caplog.records


def test_a_warning_says_what_to_do_once():
    async def wf() -> list[str]:
        return await leaves([])

    def run():
        Driver(wf).finish().check()

    with pytest.warns(ResourceWarning, match=r"test_generators.*aclosing") as caught:
        run()
    assert len(caught) == 1


def test_a_generator_that_fell_into_a_cycle_is_closed_at_the_end_of_the_run_without_a_collection():
    def program(collects):
        async def wf() -> list[str]:
            log = []
            loop = [generator(log)()]
            await loop[0].__anext__()
            loop.append(loop)
            del loop
            if collects:
                gc.collect()
            await a()
            return log

        wf.__qualname__ = "wf"
        return wf

    gc.disable()
    try:
        for collects in (True, False):
            driver = Driver(program(collects))
            assert driver.ids == ["0:0"]
            driver.evict()
    finally:
        gc.enable()
        gc.collect()


@pytest.mark.parametrize("turns", [0, 1])
def test_an_execution_is_evicted_while_it_cleans_up(turns):
    log = []

    async def wf() -> int:
        async for _ in generator(log)():
            break
        return await a()

    driver = Driver(wf)
    for _ in range(turns):
        driver.turn(done("0:0", 1))
        assert driver.outcome is None  # the cleanup goes on
    driver.evict()
    assert log == []
    driver.revive()
    driver.evict()


def test_a_cancel_does_not_stop_a_cleanup_under_a_shield():
    log = []

    async def wf() -> None:
        async for _ in generator(log)():
            break
        await a()

    driver = Driver(wf)
    driver.turn(ev.CancelRequested("enough"))
    driver.turn(stopped("0:0"))
    assert driver.outcome is None
    driver.wake()
    assert log == ["cleaned up"]
    assert driver.outcome is not None
    log.clear()
    driver.check()


def test_executions_of_older_rules_close_them_without_effect():
    async def wf() -> list[str]:
        return await leaves([])

    driver = Driver(wf, rules=0).finish()
    assert isinstance(driver.outcome, Completed)
    assert driver.check().result() == []
