"""Each of two loops in one thread is told from the other: trio as a guest of asyncio."""

from __future__ import annotations

import asyncio

import anyio
import pytest
import trio

from tests.worker.flow import Flow
from trioflow import InstanceCancelled, Registry

flows = Registry()


@flows.activity
async def double(n: int) -> int:
    await anyio.sleep(0)
    return 2 * n


@flows.activity
def triple(n: int) -> int:
    return 3 * n


@flows.workflow
async def work(n: int) -> int:
    await trio.sleep(0.001)
    return await double(n) + await triple(n)


@flows.workflow
async def endless() -> None:
    await trio.sleep_forever()


async def use(path, kind):
    """Do what asks which loop runs: a worker, its client, another one, cancels of both kinds."""
    async with Flow(kind, "", 1000, path) as flow, flow.worker(flows) as worker:
        assert await worker.client.run(work, 2) == 10
        handle = await worker.client.start(endless)
        with anyio.move_on_after(0.01) as scope:
            await handle.result()
        assert scope.cancelled_caught
        await handle.cancel("enough")
        with pytest.raises(InstanceCancelled):
            await handle.result()
        async with flow.client(flows) as client:
            assert (await client.handle(handle.id).describe()).status == "cancelled"


@pytest.mark.host("asyncio")
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_asyncio_is_told_from_a_guest_run_of_trio_beside_it(tmp_path, kind):
    loop = asyncio.get_running_loop()
    began, ended = asyncio.Event(), loop.create_future()
    end = []

    async def guest():
        end.append((trio.lowlevel.current_trio_token(), trio.Event()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, tmp_path / "guest", kind)
            began.set()
        await end[0][1].wait()

    for name in ("guest", "host"):
        (tmp_path / name).mkdir()
    trio.lowlevel.start_guest_run(
        guest, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=ended.set_result
    )
    await began.wait()
    await use(tmp_path / "host", kind)
    token, event = end[0]
    token.run_sync_soon(event.set)
    (await ended).unwrap()
