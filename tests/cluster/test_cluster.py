"""Simulated clusters: what holds in all of them, and that mistakes are noticed."""

from __future__ import annotations

import pytest

from tests.cluster.campaign import run
from tests.cluster.flows import flows, straight
from tests.cluster.planted import (
    DropsCarried,
    ForgetsCancels,
    KeepsMessages,
    LosesWakeUps,
    NoFence,
    NoLease,
    StoresResultsTwice,
)
from trioflow.testing.cluster import BrokenInvariant, Cluster, Faults

RESTLESS = Faults(life=6.0, killed=0.9)


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level("CRITICAL", "trioflow")


@pytest.mark.parametrize("seed", range(6))
def test_promises_hold_whatever_happens(seed):
    report = run(seed, instances=8)
    assert set(report.statuses) <= {"completed", "cancelled", "terminated", "failed", "suspended"}
    assert report.statuses["completed"] >= 3


def test_the_same_seed_gives_the_same_run_byte_for_byte():
    first, second, other = run(7, instances=6), run(7, instances=6), run(8, instances=6)
    assert first.trace == second.trace
    assert first.histories == second.histories
    assert first.digest == second.digest != other.digest


def test_without_faults_nothing_is_tried_again():
    async def scenario(client):
        assert await client.run(straight, 3) == 3

    report = Cluster(1, registry=flows, faults=None).run(scenario)
    assert report.statuses == {"completed": 1}
    assert all("begins" in line or "no more" in line for line in report.trace)


def test_the_scenarios_own_errors_come_out():
    async def scenario(client):
        raise LookupError("mine")

    with pytest.raises((LookupError, ExceptionGroup)) as caught:
        Cluster(1, registry=flows).run(scenario)
    assert "mine" in "".join(map(str, _leaves(caught.value)))


def _leaves(exc):
    if isinstance(exc, ExceptionGroup):
        for member in exc.exceptions:
            yield from _leaves(member)
    else:
        yield exc


def run_all(seeds, **options):
    for seed in range(seeds):
        run(seed, **options)


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "store",
    [
        *(NoLease, NoFence, KeepsMessages, LosesWakeUps),
        *(ForgetsCancels, DropsCarried, StoresResultsTwice),
    ],
)
def test_a_mistake_of_the_store_is_found(store):
    with pytest.raises(BrokenInvariant):
        run_all(200, faults=RESTLESS, store=lambda clock: store(clock=clock))


@pytest.mark.parametrize("store", [KeepsMessages, LosesWakeUps, StoresResultsTwice])
def test_a_mistake_of_the_store_is_found_soon(store):
    with pytest.raises(BrokenInvariant):
        run_all(10, faults=RESTLESS, store=lambda clock: store(clock=clock), instances=8)
