"""When the garbage collector runs changes nothing: what ends, ends at once and at its place."""

# mypy: ignore-errors

from __future__ import annotations

import contextlib
import gc
import random
import re
import weakref

import pytest
import trio

from tests.engine import test_property
from tests.engine.driver import Driver, act, done
from tests.engine.world import World
from trioflow._engine.execution import Execution
from trioflow._engine.loop.nested import NestedLoop

a = act("a", int)


@pytest.fixture(autouse=True)
def uncollected():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_the_locals_of_a_task_that_raised_go_when_it_ends():
    async def wf() -> str:
        send, receive = trio.open_memory_channel(0)

        class Closer:
            def __del__(self):
                send.close()

        async def producer():
            closer = Closer()
            raise ValueError(closer is None)

        with contextlib.suppress(ExceptionGroup):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(producer)
        try:
            receive.receive_nowait()
        except trio.EndOfChannel:
            return "closed"
        except trio.WouldBlock:
            return "still open"

    assert trio.run(wf) == Driver(wf).check().result() == "closed"


class Mark:
    """Something whose end is seen."""


async def ends_well(mark):
    await a()
    return mark is not None


async def raises(mark):
    await a()
    raise ValueError(mark is None)


async def raises_in_tasks(mark):
    async def task(kept):
        await a()
        raise ValueError(kept is None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(task, mark)
        nursery.start_soon(task, mark)


async def cancelled(mark):
    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends_well, mark)
            nursery.start_soon(ends_well, mark)


@pytest.mark.parametrize("fn", [ends_well, raises, raises_in_tasks, cancelled])
@pytest.mark.parametrize("how", ["ends", "evicted", "evicted at its end"])
def test_nothing_is_left_to_the_collector(fn, how):
    marks = []

    async def wf() -> None:
        mark = Mark()
        marks.append(weakref.ref(mark))
        await fn(mark)

    driver = Driver(wf)
    if how != "evicted":
        for id in [command.id for command in driver.last.commands]:
            if driver.outcome is None:
                driver.turn(done(id, 1))
    if how != "ends":
        driver.evict()
    assert driver.execution.evict()
    del driver
    assert [mark() for mark in marks] == [None]
    left = [one for one in gc.get_objects() if isinstance(one, Execution | NestedLoop)]
    assert left == []


def histories(number, collect):
    """Run a random program; let the collector run before some of its turns."""
    chance = random.Random(number)
    world = World(test_property.grown(chance), random.Random(number), evict=0.3)
    turn = Driver.turn

    def collecting(driver, *events, **how):
        if collect.random() < 0.5:
            gc.collect()
        return turn(driver, *events, **how)

    Driver.turn = collecting
    try:
        world.run_in_any_order(signals=2, cancel=number % 3 == 0)
    finally:
        Driver.turn = turn
    turns = [data for each in world.histories().values() for data in each]
    found = [re.sub(rb"0x[0-9a-f]+", b"", data) for data in turns]
    for driver in world.drivers.values():
        driver.evict()
    return found


class _Never:
    def random(self):
        return 1.0


def test_histories_do_not_depend_on_when_the_collector_runs():
    gc.collect()
    gc.freeze()  # what was there before is of no interest, and slow to look at
    try:
        for number in range(25):
            assert histories(number, random.Random(number)) == histories(number, _Never())
    finally:
        gc.unfreeze()


def test_a_collection_between_turns_runs_no_code_that_would_lose_a_ctrl_c():
    """It would be raised there if it came meanwhile, and Python only reports what is raised there.

    What the standard library has written in C is no such code.
    """

    def of_ours():
        owners = [getattr(each, "__module__", None) or "" for each in gc.callbacks]
        return [owner for owner in owners if owner.startswith("trioflow")]

    seen = []

    async def wf() -> int:
        seen.extend(of_ours())
        return await a()

    driver = Driver(wf)
    assert seen == ["trioflow._engine.forgotten"]
    assert not of_ours()
    driver.evict()
