"""Workers race on every shared store; whatever happens to them, what is left is as it should be.

Longer, or one store alone: ``nox -s races -- --store redis --minutes 120``.
"""

from __future__ import annotations

import os
import random
import time

import pytest
import trio

from tests.races.arenas import STORES, Arena
from tests.races.campaign import run_rounds
from tests.races.plans import CHAOS, draw
from tests.servers import required

# The seed of the first round, and how long the campaign races on each store.
SEED = "TRIOFLOW_RACES_SEED"
MINUTES = "TRIOFLOW_RACES_MINUTES"

OF_SERVERS = {"postgresql": "postgres", "mariadb": "mariadb", "redis": "redis"}


def race(store, *, seconds, rounds=None):
    if store in OF_SERVERS:
        required(OF_SERVERS[store])
    seed = int(os.environ.get(SEED) or random.randrange(10**6))
    said = []
    with Arena(store) as arena:
        tally = trio.run(
            lambda: run_rounds(
                arena,
                seed=seed,
                until=time.monotonic() + seconds,
                rounds=rounds,
                say=lambda text: (said.append(text), print(text)),  # noqa: T201 - shown if it fails
            )
        )
    print(tally)  # noqa: T201 - as above
    assert tally.rounds
    assert not tally.failed, "\n".join(said[-3:])


@pytest.mark.servers
@pytest.mark.timeout(240)
@pytest.mark.parametrize("store", STORES)
def test_a_few_races(store):
    race(store, seconds=25, rounds=5)


@pytest.mark.campaign
@pytest.mark.timeout(0)
@pytest.mark.parametrize("store", STORES)
def test_many_races(store):
    race(store, seconds=60 * float(os.environ.get(MINUTES) or 10))


def test_a_seed_draws_the_same_round():
    assert draw(7, proxied=True) == draw(7, proxied=True)
    assert {draw(seed, proxied=True).chaos for seed in range(200)} == set(CHAOS)
    assert {draw(seed, proxied=False).chaos for seed in range(200)} == set(CHAOS[:4])
