"""Updates in simulations: they come at any time, and whoever waits has one answer."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings

from trioflow import Registry, Signal, Update, continue_as_new
from trioflow.testing import explore, schedules, simulate

flows = Registry()
add = Update("add", argument=int, result=int)
total = Update("total", result=int)
go = Signal("go", int)
never = Update("never", result=int)


@flows.activity
async def save(number: int) -> int:
    raise AssertionError


def saved(number):
    return number


@flows.workflow
async def counts(seen: list[int], executions: int = 2) -> list[int]:
    lock, left = trio.Lock(), trio.Event()

    @add.handler
    async def _(number: int) -> int:
        async with lock:
            before = list(seen)
            await save(number)
            seen[:] = [*before, number]
            left.set()
            return sum(seen)

    total.handler(lambda: sum(seen))
    if executions > 1:
        await left.wait()
        continue_as_new(seen, executions - 1)
    await go.receive()
    return seen


UPDATES = [(add, 1), (add, 2), (total,), (add, 4), (never,)]


def run(schedule=None, **options):
    options = {"cancels": False, "failures": False, "updates": UPDATES, **options}
    return simulate(
        counts,
        [],
        schedule=schedule,
        activities={save: saved},
        signals=[(go, 1)],
        registry=flows,
        **options,
    )


def test_if_nothing_goes_wrong_they_come_in_their_order():
    simulation = run()
    assert simulation.result() == [1, 2, 4]
    assert simulation.answers == {0: 1, 1: 3, 2: simulation.answers[2], 3: 7}
    assert "update 'add' comes" in "\n".join(simulation.trace)


@given(schedules())
@settings(max_examples=100, deadline=None)
def test_in_whatever_order_each_is_answered_once_and_none_is_lost(schedule):
    simulation = run(schedule)
    seen = simulation.result()
    answers = {number: simulation.answers.get(number) for number in (0, 1, 3)}
    for number, value in ((0, 1), (1, 2), (3, 4)):
        # What has an answer was done, and what was done has an answer.
        assert (value in seen) == (answers[number] is not None)
        if value in seen:
            assert answers[number] == sum(seen[: seen.index(value) + 1])


@given(schedules())
@settings(max_examples=60, deadline=None)
def test_failures_and_cancels_do_not_lose_their_answers(schedule):
    simulation = run(schedule, cancels=True, failures=True)
    for answer in simulation.answers.values():
        assert isinstance(answer, int | Exception)


async def test_a_handler_that_forgets_what_others_do_is_found():
    def check(simulation):
        numbers = (1, 2, 4)
        done = {numbers[number] for number in simulation.answers}
        assert done <= set(simulation.result())

    careless = Registry()

    @careless.workflow
    async def forgets() -> list[int]:
        seen: list[int] = []

        @add.handler
        async def _(number: int) -> int:
            before = list(seen)
            await save(number)
            seen[:] = [*before, number]
            return len(seen)

        await go.receive()
        return seen

    with pytest.raises(AssertionError) as found:
        await explore(
            forgets,
            activities={save: saved},
            signals=[(go, 1)],
            updates=[(add, 1), (add, 2), (add, 4)],
            cancels=False,
            failures=False,
            registry=flows,
            check=check,
            seed=1,
        )
    assert "update 'add' comes" in "\n".join(found.value.__notes__)
