"""The tree of tasks: since when each of them waits."""

# mypy: ignore-errors

from __future__ import annotations

import trio

from tests.engine.driver import Driver, act, done, signal
from trioflow import SharedEvent, SharedLock, Signal
from trioflow._engine.tree import tasks_of

charge = act("charge", int)
go = Signal("go", int)


async def waiting():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(twice, name="twice")
        await go.receive()
        await go.receive()


async def twice():
    await charge()
    await charge()


def test_a_task_waits_since_the_turn_in_which_it_ran_last():
    driver = Driver(waiting)
    start = driver.now
    since = {task.path: task.since for task in tasks_of(driver.execution)}
    assert since == {"0": start, "0.0": start}
    driver.turn(done("0.0:0", 1), now=start + 5)
    since = {task.path: task.since for task in tasks_of(driver.execution)}
    assert since == {"0": start, "0.0": start + 5}
    driver.turn(signal("go", 1), now=start + 9)
    since = {task.path: task.since for task in tasks_of(driver.execution)}
    assert since == {"0": start + 9, "0.0": start + 5}
    driver.evict()
    replayed = driver.revive()
    assert {task.path: task.since for task in tasks_of(replayed)} == since
    driver.evict()


async def sharing():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(SharedEvent("open").set)
        nursery.start_soon(SharedEvent("open").wait)
        nursery.start_soon(SharedLock("stock").__aenter__)


def test_what_is_shared_is_called_by_its_kind_and_name():
    driver = Driver(sharing)
    assert {task.waits_for for task in tasks_of(driver.execution)[1:]} == {
        "the setting of the event 'open'",
        "the event 'open'",
        "the lock 'stock'",
    }
    driver.evict()
