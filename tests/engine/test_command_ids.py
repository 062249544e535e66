"""The ids of commands come from the tree of tasks: one branch does not shift another's."""

# mypy: ignore-errors

from __future__ import annotations

import contextlib

import anyio
import pytest
import trio

from tests.engine.driver import Driver, act, done, failed, shown, stopped
from trioflow import send_signal
from trioflow._model.activities import Activity
from trioflow.authoring import Signal
from trioflow.errors import ArgumentError

a, b, c, d = (act(name, int) for name in "abcd")


async def typed(number: int) -> int:
    return number


typed = Activity(typed)


def named(driver):
    """(id, name) of everything asked for, in the order of the ids."""
    return [(id, name) for turn in driver.turns for _, id, name in shown(turn)]


def test_the_main_task_counts_its_commands():
    async def wf():
        return await a() + await b() + await c()

    driver = Driver(wf).finish(a=lambda: 1, b=lambda: 2, c=lambda: 3).check()
    assert named(driver) == [("0:0", "a"), ("0:1", "b"), ("0:2", "c")]


def test_a_path_is_the_spawners_and_the_index_of_the_spawn():
    async def inner():
        await c()

    async def outer():
        await b()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inner)
            nursery.start_soon(d)

    async def wf():
        async with trio.open_nursery() as first:
            first.start_soon(a)
            first.start_soon(outer)
        async with trio.open_nursery() as second:
            second.start_soon(outer)

    one = lambda: 1
    driver = Driver(wf).finish(a=one, b=one, c=one, d=one).check()
    assert sorted(named(driver)) == [
        *[("0.0:0", "a"), ("0.1.0:0", "c"), ("0.1.1:0", "d"), ("0.1:0", "b")],
        *[("0.2.0:0", "c"), ("0.2.1:0", "d"), ("0.2:0", "b")],
    ]


@pytest.mark.parametrize("longer", [0, 1, 2])
def test_a_step_more_in_one_branch_leaves_its_siblings_ids(longer):
    async def branch(number, steps):
        for _ in range(steps):
            await a()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b)

    def program(extra):
        async def wf():
            async with trio.open_nursery() as nursery:
                for number in range(3):
                    nursery.start_soon(branch, number, 1 + (extra and number == longer))

        return set(named(Driver(wf).finish(a=lambda: 1, b=lambda: 1).check()))

    before, after = program(extra=False), program(extra=True)
    assert after - before == {(f"0.{longer}:1", "a")}
    assert before <= after


def test_who_spawns_into_anothers_nursery_gives_the_path():
    async def branch(nursery):
        nursery.start_soon(b)
        await a()
        nursery.start_soon(c)

    async def wf():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(branch, nursery)
            nursery.start_soon(branch, nursery)

    driver = Driver(wf).finish(a=lambda: 1, b=lambda: 1, c=lambda: 1).check()
    assert {name: [i for i, n in named(driver) if n == name] for name in "abc"} == {
        "a": ["0.0:0", "0.1:0"],
        "b": ["0.0.0:0", "0.1.0:0"],
        "c": ["0.0.1:0", "0.1.1:0"],
    }


def test_gather_and_nested_nurseries_number_their_tasks():
    async def wf():
        await anyio.gather(a(), b())
        async with trio.open_nursery(), trio.open_nursery() as inner:
            inner.start_soon(c)

    driver = Driver(wf).finish(a=lambda: 1, b=lambda: 1, c=lambda: 1).check()
    assert named(driver) == [("0.0:0", "a"), ("0.1:0", "b"), ("0.2:0", "c")]


def test_commands_of_a_turn_are_in_the_order_of_their_ids():
    async def wf():
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(a)
            await b()

    driver = Driver(wf)
    ids = [command.id for command in driver.last.commands]
    assert ids == ["0:0", *(f"0.{n}:0" for n in range(12))]
    driver.evict()


def test_calls_that_failed_or_were_cancelled_have_used_their_ids():
    async def wf():
        with contextlib.suppress(ValueError):
            await a()
        with trio.move_on_after(1):
            await b()
        return await c()

    driver = Driver(wf)
    driver.turn(failed("0:0", ValueError("no")))
    driver.wake()
    driver.turn(stopped("0:1"))
    assert named(driver)[-1] == ("0:2", "c")
    driver.turn(done("0:2", 5))
    assert driver.check().result() == 5


def test_a_call_taken_back_in_its_own_turn_has_used_its_id():
    async def wf():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a)
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        with trio.CancelScope() as scope:
            scope.cancel()
            await b()  # not even begun: no id
        return await c()

    driver = Driver(wf)
    assert named(driver) == [("0:0", "c")]
    assert driver.finish(c=lambda: 3).check().result() == 3


@pytest.mark.parametrize("evict", [False, True])
def test_a_refused_call_uses_up_its_id_live_and_on_replay(evict):
    signal = Signal("s", int)

    async def wf():
        for bad in (("x",), (), (1, 2), (object(),)):
            with pytest.raises(ArgumentError):
                await typed(*bad)
        with pytest.raises(ValueError, match="int"):
            await send_signal("other", signal, "x")
        first = await typed(1)
        with pytest.raises(ArgumentError):
            await typed("x")
        return first + await a()

    driver = Driver(wf, evict_always=evict).finish(typed=lambda number: 1, a=lambda: 2).check()
    assert named(driver) == [("0:5", "typed"), ("0:7", "a")]
    assert driver.result() == 3


def test_cancelled_before_start_children_use_up_their_spawn_index():
    async def wf():
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.cancel()
            nursery.start_soon(a)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b)

    driver = Driver(wf).finish(b=lambda: 1).check()
    assert named(driver) == [("0.1:0", "b")]
