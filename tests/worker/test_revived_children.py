"""A reset tries a failed sub-workflow again with its parent; what succeeded is not done again."""

from __future__ import annotations

import logging
from contextlib import suppress

import anyio
import pytest
import trio

from tests.worker.bank import Bank, Declined, go
from tests.worker.flow import serving, until, until_status
from trioflow import (
    ArgumentError,
    BackendUnavailable,
    InstanceNotFound,
    InstanceTerminated,
    RetryPolicy,
    SharedLock,
    info,
)
from trioflow._model.events import ChildCompleted
from trioflow.testing import check_replay, export_history


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "trioflow.worker")


class Shop(Bank):
    """Holidays that need a trip, which needs the bank."""

    def __init__(self, **options):
        super().__init__(attempts=1)
        book, charge = self.book, self.charge

        @self.flows.workflow
        async def trip(how: str) -> list[str]:
            found = [await book("flight"), await charge()]
            if how == "slowly":
                await go.receive()
            return found

        @self.flows.workflow
        async def week(how: str) -> list[str]:
            return [await book("hotel"), *await trip.options(id="trip")(how)]

        @self.flows.workflow(**options)
        async def holidays(how: str = "as it is") -> list[str]:
            found = [await book("leave")]

            async def go_away() -> None:
                found.extend(await trip.options(id="trip")(how))

            if how == "deep":
                found += await week.options(id="week")(how)
            elif how == "handled":
                try:
                    await go_away()
                except Declined:
                    await go.receive()
                    raise LookupError("no holidays") from None
            else:
                await self.let_out(how, go_away, found)
            return found

        self.trip, self.week, self.holidays = trip, week, holidays


@pytest.mark.parametrize("how", ["as it is", "in a nursery", "as a cause", "deep"])
async def test_it_is_reset_with_its_parent(how, flow):
    shop = Shop()
    async with flow.worker(shop.flows) as worker:
        client = worker.client
        handle = await client.start(shop.holidays, how)
        await handle.signal(go, 1) if how == "in a nursery" else None
        trip = client.handle("trip")
        assert (await handle.wait()).status == "failed"
        shop.closed = False
        await handle.reset(reason="the bank is open")
        assert {"leave", "flight", "charged"} <= {*await handle.result()}
        described = await trip.describe()
        assert described.execution == 2
        assert described.earlier[0].status == "reset"
        called = shop.called()
        assert (called.count("flight"), called.count("charge"), called.count("leave")) == (1, 2, 1)
        assert len(shop.keys("charge")) == 1, "under its key"
        ends = await _ends(client.handle("week") if how == "deep" else handle)
        assert len(ends) == 1, "its parent was told once"


async def test_it_may_fail_again(backend):
    shop = Shop()
    async with serving(backend, shop.flows) as client:
        handle = await client.start(shop.holidays)
        for resets in range(1, 4):
            assert (await handle.wait()).status == "failed"
            assert shop.called().count("charge") == resets
            shop.closed = resets < 3
            await handle.reset()
        assert await handle.result() == ["leave", "flight", "charged"]
        assert shop.called().count("flight") == 1


async def test_a_bug_of_its_own_is_mended_by_a_deploy(backend):
    shop, mended = Shop(), []

    @shop.flows.workflow
    async def child() -> str:
        await shop.book("flight")
        if not mended:
            raise KeyError("a bug")
        return await shop.book("car")

    @shop.flows.workflow
    async def parent() -> str:
        return await child()

    async with serving(backend, shop.flows) as client:
        handle = await client.start(parent)
        assert (await handle.wait()).status == "failed"
        mended.append(True)
        await handle.reset()
        assert await handle.result() == "car"
        assert shop.called() == ["flight", "car"]


async def test_only_its_last_attempt_is_tried_again(backend):
    shop = Shop()

    @shop.flows.workflow(retry=RetryPolicy(max_attempts=3, initial_interval=1.0))
    async def child() -> str:
        return await shop.charge()

    @shop.flows.workflow
    async def parent() -> str:
        return await child()

    async with serving(backend, shop.flows) as client:
        handle = await client.start(parent)
        assert (await handle.wait()).status == "failed"
        shop.closed = False
        await handle.reset()
        assert await handle.result() == "charged"
        assert shop.called() == ["charge"] * 4


