"""A reset, and a resume, try again what has failed the instance, and nothing else."""

from __future__ import annotations

import logging

import anyio
import msgspec
import pytest
import trio

from tests.worker.bank import Bank, Declined, go
from tests.worker.flow import serving, until_parked
from trioflow import (
    ArgumentError,
    JsonCodec,
    SharedLock,
    WrappedCodec,
)
from trioflow._engine.suspension import raised_in


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "trioflow.worker")


class Travels(Bank):
    """…with places to look at, which nobody has seen before the bank opens."""

    def __init__(self):
        super().__init__()

        @self.flows.activity
        async def look(what: str) -> str:
            if self.closed:
                await anyio.sleep_forever()
            self.note(what)
            return what

        @self.flows.workflow
        async def walk() -> str:
            return await look("town")

        self.look, self.walk = look, walk


def ways(bank, **options):
    """Return a workflow that lets the failure of an activity out in one of several ways."""

    @bank.flows.workflow(**options)
    async def trip(how: str) -> list[str]:
        found = [await bank.book("flight")]

        async def add(call, *args) -> None:
            found.append(await call(*args))

        async def pay() -> None:
            await add(bank.charge, *(["for good"] if how == "for good" else []))

        if how == "with others":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(add, bank.look, "beach")
                nursery.start_soon(add, bank.walk)
                await pay()
        else:
            await bank.let_out(how, pay, found)
        return sorted(found)

    return trip


HOWS = ["as it is", "in a nursery", "with others", "as a cause", "for good"]


@pytest.mark.parametrize("how", HOWS)
async def test_a_reset_tries_the_activity_again_that_has_failed_it(how, flow):
    bank = Travels()
    trip = ways(bank)
    async with flow.worker(bank.flows) as worker:
        handle = await worker.client.start(trip, how)
        await handle.signal(go, 1) if how == "in a nursery" else None
        assert (await handle.wait()).status == "failed"
        tried = len(bank.calls)
        bank.closed = False
        await handle.reset()
        result = await handle.result()
        assert "charged" in result
        again = [attempt for what, _, attempt in bank.calls[tried:] if what == "charge"]
        assert again == [1], "with all its attempts"
        assert len(bank.keys("charge")) == 1, "under its key"
        assert bank.called().count("flight") == 1, "what succeeded is not done again"
        (before,) = (await handle.describe()).earlier
        assert (before.status, before.failure is not None) == ("reset", True)


async def test_it_may_fail_again(backend):
    bank = Bank()
    trip = ways(bank)
    async with serving(backend, bank.flows) as client:
        handle = await client.start(trip, "as it is")
        for resets in range(1, 4):
            assert (await handle.wait()).status == "failed"
            assert bank.called().count("charge") == 2 * resets
            bank.closed = resets < 3
            await handle.reset()
        assert await handle.result() == ["charged", "flight"]


async def test_who_names_a_turn_gets_what_came_as_it_came(backend):
    bank = Bank()
    trip = ways(bank)
    async with serving(backend, bank.flows) as client:
        handle = await client.start(trip, "as it is")
        failed = await handle.wait()
        bank.closed = False
        await handle.reset(failed.turns - 1)
        with pytest.raises(Declined):
            await handle.result()
        assert bank.called().count("charge") == 2


async def test_what_the_code_has_dealt_with_is_not_tried_again(backend):
    """The failure of an activity and a bug in one turn: the bug alone is mended."""
    bank, mended = Bank(), []

    @bank.flows.workflow
    async def trip() -> str:
        try:
            await bank.charge()
        except Declined:
            if not mended:
                raise KeyError("a bug")  # noqa: B904 - a bug that comes while one deals with it
            return "walks"

    async with serving(backend, bank.flows) as client:
        handle = await client.start(trip)
        assert (await handle.wait()).status == "failed"
        mended.append(True)
        await handle.reset()
        assert await handle.result() == "walks"
        assert bank.called() == ["charge"] * 2


