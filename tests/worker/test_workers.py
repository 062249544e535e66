"""Several workers on one store: they share, stick, take over, and never do a thing twice."""

from __future__ import annotations

import logging
import sqlite3
import time

import anyio
import pytest
import trio

from tests.worker.flow import Gate, until, until_parked
from trioflow import Registry, RetryPolicy, Signal, activity_info, info, run_worker
from trioflow.backends.records import Heartbeat
from trioflow.backends.sqlite.backend import SqliteBackend

number = Signal("number", int)


class Lost(SqliteBackend):
    """A backend whose process can be cut off: it hears nothing any more, and nobody hears it."""

    lost = False

    def heartbeat(self, worker):
        return Heartbeat(alive=True) if self.lost else super().heartbeat(worker)

    async def release_worker(self, worker, **options):
        if not self.lost:
            await super().release_worker(worker, **options)

    async def commit(self, worker, units):
        return [None] * len(units) if self.lost else await super().commit(worker, units)


def registry_with_gate():
    flows = Registry()
    gate = []
    attempts = []

    @flows.activity
    async def wait(n: int) -> int:
        attempts.append((n, activity_info().attempt))
        await gate[0].wait()
        return n

    @flows.workflow
    async def work(n: int) -> int:
        return await wait(n) + await number.receive()

    return flows, work, gate, attempts


async def test_two_workers_share_the_work(cached):
    flows = Registry()

    @flows.activity
    async def step(n: int) -> int:
        await anyio.lowlevel.checkpoint()
        return n

    @flows.workflow
    async def work(n: int) -> int:
        await trio.sleep(0.001)
        return await step(n)

    async with cached.client(flows) as client:
        handles = [await client.start(work, i) for i in range(60)]
        async with (
            cached.worker(flows, name="a", max_instances=5),
            cached.worker(flows, name="b", max_instances=5),
        ):
            assert [await handle.result() for handle in handles] == list(range(60))


async def test_nothing_runs_on_a_queue_that_nobody_serves(cached):
    flows = Registry()

    @flows.workflow
    async def work() -> str:
        return info().queue

    async with cached.worker(flows, queues=["a"]) as worker:
        there = await worker.client.start(work.options(queue="a"))
        elsewhere = await worker.client.start(work.options(queue="b"))
        assert await there.result() == "a"
        described = await elsewhere.describe()
        assert (described.queue, described.turns, described.status) == ("b", 0, "running")
        (stats,) = await worker.client.stats()
        assert (stats.queue, stats.running, stats.pending_instances) == ("b", 1, 1)
        async with cached.worker(flows, queues=["b"]):
            assert await elsewhere.result() == "b"


async def test_workflows_here_and_activities_there(cached):
    flows = Registry()
    ran = []

    @flows.activity
    async def step(n: int) -> int:
        ran.append(n)
        return n + 1

    @flows.workflow
    async def work() -> int:
        return await step(await step(0))

    async with cached.worker(flows, activities=False) as worker:
        handle = await worker.client.start(work)

        async def waiting():
            return (await handle.describe()).activities

        await until(waiting)
        assert ran == []
        async with cached.worker(flows, workflows=False):
            assert await handle.result() == 2


async def test_an_instance_stays_with_the_worker_that_has_it_in_memory(cached):
    flows = Registry()
    passes = []

    @flows.workflow
    async def work(n: int) -> int:
        passes.append(n)
        return sum([await number.receive() for _ in range(5)])

    async with (
        cached.worker(flows, sticky=30) as first,
        cached.worker(flows, sticky=30),
    ):
        handle = await first.client.start(work, 1)
        for i in range(5):
            await until_parked(handle, turns=i + 1)
            await handle.signal(number, i)
        assert await handle.result() == 10
    assert passes == [1]


