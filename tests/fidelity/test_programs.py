"""Random programs do in a workflow what they do on trio, in the same order at the same times."""

# mypy: ignore-errors

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.fidelity.programs import by_age, grow, programs, trace_of
from tests.fidelity.runs import Again, Trio, Workflows

QUICK = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def check(program, *, evict):
    """Compare what is seen of a program on trio, live, replayed, and evicted before each turn."""
    with by_age():
        expected = trace_of(program, Trio())
    live = Workflows()
    assert trace_of(program, live) == expected
    assert trace_of(program, live) == expected, "replayed"
    if evict:
        evicted = Workflows(evict=True)
        assert evicted_trace(program, evicted) == expected, "evicted"
        assert list(map(len, evicted.histories)) == list(map(len, live.histories))
    return len(live.histories[0])


def evicted_trace(program, runs):
    while True:
        try:
            return trace_of(program, runs)
        except Again:
            continue


@QUICK
@given(programs(), st.booleans())
def test_a_program_does_what_it_does_on_trio(program, evict):
    event(f"turns: {check(program, evict=evict)}")


@pytest.mark.campaign
@pytest.mark.parametrize("thousand", range(20))
def test_thousands_of_programs_do_what_they_do_on_trio(thousand):
    for seed in range(1000 * thousand, 1000 * (thousand + 1)):
        program = grow(random.Random(seed).choice)
        try:
            check(program, evict=seed % 4 == 0)
        except AssertionError as error:
            error.add_note(f"seed {seed}: {program!r}")
            raise


def test_what_a_workflow_does_otherwise_is_noticed(monkeypatch):
    def check_many():
        for seed in range(100):
            check(grow(random.Random(seed).choice), evict=False)

    monkeypatch.setattr("trioflow._engine.loop.nested.age_of", lambda task: -task._counter)
    with pytest.raises(AssertionError):
        check_many()
