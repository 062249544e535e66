"""Activities that leave a nursery or a task group open: the host cancels what runs beside them."""

# mypy: ignore-errors

from __future__ import annotations

import threading

import anyio
import anyio.from_thread
import pytest
import trio

from tests.worker.flow import Flow
from trioflow import Registry, RetryPolicy, activity_info

once = RetryPolicy(max_attempts=1)


@pytest.fixture(params=["trio", "asyncio"])
def host(request, tmp_path, harness):
    return Flow("sqlite", request.param, 1000, tmp_path).of(harness)


def sloppy(flows):
    """Register an activity that leaves a task group open, and a workflow that calls it."""

    @flows.activity(retry=once)
    async def leave_open() -> int:
        group = await anyio.create_task_group().__aenter__()
        group.start_soon(anyio.sleep_forever)
        return 1

    @flows.workflow
    async def careless() -> int:
        return await leave_open()

    @flows.activity
    async def add(n: int) -> int:
        await anyio.sleep(0)
        return n + 1

    @flows.workflow
    async def careful() -> int:
        return await add(1)

    return careless, careful


async def test_only_the_attempt_fails_and_the_worker_goes_on(host, caplog):
    flows = Registry()
    careless, careful = sloppy(flows)

    async with host.worker(flows) as worker:
        for _ in range(3):
            with pytest.raises(RuntimeError, match="scope"):
                await worker.client.run(careless)
            assert await worker.client.run(careful) == 2
    assert caplog.text.count("a task group still open") == 3


async def test_what_ran_beside_it_is_attempted_again(host):
    flows = Registry()
    careless, _ = sloppy(flows)
    attempts, began = [], anyio.Semaphore(0)

    @flows.activity(retry=once)
    async def long(last: bool) -> str:
        attempts.append(activity_info().attempt)
        if not last and len(attempts) <= 3:
            began.release()
            await anyio.sleep_forever()
        return "done"

    @flows.workflow
    async def patient() -> str:
        return await long(False)

    async with host.worker(flows) as worker:
        handles = [await worker.client.start(patient) for _ in range(3)]
        for _ in handles:
            await began.acquire()
        with pytest.raises(RuntimeError, match="scope"):
            await worker.client.run(careless)
        assert [await handle.result() for handle in handles] == ["done"] * 3
    assert attempts == [1] * 6, "none of them has failed"


async def test_a_thread_beside_it_ends_as_usual(host):
    flows = Registry()
    careless, careful = sloppy(flows)
    go, began, calls = threading.Event(), anyio.Event(), []

    @flows.activity(retry=once)
    def compute() -> str:
        calls.append(1)
        anyio.from_thread.run_sync(began.set)
        go.wait(8)
        return "done"

    @flows.workflow
    async def patient() -> str:
        return await compute()

    async with host.worker(flows) as worker:
        handle = await worker.client.start(patient)
        await began.wait()
        with pytest.raises(RuntimeError, match="scope"):
            await worker.client.run(careless)
        assert await worker.client.run(careful) == 2
        go.set()
        assert await handle.result() == "done"
    assert len(calls) == 1


async def test_the_drain_ends_though_one_in_a_broken_group_does_not_stop(host, caplog):
    flows = Registry()
    careless, _ = sloppy(flows)
    began, go = anyio.Event(), anyio.Event()

    @flows.activity
    async def stubborn() -> None:
        began.set()
        with anyio.CancelScope(shield=True):
            await go.wait()

    @flows.workflow
    async def stuck() -> None:
        await stubborn()

    async with host.worker(flows) as worker:
        await worker.client.start(stuck)
        await began.wait()
        with pytest.raises(RuntimeError, match="scope"):
            await worker.client.run(careless)
    assert "is given up" in caplog.text
    go.set()


@pytest.mark.filterwarnings("ignore:Async generator .* was garbage collected:ResourceWarning")
async def test_a_generator_that_is_not_closed(sqlite):
    flows = Registry()
    _, careful = sloppy(flows)

    async def numbers():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            yield 1
            yield 2

    @flows.activity(retry=once)
    async def first() -> int:
        async for number in numbers():
            return number

    @flows.workflow
    async def take() -> int:
        return await first()

    async with sqlite.worker(flows) as worker:
        with pytest.raises(RuntimeError, match="scope"):
            await worker.client.run(take)
        assert await worker.client.run(careful) == 2
