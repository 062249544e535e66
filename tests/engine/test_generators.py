"""Async generators that are left before their end are cleaned up as trio does it."""

# mypy: ignore-errors

from __future__ import annotations

import gc
import itertools
import threading

import pytest
import trio
import trio.testing

from tests.engine.driver import Driver, act, done, nothing_left, stopped
from trioflow._engine.loop import generators
from trioflow._model import events as ev
from trioflow._model.rules import LATE_GENERATORS
from trioflow._model.turns import Completed

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


class Reader:
    """Refers to a generator that refers to it."""

    def __init__(self, cleanup):
        self.cleanup = cleanup
        self.numbers = self.read()

    async def read(self):
        try:
            yield 1
            yield 2
        finally:
            with trio.CancelScope(shield=True):
                await self.cleanup()


async def refers_to_itself():
    async def use(cleanup):
        async for number in Reader(cleanup).numbers:
            return number

    x = await use(a)
    y = await use(b)
    await trio.sleep(5)
    return x + y


async def held_by_an_exception():
    async def use(event):
        async def numbers():
            try:
                yield 1
                yield 2
            finally:
                event.set()

        try:
            raise ValueError
        except ValueError as exc:
            saved = exc  # frame -> exception -> traceback -> frame: the usual cycle
        it = numbers()
        async for number in it:
            return number, saved

    event = trio.Event()
    await use(event)
    with trio.move_on_after(10):
        await event.wait()
        return "set"
    return "timed out"


async def one_refers_to_another():
    async def outer(inner):
        async for number in inner:
            yield number

    async def inner():
        try:
            yield 1
            yield 2
        finally:
            with trio.CancelScope(shield=True):
                await a()

    async def use():
        numbers = outer(inner())
        loop = [numbers]
        loop.append(loop)
        async for number in numbers:
            return number

    await use()
    await trio.sleep(5)
    return await b()


@pytest.mark.parametrize("wf", [refers_to_itself, held_by_an_exception, one_refers_to_another])
def test_when_the_collector_comes_changes_nothing(wf):
    def in_a_thread():
        thread = threading.Thread(target=gc.collect)
        thread.start()
        thread.join()

    def goes_on(collects):
        driver = Driver(wf)
        while driver.outcome is None:
            collects()
            if driver.running:
                driver.turn(done(next(iter(driver.running)), 1))
            else:
                driver.wake()
            assert len(driver.history) < 10
        execution = driver.fresh()
        for turn in driver.turns:
            execution.advance(turn.events, turn.now, turn)
            collects()
        execution.evict()
        return driver.history

    gc.collect()
    gc.disable()
    gc.freeze()  # what was there before is of no interest, and slow to look at
    try:
        never = goes_on(lambda: None)
        assert goes_on(gc.collect) == never
        assert goes_on(in_a_thread) == never
    finally:
        gc.unfreeze()
        gc.enable()
        gc.collect()


@pytest.mark.parametrize("wf", [refers_to_itself, one_refers_to_another])
def test_what_the_collector_found_is_closed_without_effect_on_eviction(wf):
    with nothing_left():
        driver = Driver(wf)
        gc.collect()
        driver.evict()


def test_what_goes_while_another_thread_collects_goes_at_its_time(monkeypatch):
    async def wf() -> list[str]:
        monkeypatch.setattr(generators, "_phases", {"stop": {}, "start": {}})
        return list(await leaves([]))

    assert Driver(wf).finish().result() == ["cleaned up"]


def test_those_that_have_ended_are_forgotten():
    async def wf() -> int:
        async def numbers():
            yield 1

        for _ in range(1000):
            async for _ in numbers():
                pass
        return await a()

    driver = Driver(wf)
    assert len(driver.execution.loop._agens._noted) < 300
    driver.evict()


INNER = "left_in_a_cleanup.<locals>.inner"


def left_in_a_cleanup(log):
    """Leave generators, one in the cleanup at the end of another."""

    async def outer():
        try:
            yield 1
        finally:
            log.append(f"outer, in {trio.lowlevel.current_task().name}")
            await inner("late").asend(None)
            log.append("outer has left it")

    async def inner(name):
        try:
            yield 1
        finally:
            log.append(f"{name}, in {trio.lowlevel.current_task().name}")
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as cancelled:
                log.append(f"{cancelled.source}: {cancelled.reason}")

    async def wf() -> list[str]:
        kept[:] = outer(), inner("kept")
        for each in kept:
            await each.asend(None)
        await inner("dropped").asend(None)
        await trio.sleep(1)

    kept = []
    return wf


def test_names_reasons_and_the_order_of_cleanups_are_those_of_trio():
    expected, log = [], []
    directly(left_in_a_cleanup(expected))
    driver = Driver(left_in_a_cleanup(log)).finish()
    assert sorted(log) == sorted(expected)  # trio keeps them in a set
    for each in (expected, log):
        assert each[0] == f"dropped, in close asyncgen {__name__}.{INNER} (abandoned)"
        assert each[-2] == "late, in <init>"
    log.clear()
    driver.check()


def test_executions_of_older_rules_close_late_generators_beside_the_others():
    log = []
    driver = Driver(left_in_a_cleanup(log), rules=LATE_GENERATORS - 1).finish()
    assert f"late, in close asyncgen {__name__}.{INNER} (abandoned)" in log
    driver.check()
