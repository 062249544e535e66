"""Schedules: what is due is run once, whatever comes in between. Nearly all on virtual time."""

from __future__ import annotations

import anyio
import pytest
import trio

from tests.stores import ALL, marked, open_store, opened
from tests.worker.flow import EPOCH, in_memory, serving, until, until_status
from trioflow import (
    Cron,
    Every,
    InstanceAlreadyExists,
    InstanceNotFound,
    InstanceTerminated,
    Registry,
    Signal,
    continue_as_new,
    info,
    open_client,
    open_worker,
)
from trioflow._model import calendars
from trioflow.testing import open_tester

DAY = 86400.0
flows = Registry()
go = Signal("go", int)


@flows.workflow
async def quick(name: str = "") -> tuple[str, float | None]:
    return name, info().scheduled_at


@flows.workflow
async def slow(seconds: float = 100.0) -> float:
    await trio.sleep(seconds)
    return seconds


@flows.workflow
async def waits() -> int:
    return await go.receive()


@flows.workflow
async def goes_on(executions: int = 3) -> float | None:
    await trio.sleep(100)
    if executions > 1:
        continue_as_new(executions - 1)
    return info().scheduled_at


@flows.workflow
async def fails() -> None:
    raise ValueError("on purpose")


def named(schedule, *seconds):
    """The ids of the runs that were due so many seconds after the test began."""
    return [f"{schedule}/{_iso(EPOCH + each)}" for each in seconds]


def _iso(at):
    from datetime import UTC, datetime  # noqa: PLC0415

    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


async def runs(client, schedule, **filters):
    """The ids of a schedule's runs, the oldest first."""
    found = await client.list(id_prefix=f"{schedule}/", limit=10_000, **filters)
    return [one.id for one in reversed(found)]


def offset(seconds):
    """An interval's offset by which its first time is so many seconds after the test began."""
    return EPOCH + seconds


# --- the ordinary ---------------------------------------------------------------------------


async def test_runs_begin_at_their_times_and_know_them(backend):
    async with serving(backend, flows) as client:
        daily = await client.schedule("s", Every(hours=1, offset=offset(10)), quick.bind("all"))
        await trio.sleep(3 * 3600)
        assert await runs(client, "s") == named("s", 10, 3610, 7210)
        for run, at in zip(await runs(client, "s"), (10, 3610, 7210), strict=True):
            assert await client.handle(run, quick).result() == ("all", EPOCH + at)
            assert (await client.handle(run).describe()).parent is None
        found = await daily.describe()
        assert (found.begun, found.skipped, found.missed, found.running) == (3, 0, 0, [])
        assert found.next_at == EPOCH + 10810
        assert [one.scheduled_at - EPOCH for one in found.recent] == [7210, 3610, 10]
        assert (found.calendar.seconds, found.workflow, found.overlap) == (3600, "quick", "skip")


async def test_it_is_shown_before_a_worker_has_seen_it(backend):
    async with open_client(backend) as client:
        made = await client.schedule(
            "s",
            Cron("0 0 29 2 *", tz="Europe/Madrid"),
            quick.options(queue="other", priority=3).bind(),
            overlap="buffer_one",
            catch_up=60,
            jitter=5,
        )
        found = await made.describe()
        assert (found.overlap, found.catch_up, found.jitter) == ("buffer_one", 60, 5)
        assert found.calendar == Cron("0 0 29 2 *", tz="Europe/Madrid")
        assert _iso(found.next_at) == "2028-02-28T23:00:00Z"
        assert (found.status, found.begun, found.paused) == ("running", 0, None)
        instance = await client.handle("s").describe()
        assert (instance.queue, instance.priority) == ("other", 3)


async def test_the_options_of_the_call_are_those_of_each_run(backend):
    call = slow.options(timeout=5, attributes={"kind": "report"}, metadata={"a": "b"}, priority=7)
    async with serving(backend, flows) as client:
        await client.schedule("s", Every(minutes=1, offset=offset(0)), call.bind(100))
        await trio.sleep(61)
        (found,) = await client.list(where={"kind": "report"})
        assert (found.priority, found.metadata) == (7, {"a": "b"})
        with pytest.raises(TimeoutError):
            await client.handle(found.id).result()


