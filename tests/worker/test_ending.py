"""How a worker ends: what runs has its time, however it is ended, and nothing keeps it longer."""

# mypy: ignore-errors

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import anyio
import pytest
import trio

from tests.stores import opened
from tests.worker.flow import Flow, Gate, in_memory
from trioflow import Registry, Signal, activity_info, open_client, open_worker, run_worker
from trioflow.backends.commits import CommitFailure
from trioflow.backends.memory import MemoryBackend
from trioflow.errors import ClientClosed


@pytest.fixture(params=["trio", "asyncio"])
def host(request, tmp_path, harness):
    return Flow("sqlite", request.param, 1000, tmp_path).of(harness)


def gated():
    flows = Registry()
    gates, attempts = [], []

    @flows.activity
    async def wait() -> str:
        attempts.append(activity_info().attempt)
        await gates[0].wait()
        return "finished"

    @flows.workflow
    async def work() -> str:
        return await wait()

    return flows, work, gates, attempts


@pytest.mark.parametrize("call", ["open_worker", "run_worker"])
@pytest.mark.parametrize("cancels", [1, 2])
async def test_a_cancelled_worker_gives_what_runs_its_time(host, call, cancels):
    flows, work, gates, attempts = gated()

    async def serve(url, scope):
        with scope:
            if call == "run_worker":
                await run_worker(url, registry=flows, drain=30)
            async with open_worker(url, registry=flows, drain=30):
                await anyio.sleep_forever()

    gates.append(Gate())
    url = f"sqlite:///{host.file}"
    scopes = [anyio.CancelScope(), anyio.CancelScope()]
    async with open_client(url, registry=flows) as client:
        handle = await client.start(work)
        with scopes[1]:
            async with anyio.create_task_group() as group:
                group.start_soon(serve, url, scopes[0])
                await gates[0].until_entered()
                for scope in scopes[:cancels]:
                    scope.cancel()
                    with anyio.CancelScope(shield=True):
                        await anyio.sleep(0.02)
                assert gates[0].left == []
                gates[0].open()
        assert gates[0].left == ["left"]
        described = await handle.describe()
        assert (described.status, described.result) == ("completed", "finished")
    assert attempts == [1]


async def test_a_cancelled_worker_gives_back_what_does_not_end_in_its_time(host):
    flows, work, gates, _ = gated()

    gates[:] = [Gate()]
    url = f"sqlite:///{host.file}"
    async with open_client(url, registry=flows) as client:
        handle = await client.start(work)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: run_worker(url, registry=flows, drain=0.01))
            await gates[0].until_entered()
            group.cancel_scope.cancel()
        assert len(gates[0].left) == 1
        assert "Cancelled" in gates[0].left[0]
        described = await handle.describe()
        assert described.worker is None
        assert [a.attempt for a in described.activities] == [1]


async def test_a_body_that_fails_gives_what_runs_its_time(host):
    flows, work, gates, _ = gated()

    async def opened_soon():
        await anyio.sleep(0.02)
        gates[0].open()

    gates[:] = [Gate()]
    url = f"sqlite:///{host.file}"
    async with open_client(url, registry=flows) as client:
        async with anyio.create_task_group() as group:
            with pytest.raises(LookupError):  # noqa: PT012
                async with open_worker(url, registry=flows, drain=30) as worker:
                    handle = await worker.client.start(work.options(id="w"))
                    await gates[0].until_entered()
                    group.start_soon(opened_soon)
                    raise LookupError
        handle = client.handle("w", work)
        assert (await handle.describe()).result == "finished"


