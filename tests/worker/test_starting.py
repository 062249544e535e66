"""When an instance begins, and when its time is over."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import trio

from tests.worker.flow import EPOCH, in_memory, serving
from trioflow import (
    DefinitionError,
    InstanceCancelled,
    InstanceTerminated,
    Registry,
    RetryPolicy,
    Signal,
    continue_as_new,
    info,
    now,
    open_client,
    workflow_by_name,
)

number = Signal("number", int)
flows = Registry()


@flows.workflow
async def begins() -> float:
    return info().started_at


@flows.workflow
async def receives() -> int:
    return await number.receive()


@flows.workflow
async def goes_on(rounds: int) -> int:
    await trio.sleep(30)
    if rounds:
        continue_as_new(rounds - 1)
    return info().execution


@flows.workflow
async def parent(delay: float) -> float:
    return await begins.options(id="child", delay=delay)()


@flows.workflow(timeout=100)
async def limited(rounds: int = 9) -> int:
    return await goes_on_for(rounds)


async def goes_on_for(rounds: int) -> int:
    await trio.sleep(30)
    if rounds:
        continue_as_new(rounds - 1)
    return info().execution


@flows.workflow
async def counts() -> tuple[int, int]:
    for _ in range(150):
        await trio.sleep(1)
    return info().max_events, info().execution


async def test_it_begins_at_its_time(clock):
    async with serving(in_memory(clock), flows) as client:
        at = EPOCH + 3600
        later = await client.start(begins.options(start_at=at))
        delayed = await client.start(begins.options(delay=60))
        past = await client.start(begins.options(start_at=1.0))
        found = await later.describe()
        assert (found.status, found.starts_at, found.wakes_at) == ("running", at, at)
        assert await past.result() == EPOCH
        assert await delayed.result() == pytest.approx(EPOCH + 60)
        assert await later.result() == pytest.approx(at)


async def test_the_later_option_counts(clock):
    async with serving(in_memory(clock), flows) as client:
        soon = begins.options(delay=60).options(start_at=EPOCH + 5)
        assert await client.run(soon) == pytest.approx(EPOCH + 5)
        late = begins.options(start_at=EPOCH + 9).options(delay=60)
        assert await client.run(late) == pytest.approx(EPOCH + 65)


async def test_a_signal_before_its_time_waits(flow):
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(receives.options(delay=0.4))
        await handle.signal(number, 1)
        found = await handle.describe()
        assert (found.unread, found.turns, found.wakes_at) == (1, 0, found.starts_at)
        assert await handle.result() == 1
        begun = (await handle.history())[0].turns[0].now
        assert begun >= found.starts_at


async def test_a_cancel_and_a_terminate_act_at_once(clock):
    backend = in_memory(clock)
    async with serving(backend, flows) as client:
        one, other = [await client.start(begins.options(delay=60)) for _ in range(2)]
        await one.cancel("not needed")
        await other.terminate("nor this")
        with pytest.raises(InstanceCancelled, match="not needed"):
            await one.result()
        with pytest.raises(InstanceTerminated, match="nor this"):
            await other.result()
        assert backend.now() < EPOCH + 1


async def test_a_sub_workflow_begins_later(clock):
    async with serving(in_memory(clock), flows) as client:
        assert await client.run(parent, 3600) == pytest.approx(EPOCH + 3600)
        handle = await client.start(parent, 3600)
        child = client.handle("child")
        with trio.fail_after(1800):
            while not await client.count(id_prefix="child", status="running"):
                await trio.sleep(1)
            await handle.cancel()
            with pytest.raises(InstanceCancelled):
                await handle.result()
        assert (await child.describe()).status == "cancelled"


async def test_a_timeout_counts_over_all_executions(clock):
    backend = in_memory(clock)
    async with serving(backend, flows, cache_size=0) as client:
        assert await client.run(limited, 2) == 3
        handle = await client.start(limited)
        with pytest.raises(TimeoutError, match=r"'limited' took longer than .* over at 20\d\d-"):
            await handle.result()
        found = await handle.describe()
        assert found.execution == 4
        assert found.finished_at == pytest.approx(found.created_at + 100)


async def test_a_timeout_counts_from_the_time_to_start(clock):
    async with serving(in_memory(clock), flows) as client:
        handle = await client.start(limited.options(delay=1000))
        with pytest.raises(TimeoutError):
            await handle.result()
        found = await handle.describe()
        assert found.finished_at == pytest.approx(found.created_at + 1100)


@pytest.mark.parametrize("name", ["goes_on", "limited"])
async def test_a_start_may_have_a_timeout_of_its_own(clock, name):
    async with serving(in_memory(clock), flows) as client:
        handle = await client.start(workflow_by_name(name, timeout=65), rounds=9)
        with pytest.raises(TimeoutError):
            await handle.result()
        found = await handle.describe()
        assert found.finished_at == pytest.approx(found.created_at + 65)


async def test_each_attempt_of_a_sub_workflow_has_its_time(clock):
    local = Registry()

    @local.workflow(timeout=10, retry=RetryPolicy(max_attempts=3, initial_interval=1, backoff=1))
    async def endless() -> None:
        await trio.sleep_forever()

    @local.workflow
    async def tries() -> float:
        began = now()
        with pytest.raises(TimeoutError):
            await endless()
        return now() - began

    async with serving(in_memory(clock), local) as client:
        assert await client.run(tries) == pytest.approx(32, abs=0.5)


async def test_what_is_over_before_it_begins_does_not_begin(clock):
    backend = in_memory(clock)
    begun = []
    local = Registry()

    @local.workflow
    async def late() -> None:
        begun.append(True)

    async with open_client(backend, registry=local) as client:
        handle = await client.start(late.options(timeout=60))
        await trio.sleep(61)
        async with serving(backend, local):
            with pytest.raises(TimeoutError):
                await handle.result()
    assert begun == []


async def test_a_start_may_have_a_limit_of_events(clock):
    async with serving(in_memory(clock), flows) as client:
        assert await client.run(counts) == (50_000, 1)
        assert await client.run(counts.options(max_events=200)) == (200, 1)
        handle = await client.start(workflow_by_name("counts", max_events=100))
        found = await handle.wait(status="suspended")
        assert found.suspension is not None
        assert found.suspension.kind == "history limit"
        assert found.events >= 100


def test_bad_options_are_refused():
    with pytest.raises(DefinitionError, match="give one of them"):
        begins.options(start_at=1.0, delay=1.0)
    with pytest.raises(TypeError, match=r"give start_at\.timestamp\(\)"):
        begins.options(start_at=datetime(2030, 1, 1, tzinfo=UTC))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="delay is a number of seconds, 0 or more"):
        begins.options(delay=-1)
    with pytest.raises(ValueError, match="timeout is a number of seconds, above 0"):
        begins.options(timeout=0)
    with pytest.raises(ValueError, match="max_events is at least 100"):
        begins.options(max_events=10)


async def test_arguments_may_be_called_as_anything(clock):
    flows = Registry()

    @flows.workflow(timeout=60)
    async def named(*, name: str, fn: str, deadline: str) -> str:
        return name + fn + deadline

    async with serving(in_memory(clock), flows) as client:
        assert await client.run(named, name="a", fn="b", deadline="c") == "abc"