async def test_a_worker_that_signs_off_leaves_nothing_to_wait_for(cached):
    flows, work, gate, attempts = registry_with_gate()

    gate.append(Gate())
    async with cached.client(flows) as client:
        async with cached.worker(flows, lease=60, sticky=60):
            handle = await client.start(work, 1)
            await gate[0].until_entered()
        async with cached.worker(flows, lease=60):
            await gate[0].until_entered(2)
            gate[0].open()
            await handle.signal(number, 10)
            assert await handle.result() == 11
    assert attempts == [(1, 1), (1, 1)], "an activity that was given back is the same attempt"


async def test_a_lost_workers_work_is_taken_over(sqlite, caplog):
    flows, work, gate, attempts = registry_with_gate()

    @flows.workflow
    async def waiting() -> int:
        return await number.receive()

    with caplog.at_level(logging.WARNING, "trioflow"):
        gate.append(Gate())
        backend = Lost(sqlite.file)
        await backend.open()
        async with sqlite.client(flows) as client:
            async with sqlite.worker(flows, backend=backend):
                handle = await client.start(work, 1)
                parked = await client.start(waiting)
                await gate[0].until_entered()
                await until_parked(parked)
                backend.lost = True
            await backend.aclose()
            async with sqlite.worker(flows, lease=0.3):
                await gate[0].until_entered(2)
                gate[0].open()
                await handle.signal(number, 10)
                await parked.signal(number, 5)
                assert await handle.result() == 11
                assert await parked.result() == 5
    assert attempts == [(1, 1), (1, 2)]
    assert any("sent no heartbeat for" in r.getMessage() for r in caplog.records)


async def test_a_worker_that_was_declared_dead_begins_anew_and_nothing_is_doubled(cached, caplog):
    flows, work, gate, attempts = registry_with_gate()
    ends = []

    @flows.activity
    async def note(n: int) -> None:
        ends.append(n)

    @flows.workflow
    async def whole(n: int) -> int:
        result = await work.options(id=f"w{n}")(n)
        await note(n)
        return result

    with caplog.at_level(logging.WARNING, "trioflow"):
        gate.append(Gate())
        async with cached.worker(flows, lease=0.6) as worker:
            handles = [await worker.client.start(whole, i) for i in range(5)]
            await gate[0].until_entered(5)
            others = await cached.backend()
            assert len(await others.reclaim(-10.0)) == 1
            for i in range(5):
                await worker.client.handle(f"w{i}").signal(number, 100)
            await gate[0].until_entered(10)
            gate[0].open()
            assert [await handle.result() for handle in handles] == [100 + i for i in range(5)]
            assert await worker.client.stats() == []
    assert sorted(ends) == list(range(5))
    assert sorted(attempts) == [(n, a) for n in range(5) for a in (1, 2)]
    assert any("declared dead" in r.getMessage() for r in caplog.records)


async def test_what_was_given_to_another_worker_takes_nothing_from_the_first(sqlite):
    """Both live, both run the same activity; only who holds the instance may go on with it."""
    flows, work, gate, attempts = registry_with_gate()
    results = []

    @flows.workflow
    async def outer(n: int) -> int:
        return await work.options(id="inner")(n)

    gate.append(Gate())
    async with sqlite.worker(flows, lease=60, max_activities=1) as first:
        handle = await first.client.start(outer.options(id="outer"), 1)
        await gate[0].until_entered()
        async with sqlite.worker(flows, lease=60, name="second"):
            connection = sqlite3.connect(sqlite.file)
            connection.execute("UPDATE activities SET worker=NULL, visible_at=0, attempt=2")
            connection.execute(
                "UPDATE instances SET ready_at = 0, worker = "
                "(SELECT id FROM workers WHERE name = 'second') WHERE id = 'inner'"
            )
            connection.commit()
            connection.close()
            await gate[0].until_entered(2)
            inner = first.client.handle("inner")
            await inner.signal(number, 10)
            gate[0].open()
            results.append(await handle.result())
            (execution,) = await inner.history()
            events = [e for turn in execution.turns for e in turn.events]
            names = sorted(type(event).__name__ for event in events)
            assert names == ["ActivityCompleted", "SignalReceived", "Started"]
    assert results == [11]
    assert sorted(attempts) == [(1, 1), (1, 2)]


