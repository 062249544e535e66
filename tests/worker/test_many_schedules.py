"""Many schedules on one store: while they wait, and all of them due in the same minute."""

from __future__ import annotations

import pytest
import trio

from tests.worker.flow import EPOCH, in_memory, serving
from trioflow import Every, Registry
from trioflow.backends.memory import MemoryBackend

flows = Registry()


@flows.workflow
async def quick(number: int) -> int:
    return number


class Counted(MemoryBackend):
    """Counts the calls of a worker that looks for work."""

    looks = 0

    async def take_instances(self, *args, **kwargs):
        self.looks += 1
        return await super().take_instances(*args, **kwargs)


@pytest.mark.parametrize(
    "count",
    [
        200,
        pytest.param(10_000, marks=[pytest.mark.campaign, pytest.mark.timeout(600)]),
    ],
)
async def test_all_of_them_due_in_the_same_minute(count, clock):
    backend = in_memory(clock, Counted)
    await backend.open()
    async with serving(backend, flows) as client:
        for number in range(count):
            calendar = Every(hours=1, offset=EPOCH + 1800 + number % 60)
            await client.schedule(f"s{number}", calendar, quick.bind(number))
        await trio.sleep(60)
        before = backend.looks
        await trio.sleep(1700)
        assert backend.looks == before  # those that wait cost nothing
        for hour in (1, 2):
            await trio.sleep(3600)
            assert await client.count(workflow=quick, status="completed") == hour * count
        found = await client.schedules(limit=count)
        assert {(one.begun, one.missed, one.skipped) for one in found} == {(2, 0, 0)}
        assert len(found) == count
    await backend.aclose()
