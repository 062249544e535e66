"""When the store is away, or loses an answer, or a workflow hangs: it is told once, and goes on."""

from __future__ import annotations

import logging
import sqlite3

import anyio
import pytest
import trio

from tests.stores import opened
from tests.worker.flow import Flow, Gate, in_memory, until, until_parked
from trioflow import BackendUnavailable, Registry, Signal, open_worker, side_effect
from trioflow._worker.instances.pump import Pump
from trioflow.backends.memory import MemoryBackend
from trioflow.backends.sqlite.backend import SqliteBackend

number = Signal("number", int)


class _Shaky:
    """Refuses calls for a while, or carries them out and loses the answer."""

    away = False
    lose_answers = 0
    refused = 0

    async def commit(self, worker, units):
        self._check()
        result = await super().commit(worker, units)
        if self.lose_answers and any(unit.instances for unit in units):
            self.lose_answers -= 1
            raise BackendUnavailable("the answer was lost")
        return result

    async def take_instances(self, *args, **kwargs):
        self._check()
        return await super().take_instances(*args, **kwargs)

    async def take_activities(self, *args, **kwargs):
        self._check()
        return await super().take_activities(*args, **kwargs)

    async def load(self, ids):
        self._check()
        return await super().load(ids)

    async def get(self, instance):
        self._check()
        result = await super().get(instance)
        self.answered("get")
        return result

    async def reclaim(self, lease):
        self._check()
        result = await super().reclaim(lease)
        self.answered("reclaim")
        return result

    def answered(self, what):
        """Do nothing; a test may listen."""

    async def not_running(self, instances, **options):
        self._check()
        return await super().not_running(instances, **options)

    def _check(self):
        if self.away:
            self.refused += 1
            raise BackendUnavailable("out to lunch")


class ShakyMemory(_Shaky, MemoryBackend):
    pass


class ShakyFile(_Shaky, SqliteBackend):
    pass


@pytest.fixture(params=["memory", "sqlite"])
def shaky(request, tmp_path, harness):
    flow = Flow(request.param, "trio", 1000, tmp_path).of(harness)
    make = ShakyMemory if request.param == "memory" else lambda: ShakyFile(flow.file)
    return flow, make


async def test_a_store_that_is_away_for_a_while_costs_one_warning(shaky, caplog):
    flow, make = shaky
    flows = Registry()

    @flows.activity
    async def step(n: int) -> int:
        return n + 1

    @flows.workflow
    async def work(n: int) -> int:
        n = await step(n)
        n += await number.receive()
        return await step(n)

    with caplog.at_level(logging.WARNING, "trioflow"):
        backend = make()
        await backend.open()
        async with flow.worker(flows, backend=backend) as worker:
            handles = [await worker.client.start(work, i) for i in range(10)]
            for handle in handles:
                await until_parked(handle, turns=2)
            caplog.clear()
            backend.away = True
            for handle in handles:
                await handle.signal(number, 10)

            async def refused():
                return backend.refused >= 2

            await until(refused)
            backend.away = False
            assert [await handle.result() for handle in handles] == [12 + i for i in range(10)]
        await backend.aclose()
    warned = [r.getMessage() for r in caplog.records if "not available" in r.getMessage()]
    assert 1 <= len(warned) <= 2, warned
    assert "out to lunch" in warned[0]


async def test_somebody_who_waits_for_a_result_does_not_notice(shaky):
    flow, make = shaky
    flows = Registry()

    @flows.workflow
    async def work() -> int:
        return await number.receive()

    async def _refused(backend, times):
        return backend.refused >= times

    async def _value(results):
        return results

    backend = make()
    await backend.open()
    async with (
        flow.worker(flows, backend=backend) as worker,
        anyio.create_task_group() as group,
    ):
        handle = await worker.client.start(work)
        await until_parked(handle)
        results = []

        async def wait():
            results.append(await handle.result())

        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        backend.away = True
        await handle.signal(number, 3)
        await until(lambda: _refused(backend, 3))
        backend.away = False
        await until(lambda: _value(results))
        assert results == [3]
    await backend.aclose()


async def test_a_worker_ends_in_order_while_the_store_is_away(clock):
    flows = Registry()
    gates = []

    @flows.activity
    async def wait() -> None:
        await gates[0].wait()

    @flows.workflow
    async def work() -> None:
        await wait()

    async with opened(in_memory(clock, ShakyMemory)) as backend:
        gates[:] = [Gate()]
        async with open_worker(backend, registry=flows, drain=3) as worker:
            await worker.client.start(work)
            await gates[0].until_entered()
            backend.away = True
            began = trio.current_time()
        assert trio.current_time() - began < 15
        assert len(gates[0].left) == 1


