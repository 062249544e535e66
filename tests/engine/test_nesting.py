"""Tasks in tasks, groups in groups, calls in calls: how deep, and what becomes of deeper ones."""

# mypy: ignore-errors

from __future__ import annotations

import anyio
import pytest
import trio

from tests.engine.driver import START, Driver
from trioflow._codec.limits import TASK_LEVELS
from trioflow._model.rules import LATE_GENERATORS, LIMITED_NESTING
from trioflow._model.turns import Completed, Failed
from trioflow.errors import ArgumentError


def leaves(error):
    """Return what is in groups in groups."""
    todo, found = [error], []
    while todo:
        error = todo.pop()
        if isinstance(error, BaseExceptionGroup):
            todo += error.exceptions
        else:
            found.append(error)
    return found


def nests(open_group):
    """Return a workflow in which each task starts another one, so many levels deep."""

    async def wf(levels: int) -> list[str]:
        reached = []

        async def down(level):
            reached.append(level)
            if level == levels:
                return
            async with open_group() as group:
                try:
                    group.start_soon(down, level + 1)
                except ArgumentError as error:
                    reached.append(str(error))
            await trio.sleep(1)

        await down(1)
        return [str(each) for each in reached[-2:]]

    return wf


# anyio makes the coroutine before it asks trio to start the task, and nobody can run it then.
@pytest.mark.filterwarnings("ignore:.*down.* was never awaited")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("open_group", [trio.open_nursery, anyio.create_task_group])
def test_the_nesting_of_tasks_is_limited_where_one_is_started(open_group):
    most = TASK_LEVELS  # the main task is on the first
    result = Driver(nests(open_group), most).finish().check().result()
    assert result == [str(most - 1), str(most)]
    last, error = Driver(nests(open_group), most + 1).finish().check().result()
    assert last == str(most)
    assert "down' cannot be started as a task: it would be nested too deeply, on level 125" in error


def test_one_that_is_started_with_start_is_limited_as_well():
    async def wf() -> int:
        async def down(level, task_status=trio.TASK_STATUS_IGNORED):
            task_status.started()
            async with trio.open_nursery() as nursery:
                await nursery.start(down, level + 1)

        try:
            await down(1)
        except* ArgumentError as group:
            (error,) = leaves(group)
            assert "nested too deeply" in str(error)
        return 1

    assert Driver(wf).check().result() == 1


@pytest.mark.parametrize("rules", [0, 1])
def test_what_began_by_older_rules_is_not_limited(rules):
    driver = Driver(nests(trio.open_nursery), 300, rules=rules).finish().check()
    assert driver.result() == ["299", "300"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("rules", "closed"), [(LIMITED_NESTING, []), (LATE_GENERATORS, ["closed"])]
)
def test_the_task_that_cleans_up_a_generator_is_limited_by_older_rules_only(rules, closed):
    async def wf() -> list[str]:
        heard = []

        async def generates():
            try:
                yield 1
            finally:
                heard.append("closed")

        async def down(level):
            if level == TASK_LEVELS:
                await anext(generates())
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(down, level + 1)

        await down(1)
        await trio.sleep(1)
        return heard

    assert Driver(wf, rules=rules).finish().check().result() == closed


def test_a_relay_in_one_nursery_is_as_deep():
    """Each task starts the next and ends: the path of each is longer all the same."""

    async def wf() -> int:
        done = []

        async def next_one(number):
            done.append(number)
            nursery.start_soon(next_one, number + 1)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(next_one, 2)
        except* ArgumentError:
            pass
        return len(done)

    assert Driver(wf).check().result() == TASK_LEVELS - 1


# --- errors that are deep, or say nothing ---------------------------------------------------------


@pytest.mark.parametrize("groups", [100, 450, 2000])
def test_an_error_in_very_many_groups_is_its_workflows_failure(groups):
    """Python can show only some of them."""

    async def wf() -> None:
        async def fails():
            error = ValueError("at the bottom")
            for _ in range(groups):
                error = ExceptionGroup("a group", [error])
            raise error

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails)

    driver = Driver(wf).check()
    assert isinstance(driver.outcome, Failed)


class Mute(Exception):
    def __repr__(self):
        raise LookupError("it has no repr")


class Leaves(Mute):
    def __repr__(self):
        raise SystemExit("and leaves")


@pytest.mark.parametrize("mute", [Mute, Leaves])
def test_an_error_whose_repr_fails_is_its_tasks_error(mute):
    async def wf() -> list[str]:
        heard = []

        async def fails():
            raise mute("by itself")

        async def waits():
            try:
                await trio.sleep(60)
            finally:
                heard.append("cancelled")

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(waits)
                nursery.start_soon(fails)
        except* Mute as group:
            heard.append(str(group.exceptions[0]))
        return heard

    driver = Driver(wf).check()
    assert driver.result() == ["cancelled", "by itself"]
    assert driver.now == START


# --- recursion ------------------------------------------------------------------------------------


def recursion(*, caught):
    async def wf() -> str:
        async def down():
            return await down()

        if not caught:
            return await down()
        try:
            return await down()
        except RecursionError:
            await trio.sleep(1)
            return "caught"

    return wf


def test_a_recursion_without_end_is_an_error_like_any_other():
    driver = Driver(recursion(caught=True)).finish().check()
    assert driver.outcome == Completed(driver.outcome.result)
    assert driver.result() == "caught"
    driver = Driver(recursion(caught=False)).check()
    assert isinstance(driver.outcome, Failed)
    assert driver.outcome.failure.type == "RecursionError"
