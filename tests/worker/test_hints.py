"""Activities that need the loop that their worker does not run on are told so."""

# mypy: ignore-errors

from __future__ import annotations

import asyncio

import anyio
import pytest
import trio

from trioflow import NonRetryable, Registry, RetryPolicy, open_worker


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


async def _trio_sleeps():
    await trio.sleep(1)


async def _trio_checks():
    await trio.lowlevel.checkpoint()


async def _trio_shields():
    await trio.lowlevel.cancel_shielded_checkpoint()


async def _trio_waits():
    await trio.Event().wait()


async def _trio_starts():
    async with trio.open_nursery():
        pass


@pytest.mark.parametrize("runtime", ["auto", "asyncio"])
@pytest.mark.parametrize(
    "fn", [_trio_sleeps, _trio_checks, _trio_shields, _trio_waits, _trio_starts]
)
def test_an_activity_of_trio_on_asyncio_fails_at_once_and_is_told_why(fn, runtime):
    flows = Registry()
    act = flows.activity(name="charge", runtime=runtime)(fn)

    @flows.workflow
    async def work() -> None:
        await act()

    async def main():
        async with open_worker("memory://", registry=flows) as worker:
            with pytest.raises(NonRetryable) as caught:
                await worker.client.run(work)
        assert "activity 'charge' uses trio, but this worker runs on asyncio" in str(caught.value)

    anyio.run(main, backend="asyncio")


@pytest.mark.parametrize("message", ["must be called from another", "Task got bad yield: 'junk'"])
def test_another_error_of_an_activity_on_asyncio_stays_as_it_is(message):
    flows = Registry()

    @flows.activity(retry=RetryPolicy(max_attempts=1))
    async def fails() -> None:
        raise RuntimeError(message)

    @flows.workflow
    async def work() -> None:
        await fails()

    async def main():
        async with open_worker("memory://", registry=flows) as worker:
            with pytest.raises(RuntimeError, match=message):
                await worker.client.run(work)

    anyio.run(main, backend="asyncio")
