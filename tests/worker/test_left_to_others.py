"""A full worker keeps nothing that it cannot begin, whatever it runs and in whatever order."""

# mypy: ignore-errors

from __future__ import annotations

import threading
from contextlib import suppress

import anyio
import pytest
import trio

from tests.worker.flow import Gate, until
from trioflow import ActivityTimeout, Registry, RetryPolicy, open_worker
from trioflow._worker.activities.capacity import Capacity
from trioflow._worker.activities.lanes import Run
from trioflow._worker.activities.runtimes import make_lanes
from trioflow.backends.memory import MemoryBackend
from trioflow.backends.records import ActivityKey, ActivityTask


async def test_functions_that_block_do_not_keep_the_one_that_would_end_them(cached):
    """All are called by one instance, before another worker could look."""
    flows = Registry()
    release = threading.Event()

    @flows.activity
    def watch() -> None:
        release.wait(30)

    @flows.activity
    def quick() -> None:
        release.set()

    @flows.workflow
    async def work() -> str:
        async with trio.open_nursery() as nursery:
            for each in (watch, watch, watch, quick):
                nursery.start_soon(each)
        return "done"

    try:
        async with cached.worker(flows, max_threads=3) as first:
            handle = await first.client.start(work)

            (stats,) = await first.client.stats()
            assert (stats.running_activities, stats.pending_activities) == (3, 1)
            async with cached.worker(flows, workflows=False, max_threads=1):
                assert await handle.result() == "done"
    finally:
        release.set()


async def test_functions_that_block_are_shared_by_all_workers(cached):
    flows = Registry()
    release = threading.Event()
    began = []

    @flows.activity
    def block(n: int) -> None:
        began.append(n)
        release.wait(30)

    @flows.workflow
    async def work() -> None:
        await anyio.gather(*[block(n) for n in range(20)])

    try:
        async with cached.worker(flows, max_threads=10) as first:
            handle = await first.client.start(work)
            async with cached.worker(flows, workflows=False, max_threads=10):

                async def all_began():
                    return len(began) == 20

                await until(all_began)
                release.set()
                await handle.result()
    finally:
        release.set()
    assert sorted(began) == list(range(20))


async def test_what_waits_behind_long_ones_is_given_back_though_nothing_begins(backend):
    """They were quick, so that several times as many are held as may run; then they are not."""
    flows = Registry()
    quick = True
    running = most = 0

    @flows.activity
    async def act() -> None:
        nonlocal running, most
        if not quick:
            running += 1
            most = max(most, running)
            await trio.sleep(3600)
            running -= 1

    @flows.workflow
    async def work(n: int) -> None:
        await anyio.gather(*[act() for _ in range(n)])

    options = {"registry": flows, "drain": 0, "max_activities": 2}
    async with open_worker(backend, **options) as first:
        for _ in range(20):
            await first.client.run(work, 4)
        quick = False
        handle = await first.client.start(work, 6)
        await trio.sleep(5)
        (stats,) = await first.client.stats()
        assert (stats.running_activities, stats.pending_activities) == (2, 4)
        async with (
            open_worker(backend, workflows=False, **options),
            open_worker(backend, workflows=False, **options),
        ):
            await trio.sleep(10)
            assert most == 6
            await handle.result()


async def test_so_is_what_waits_behind_functions_that_block(sqlite):
    flows = Registry()
    release = threading.Event()
    began = []
    release.set()

    @flows.activity
    def act(n: int) -> None:
        began.append(n)
        release.wait(30)

    @flows.workflow
    async def work(n: int) -> None:
        await anyio.gather(*[act(i) for i in range(n)])

    try:
        async with sqlite.worker(flows, max_threads=2) as first:
            for _ in range(20):
                await first.client.run(work, 4)
            release.clear()
            began.clear()
            handle = await first.client.start(work, 6)
            async with sqlite.worker(flows, workflows=False, max_threads=4):

                async def all_began():
                    return sorted(began) == list(range(6))

                await until(all_began)
                release.set()
                await handle.result()
    finally:
        release.set()


async def test_what_waits_for_a_moment_only_stays(backend):
    flows = Registry()
    gates = []

    @flows.activity
    async def wait(n: int) -> int:
        await gates[0].wait()
        return n

    @flows.workflow
    async def work(n: int) -> None:
        await anyio.gather(*[wait(i) for i in range(n)])

    gates[:] = [Gate()]
    gates[0].open()
    async with open_worker(backend, registry=flows, drain=0, max_activities=1) as worker:
        for _ in range(20):
            await worker.client.run(work, 3)
        gates[:] = [Gate()]
        handle = await worker.client.start(work, 4)
        await trio.sleep(0.2)
        (stats,) = await worker.client.stats()
        assert (stats.running_activities, stats.pending_activities) == (4, 0)
        gates[0].open()
        await handle.result()


