"""Trying activities again at once that wait for their next attempt."""

from __future__ import annotations

import anyio
import pytest

from tests.worker.flow import in_memory, serving, until
from trioflow import (
    ArgumentError,
    BulkReport,
    InstanceFinished,
    InstanceNotFound,
    Registry,
    RetryPolicy,
)

FOR_HOURS = RetryPolicy(initial_interval=3600, max_interval=7200, jitter=0, max_attempts=3)


def shop():
    flows = Registry()
    calls = []

    @flows.activity(retry=FOR_HOURS)
    async def charge(n: int) -> int:
        calls.append(n)
        if len(calls) < 3:
            raise OSError("the bank is away")
        return n

    @flows.activity(retry=FOR_HOURS)
    async def mail(n: int) -> int:
        raise OSError("no mail")

    @flows.workflow
    async def buy(n: int) -> int:
        return await charge(n)

    @flows.workflow
    async def send(n: int) -> int:
        return await mail(n)

    return flows, calls, buy, send, charge


async def until_it_waits(handle, attempt):
    """Wait until the next attempt of the only activity is that one."""

    async def waits():
        return [one.attempt for one in (await handle.describe()).activities] == [attempt]

    await until(waits)


async def test_the_next_attempt_begins_at_once(cached):
    flows, calls, buy, _, charge = shop()
    async with cached.worker(flows) as worker, cached.client(flows) as client:
        started = await worker.client.start(buy, 7)
        handle = client.handle(started.id, buy)
        await until_it_waits(handle, 2)
        assert await handle.retry_now(charge)
        await until_it_waits(handle, 3)
        assert await client.retry_now(activity=charge.name, workflow=buy) == BulkReport(1, 0, None)
        with anyio.fail_after(20):
            assert await handle.result() == 7
        assert calls == [7, 7, 7]
        with pytest.raises(InstanceFinished):
            await handle.retry_now()


async def test_what_is_not_meant_waits_on(clock):
    flows, _, _, send, charge = shop()
    async with serving(in_memory(clock), flows) as client:
        handle = await client.start(send, 7)
        await until_it_waits(handle, 2)
        assert not await handle.retry_now(charge)
        assert not await handle.retry_now("charge")
        assert await client.retry_now(activity=charge, workflow=send) == BulkReport(0, 1, None)
        await until_it_waits(handle, 2)
        with pytest.raises(ArgumentError, match="an activity or the name of one is needed"):
            await handle.retry_now(send)
        with pytest.raises(InstanceNotFound):
            await client.handle("nobody").retry_now()
