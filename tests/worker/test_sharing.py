"""A worker leaves to others what it could only begin later."""

from __future__ import annotations

import anyio
import pytest

from tests.stores import PassesOn
from tests.worker.flow import Gate, until
from trioflow import Registry, activity_info
from trioflow._worker.real_host import running_host


class Clock:
    """The clock by which workers measure how long activities wait; it stands still."""

    seconds = 0.0

    def host(self):
        host = running_host()
        host.monotonic = lambda: self.seconds
        return host


@pytest.fixture
def clock():
    return Clock()


def burning(clock, seconds, waits=range(30, 31)):
    """Activities that keep the processor busy; the 30th of them waits, or those that are named."""
    flows = Registry()
    begun = []
    gates = []

    @flows.activity
    async def burn(n: int) -> int:
        begun.append((n, activity_info().attempt))
        clock.seconds += seconds
        if len(begun) in waits:
            await gates[0].wait()
        return n

    @flows.workflow
    async def work() -> int:
        return sum(await anyio.gather(*[burn(n) for n in range(200)]))

    return flows, work, begun, gates


class Notes(PassesOn):
    """Passes all calls on, and notes which activities were given back as they were."""

    def __init__(self, backend):
        super().__init__(backend)
        self.given_back = set()

    async def commit(self, worker, units):
        answer = await self._backend.commit(worker, units)
        retries = [retry for unit in units for retry in unit.retries]
        self.given_back.update(retry.key for retry in retries if retry.attempt == 1)
        return answer


async def test_what_waits_too_long_is_given_back_and_done_once(cached, clock):
    flows, work, begun, gates = burning(clock, 0.02)

    gates.append(Gate())
    store = Notes(await cached.backend())
    async with cached.worker(flows, make_host=clock.host, backend=store) as first:
        handle = await first.client.start(work)
        await gates[0].until_entered()

        async def most_are_given_back():
            return len(store.given_back) > 100

        await until(most_are_given_back)
        async with cached.worker(flows, make_host=clock.host):
            gates[0].open()
            assert await handle.result() == sum(range(200))
    assert sorted(begun) == [(n, 1) for n in range(200)]


async def test_what_is_quick_is_kept(sqlite, clock):
    flows, work, begun, gates = burning(clock, 0.00001, waits=range(30, 201))

    gates.append(Gate())
    async with sqlite.worker(flows, make_host=clock.host) as first:
        handle = await first.client.start(work)
        await gates[0].until_entered()
        clock.seconds += 5.0  # something else took the time
        (stats,) = await first.client.stats()
        gates[0].open()
        assert await handle.result() == sum(range(200))
    assert stats.pending_activities == 0
    assert stats.running_activities >= 171  # those that have ended may be gone
    assert len(begun) == 200


async def test_plain_functions_share_as_well(sqlite, clock):
    flows = Registry()
    begun = []

    @flows.activity
    def burn(n: int) -> int:
        begun.append(n)
        clock.seconds += 0.02
        return n

    @flows.workflow
    async def work() -> int:
        return sum(await anyio.gather(*[burn(n) for n in range(200)]))

    async def enough():
        return len(begun) >= 20

    async with sqlite.worker(flows, make_host=clock.host, max_threads=1) as first:
        handle = await first.client.start(work)
        await until(enough)
        async with sqlite.worker(flows, make_host=clock.host, max_threads=1):
            assert await handle.result() == sum(range(200))
            # What was given back is in nobody's history.
            (execution,) = await handle.history()
            assert len(execution.turns) >= 2
    assert sorted(begun) == list(range(200))


async def test_the_last_place_is_filled_too(cached, clock):
    """Though nothing happens that gives a reason to look into the store."""
    flows = Registry()
    gates = []

    @flows.activity
    async def hang(which: int) -> None:
        await gates[which].wait()

    @flows.workflow
    async def both(which: int) -> None:
        await anyio.gather(hang(0), hang(which))

    @flows.workflow
    async def one() -> None:
        await hang(2)

    gates[:] = long, short, last = Gate(), Gate(), Gate()
    async with cached.worker(flows, make_host=clock.host, max_activities=20) as worker:
        handles = [await worker.client.start(both, int(n == 9)) for n in range(10)]
        await long.until_entered(19)
        await short.until_entered()
        async with (
            cached.worker(flows, make_host=clock.host, activities=False),
            cached.client(flows) as client,
        ):
            handles.append(await client.start(one))

            async def called():
                return (await handles[-1].describe()).activities

            await until(called)
            clock.seconds += 10.0  # nothing is quick here
            short.open()
            await last.until_entered()
            for gate in gates:
                gate.open()
            for handle in handles:
                await handle.result()
