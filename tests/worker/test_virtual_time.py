"""Timers and retries on a clock that jumps: months in milliseconds, and to the second."""

from __future__ import annotations

import itertools
import time

import anyio
import pytest
import trio

from tests.worker.flow import EPOCH, serving
from trioflow import (
    ActivityTimeout,
    InstanceCancelled,
    NonRetryable,
    Registry,
    RemoteError,
    Retry,
    RetryPolicy,
    Signal,
    activity_info,
    now,
)

DAY = 24 * 3600.0
go = Signal("go", int)


class Declined(NonRetryable):
    pass


class Busy(Exception):
    pass


@pytest.fixture(autouse=True)
def quick():
    """Fail a test that waits in real time."""
    began = time.perf_counter()
    yield
    assert time.perf_counter() - began < 20, "virtual time passes too slowly"


@pytest.mark.parametrize("cache_size", [1000, 0])
async def test_thirty_days_pass_at_once(cache_size, backend):
    flows = Registry()

    @flows.workflow
    async def month() -> list[float]:
        began = now()
        times = []
        for _ in range(30):
            await trio.sleep(DAY)
            times.append(now() - began)
        return times

    async with serving(backend, flows, cache_size=cache_size) as client:
        handle = await client.start(month)
        assert await handle.result() == pytest.approx([DAY * i for i in range(1, 31)])
        assert (await handle.describe()).finished_at == pytest.approx(EPOCH + 30 * DAY)


async def test_a_hundred_instances_sleep_each_its_own_time(backend):
    flows = Registry()

    @flows.workflow
    async def sleeper(days: int) -> float:
        await trio.sleep_until(EPOCH + days * DAY)
        return now()

    async with serving(backend, flows) as client:
        handles = [await client.start(sleeper, days) for days in range(100, 0, -1)]
        woke = [await handle.result() for handle in handles]
        assert woke == pytest.approx([EPOCH + days * DAY for days in range(100, 0, -1)])


async def test_a_deadline_gives_up_on_a_signal_and_a_signal_beats_it(backend):
    flows = Registry()

    @flows.workflow
    async def wait() -> str:
        try:
            with trio.fail_after(3 * DAY):
                return f"got {await go.receive()}"
        except trio.TooSlowError:
            return f"gave up after {(now() - EPOCH) / DAY:.0f} days"

    async with serving(backend, flows) as client:
        late = await client.start(wait)
        assert await late.result() == "gave up after 3 days"
        soon = await client.start(wait)
        await trio.sleep(2 * DAY)
        await soon.signal(go, 1)
        assert await soon.result() == "got 1"


async def test_a_cancelled_timer_leaves_nothing_behind(backend):
    flows = Registry()

    @flows.workflow
    async def work() -> list[bool]:
        with trio.CancelScope() as before_start:
            before_start.cancel()
            await trio.sleep(DAY)
        with trio.CancelScope() as twice:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, DAY)
                nursery.start_soon(trio.sleep, 2 * DAY)
                await trio.sleep(1)
                twice.cancel()
                twice.cancel()
        waited = now() - EPOCH < 10
        await go.receive()
        return [before_start.cancelled_caught, twice.cancelled_caught, waited]

    async with serving(backend, flows) as client:
        handle = await client.start(work)
        await trio.sleep(60)
        assert (await handle.describe()).wakes_at is None
        await handle.signal(go, 1)
        assert await handle.result() == [True, True, True]


async def test_cancelling_an_instance_takes_its_timers_along(backend):
    flows = Registry()

    @flows.workflow
    async def work() -> None:
        await trio.sleep(365 * DAY)

    async with serving(backend, flows) as client:
        handle = await client.start(work)
        await trio.sleep(DAY)
        assert (await handle.describe()).wakes_at == pytest.approx(EPOCH + 365 * DAY)
        await handle.cancel("changed my mind")
        with pytest.raises(InstanceCancelled, match="changed my mind"):
            await handle.result()
        described = await handle.describe()
        assert described.wakes_at is None
        assert described.finished_at == pytest.approx(EPOCH + DAY)


async def retried(backend, policy, errors):
    """Run an activity that fails so often; return the seconds between its attempts."""
    flows = Registry()
    times = []
    keys = set()

    @flows.activity(retry=policy)
    async def flaky() -> int:
        info = activity_info()
        keys.add(info.idempotency_key)
        times.append(trio.current_time())
        assert info.attempt == len(times)
        if len(times) <= len(errors):
            raise errors[len(times) - 1]
        return info.attempt

    @flows.workflow
    async def work() -> int:
        return await flaky()

    async with serving(backend, flows) as client:
        try:
            result = await client.run(work)
        except Exception as exc:
            result = exc
    assert len(keys) == 1
    return result, [later - earlier for earlier, later in itertools.pairwise(times)]


async def test_retries_wait_longer_and_longer_beginning_with_the_initial_interval(backend):
    policy = RetryPolicy(max_attempts=6, initial_interval=10, backoff=3, max_interval=100, jitter=0)
    result, waits = await retried(backend, policy, [Busy()] * 5)
    assert result == 6
    assert waits == pytest.approx([10, 30, 90, 100, 100])


