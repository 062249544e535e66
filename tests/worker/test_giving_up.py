"""Activities that do not stop when they have to: their time is over all the same."""

# mypy: ignore-errors

from __future__ import annotations

import threading
import time

import anyio
import outcome
import pytest
import trio

from tests.worker.flow import EPOCH, serving, until
from trioflow import (
    ActivityTimeout,
    Registry,
    RetryPolicy,
    now,
)
from trioflow._worker.activities.threads import Abandoned, TrioThreadCall

once = RetryPolicy(max_attempts=1)
OBEY = 0.5


def given_up(caplog):
    return [r.getMessage() for r in caplog.records if "is given up" in r.getMessage()]


async def test_a_shield_does_not_hold_off_a_timeout(caplog, backend):
    flows = Registry()
    ended = []

    @flows.activity(timeout=60, retry=RetryPolicy(max_attempts=2, initial_interval=10, jitter=0))
    async def stubborn() -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(1000)
        ended.append(trio.current_time())
        return "late"

    @flows.workflow
    async def work() -> tuple[str, float]:
        try:
            return await stubborn(), 0.0
        except ActivityTimeout as exc:
            return str(exc), now() - EPOCH

    async with serving(backend, flows) as client:
        handle = await client.start(work.options(id="w"))
        text, seconds = await handle.result()
        assert "timeout of 60 s" in text
        assert seconds == pytest.approx(2 * (60 + OBEY) + 10, abs=0.1)
        await trio.sleep(2000)
        (execution,) = await handle.history()
        events = [type(e).__name__ for turn in execution.turns for e in turn.events]
        assert events == ["Started", "ActivityFailed"], "what comes later is dropped"
    assert ended == pytest.approx([1000, 1070.5], abs=0.1)
    said = given_up(caplog)
    assert len(said) == 2
    assert "'stubborn' of instance 'w' (0:0, attempt 1) has not stopped" in said[0]


async def test_what_stops_a_moment_late_is_not_given_up(caplog, backend):
    flows = Registry()

    @flows.activity(timeout=60, retry=once)
    async def tidy() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(OBEY / 2)

    @flows.workflow
    async def work() -> float:
        try:
            await tidy()
        except ActivityTimeout:
            return now() - EPOCH

    async with serving(backend, flows) as client:
        assert await client.run(work) == pytest.approx(60 + OBEY / 2)
    assert not given_up(caplog)


async def test_a_plain_function_does_not_outlive_its_timeout_and_counts_until_it_ends(
    cached, caplog
):
    flows = Registry()
    release = threading.Event()
    began = []

    @flows.activity(timeout=0.2, retry=once)
    def blocks() -> str:
        began.append("blocks")
        release.wait(30)
        return "late"

    @flows.activity
    def plain() -> str:
        began.append("plain")
        return "done"

    @flows.activity
    async def in_loop() -> str:
        return "done"

    @flows.workflow
    async def work() -> str:
        try:
            return await blocks()
        except ActivityTimeout:
            return await in_loop()

    @flows.workflow
    async def other() -> str:
        return await plain()

    try:
        async with cached.worker(flows, max_threads=1) as worker:
            assert await worker.client.run(work) == "done"
            handle = await worker.client.start(other)

            async def waits_in_store():
                (stats,) = await worker.client.stats()
                return stats.pending_activities == 1

            await until(waits_in_store)
            assert began == ["blocks"], "its thread is still taken"
            release.set()
            assert await handle.result() == "done"
    finally:
        release.set()
    assert len(given_up(caplog)) == 1


async def test_what_must_not_begin_any_more_does_not_begin(backend):
    flows = Registry()
    began = []

    @flows.activity
    async def hold() -> None:
        await trio.sleep(50)

    @flows.activity(schedule_timeout=20, retry=once)
    async def late() -> None:
        began.append(trio.current_time())

    @flows.workflow
    async def work() -> str:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold)
            await trio.sleep(1)
            try:
                await late()
            except ActivityTimeout as exc:
                return str(exc)

    async with serving(backend, flows, max_activities=1) as client:
        assert "schedule_timeout of 20" in await client.run(work)
    assert began == []


