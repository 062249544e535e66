"""Activities that may not begin: their workers died in them, or the code cannot read their call."""

# mypy: ignore-errors

from __future__ import annotations

import itertools
import logging

import pytest
import trio

from tests.worker.flow import serving
from trioflow import (
    JsonCodec,
    Registry,
    RemoteError,
    RetryPolicy,
    WorkerLost,
    WrappedCodec,
    activity_by_name,
    activity_info,
    open_client,
    open_worker,
)


async def lose_workers(backend, policy, deaths, errors=(), *, between=10.0):
    """Run an activity whose worker is declared dead in so many of its attempts, after others."""
    flows = Registry()
    attempts = []

    @flows.activity(retry=policy)
    async def deadly() -> str:
        attempts.append(activity_info().attempt)
        if len(attempts) <= len(errors):
            raise errors[len(attempts) - 1]
        await trio.sleep(1000)
        return "survived"

    @flows.workflow
    async def work() -> str:
        return await deadly()

    async with serving(backend, flows) as client:
        handle = await client.start(work.options(id="w"))
        for _ in range(deaths):
            await trio.sleep(between)
            assert len(await backend.reclaim(-10.0)) == 1
        try:
            return await handle.result(), attempts
        except Exception as exc:
            return exc, attempts


async def test_what_kills_its_worker_has_no_more_attempts_than_other_failures(caplog, backend):
    error, attempts = await lose_workers(backend, RetryPolicy(max_attempts=3), 3)
    assert isinstance(error, WorkerLost)
    assert attempts == [1, 2, 3]
    assert "activity 'deadly': 3 workers died while running it" in str(error)
    assert "allows 3 attempts" in str(error)
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert "'deadly' of instance 'w' (0:0) failed for good" in said[0]
    assert "instance 'w' (work) failed" in said[1]
    assert len(said) == 2


async def test_one_attempt_is_one_worker(backend):
    error, attempts = await lose_workers(backend, RetryPolicy(max_attempts=1), 1)
    assert isinstance(error, WorkerLost)
    assert attempts == [1]
    assert "a worker died while running it" in str(error)


async def test_the_last_failure_is_the_cause(backend):
    policy = RetryPolicy(max_attempts=2, initial_interval=1)
    error, attempts = await lose_workers(backend, policy, 1, [OSError("first")])
    assert isinstance(error, WorkerLost)
    assert attempts == [1, 2]
    assert isinstance(error.__cause__, OSError)
    assert str(error.__cause__) == "first"


async def test_the_policys_time_ends_it_too(backend):
    policy = RetryPolicy(max_attempts=None, timeout=35)
    error, attempts = await lose_workers(backend, policy, 4)
    assert isinstance(error, WorkerLost)
    assert attempts == [1, 2, 3, 4]
    assert "later than 35 s" in str(error)


async def test_with_attempts_left_it_goes_on(backend):
    assert await lose_workers(backend, RetryPolicy(max_attempts=3), 2) == ("survived", [1, 2, 3])


def versions(new):
    """Two registries: of the code that calls an activity, and of the code that is to run it."""
    old, other = Registry(), Registry()

    @old.activity(name="act")
    async def old_act(amount: int) -> int:
        return amount

    @old.workflow
    async def work() -> int:
        return await old_act.options(queue="far")(7)

    other.activity(name="act")(new)
    return old, work, other


async def renamed(total: int) -> int:
    return total


async def retyped(amount: list[int]) -> int:
    return len(amount)


@pytest.mark.parametrize("new", [renamed, retyped])
async def test_a_call_that_the_code_cannot_read_waits_for_code_that_can(new, caplog, backend):
    old, work, other = versions(new)

    async with (
        open_worker(backend, registry=old, drain=0) as worker,
        open_client(backend, registry=old) as client,
    ):
        handles = [await worker.client.start(work.options(id=f"w{n}")) for n in range(2)]
        async with open_worker(backend, registry=other, queues=["far"], drain=0):
            await trio.sleep(3600)
            described = await client.handle("w0").describe()
            assert described.status == "running"
            (activity,) = described.activities
            assert activity.attempt == 1
            assert activity.failure.type == "trioflow.errors.UndecodableValue"
            assert activity.scheduled_at < backend.now()
        async with open_worker(backend, registry=old, queues=["far"], drain=0):
            with trio.fail_after(61):  # so long it may wait for the next look
                for handle in handles:
                    assert await handle.result() == 7
    said = [
        r.getMessage() for r in caplog.records if "does not fit the present code" in r.getMessage()
    ]
    assert len(said) == 1
    assert "activity 'act' of instance 'w" in said[0]


async def test_a_call_that_waits_for_code_is_looked_at_ever_more_rarely(backend):
    old, work, other = versions(renamed)
    looks = []

    class Counting(JsonCodec):
        def decode(self, data, type_):
            looks.append(trio.current_time())
            return super().decode(data, type_)

    async with (
        open_worker(backend, registry=old, drain=0) as worker,
        open_worker(backend, registry=other, codec=Counting(), queues=["far"], drain=0),
    ):
        await worker.client.start(work)
        await trio.sleep(400)
    gaps = [later - earlier for earlier, later in itertools.pairwise(looks)]
    assert gaps[0] == pytest.approx(1, abs=0.1)
    assert gaps == sorted(gaps)
    assert gaps[-1] == pytest.approx(60, abs=0.1)


async def test_a_worker_without_the_codec_leaves_the_call_alone(backend):
    flows = Registry()

    @flows.activity(queue="far")
    async def act(amount: int) -> int:
        return amount

    @flows.workflow
    async def work() -> int:
        return await act(7)

    def flip(data: bytes) -> bytes:
        return bytes(byte ^ 1 for byte in data)

    codec = WrappedCodec(JsonCodec(), flip, flip)

    async with open_worker(backend, registry=flows, codec=codec, drain=0) as worker:
        handle = await worker.client.start(work)
        async with open_worker(backend, registry=flows, queues=["far"], drain=0):
            await trio.sleep(100)
            assert (await handle.describe()).status == "running"
        async with open_worker(backend, registry=flows, codec=codec, queues=["far"], drain=0):
            assert await handle.result() == 7


async def test_a_call_that_waits_for_code_can_be_cancelled(backend):
    flows = Registry()
    by_name = activity_by_name("pay")

    @flows.workflow
    async def work() -> str:
        with trio.move_on_after(100):
            await by_name(amount="much")
        return "went on"

    @flows.activity
    async def pay(amount: int) -> None:
        raise AssertionError("it must not run")

    async with open_worker(backend, registry=flows, drain=0) as worker:
        assert await worker.client.run(work) == "went on"
        assert await worker.client.stats() == []


async def test_a_wrong_value_inside_the_function_is_its_own_failure(backend):
    """Only what is stored waits; what the function raises of the same class does not."""
    flows = Registry()
    calls = []

    @flows.activity
    async def act() -> int:
        calls.append(1)
        return "no number"

    @flows.workflow
    async def work() -> str:
        try:
            await act()
        except (ValueError, RemoteError) as exc:
            return str(exc)

    async with open_worker(backend, registry=flows, drain=0) as worker:
        assert "act() result" in await worker.client.run(work)
    assert calls == [1]
