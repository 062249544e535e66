"""A handle that `start()` gave, and a wait for a result, mean one life of an id and no other."""

from __future__ import annotations

from itertools import chain

import anyio
import anyio.lowlevel
import msgspec
import pytest
import trio

from tests.client.shop import number, shop
from tests.stores import opened
from tests.worker.flow import Gate, in_memory, until, until_parked
from trioflow import (
    ClientClosed,
    InstanceCancelled,
    InstanceFinished,
    InstanceNotFinished,
    InstanceNotFound,
    InstanceTerminated,
    Registry,
    continue_as_new,
    open_client,
    open_worker,
    set_status,
)
from trioflow._client.waiting import _Waiter
from trioflow.backends.commits import NewInstance
from trioflow.backends.memory import MemoryBackend

GONE = (InstanceTerminated, InstanceNotFound)


class Waiting:
    """Somebody who waits for a result, and what came of it."""

    def __init__(self, handle):
        self.handle = handle
        self.came = None

    async def run(self):
        try:
            self.came = await self.handle.result()
        except Exception as exc:
            self.came = exc

    async def until_there(self, client):
        """Wait until a call waits that knows which life it means."""

        async def there():
            waiting = client.waiter._waiters.waiting.values()
            return any(waiter.life is not None for waiter in chain.from_iterable(waiting))

        await until(there)


@pytest.fixture(params=["inside", "outside"])
def place(request):
    """Whose client is meant: that of the worker that holds the instance, or another one."""
    return request.param


async def test_a_bound_handle_never_shows_the_next_life(flow, place):
    flows, quick, waiting = shop()

    async with flow.worker(flows) as worker, flow.client(flows) as outside:
        client = worker.client if place == "inside" else outside
        first = await client.start(quick.options(id="x"), 1)
        assert await first.result() == 1
        second = await client.start(waiting.options(id="x"), 10)
        await until_parked(second)
        assert await first.result() == 1
        old = await first.describe()
        assert (old.status, old.result, old.execution, old.earlier) == ("completed", 1, 1, [])
        assert (await first.wait()).status == "completed"
        assert [each.number for each in await first.history()] == [1]
        with pytest.raises(InstanceNotFound, match="'x'.*another instance has taken its"):
            await first.remove()
        for call in (first.cancel, first.terminate, first.resume):
            with pytest.raises(InstanceFinished, match="'x'"):
                await call()
        with pytest.raises(InstanceFinished, match="'x'"):
            await first.signal(number, 1)
        d = await second.describe()
        assert (d.status, d.turns, d.unread) == ("running", 1, 0)
        unbound = await client.handle("x").describe()
        assert d.earlier == []
        assert [one.result for one in unbound.earlier] == [1]
        assert msgspec.structs.replace(unbound, earlier=[]) == d
        await second.signal(number, 1)
        assert await second.result() == await client.handle("x").result() == 11
        assert len(await second.history()) == 1
        assert len(await client.handle("x").history()) == 2
        await second.remove()
        assert await client.count() == 0
        with pytest.raises(InstanceNotFound):
            await first.result()


