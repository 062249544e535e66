"""What `test_processes` runs in other processes: `main` with a URL and a kind."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import trio

from trioflow import Registry, RetryPolicy, Signal, open_client, open_worker

flows = Registry()
number = Signal("number", int)


class FarAway(Exception):
    pass


@flows.activity(queue="far")
async def pid() -> int:
    return os.getpid()


@flows.activity(queue="far", retry=RetryPolicy(max_attempts=1))
async def fail() -> None:
    raise FarAway("in another process", 3)


@flows.activity(queue="far")
async def wait(path: str) -> None:
    note(path, "entered")
    try:
        await trio.sleep_forever()
    finally:
        note(path, "left")


def note(path: str, line: str) -> None:
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


@flows.workflow
async def pids(times: int) -> list[int]:
    return list(await anyio.gather(*[pid() for _ in range(times)]))


@flows.workflow
async def failing() -> None:
    await fail()


@flows.workflow
async def waiting(path: str) -> None:
    await wait(path)


@flows.workflow
async def adding(n: int) -> int:
    return n + await number.receive()


async def main(url: str, kind: str) -> None:
    if kind == "client":
        async with open_client(url) as client:
            handle = await client.start(adding.options(id="from elsewhere"), 1)
            await handle.signal(number, 2)
            print(await handle.result(), flush=True)  # noqa: T201 - the test reads it
        return
    async with open_worker(
        url, registry=flows, queues=["far"], workflows=False, drain=0, lease=0.9
    ):
        print("ready", flush=True)  # noqa: T201 - the test reads it
        await trio.sleep_forever()