@pytest.mark.parametrize("by_call", [False, True])
async def test_an_abandoned_activity_is_given_up_when_it_does_not_stop(by_call, caplog, backend):
    flows = Registry()
    ended = []

    async def stubborn() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(1000)
        ended.append(trio.current_time())

    activity = flows.activity(name="stubborn", on_cancel="wait" if by_call else "abandon")(stubborn)
    if by_call:
        activity = activity.options(on_cancel="abandon")

    @flows.workflow
    async def work() -> None:
        with trio.move_on_after(10):
            await activity()
        await trio.sleep(100)

    async with serving(backend, flows) as client:
        handle = await client.start(work)
        await trio.sleep(10 + OBEY / 2)
        assert len((await handle.describe()).activities) == 1
        await trio.sleep(1)
        described = await handle.describe()
        assert (described.activities, described.worker) == ([], None)
        await handle.result()
        assert await client.stats() == []
        await trio.sleep(1000)
    assert ended == [1000]
    assert len(given_up(caplog)) == 1


async def test_a_plain_cancel_waits_for_the_code_but_not_beyond_its_timeout(caplog, backend):
    flows = Registry()

    async def stubborn() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(1000)

    patient = flows.activity(name="patient")(stubborn)
    limited = flows.activity(name="limited", timeout=100)(stubborn)

    @flows.workflow
    async def work(which: int) -> None:
        await (patient, limited)[which]()

    async with serving(backend, flows) as client:
        handles = [await client.start(work, which) for which in range(2)]
        await trio.sleep(10)
        for handle in handles:
            await handle.cancel()
        with pytest.raises(ActivityTimeout):
            await handles[1].result()
        assert trio.current_time() == pytest.approx(100 + OBEY, abs=0.1)
        assert await handles[0].result() is None  # it finished all the same
        assert trio.current_time() == pytest.approx(1000, abs=0.1)
    assert len(given_up(caplog)) == 1


async def test_a_new_attempt_runs_beside_one_that_was_given_up(caplog, backend):
    """The same worker has both, under one key; the first one's result reaches nobody."""
    flows = Registry()
    attempts = []

    @flows.activity(timeout=10, retry=RetryPolicy(max_attempts=2, initial_interval=1, jitter=0))
    async def slow() -> int:
        attempts.append(trio.current_time())
        if len(attempts) == 1:
            with trio.CancelScope(shield=True):
                await trio.sleep(15)  # ends while the second runs
            return 1
        await trio.sleep(8)
        return 2

    @flows.workflow
    async def work() -> int:
        return await slow()

    async with serving(backend, flows) as client:
        assert await client.run(work) == 2
        assert trio.current_time() == pytest.approx(19.5, abs=0.1)
    assert attempts == pytest.approx([0, 11.5], abs=0.1)


async def test_from_thread_works_in_threads_as_in_the_hosts_own(cached):
    flows = Registry()

    @flows.activity
    def asks() -> list[object]:
        anyio.from_thread.check_cancelled()
        anyio.from_thread.run(anyio.sleep, 0)
        here = threading.current_thread()
        in_loop = anyio.from_thread.run_sync(threading.current_thread)
        return [in_loop is threading.main_thread(), here is not in_loop, nested()]

    def nested():
        async def three() -> int:
            return 3

        return anyio.run(three)  # a loop of its own

    @flows.workflow
    async def work() -> list[object]:
        return await asks()

    async with cached.worker(flows) as worker:
        assert await worker.client.run(work) == [True, True, 3]


def test_a_thread_may_end_just_when_it_is_abandoned():
    async def main():
        began, ends = threading.Event(), threading.Event()
        results = []

        def function():
            began.set()
            ends.wait(20)

        call = TrioThreadCall(function, time.monotonic, anyio.CapacityLimiter(1))

        async def run():
            results.append(await call.run(anyio.CancelScope()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await trio.to_thread.run_sync(began.wait, 20)
            # What the thread does in the loop when it has ended; the task has its turn later.
            call._register[0] = None
            trio.lowlevel.reschedule(call._task, outcome.Value(outcome.Value("returned")))
            call.leave()
        ends.set()
        assert results == ["returned"]

    trio.run(main)


async def test_a_thread_that_was_abandoned_before_it_began_does_nothing():
    called = []
    call = TrioThreadCall(lambda: called.append(1), time.monotonic, anyio.CapacityLimiter(1))
    call.leave()
    result = await call.run(anyio.CancelScope())
    assert type(result.error) is Abandoned
    assert not called