async def test_a_long_activity_keeps_its_lease_while_the_loop_is_busy(sqlite):
    flows = Registry()
    attempts = []

    @flows.activity
    async def busy() -> int:
        attempts.append(activity_info().attempt)
        for _ in range(3):
            _block(0.3)
            await anyio.lowlevel.checkpoint()
        return len(attempts)

    @flows.workflow
    async def work() -> int:
        return await busy()

    async with sqlite.worker(flows, lease=0.45) as worker:
        assert await worker.client.run(work) == 1
    assert attempts == [1]


def _block(seconds):
    """Keep the loop's thread busy, but not the heartbeat's."""
    time.sleep(seconds)


async def test_a_drain_lets_activities_finish_in_their_time(flow):
    flows = Registry()
    gates = []

    @flows.activity
    async def wait() -> str:
        await gates[0].wait()
        return "finished"

    @flows.workflow
    async def work() -> str:
        return await wait()

    async def open_soon():
        await anyio.sleep(0.02)
        gates[0].open()

    gates[:] = [Gate()]
    async with flow.client(flows) as client:
        async with anyio.create_task_group() as group, flow.worker(flows, drain=5):
            handle = await client.start(work)
            await gates[0].until_entered()
            group.start_soon(open_soon)
        assert gates[0].left == ["left"]
        described = await handle.describe()
        assert (described.status, described.activities) == ("completed", [])


async def test_an_error_in_the_block_comes_out_and_the_work_is_given_back(flow):
    flows, work, gate, _ = registry_with_gate()

    gate[:] = [Gate()]
    with pytest.raises(LookupError, match="mine"):  # noqa: PT012 - the block is what is tested
        async with flow.worker(flows) as worker:
            handle = await worker.client.start(work.options(id="w"), 1)
            await gate[0].until_entered()
            raise LookupError("mine")
    async with flow.client(flows) as client:
        handle = client.handle("w")
        described = await handle.describe()
        assert described.worker is None
        assert [activity.attempt for activity in described.activities] == [1]


async def test_a_worker_in_a_nursery_says_when_it_is_ready_and_stops_when_cancelled(sqlite):
    flows = Registry()

    @flows.workflow
    async def work() -> int:
        return 1

    url = f"sqlite:///{sqlite.file}"
    async with trio.open_nursery() as nursery:
        start = run_worker
        worker = await nursery.start(lambda **kw: start(url, registry=flows, drain=0, **kw))
        assert await worker.client.run(work) == 1
        nursery.cancel_scope.cancel()
    async with anyio.create_task_group() as group:
        worker = await group.start(lambda **kw: run_worker(url, registry=flows, drain=0, **kw))
        assert await worker.client.run(work) == 1
        group.cancel_scope.cancel()


async def test_a_reclaimed_activity_has_used_up_its_attempts(sqlite):
    """A worker that dies in an attempt counts: what kills its worker must not go on for ever."""
    flows = Registry()
    gate = []
    attempts = []

    @flows.activity(retry=RetryPolicy(max_attempts=2, initial_interval=0.001, jitter=0))
    async def deadly() -> str:
        attempts.append(activity_info().attempt)
        if attempts[-1] == 1:
            await gate[0].wait()
        raise OSError(f"attempt {attempts[-1]}")

    @flows.workflow
    async def work() -> str:
        try:
            return await deadly()
        except OSError as exc:
            return str(exc)

    gate.append(Gate())
    backend = Lost(sqlite.file)
    await backend.open()
    async with sqlite.client(flows) as client:
        async with sqlite.worker(flows, backend=backend):
            handle = await client.start(work)
            await gate[0].until_entered()
            backend.lost = True
        await backend.aclose()
        async with sqlite.worker(flows, lease=0.3):
            assert await handle.result() == "attempt 2"
    assert attempts == [1, 2]
