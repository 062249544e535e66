"""Activities that need asyncio, on both hosts."""

# mypy: ignore-errors

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from trioflow import DefinitionError, Registry

PROGRAM = """
import asyncio, logging, sys
import anyio
from trioflow import InstanceCancelled, RemoteError, RetryPolicy, activity, activity_info
from trioflow import heartbeat, open_worker, workflow
logging.getLogger("trioflow").setLevel(logging.CRITICAL)

began, stopped = [], []

@activity(runtime="asyncio")
async def add(a: int, b: int) -> int:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, a + b)
    return await future

@activity(runtime="asyncio")
async def hang() -> None:
    began.append(True)
    try:
        await asyncio.Event().wait()
    finally:
        stopped.append(True)

@activity(runtime="asyncio", retry=RetryPolicy(max_attempts=2, initial_interval=0))
async def strays() -> None:
    stray = asyncio.ensure_future(asyncio.sleep(10))
    await asyncio.sleep(0)
    stray.cancel()
    await stray

@activity(runtime="asyncio", retry=RetryPolicy(max_attempts=2, initial_interval=0))
async def talks() -> list[str]:
    before = activity_info().heartbeat
    if before is None:
        heartbeat("at first")
        await asyncio.sleep(0)
        heartbeat("at last")
        raise OSError("broken")
    return [before]

@workflow
async def talk() -> list[str]:
    return await talks()

@workflow
async def stray() -> str:
    try:
        await strays()
    except RemoteError as exc:
        return exc.type

@workflow
async def adds() -> list[int]:
    return list(await anyio.gather(add(1, 2), add(3, 4)))

@workflow
async def hangs() -> None:
    await hang()

async def main() -> None:
    async with open_worker("memory://") as worker:
        assert await worker.client.run(adds) == [3, 7]
        assert "Cancelled" in await worker.client.run(stray)
        assert await worker.client.run(talk) == ["at last"]
        handle = await worker.client.start(hangs)
        with anyio.fail_after(20):
            while not began:
                await anyio.sleep(0.005)
            await handle.cancel()
            try:
                await handle.result()
            except InstanceCancelled:
                pass
            else:
                raise AssertionError("it was not cancelled")
    assert stopped == [True]
    print("fine")

anyio.run(main, backend=sys.argv[1])
"""


# In a process of its own: trio-asyncio changes asyncio for good when it is imported.
@pytest.mark.parametrize("host", ["trio", "asyncio"])
def test_an_activity_may_need_asyncio_and_can_be_cancelled(host):
    if host == "trio" and importlib.util.find_spec("trio_asyncio") is None:
        pytest.skip("pip install 'trioflow[asyncio]'")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, host],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("fine\n", "", 0)


def test_a_plain_function_cannot_run_in_asyncio():
    with pytest.raises(DefinitionError, match="runtime='asyncio' does not fit"):

        @Registry().activity(runtime="asyncio")
        def plain() -> None: ...