async def test_neither_a_thread_nor_a_shield_keeps_a_worker_longer(host, caplog):
    flows = Registry()
    release = threading.Event()
    gates = []

    @flows.activity
    def blocks() -> None:
        release.wait(30)

    @flows.activity
    async def shielded() -> None:
        with anyio.CancelScope(shield=True):
            await gates[0].wait()

    @flows.workflow
    async def work() -> None:
        await anyio.gather(blocks(), shielded())

    gates.append(Gate())
    try:
        url = f"sqlite:///{host.file}"
        async with open_client(url, registry=flows) as client:
            async with open_worker(url, registry=flows, drain=0) as worker:
                handle = await worker.client.start(work.options(id="w"))
                await gates[0].until_entered()
            assert gates[0].left == [], "it still runs, and nobody waits for it"
            described = await client.handle(handle.id).describe()
            assert described.worker is None
            assert {a.activity: a.attempt for a in described.activities} == {
                "blocks": 1,
                "shielded": 1,
            }
    finally:
        gates[0].open()  # the loop waits for it
        release.set()
    said = [r.getMessage() for r in caplog.records if "is given up" in r.getMessage()]
    assert len(said) == 2


PROGRAM = """
import sys, threading
import anyio, trio
from trioflow import activity, open_worker, workflow

began, never = threading.Event(), threading.Event()

@activity
def blocks() -> None:
    began.set()
    never.wait()
    anyio.from_thread.run(anyio.sleep, 0)

@workflow
async def work() -> None:
    await blocks()

async def main() -> None:
    async with open_worker("memory://", drain=0) as worker:
        await worker.client.start(work)
        while not began.is_set():
            await anyio.sleep(0.01)
    if "let go" in sys.argv:
        # What was abandoned asks something of a loop that still runs.
        never.set()
        for _ in range(20):
            await anyio.sleep(0.005)
    print("left")

anyio.run(main, backend=sys.argv[1])
print("over")
"""


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("more", [(), ("let go",)])
def test_a_thread_that_blocks_does_not_keep_the_process(backend, more):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, backend, *more],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.stdout, done.returncode) == ("left\nover\n", 0)
    assert "Traceback" not in done.stderr


async def test_a_second_ctrl_c_ends_it_at_once_and_in_order(host):
    """The first one has ended the block; the second comes while it drains."""
    flows, work, gates, _ = gated()

    gates[:] = [Gate()]
    url = f"sqlite:///{host.file}"
    async with open_client(url, registry=flows) as client:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            async with open_worker(url, registry=flows, drain=3600) as worker:
                await worker.client.start(work.options(id="w"))
                await gates[0].until_entered()
                runner = worker._activities
                drain, graces = runner.drain, []

                async def interrupted(grace):
                    graces.append(grace)
                    if len(graces) == 1:
                        raise KeyboardInterrupt
                    await drain(grace)

                runner.drain = interrupted
        assert graces == [3600, 0.0]
        described = await client.handle("w").describe()
        assert described.worker is None
        assert [a.attempt for a in described.activities] == [1]


async def test_it_ends_at_once_though_the_second_ctrl_c_comes_out_of_what_runs(host):
    """As where an activity computes, so that it is interrupted in the loop's place."""
    flows, work, gates, _ = gated()
    ctrl_c = Gate()

    @flows.activity
    async def interrupted() -> None:
        await ctrl_c.wait()
        raise KeyboardInterrupt

    @flows.workflow
    async def other() -> None:
        await interrupted()

    gates[:] = [Gate()]
    url = f"sqlite:///{host.file}"
    async with open_client(url, registry=flows) as client, anyio.create_task_group() as group:

        async def interrupt():
            await anyio.sleep(0.02)
            assert gates[0].left == [], "it drains"
            ctrl_c.open()

        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            async with open_worker(url, registry=flows, drain=3600) as worker:
                await worker.client.start(work.options(id="w"))
                await worker.client.start(other)
                await gates[0].until_entered()
                await ctrl_c.until_entered()
                group.start_soon(interrupt)
        described = await client.handle("w").describe()
        assert described.worker is None
        assert [a.attempt for a in described.activities] == [1]


