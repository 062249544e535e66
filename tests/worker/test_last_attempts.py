"""Who has lost a worker in each attempt makes the last one while no other such one does."""

from __future__ import annotations

import math

import msgspec
import pytest

from trioflow import Registry, RetryPolicy
from trioflow._model.commands import ActivityOptions
from trioflow._worker.activities.last_attempts import LastAttempts
from trioflow.backends.records import ActivityKey, ActivityTask

flows = Registry()


@flows.activity(name="work", retry=RetryPolicy(max_attempts=3))
async def work() -> None: ...


class Times:
    """A clock, and what is told to wait by it."""

    def __init__(self):
        self.now = 100.0
        self.last = LastAttempts(flows.activities, lambda: self.now)

    def wait(self, task):
        return self.last.wait(task)


def task(number, attempt=3, *, options=b"", failure=b""):
    key = ActivityKey(f"i{number}", 1, "0:0", "life")
    return ActivityTask(key, "work", "default", b"", options, attempt, 0.0, failure)


@pytest.fixture
def times():
    return Times()


def test_one_begins_and_the_others_come_one_after_the_other(times):
    assert times.wait(task(0)) == 0
    assert [times.wait(task(n)) for n in (1, 2, 3)] == pytest.approx([0.05, 0.1, 0.15])
    times.now += 2
    assert times.wait(task(1)) == pytest.approx(2), "it takes longer than was thought"
    times.last.leave(task(0).key)
    assert times.wait(task(2)) == 0
    assert times.wait(task(3)) == pytest.approx(4), "behind that which was told before"


def test_one_that_takes_long_does_not_hold_up_the_others(times):
    assert times.wait(task(0)) == 0
    times.now += 9
    assert times.wait(task(1)) > 0
    times.now += 1
    assert times.wait(task(1)) == 0
    times.last.leave(task(0).key)
    assert times.wait(task(2)) > 0, "the second is alone now"
    times.last.leave(task(1).key)
    assert times.wait(task(2)) == 0


@pytest.mark.parametrize(
    "other",
    [
        task(1, 1),
        task(1, 2),
        task(1, failure=b"{}"),
        task(1, options=msgspec.json.encode(ActivityOptions(retry=RetryPolicy(max_attempts=4)))),
        task(1, options=msgspec.json.encode(ActivityOptions(retry=RetryPolicy(max_attempts=None)))),
        task(1, options=b"no options"),
    ],
    ids=["first", "second", "has failed", "of four", "of many", "unreadable"],
)
def test_nobody_else_waits(times, other):
    assert times.wait(task(0)) == 0
    assert times.wait(other) == 0
    assert times.wait(task(2)) > 0


def test_options_of_the_call_count(times):
    two = msgspec.json.encode(ActivityOptions(retry=RetryPolicy(max_attempts=2)))
    assert times.wait(task(0)) == 0
    assert 0 < times.wait(task(1, 2, options=two)) < math.inf
