"""Starting instances and finding them again."""

from __future__ import annotations

import anyio
import msgspec
import pytest
import trio

from tests.client.shop import number, shop
from tests.stores import opened
from tests.worker.flow import Gate, in_memory, until, until_parked
from trioflow import (
    ArgumentError,
    InstanceAlreadyExists,
    InstanceNotFinished,
    InstanceNotFound,
    Registry,
    RemoteError,
    RetryPolicy,
    UnknownDefinition,
    open_worker,
    set_status,
)
from trioflow.backends.memory import MemoryBackend


async def test_an_id_is_used_once_at_a_time(flow):
    flows, quick, waiting = shop()

    async with flow.worker(flows) as worker:
        client = worker.client
        handle = await client.start(waiting.options(id="x"))
        for definition in (waiting.options(id="x"), quick.options(id="x")):
            with pytest.raises(
                InstanceAlreadyExists,
                match=r"already an instance 'x': .*client.handle\('x', workflow\)",
            ):
                await client.start(definition, 1)
        await until_parked(handle)
        with pytest.raises(InstanceAlreadyExists):
            await client.start(waiting.options(id="x"))
        await handle.signal(number, 1)
        assert await handle.result() == 1
        assert await client.run(quick.options(id="x"), 5) == 5
        assert [e.number for e in await client.handle("x").history()] == [1, 2]
        assert await client.count() == 1


async def test_of_many_that_start_one_id_at_once_one_wins(flow):
    flows, _, waiting = shop()

    outcomes = []

    async def start(client, n):
        try:
            await client.start(waiting.options(id="x"), n)
        except InstanceAlreadyExists:
            outcomes.append("refused")
        else:
            outcomes.append("started")

    async with flow.worker(flows) as worker, flow.client(flows) as client:
        async with anyio.create_task_group() as group:
            for n in range(10):
                group.start_soon(start, worker.client, n)
                group.start_soon(start, client, n)
        assert sorted(outcomes) == ["refused"] * 19 + ["started"]
        handle = client.handle("x", waiting)
        n = (await handle.describe()).input["n"]
        await handle.signal(number, 100)
        assert await handle.result() == 100 + n


class Overtaking(MemoryBackend):
    """Somebody else always creates the same instance just before a worker stores it."""

    async def commit(self, worker, units):
        born = [c.new for unit in units for c in unit.instances if c.new is not None]
        if born:
            await self.create([msgspec.structs.replace(new, life="another") for new in born])
        return await super().commit(worker, units)


async def test_an_instance_that_somebody_else_started_a_moment_before_is_not_taken_for_ones_own(
    clock,
):
    flows, quick, _ = shop()

    async with (
        opened(in_memory(clock, Overtaking)) as backend,
        open_worker(backend, registry=flows, drain=0) as worker,
    ):
        with pytest.raises(InstanceAlreadyExists, match="'x'"):
            await worker.client.start(quick.options(id="x"), 1)
        assert await worker.client.handle("x").result() == 1


async def test_starting_by_name(flow):
    flows, _, _ = shop()

    async with flow.worker(flows) as worker:
        client = worker.client
        assert await client.run("quick", 3) == 3
        assert await client.run("quick", n=4) == 4
        with pytest.raises(UnknownDefinition, match="'quik'.*did you mean 'quick'"):
            await client.start("quik", 1)
        with pytest.raises(ArgumentError, match="'n'"):
            await client.start("quick", "x")
        with pytest.raises(ArgumentError, match="@workflow"):
            await client.start(print, 1)
        assert await client.count() == 2


