"""Whatever call of the store fails, and however: the workflow ends right, and each turn is once."""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.crash.faulty import Faulty
from trioflow import (
    BackendUnavailable,
    Registry,
    RetryPolicy,
    Signal,
    activity_info,
    continue_as_new,
    info,
    open_client,
    open_worker,
    side_effect,
)
from trioflow._model import events as ev
from trioflow._model.commands import RunActivity, StartChild
from trioflow.backends.memory import MemoryBackend
from trioflow.backends.sqlite.backend import SqliteBackend

FASTER = 50  # how many seconds go by in one, for the worker's pauses and for the store's clock
LEASE = 2 * FASTER  # seconds: a busy machine may let a worker stand still for one of its own
MOST = 60  # calls of one method; more than any run makes that goes well

registry = Registry()
go = Signal("go", int)
attempts: Counter[str] = Counter()


@registry.activity
async def add(a: int, b: int) -> int:
    attempts[activity_info().idempotency_key] += 1
    return a + b


@registry.activity
def negate(a: int) -> int:
    attempts[activity_info().idempotency_key] += 1
    return -a


@registry.activity(retry=RetryPolicy(max_attempts=5, initial_interval=0.1, jitter=0))
async def stubborn(a: int) -> int:
    attempts[activity_info().idempotency_key] += 1
    if activity_info().attempt == 1:
        raise OSError("not yet")
    return a


@registry.workflow
async def child(a: int) -> int:
    await trio.sleep(0.2)
    return await add(a, 1)


@registry.workflow
async def parent(total: int) -> list[int]:
    """Use every kind of command, then once more in a second execution."""
    given = await go.receive()
    found: dict[str, int] = {}

    async def keep(name: str, fn, *args) -> None:
        found[name] = await fn(*args)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep, "child", child, given)
        nursery.start_soon(keep, "negated", negate, given)
        nursery.start_soon(keep, "stubborn", stubborn, given)
    with trio.move_on_after(0.3):
        await trio.sleep_forever()
    noted = side_effect(lambda: 7)
    total = await add(total, sum(found.values()) + noted)
    if info().execution == 1:
        continue_as_new(total)
    return [total, info().execution]


# Each execution adds (given + 1) - given + given + 7, for given = 10 and then 20.
RESULT = [(11 - 10 + 10 + 7) + (21 - 20 + 20 + 7), 2]


def make_store(kind, tmp_path):
    began = time.time()

    def clock():
        return began + (time.time() - began) * FASTER

    if kind == "memory":
        return MemoryBackend(clock=clock)
    return SqliteBackend(tmp_path / "store.db", clock=clock)


@asynccontextmanager
async def opened(store):
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


async def work(store, faulty, cache_size):
    """Run a worker until it dies; then a second one, which inherits after the lease."""
    async with open_worker(faulty, registry=registry, cache_size=cache_size, lease=LEASE):
        await faulty.died.wait()
    await store.reclaim(-1.0)
    async with open_worker(store, registry=registry, lease=LEASE):
        await trio.sleep_forever()


async def check(store):
    """Each turn once, in order, and each command answered exactly once."""
    async with open_client(store, registry=registry) as client:
        rows = await client.list(limit=100)
        assert [row.status for row in rows] == ["completed"] * 3
        assert await client.stats() == []
        for row in rows:
            assert row.unread == 0
            history = await client.handle(row.id).history()
            assert [execution.number for execution in history] == list(range(1, row.execution + 1))
            assert len(history[-1].turns) == row.turns
            for execution in history:
                asked = [
                    command.id
                    for turn in execution.turns
                    for command in turn.commands
                    if isinstance(command, RunActivity | StartChild)
                ]
                answers = Counter(
                    event.id
                    for turn in execution.turns
                    for event in turn.events
                    if isinstance(event, ev.ActivityCompleted | ev.ChildCompleted)
                )
                assert answers == Counter(set(asked)), (row.id, execution.number)
                assert len(asked) == len(set(asked))


async def run_once(kind, tmp_path, call, number, how):
    """Run the workflow; the n-th time, a call fails."""
    attempts.clear()
    async with opened(make_store(kind, tmp_path)) as store:
        faulty = Faulty(store, call, number, how)
        # Without a cache every turn but the first of each taking loads the history.
        cache_size = 0 if call == "load" else 1000
        async with open_client(store, registry=registry) as client, trio.open_nursery() as nursery:
            handle = await client.start(parent.options(id="one"), 0)
            nursery.start_soon(work, store, faulty, cache_size)
            await handle.signal(go, 10)
            await handle.signal(go, 20)
            with trio.fail_after(20 * FASTER):
                assert await handle.result() == RESULT
            nursery.cancel_scope.cancel()
        await check(store)
    return faulty


