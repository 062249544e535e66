"""A wait that goes on though the caller is cancelled."""

# mypy: ignore-errors

from __future__ import annotations

import asyncio
import time

import anyio
import pytest

from tests.worker.flow import Flow
from trioflow._worker import real_host
from trioflow._worker.real_host import running_host


@pytest.fixture(params=["trio", "asyncio"])
def host(request, tmp_path, harness):
    return Flow("memory", request.param, 1000, tmp_path).of(harness)


@pytest.fixture(autouse=True)
def short_look(monkeypatch):
    monkeypatch.setattr(real_host, "_LOOK", 0.02)


async def test_a_cancelled_scope_is_seen_at_the_next_checkpoint(host):
    event = anyio.Event()
    steps = []

    async def wait(scope):
        with scope:
            steps.append(await running_host().outlast(event, 30))
            await anyio.sleep(0)
            steps.append("not cancelled")

    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()
        group.start_soon(wait, scope)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        await anyio.sleep(0.05)
        assert steps == []
        event.set()
    assert steps == [True]
    assert scope.cancelled_caught


async def test_its_patience_begins_when_the_caller_is_cancelled(host):
    with anyio.CancelScope() as scope:
        scope.cancel()
        assert not await running_host().outlast(anyio.Event(), 0.01)
        await anyio.sleep(0)
    assert scope.cancelled_caught


def asyncio_task(event, patience):
    steps = []

    async def wait():
        steps.append(await running_host().outlast(event, patience))
        steps.append(asyncio.current_task().cancelling())
        await asyncio.sleep(0)
        steps.append("not cancelled")

    return asyncio.create_task(wait()), steps


@pytest.mark.parametrize("cancels", [1, 2])
@pytest.mark.host("asyncio")
async def test_a_cancelled_task_of_asyncio_waits_too(cancels):
    event = anyio.Event()
    task, steps = asyncio_task(event, 30)
    for _ in range(cancels):
        await asyncio.sleep(0.005)
        task.cancel("why")
    await asyncio.sleep(0.05)
    assert steps == []
    event.set()
    await asyncio.wait([task])
    assert steps == [True, cancels]
    assert task.cancelled()


@pytest.mark.host("asyncio")
async def test_also_if_it_is_cancelled_in_the_round_in_which_a_look_ends():
    event = anyio.Event()
    loop = asyncio.get_running_loop()
    began = loop.time()
    task, steps = asyncio_task(event, 30)
    loop.call_at(began + 0.01, time.sleep, 0.05)  # so that all of these are due together
    loop.call_at(began + 0.03, task.cancel)
    loop.call_at(began + 0.1, event.set)
    await asyncio.wait([task])
    assert steps == [True, 1]
    assert task.cancelled()


def test_also_if_it_is_the_loop_that_ends():
    steps = []

    async def sets_at_last(event):
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.05)
            event.set()

    async def begin():
        event = anyio.Event()
        nonlocal steps
        task, steps = asyncio_task(event, 5)
        other = asyncio.create_task(sets_at_last(event))
        await asyncio.sleep(0.01)
        assert not task.done()
        assert not other.done()

    asyncio.run(begin())
    assert steps == [True, 1]
