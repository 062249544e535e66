"""Doing one thing with all instances that a filter means."""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext

import anyio
import pytest

from tests.worker.flow import in_memory, serving, until_parked
from trioflow import (
    ArgumentError,
    BackendUnavailable,
    BulkReport,
    Every,
    InstanceCancelled,
    InstanceTerminated,
    Registry,
    SharedLock,
    Signal,
    ValueMismatch,
    open_client,
)
from trioflow._client import bulk

number = Signal("number", int)


def shop():
    flows = Registry()

    @flows.workflow
    async def waiting(n: int = 0) -> int:
        return n + await number.receive()

    return flows, waiting


@asynccontextmanager
async def stored(clock, monkeypatch):
    """Seven instances that no worker runs, `x0` the oldest, in batches of three."""
    flows, waiting = shop()
    monkeypatch.setattr(bulk, "BATCH", 3)
    async with open_client(in_memory(clock), registry=flows) as client:
        for n in range(7):
            await client.start(waiting.options(id=f"x{n}"), n)
        yield client, waiting


async def test_instances_are_reached_by_a_filter(cached):
    flows, waiting = shop()
    async with cached.worker(flows) as worker, cached.client(flows) as client:
        start = worker.client.start
        own = [await start(waiting.options(id=f"a{n}"), n) for n in range(3)]
        cancelled = [await start(waiting.options(id=f"b{n}")) for n in range(3)]
        ended = [await start(waiting.options(id=f"c{n}")) for n in range(3)]
        for handle in own:
            await until_parked(handle)

        assert await client.pause(id_prefix="a", reason="night") == BulkReport(3, 0, None)
        assert await client.signal(number, 10, id_prefix="a") == BulkReport(3, 0, None)
        assert await client.count(status="suspended", workflow=waiting) == 3
        assert await client.resume(workflow=waiting) == BulkReport(3, 0, None)
        assert [await handle.result() for handle in own] == [10, 11, 12]

        assert (await client.cancel(id_prefix="b", reason="over")).done == 3
        for handle in cancelled:
            with pytest.raises(InstanceCancelled, match="over"):
                await handle.result()
        assert await client.terminate(workflow=waiting, reason="out") == BulkReport(3, 0, None)
        for handle in ended:
            with pytest.raises(InstanceTerminated, match="out"):
                await handle.result()
        assert await client.terminate(workflow=waiting) == BulkReport(0, 0, None)


async def test_a_call_goes_on_where_another_has_stopped(clock, monkeypatch):
    async with stored(clock, monkeypatch) as (client, _):
        first = await client.cancel(id_prefix="x", limit=4)
        assert (first.done, first.passed) == (4, 0)
        left = [one.id for one in await client.list(status="running")]
        assert left == ["x2", "x1", "x0"]
        await client.remove(finished_before=1e12)  # the one where it stopped is no more
        second = await client.cancel(id_prefix="x", limit=4, after=first.after)
        assert second == BulkReport(3, 0, None)


async def test_what_starts_meanwhile_is_left_alone(clock, monkeypatch):
    async with stored(clock, monkeypatch) as (client, waiting):
        terminate = client.backend.terminate

        async def again(id, outcome, *, life):
            update = await terminate(id, outcome, life=life)
            if id.startswith("x"):
                await client.start(waiting.options(id=id))  # also the one at which the batch ends
            return update

        monkeypatch.setattr(client.backend, "terminate", again)
        assert await client.terminate(workflow=waiting) == BulkReport(7, 0, None)
        assert await client.count(status="running") == 7


async def test_what_has_ended_in_between_is_passed(clock, monkeypatch):
    async with stored(clock, monkeypatch) as (client, waiting):
        listed = client.backend.list

        async def late(where, **page):
            found = await listed(where, **page)
            for record in found[:1]:
                await client.handle(record.id).terminate()
            for record in found[1:2]:
                await client.handle(record.id).terminate()
                await client.start(waiting.options(id=record.id))
            return found

        monkeypatch.setattr(client.backend, "list", late)
        report = await client.pause(workflow=waiting)
        assert report == BulkReport(2, 5, None)
        assert await client.count(status="suspended") == 2


