"""The workflow of schedules, by the rules with which executions of it are stored."""

from __future__ import annotations

import pytest

from tests.engine.driver import START
from trioflow import Every
from trioflow._model.calendars import StoredCalendar
from trioflow._model.commands import StartDetached
from trioflow._model.events import RequestDone
from trioflow._model.rules import SCHEDULED_IN_STEPS, SCHEDULED_IN_TURN
from trioflow._model.schedules import Backfill, Due, Plan, Progress, ScheduleState, Target
from trioflow._model.workflows import Workflow
from trioflow.schedules import keep_schedule


@pytest.mark.parametrize(
    ("rules", "begun"),
    [
        (SCHEDULED_IN_TURN, list(range(10, 230, 10))),
        (SCHEDULED_IN_TURN - 1, [10, 100, 130, 190, 200]),
    ],
)
def test_jitter_beyond_the_interval(rules, begun, drive):
    """By older rules a run that another one held up was missed; what began so replays so."""
    calendar = StoredCalendar.of(Every(seconds=10, offset=START))
    plan = Plan(calendar, Target("job", "{}"), overlap="allow", catch_up=0.0, jitter=300.0)
    state = ScheduleState(plan, Progress(after=START))
    driver = drive(Workflow(keep_schedule), state, rules=rules)
    started = []
    for _ in range(4):
        turn = driver.wake()
        while asked := [each for each in turn.commands if isinstance(each, StartDetached)]:
            started += [each.options.schedule.at - START for each in asked]
            turn = driver.turn(*(RequestDone(each.id) for each in asked))
    assert started == begun
    driver.check()


PAST = Backfill(START - 9000, START - 9000, START - 6000, "skip")


@pytest.mark.parametrize(
    ("rules", "in_a_turn"), [(SCHEDULED_IN_STEPS, 100), (SCHEDULED_IN_STEPS - 1, 300)]
)
@pytest.mark.parametrize(
    "progress",
    [{"after": START, "backfills": [PAST]}, {"after": START - 3000}],
    ids=["backfill", "catch up"],
)
def test_a_long_backlog_takes_several_turns(progress, rules, in_a_turn, drive):
    """By older rules it took one, however long. A run is on, so that all of it is skipped."""
    calendar = StoredCalendar.of(Every(seconds=10, offset=START))
    plan = Plan(calendar, Target("job", "{}"), overlap="skip", catch_up=1e6, jitter=0.0)
    state = ScheduleState(plan, Progress(running=[Due("job/1", START - 9999)], **progress))
    driver = drive(Workflow(keep_schedule), state, rules=rules)
    asked = [len(turn.commands) for turn in driver.turns]
    assert 0 <= asked[0] - in_a_turn <= 2
    if rules >= SCHEDULED_IN_STEPS:
        assert driver.wake().commands
        driver.wake()
        assert type(driver.outcome).__name__ == "Continued"  # its history is long enough
    driver.check()
