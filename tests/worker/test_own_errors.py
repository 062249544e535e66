"""What the block of a worker or a client raises leaves it as it is, and is never lost."""

# mypy: ignore-errors

from __future__ import annotations

import asyncio
from contextlib import aclosing

import anyio
import pytest
import trio

from tests.stores import opened
from tests.worker.flow import Flow, Gate, in_memory
from trioflow import Registry, Signal, open_client, open_worker
from trioflow.backends.memory import MemoryBackend

OPENERS = [open_worker, open_client]
ERRORS = [OSError, KeyboardInterrupt, SystemExit]


@pytest.fixture(params=["trio", "asyncio"])
def host(request, tmp_path, harness):
    return Flow("memory", request.param, 1000, tmp_path).of(harness)


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("error", ERRORS)
async def test_an_error_on_the_way_out_is_raised_though_a_scope_is_cancelled(host, opener, error):
    mine = error("the cleanup of the service has failed")

    with pytest.raises(error) as caught:  # noqa: PT012
        with anyio.CancelScope() as scope:
            async with opener(await host.backend(), registry=Registry()):
                try:
                    scope.cancel()
                    await anyio.sleep_forever()
                finally:
                    raise mine
    assert caught.value is mine
    await anyio.sleep(0)  # the cancel stays inside its scope


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("host", ["asyncio"], indirect=True)
async def test_an_error_is_raised_though_the_task_of_asyncio_is_cancelled(host, opener):
    mine = OSError("mine")

    async def serve(backend):
        async with opener(backend, registry=Registry()):
            try:
                await asyncio.sleep(3600)
            finally:
                asyncio.current_task().cancel()  # comes while the group is left
                raise mine

    task = asyncio.create_task(serve(await host.backend()))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert task.exception() is mine


class Verdict(BaseException):
    """As pytest's own are, and hypothesis'."""


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize(
    "mine", [Verdict(), BaseExceptionGroup("of two tasks", [KeyboardInterrupt(), OSError()])]
)
async def test_what_is_no_exception_leaves_as_it_is_too(host, opener, mine):
    with pytest.raises(type(mine)) as caught:
        async with opener(await host.backend(), registry=Registry()):
            raise mine
    assert caught.value is mine


@pytest.mark.parametrize("opener", OPENERS)
async def test_a_generator_with_a_block_in_it_can_be_closed(host, opener):
    backend = await host.backend()

    async def serve():
        async with opener(backend, registry=Registry()):
            yield

    async with aclosing(serve()) as served:
        async for _ in served:
            break


@pytest.mark.parametrize("opener", OPENERS)
async def test_a_cancel_in_a_group_stays_a_cancel(host, opener):
    mine = OSError("mine")

    async def fail():
        try:
            await anyio.sleep_forever()
        finally:
            raise mine

    with pytest.raises(BaseExceptionGroup) as caught:  # noqa: PT012
        with anyio.CancelScope() as scope:
            backend = await host.backend()
            async with opener(backend, registry=Registry()), anyio.create_task_group() as group:
                group.start_soon(fail)
                await anyio.sleep(0)
                scope.cancel()
    assert caught.value.split(OSError)[1] is None


@pytest.mark.parametrize("opener", OPENERS)
async def test_a_mere_cancel_stays_a_cancel(host, opener):
    with anyio.CancelScope() as scope:
        async with opener(await host.backend(), registry=Registry()):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_an_activitys_ctrl_c_is_raised_though_a_scope_is_cancelled(host):
    flows = Registry()
    gate = []

    @flows.activity
    async def interrupted() -> None:
        try:
            await gate[0].wait()
        finally:
            raise KeyboardInterrupt  # when the drain is over

    @flows.workflow
    async def work() -> None:
        await interrupted()

    gate.append(Gate())
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        with anyio.CancelScope() as scope:
            async with host.worker(flows) as worker:
                await worker.client.start(work)
                await gate[0].until_entered()
                scope.cancel()


async def test_both_are_raised_if_the_worker_has_failed_too(clock):
    class Broken(MemoryBackend):
        broken = False

        async def take_instances(self, *args, **kwargs):
            if self.broken:
                raise ZeroDivisionError
            return await super().take_instances(*args, **kwargs)

    flows = Registry()

    @flows.workflow
    async def work() -> None:
        await trio.sleep_forever()

    mine = OSError("mine")

    async with opened(in_memory(clock, Broken)) as backend:
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
            async with open_worker(backend, registry=flows) as worker:
                try:
                    handle = await worker.client.start(work)
                    backend.broken = True
                    await handle.signal(Signal("poke", int), 1)
                    await anyio.sleep_forever()
                finally:
                    raise mine
        assert caught.value.subgroup(ZeroDivisionError)
        assert mine in caught.value.exceptions


async def test_a_workflows_ctrl_c_ends_the_worker_in_order(host, recwarn):
    flows = Registry()
    steps = []

    @flows.workflow
    async def interrupted() -> int:
        steps.append("step")
        if len(steps) == 1:
            raise KeyboardInterrupt
        return 1

    backend = await host.backend()
    async with open_client(backend, registry=flows) as client:
        await client.start(interrupted.options(id="w"))
    with pytest.raises(KeyboardInterrupt):
        async with host.worker(flows, backend=backend, drain=3600):
            await anyio.sleep_forever()
    async with host.worker(flows, backend=backend) as worker:
        assert await worker.client.handle("w", interrupted).result() == 1
    assert not recwarn.list


async def test_ctrl_c_while_work_is_taken_gives_what_runs_its_time(host):
    flows = Registry()
    gate = []

    @flows.activity
    async def wait() -> str:
        await gate[0].wait()
        return "finished"

    @flows.workflow
    async def work() -> str:
        return await wait()

    @flows.workflow
    async def idle() -> None:
        await trio.sleep_forever()

    gate.append(Gate())
    backend = await host.backend()
    take = backend.take_instances

    async def interrupted(*args, **kwargs):
        if gate[0].entered:
            backend.take_instances = take
            group.start_soon(opened_soon)
            raise KeyboardInterrupt
        return await take(*args, **kwargs)

    async def opened_soon():
        await anyio.sleep(0.02)
        gate[0].open()

    async with anyio.create_task_group() as group:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            async with host.worker(flows, backend=backend, drain=30) as worker:
                backend.take_instances = interrupted
                handle = await worker.client.start(idle)
                await worker.client.start(work.options(id="w"))
                await gate[0].until_entered()
                await handle.signal(Signal("poke", int), 1)
                await anyio.sleep_forever()
    async with host.client(flows) as client:
        assert (await client.handle("w", work).describe()).result == "finished"
