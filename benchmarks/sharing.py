"""What a second worker process adds, where activities take processor time.

The workers are processes of their own; this one starts the instances and reads what each activity
returned: in which process it ran, and when. All clocks are those of one machine.

A worker: ``python -m benchmarks.sharing URL``. It begins to work when it reads a line, says so once
it is ready, and works until its input ends. Without the URL it is none: it burns the time of as
many activities as the line says, which shows what the machine gives to two processes.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

from benchmarks.flows import burned, spin, spin_in_thread
from benchmarks.measuring import Figure, Sizes, alternate, scratch, working
from benchmarks.stores import url_of
from trioflow import Client, Handle, Workflow, open_client

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


class _Worker:
    """A worker in a process of its own, which is loaded and does nothing yet."""

    def __init__(self, *url: str) -> None:
        command = [sys.executable, "-m", "benchmarks.sharing", *url]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=_ROOT, stdin=pipe, stdout=pipe, text=True)
        self.pid = self._process.pid

    def begin(self, activities: int = 0) -> None:
        """Let it begin."""
        assert self._process.stdin is not None
        print(activities, file=self._process.stdin, flush=True)

    async def said(self) -> float:
        """Wait for its next line: the time when it was loaded, then when it was ready."""
        assert self._process.stdout is not None
        line = await trio.to_thread.run_sync(self._process.stdout.readline)
        if not line:
            raise RuntimeError("a worker ended by itself; what it printed is above")
        return float(line)

    def end(self) -> None:
        """End its input, and wait for its end."""
        self._process.communicate(timeout=30)


async def sharing(sizes: Sizes) -> list[Figure]:
    """Two worker processes against one, in turns; then a second one that joins a backlog."""
    count, rounds = sizes.of(250, 10), sizes.of(3, 1)
    one, two = await alternate(rounds, partial(_bare, 1, count), partial(_bare, 2, count))
    figures = [Figure("sharing", "two processes to one, no store", two / one)]
    with scratch(sizes) as directory:
        url = url_of(sizes.backend, directory)
        async with open_client(url) as client:
            for how, workflow in (("async", spin), ("plain", spin_in_thread)):
                one, two = await alternate(
                    rounds,
                    partial(_speed, client, url, 1, count, workflow),
                    partial(_speed, client, url, 2, count, workflow),
                )
                figures += [
                    Figure("sharing", f"{count} {how} activities, one worker", one, "/s"),
                    Figure("sharing", "two workers", two, "/s"),
                    Figure("sharing", f"two workers to one, {how}", two / one, "", ">= 1.7"),
                ]
            figures += await _joining(client, url, sizes.of(400, 100))
    return figures


async def _bare(processes: int, count: int) -> float:
    """Return how often a second the time of an activity is burned."""
    async with _loaded(processes) as workers:
        start = time.perf_counter()
        for worker in workers:
            worker.begin(count // processes)
        ended = [await worker.said() for worker in workers]
    return count / (max(ended) - start)


async def _speed(client: Client, url: str, processes: int, count: int, workflow: _Spin) -> float:
    """Return activities per second, from the first one's beginning to the last one's end."""
    async with _loaded(processes, url) as workers:
        for worker in workers:
            worker.begin()
            await worker.said()
        ran = await _results(client, await _start(client, count, workflow))
    return count / (max(one.ended for one in ran) - min(one.began for one in ran))


async def _joining(client: Client, url: str, count: int) -> list[Figure]:
    """Let a second worker come while the first has more to do than it can."""
    async with _loaded(2, url) as (first, second):
        first.begin()
        await first.said()
        handles = await _start(client, count, spin)
        # Nothing tells of any of many, but of one that is named.
        while await client.count(status="running") == count:  # noqa: ASYNC110
            await trio.sleep(0.01)
        told_at = time.perf_counter()  # it may have begun an activity before it says "ready"
        second.begin()
        ran = await _results(client, handles)
    left = [one for one in ran if one.ended > told_at]
    its = [one for one in ran if one.pid == second.pid]
    # If it got none, it waited until there were none.
    began = min((one.began for one in its), default=max(one.ended for one in ran))
    of = f"{len(left)} of {count}"
    return [
        Figure(
            "sharing", f"told to join with {of} left, to its first", (began - told_at) * 1e3, "ms"
        ),
        Figure("sharing", "its share of them", len(its) / max(1, len(left))),
    ]


@asynccontextmanager
async def _loaded(count: int, *url: str) -> AsyncIterator[list[_Worker]]:
    workers = [_Worker(*url) for _ in range(count)]
    try:
        for worker in workers:
            await worker.said()
        yield workers
    finally:
        for worker in workers:
            worker.end()


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


async def _work(url: str) -> None:
    async with working(url):
        print(time.perf_counter(), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)


def _main(*url: str) -> None:
    print(time.perf_counter(), flush=True)
    activities = int(sys.stdin.readline() or 0)
    if url:
        trio.run(_work, url[0])
        return
    for _ in range(activities):
        burned(_SECONDS)
    print(time.perf_counter(), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
