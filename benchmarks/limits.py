"""Limits across worker processes that are killed and stopped: what they hold, and what they cost.

Three workers run activities of a queue that is limited to so many at once and so many a second.
Two are killed on the way, with ``kill -9``; the third may be stopped and go on. This process looks
at the store all the time and counts what is leased. When all is done three workers are left alone,
to see what they cost while there is nothing to do.

Alone: ``python -m benchmarks.limits --backend redis --activities 100000``. A worker of it:
``python -m benchmarks.limits --worker URL DIRECTORY``.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import trio

from benchmarks.stores import serving, url_of
from trioflow import Client, Registry, activity_info, open_client, run_worker
from trioflow.backends._common.thread import StorageThread

__all__ = ["Load", "Seen", "hold", "main"]

_ROOT = Path(__file__).parents[1]
_QUEUE = "scarce"
_WORK = 0.02  # seconds of each activity
_EACH = 100  # activities of an instance
_WORKERS = 3
_LOOK = 0.005  # seconds between two looks; more where a look takes long
_LOOKING = 0.2  # what part of the time is spent with looks, at most
_PARTS = 10  # of all, whose speeds are compared
_IDLE = 5.0
_registry = Registry()


@_registry.activity(queue=_QUEUE)
async def use(number: int) -> int:
    """Use what is scarce for a moment, and write down when that began and ended."""
    began = time.time()
    await trio.sleep(_WORK)
    key = activity_info().idempotency_key
    _write_down(f"{began:.6f} {time.time():.6f} {key}\n")
    return number


def _write_down(line: str) -> None:
    with Path(os.environ["LIMITS_LOG"]).open("a") as log:
        log.write(line)


@_registry.workflow
async def many(count: int) -> int:
    """Use it many times at once; return the sum of the numbers."""
    numbers: list[int] = []

    async def one(number: int) -> None:
        numbers.append(await use(number))

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
    return sum(numbers)


@dataclass(frozen=True)
class Load:
    """What is to be done, and how it is limited.

    Attributes:
        activities: How many.
        concurrency: How many at once.
        rate: How many begin within a second.
        stops: Whether the worker that is not killed is stopped for longer than its lease.
        lease: The workers', seconds.
    """

    activities: int = 3_000
    concurrency: int = 50
    rate: int = 500
    stops: bool = False
    lease: float = 3.0


@dataclass
class Seen:
    """What was seen.

    Attributes:
        most_leased: The largest number of leased activities that a look found.
        looks: How many looks there were.
        most_begun: The largest number that began to run within a second.
        done: How many activities are done, each counted once.
        runs: How often one was run to its end.
        seconds: From the first worker's start until the last result.
        speeds: How many a second, of each tenth of them.
        memory: The most that the worker used that is left, MiB.
        idle: Percent of a processor that three workers use together when all is done.
        calls: How many calls of the store they make a second, heartbeats apart.
        wrong: Instances with the wrong result.
    """

    most_leased: int = 0
    looks: int = 0
    most_begun: int = 0
    done: int = 0
    runs: int = 0
    seconds: float = 0.0
    speeds: list[float] = field(default_factory=list[float])
    memory: float = 0.0
    idle: float = 0.0
    calls: float = 0.0
    wrong: list[str] = field(default_factory=list[str])


async def hold(url: str, directory: Path, load: Load) -> Seen:
    """Do all of it, and return what was seen."""
    seen = Seen()
    async with open_client(url, registry=_registry) as client:
        await client.set_limit(queue=_QUEUE, concurrency=load.concurrency, rate=load.rate)
        sizes = [min(_EACH, load.activities - at) for at in range(0, load.activities, _EACH)]
        handles = [await client.start(many, size) for size in sizes]
        began = time.monotonic()
        with _workers(url, directory, load.lease) as workers:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_look, client, seen)
                nursery.start_soon(_disturb, directory, workers, load)
                for size, handle in zip(sizes, handles, strict=True):
                    if await handle.result() != sum(range(size)):
                        seen.wrong.append(handle.id)
                nursery.cancel_scope.cancel()
            seen.seconds = time.monotonic() - began
            seen.memory = _most_memory(workers[-1].pid)
    with _workers(url, directory, load.lease) as workers:
        for worker in workers:
            await _told(directory, worker)  # it has begun
        await trio.sleep(load.lease * 2)  # until nothing is left of those before
        await _idle_cost(directory, workers, seen)
    _read_log(directory, seen)
    return seen


async def _look(client: Client, seen: Seen) -> None:
    while True:
        began = time.monotonic()
        for stats in await client.stats():
            if stats.queue == _QUEUE:
                seen.looks += 1
                seen.most_leased = max(seen.most_leased, stats.running_activities)
        took = time.monotonic() - began
        await trio.sleep(max(_LOOK, took * (1 / _LOOKING - 1)))


async def _disturb(directory: Path, workers: list[subprocess.Popen[bytes]], load: Load) -> None:
    """Kill all workers but the last, when some of the work is done; perhaps stop that one."""
    for number, worker in enumerate(workers[:-1], start=1):
        await _until_run(directory, load.activities * number / (_WORKERS + 1))
        worker.kill()
    if load.stops:
        await _until_run(directory, load.activities * (1 - 1 / (_WORKERS + 2)))
        workers[-1].send_signal(signal.SIGSTOP)
        await trio.sleep(load.lease * 1.5)
        workers[-1].send_signal(signal.SIGCONT)


async def _until_run(directory: Path, number: float) -> None:
    """Return when so many activities have run."""
    log = directory / "runs.log"
    log.touch()
    run = 0
    with log.open("rb") as lines:
        while run < number:
            await trio.sleep(0.1)
            run += lines.read().count(b"\n")


async def _idle_cost(directory: Path, workers: list[subprocess.Popen[bytes]], seen: Seen) -> None:
    """Look for some seconds at what workers cost that have nothing to do."""
    calls = await _calls(directory, workers)
    before = sum(_processor_time(worker.pid) for worker in workers)
    await trio.sleep(_IDLE)
    seen.idle = (sum(_processor_time(worker.pid) for worker in workers) - before) / _IDLE * 100
    seen.calls = (await _calls(directory, workers) - calls) / _IDLE


async def _calls(directory: Path, workers: list[subprocess.Popen[bytes]]) -> int:
    """Return how many calls of the store the workers have made."""
    for worker in workers:
        (directory / f"{worker.pid}.calls").unlink()
        worker.send_signal(signal.SIGUSR1)
    return sum([await _told(directory, worker) for worker in workers])


async def _told(directory: Path, worker: subprocess.Popen[bytes]) -> int:
    told = directory / f"{worker.pid}.calls"
    while not told.exists():
        assert worker.poll() is None, "a worker has ended"
        await trio.sleep(0.01)
    return int(told.read_text())


def _most_memory(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (most,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(most) / 1024


def _processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _workers(url: str, directory: Path, lease: float) -> Iterator[list[subprocess.Popen[bytes]]]:
    command = [sys.executable, "-m", "benchmarks.limits", "--worker", url, "--lease", str(lease)]
    environment = {**os.environ, "LIMITS_LOG": str(directory / "runs.log")}
    workers = [subprocess.Popen(command, cwd=_ROOT, env=environment) for _ in range(_WORKERS)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def _read_log(directory: Path, seen: Seen) -> None:
    began: list[float] = []
    ended: list[float] = []
    keys: set[str] = set()
    for line in (directory / "runs.log").read_text().splitlines():
        first, last, key = line.split(" ", 2)
        began.append(float(first))
        ended.append(float(last))
        keys.add(key)
        seen.runs += 1
    seen.done = len(keys)
    ended.sort()
    part = len(ended) // _PARTS
    ends = [*ended[:: max(part, 1)][:_PARTS], ended[-1]]
    seen.speeds = [part / (end - start) for start, end in pairwise(ends)]
    began.sort()
    oldest = 0
    for at, time_ in enumerate(began):
        while began[oldest] <= time_ - 1.0:
            oldest += 1
        seen.most_begun = max(seen.most_begun, at - oldest + 1)


async def _work(url: str, lease: float) -> None:
    calls = 0
    run = StorageThread.run_together

    async def counted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        return await run(*args)

    def tell(*_: object) -> None:
        told = Path(os.environ["LIMITS_LOG"]).with_name(f"{os.getpid()}.calls")
        told.with_suffix(".new").write_text(str(calls))
        told.with_suffix(".new").rename(told)

    setattr(StorageThread, "run_together", counted)  # noqa: B010 - of all of this process
    signal.signal(signal.SIGUSR1, tell)
    tell()
    await run_worker(url, registry=_registry, lease=lease, activity_queues=(_QUEUE,))


def main() -> None:
    """Measure a store, and print what was seen; or work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="sqlite", help="a store's name, or its URL")
    parser.add_argument("--activities", type=int, default=3_000)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--stops", action="store_true", help="stop the third worker for a while")
    parser.add_argument("--lease", type=float, default=3.0, help="of the workers, seconds")
    parser.add_argument("--worker", metavar="URL", help="be one of the workers")
    options = parser.parse_args()
    if options.worker:
        trio.run(_work, options.worker, options.lease)
        return
    load = Load(
        *(options.activities, options.concurrency, options.rate, options.stops, options.lease)
    )
    with tempfile.TemporaryDirectory() as folder, serving(options.backend, Path(folder)) as backend:
        seen = trio.run(hold, url_of(backend, Path(folder)), Path(folder), load)
    print(
        f"{options.backend}: {load.activities} activities, {load.concurrency} at once, "
        f"{load.rate}/s: most leased {seen.most_leased} in {seen.looks} looks, most begun in a "
        f"second {seen.most_begun}, done {seen.done}, runs {seen.runs}, wrong {len(seen.wrong)}; "
        f"{seen.seconds:.1f} s, {seen.done / seen.seconds:.0f}/s, of each tenth "
        f"{' '.join(f'{speed:.0f}' for speed in seen.speeds)}, {seen.memory:.0f} MiB; "
        f"idle {seen.idle:.1f} %, {seen.calls:.1f} calls/s"
    )


if __name__ == "__main__":
    main()
