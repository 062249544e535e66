"""What a second worker process adds, where activities take processor time, and what they disturb.

The workers are processes of their own; this one starts the instances and reads what each activity
returned: in which process it ran, and when. All clocks are those of one machine.

A process: ``python -m benchmarks.sharing URL``. Each line that it reads tells it what to do:
``work`` until the next line, or ``burn`` the time of so many activities, which shows what the
machine gives to two processes. It says when it is loaded, at work, and done.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

from benchmarks.flows import burned, single, spin, spin_in_thread
from benchmarks.measuring import Figure, Sizes, alternate, scratch, working
from benchmarks.stores import url_of
from trioflow import Client, Handle, Workflow, open_client
from trioflow.backends.urls import open_backend

__all__ = ["sharing"]

_ROOT = Path(__file__).parents[1]
_SECONDS = 0.02
_Handles = list[Handle[tuple[int, float, float]]]
_Spin = Workflow[[float], tuple[int, float, float]]


class _Ran(NamedTuple):
    """One activity: in which process, and when."""

    pid: int
    began: float
    ended: float


class _Process:
    """A process that does what it is told."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, "-m", "benchmarks.sharing", url]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=_ROOT, stdin=pipe, stdout=pipe, text=True)
        self.pid = self._process.pid

    def tell(self, what: str) -> None:
        """Say what to do."""
        assert self._process.stdin is not None
        print(what, file=self._process.stdin, flush=True)

    async def said(self) -> float:
        """Wait until it says the next thing; return the time that it says."""
        assert self._process.stdout is not None
        line = await trio.to_thread.run_sync(self._process.stdout.readline)
        if not line:
            raise RuntimeError("a process ended by itself; what it printed is above")
        return float(line)

    def end(self) -> None:
        """End its input, and wait for its end."""
        self._process.communicate(timeout=30)


async def sharing(sizes: Sizes) -> list[Figure]:
    """Two worker processes against one, in turns; then a second one that joins a backlog."""
    if sizes.backend == "memory":
        raise ValueError("worker processes cannot share a store in memory")
    with scratch(sizes) as directory:
        url = url_of(sizes.backend, directory)
        async with open_client(url) as client, _loaded(url) as processes:
            figures = await _two_to_one(client, processes, sizes)
            figures += await _joining(client, processes, sizes)
            return [*figures, await _beside(client, processes[0], sizes)]


async def _two_to_one(client: Client, both: list[_Process], sizes: Sizes) -> list[Figure]:
    count, rounds = sizes.of(250, 10), sizes.of(3, 1)
    burn = [partial(_burn, some, count) for some in (both[:1], both)]
    one, two = await alternate(rounds, *burn)
    figures = [Figure("sharing", "two processes to one, no store", two / one)]
    for how, workflow in (("async", spin), ("plain", spin_in_thread)):
        work = [partial(_work, client, some, workflow, count) for some in (both[:1], both)]
        one, two = await alternate(rounds, *work)
        figures += [
            Figure("sharing", f"{count} {how} activities, one worker", one, "/s"),
            Figure("sharing", "two workers", two, "/s"),
            Figure("sharing", f"two workers to one, {how}", two / one, "", ">= 1.7"),
        ]
    return figures


async def _burn(processes: list[_Process], count: int) -> float:
    """Return how often a second the time of an activity is burned."""
    start = time.perf_counter()
    for process in processes:
        process.tell(f"burn {count // len(processes)}")
    ended = [await process.said() for process in processes]
    return count / (max(ended) - start)


async def _work(client: Client, processes: list[_Process], workflow: _Spin, count: int) -> float:
    """Return activities per second, from the first one's beginning to the last one's end."""
    async with _working(processes):
        ran = await _results(client, await _start(client, count, workflow))
    return count / (max(one.ended for one in ran) - min(one.began for one in ran))


async def _joining(client: Client, processes: list[_Process], sizes: Sizes) -> list[Figure]:
    """Let a second worker come while the first has more to do than it can."""
    count = sizes.of(400, 100)
    first, second = processes
    async with _working([first]):
        handles = await _start(client, count, spin)
        await trio.sleep(sizes.of(1000, 200) / 1e3)
        told_at = time.perf_counter()  # it may begin an activity before it says that it is at work
        async with _working([second]):
            ran = await _results(client, handles)
    left = [one for one in ran if one.ended > told_at]
    its = [one for one in ran if one.pid == second.pid]
    # If it got none, it waited until there were none.
    began = min((one.began for one in its), default=max(one.ended for one in ran))
    waited = max(0.0, began - told_at) * 1e3
    return [
        Figure("sharing", f"a second joins {count} at work, to its first", waited, "ms"),
        Figure("sharing", "its share of what was left", len(its) / max(1, len(left))),
    ]


async def _beside(client: Client, process: _Process, sizes: Sizes) -> Figure:
    """Run a small workflow again and again for as long as plain functions compute beside it."""
    count, done = sizes.of(250, 20), 0
    async with _working([process]):
        handles = await _start(client, count, spin_in_thread)
        await handles[0].result()
        start = time.perf_counter()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def until_all_have_ended() -> None:
                await _results(client, handles)
                nursery.cancel_scope.cancel()

            while True:
                await client.run(single, 10)
                done += 1
    rate = done / (time.perf_counter() - start)
    return Figure("sharing", f"workflows beside {count} plain activities that compute", rate, "/s")


@asynccontextmanager
async def _loaded(url: str) -> AsyncIterator[list[_Process]]:
    processes = [_Process(url) for _ in range(2)]
    try:
        for process in processes:
            await process.said()
        yield processes
    finally:
        for process in processes:
            process.end()


@asynccontextmanager
async def _working(processes: list[_Process]) -> AsyncIterator[None]:
    for process in processes:
        process.tell("work")
        await process.said()
    yield
    for process in processes:
        process.tell("stop")
        await process.said()


async def _start(client: Client, count: int, workflow: _Spin) -> _Handles:
    handles: _Handles = []

    async def start() -> None:
        handles.append(await client.start(workflow, _SECONDS))

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(start)
    return handles


async def _results(client: Client, handles: _Handles) -> list[_Ran]:
    # Seldom, since every look costs what the workers could use.
    while await client.count(status="running"):  # noqa: ASYNC110
        await trio.sleep(0.1)
    return [_Ran(*await handle.result()) for handle in handles]


async def _worker(url: str) -> None:
    async with working(open_backend(url)):
        _say_when()
        await trio.to_thread.run_sync(sys.stdin.readline)


def _say_when() -> None:
    print(time.perf_counter(), flush=True)


def _main(url: str) -> None:
    # As in the measuring process.
    logging.getLogger("trioflow.backends.redis").setLevel(logging.ERROR)
    _say_when()
    while line := sys.stdin.readline():
        what, *number = line.split()
        if what == "work":
            trio.run(_worker, url)
        else:
            for _ in range(int(number[0])):
                burned(_SECONDS)
        _say_when()


if __name__ == "__main__":
    _main(sys.argv[1])