async def test_a_codec_hides_what_failures_say(backend):
    bank = Bank()
    trip = ways(bank)
    codec = WrappedCodec(JsonCodec(), bytes.swapcase, bytes.swapcase)
    async with serving(backend, bank.flows, codec=codec) as client:
        handle = await client.start(trip, "in a nursery")
        await handle.signal(go, 1)
        assert (await handle.wait()).status == "failed"
        bank.closed = False
        await handle.reset()
        assert "charged" in await handle.result()


async def test_a_fork_tries_it_again_too(backend):
    bank = Bank()
    trip = ways(bank)
    async with serving(backend, bank.flows) as client:
        handle = await client.start(trip, "as it is")
        assert (await handle.wait()).status == "failed"
        bank.closed = False
        forked = await client.fork(handle.id)
        assert await forked.result() == ["charged", "flight"]
        assert bank.called().count("flight") == 1
        assert len(bank.keys("charge")) == 2


# --- suspended instead ----------------------------------------------------------------------


@pytest.mark.parametrize("call", ["resume", "reset"])
@pytest.mark.parametrize("how", HOWS)
async def test_what_suspends_is_tried_again_as_well(how, call, flow):
    bank = Travels()
    trip = ways(bank, suspend_on=Exception)
    async with flow.worker(bank.flows) as worker:
        handle = await worker.client.start(trip, how)
        await handle.signal(go, 1) if how == "in a nursery" else None
        for _ in range(2):
            found = await handle.wait(status="suspended")
            assert "call 0" in found.suspension.message
            assert "will be tried again" in found.suspension.message
            tried = bank.called().count("charge")
            bank.closed = not bank.closed and tried > 2
            await getattr(handle, call)()
            if not bank.closed:
                break
        assert "charged" in await handle.result()
        assert len(bank.keys("charge")) == 1
        assert bank.called().count("flight") == 1


async def test_a_nursery_whose_others_take_turns_to_stop_is_tried_again_and_again(flow):
    """The failure came turns before the one that raises, since what it has cancelled has to end."""
    bank = Travels()
    trip = ways(bank, suspend_on=Declined)
    async with flow.worker(bank.flows) as worker:
        handle = await worker.client.start(trip, "with others")
        for tries in (1, 2, 3):
            found = await handle.wait(status="suspended")
            assert found.suspension.failed == ("0:1",)
            assert found.suspension.began < found.suspension.turn == found.turns
            assert bank.called().count("charge") == 2 * tries
            await handle.signal(go, 1)  # what has come since does not matter
            bank.closed = tries < 3
            await handle.resume()
        assert await handle.result() == ["beach", "charged", "flight", "town"]
        assert sorted(bank.called()) == ["beach", *["charge"] * 7, "flight", "town"]


async def test_one_that_an_older_version_has_suspended_is_found_out_by_its_first_resume(
    backend, monkeypatch
):
    """Its report says neither what had failed nor since when."""

    def older(*args):
        return msgspec.structs.replace(raised_in(*args), failed=(), began=None)

    monkeypatch.setattr("trioflow._engine.ending.raised_in", older)
    bank = Travels()
    trip = ways(bank, suspend_on=Declined)
    async with serving(backend, bank.flows) as client:
        handle = await client.start(trip, "with others")
        assert (await handle.wait(status="suspended")).suspension.failed == ()
        monkeypatch.undo()
        bank.closed = False
        await handle.resume()
        assert (await handle.wait(status="suspended")).suspension.failed == ("0:1",)
        await handle.resume()
        assert "charged" in await handle.result()
        assert len(bank.keys("charge")) == 1