async def test_lists_and_counts_leave_schedules_out(backend):
    async with serving(backend, flows) as client:
        await client.start(waits.options(id="w", attributes={"x": 1}))
        for number in range(7):
            await client.schedule(f"s{number}", Every(hours=1), quick.bind())
        await client.start(waits.options(id="v"))
        assert [one.id for one in await client.list()] == ["v", "w"]
        assert [one.id for one in await client.list(limit=1)] == ["v"]
        assert [one.id for one in await client.list(limit=1, after="v")] == ["w"]
        assert await client.list(limit=0) == []
        assert await client.count() == 2
        assert await client.count(group_by="workflow") == {"waits": 2}
        assert await client.count(group_by="status") == {"running": 2}
        assert await client.count(workflow="trioflow.schedule") == 7
        assert len(await client.list(workflow="trioflow.schedule")) == 7
        page = await client.schedules(limit=4)
        rest = await client.schedules(after=page[-1].id)
        assert [one.id for one in (*page, *rest)] == [f"s{number}" for number in range(7)][::-1]
        assert [*flows.workflows] == ["quick", "slow", "waits", "goes_on", "fails"]


async def test_removing_it_leaves_its_runs(backend):
    async with serving(backend, flows) as client:
        made = await client.schedule("s", Every(minutes=1, offset=offset(5)), slow.bind(30))
        await trio.sleep(10)
        await made.remove()
        assert await client.schedules() == []
        (run,) = await runs(client, "s")
        assert await client.handle(run, slow).result() == 30
        await trio.sleep(300)
        assert await runs(client, "s") == [run]
        for call in (made.describe, made.remove, made.pause, made.resume, made.trigger):
            with pytest.raises(InstanceNotFound, match="there is no such schedule, "):
                await call()
        # Made anew, it does not run again what was run.
        again = await client.schedule("s", Every(minutes=1, offset=offset(5)), slow.bind(30))
        await again.backfill(EPOCH, EPOCH + 10)
        await trio.sleep(1)
        assert ((await again.describe()).begun, (await again.describe()).skipped) == (0, 1)


async def test_an_instance_of_something_else_is_no_schedule(backend):
    async with serving(backend, flows) as client:
        await client.start(waits.options(id="w"))
        with pytest.raises(InstanceNotFound, match="it is no schedule, but a 'waits'"):
            await client.schedule_handle("w").pause()
        with pytest.raises(InstanceAlreadyExists):
            await client.schedule("w", Every(hours=1), quick.bind())
        await client.schedule("s", Every(hours=1), quick.bind())
        with pytest.raises(InstanceAlreadyExists):
            await client.schedule("s", Every(hours=1), quick.bind())


async def test_a_schedule_that_failed_says_so(backend):
    async with serving(backend, flows) as client:
        made = await client.schedule("s", Every(hours=1), quick.bind())
        await client.handle("s").cancel("by hand")
        await until_status(client.handle("s"), "cancelled")
        assert (await made.describe()).status == "cancelled"
        with pytest.raises(InstanceNotFound, match="it has ended: client.handle"):
            await made.pause()
        await made.remove()


# --- while another run is under way -----------------------------------------------------------

# By policy: which of the runs, of 95 s each, that are due each minute begin; how many are left out,
# and how many wait when the schedule is paused after 359 s.
OVERLAPS = {
    "skip": ([30, 150, 270], 3, 0),
    "buffer_one": ([30, 90, 150, 270], 1, 1),
    "buffer_all": ([30, 90, 150, 210], 0, 2),
    "cancel_other": ([30, 90, 150, 210, 270, 330], 0, 0),
    "terminate_other": ([30, 90, 150, 210, 270, 330], 0, 0),
    "allow": ([30, 90, 150, 210, 270, 330], 0, 0),
}
STATUSES = {"cancel_other": "cancelled", "terminate_other": "terminated"}