async def test_a_description_says_everything(flow):
    flows = Registry()
    gates = []

    @flows.activity
    async def pack(item: str) -> str:
        await gates[0].wait()
        return item

    @flows.workflow
    async def ship(item: str) -> str:
        set_status({"packing": item})
        with trio.fail_after(3600):
            packed = await pack(item)
        set_status(["done"])
        return packed

    gates[:] = [Gate()]
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(ship.options(id="s"), "pen")
        await gates[0].until_entered()
        d = await handle.describe()
        assert (d.id, d.execution, d.workflow, d.queue) == ("s", 1, "ship", "default")
        assert (d.status, d.input, d.custom_status) == (
            "running",
            {"item": "pen"},
            {"packing": "pen"},
        )
        assert (d.result, d.failure, d.reason, d.suspension) == (None,) * 4
        assert (d.turns, d.events, d.unread) == (1, 2, 0)
        assert d.worker
        assert d.wakes_at == pytest.approx(d.created_at + 3600, abs=60)
        assert d.finished_at is None
        (activity,) = d.activities
        assert (activity.activity, activity.attempt) == ("pack", 1)
        assert activity.key.instance == "s"
        (stats,) = await worker.client.stats()
        assert (stats.running, stats.running_activities) == (1, 1)
        (known,) = await worker.client.workers()
        assert (known.name, known.instances, known.activities) == (worker.name, 1, 1)
        assert (known.queues, known.activity_queues) == (["default"], ["default"])
        assert known.version
        gates[0].open()
        assert await handle.result() == "pen"
        d = await handle.describe()
        assert (d.status, d.result, d.custom_status) == ("completed", "pen", ["done"])
        assert (d.worker, d.wakes_at, d.activities, d.unread) == (None, None, [], 0)
        assert d.finished_at >= d.created_at
        (listed,) = await worker.client.list()
        assert listed == d


async def test_lists_are_filtered_and_paged_newest_first(cached):
    flows, quick, waiting = shop()

    async with cached.worker(flows, queues=["default", "b"]) as worker:
        client = worker.client
        for i in range(7):
            await client.run(quick.options(id=f"q{i}"), i)
        handles = [await client.start(waiting.options(id=f"w{i}", queue="b"), i) for i in range(3)]
        everything = [d.id for d in await client.list()]
        assert everything == ["w2", "w1", "w0", *(f"q{i}" for i in range(6, -1, -1))]
        pages, after = [], None
        while page := await client.list(limit=4, after=after):
            pages.append([d.id for d in page])
            after = page[-1].id
        assert [len(page) for page in pages] == [4, 4, 2]
        assert [id for page in pages for id in page] == everything
        assert len(await client.list(status="running")) == 3
        assert len(await client.list(status=["running", "completed"], limit=5)) == 5
        assert len(await client.list(workflow=quick)) == 7
        assert len(await client.list(workflow="waiting")) == 3
        assert len(await client.list(queue="b")) == 3
        assert len(await client.list(id_prefix="w")) == 3
        assert await client.list(id_prefix="W") == []
        assert len(await client.list(parent="")) == 10
        middle = (await client.handle("q3").describe()).created_at
        assert {d.id for d in await client.list(created_after=middle)} >= {"q4", "w2"}
        assert {d.id for d in await client.list(created_before=middle)} <= {"q0", "q1", "q2"}
        assert await client.count(status="completed", workflow=quick) == 7
        assert await client.count(status="failed") == 0
        with pytest.raises(InstanceNotFound):
            await client.list(after="nobody")
        for handle in handles:
            await handle.cancel()


async def test_removal_of_one(flow):
    flows, quick, waiting = shop()

    async with flow.worker(flows) as worker:
        client = worker.client
        handle = await client.start(waiting.options(id="x"))
        with pytest.raises(InstanceNotFinished, match="'x'"):
            await handle.remove()
        await handle.signal(number, 1)
        await handle.result()
        await handle.remove()
        for call in ("describe", "result", "history", "remove"):
            with pytest.raises(InstanceNotFound, match="'x'"):
                await getattr(handle, call)()
        assert await client.count() == 0
        assert await client.run(quick.options(id="x"), 1) == 1
        assert [e.number for e in await client.handle("x").history()] == [1]


async def test_removal_of_many_leaves_what_runs(cached):
    flows, quick, waiting = shop()

    async with cached.worker(flows) as worker:
        client = worker.client
        for i in range(12):
            await client.run(quick, i)
        handle = await client.start(waiting)
        assert await client.remove(finished_before=0.0) == 0
        assert await client.remove(finished_before=1e12, limit=5) == 5
        assert await client.remove(finished_before=1e12) == 7
        assert [d.id for d in await client.list()] == [handle.id]
        await handle.signal(number, 1)
        assert await handle.result() == 1