async def signals(client):
    return await client.signal(number, 1, id_prefix="x")


async def retries(client):
    return await client.retry_now(id_prefix="x")


async def resets(client):
    return await client.reset(id_prefix="x", status="terminated")


@pytest.mark.parametrize("call", [signals, retries, resets])
async def test_who_has_the_id_by_now_is_left_alone(call, clock, monkeypatch):
    async with stored(clock, monkeypatch) as (client, waiting):
        if call is resets:
            await client.terminate(id_prefix="x")
        listed, hastened = client.backend.list, client.backend.retry_now
        lives = []

        async def late(where, **page):
            found = await listed(where, **page)
            for record in found:
                lives.append(record.life)
                await client.start(waiting.options(id=record.id, if_exists="replace"))
                if call is resets:
                    await client.handle(record.id).terminate()
            return found

        async def retry_now(id, *, activity, life):
            assert life in lives
            return await hastened(id, activity=activity, life=life)

        monkeypatch.setattr(client.backend, "list", late)
        monkeypatch.setattr(client.backend, "retry_now", retry_now)
        assert await call(client) == BulkReport(0, 7, None)
        monkeypatch.undo()
        described = await client.list(id_prefix="x")
        assert {one.status for one in described} == {"terminated" if call is resets else "running"}
        assert not any(one.unread for one in described)


async def test_an_error_says_how_to_go_on(clock, monkeypatch):
    async with stored(clock, monkeypatch) as (client, _):
        terminate = client.backend.terminate

        async def failing(id, outcome, *, life):
            if id == "x2":
                raise BackendUnavailable("the store is away")
            return await terminate(id, outcome, life=life)

        monkeypatch.setattr(client.backend, "terminate", failing)
        with pytest.raises(BackendUnavailable) as caught:
            await client.terminate(id_prefix="x")
        (note,) = caught.value.__notes__
        assert note.startswith("3 instances were done before; after=")
        monkeypatch.setattr(client.backend, "terminate", terminate)
        cursor = note.split("'")[1]
        assert await client.terminate(id_prefix="x", after=cursor) == BulkReport(2, 0, None)
        assert await client.count(status="running") == 0


async def test_a_signal_with_an_id_is_got_once(clock):
    flows, waiting = shop()
    async with serving(in_memory(clock), flows) as client:
        handles = [await client.start(waiting, n) for n in range(3)]
        for handle in handles:
            await until_parked(handle)
            await handle.pause()
        first = await client.signal(number, 1, id="recall", workflow=waiting, limit=2)
        assert (first.done, first.after is None) == (2, False)
        again = await client.signal(number, 1, id="recall", workflow=waiting)
        assert again == BulkReport(1, 2, None)
        assert [(await handle.describe()).unread for handle in handles] == [1, 1, 1]


async def test_those_that_have_failed_are_reset_with_code_that_was_mended(clock):
    flows, mended = Registry(), Registry()

    @flows.workflow
    async def adds(n: int) -> int:
        async with SharedLock("adds") if n == 0 else nullcontext():
            await anyio.sleep(1)
            raise ValueError("not written yet")

    @mended.workflow(name="adds")
    async def adds_up(n: int) -> int:
        async with SharedLock("adds") if n == 0 else nullcontext():
            await anyio.sleep(1)
            return n + 1

    backend = in_memory(clock)
    async with serving(backend, flows) as client:
        handles = [await client.start(adds.options(id=f"x{n}"), n) for n in range(4)]
        for handle in handles:
            await handle.wait(status="failed")
    async with serving(backend, mended) as client:
        report = await client.reset(workflow="adds", reason="it is written")
        assert (report.done, report.passed, [*report.refused]) == (3, 0, ["x0"])
        assert "the lock 'adds'" in report.refused["x0"]
        results = [await client.handle(f"x{n}").result() for n in (1, 2, 3)]
        assert results == [2, 3, 4]
        assert (await client.handle("x0").describe()).status == "failed"
        assert await client.reset(workflow="adds", status=["suspended", "terminated"]) == (
            BulkReport(0, 0, None)
        )