async def test_what_the_parent_has_dealt_with_is_not_tried_again(backend):
    shop = Shop()
    async with serving(backend, shop.flows) as client:
        handle = await client.start(shop.holidays, "handled")
        await handle.signal(go, 1)
        assert (await handle.wait()).status == "failed"
        shop.closed = False
        await handle.reset()
        assert (await handle.wait()).failure.message == "no holidays"
        assert (await client.handle("trip").describe()).execution == 1
        assert shop.called().count("charge") == 1


async def test_a_sub_workflow_that_was_terminated_goes_on(backend):
    shop = Shop()
    shop.closed = False
    async with serving(backend, shop.flows) as client:
        handle = await client.start(shop.holidays, "slowly")
        await until(lambda: _async(shop.called().count("charge")))
        await client.handle("trip").terminate()
        with pytest.raises(InstanceTerminated):
            await handle.result()
        await handle.reset()
        await client.handle("trip").signal(go, 1)
        assert await handle.result() == ["leave", "flight", "charged"]
        assert shop.called() == ["leave", "flight", "charge"]


async def test_one_that_was_removed_begins_anew(backend):
    shop = Shop()
    async with serving(backend, shop.flows) as client:
        handle = await client.start(shop.holidays)
        assert (await handle.wait()).status == "failed"
        await client.handle("trip").remove()
        shop.closed = False
        await handle.reset()
        assert await handle.result() == ["leave", "flight", "charged"]
        assert len(shop.keys("flight")) == 2, "in another life"


async def test_many_are_reset_at_once(cached):
    """The parents and their sub-workflows are all among those that have failed."""
    shop = Shop()

    @shop.flows.workflow
    async def outing() -> str:
        return await outdoors()

    @shop.flows.workflow
    async def outdoors() -> str:
        await shop.book(info().id)
        return await shop.charge()

    async with cached.worker(shop.flows) as worker:
        client = worker.client
        handles = [await client.start(outing) for _ in range(4)]
        for handle in handles:
            assert (await handle.wait()).status == "failed"
        shop.closed = False
        report = await client.reset(status="failed")
        assert (report.refused, report.after) == ({}, None)
        assert [await handle.result() for handle in handles] == ["charged"] * 4
        assert sorted(shop.called()) == sorted(
            ["charge"] * 8 + [f"{one.id}/0:0" for one in handles]
        )


@pytest.mark.parametrize("options", [{}, {"suspend_on": Exception}], ids=["failed", "suspended"])
async def test_failures_that_were_gathered_are_all_tried_again(options, cached):
    """Those that came turns before as well, if nothing was asked for since."""
    shop, mended = Shop(), []

    @shop.flows.activity(retry=RetryPolicy(max_attempts=1))
    async def work(number: int) -> int:
        shop.note(f"work {number}")
        if number % 2 and not mended:
            raise ValueError(f"no {number}")
        return number

    @shop.flows.workflow
    async def child(number: int) -> int:
        await shop.book(f"book {number}")
        return await work(number)

    @shop.flows.workflow(**options)
    async def parent() -> int:
        numbers: list[int] = []
        errors: list[ValueError] = []

        async def add(call, number: int) -> None:
            try:
                numbers.append(await call(number))
            except ValueError as exc:
                errors.append(exc)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(add, child, number)
                nursery.start_soon(add, work, 10 + number)
        if errors:
            raise ExceptionGroup("some", errors)
        return sum(numbers)

    async with cached.worker(shop.flows) as worker:
        handle = await worker.client.start(parent)
        await handle.wait(status=("failed", "suspended"))
        mended.append(True)
        await (handle.resume() if options else handle.reset())
        assert await handle.result() == sum(range(5)) + sum(range(10, 15))
        called = shop.called()
        assert [called.count(f"book {number}") for number in range(5)] == [1] * 5
        assert [called.count(f"work {number}") for number in range(5)] == [1, 2, 1, 2, 1]
        assert [called.count(f"work {number}") for number in range(10, 15)] == [1, 2, 1, 2, 1]


