"""Code that no longer fits its history, and histories that grow too long: never damaged."""

from __future__ import annotations

import logging
import sqlite3

import anyio
import pytest
import trio

from tests.stores import PassesOn
from tests.worker.flow import Gate, until, until_parked, until_status
from trioflow import (
    InstanceFinished,
    InstanceNotFound,
    InstanceSuspended,
    Registry,
    Signal,
    info,
    workflow_by_name,
)
from trioflow.backends.records import TakenInstances

number = Signal("number", int)
shop = workflow_by_name("shop")


def versions():
    """Two registries: the second one's code asks for another activity at the same place."""
    first, second = Registry(), Registry()
    for registry in (first, second):

        @registry.activity
        async def pay() -> str:
            return "paid"

        @registry.activity
        async def check() -> str:
            return "checked"

        calls = [pay, check] if registry is first else [check, pay]

        @registry.workflow(name="shop")
        async def work(calls=calls) -> list[str]:
            done = [await calls[0]()]
            await number.receive()
            done.append(await calls[1]())
            return done

    return first, second


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "trioflow.worker")


async def test_divergence_suspends_and_the_right_code_completes(flow):
    first, second = versions()

    async with flow.worker(first) as worker:
        handle = await worker.client.start(shop.options(id="s"))
        await until_parked(handle, turns=2)
    async with flow.worker(second) as worker:
        handle = worker.client.handle("s")
        await handle.signal(number, 1)
        with pytest.raises(InstanceSuspended, match="'s'.*pay"):
            await handle.result(wait_suspended=False)
        described = await handle.describe()
        assert described.status == "suspended"
        assert described.unread == 1
        report = described.suspension
        assert report.kind == "diverged"
        assert "'pay'" in report.recorded
        assert "'check'" in report.current
        assert "test_suspension.py" in report.message
        await handle.resume()
        await until_status(handle, "suspended")
    async with flow.worker(first) as worker:
        handle = worker.client.handle("s")
        await handle.resume()
        assert await handle.result() == ["paid", "checked"]
        with pytest.raises(InstanceFinished):
            await handle.resume()


async def test_waiting_for_a_result_outlasts_the_suspension(flow):
    first, second = versions()

    results = []
    async with flow.worker(first) as worker:
        handle = await worker.client.start(shop.options(id="s"))
        await until_parked(handle, turns=2)
    async with flow.client() as client, anyio.create_task_group() as group:
        handle = client.handle("s")

        async def wait():
            results.append(await handle.result())

        group.start_soon(wait)
        async with flow.worker(second):
            await handle.signal(number, 1)
            await until_status(handle, "suspended")
        assert not results
        async with flow.worker(first):
            await handle.resume()

            async def there():
                return results

            await until(there)
    assert results == [["paid", "checked"]]


async def test_a_timer_of_a_suspended_instance_is_not_forgotten(flow):
    first, second = Registry(), Registry()

    @second.activity
    async def extra() -> None:
        pass

    @first.workflow(name="shop")
    async def before() -> str:
        await trio.sleep(0.2)
        await number.receive()
        return "slept"

    @second.workflow(name="shop")
    async def after() -> str:
        await extra()
        return "slept"

    async with flow.worker(first) as worker:
        handle = await worker.client.start(before)
        await until_parked(handle)
    async with flow.worker(second) as worker:  # before the timer is due, if the machine is quick
        handle = worker.client.handle(handle.id)
        await handle.signal(number, 1)
        await until_status(handle, "suspended")
    async with flow.worker(first) as worker:
        handle = worker.client.handle(handle.id)
        await handle.resume()
        assert await handle.result() == "slept"


async def test_a_result_that_came_while_the_instance_was_suspended_is_there_afterwards(flow):
    flows = Registry()
    gates = []

    @flows.activity
    async def slow() -> str:
        await gates[0].wait()
        return "late"

    @flows.workflow(name="shop", max_events=100)
    async def work(n: int) -> list[str]:
        got = []

        async def call() -> None:
            got.append(await slow())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            for _ in range(n):
                await number.receive()
        return got

    try:
        gates[:] = [Gate()]
        async with flow.worker(flows) as worker:
            handle = await worker.client.start(work, 120)
            await gates[0].until_entered()
            for i in range(120):
                await handle.signal(number, i)
            await until_status(handle, "suspended")
            assert "limit" in (await handle.describe()).suspension.message
            gates[0].open()

            async def arrived():
                d = await handle.describe()
                return not d.activities and d.unread

            await until(arrived)
            work.max_events = 1000
            await handle.resume()
            assert await handle.result() == ["late"]
    finally:
        work.max_events = 100


async def test_the_history_limit_is_announced_and_then_suspends(flow):
    flows = Registry()
    announced = []

    @flows.workflow(max_events=100)
    async def work() -> None:
        while True:
            if info().should_continue_as_new:
                announced.append(info().events)
            await number.receive()

    async def until_taken_in(handle):
        async def nothing_unread():
            d = await handle.describe()
            return d.status == "suspended" or not d.unread

        await until(nothing_unread)

    announced.clear()
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work)
        for i in range(150):
            if i % 10 == 0:
                await until_taken_in(handle)
            await handle.signal(number, i)
            if (await handle.describe()).status == "suspended":
                break
        await until_status(handle, "suspended")
        described = await handle.describe()
        assert described.suspension.kind == "history limit"
        assert "continue_as_new" in described.suspension.message
        assert described.events >= 100
        assert announced
        assert announced[0] >= 80