async def test_schedules_are_reached_by_their_workflow_alone(clock, monkeypatch):
    async with stored(clock, monkeypatch) as (client, waiting):
        schedule = await client.schedule("daily", Every(hours=24), waiting.bind(1))
        assert (await client.terminate(status="running")).done == 7
        assert (await schedule.describe()).status == "running"


async def test_mistakes_change_nothing(clock, monkeypatch):
    async with stored(clock, monkeypatch) as (client, _):
        for call in (client.cancel, client.terminate, client.pause, client.resume):
            with pytest.raises(ArgumentError, match=r"without a filter would mean every instance"):
                await call()
            with pytest.raises(ArgumentError, match=r"after: the `after` of a report is needed"):
                await call(id_prefix="x", after="x3")
            with pytest.raises(ValueError, match="does nothing to instances that have ended"):
                await call(status=["running", "failed"] if call != client.resume else "failed")
        with pytest.raises(
            ValueError, match=r"resume\(\) does nothing to instances that are running"
        ):
            await client.resume(status="running")
        with pytest.raises(
            ValueError, match=r"reset\(\) does nothing to instances that are completed"
        ):
            await client.reset(status="completed")
        with pytest.raises(ArgumentError, match="the id of a signal cannot be empty"):
            await client.signal(number, 1, id="", id_prefix="x")
        with pytest.raises(ValueMismatch, match="Expected int"):
            await client.signal(number, "one", id_prefix="x")
        with pytest.raises(ValueError, match="limit"):
            await client.cancel(id_prefix="x", limit=-1)
        assert await client.cancel(id_prefix="x", limit=0) == BulkReport(0, 0, None)
        assert await client.count(status="running") == 7


async def test_what_has_failed_is_reset(cached):
    """Only what has failed, unless a status says otherwise; what cannot be reset is named."""
    flows, broken = Registry(), [True]

    @flows.workflow
    async def fails(locked: bool) -> str:
        if locked:
            async with SharedLock("door"):
                await number.receive()
                raise KeyError("locked")
        await number.receive()
        if broken:
            raise KeyError("broken")
        return "mended"

    async with cached.worker(flows) as worker:
        client = worker.client
        start = [await client.start(fails.options(id=f"f{n}"), n == 1) for n in range(3)]
        ended = await client.start(fails.options(id="f3"), False)
        for handle in start:
            await until_parked(handle)
            await handle.signal(number, 1)
            with pytest.raises(KeyError):
                await handle.result()
        await ended.terminate()
        broken.clear()
        report = await client.reset(id_prefix="f", reason="mended")
        assert (report.done, report.passed, [*report.refused]) == (2, 0, ["f1"])
        assert "the lock 'door'" in report.refused["f1"]
        assert [await start[n].result() for n in (0, 2)] == ["mended"] * 2
        assert (await start[0].describe()).earlier[0].status == "reset"
        assert await client.count(status="terminated") == 1
        assert await client.reset(id_prefix="f", status="terminated") == BulkReport(1, 0, None)
        await ended.signal(number, 1)
        assert await ended.result() == "mended"


async def test_what_a_reset_of_many_does_not_mean(clock):
    flows, _ = shop()
    async with serving(in_memory(clock), flows) as client:
        with pytest.raises(ArgumentError, match="every instance of the store"):
            await client.reset()
        for status in ("running", "completed"):
            with pytest.raises(ValueError, match=f"nothing to instances that are {status}"):
                await client.reset(status=status)
