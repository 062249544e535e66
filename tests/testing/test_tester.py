"""The tester: a worker, a client and a store on virtual time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import partial

import anyio
import pytest
import trio

from trioflow import (
    ActivityTimeout,
    InstanceCancelled,
    Query,
    Registry,
    RetryPolicy,
    SharedLock,
    Signal,
    Update,
    ValueMismatch,
    activity_info,
    heartbeat,
    now,
    start_detached,
    workflow_by_name,
)
from trioflow.testing import Stuck, UnmetExpectations, open_tester

BACKENDS = pytest.mark.parametrize("backend", ["trio", "asyncio"])
flows = Registry()
approved = Signal("approved", bool)
put = Update("put", argument=str, result=float)
contents = Query("contents", result=list[str])
DAY = 86400.0


class Declined(Exception):
    pass


@flows.activity(retry=RetryPolicy(max_attempts=3, jitter=0))
async def charge(amount: int) -> str:
    raise AssertionError("the real one")


@flows.activity(timeout=30)
async def slow() -> str:
    await anyio.sleep(1000)
    return "too late"


@flows.activity
def crunch(number: int) -> int:
    time.sleep(0.02)
    return number * activity_info().attempt


@flows.workflow
async def child(number: int) -> int:
    await trio.sleep(100)
    return number


@flows.workflow
async def checkout(amount: int) -> str:
    with trio.fail_after(3 * DAY):
        if not await approved.receive():
            return "refused"
    return await charge(amount)


@flows.workflow
async def month() -> float:
    began = now()
    for number in range(100):
        await trio.sleep(0.3 * DAY)
        await charge(number)
        await charge(number)
    return now() - began


@flows.workflow
async def calls_a_child() -> int:
    return await child(3)


@flows.workflow
async def computes() -> int:
    with trio.move_on_after(5):
        return await crunch(21)
    return -1


@flows.workflow
async def is_too_slow() -> str:
    try:
        return await slow()
    except ActivityTimeout:
        return "timed out"


@flows.workflow
async def waits_for_ever() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.Event().wait)
        await approved.receive()


def run(backend, main, **options):
    async def with_tester():
        async with open_tester(registry=flows, **options) as tester:
            await main(tester)

    anyio.run(with_tester, backend=backend)


@BACKENDS
def test_a_month_with_timers_and_activities(backend):
    async def main(tester):
        fake = tester.fake(charge, lambda amount: f"receipt {amount}", times=200)
        assert await tester.run(month) == pytest.approx(30 * DAY)
        assert tester.elapsed == pytest.approx(30 * DAY)
        assert [call.args for call in fake.calls[:3]] == [(0,), (0,), (1,)]
        assert fake.calls[0].at == pytest.approx(0.3 * DAY)

    run(backend, main)


@BACKENDS
@pytest.mark.parametrize("cache_size", [0, 1000])
def test_a_signal_at_a_virtual_time(backend, cache_size):
    async def main(tester):
        fake = tester.fake(charge, lambda amount: "paid")
        handle = await tester.start(checkout, 7)
        tester.at(2 * DAY, partial(handle.signal, approved, True))
        assert await handle.result() == "paid"
        assert tester.elapsed == pytest.approx(2 * DAY)
        assert fake.calls[0].instance == handle.id

    run(backend, main, cache_size=cache_size)


@BACKENDS
def test_a_deadline_passes(backend):
    async def main(tester):
        with pytest.raises(trio.TooSlowError):
            await tester.run(checkout, 7)
        assert tester.elapsed == pytest.approx(3 * DAY)

    run(backend, main)


@BACKENDS
def test_attempts_are_calls_and_the_policy_holds(backend):
    async def main(tester):
        def fail(amount):
            raise Declined("no")

        fake = tester.fake(charge, fail)
        handle = await tester.start(checkout, 7)
        await handle.signal(approved, True)
        with pytest.raises(Declined):
            await handle.result()
        assert [(call.attempt, call.at) for call in fake.calls] == [
            (1, pytest.approx(0)),
            (2, pytest.approx(1)),
            (3, pytest.approx(3)),
        ]

    run(backend, main)


@BACKENDS
def test_fakes_may_be_async_and_take_virtual_time(backend):
    async def main(tester):
        async def wait(amount):
            await anyio.sleep(3600)
            return "an hour later"

        tester.fake("charge", wait)
        handle = await tester.start(checkout, 7)
        await handle.signal(approved, True)
        assert await handle.result() == "an hour later"
        assert tester.elapsed == pytest.approx(3600)

    run(backend, main)


@BACKENDS
def test_a_sub_workflow_can_be_faked(backend):
    async def main(tester):
        fake = tester.fake(child, lambda number: number + 1, times=1)
        assert await tester.run(calls_a_child) == 4
        assert fake.calls[0].args == (3,)
        assert tester.elapsed < 1

    run(backend, main, cache_size=0)


@BACKENDS
def test_a_fakes_result_has_the_activitys_type(backend):
    async def main(tester):
        tester.fake("charge", lambda amount: 5)
        handle = await tester.start(checkout, 7)
        await handle.signal(approved, True)
        with pytest.raises(ValueMismatch, match="charge"):
            await handle.result()

    run(backend, main)


@BACKENDS
def test_the_clock_waits_for_plain_functions(backend):
    async def main(tester):
        assert await tester.run(computes) == 21

    run(backend, main)


@BACKENDS
def test_real_activities_sleep_and_time_out_on_virtual_time(backend):
    async def main(tester):
        assert await tester.run(is_too_slow) == "timed out"
        assert 30 <= tester.elapsed < 200

    run(backend, main)


@BACKENDS
def test_a_test_that_is_stuck_fails_with_the_tree_of_tasks(backend):
    async def main(tester):
        await tester.run(waits_for_ever)

    with pytest.raises(Stuck) as caught:
        run(backend, main)
    said = str(caught.value)
    assert "waits_for_ever" in said
    assert "0 waits_for_ever waits for signal 'approved'" in said
    assert "Event.wait" in said
    assert "test_tester.py:" in said


@flows.workflow
async def cart() -> list[str]:
    items: list[str] = []
    paid = trio.Event()
    contents.handler(lambda: items)

    @put.handler
    async def _(item: str) -> float:
        await trio.sleep(DAY)
        items.append(item)
        if item == "money":
            paid.set()
        return now()

    await paid.wait()
    return items


@BACKENDS
def test_updates_and_queries_take_virtual_time(backend):
    async def main(tester):
        handle = await tester.start(cart)
        assert await handle.query(contents) == []
        before = tester.now
        assert await handle.update(put, "tea") == before + DAY
        assert await handle.query(contents) == ["tea"]
        await handle.update(put, "money")
        assert await handle.result() == ["tea", "money"]
        assert await handle.query(contents) == ["tea", "money"]
        assert tester.elapsed == pytest.approx(2 * DAY)

    run(backend, main)


@BACKENDS
def test_an_update_that_nobody_answers_fails_with_the_tree_of_tasks(backend):
    async def main(tester):
        handle = await tester.start(cart)
        await handle.update(Update("no such"))

    with pytest.raises(Stuck, match="0 cart waits for Event.wait"):
        run(backend, main)


@flows.workflow
async def waits_for_itself() -> None:
    async with SharedLock("stock"), SharedLock("stock"):
        pass


@BACKENDS
def test_a_test_that_is_stuck_names_the_lock_and_who_holds_it(backend):
    async def main(tester):
        await tester.run(waits_for_itself.options(id="one"))

    with pytest.raises(Stuck, match="0 waits_for_itself waits for the lock 'stock', held by one"):
        run(backend, main)


@BACKENDS
def test_errors_of_the_test_come_out_as_they_are(backend):
    async def main(tester):
        await tester.start(waits_for_ever)
        raise Declined("mine")

    with pytest.raises(Declined, match="mine"):
        run(backend, main)


@BACKENDS
def test_unmet_expectations(backend):
    async def main(tester):
        tester.fake(charge, lambda amount: "", times=1)

    with pytest.raises(UnmetExpectations, match="'charge' was called 0 times, 1 was expected"):
        run(backend, main)


@BACKENDS
def test_a_call_in_place_of_a_function_is_refused_at_once(backend):
    async def main(tester):
        handle = await tester.start(waits_for_ever)
        with pytest.raises(TypeError, match="not a coroutine: leave out the call's brackets"):
            tester.at(5, handle.signal(approved, True))
        await handle.cancel()

    run(backend, main)


@BACKENDS
def test_an_error_of_the_test_comes_before_unmet_expectations(backend):
    async def main(tester):
        tester.fake(charge, lambda amount: "", times=1)
        raise Declined

    with pytest.raises(Declined):
        run(backend, main)


@BACKENDS
def test_when_a_test_begins(backend):
    start = datetime(2030, 5, 6, 7, tzinfo=UTC)

    async def main(tester):
        assert tester.now == start.timestamp()
        seen = []
        tester.at(timedelta(hours=2), lambda: seen.append(tester.elapsed))
        tester.at(datetime(2030, 5, 6, 8, tzinfo=UTC), lambda: seen.append(tester.elapsed))
        await tester.sleep(3 * 3600)
        assert seen == [pytest.approx(3600), pytest.approx(7200)]
        with pytest.raises(ValueError, match="is past"):
            tester.at(60, print)
        with pytest.raises(ValueError, match="no time zone"):
            tester.at(datetime(2030, 5, 7), print)  # noqa: DTZ001

    run(backend, main, start_time=start)


@BACKENDS
def test_a_cancel(backend):
    async def main(tester):
        handle = await tester.start(waits_for_ever)
        tester.at(10, partial(handle.cancel, "enough"))
        with pytest.raises(InstanceCancelled, match="enough"):
            await handle.result()

    run(backend, main)


@BACKENDS
def test_what_a_callback_raises_fails_the_test(backend):
    async def main(tester):
        async def fail():
            raise Declined("in a callback")

        tester.at(10, fail)
        await tester.sleep(20)

    with pytest.raises((Declined, ExceptionGroup)) as caught:
        run(backend, main)
    assert "callback" in repr(caught.value)


@flows.workflow
async def parent_of_a_waiting_child() -> bool:
    return await waits_for_approval.options(id="the child")()


@flows.workflow
async def waits_for_approval() -> bool:
    return await approved.receive()


@BACKENDS
def test_a_sub_workflow_is_told_of_when_it_begins(backend):
    seen, handles = [], []

    async def main(tester):
        async def approve(child):
            seen.append(child.id)
            await tester.sleep(60)
            await child.signal(approved, True)

        tester.on_start(waits_for_approval, approve)
        tester.on_start("waits_for_approval", handles.append)
        tester.on_start(child, handles.append)
        assert await tester.run(parent_of_a_waiting_child) is True
        assert await handles[0].result() is True

    run(backend, main)
    assert seen == ["the child"]
    assert len(handles) == 1


@flows.workflow
async def starts_detached(if_exists: str) -> None:
    await start_detached(waits_for_approval.options(id="detached", if_exists=if_exists))


@BACKENDS
def test_of_one_that_is_started_with_a_signal_or_detached_too(backend):
    seen = []

    async def main(tester):
        tester.on_start(waits_for_approval, lambda handle: seen.append(handle.id))
        signalled = waits_for_approval.options(id="signalled")
        handle = await tester.client.signal_with_start(signalled.bind(), approved, False)
        await handle.result()
        await tester.start(waits_for_approval.options(id="waits"))
        waiting = waits_for_approval.options(id="waits")
        await tester.client.signal_with_start(waiting.bind(), approved, False)  # it only sends
        assert seen == ["signalled", "waits"]
        seen.clear()
        await tester.run(starts_detached, "return")
        await tester.run(starts_detached, "return")  # it is there
        assert seen == ["detached"]
        await tester.run(starts_detached, "replace")
        assert seen == ["detached", "detached"]

    run(backend, main)


@BACKENDS
def test_what_a_listener_raises_fails_the_test(backend):
    async def main(tester):
        def fail(handle):
            raise Declined("in a listener")

        tester.on_start(waits_for_approval, fail)
        await tester.run(waits_for_approval)

    with pytest.raises((Declined, ExceptionGroup)) as caught:
        run(backend, main)
    assert "listener" in repr(caught.value)


@flows.workflow
async def polls_for_ever() -> None:
    while True:
        await trio.sleep(60)


@BACKENDS
def test_virtual_time_can_be_limited(backend):
    async def main(tester):
        await tester.run(polls_for_ever)

    until = r"until 2026-01-01 01:0[01]:\d\d\.\d\d\dZ"  # the next minute, after some
    with pytest.raises(
        Stuck, match=rf"after 3600 s of virtual time\.(?s:.*)polls_for_ever waits.* {until}"
    ):
        run(backend, main, timeout=timedelta(hours=1))


@flows.workflow
async def waits_nearly_for_ever() -> None:
    with trio.move_on_after(1e12):
        await trio.sleep_forever()


@BACKENDS
def test_a_deadline_may_be_further_away_than_the_calendar_goes(backend):
    async def main(tester):
        await tester.run(waits_nearly_for_ever)

    with pytest.raises(Stuck, match=r", until 10017\d+$"):
        run(backend, main, timeout=60)


@flows.activity(queue="of its own")
async def elsewhere(number: int) -> int:
    return number


@flows.workflow
async def calls_into_queues(number: int) -> int:
    return await elsewhere(number) + await elsewhere.options(queue="another")(number)


@BACKENDS
def test_all_named_queues_are_served_and_others_can_be_given(backend):
    async def main(tester):
        assert await tester.run(calls_into_queues, 4) == 8

    run(backend, main, queues=["another"])
    with pytest.raises(Stuck, match="of queue 'another', attempt 1, has not ended"):
        run(backend, main)


@flows.activity(timeout=5)
async def reads_a_file() -> str:
    await anyio.to_thread.run_sync(time.sleep, 0.02)
    return "read"


@flows.workflow
async def reads() -> str:
    return await reads_a_file()


@BACKENDS
def test_the_clock_waits_for_threads_of_async_activities(backend):
    async def main(tester):
        assert await tester.run(reads) == "read"
        assert tester.elapsed < 1

    run(backend, main)


@flows.workflow
async def calls_a_stranger() -> int:
    return await workflow_by_name("stranger", int)(number=4)


@BACKENDS
def test_a_workflow_that_is_defined_elsewhere_can_be_faked(backend):
    async def main(tester):
        fake = tester.fake(workflow_by_name("stranger", int), lambda number: number + 1)
        assert await tester.run(calls_a_stranger) == 5
        assert fake.calls[0].kwargs == {"number": 4}

    run(backend, main)


@BACKENDS
def test_further_options_are_the_workers(backend):
    async def main(tester):
        assert await tester.run(reads) == "read"

    run(backend, main, name="mine", max_threads=1)
    with pytest.raises(TypeError, match="no_such"):
        run(backend, main, no_such=1)


@BACKENDS
@pytest.mark.parametrize("plain", [False, True])
def test_heartbeats_and_their_timeout_are_on_virtual_time(backend, plain):
    local = Registry()
    once = RetryPolicy(max_attempts=2, initial_interval=10, jitter=0)

    def say(number):
        before = activity_info().heartbeat
        heartbeat([before, number])

    if plain:

        @local.activity(heartbeat_timeout=3600, retry=once)
        def talks() -> None:
            say(1)
            say(2)
            if activity_info().attempt == 1:
                raise OSError("broken")
    else:

        @local.activity(heartbeat_timeout=3600, retry=once)
        async def talks() -> None:
            say(1)
            await anyio.sleep(3000)
            say(2)
            await anyio.sleep(DAY)

    @local.workflow
    async def work() -> float:
        try:
            await talks()
        except ActivityTimeout as exc:
            assert "heartbeat_timeout of 3600 s" in str(exc)
        return now()

    async def test():
        async with open_tester(registry=local) as tester:
            handle = await tester.start(work)
            await tester.sleep(5)
            (activity,) = (await handle.describe()).activities
            assert activity.heartbeat == [None, 2 if plain else 1]
            took = await handle.result() - tester.now + tester.elapsed
            assert took == pytest.approx(10 if plain else 2 * (3000 + 3600) + 10, abs=1)

    anyio.run(test, backend=backend)


@BACKENDS
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, pytest.fail.Exception])
def test_what_the_block_raises_leaves_it_as_it_is(backend, error):
    mine = error("mine")

    async def main(_):
        raise mine

    with pytest.raises(error) as caught:
        run(backend, main)
    assert caught.value is mine