@pytest.mark.parametrize("overlap", OVERLAPS)
async def test_what_happens_while_another_run_is_under_way(overlap, backend):
    due, skipped, waiting = OVERLAPS[overlap]
    async with serving(backend, flows) as client:
        calendar = Every(minutes=1, offset=offset(30))
        made = await client.schedule("s", calendar, slow.bind(95), overlap=overlap)
        await trio.sleep(359)
        await made.pause("enough")
        await trio.sleep(600)
        assert await runs(client, "s") == named("s", *due)
        found = await made.describe()
        assert (found.begun, found.skipped, found.missed) == (len(due), skipped, 0)
        assert (found.running, len(found.waiting), found.paused) == ([], waiting, "enough")
        *ended, last = [await client.handle(run).describe() for run in await runs(client, "s")]
        assert last.status == "completed"
        assert {one.status for one in ended} == {STATUSES.get(overlap, "completed")}
        if overlap != "allow":  # one after the other
            begun = [one.created_at for one in (*ended, last)]
            over = [one.finished_at for one in ended]
            assert all(later >= end for later, end in zip(begun[1:], over, strict=True))
        await made.resume()
        await trio.sleep(20)  # what has waited begins; nothing is due yet
        assert len((await made.describe()).running) == min(waiting, 1)
        assert (await made.describe()).paused is None


async def test_one_that_ends_in_a_later_execution_or_fails_has_ended(backend):
    async with serving(backend, flows) as client:
        calendar = Every(minutes=1, offset=offset(30))
        made = await client.schedule("s", calendar, goes_on.bind(3), overlap="buffer_one")
        await trio.sleep(300)
        (run,) = (await made.describe()).running
        assert (await client.handle(run.id).describe()).execution == 3
        await trio.sleep(31)  # its third execution ended at 330, and the one that waited began
        assert (await client.handle(run.id, goes_on).result()) == run.scheduled_at
        assert [one.id for one in (await made.describe()).running] == named("s", 90)
        await made.replace(call=fails.bind())
        await trio.sleep(600)
        assert await runs(client, "s", status="failed")
        assert (await made.describe()).running == []


@pytest.mark.parametrize("how", ["terminate", "cancel", "cancel before it began", "replace"])
async def test_one_that_somebody_ended_has_ended(how, backend):
    queue = "nobody's" if how == "cancel before it began" else "default"
    async with serving(backend, flows) as client:
        call = waits.options(queue=queue).bind()
        # The schedule itself lives on the queue of what it ran at first.
        made = await client.schedule("s", Every(days=1), waits.bind())
        await made.replace(call=call)
        await made.backfill(EPOCH - 2 * DAY, EPOCH)
        await trio.sleep(1)
        (first,) = (await made.describe()).running
        if how == "terminate":
            await client.handle(first.id).terminate()
        elif how == "replace":
            await client.start(quick.options(id=first.id, if_exists="replace"))
        else:
            await client.handle(first.id).cancel()
        await trio.sleep(1)
        (second,) = (await made.describe()).running
        assert first != second
        assert (await made.describe()).waiting == []


# --- workers that were away ---------------------------------------------------------------------


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("catch_up", [0, 6 * 3600, 30 * DAY])
async def test_a_worker_that_was_away_for_a_week(overlap, catch_up, backend):
    async with serving(backend, flows) as client:
        calendar = Every(hours=1, offset=offset(60))
        call = slow.bind(60)
        made = await client.schedule("s", calendar, call, overlap=overlap, catch_up=catch_up)
        await trio.sleep(200)
    await trio.sleep(7 * DAY)
    async with serving(backend, flows) as client:
        await trio.sleep(600)
        made = client.schedule_handle("s")
        found = await made.describe()
        due, caught_up = 7 * 24, min(7 * 24, int(catch_up / 3600))
        assert found.missed == due - caught_up
        at_once = caught_up if overlap in ("allow", "cancel_other", "terminate_other") else None
        if at_once is not None:
            # Of those that replace another one, some are replaced before they have begun.
            assert found.begun + found.skipped == 1 + at_once
            assert overlap != "allow" or found.begun == 1 + at_once
        elif overlap == "buffer_all":
            assert len(found.waiting) == min(100, max(0, caught_up - 10))  # a part of them is shown
            assert found.begun == 1 + min(caught_up, 10)
        else:
            assert found.begun == 1 + min(caught_up, {"skip": 1, "buffer_one": 2}[overlap])
            assert found.skipped == caught_up - (found.begun - 1)
        # No time twice, and the present goes on.
        assert len(set(await runs(client, "s"))) == found.begun
        assert found.next_at == EPOCH + 7 * DAY + 3600 + 60


