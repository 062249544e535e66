"""The program that is killed: a worker with workflows whose every activity attempt is logged.

Run it: ``python -m benchmarks.crash_worker URL LOG LEASE``. It ends by a signal. What trioflow
logs goes to stderr, each message on one line. How wrong its clock is says `crash_clock.SHIFT`.

An attempt writes two lines into the log, each in one write: ``start`` or ``end``, the instance, the
command, the attempt, the process and the true time.
"""

from __future__ import annotations

import logging
import os
import sys
import time

import trio

from benchmarks.crash_clock import true_time
from trioflow import BackendUnavailable, Registry, activity_info, run_worker

__all__ = ["LOG", "expected", "job", "part", "registry"]

LOG = "TRIOFLOW_CRASH_LOG"
"""The environment variable that names the log."""

registry = Registry()


def _note(what: str) -> None:
    info = activity_info()
    line = f"{what} {info.instance} {info.command} {info.attempt} {os.getpid()} {true_time():.6f}\n"
    log = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(log, line.encode())
    finally:
        os.close(log)


@registry.activity
async def double(number: int) -> int:
    _note("start")
    await trio.sleep(0.01 * (number % 10))
    _note("end")
    return 2 * number


@registry.activity
def square(number: int) -> int:
    _note("start")
    time.sleep(0.001 * (number % 7))
    _note("end")
    return number * number


@registry.workflow
async def part(number: int) -> int:
    return await double(number) + await square(number)


@registry.workflow
async def job(number: int, pause: float) -> int:
    """Run activities and sub-workflows, in turn and at once, around a sleep."""
    total = await double(number)
    await trio.sleep(pause)
    results: list[int] = []

    async def collect(value: int) -> None:
        results.append(await part(value))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, number + 1)
        nursery.start_soon(collect, number + 2)
    return total + sum(results) + await square(number)


def expected(number: int) -> int:
    """Return what ``job(number, …)`` returns."""
    parts = sum(2 * n + n * n for n in (number + 1, number + 2))
    return 2 * number + parts + number * number


async def main(url: str, lease: float) -> None:
    """Run a worker, and say so once it is ready."""
    async with trio.open_nursery() as nursery:

        async def work(task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED) -> None:
            while True:
                try:
                    await run_worker(
                        url,
                        registry=registry,
                        lease=lease,
                        sticky=lease / 4,
                        drain=2.0,
                        task_status=task_status,
                    )
                    break
                except BackendUnavailable:
                    # Its server is just away: whoever watches over a worker would start it again.
                    if url.startswith("sqlite"):
                        raise
                    await trio.sleep(0.1)
            nursery.cancel_scope.cancel()

        await nursery.start(work)
        print("ready", flush=True)


if __name__ == "__main__":
    logging.basicConfig(format="%(message)r")
    os.environ[LOG] = sys.argv[2]
    trio.run(main, sys.argv[1], float(sys.argv[3]))