async def test_removal_by_any_filter(cached):
    flows, quick, waiting = shop()

    async with cached.worker(flows) as worker:
        client = worker.client
        for number, stage in enumerate(("new", "new", "old", "old")):
            await client.run(quick.options(attributes={"stage": stage}), number)
        handle = await client.start(waiting.options(attributes={"stage": "old"}))
        with pytest.raises(ArgumentError, match="without a filter.*every finished instance"):
            await client.remove()
        with pytest.raises(ArgumentError, match="without a filter"):
            await client.remove(limit=1)
        assert await client.remove(where={"stage": "older"}) == 0
        assert await client.remove(where={"stage": "old"}) == 2
        assert await client.count(where={"stage": "old"}) == 1
        assert await client.remove(workflow=quick) == 2
        assert [d.id for d in await client.list()] == [handle.id]
        await handle.cancel()


async def test_stats_count_each_queue(cached):
    flows, _, waiting = shop()

    async with cached.client(flows) as client:
        assert await client.stats() == []
        for queue, times in (("a", 3), ("b", 1)):
            for _ in range(times):
                await client.start(waiting.options(queue=queue))
        a, b = await client.stats()
        assert (a.queue, a.running, a.pending_instances) == ("a", 3, 3)
        assert (b.queue, b.running, b.pending_instances) == ("b", 1, 1)


async def test_hundreds_wait_for_one_result_and_one_for_hundreds(flow):
    flows, _, waiting = shop()

    got = []

    async def wait(handle):
        got.append(await handle.result())

    async with flow.worker(flows) as worker, flow.client(flows) as client:
        handle = await worker.client.start(waiting.options(id="one"))
        many = [await worker.client.start(waiting, i) for i in range(100)]
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(wait, handle)
                group.start_soon(wait, client.handle("one"))
            for other in many:
                group.start_soon(wait, other)
            await handle.signal(number, -1)
            for other in many:
                await other.signal(number, 1000)
        assert sorted(got) == [-1] * 200 + [1000 + i for i in range(100)]


async def test_a_client_elsewhere_gets_results_and_errors(cached):
    flows = Registry()

    @flows.activity(retry=RetryPolicy(max_attempts=1))
    async def fail() -> None:
        raise type("Strange", (Exception,), {"__module__": "not.imported"})("odd")

    @flows.workflow
    async def work(ok: bool) -> str:
        if not ok:
            await fail()
        return "fine"

    async with cached.client(flows) as client:
        good = await client.start(work, True)
        bad = await client.start(work, False)
        async with cached.worker(flows):
            assert await good.result() == "fine"
            with pytest.raises(RemoteError, match="odd") as raised:
                await bad.result()
            assert raised.value.type == "not.imported.Strange"
            assert await client.handle(good.id).result() == "fine"


async def test_giving_up_waiting_leaves_the_instance_alone(flow):
    flows, _, waiting = shop()

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(waiting)
        await until_parked(handle)
        with anyio.move_on_after(0.02) as scope:
            await handle.result()
        assert scope.cancelled_caught
        assert worker.client.waiter.waiting == 0
        await handle.signal(number, 4)
        assert await handle.result() == 4


async def test_a_handle_of_an_unknown_instance_says_so_when_used(flow):
    async with flow.client() as client:
        handle = client.handle("nobody")
        assert "nobody" in repr(handle)
        for call in ("result", "describe", "history", "remove", "resume"):
            with pytest.raises(InstanceNotFound, match="'nobody'"):
                await getattr(handle, call)()


async def test_results_come_while_the_worker_holds_and_after_it_let_go(flow):
    """Waiting begins in every phase of an instance's life."""
    flows = Registry()
    gates = []

    @flows.activity
    async def wait() -> int:
        await gates[0].wait()
        return 1

    @flows.workflow
    async def work() -> int:
        return await wait() + await number.receive()

    async def _three(got):
        return len(got) == 3

    gates[:] = [Gate()]
    got = []

    async def result(handle):
        got.append(await handle.result())

    async with flow.worker(flows) as worker, anyio.create_task_group() as group:
        handle = await worker.client.start(work)
        group.start_soon(result, handle)
        await gates[0].until_entered()
        group.start_soon(result, handle)
        gates[0].open()
        await until_parked(handle, turns=2)
        group.start_soon(result, handle)
        await handle.signal(number, 1)
        await until(lambda: _three(got))
        assert await handle.result() == 2
        assert got == [2, 2, 2]
