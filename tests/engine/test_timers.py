"""Timers with names: what a sleep is for, in the history and in the tree of tasks."""

# mypy: ignore-errors

from __future__ import annotations

import math

import pytest
import trio

from tests.engine.driver import START
from trioflow import ArgumentError, NotInWorkflow, now, sleep
from trioflow._engine.tree import tasks_of
from trioflow._model.commands import NameTimer


async def reminds():
    with trio.move_on_after(60) as scope:
        await sleep(3600, name="reminder")
    await sleep(5, name="pause")
    return [scope.cancelled_caught, now() - START]


def test_it_is_a_sleep_with_its_name_in_the_history(drive):
    driver = drive(reminds)
    assert driver.turns[0].commands == [NameTimer("0:0", "reminder", START + 3600)]
    driver.wake()
    assert driver.turns[1].commands == [NameTimer("0:1", "pause", START + 65)]
    driver.wake()
    assert driver.check().result() == [True, 65]


def test_the_tree_of_tasks_says_what_it_waits_for(drive):
    driver = drive(reminds)
    (task,) = tasks_of(driver.execution)
    assert (task.waits_for, task.until) == ("timer 'reminder'", START + 60)
    driver.wake()
    (task,) = tasks_of(driver.execution)
    assert (task.waits_for, task.until) == ("timer 'pause'", START + 65)


@pytest.mark.parametrize(
    ("seconds", "name", "said"),
    [
        ("60", "x", "a number of seconds, not '60'"),
        (True, "x", "not True"),
        (-1, "x", "from 0 on, not -1"),
        (math.inf, "x", "trio.sleep_forever"),
        (math.nan, "x", "not nan"),
        (1, "", "a timer"),
        (1, "x" * 256, "a timer"),
        (1, 7, "a timer"),
    ],
)
def test_what_is_no_time_or_no_name_is_refused(drive, seconds, name, said):
    async def wf():
        with pytest.raises(ArgumentError, match=said):
            await sleep(seconds, name=name)

    driver = drive(wf)
    assert driver.turns[0].commands == []
    driver.check().result()


async def test_it_is_for_workflows():
    with pytest.raises(NotInWorkflow, match="sleep"):
        await sleep(1, name="x")