async def test_a_description_shows_all_executions_of_an_id(cached):
    flows, quick, waiting = shop()

    @flows.workflow
    async def counting(left: int) -> int:
        set_status(f"{left} left")
        if left:
            continue_as_new(left - 1)
        raise ValueError("no more")

    async with cached.worker(flows) as worker, cached.client(flows) as client:
        await worker.client.run(quick.options(id="x"), 1)
        counted = await worker.client.start(counting.options(id="x"), 1)
        with pytest.raises(ValueError, match="no more"):
            await counted.result()
        cancelled = await client.start(waiting.options(id="x", queue="nobody"), 1)
        await cancelled.cancel("too late")
        present = await client.start(waiting.options(id="x", queue="nobody"), 2)

        d = await client.handle("x").describe()
        assert (d.execution, d.status) == (5, "running")
        one, two, three, four = d.earlier
        assert [each.number for each in d.earlier] == [1, 2, 3, 4]
        assert [each.status for each in d.earlier] == [
            *("completed", "continued", "failed", "cancelled")
        ]
        assert [each.workflow for each in d.earlier] == [
            *(quick.name, counting.name, counting.name, waiting.name)
        ]
        assert (one.result, two.result, three.failure.message) == (1, None, "no more")
        assert (two.custom_status, three.custom_status) == ("1 left", "0 left")
        assert (four.reason, four.turns) == ("too late", 0)
        assert two.life == three.life
        assert len({one.life, two.life, four.life}) == 3
        times = [at for each in d.earlier for at in (each.started_at, each.ended_at)]
        assert [*times, d.created_at] == sorted([*times, d.created_at])
        assert three.started_at == two.ended_at
        assert all(each.undecodable == {} for each in d.earlier)

        failed = await counted.describe()
        assert (failed.status, failed.input, failed.execution) == ("failed", {"left": 0}, 3)
        assert [each.number for each in failed.earlier] == [2]
        assert [each.number for each in await counted.history()] == [2, 3]
        assert (await cancelled.describe()).reason == "too late"
        await present.terminate()
        await present.remove()
        with pytest.raises(InstanceNotFound):
            await counted.describe()


async def test_a_bound_handle_has_the_history_of_all_executions_of_its_life(cached):
    flows, quick, _ = shop()

    @flows.workflow
    async def counting(left: int) -> int:
        if left:
            continue_as_new(left - 1)
        return left

    async with cached.worker(flows) as worker:
        await worker.client.run(quick.options(id="x"), 1)
        handle = await worker.client.start(counting.options(id="x"), 2)
        assert await handle.result() == 0
        assert [each.number for each in await handle.history()] == [2, 3, 4]


async def test_a_finished_one_of_the_life_is_removed_and_no_other(cached):
    flows, quick, waiting = shop()

    async with cached.worker(flows) as worker:
        first = await worker.client.start(waiting.options(id="x"))
        with pytest.raises(InstanceNotFinished):
            await first.remove()
        await first.signal(number, 1)
        await first.result()
        second = await worker.client.start(quick.options(id="x"), 2)
        assert await second.result() == 2
        with pytest.raises(InstanceNotFound):
            await first.remove()
        assert await second.result() == 2
        await second.remove()
        with pytest.raises(InstanceNotFound):
            await second.remove()


async def test_of_two_lives_each_waits_for_its_own_end(cached):
    """The worker in the process tells of one, while somebody still waits for the other."""
    flows, _, waiting = shop()

    async with cached.worker(flows) as worker, anyio.create_task_group() as group:
        one = Waiting(await worker.client.start(waiting.options(id="x")))
        group.start_soon(one.run)
        await one.until_there(worker.client)
        waiter = worker.client.waiter
        waiter.tell("x", "another life", "completed", b"{}", waiter.moment())
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        assert one.came is None
        await one.handle.signal(number, 5)
    assert one.came == 5


class Overtaken(MemoryBackend):
    """Before something is removed, somebody uses its id again."""

    meanwhile = None

    async def remove(self, *args, **options):
        if self.meanwhile is not None:
            await self.meanwhile()
        return await super().remove(*args, **options)


async def test_what_took_the_id_before_the_removal_is_not_removed(clock):
    flows, quick, _ = shop()

    async with (
        opened(in_memory(clock, Overtaken)) as backend,
        open_worker(backend, registry=flows, drain=0) as worker,
    ):
        first = await worker.client.start(quick.options(id="x"), 1)
        assert await first.result() == 1

        async def again():
            await anyio.sleep(1)
            assert await worker.client.run(quick.options(id="x"), 2) == 2

        backend.meanwhile = again
        with pytest.raises(InstanceNotFound, match="taken its id"):
            await first.remove()
        assert await worker.client.handle("x", quick).result() == 2


