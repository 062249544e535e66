"""Activities that need asyncio and do not say so are told how, where the worker runs on trio."""

# mypy: ignore-errors

from __future__ import annotations

import asyncio

import pytest

from trioflow import Registry, RetryPolicy, open_worker


class Alien:
    """Something that only another loop can wait for."""

    def __await__(self):
        yield "junk"


async def _sleeps():
    await asyncio.sleep(1)


async def _waits():
    await Alien()


@pytest.mark.parametrize(("fn", "error"), [(_sleeps, RuntimeError), (_waits, TypeError)])
async def test_an_activity_of_asyncio_on_trio_is_told_its_runtime(fn, error, backend):
    flows = Registry()
    act = flows.activity(retry=RetryPolicy(max_attempts=1))(fn)

    @flows.workflow
    async def work() -> None:
        await act()

    async with open_worker(backend, registry=flows) as worker:
        with pytest.raises(error) as caught:
            await worker.client.run(work)
    assert any('runtime="asyncio"' in note for note in caught.value.__notes__)
