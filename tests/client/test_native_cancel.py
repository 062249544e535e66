"""Cancels of asyncio's own during a client's call: that call raises them, and nobody else."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager

import anyio
import pytest

from trioflow import InstanceNotFound, Registry, Signal, open_client, open_worker
from trioflow._client.native_cancel import raises_native_cancels
from trioflow.backends.sqlite.backend import SqliteBackend

flows = Registry()
number = Signal("number", int)


@flows.workflow
async def echo(n: int) -> int:
    return n


CALLS = {
    "start": lambda client: client.start(echo.options(id="new"), 1),
    "list": lambda client: client.list(),
    "count": lambda client: client.count(),
    "stats": lambda client: client.stats(),
    "troubles": lambda client: client.troubles(),
    "workers": lambda client: client.workers(),
    "remove": lambda client: client.remove(finished_before=1),
    "describe": lambda client: client.handle("there").describe(),
    "history": lambda client: client.handle("there").history(),
    "result": lambda client: client.handle("there").result(),
    "signal": lambda client: client.handle("there").signal(number, 1),
    "cancel": lambda client: client.handle("there").cancel(),
    "terminate": lambda client: client.handle("there").terminate(),
    "resume": lambda client: client.handle("there").resume(),
    "remove one": lambda client: client.handle("there").remove(),
    "of nobody": lambda client: client.handle("nobody").resume(),
}


class Store:
    """A store whose thread can be stopped before what it is asked next."""

    def __init__(self, backend):
        self.backend = backend

    @asynccontextmanager
    async def busy(self):
        begun, go = threading.Event(), threading.Event()

        def stop():
            begun.set()
            assert go.wait(30)

        waits = asyncio.ensure_future(self.backend._connections.thread.run(stop))
        await asyncio.to_thread(begun.wait, 30)
        self.go = go.set
        try:
            yield
        finally:
            go.set()
            await waits


pytestmark = pytest.mark.host("asyncio")


@asynccontextmanager
async def with_client(tmp_path, *, worker=False):
    backend = SqliteBackend(tmp_path / "x.db")
    async with open_client(backend, registry=flows) as client:
        await client.start(echo.options(id="there"), 1)
        if worker:
            async with open_worker(backend, registry=flows, drain=0) as here:
                yield Store(backend), here.client
        else:
            yield Store(backend), client
    await backend.aclose()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_timeout_of_asyncio_is_raised_inside_its_block(tmp_path, call):
    async with with_client(tmp_path) as (store, client), store.busy():
        asyncio.get_running_loop().call_later(0.01, store.go)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await call(client)
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0)


async def test_a_start_through_a_worker_too(tmp_path):
    async with with_client(tmp_path, worker=True) as (store, client):
        async with store.busy():
            task = asyncio.ensure_future(client.start(echo.options(id="new"), 5))
            for _ in range(10):
                await asyncio.sleep(0)
            task.cancel("enough")
            store.go()
            with pytest.raises(asyncio.CancelledError, match="enough") as caught:
                await task
        notes = "".join(getattr(caught.value, "__notes__", ()))
        assert await client.handle("new").result() == 5
        assert notes == "instance 'new' was started all the same"


@pytest.mark.parametrize("worker", [False, True])
async def test_a_task_of_many_calls_hears_it(tmp_path, worker):
    async with with_client(tmp_path, worker=worker) as (_, client):
        done = 0

        async def calls():
            nonlocal done
            while True:
                await client.count()
                await client.start(echo, 1)
                done += 1

        task = asyncio.ensure_future(calls())
        while done < 3:
            await asyncio.sleep(0)
        before = done
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        assert done <= before + 1
        assert task.cancelling() == 1


async def test_a_cancel_that_is_due_comes_before_anything_is_done(tmp_path):
    async with with_client(tmp_path) as (_, client):

        async def start():
            asyncio.current_task().cancel()
            await client.start(echo.options(id="new"), 1)

        with pytest.raises(asyncio.CancelledError):
            await asyncio.ensure_future(start())
        with pytest.raises(InstanceNotFound):
            await client.handle("new").describe()


async def test_a_cancelled_task_may_call_while_it_cleans_up(tmp_path):
    async with with_client(tmp_path) as (_, client):
        counts = []

        async def clean_up():
            try:
                await asyncio.sleep(3600)
            finally:
                counts.append(await client.count())

        task = asyncio.ensure_future(clean_up())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert counts == [1]


async def test_a_task_group_ends_its_tasks_by_it(tmp_path):
    async with with_client(tmp_path) as (store, client):
        async with store.busy():
            others = []

            async def fails():
                asyncio.get_running_loop().call_later(0.01, store.go)
                raise ValueError("no")

            async def both():
                async with asyncio.TaskGroup() as group:
                    others.append(group.create_task(client.start(echo, 1)))
                    group.create_task(fails())

            with pytest.raises(ExceptionGroup) as caught:
                await asyncio.ensure_future(both())
        assert caught.group_contains(ValueError, match="no")
        assert [other.cancelled() for other in others] == [True]


async def test_scopes_of_anyio_get_the_handle(tmp_path):
    async with with_client(tmp_path) as (store, client):
        async with store.busy():
            handle = None
            with anyio.CancelScope() as scope:
                loop = asyncio.get_running_loop()
                loop.call_later(0.01, scope.cancel)
                loop.call_later(0.03, store.go)
                handle = await client.start(echo.options(id="new"), 1)
            assert scope.cancel_called
            assert not scope.cancelled_caught
            await asyncio.sleep(0)
        assert (await handle.describe()).id == "new"


@pytest.mark.parametrize("opened", [open_client, open_worker])
@pytest.mark.host("asyncio")
async def test_opening_and_closing_too(tmp_path, opened):
    url = f"sqlite:///{tmp_path}/x.db"
    entered = False
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0), opened(url, registry=flows):
            entered = True
    assert not entered
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as timeout, opened(url, registry=flows):
            timeout.reschedule(0)
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(0)


@pytest.mark.host("asyncio")
async def test_an_error_of_the_call_gives_way():
    @raises_native_cancels
    async def fails():
        asyncio.current_task().cancel("enough")
        raise ValueError("no")

    task = asyncio.ensure_future(fails())
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