async def test_what_is_due_together_after_a_time_away_is_begun_in_turn(backend):
    """With ``skip``, what is caught up at one moment finds the first of it under way."""
    async with serving(backend, flows) as client:
        await client.schedule("s", Every(hours=1, offset=offset(60)), quick.bind(), catch_up=DAY)
    await trio.sleep(3 * 3600)
    async with serving(backend, flows) as client:
        await trio.sleep(10)
        found = await client.schedule_handle("s").describe()
        assert (found.begun, found.skipped, found.missed) == (1, 2, 0)


async def test_what_was_asked_meanwhile_counts_from_when_it_was_asked(backend):
    async with serving(backend, flows) as client:
        calendar = Every(hours=1, offset=offset(60))
        await client.schedule("s", calendar, quick.bind(), overlap="allow", catch_up=DAY)
        await trio.sleep(200)
    async with open_client(backend) as client:
        made = client.schedule_handle("s")
        await trio.sleep(2.5 * 3600)
        await made.pause()  # after the runs of 1 h and 2 h
        await trio.sleep(2 * 3600)
        await made.resume()  # after 4 h
        await trio.sleep(2 * 3600)
        await made.replace(Every(hours=1, offset=offset(120)))  # after 6 h
        await trio.sleep(2 * 3600)
    async with serving(backend, flows) as client:
        await trio.sleep(10)
        hours = [60, *(60 + 3600 * n for n in (1, 2, 5, 6)), *(120 + 3600 * n for n in (7, 8))]
        assert sorted(await runs(client, "s")) == sorted(named("s", *hours))
        found = await client.schedule_handle("s").describe()
        assert (found.begun, found.missed, found.skipped) == (len(hours), 0, 0)


async def test_two_workers_run_nothing_twice(clock, harness):
    backend = in_memory(clock)
    harness.enter(opened(backend))
    async with serving(backend, flows) as client, serving(backend, flows):
        for number in range(20):
            call = quick.bind(str(number))
            await client.schedule(f"s{number}", Every(minutes=1, offset=offset(30)), call)
        await trio.sleep(600)
        for number in range(20):
            assert await runs(client, f"s{number}") == named(f"s{number}", *range(30, 600, 60))


async def test_it_goes_on_in_further_executions(backend):
    async with serving(backend, flows) as client:
        made = await client.schedule("s", Every(seconds=1), quick.bind())
        await trio.sleep(120.5)
        found, instance = await made.describe(), await client.handle("s").describe()
        assert (found.begun, found.missed, found.skipped) == (120, 0, 0)
        assert instance.execution > 2
        assert instance.events < 300


async def test_jitter_spreads_what_is_due_together(backend):
    async with serving(backend, flows) as client:
        for number in range(40):
            calendar = Every(minutes=10, offset=offset(60))
            await client.schedule(f"s{number}", calendar, quick.bind(), jitter=100)
        await trio.sleep(60)
        assert await client.count() <= 1
        await trio.sleep(50)
        assert 10 < await client.count() < 30
        await trio.sleep(50)
        assert await client.count(workflow=quick) == 40
        assert {one.id.split("/")[1] for one in await client.list()} == {_iso(EPOCH + 60)}


