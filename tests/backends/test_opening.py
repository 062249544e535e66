"""A backend's object may be opened by several at the same time: it is opened once."""

from __future__ import annotations

import threading

import anyio
import pytest

from tests.stores import ALL, marked, open_store
from trioflow.backends._common.connections import Connections
from trioflow.backends._common.thread import CallGroup
from trioflow.backends.commits import NewInstance
from trioflow.errors import BackendUnavailable


@pytest.mark.parametrize("store", marked(ALL))
async def test_who_opens_it_at_the_same_time_finds_it_open(store, host, tmp_path, servers):
    backend = open_store(store, tmp_path, servers)()
    before = set(threading.enumerate())
    numbers = []

    async def use(number):
        await backend.open()
        await backend.create([NewInstance(f"i{number}", "w", "default", b"{}")])
        numbers.append((await backend.get(f"i{number}")).id)

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(use, number)
    await backend.open()
    await backend.aclose()
    assert sorted(numbers) == ["i0", "i1", "i2"]
    assert set(threading.enumerate()) == before


class Slow:
    """A connection that is not there before it is let through."""

    def __init__(self):
        self.begun, self.may_end, self.closed = (threading.Event() for _ in range(3))
        self.tried = 0
        self.first_fails = False

    def connect(self):
        self.tried += 1
        self.begun.set()
        self.may_end.wait()
        if self.first_fails and self.tried == 1:
            raise BackendUnavailable("it is away")
        return self

    def close(self):
        self.closed.set()


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_if_the_first_does_not_get_through_the_next_one_opens(host, how):
    slow = Slow()
    connections = Connections("a store", slow.connect, slow.connect)
    said, scopes = [], []

    async def first():
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            try:
                await connections.open_once(connections.open)
            except BackendUnavailable:
                said.append("unavailable")
        said.append(scope.cancelled_caught)

    async def second():
        await connections.open_once(connections.open)
        said.append("second")

    before = set(threading.enumerate())
    async with anyio.create_task_group() as group:
        group.start_soon(first)
        while not slow.begun.is_set():
            await anyio.sleep(0)
        group.start_soon(second)
        await anyio.sleep(0)
        assert slow.tried == 1
        slow.first_fails = how == "fails"
        if how == "is cancelled":
            scopes[0].cancel()
            await anyio.sleep(0)
        slow.may_end.set()
    assert said[-1] == "second"
    assert connections.are_open
    await connections.aclose(lambda _: None)
    assert set(threading.enumerate()) == before


async def test_a_connection_that_is_not_waited_for_is_closed_once_it_is_there(host):
    slow = Slow()
    connections = Connections("a store", slow.connect, slow.connect)
    calls = CallGroup()

    async def opening():
        with calls.entered():
            await connections.open_once(connections.open)

    async with anyio.create_task_group() as group:
        group.start_soon(opening)
        while not slow.begun.is_set():
            await anyio.sleep(0)
        calls.leave()
        group.cancel_scope.cancel()
    assert not connections.are_open
    slow.may_end.set()
    assert await anyio.to_thread.run_sync(slow.closed.wait, 30)
