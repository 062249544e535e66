"""A worker for tests with signals: ``python -m tests.crash.program HOST URL LOG LEASE DRAIN``."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
import trio

from trioflow import Registry, Signal, activity_info, run_worker

registry = Registry()
never = Signal("never", int)
LONG = 20 * 3600.0  # seconds; nothing here waits for it


def note(what: str) -> None:
    info = activity_info()
    line = f"{what} {info.instance} {info.attempt} {os.getpid()}\n"
    with Path(os.environ["LOG"]).open("a") as log:
        log.write(line)


@registry.activity
async def take(seconds: float) -> int:
    note("start")
    await anyio.sleep(seconds)
    note("end")
    return os.getpid()


@registry.workflow
async def steps(count: int, seconds: float) -> list[int]:
    return [await take(seconds) for _ in range(count)]


@registry.workflow
async def sleeper() -> None:
    await trio.sleep(LONG)


@registry.workflow
async def receiver() -> int:
    return await never.receive()


@registry.workflow
async def cleaner() -> None:
    try:
        await trio.sleep(LONG)
    finally:
        with trio.CancelScope(shield=True):
            await take(0.0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, LONG)
                nursery.start_soon(never.receive)


async def unhurried(work: Callable[[], Awaitable[None]]) -> None:
    """Run without warnings of slow callbacks, whose time asyncio counts by the wall clock."""
    asyncio.get_running_loop().slow_callback_duration = LONG
    await work()


def main() -> None:
    host, url, log, *times = sys.argv[1:]
    os.environ["LOG"] = log
    lease, drain = map(float, times)
    work = partial(run_worker, url, registry=registry, lease=lease, drain=drain)
    if host == "trio":
        trio.run(work)
    else:
        anyio.run(unhurried, work)


if __name__ == "__main__":
    main()