async def test_what_was_done_since_a_failure_came_is_not_undone(backend):
    """So the failure is not tried again: a turn has to be named."""
    shop = Shop()

    @shop.flows.workflow
    async def parent() -> str:
        await shop.book("flight")
        try:
            return await shop.charge()
        except Declined:
            await shop.book("flight cancelled")
            raise

    async with serving(backend, shop.flows) as client:
        handle = await client.start(parent)
        failed = await handle.wait()
        shop.closed = False
        await handle.reset()
        assert (await handle.wait()).status == "failed"
        assert shop.called() == ["flight", "charge", "flight cancelled"]
        await handle.reset(turn=failed.turns - 3)
        assert await handle.result() == "charged"


# --- reset by itself --------------------------------------------------------------------------


@pytest.mark.parametrize("turn", [None, "named"])
@pytest.mark.parametrize("ended", [False, True])
async def test_its_parent_waits_for_one_that_was_reset_before(ended, turn, cached):
    shop = Shop()
    async with cached.worker(shop.flows) as worker:
        client = worker.client
        handle, trip = await client.start(shop.holidays, "slowly"), client.handle("trip")
        failed = await handle.wait()
        assert failed.status == "failed"
        shop.closed = False
        await trip.reset()
        assert (await trip.describe()).parent.instance == handle.id
        if ended:
            await trip.signal(go, 1)
            assert (await trip.wait()).status == "completed"
        await handle.reset(None if turn is None else failed.turns - 1)
        if not ended:
            await trip.signal(go, 1)
        assert await handle.result() == ["leave", "flight", "charged"]
        assert shop.called() == ["leave", "flight", "charge", "charge"]
        assert len(await _ends(handle)) == 1


async def test_a_reset_that_breaks_off_is_made_again(backend, monkeypatch):
    """The sub-workflow goes on alone until the parent is reset as well."""
    shop = Shop()
    async with serving(backend, shop.flows) as client:
        handle = await client.start(shop.holidays)
        assert (await handle.wait()).status == "failed"
        shop.closed = False
        real = backend.reset

        async def only_the_child(reset):
            if reset.id == handle.id:
                raise BackendUnavailable("cut off")
            return await real(reset)

        monkeypatch.setattr(backend, "reset", only_the_child)
        with pytest.raises(BackendUnavailable):
            await handle.reset()
        monkeypatch.undo()
        assert await client.handle("trip").result() == ["flight", "charged"]
        assert (await handle.describe()).status == "failed"
        await handle.reset()
        assert await handle.result() == ["leave", "flight", "charged"]
        assert shop.called() == ["leave", "flight", "charge", "charge"]


async def test_one_that_holds_a_lock_is_reset_by_a_turn_first(backend):
    shop = Shop()

    @shop.flows.workflow
    async def child() -> str:
        await shop.book("flight")
        async with SharedLock("card"):
            return await shop.charge()

    @shop.flows.workflow
    async def parent() -> str:
        return await child.options(id="kid")()

    async with serving(backend, shop.flows) as client:
        handle = await client.start(parent)
        assert (await handle.wait()).status == "failed"
        shop.closed = False
        with pytest.raises(
            ArgumentError,
            match=r"sub-workflow 'kid'.* that of client.handle\('kid'\).reset\(turn=1\)",
        ):
            await handle.reset()
        assert (await handle.describe()).status == "failed"
        await client.handle("kid").reset(turn=1)
        await handle.reset()
        assert await handle.result() == "charged"
        assert shop.called() == ["flight", "charge", "charge"]


