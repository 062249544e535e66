"""The property: whatever a program does, in whatever order things happen, its history replays.

And where the order does not matter, or is the clock's, it does what it would do directly on trio.
"""

# mypy: ignore-errors

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.engine.driver import nothing_left, on_host
from tests.engine.programs import (
    KINDS,
    LEAVES,
    Node,
    moment,
    numbered,
    orderly_programs,
    programs,
    run_directly,
)
from tests.engine.world import World

QUICK = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
LONG = settings(QUICK, max_examples=5000, derandomize=False)

seeds = st.integers(0, 2**32)
evictions = st.sampled_from([0.0, 0.3, 1.0])
signal_times = st.lists(st.integers(0, 6), max_size=3).map(
    lambda times: sorted(at + moment(30 + n) for n, at in enumerate(times))
)
cancel_times = st.none() | st.integers(0, 8).map(lambda at: at + moment(29))


def check_any_order(tree, number, evict, signals, cancel):
    world = World(tree, random.Random(number), evict=evict)
    world.run_in_any_order(signals=signals, cancel=cancel).check()
    event(world.end()[0])


def check_by_the_clock(tree, number, evict, signals, cancel_at):
    expected, notes, ended = run_directly(tree, signals, cancel_at)
    world = World(tree, random.Random(number), evict=evict)
    world.run_by_the_clock(signals, cancel_at).check()
    assert world.end() == expected
    assert world.now - world.drivers["root"].turns[0].now == ended
    assert sorted(world.durable.notes) == sorted(notes)
    event(expected[0])


def check_orderly(tree, number, evict):
    expected, _, _ = run_directly(tree, [], None)
    world = World(tree, random.Random(number), evict=evict).run_in_any_order().check()
    assert world.end() == expected


@QUICK
@given(programs(), seeds, evictions, st.integers(0, 3), st.booleans())
def test_any_order_replays(tree, number, evict, signals, cancel):
    check_any_order(tree, number, evict, signals, cancel)


@QUICK
@given(programs(), seeds, evictions, signal_times, cancel_times)
def test_by_the_clock_it_does_what_it_does_on_trio(tree, number, evict, signals, cancel_at):
    check_by_the_clock(tree, number, evict, signals, cancel_at)


@QUICK
@given(orderly_programs(), seeds, evictions)
def test_where_order_does_not_matter_the_result_is_trios(tree, number, evict):
    check_orderly(tree, number, evict)


def test_no_execution_leaves_a_task_or_a_coroutine(host):
    def check():
        for number in range(40):
            chance = random.Random(number)
            world = World(grown(chance), chance, evict=0.5)
            world.run_in_any_order(signals=2, cancel=number % 3 == 0).check()

    with nothing_left():
        on_host(host, check)


def grown(chance, depth=0):
    """A random program, the same for the same chance in every process."""
    kinds = KINDS if depth < 3 else LEAVES
    node = Node(chance.choice(kinds), chance.randint(0, 6))
    if kinds is KINDS:
        node.parts = [grown(chance, depth + 1) for _ in range(chance.randint(1, 2))]
    return node if depth else numbered(node)


def digest():
    """A fingerprint of many histories."""
    found = hashlib.sha256()
    for number in range(60):
        chance = random.Random(number)
        keep = [object() for _ in range(chance.randint(0, 1000))]  # shifts what comes after it
        world = World(grown(chance), chance).run_in_any_order(signals=2, cancel=number % 3 == 0)
        for id, history in sorted(world.histories().items()):
            for data in history:
                found.update(id.encode() + re.sub(rb"0x[0-9a-f]+", b"", data))
        for driver in world.drivers.values():
            driver.evict()
        del keep
    return found.hexdigest()


def test_histories_do_not_depend_on_the_hash_seed_or_on_where_things_are_in_memory():
    script = "from tests.engine.test_property import digest; print(digest())"
    expected = digest()
    for seed in ("0", "1", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", f"ballast = [[] for _ in range({seed})]; {script}"],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )
        assert (done.stdout.strip(), done.stderr) == (expected, "")


@pytest.mark.campaign
@LONG
@given(programs(), seeds, evictions, st.integers(0, 3), st.booleans())
def test_any_order_replays_at_length(tree, number, evict, signals, cancel):
    check_any_order(tree, number, evict, signals, cancel)


@pytest.mark.campaign
@LONG
@given(programs(), seeds, evictions, signal_times, cancel_times)
def test_by_the_clock_it_does_what_it_does_on_trio_at_length(
    tree, number, evict, signals, cancel_at
):
    check_by_the_clock(tree, number, evict, signals, cancel_at)


@pytest.mark.campaign
@LONG
@given(orderly_programs(), seeds, evictions)
def test_where_order_does_not_matter_the_result_is_trios_at_length(tree, number, evict):
    check_orderly(tree, number, evict)