@pytest.mark.parametrize("lost", [1, 3])
async def test_a_commit_whose_answer_was_lost_is_neither_lost_nor_doubled(shaky, lost):
    flow, make = shaky
    flows = Registry()
    counted = []

    @flows.activity
    async def count(n: int) -> int:
        counted.append(n)
        return n

    @flows.workflow
    async def child(n: int) -> int:
        return await count(n)

    @flows.workflow
    async def work() -> list[int]:
        got = [await count(1)]
        got.append(side_effect(lambda: 2, int))
        got += await anyio.gather(count(3), child(4))
        await trio.sleep(0.001)
        got.append(await child(5))
        return got

    async def _empty(client):
        return await client.stats() == []

    for skip in range(8):
        counted.clear()
        backend = make()
        await backend.open()
        async with flow.worker(flows, backend=backend) as worker:
            calls = 0
            original = backend.commit

            async def commit(worker, units, skip=skip, backend=backend, original=original):
                nonlocal calls
                calls += 1
                if calls == skip + 1:
                    backend.lose_answers = lost
                return await original(worker, units)

            backend.commit = commit
            handle = await worker.client.start(work.options(id=f"w{skip}"))
            assert await handle.result() == [1, 2, 3, 4, 5]
            (execution,) = await handle.history()
            commands = [c.id for turn in execution.turns for c in turn.commands]
            assert len(commands) == len(set(commands)) == 5
            await until(lambda worker=worker: _empty(worker.client))
        await backend.aclose()


async def test_a_step_that_does_not_come_back_is_reported_with_its_line(cached, caplog):
    flows = Registry()

    def reports():
        """Not what a slow machine makes the watchdog say: that the process stood still."""
        return [r.getMessage() for r in caplog.records if hasattr(r, "workflow")]

    @flows.workflow
    async def stuck() -> int:
        total = 0
        while True:  # until somebody has noticed
            total += 1
            if total % 1000 == 0 and reports():
                return 1

    with caplog.at_level(logging.ERROR, "trioflow.worker"):
        async with cached.worker(flows, stuck_after=0.1) as worker:
            assert await worker.client.run(stuck.options(id="s1")) == 1
    (report,) = reports()
    assert "blocks this worker" in report
    assert "test_trouble.py" in report
    assert "in stuck" in report
    assert "workflow 'stuck' (instance 's1')" in report


async def test_code_that_swallows_everything_is_reported_and_does_not_stop_the_worker(
    cached, caplog
):
    flows = Registry()

    @flows.workflow
    async def stubborn() -> None:
        while True:
            try:  # noqa: SIM105 - as somebody would write it
                await trio.sleep_forever()
            except BaseException:
                pass

    @flows.workflow
    async def work() -> int:
        return await number.receive()

    with caplog.at_level(logging.ERROR, "trioflow.worker"):
        async with cached.worker(flows, cache_size=0) as worker:
            handle = await worker.client.start(stubborn)
            await until_parked(handle)
            other = await worker.client.start(work)
            await other.signal(number, 1)
            assert await other.result() == 1
            await handle.terminate()
    said = [r for r in caplog.records if "could not be unwound" in r.getMessage()]
    assert (said[0].instance, said[0].workflow) == (handle.id, "stubborn")
    line = stubborn.fn.__code__.co_firstlineno + 4  # of the sleep
    assert f"its code at {__file__}:{line} catches" in said[0].getMessage()


async def test_after_an_outage_others_may_first_tell_that_they_live(sqlite):
    """Their heartbeats are old only because the store was away."""
    flows = Registry()
    answered = []

    others = await sqlite.backend()
    backend = ShakyFile(sqlite.file)
    await backend.open()

    def heard(what):
        if not answered:
            others.heartbeat("other")
        answered.append(what)

    async with open_worker(backend, registry=flows, lease=0.9):
        await others.register_worker("other", "")
        backend.away = True
        await until(lambda: _true_when(backend.refused >= 2))
        connection = sqlite3.connect(sqlite.file)
        connection.execute("UPDATE workers SET heartbeat_at = 0 WHERE id = 'other'")
        connection.commit()
        connection.close()
        backend.answered = heard
        backend.away = False
        await until(lambda: _true_when("reclaim" in answered))
        assert others.heartbeat("other").alive
    await backend.aclose()


async def _true_when(condition):
    return condition


async def test_a_worker_ends_though_something_in_it_is_wrong(clock, monkeypatch):
    def wrong(self):
        raise AssertionError("a mistake in the worker")

    monkeypatch.setattr(Pump, "close", wrong)
    with anyio.fail_after(60), pytest.raises(BaseExceptionGroup) as caught:
        async with open_worker(in_memory(clock), registry=Registry(), drain=0):
            pass
    assert caught.group_contains(AssertionError, match="a mistake in the worker")