async def test_resets_of_a_whole_family_at_once(cached):
    """Whoever comes first, everybody is reset once."""
    shop = Shop()
    async with cached.worker(shop.flows) as worker:
        client = worker.client
        handle = await client.start(shop.holidays, "deep")
        assert (await handle.wait()).status == "failed"
        shop.closed = False

        async def reset(one) -> None:
            with suppress(ArgumentError):  # it is running
                await one.reset()

        async with anyio.create_task_group() as group:
            for one in [handle, client.handle("week"), client.handle("trip")] * 2:
                group.start_soon(reset, one)
        assert await handle.result() == ["leave", "hotel", "flight", "charged"]
        assert sorted(shop.called()) == sorted(["leave", "hotel", "flight", "charge", "charge"])


async def test_what_ends_the_parent_then_ends_it_too(cached):
    shop = Shop()
    async with cached.worker(shop.flows) as worker:
        client = worker.client
        handle, trip = await client.start(shop.holidays, "slowly"), client.handle("trip")
        assert (await handle.wait()).status == "failed"
        shop.closed = False
        await trip.reset()
        await trip.pause()
        await handle.reset()
        described = await trip.describe()
        assert (described.status, described.parent.execution) == ("suspended", 2)
        await trip.resume()
        await until(lambda: _async(shop.called().count("charge") == 2))
        await handle.cancel("no holidays")
        assert (await handle.wait()).status == "cancelled"
        assert (await trip.describe()).status == "cancelled"


@pytest.mark.parametrize("call", ["resume", "reset"])
@pytest.mark.parametrize("how", ["as it is", "deep"])
async def test_one_that_fails_again_before_its_parent_is_reset_has_had_its_try(how, call, backend):
    """As for a client far away from the store, with a worker close to it."""
    shop = Shop(suspend_on=Exception if call == "resume" else ())
    ended = "suspended" if call == "resume" else "failed"
    async with serving(backend, shop.flows) as client:
        handle = await client.start(shop.holidays, how)
        await until_status(handle, ended)
        reset = backend.reset

        async def late(new):
            if new.id == handle.id:
                await client.handle("week" if how == "deep" else "trip").wait()
            return await reset(new)

        backend.reset = late
        for tries in (2, 3):
            await getattr(handle, call)()
            await until_status(handle, ended)
            assert shop.called().count("charge") == tries
        backend.reset = reset
        shop.closed = False
        await getattr(handle, call)()
        assert await handle.result() == [
            *(["leave", "hotel"] if how == "deep" else ["leave"]),
            *("flight", "charged"),
        ]


# --- suspended instead ------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["resume", "reset"])
@pytest.mark.parametrize("how", ["as it is", "in a nursery", "as a cause"])
async def test_a_suspended_parent_tries_it_again(how, call, flow):
    shop = Shop(suspend_on=Exception)
    async with flow.worker(shop.flows) as worker:
        handle = await worker.client.start(shop.holidays, how)
        await handle.signal(go, 1) if how == "in a nursery" else None
        for tries in (1, 2):
            found = await handle.wait(status="suspended")
            assert "call 0" in found.suspension.message
            assert shop.called().count("charge") == tries
            shop.closed = tries < 2
            await getattr(handle, call)()
        assert {"leave", "flight", "charged"} <= {*await handle.result()}
        assert (shop.called().count("flight"), len(shop.keys("charge"))) == (1, 1)


@pytest.mark.parametrize("ended", [False, True])
async def test_a_suspended_parent_waits_for_one_that_was_reset_before(ended, cached):
    shop = Shop(suspend_on=Exception)
    async with cached.worker(shop.flows) as worker:
        client = worker.client
        handle, trip = await client.start(shop.holidays, "slowly"), client.handle("trip")
        await handle.wait(status="suspended")
        shop.closed = False
        await trip.reset()
        if ended:
            await trip.signal(go, 1)
            assert (await trip.wait()).status == "completed"
        await handle.resume()
        if not ended:
            await trip.signal(go, 1)
        assert await handle.result() == ["leave", "flight", "charged"]
        assert shop.called() == ["leave", "flight", "charge", "charge"]
        assert len(await _ends(handle)) == 1


