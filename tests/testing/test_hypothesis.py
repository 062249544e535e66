"""Schedules as Hypothesis' users expect them: profiles, the database, blobs, types."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import hypothesis
import pytest
import trio
from hypothesis import given, reproduce_failure, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase

from trioflow import Registry
from trioflow.testing import Schedule, explore, schedules, simulate

pytest_plugins = ["pytester"]

flows = Registry()


@flows.activity
async def step(number: int) -> int:
    raise AssertionError


@flows.workflow
async def steps() -> int:
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(step, number)
    return 3


def order_of(schedule):
    run = simulate(
        steps,
        schedule=schedule,
        activities={step: lambda number: number},
        registry=flows,
        cancels=False,
        failures=False,
        crashes=False,
    )
    return [call.args[0] for call in run.called(step)]


class Found(Exception):
    pass


def failing(seen, **options):
    @settings(deadline=None, **options)
    @given(schedules())
    def test(schedule):
        seen.append(schedule)
        if order_of(schedule)[0] != 0:
            raise Found

    return test


def test_the_example_database_keeps_what_was_found():
    database, first, second = InMemoryExampleDatabase(), [], []
    with pytest.raises(Found):
        failing(first, database=database)()
    with pytest.raises(Found):
        failing(second, database=database)()
    assert len(first) > 1
    assert order_of(second[0])[0] != 0  # the first that is tried


def test_derandomize_draws_the_same_each_time():
    first, second = [], []
    for seen in (first, second):
        with pytest.raises(Found):
            failing(seen, derandomize=True)()
    assert first == second


def test_a_failure_is_reproduced_from_its_blob():
    seen = []
    with pytest.raises(Found) as caught:
        failing(seen, print_blob=True, database=None)()
    told = "\n".join(caught.value.__notes__)
    version, blob = re.search(r"@reproduce_failure\('([^']+)', (b[^)]+)\)", told).groups()
    seen.clear()
    test = reproduce_failure(version, eval(blob))(failing(seen, database=None))
    with pytest.raises(Found):
        test()
    assert len(set(seen)) == 1


def test_what_is_found_is_shown_as_a_schedule_that_can_be_used():
    with pytest.raises(Found) as caught:
        failing([], database=None)()
    (line,) = [note for note in caught.value.__notes__ if "schedule=" in note]
    choices = eval(re.search(r"Schedule\((\[.*?\])\)", line)[1])
    assert order_of(Schedule(choices))[0] != 0


def test_a_schedule_is_drawn_by_its_type():
    drawn = set()

    @settings(deadline=None, max_examples=30, database=None)
    @given(st.from_type(Schedule))
    def test(schedule: Schedule) -> None:
        drawn.add(schedule)

    test()
    assert len(drawn) > 5


BOTH = """
import sys
from hypothesis import find, strategies as st
assert "trioflow" not in sys.modules
from trioflow.testing import Schedule
assert find(st.from_type(Schedule), lambda schedule: len(schedule.choices) > 2)
"""


def test_hypothesis_knows_schedules_and_does_not_import_trioflow():
    without = {**os.environ, "HYPOTHESIS_NO_PLUGINS": "1"}  # whatever is installed here
    subprocess.run([sys.executable, "-c", BOTH], check=True, env=without)


IN_PYTEST = """
from trioflow.testing import Schedule
from hypothesis import find, strategies as st

def test_it():
    assert find(st.from_type(Schedule), lambda schedule: len(schedule.choices) > 2)
"""


def test_in_pytest_the_order_of_imports_does_not_matter(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("HYPOTHESIS_NO_PLUGINS", "1")
    pytester.makepyfile(test_it=IN_PYTEST)
    plugins = ("-p", "no:cacheprovider", "-p", "trioflow.testing.pytest_plugin")
    pytester.runpytest_subprocess(*plugins).assert_outcomes(passed=1)


def refuse(run):
    if run.called(step)[0].args[0] != 0:
        raise Found


def explored(**options):
    with pytest.raises(Found):
        trio.run(
            lambda: explore(
                steps,
                activities={step: lambda number: number},
                registry=flows,
                cancels=False,
                failures=False,
                crashes=False,
                **options,
            )
        )


def test_explore_takes_settings_with_a_database():
    database, counts = InMemoryExampleDatabase(), []
    for _ in range(2):
        seen = []

        def check(run, seen=seen):
            seen.append(run)
            refuse(run)

        explored(check=check, settings=settings(database=database, max_examples=300))
        counts.append([[call.args[0] for call in run.called(step)] for run in seen])
    assert counts[0][0][0] == counts[1][0][0] == 0  # the plain run
    assert counts[1][1][0] != 0  # what was found before


def test_explore_goes_by_the_loaded_profile():
    runs = []
    hypothesis.settings.register_profile("of this test", derandomize=True)
    before = hypothesis.settings.get_current_profile_name()
    hypothesis.settings.load_profile("of this test")
    try:
        for _ in range(2):
            seen = []

            def check(run, seen=seen):
                seen.append(tuple(run.trace))
                refuse(run)

            explored(check=check)
            runs.append(seen)
    finally:
        hypothesis.settings.load_profile(before)
    assert runs[0] == runs[1]