@pytest.fixture
def fast(harness):
    """Let a test run on a clock that goes faster."""
    harness.clock = trio.testing.MockClock(rate=FASTER)


def simulate(main, *args):
    return trio.run(main, *args, clock=trio.testing.MockClock(rate=FASTER))


def each_time(main, kind, tmp_path, call, how):
    """Let the first call fail, then the second, and so on, until there are no more."""
    for number in range(1, MOST):
        directory = tmp_path / str(number)
        directory.mkdir()
        faulty = simulate(main, kind, directory, call, number, how)
        if not faulty.struck:
            assert number > 1, f"{call} was never called"
            return
        yield number
    raise AssertionError(f"{call} was called more than {MOST} times")


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "trioflow")


STORES = pytest.mark.parametrize("kind", ["memory", "sqlite"])
# Nobody dies silently in a memory store's one process: it is never asked to reclaim.
BURYING = [("memory", "release_worker"), ("sqlite", "release_worker"), ("sqlite", "reclaim")]


def calls_of(*calls):
    """Each call on each store, and those that have to do with the end of workers."""
    kinds = [(kind, call) for call in calls for kind in ("memory", "sqlite")]
    return pytest.mark.parametrize(("kind", "call"), kinds + BURYING)


@calls_of("commit", "take_instances", "take_activities", "load")
def test_a_call_that_does_nothing_is_tried_again_and_nothing_is_done_twice(kind, call, tmp_path):
    for number in each_time(run_once, kind, tmp_path, call, "before"):
        # Two executions with three activities and the child's one each; "stubborn" fails once.
        assert sorted(attempts.values()) == [1] * 6 + [2] * 2, number


@calls_of("commit", "take_instances", "take_activities", "load")
def test_a_call_that_is_done_and_raises_does_no_harm(kind, call, tmp_path):
    for number in each_time(run_once, kind, tmp_path, call, "after"):
        assert all(count <= 3 for count in attempts.values()), number


@STORES
@pytest.mark.parametrize("call", ["commit", "take_instances", "take_activities", "load"])
@pytest.mark.parametrize("how", ["dies before", "dies after"])
def test_another_worker_goes_on_wherever_one_dies(kind, call, how, tmp_path):
    for number in each_time(run_once, kind, tmp_path, call, how):
        assert all(count <= 3 for count in attempts.values()), number


async def start_in_the_worker(kind, tmp_path, call, number, how):
    """Begin the workflow with the worker's own client, which does not go through the store."""
    attempts.clear()
    async with opened(make_store(kind, tmp_path)) as store:
        faulty = Faulty(store, call, number, how)
        async with open_worker(faulty, registry=registry) as worker:
            with trio.fail_after(20 * FASTER):
                handle = await worker.client.start(parent.options(id="one"), 0)
                await handle.signal(go, 10)
                await handle.signal(go, 20)
                assert await handle.result() == RESULT
        await check(store)
    return faulty


@STORES
@pytest.mark.parametrize("how", ["before", "after"])
def test_an_instance_begun_by_the_workers_own_client_is_begun_once(kind, how, tmp_path):
    for number in each_time(start_in_the_worker, kind, tmp_path, "commit", how):
        assert all(count <= 3 for count in attempts.values()), number


@STORES
@pytest.mark.usefixtures("fast")
async def test_a_worker_ends_though_the_store_stays_away(kind, tmp_path):
    async with opened(make_store(kind, tmp_path)) as store:
        faulty = Faulty(store, "commit", 2, "before", times=10**6)
        async with open_client(store, registry=registry) as client:
            handle = await client.start(parent.options(id="one"), 0)
            await handle.signal(go, 10)
            with trio.fail_after(60):
                async with open_worker(faulty, registry=registry, drain=1.0):
                    await faulty.failing.wait()
            await store.reclaim(-1.0)
            async with open_worker(store, registry=registry):
                await handle.signal(go, 20)
                with trio.fail_after(20 * FASTER):
                    assert await handle.result() == RESULT
        await check(store)


@pytest.mark.usefixtures("fast")
async def test_a_store_that_is_away_at_the_start_is_reported_to_the_caller(tmp_path):
    async with opened(make_store("sqlite", tmp_path)) as store:
        faulty = Faulty(store, "register_worker", 1, "before")
        with pytest.raises(BackendUnavailable, match="register_worker 1 failed"):
            async with open_worker(faulty, registry=registry):
                pass