async def test_jitter_beyond_the_interval_loses_no_run_while_a_worker_is_there(backend):
    calendar = Every(seconds=10, offset=offset(0))
    async with serving(backend, flows) as client:
        terms = {"overlap": "allow", "jitter": 300, "catch_up": 0}
        await client.schedule("s", calendar, quick.bind(), **terms)
        await trio.sleep(3600)
        found = await client.schedule_handle("s").describe()
        assert found.missed == found.skipped == 0
        assert 330 <= found.begun <= 360
        before = found.begun
    await trio.sleep(3600)
    async with serving(backend, flows) as client:
        await trio.sleep(400)
        found = await client.schedule_handle("s").describe()
        assert 330 <= found.missed <= 390
        assert found.begun > before + 30


async def test_nothing_is_missed_if_all_is_caught_up(backend):
    async with serving(backend, flows) as client:
        calendar = Every(hours=1, offset=offset(60))
        made = await client.schedule(
            "s", calendar, quick.bind(), overlap="allow", catch_up=float("inf")
        )
        assert (await made.describe()).catch_up == float("inf")
        await trio.sleep(200)
        assert (await made.describe()).catch_up == float("inf")
    await trio.sleep(7 * DAY)
    async with serving(backend, flows) as client:
        await trio.sleep(100)
        made = client.schedule_handle("s")
        found = await made.describe()
        assert (found.begun, found.missed) == (1 + 7 * 24, 0)
        await made.replace(catch_up=60)
        await trio.sleep(1)
        assert (await made.describe()).catch_up == 60


# --- what is asked of it ------------------------------------------------------------------------


async def test_times_that_pass_while_it_is_paused_are_left_out(backend):
    async with serving(backend, flows) as client:
        made = await client.schedule("s", Every(minutes=1, offset=offset(30)), quick.bind())
        await made.pause("holidays")
        await trio.sleep(300)
        found = await made.describe()
        assert (found.paused, found.next_at, found.begun) == ("holidays", None, 0)
        run = await made.trigger()
        assert await run.result() == ("", EPOCH + 300)
        await made.resume()
        await trio.sleep(60)
        assert await runs(client, "s") == [run.id, *named("s", 330)]
        assert (await made.describe()).missed == 0


async def test_replacing_it_while_a_run_is_under_way(backend):
    async with serving(backend, flows) as client:
        made = await client.schedule("s", Every(minutes=10, offset=offset(30)), slow.bind(400))
        await trio.sleep(100)
        (run,) = (await made.describe()).running
        await made.replace(Every(minutes=1, offset=offset(50)), quick.bind("new"), jitter=0)
        await trio.sleep(200)
        found = await made.describe()
        assert [one.id for one in found.running] == [run.id]  # it goes on, and the policy knows it
        assert (found.begun, found.skipped, found.workflow) == (1, 4, "quick")
        await made.replace(overlap="allow")
        await trio.sleep(60)
        assert await client.handle(run.id, slow).result() == 400
        assert (await client.handle(named("s", 350)[0], quick).result())[0] == "new"


async def test_a_backfill_runs_the_past_once(backend):
    async with serving(backend, flows) as client:
        calendar = Every(hours=1, offset=offset(0))
        made = await client.schedule("s", calendar, slow.bind(60), overlap="skip")
        await trio.sleep(3600 + 10)
        (run,) = (await made.describe()).running
        await made.backfill(EPOCH - 3 * 3600, EPOCH + 3600)  # one after the other
        await trio.sleep(100)
        found = await made.describe()
        assert (found.backfilling, len(found.running), found.begun) == (True, 1, 2)
        await trio.sleep(300)
        assert sorted(await runs(client, "s")) == named("s", *range(-10800, 3601, 3600))
        found = await made.describe()
        assert (found.backfilling, found.begun, found.skipped) == (False, 5, 1)
        assert run.id in await runs(client, "s", status="completed")
        await made.backfill(EPOCH - 203 * 3600, EPOCH - 4 * 3600, overlap="allow")
        await trio.sleep(5)
        assert len(await runs(client, "s", status="running")) == 200
        assert (await client.handle("s").describe()).execution > 3


