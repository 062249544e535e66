"""Simulated clusters: what holds in all of them, and that mistakes are noticed."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import trio

from tests.cluster.campaign import options_of, run
from tests.cluster.flows import changed, cleans, diverging, flows, straight
from tests.cluster.planted import (
    AttemptsDoNotCount,
    DropsCarried,
    ForgetsCancels,
    ForgetsUnreadCancels,
    ForgetsWhatWasRead,
    KeepsMessages,
    LosesAnswers,
    LosesSignals,
    LosesWakeUps,
    NoFence,
    NoLease,
    StoresResultsTwice,
)
from trioflow import Promise, Registry, set_attributes
from trioflow.backends.memory import MemoryBackend
from trioflow.errors import LeaseLost
from trioflow.testing.clock import process
from trioflow.testing.cluster import BrokenInvariant, Cluster, Faults

RESTLESS = Faults(life=6.0, killed=0.9)
NEVER = 1e9
# Workers live for ever, and nothing happens to them or to the store.
QUIET = Faults(life=NEVER, between=NEVER, store=NEVER, skew=0)


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level("CRITICAL", "trioflow")


@pytest.mark.parametrize("seed", range(6))
def test_promises_hold_whatever_happens(seed):
    report = run(seed, instances=8)
    assert set(report.statuses) <= {"completed", "cancelled", "terminated", "failed", "suspended"}
    assert report.statuses["completed"] >= 3


@pytest.mark.parametrize("seed", range(3))
def test_promises_hold_though_instances_are_reset(seed):
    report = run(seed, instances=8, resets=True)
    turns = [t for h in report.histories for e in h.executions for t in e.decode()]
    assert [turn for turn in turns if turn.reset is not None]


def test_the_same_seed_gives_the_same_run_byte_for_byte():
    first, second, other = run(7, instances=6), run(7, instances=6), run(8, instances=6)
    assert first.trace == second.trace
    assert first.histories == second.histories
    assert first.digest == second.digest != other.digest


DIGEST = """
import logging
from tests.cluster.campaign import options_of, run
logging.disable(logging.CRITICAL)
print(run(15, instances=6, **options_of(15)).digest)
"""


def test_it_does_not_depend_on_the_process():
    here = run(15, instances=6, **options_of(15)).digest
    for number in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", DIGEST],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": number},
            check=True,
            capture_output=True,
            text=True,
        )
        assert there.stdout.strip() == here


def test_without_faults_nothing_is_tried_again():
    async def scenario(client):
        assert await client.run(straight, 3) == 3

    report = Cluster(1, registry=flows, faults=None).run(scenario)
    assert report.statuses == {"completed": 1}
    assert all("begins" in line or "no more" in line for line in report.trace)


def test_the_scenarios_own_errors_come_out():
    async def scenario(client):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        Cluster(1, registry=flows).run(scenario)


asked = Registry()


@asked.workflow
async def waits() -> int:
    promise = Promise("answer", int)
    set_attributes(token=promise.token)
    return await promise.receive()


async def keeps_promises(client):
    """Keep two promises, and break one."""
    handles = [await client.start(waits) for _ in range(3)]
    for number, handle in enumerate(handles):
        while not (token := (await handle.describe()).attributes.get("token")):
            await trio.sleep(1.0)
        settled = client.resolve(token, number) if number else client.reject(token, OSError())
        assert await settled


@pytest.mark.parametrize("seed", range(3))
def test_what_promises_are_given_is_received(seed):
    report = Cluster(seed, registry=asked).run(keeps_promises)
    assert report.statuses == {"completed": 2, "failed": 1}


def test_what_a_promise_is_given_and_does_not_receive_is_found():
    class LosesPromises(LosesSignals):
        seen = 3  # each fifth is lost, the last one here is the second

    with pytest.raises(BrokenInvariant, match="was sent .*promise resolved"):
        Cluster(1, registry=asked, store=lambda clock: LosesPromises(clock=clock)).run(
            keeps_promises
        )


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("happens", "faults"),
    [
        ("stands still", {"between": 2.0, "still": 8.0}),
        ("is cut", {"between": 2.0}),
        ("loses answers", {"between": 2.0, "lost": 0.5}),
        ("is full", {"store": 3.0}),
        ("is away", {"store": 3.0}),
        ("is slow", {"store": 3.0}),
        ("is killed", {"life": 3.0, "killed": 1.0}),
        ("is drained", {"life": 3.0, "killed": 0.0}),
    ],
)
def test_each_fault_happens_and_breaks_nothing(happens, faults):
    traces = ""
    for seed in range(2):
        report = run(seed, instances=6, faults=Faults(**{**_fields(QUIET), **faults}))
        traces += "".join(report.trace)
    assert happens in traces


def _fields(faults):
    return {name: getattr(faults, name) for name in faults.__struct_fields__}


class Recorded(MemoryBackend):
    """Notes when which worker has stored something, and when one was told that it is dead."""

    def __init__(self, clock):
        super().__init__(clock=clock)
        self.calls = []
        self.refused = 0

    async def commit(self, worker, units):
        self.calls.append((process.get().name, trio.current_time()))
        try:
            return await super().commit(worker, units)
        except LeaseLost:
            self.refused += 1
            raise

    def heartbeat(self, worker):
        self.calls.append((process.get().name, trio.current_time()))
        return super().heartbeat(worker)


def test_a_worker_that_stands_still_does_nothing_and_writes_nothing_when_it_wakes():
    faults = Faults(**{**_fields(QUIET), "between": 1.0, "still": 12.0, "cut": 0, "slow": 0})
    still, refused = [], 0
    for seed in range(4):
        stores = []

        def make(clock, stores=stores):
            stores.append(Recorded(clock))
            return stores[0]

        report = run(seed, faults=faults, instances=8, store=make)
        healthy = next(float(line.split()[0]) for line in report.trace if "no more" in line)
        for line in report.trace:
            if found := re.match(r" *([\d.]+) (worker \S+) stands still for ([\d.]+) s", line):
                begin, name, seconds = float(found[1]), found[2], float(found[3])
                end = min(begin + seconds, healthy)
                still.append(seconds)
                calls = [at for who, at in stores[0].calls if who == name]
                assert not [at for at in calls if begin < at < end - 0.001], line
        refused += stores[0].refused
    assert max(still) > 5.0
    assert refused > 0


@pytest.mark.parametrize("clocks", ["server", "process"])
def test_clocks_that_are_apart(clocks):
    async def scenario(client):
        handles = [await client.start(straight, 1) for _ in range(6)]
        for handle in handles:
            await handle.result()
            began = (await handle.describe()).created_at
            (execution,) = await handle.history()
            apart.append(execution.turns[0].now - began)

    apart = []
    for seed in range(4):
        faults = Faults(**{**_fields(QUIET), "skew": 3.0, "life": 4.0})
        report = Cluster(seed, registry=flows, clocks=clocks, faults=faults).run(scenario)
        assert report.statuses == {"completed": 6}
    # A server's clock is one for all: what passes is what it takes. Those of processes are apart.
    assert (max(map(abs, apart)) < 0.5) == (clocks == "server")


# --- what clients are told ------------------------------------------------------------------------


class StartsTheNextAtOnce(MemoryBackend):
    """Lets a client that waits for the end of an instance start the next one at that moment."""

    next = None

    async def cancel(self, instance, event, outcome, *, life=None):
        update = await super().cancel(instance, event, outcome, life=life)
        if self.next is not None:
            create, self.next = self.next, None
            await create()
        return update


def test_a_cancel_counts_for_the_life_that_was_sent_it():
    async def scenario(client):
        async def start_again():
            lives.append(await client.start(cleans.options(id="one"), 4))

        # Nobody serves its queue: so a cancel ends it at once.
        lives = [await client.start(cleans.options(id="one", queue="nobody"), 4)]
        stores[0].next = start_again
        await lives[0].cancel("no longer")
        await trio.sleep(1)
        await lives[1].cancel("no longer")

    def make(clock):
        stores.append(StartsTheNextAtOnce(clock=clock))
        return stores[0]

    stores = []
    report = Cluster(1, registry=flows, faults=QUIET, store=make).run(scenario)
    assert report.statuses == {"cancelled": 1}


# --- deploys --------------------------------------------------------------------------------------

BUSY = Faults(**{**_fields(QUIET), "life": 4.0, "deploy": 5.0})


async def many(client):
    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(one_of_many, client, number)


async def one_of_many(client, number):
    await trio.sleep(1.5 * number)
    await client.start((straight, cleans)[number % 2], 5)


def test_a_deploy_of_what_may_change_suspends_nothing():
    for seed in range(3):
        report = Cluster(seed, registry=flows, deploys=[changed], faults=BUSY).run(many)
        assert report.statuses == {"completed": 12}
        assert not [line for line in report.trace if "resumed" in line]
        assert [line for line in report.trace if "with version 1" in line]


def test_a_deploy_that_diverges_suspends_and_a_later_one_resumes():
    resumed, ended = 0, {"completed": 0, "terminated": 0}
    for seed in range(4):
        report = Cluster(seed, registry=flows, deploys=[diverging, flows], faults=BUSY).run(many)
        assert sum(report.statuses.values()) == 12
        resumed += len([line for line in report.trace if "is resumed" in line])
        for status, number in report.statuses.items():
            ended[status] += number
    assert resumed > ended["terminated"]  # those that the other version had begun or continued
    assert ended["completed"] >= 30


def test_a_deploy_that_diverges_and_is_not_mended_is_told():
    async def scenario(client):
        await client.start(straight, 40)
        await trio.sleep(20)

    report = Cluster(1, registry=flows, deploys=[diverging], faults=BUSY).run(scenario)
    assert report.statuses == {"terminated": 1}
    assert "does not fit the last version" in "".join(report.trace)


def test_a_scenario_that_does_not_end():
    async def scenario(client):
        await trio.sleep_forever()

    with pytest.raises(BrokenInvariant, match="the scenario does not end within 60 s"):
        Cluster(1, registry=flows, faults=None, timeout=60).run(scenario)


def test_it_finds_an_instance_that_does_not_end():
    async def scenario(client):
        await client.start(straight, 10_000)

    with pytest.raises(BrokenInvariant, match="has not ended"):
        Cluster(1, registry=flows, faults=None).run(scenario)


# --- mistakes -------------------------------------------------------------------------------------


def run_all(seeds, **options):
    for seed in range(seeds):
        run(seed, **options)


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "store",
    [
        *(NoLease, NoFence, KeepsMessages, LosesWakeUps),
        *(ForgetsCancels, DropsCarried, StoresResultsTwice, LosesSignals, AttemptsDoNotCount),
    ],
)
def test_a_mistake_of_the_store_is_found(store):
    with pytest.raises(BrokenInvariant):
        run_all(200, faults=RESTLESS, store=lambda clock: store(clock=clock))


@pytest.mark.parametrize(
    "store",
    [
        *(NoLease, NoFence, KeepsMessages, LosesWakeUps, ForgetsCancels, DropsCarried),
        *(StoresResultsTwice, LosesSignals, LosesAnswers),
    ],
)
def test_a_mistake_of_the_store_is_found_soon(store):
    with pytest.raises(BrokenInvariant):
        run_all(40, faults=RESTLESS, store=lambda clock: store(clock=clock), instances=8)


@pytest.mark.parametrize("store", [ForgetsWhatWasRead, ForgetsUnreadCancels])
def test_a_mistake_of_a_reset_is_found_soon(store):
    def make(clock):
        return store(clock=clock)

    with pytest.raises(BrokenInvariant):
        run_all(40, store=make, instances=8, resets=True)