@pytest.mark.parametrize("host", ["asyncio"], indirect=True)
async def test_a_cancel_of_asyncios_task_while_it_drains_ends_it_at_once_and_in_order(host):
    flows, work, gates, _ = gated()

    gates[:] = [Gate()]
    url = f"sqlite:///{host.file}"
    async with open_client(url, registry=flows) as client:
        handle = await client.start(work)
        task = asyncio.create_task(run_worker(url, registry=flows, drain=3600))
        await gates[0].until_entered()
        task.cancel()
        await asyncio.sleep(0.02)
        assert gates[0].left == [], "it drains"
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        described = await handle.describe()
        assert described.worker is None
        assert [a.attempt for a in described.activities] == [1]


@pytest.mark.parametrize("host", ["asyncio"], indirect=True)
async def test_whoever_waits_for_a_result_hears_of_an_end_at_once(host):
    """Though it is a cancel of asyncio's own that ends the drain."""
    flows, work, gates, _ = gated()
    workers = []

    async def serve():
        async with open_worker("memory://", registry=flows, drain=3600) as worker:
            workers.append(worker)
            await asyncio.sleep(3600)

    gates[:] = [Gate()]
    serving = asyncio.create_task(serve())
    while not workers:
        await asyncio.sleep(0)
    handle = await workers[0].client.start(work)
    waiting = asyncio.create_task(handle.result())
    await gates[0].until_entered()
    serving.cancel()
    await asyncio.sleep(0.02)
    assert not waiting.done(), "it drains"
    serving.cancel()
    await asyncio.wait([serving])
    with pytest.raises(ClientClosed):
        await asyncio.wait_for(waiting, 30)


class Stalling(MemoryBackend):
    """A store whose commits take very long, and which no cancel stops, once it is told so."""

    seconds = 0.0
    refuse = False

    async def commit(self, worker, units):
        with anyio.CancelScope(shield=True):
            await anyio.sleep(self.seconds)
        if self.refuse:
            return [
                CommitFailure(lost=[instance.id for instance in unit.instances]) for unit in units
            ]
        return await super().commit(worker, units)


@pytest.mark.parametrize("refuse", [False, True])
async def test_a_store_that_stalls_ends_the_drain_and_a_line_says_so(refuse, caplog, clock):
    flows = Registry()

    @flows.activity
    async def act(n: int) -> int:
        await anyio.sleep(0.5)
        return n

    @flows.workflow
    async def work() -> int:
        return sum(await anyio.gather(act(1), act(2)))

    async with (
        opened(in_memory(clock, Stalling)) as backend,
        open_worker(backend, registry=flows, drain=1) as worker,
    ):
        handle = await worker.client.start(work)
        await anyio.sleep(0.2)
        backend.seconds, backend.refuse = 20.0, refuse
        await handle.signal(Signal("poke", int), 1)
        await anyio.sleep(0.5)
    assert [r for r in caplog.records if "could not store everything" in r.getMessage()]


async def test_a_worker_that_fails_itself_says_so_and_ends_soon(caplog, clock):
    """Nothing that could store a result is left, so nothing is given any time."""
    flows, work, gates, _ = gated()

    class Broken(MemoryBackend):
        broken = False

        async def take_instances(self, *args, **kwargs):
            if self.broken:
                raise ZeroDivisionError("the schema is gone")
            return await super().take_instances(*args, **kwargs)

    async with opened(in_memory(clock, Broken)) as backend:
        gates[:] = [Gate()]
        began = None
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
            async with open_worker(backend, registry=flows, drain=3600) as worker:
                handle = await worker.client.start(work)
                await gates[0].until_entered()
                backend.broken = True
                began = trio.current_time()
                await handle.signal(Signal("poke", int), 1)
                await anyio.sleep_forever()
        assert caught.value.subgroup(ZeroDivisionError)
        assert trio.current_time() - began < 10
    assert [r for r in caplog.records if "has failed, and ends" in r.getMessage()]