async def test_a_long_backfill_does_not_hold_up_what_is_due(backend):
    async with serving(backend, flows) as client:
        made = await client.schedule("s", Every(minutes=1, offset=offset(30)), slow.bind(45))
        await made.backfill(EPOCH - 600 * 60, EPOCH)
        await trio.sleep(600)
        found = await made.describe()
        # Of the calendar's times those are run at which nothing else is, and all are counted.
        assert found.backfilling
        calendar = set(await runs(client, "s")) & set(named("s", *range(30, 600, 60)))
        assert len(calendar) + found.skipped >= 10


async def test_a_long_backfill_is_no_long_step(backend):
    """Though all of its times are skipped, since a run is on."""
    async with serving(backend, flows) as client:
        made = await client.schedule("s", Every(minutes=1), slow.bind(10_000), overlap="skip")
        await made.trigger()
        await made.backfill(EPOCH - DAY, EPOCH, overlap="skip")
        await trio.sleep(10)
        found = await made.describe()
        assert (found.status, found.backfilling, found.begun) == ("running", False, 1)
        assert found.skipped >= 24 * 60
        turns = [turn for each in await client.handle("s").history() for turn in each.turns]
        assert max(len(turn.commands) for turn in turns) <= 110


async def test_a_worker_that_does_not_know_its_time_zone_suspends_it(backend, monkeypatch):
    def unknown(cls, name):
        raise LookupError(name)

    cron = Cron("* * * * *", tz="Atlantic/Madeira")
    async with open_client(backend) as client:
        made = await client.schedule("s", cron, quick.bind(), catch_up=DAY)
    with monkeypatch.context() as patch:
        patch.setattr(calendars, "ZoneInfo", type("Unknown", (), {"__new__": unknown}))
        calendars._read_cron.cache_clear()
        async with serving(backend, flows) as client:
            await until_status(client.handle("s"), "suspended")
            why = (await client.handle("s").describe()).suspension.message
            assert "there is no time zone 'Atlantic/Madeira'" in why
    async with serving(backend, flows) as client:
        made = client.schedule_handle("s")
        assert (await made.describe()).status == "suspended"
        await client.handle("s").resume()
        await trio.sleep(200)
        assert (await made.describe()).begun >= 3


# --- elsewhere ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["trio", "asyncio"])
def test_the_tester_runs_schedules_on_virtual_time(host):
    async def main():
        async with open_tester(registry=flows) as tester:
            fake = tester.fake(quick, lambda name="": ("fake", None))
            cron = Cron("30 2 * * *", tz="Europe/Madrid")
            made = await tester.client.schedule("s", cron, quick.bind("x"))
            await anyio.sleep(30 * DAY)
            assert (await made.describe()).begun == len(fake.calls) == 30

    anyio.run(main, backend=host)


@pytest.mark.parametrize("kind", marked(ALL))
async def test_on_every_store(kind, tmp_path, servers):
    """In real time: servers have clocks of their own."""
    backend = open_store(kind, tmp_path, servers)()
    async with opened(backend):
        with anyio.fail_after(30):
            async with open_worker(backend, registry=flows, drain=0) as worker:
                client = worker.client
                made = await client.schedule(
                    "s", Every(seconds=1), waits.bind(), overlap="terminate_other"
                )

                async def has_begun(count):
                    found = await made.describe()
                    return found if found.begun >= count else None

                found = await until(lambda: has_begun(2))
                await made.pause()
                first = found.recent[-1].id
                with pytest.raises(InstanceTerminated, match="the next run of its schedule is due"):
                    await client.handle(first).result()
                second = await made.trigger()
                await made.resume()
                with pytest.raises(InstanceTerminated):
                    await second.result()
                assert {one.id for one in await client.schedules()} == {"s"}
                assert not {"s"} & {one.id for one in await client.list()}
                await made.remove()