class Definition:
    def __init__(self, runtime):
        self.runtime = runtime


def capacity(limit=100, threads=10, names="lt"):
    definitions = {name: Definition("thread" if name == "t" else "async") for name in names}
    lanes = make_lanes(limit, threads, 1)
    return Capacity(definitions, ["q"], limit, lanes, on_room=lambda _: None, on_narrow=list)


def test_the_store_is_asked_for_what_there_is_room_for():
    some = capacity()
    assert list(some.looks(50)) == [(10, frozenset()), (50, frozenset("t"))]
    for _ in range(10):
        some.count("a", some.lane_of("t"))
    assert list(some.looks(50)) == [(50, frozenset("t"))]
    for _ in range(90):
        some.count("a", some.lane_of("l"))
    assert list(some.looks(50)) == []
    assert not some.wants
    for _ in range(3):
        some.release(some.lane_of("t"))
    assert list(some.looks(50)) == [(3, frozenset())]
    assert list(capacity(names="l").looks(50)) == [(50, frozenset())]
    assert list(capacity(names="t").looks(50)) == [(10, frozenset())]
    assert list(capacity(threads=80).looks(50)) == [(50, frozenset()), (50, frozenset("t"))]


@pytest.mark.parametrize("names", ["l", "t"])
def test_of_a_kind_that_there_is_not_nothing_is_wanted(names):
    some = capacity(limit=10, threads=10, names=names)
    for _ in range(10):
        some.count("a", some.lane_of(names))
    assert list(some.looks(50)) == []
    assert not some.wants


def test_room_that_comes_during_a_look_is_not_missed():
    some = capacity()
    for _ in range(10):
        some.count("a", some.lane_of("t"))
    assert not some.wants
    for _, left_out in some.looks(50):
        some.release(some.lane_of("t"))  # one ends while the store is asked for others
        some.saw_all(left_out)
        break
    assert some.wants


def test_room_that_was_given_back_is_not_given_back_twice():
    some = capacity()
    assert some.reserve("a", "l", "q")
    for _ in range(2):
        some.unreserve("a", "l")
    assert some.lane_of("l").window.held == 0
    assert some.idle


def test_those_that_were_stuck_at_two_looks_are_taken_out():
    lane = capacity().lane_of("l")
    runs = [
        Run(ActivityTask(ActivityKey("a", 1, f"{n}"), "l", "q", b"", b"", 1, 0.0), 0.0, 0)
        for n in range(3)
    ]
    for run in runs[:2]:
        lane.add(run)
    assert lane.stuck() == []
    lane.add(runs[2])
    assert lane.stuck() == runs[:2]
    assert lane.waiting == 1
    lane.window.total += 1  # one has begun
    assert lane.stuck() == []
    assert lane.stuck() == runs[2:]


class Slow(MemoryBackend):
    """A store that takes its time to say that there is nothing else."""

    meanwhile = None

    async def take_activities(self, worker, queues, limit, *, exclude=()):
        taken = await super().take_activities(worker, queues, limit, exclude=exclude)
        if exclude and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return taken


async def test_a_thread_that_ends_while_the_store_is_asked_for_others_is_used():
    flows = Registry()
    release = threading.Event()

    @flows.activity(timeout=0.2, retry=RetryPolicy(max_attempts=1))
    def block() -> None:
        release.wait(30)

    @flows.activity
    def plain() -> str:
        return "done"

    @flows.activity
    async def in_loop() -> None: ...

    @flows.workflow
    async def blocks() -> None:
        with suppress(ActivityTimeout):
            await block()

    @flows.workflow
    async def work() -> str:
        return await plain()

    backend = Slow()
    await backend.open()
    try:
        async with open_worker(backend, registry=flows, drain=0, max_threads=1) as worker:
            lane = worker._activities.capacity.lane_of(plain.name)

            async def end_it():
                release.set()
                while lane.running:
                    await trio.sleep(0.001)

            await worker.client.run(blocks)
            assert lane.running, "it was given up; its end makes nothing known to the store"
            backend.meanwhile = end_it
            with trio.fail_after(30):
                assert await worker.client.run(work) == "done"
    finally:
        release.set()
        await backend.aclose()
