"""A turn that never blocks is not stored, and its execution is thrown away safely."""

# mypy: ignore-errors

from __future__ import annotations

import contextlib
import inspect

import pytest
import trio

from tests.engine.driver import CODEC, START, Driver, act, done, nothing_left, on_host, stopped
from trioflow._engine.calls import Caller
from trioflow._engine.execution import Execution
from trioflow._engine.loop import eviction
from trioflow._engine.suspension import NeedsSuspension
from trioflow._model import events as ev
from trioflow._model.turns import Completed

a = act("a", int)


class Limited(Driver):
    """A driver whose executions may make few steps in a turn."""

    limit = 1000

    def fresh(self, workflow=None):
        made = workflow or self.workflow
        return Execution(made, self.identity, CODEC, Caller, max_steps=self.limit)


async def polls():
    await a()
    with trio.move_on_after(1):
        while True:
            await trio.sleep(0)


def line_in(fn, text):
    lines, first = inspect.getsourcelines(fn)
    return first + next(number for number, line in enumerate(lines) if text in line)


def test_a_loop_that_polls_is_suspended_with_its_line_and_nothing_of_its_turn(host):
    def check():
        driver = Limited(polls, id="order-7")
        before = driver.execution.turns
        with pytest.raises(NeedsSuspension) as caught:
            driver.execution.advance([done("0:0", 1)], START + 1)
        report = caught.value.report
        assert report.kind == "does not wait"
        assert report.turn == before == driver.execution.turns
        assert report.task == "0"
        assert report.line == f"{__file__}:{line_in(polls, 'trio.sleep(0)')}"
        assert "'polls'" in report.message
        assert "'order-7'" in report.message
        assert "time stands still" in report.message
        assert "never waits in turn 1" in report.message
        driver.evict()

    with nothing_left():
        on_host(host, check)


def test_it_goes_on_once_it_is_mended():
    driver = Limited(polls)
    with pytest.raises(NeedsSuspension):
        driver.turn(done("0:0", 1))
    driver.evict()

    async def mended() -> str:
        await a()
        return "waits"

    mended.__qualname__ = polls.__qualname__
    driver.revive(type(driver.workflow)(mended))
    driver.turn(done("0:0", 1))
    assert driver.result() == "waits"


def test_the_task_that_spins_is_named_and_not_the_one_that_waits():
    async def spins():
        await trio.sleep(5)
        while True:
            await trio.lowlevel.checkpoint()

    async def wf():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(spins)

    driver = Limited(wf)
    with pytest.raises(NeedsSuspension) as caught:
        driver.wake()
    assert caught.value.report.task == "0.1"
    driver.evict()


def test_a_turn_of_many_steps_may_be_replayed_where_the_limit_is_smaller():
    async def wf() -> int:
        for _ in range(500):
            await trio.sleep(0)
        return await a()

    driver = Limited(wf)
    driver.limit = 10
    driver.evict()
    driver.revive()
    driver.turn(done("0:0", 3))
    assert isinstance(driver.outcome, Completed)


def test_the_limit_counts_anew_in_each_turn():
    async def wf() -> int:
        for _ in range(20):
            await a()
            for _ in range(100):
                await trio.sleep(0)
        return 1

    driver = Limited(wf).finish(a=lambda: 1)
    assert driver.check().result() == 1


def test_many_tasks_that_are_cancelled_and_end_are_no_reason():
    async def wf() -> int:
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(trio.sleep_forever)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        return 1

    driver = Limited(wf).finish()
    assert driver.check().result() == 1


def test_what_swallows_its_cancel_is_told_so_soon_and_is_kept_aside(monkeypatch):
    kept, stop = [], []
    monkeypatch.setattr(eviction, "_immortal", kept)

    async def stubborn():
        while not stop:
            with contextlib.suppress(BaseException):
                await a()

    class Roomy(Limited):
        limit = 100_000

    with nothing_left():
        driver = Roomy(stubborn)
        driver.turn(ev.CancelRequested("enough"))
        with pytest.raises(NeedsSuspension) as caught:
            driver.turn(stopped("0:0"))
        report = caught.value.report
        assert report.kind == "does not wait"
        assert "catches trio.Cancelled" in report.message
        spinner = next(iter(driver.execution.loop._runner.tasks))
        assert spinner._schedule_points < 2_000  # long before the limit
        assert driver.execution.evict() is False
        assert kept == [driver.execution.loop]
        stop.append(True)
        assert driver.execution.evict() is True
        kept.clear()


def test_one_that_starts_tasks_again_and_again_while_it_is_cancelled_is_told_so_soon(monkeypatch):
    kept, rounds, stop = [], [], []
    monkeypatch.setattr(eviction, "_immortal", kept)

    async def stubborn():
        while not stop:
            rounds.append(True)
            with contextlib.suppress(BaseException):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.sleep, 10)
                    nursery.start_soon(trio.sleep, 20)

    class Roomy(Limited):
        limit = 100_000

    with nothing_left():
        driver = Roomy(stubborn)
        with pytest.raises(NeedsSuspension) as caught:
            driver.turn(ev.CancelRequested("enough"))
        assert "catches trio.Cancelled" in caught.value.report.message
        assert len(rounds) < 1_000
        stop.append(True)
        driver.execution.evict()


def test_a_cancelled_workflow_may_clean_up_in_many_steps():
    async def wf() -> int:
        try:
            await a()
        finally:
            with trio.CancelScope(shield=True):
                for _ in range(500):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(trio.lowlevel.checkpoint)

    class Roomy(Limited):
        limit = 10_000

    driver = Roomy(wf)
    driver.turn(ev.CancelRequested("enough"))
    driver.turn(stopped("0:0"))
    assert driver.outcome is not None


def test_an_execution_of_newer_rules_is_left_to_newer_code():
    with pytest.raises(NeedsSuspension) as caught:
        Driver(polls, rules=99)
    assert caught.value.report.kind == "newer rules"
    assert "Update trioflow" in caught.value.report.message


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
@pytest.mark.parametrize("limit", range(1, 10))
def test_the_tally_may_be_taken_while_a_generator_is_about_to_be_closed(limit, monkeypatch):
    async def numbers():
        yield 1
        yield 2

    async def spins():
        await a()
        while True:
            async for _ in numbers():
                break
            await trio.sleep(0)

    monkeypatch.setattr(Limited, "limit", 20 * limit)
    driver = Limited(spins)
    with pytest.raises(NeedsSuspension) as caught:
        driver.turn(done("0:0", 1))
    assert caught.value.report.kind == "does not wait"
    assert "time stands still" in caught.value.report.message
    driver.evict()