async def test_after_a_cleanup_that_waits_a_turn_is_named(backend):
    bank = Bank()

    @bank.flows.workflow(suspend_on=Declined)
    async def trip() -> str:
        await bank.book("flight")
        try:
            return await bank.charge()
        finally:
            await bank.book("taxi")

    async with serving(backend, bank.flows) as client:
        handle = await client.start(trip)
        assert (await handle.wait(status="suspended")).suspension.failed == ()
        bank.closed = False
        await handle.resume()
        assert (await handle.wait(status="suspended")).turns == 3
        await handle.reset(1)
        assert await handle.result() == "charged"
        assert bank.called() == ["flight", "charge", "charge", "taxi", "charge", "taxi"]


async def test_many_are_resumed(cached):
    bank = Bank()
    trip = ways(bank, suspend_on=Declined)
    async with cached.worker(bank.flows) as worker:
        client = worker.client
        handles = [await client.start(trip, "as it is") for _ in range(3)]
        for handle in handles:
            await handle.wait(status="suspended")
        bank.closed = False
        assert (await client.resume(status="suspended")).done == 3
        assert [await handle.result() for handle in handles] == [["charged", "flight"]] * 3


async def test_with_a_lock_its_code_has_to_deal_with_the_failure(backend):
    bank, mended = Bank(), []

    @bank.flows.workflow(suspend_on=Declined)
    async def trip() -> str:
        async with SharedLock("card"):
            try:
                return await bank.charge()
            except Declined:
                if mended:
                    return "walks"
                raise

    async with serving(backend, bank.flows) as client:
        handle = await client.start(trip)
        await handle.wait(status="suspended")
        with pytest.raises(ArgumentError, match="the lock 'card'"):
            await handle.reset()
        mended.append(True)
        await handle.resume()
        assert await handle.result() == "walks"
        assert (await handle.describe()).execution == 1


# --- which execution --------------------------------------------------------------------------


async def test_a_turn_is_of_the_last_execution(backend):
    bank = Bank()
    trip = ways(bank)
    async with serving(backend, bank.flows) as client:
        handle = await client.start(trip, "as it is")
        failed = await handle.wait()
        await handle.reset(failed.turns - 1, execution=1)
        await handle.wait()
        with pytest.raises(ArgumentError, match=r"execution 1 of .* is not its last one any more"):
            await handle.reset(0, execution=1)
        for wrong in (3, 0, "1"):
            with pytest.raises(ArgumentError, match=f"no execution {wrong!r}: its last one is 2"):
                await handle.reset(0, execution=wrong)
        with pytest.raises(ArgumentError, match=r"takes the number of a turn.*reset\(reason=…\)"):
            await handle.reset("why")
        assert (await handle.describe()).execution == 2


# --- what cannot be read --------------------------------------------------------------------


@pytest.mark.parametrize("by", ["name", "signal"])
async def test_a_signal_that_cannot_be_read_is_left_out(by, flow):
    bank = Bank()

    @bank.flows.workflow
    async def counts() -> list[int]:
        return [await go.receive(), await go.receive()]

    async with flow.worker(bank.flows) as worker:
        handle = await worker.client.start(counts)
        await handle.signal(go, 1)
        await until_parked(handle, turns=1)
        await handle.signal("go", "two")
        await handle.signal("other", "kept")
        found = await handle.wait(status="suspended")
        assert found.suspension.kind == "undecodable"
        assert "handle.resume(without='go')" in found.suspension.message
        await handle.resume(without=go if by == "signal" else "go")
        await handle.signal(go, 2)
        assert await handle.result() == [1, 2]
        assert [one.name for one in (await handle.describe()).dead_letters] == ["other"]


async def test_what_cannot_be_left_out_says_why(backend):
    bank = Bank()

    @bank.flows.workflow
    async def waits() -> int:
        return await go.receive()

    async with serving(backend, bank.flows) as client:
        handle = await client.start(waits)
        await until_parked(handle)
        with pytest.raises(ArgumentError, match=r"is running: only of one that is suspended"):
            await handle.resume(without="go")
        await handle.pause()
        with pytest.raises(ArgumentError, match=r"has no signal 'go' in its inbox"):
            await handle.resume(without="go")
        assert (await handle.describe()).status == "suspended"