async def test_resume_of_others(flow):
    flows = Registry()

    @flows.workflow
    async def work() -> int:
        return await number.receive()

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work)
        await until_parked(handle)
        await handle.resume()
        with pytest.raises(InstanceNotFound):
            await worker.client.handle("nobody").resume()
        await handle.signal(number, 1)
        assert await handle.result() == 1


async def test_an_unreadable_history_suspends_with_the_reason(sqlite):
    flows = Registry()

    @flows.workflow
    async def work() -> int:
        return await number.receive()

    async with sqlite.worker(flows) as worker:
        handle = await worker.client.start(work)
        await until_parked(handle)
    connection = sqlite3.connect(sqlite.file)
    connection.execute("UPDATE turns SET data = x'7b7d'")
    connection.commit()
    connection.close()
    async with sqlite.worker(flows) as worker:
        handle = worker.client.handle(handle.id)
        await handle.signal(number, 1)
        with pytest.raises(InstanceSuspended, match="cannot be read"):
            await handle.result(wait_suspended=False)


async def test_a_workflow_that_does_not_wait(flow, caplog):
    """It is suspended with the line, and others go on."""
    caplog.set_level(logging.ERROR, "trioflow.worker")
    flows = Registry()

    @flows.workflow
    async def spins() -> None:
        with trio.move_on_after(1):
            while True:
                await trio.sleep(0)

    @flows.workflow
    async def healthy() -> int:
        return 7

    async with flow.worker(flows, max_steps=1000) as worker:
        bad = await worker.client.start(spins.options(id="bad"))
        assert await worker.client.run(healthy) == 7
        await until_status(bad, "suspended")
        report = (await bad.describe()).suspension
        assert report.kind == "does not wait"
        assert "'bad'" in report.message
        assert f"{__name__.rpartition('.')[2]}.py:" in report.line

        async def logged():
            return "instance 'bad' (spins) is suspended" in caplog.text

        await until(logged)


async def test_one_that_swallows_its_cancel_is_in_the_log_once(sqlite, caplog):
    caplog.set_level(logging.ERROR, "trioflow.worker")
    flows = Registry()

    @flows.workflow
    async def stubborn() -> None:
        while True:
            try:  # noqa: SIM105 - as somebody would write it
                await trio.sleep_forever()
            except BaseException:
                pass

    async with sqlite.worker(flows, max_steps=1000) as worker:
        bad = await worker.client.start(stubborn.options(id="bad"))
        await bad.cancel("enough")
        await until_status(bad, "suspended")
    (said,) = (r.getMessage() for r in caplog.records)
    assert "instance 'bad' (stubborn) is suspended" in said
    assert "catches trio.Cancelled" in said


async def test_the_parent_of_a_suspended_child_gives_its_place_to_others(sqlite):
    flows = Registry()

    @flows.workflow
    async def child() -> None:
        while True:
            await trio.sleep(0)

    @flows.workflow
    async def parent() -> None:
        await child()

    async with sqlite.worker(flows, max_steps=100, max_instances=5) as worker:
        parents = [await worker.client.start(parent) for _ in range(5)]

        async def free():
            described = [await handle.describe() for handle in parents]
            suspended = await worker.client.count(status="suspended")
            return suspended == 5 and all(d.worker is None for d in described)

        await until(free)


class Leaves(PassesOn):
    """Takes no instance after the second turn, so that its deadline is left to the next worker."""

    enough = False

    async def commit(self, worker, units):
        self.enough |= any(commit.number for unit in units for commit in unit.instances)
        return await self._backend.commit(worker, units)

    async def take_instances(self, *args, **options):
        if self.enough:
            return TakenInstances([], None)
        return await self._backend.take_instances(*args, **options)


class Slow(PassesOn):
    """Loads the second time while the commit of what is open then is under way."""

    def __init__(self, backend):
        super().__init__(backend)
        self.loads = 0
        self.storing = anyio.Event()
        self.loaded = anyio.Event()

    async def load(self, ids):
        self.loads += 1
        if self.loads == 2:
            with anyio.move_on_after(2):
                await self.storing.wait()
            self.loaded.set()
        return await self._backend.load(ids)

    async def commit(self, worker, units):
        if self.loads == 2 and not self.loaded.is_set():
            self.storing.set()
            await self.loaded.wait()
            await anyio.sleep(0.05)
        return await self._backend.commit(worker, units)


async def test_a_history_that_diverges_while_a_commit_is_under_way(flow):
    """A signal came after the deadline that ends it: its turn is made again, after a replay."""
    flows = Registry()
    runs = []

    @flows.activity
    async def one() -> int:
        return 1

    @flows.activity
    async def other() -> int:
        return 2

    @flows.workflow
    async def changing() -> int:
        runs.append(1)
        await (one if len(runs) < 3 else other)()
        await trio.sleep(0.1)
        return 1

    async with flow.client(flows) as client:
        handle = await client.start(changing)
        async with flow.worker(flows, backend=Leaves(await flow.backend())):
            await until_parked(handle, turns=2)
        await anyio.sleep(0.15)
        await handle.signal(number, 1)
        async with flow.worker(flows, backend=Slow(await flow.backend()), cache_size=0):
            await until_status(handle, "suspended")
            assert (await handle.describe()).suspension.kind == "diverged"
