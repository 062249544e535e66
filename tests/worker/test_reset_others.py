"""A reset leaves alone what is not the instance's own any more: lives of ids, and parents."""

from __future__ import annotations

import logging
from contextlib import suppress

import anyio
import pytest

from tests.worker.bank import Bank, Declined, go
from tests.worker.flow import serving, until
from trioflow import info
from trioflow.errors import InstanceAlreadyExists, InstanceNotFound, TrioflowError


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "trioflow.worker")


class Trips(Bank):
    """Workflows that need a trip under a name, which needs the bank; it is closed at first."""

    def __init__(self, **options):
        super().__init__(attempts=1)
        book, charge = self.book, self.charge

        @self.flows.workflow
        async def trip(who: str) -> str:
            await book(who)
            return f"{who} {await charge()} {info().execution}"

        @self.flows.workflow(**options)
        async def holidays() -> str:
            return await trip.options(id="trip")("ours")

        @self.flows.workflow(**options)
        async def two() -> str:
            try:
                await trip.options(id="first")("first")
            except Declined:
                await book("handled")
            return await trip.options(id="second")("second")

        self.held = anyio.Event()

        @self.flows.activity
        async def held_up() -> None:
            await self.held.wait()

        self.trip, self.holidays, self.two, self.held_up = trip, holidays, two, held_up


@pytest.mark.parametrize("theirs", ["completed", "failed"])
async def test_who_has_the_id_of_a_sub_workflow_by_now_is_not_taken_for_it(theirs, backend):
    trips = Trips()
    async with serving(backend, trips.flows) as client:
        handle = await client.start(trips.holidays)
        assert (await handle.wait()).status == "failed"
        await client.handle("trip").remove()
        trips.closed = theirs == "failed"
        other = await client.start(trips.trip.options(id="trip"), "theirs")
        assert (await other.wait()).status == theirs
        trips.closed = False
        await handle.reset()
        assert await handle.result() == "ours charged 2"
        ours = await client.handle("trip").describe()
        assert ours.parent.instance == handle.id
        assert trips.called().count("theirs") == 1


async def test_an_end_that_a_parent_has_dealt_with_is_not_waited_for(backend):
    """It is suspended by another one; of this one it was told, and is not told again."""
    trips = Trips(suspend_on=Declined)
    async with serving(backend, trips.flows) as client:
        handle = await client.start(trips.two)
        await until(lambda: _is(handle, "suspended"))
        unread = (await handle.describe()).unread
        trips.closed = False
        first, second = client.handle("first"), client.handle("second")
        await first.reset()
        assert await first.result() == "first charged 2"
        assert (await first.describe()).parent is None
        described = await handle.describe()
        assert (described.status, described.unread) == ("suspended", unread)
        await second.reset()
        assert (await second.describe()).parent.instance == handle.id
        await handle.resume()
        assert await handle.result() == "second charged 2"


async def test_a_parent_is_kept_in_the_execution_that_waits(backend):
    """Who named a turn got the failure as it came; what is reset then is nobody's."""
    trips = Trips()
    async with serving(backend, trips.flows) as client:
        handle, trip = await client.start(trips.holidays), client.handle("trip")
        turns = (await handle.wait()).turns
        await handle.reset(turn=turns - 1)
        assert (await handle.wait()).status == "failed"
        assert (await handle.describe()).execution == 2
        trips.closed = False
        await trip.reset()
        assert await trip.result() == "ours charged 2"
        assert (await trip.describe()).parent is None
        assert (await handle.describe()).status == "failed"


async def test_one_that_is_reset_before_its_parent_has_heard_of_its_end_goes_on_alone(backend):
    trips = Trips()

    @trips.flows.workflow
    async def waits() -> str:
        await trips.held_up()
        await trips.charge()
        await go.receive()
        return f"ours {info().execution}"

    @trips.flows.workflow
    async def journey() -> str:
        return await waits.options(id="waits")()

    async with serving(backend, trips.flows) as client:
        handle, child = await client.start(journey), client.handle("waits")
        await until(lambda: _is_there(child))
        await handle.pause()
        trips.held.set()
        assert (await child.wait()).status == "failed"
        trips.closed = False
        await child.reset()
        assert (await child.describe()).parent is None
        await handle.resume()
        with pytest.raises(Declined):
            await handle.result()
        await handle.reset()
        with pytest.raises(InstanceAlreadyExists):
            await handle.result()
        await child.signal(go, 1)
        assert await child.result() == "ours 2"
        await handle.reset()
        await until(lambda: _is(child, "running"))
        await client.handle("waits").signal(go, 1)
        assert await handle.result() == "ours 3"


async def test_what_others_have_paused_since_stays_paused(backend, monkeypatch):
    trips = Trips()

    @trips.flows.workflow
    async def waits() -> int:
        return await go.receive()

    async with serving(backend, trips.flows) as client:
        handle = await client.start(waits)
        await until(lambda: _has_turns(handle))
        seen = []

        async def changed(_reset):
            seen.append((await handle.describe()).suspension)
            if seen[-1] is not None and seen[-1].reason != "mine":  # it is held for the reset
                await handle.resume()
                await handle.pause("mine")
            return "changed"

        monkeypatch.setattr(client.backend, "reset", changed)
        with pytest.raises(TrioflowError, match="it had changed until"):
            await handle.reset(turn=1)
        described = await handle.describe()
        assert (described.status, described.suspension.reason) == ("suspended", "mine")


async def _is(handle, status):
    return (await handle.describe()).status == status


async def _is_there(handle):
    with suppress(InstanceNotFound):
        return await handle.describe() is not None
    return False


async def _has_turns(handle):
    return (await handle.describe()).turns > 0