async def test_what_a_task_of_a_nursery_raised_by_itself_is_made_again(flow):
    """The turn that raised is stored, since it has cancelled what ran beside it."""
    shop, mended = Shop(), []

    @shop.flows.activity
    async def look() -> str:
        if not mended:
            await trio.sleep_forever()
        return "beach"

    @shop.flows.workflow(suspend_on=KeyError)
    async def walk() -> list[str]:
        found = [await shop.book("flight")]

        async def add() -> None:
            found.append(await look())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(add)
            await shop.book("car")
            if not mended:
                raise KeyError("a bug")
        return found

    async with flow.worker(shop.flows) as worker:
        handle = await worker.client.start(walk)
        found = await handle.wait(status="suspended")
        assert found.suspension.began is not None
        mended.append(True)
        await handle.resume()
        assert await handle.result() == ["flight", "beach"]
        assert shop.called() == ["flight", "car"]


# --- forks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", [None, "kid"])
async def test_a_fork_has_a_sub_workflow_of_its_own(id, cached):
    """It takes the id of none of the original's, whether that runs or has ended."""
    shop = Shop()
    shop.closed = False

    @shop.flows.workflow
    async def child(what: str) -> str:
        await shop.book(what)
        await go.receive()
        return await shop.charge()

    @shop.flows.workflow
    async def parent() -> list[str]:
        one = child if id is None else child.options(id=id)
        return [await shop.book("leave"), await one("flight")]

    async with cached.worker(shop.flows) as worker:
        client = worker.client
        handle = await client.start(parent.options(id="p"))
        await until(lambda: _async("flight" in shop.called()))
        fork = await client.fork("p", turn=2, new_id="q")
        again = await client.fork("q", turn=2, new_id="r")
        await until(lambda: _async(shop.called().count("flight") == 3))
        for one in ("q/0:1", "r/0:1"):
            assert (await client.handle(one).describe()).status == "running"
            await client.handle(one).signal(go, 1)
        assert await fork.result() == await again.result() == ["leave", "charged"]
        await client.handle(id or "p/0:1").signal(go, 1)
        assert await handle.result() == ["leave", "charged"]
        assert len(shop.keys("flight")) == 3
        for one in (handle, fork, again):
            check_replay(await export_history(one), parent)


async def test_a_cancel_of_a_fork_reaches_its_own_sub_workflow(backend):
    shop = Shop()

    @shop.flows.workflow
    async def child() -> None:
        await trio.sleep_forever()

    @shop.flows.workflow
    async def parent() -> None:
        await child.options(id="kid")()

    async with serving(backend, shop.flows) as client:
        await client.start(parent.options(id="p"))
        await until(lambda: _is(client.handle("kid"), "running"))
        fork = await client.fork("p", turn=1, new_id="q")
        await until(lambda: _is(client.handle("q/0:0"), "running"))
        await fork.cancel()
        assert (await fork.wait()).status == "cancelled"
        assert (await client.handle("q/0:0").describe()).status == "cancelled"
        assert (await client.handle("kid").describe()).status == "running"
        check_replay(await export_history(fork), parent)


async def test_a_fork_of_what_has_failed_leaves_that_alone(backend):
    shop = Shop()
    async with serving(backend, shop.flows) as client:
        handle = await client.start(shop.holidays)
        assert (await handle.wait()).status == "failed"
        shop.closed = False
        fork = await client.fork(handle.id)
        assert await fork.result() == ["leave", "flight", "charged"]
        assert (await client.handle("trip").describe()).status == "failed"
        await handle.reset()
        assert await handle.result() == ["leave", "flight", "charged"]
        assert shop.called().count("flight") == 2


async def _is(handle, status):
    try:
        return (await handle.describe()).status == status
    except InstanceNotFound:
        return False


async def _ends(handle):
    """Return how often the last execution of an instance was told that a sub-workflow completed."""
    turns = (await handle.history())[-1].turns
    return [event for turn in turns for event in turn.events if isinstance(event, ChildCompleted)]


async def _async(value):
    return value
