"""Activities that may not begin: their workers died in them, or the code cannot read their call."""

# mypy: ignore-errors

from __future__ import annotations

import itertools
import logging

import pytest
import trio

from tests.worker.flow import run_virtual
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


def lose_workers(policy, deaths, errors=(), *, between=10.0):
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

    async def main(backend):
        async with open_worker(backend, registry=flows, drain=0) as worker:
            handle = await worker.client.start(work.options(id="w"))
            for _ in range(deaths):
                await trio.sleep(between)
                assert len(await backend.reclaim(-10.0)) == 1
            try:
                return await handle.result()
            except Exception as exc:
                return exc

    return run_virtual(main), attempts


def test_what_kills_its_worker_has_no_more_attempts_than_other_failures(caplog):
    error, attempts = lose_workers(RetryPolicy(max_attempts=3), 3)
    assert isinstance(error, WorkerLost)
    assert attempts == [1, 2, 3]
    assert "activity 'deadly': 3 workers died while running it" in str(error)
    assert "allows 3 attempts" in str(error)
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert "'deadly' of instance 'w' (0:0) failed for good" in said[0]
    assert "instance 'w' (work) failed" in said[1]
    assert len(said) == 2


def test_one_attempt_is_one_worker():
    error, attempts = lose_workers(RetryPolicy(max_attempts=1), 1)
    assert isinstance(error, WorkerLost)
    assert attempts == [1]
    assert "a worker died while running it" in str(error)


def test_the_last_failure_is_the_cause():
    policy = RetryPolicy(max_attempts=2, initial_interval=1)
    error, attempts = lose_workers(policy, 1, [OSError("first")])
    assert isinstance(error, WorkerLost)
    assert attempts == [1, 2]
    assert isinstance(error.__cause__, OSError)
    assert str(error.__cause__) == "first"


def test_the_policys_time_ends_it_too():
    policy = RetryPolicy(max_attempts=None, timeout=35)
    error, attempts = lose_workers(policy, 4)
    assert isinstance(error, WorkerLost)
    assert attempts == [1, 2, 3, 4]
    assert "later than 35 s" in str(error)


def test_with_attempts_left_it_goes_on():
    assert lose_workers(RetryPolicy(max_attempts=3), 2) == ("survived", [1, 2, 3])


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
def test_a_call_that_the_code_cannot_read_waits_for_code_that_can(new, caplog):
    old, work, other = versions(new)

    async def main(backend):
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

    run_virtual(main)
    said = [
        r.getMessage() for r in caplog.records if "does not fit the present code" in r.getMessage()
    ]
    assert len(said) == 1
    assert "activity 'act' of instance 'w" in said[0]


def test_a_call_that_waits_for_code_is_looked_at_ever_more_rarely():
    old, work, other = versions(renamed)
    looks = []

    class Counting(JsonCodec):
        def decode(self, data, type_):
            looks.append(trio.current_time())
            return super().decode(data, type_)

    async def main(backend):
        async with (
            open_worker(backend, registry=old, drain=0) as worker,
            open_worker(backend, registry=other, codec=Counting(), queues=["far"], drain=0),
        ):
            await worker.client.start(work)
            await trio.sleep(400)

    run_virtual(main)
    gaps = [later - earlier for earlier, later in itertools.pairwise(looks)]
    assert gaps[0] == pytest.approx(1, abs=0.1)
    assert gaps == sorted(gaps)
    assert gaps[-1] == pytest.approx(60, abs=0.1)


def test_a_worker_without_the_codec_leaves_the_call_alone():
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

    async def main(backend):
        async with open_worker(backend, registry=flows, codec=codec, drain=0) as worker:
            handle = await worker.client.start(work)
            async with open_worker(backend, registry=flows, queues=["far"], drain=0):
                await trio.sleep(100)
                assert (await handle.describe()).status == "running"
            async with open_worker(backend, registry=flows, codec=codec, queues=["far"], drain=0):
                assert await handle.result() == 7

    run_virtual(main)


def test_a_call_that_waits_for_code_can_be_cancelled():
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

    async def main(backend):
        async with open_worker(backend, registry=flows, drain=0) as worker:
            assert await worker.client.run(work) == "went on"
            assert await worker.client.stats() == []

    run_virtual(main)


def test_a_wrong_value_inside_the_function_is_its_own_failure():
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

    async def main(backend):
        async with open_worker(backend, registry=flows, drain=0) as worker:
            assert "act() result" in await worker.client.run(work)

    run_virtual(main)
    assert calls == [1]