@pytest.mark.parametrize("then", ["removed", "again", "removed and again"])
@pytest.mark.parametrize("bound", [True, False], ids=["bound", "unbound"])
async def test_who_waits_is_not_told_of_the_next_life(cached, place, then, bound):
    flows, quick, waiting = shop()

    async with (
        cached.worker(flows) as worker,
        cached.client(flows) as outside,
        cached.client(flows) as other,
        anyio.create_task_group() as group,
    ):
        client = worker.client if place == "inside" else outside
        handle = await client.start(waiting.options(id="x"))
        await until_parked(handle)
        one = Waiting(handle if bound else client.handle("x"))
        group.start_soon(one.run)
        await one.until_there(client)
        await other.handle("x").terminate("wrong data")
        if "removed" in then:
            await other.handle("x").remove()
        if "again" in then:
            assert await other.run(quick.options(id="x"), 77) == 77
        with anyio.fail_after(30):
            while one.came is None:
                await anyio.sleep(0.002)
        assert isinstance(one.came, GONE), one.came
        if then == "again":
            assert one.came.reason == "wrong data"
            assert isinstance(one.came, InstanceTerminated)
        assert client.waiter.waiting == 0


@pytest.mark.parametrize("then", ["nothing", "removed"])
async def test_who_waits_where_a_worker_holds_it_hears_of_an_end_from_elsewhere(cached, then):
    """The worker is busy with it, and hears of the end by itself, or not at all."""
    flows = Registry()
    gates = []

    @flows.activity
    async def act() -> None:
        await gates[0].wait()

    @flows.workflow
    async def busy() -> None:
        await act()

    gates[:] = [Gate()]
    async with (
        cached.worker(flows) as worker,
        cached.client(flows) as other,
        anyio.create_task_group() as group,
    ):
        handle = await worker.client.start(busy)
        one = Waiting(handle)
        group.start_soon(one.run)
        await gates[0].until_entered()
        await other.handle(handle.id).terminate("from elsewhere")
        if then == "removed":
            await other.handle(handle.id).remove()
        with anyio.fail_after(30):
            while one.came is None:
                await anyio.sleep(0.002)
        assert isinstance(one.came, GONE), one.came


class Silent(MemoryBackend):
    """A store of many processes; it says nothing of changes, and loses what it has."""

    shared = True
    lost = False

    async def get(self, instance):
        return None if self.lost else await super().get(instance)

    async def not_running(self, instances, *, lives=None):
        if self.lost and lives is not None:
            return list(instances)
        return await super().not_running(instances, lives=lives)

    async def wait_change(self, seen, timeout):
        with anyio.move_on_after(timeout):
            await anyio.sleep_forever()


async def test_what_a_store_lost_without_a_word_is_found_out_within_seconds(clock):
    flows, quick, _ = shop()

    async with (
        opened(in_memory(clock, Silent)) as backend,
        open_client(backend, registry=flows) as client,
        anyio.create_task_group() as g,
    ):
        waiting = [Waiting(await client.start(quick, 1)), Waiting(await client.start(quick, 2))]
        for one in waiting:
            g.start_soon(one.run)
        await anyio.sleep(60)
        assert [one.came for one in waiting] == [None, None]
        backend.lost = True
        with anyio.fail_after(5.5):
            while client.waiter.waiting:
                await anyio.sleep(0.1)
        assert [type(one.came) for one in waiting] == [InstanceNotFound] * 2


async def test_of_a_life_that_ended_in_between_the_end_is_told(backend):
    """The id was used again before the one who waits was told."""
    flows, quick, waiting = shop()

    async with open_client(backend, registry=flows) as client:
        for ended in ("completed", "terminated", "not begun"):
            handle = await client.start(waiting.options(id=ended))
            if ended != "not begun":
                await _run_some(backend, flows, handle, send=ended == "completed")
            life = (await backend.get(ended)).life
            if ended != "completed":
                await handle.terminate()
            await client.start(quick.options(id=ended), 77)
            # As a wait that saw the instance at work, and then looks again.
            record = await client.waiter._get(ended, _Waiter(life))
            assert (record.life, record.status) == (life, ended.replace("not begun", "terminated"))
            await backend.remove_executions(4e9, limit=9)
            with pytest.raises(InstanceNotFound, match="another instance has taken its id"):
                await client.waiter._get(ended, _Waiter(life))
            with pytest.raises(InstanceNotFound, match="another instance has taken its id"):
                await handle.describe()