async def test_jitter_spreads_the_retries(backend):
    policy = RetryPolicy(max_attempts=20, initial_interval=50, backoff=1, jitter=0.2)
    _, waits = await retried(backend, policy, [Busy()] * 19)
    assert all(39 < wait < 61 for wait in waits)
    assert len({round(wait, 3) for wait in waits}) > 10


async def test_the_last_error_is_raised_when_all_attempts_failed(backend):
    result, waits = await retried(
        backend, RetryPolicy(max_attempts=3, jitter=0), [Busy(f"{i}") for i in range(9)]
    )
    assert isinstance(result, Busy)
    assert str(result) == "2"
    assert len(waits) == 2


@pytest.mark.parametrize("wrap", ["plain", "cause", "group"])
async def test_what_must_not_be_retried_is_not_retried_however_it_is_wrapped(wrap, backend):
    inner = Declined("card")
    if wrap == "cause":
        error = RuntimeError("paying")
        error.__cause__ = inner
    else:
        error = inner if wrap == "plain" else ExceptionGroup("all", [Busy(), inner])
    result, waits = await retried(backend, RetryPolicy(max_attempts=9), [error] * 9)
    assert waits == []
    assert isinstance(result, (Declined, RuntimeError, ExceptionGroup))


async def test_named_types_are_not_retried(backend):
    result, waits = await retried(
        backend, RetryPolicy(max_attempts=9, non_retryable=(Busy,)), [Busy()] * 9
    )
    assert waits == []
    assert isinstance(result, Busy)


async def test_an_activity_chooses_its_own_delay(backend):
    result, waits = await retried(backend, RetryPolicy(max_attempts=3), [Retry(after=5000), Busy()])
    assert result == 3
    assert waits[0] == pytest.approx(5000)
    assert waits[1] < 3


async def test_a_timeout_stops_each_attempt(backend):
    flows = Registry()
    stopped = []

    @flows.activity(timeout=60, retry=RetryPolicy(max_attempts=3, initial_interval=1, jitter=0))
    async def slow() -> None:
        try:
            await trio.sleep_forever()
        finally:
            stopped.append(trio.current_time())

    @flows.workflow
    async def work() -> str:
        try:
            await slow()
        except ActivityTimeout as exc:
            assert isinstance(exc, TimeoutError)
            return str(exc)

    async with serving(backend, flows) as client:
        text = await client.run(work)
        assert "timeout of 60" in text
        assert "attempt 3" in text
    assert stopped == pytest.approx([60, 121, 183], abs=0.1)


async def test_schedule_timeout_is_for_all_attempts_together(backend):
    flows = Registry()
    attempts = []

    @flows.activity(schedule_timeout=100, retry=RetryPolicy(max_attempts=None, max_interval=60))
    async def slow() -> None:
        attempts.append(trio.current_time())
        await trio.sleep(30)
        raise Busy

    @flows.workflow
    async def work() -> str:
        try:
            await slow()
        except (Busy, ActivityTimeout) as exc:
            return type(exc).__name__

    async with serving(backend, flows) as client:
        assert await client.run(work) in ("Busy", "ActivityTimeout")
        assert trio.current_time() <= 101
    assert len(attempts) >= 2


async def test_a_policys_timeout_ends_the_retries(backend):
    policy = RetryPolicy(
        max_attempts=None, initial_interval=10, backoff=1, max_interval=10, timeout=35, jitter=0
    )
    result, waits = await retried(backend, policy, [Busy()] * 20)
    assert isinstance(result, (Busy, RemoteError))
    assert len(waits) == 3


async def test_an_activity_between_two_attempts_is_cancelled_at_once(backend):
    flows = Registry()

    @flows.activity(retry=RetryPolicy(initial_interval=DAY, max_interval=DAY))
    async def flaky() -> None:
        raise Busy

    @flows.workflow
    async def work() -> str:
        with trio.move_on_after(3600):
            await flaky()
        return f"{now() - EPOCH:.0f}"

    async with serving(backend, flows) as client:
        handle = await client.start(work)
        assert await handle.result() == "3600"
        assert await client.stats() == []
        handle = await client.start(work)
        await trio.sleep(10)
        (activity,) = (await handle.describe()).activities
        assert activity.attempt == 2
        await handle.cancel("no more")
        before = trio.current_time()
        with pytest.raises(InstanceCancelled):
            await handle.result()
        assert trio.current_time() - before < 1
        assert await client.stats() == []


async def test_a_workflows_timeout_is_a_durable_deadline(backend):
    flows = Registry()

    @flows.workflow(timeout=10 * DAY)
    async def work() -> None:
        await trio.sleep(11 * DAY)

    async with serving(backend, flows) as client:
        with pytest.raises(TimeoutError, match="timeout"):
            await client.run(work)
        assert trio.current_time() == pytest.approx(10 * DAY)


async def test_waiting_for_a_result_costs_nothing_while_an_activity_runs_for_a_year(backend):
    flows = Registry()

    @flows.activity
    async def long() -> int:
        await trio.sleep(365 * DAY)
        return 1

    @flows.workflow
    async def work() -> int:
        return sum(await anyio.gather(long(), long()))

    async with serving(backend, flows) as client:
        assert await client.run(work) == 2