async def _run_some(backend, flows, handle, *, send):
    async with open_worker(backend, registry=flows, drain=0) as worker:
        await until_parked(handle, turns=1)
        if send:
            await worker.client.handle(handle.id).signal(number, 1)
            await handle.result()


@pytest.mark.parametrize("opened", ["client", "worker"])
async def test_a_closed_client_says_so(cached, opened):
    flows, quick, waiting = shop()

    async with cached.client(flows) as other, anyio.create_task_group() as group:
        block = cached.client(flows) if opened == "client" else cached.worker(flows)
        async with block as entered:
            client = entered if opened == "client" else entered.client
            handle = await client.start(waiting.options(id="x"))
            one = Waiting(handle)
            group.start_soon(one.run)
            await one.until_there(client)

        async def sent_away():
            return one.came is not None

        await until(sent_away)
        assert isinstance(one.came, ClientClosed)
        calls = [
            *(handle.result, handle.describe, handle.history, handle.remove, handle.resume),
            *(handle.cancel, handle.terminate, lambda: handle.signal(number, 1)),
            *(client.list, client.count, client.stats, client.workers, client.troubles),
            lambda: client.remove(finished_before=1.0),
            lambda: client.start(quick, 1),
            lambda: client.run(quick, 1),
            lambda: client.handle("x").result(),
        ]
        for call in calls:
            with pytest.raises(ClientClosed, match=r"open_client\(\).*left"):
                await call()
        assert await other.count(status="running") == 1


async def test_what_never_began_is_cancelled_where_nobody_serves(cached, place):
    flows, _, waiting = shop()

    async with cached.worker(flows) as worker, cached.client(flows) as outside:
        client = worker.client if place == "inside" else outside
        handle = await client.start(waiting.options(queue="nobody"))
        one = Waiting(handle)
        async with anyio.create_task_group() as group:
            group.start_soon(one.run)
            await one.until_there(client)
            await handle.cancel("not needed")
        assert isinstance(one.came, InstanceCancelled)
        assert one.came.reason == "not needed"
        d = await handle.describe()
        assert (d.status, d.reason, d.turns) == ("cancelled", "not needed", 0)
        with pytest.raises(InstanceFinished):
            await handle.cancel()


async def test_an_old_row_without_a_life_is_waited_for_and_told(backend):
    flows, _, _ = shop()

    await backend.create([NewInstance("old", "quick", "default", b'{"n": 5}')])
    async with open_client(backend, registry=flows) as client:
        one = Waiting(client.handle("old"))
        async with anyio.create_task_group() as group:
            group.start_soon(one.run)
            await one.until_there(client)
            async with open_worker(backend, registry=flows, drain=0):
                with trio.fail_after(5):
                    while one.came is None:
                        await trio.sleep(0.01)
        assert one.came == 5


@pytest.mark.parametrize(
    "call",
    [
        lambda handle: handle.pause(),
        lambda handle: handle.retry_now(),
        lambda handle: handle.start_update("add", 1),
    ],
    ids=["pause", "retry_now", "start_update"],
)
async def test_a_bound_handle_does_nothing_to_the_next_life(call):
    flows = Registry()

    @flows.workflow
    async def waits() -> None:
        await trio.sleep_forever()

    async with open_client("memory://", registry=flows) as client:
        first = await client.start(waits.options(id="w"))
        await first.terminate()
        second = await client.start(waits.options(id="w"))
        with pytest.raises(InstanceFinished):
            await call(first)
        described = await second.describe()
        assert (described.status, described.unread) == ("running", 0)
