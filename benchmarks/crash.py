"""Two workers on one store, killed again and again, and its server with them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import trio

from benchmarks.crash_clock import SHIFT
from benchmarks.crash_findings import Outage, Tally, look_into_log, look_into_store, read_log
from benchmarks.crash_worker import job, registry
from benchmarks.measuring import Figure, Sizes, scratch
from trioflow import BackendUnavailable, Client, InstanceNotFound, open_client

__all__ = ["Mortal", "Victim", "crash", "torture"]

T = TypeVar("T")

_ROOT = Path(__file__).parents[1]
# What workers say when another one was killed, and when the server was.
_OF_DEATHS = ("sent no heartbeat for",)
_OF_OUTAGES = (
    "the store is not available, trying again",
    "the heartbeat does not reach the store",
    "cannot hear of changes in the store",
)
_OF_LOST_LEASES = ("was declared dead",)


class Mortal(Protocol):
    """A server that is killed, and finds its data again."""

    def kill(self) -> None:
        """Kill it at once."""

    def start(self) -> None:
        """Start it and wait until it answers."""


class Victim:
    """A worker in a process of its own.

    Args:
        directory: The log and what it prints go there.
        url: Of the store.
        lease: Of the worker, seconds.
        clock: By how many seconds its clock is ahead.
    """

    def __init__(self, directory: Path, url: str, lease: float, clock: float = 0.0) -> None:
        command = [sys.executable, "-m", "benchmarks.crash_worker", url]
        command += [str(directory / "log"), str(lease)]
        self.clock = clock
        with (directory / "stderr").open("a") as stderr:
            self.process = subprocess.Popen(
                command,
                cwd=_ROOT,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=os.environ | {SHIFT: str(clock)},
            )

    async def ready(self) -> None:
        """Wait until it says that it is at work."""
        stream = self.process.stdout
        assert stream is not None
        if not await trio.to_thread.run_sync(stream.readline, abandon_on_cancel=True):
            raise RuntimeError("the worker ended before it was ready; see its stderr")

    def end(self, how: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal and wait for its end; return the process' exit code."""
        self.process.send_signal(how)
        code = self.process.wait(30)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


async def torture(
    directory: Path,
    url: str,
    *,
    workflows: int,
    kills: int,
    spread: float,
    every: tuple[float, float],
    lease: float,
    server: Mortal | None = None,
    outages: Sequence[float] = (),
    clocks: tuple[float, float] = (0.0, 0.0),
    patience: float = 120.0,
    seed: int = 0,
) -> Tally:
    """Start workflows, kill workers and the server again and again, and count what is left.

    Args:
        directory: An empty one.
        url: Of the store: an empty one.
        workflows: How many.
        kills: How many workers are killed. There are always two; a dead one is replaced at once.
        spread: The longest durable sleep of a workflow, seconds; they are spread evenly.
        every: The shortest and the longest time between two kills, seconds.
        lease: Of the workers, seconds.
        server: What serves the store, if it is to be killed.
        outages: For each of its kills, for how long it is left dead, seconds.
        clocks: By how many seconds the workers' clocks are ahead.
        patience: How long after the last kill all may take, seconds.
        seed: Of the moments, their order and the victims.
    """
    chance = random.Random(seed)
    tally = Tally(workflows, lease, begun=time.time())
    async with open_client(url, registry=registry) as client:
        victims = [Victim(directory, url, lease, clock) for clock in clocks]
        try:
            for victim in victims:
                await victim.ready()

            def kill_worker() -> None:
                at = chance.randrange(2)
                pid, clock = victims[at].process.pid, victims[at].clock
                victims[at].end()
                tally.kills[pid] = time.time()
                victims[at] = Victim(directory, url, lease, clock)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(_start, client, workflows, spread, chance.random())
                for away in _shuffled(kills, outages, chance):
                    await trio.sleep(chance.uniform(*every))
                    if away is None:
                        kill_worker()
                    else:
                        assert server is not None
                        tally.outages.append(await _take_away(server, away))
                nursery.cancel_scope.deadline = trio.current_time() + patience
            with trio.move_on_after(patience):
                while await _patiently(partial(client.count, status="running")):  # noqa: ASYNC110 - others run
                    await trio.sleep(0.1)
            # Those that were killed last are found too old, and then only living ones are left.
            too_old = max(tally.kills.values(), default=0.0) + lease + 0.1
            await trio.sleep(max(0.0, too_old - time.time()))
            await client.backend.reclaim(lease)
        finally:
            for victim in victims:
                victim.end(signal.SIGTERM)
        tally.ended = time.time()
        unsigned = await client.backend.reclaim(-1.0)
        tally.faults += [f"worker {worker} did not sign off" for worker in unsigned]
        pauses = await look_into_store(client, tally)
    look_into_log(read_log(directory / "log"), pauses, tally)
    tally.stderr = _unexpected((directory / "stderr").read_text("utf-8"), tally)
    return tally


def _shuffled(kills: int, outages: Sequence[float], chance: random.Random) -> list[float | None]:
    """Return who is killed, one after the other: a worker (``None``), or the server."""
    order: list[float | None] = [None] * kills + list(outages)
    chance.shuffle(order)
    return order


async def _take_away(server: Mortal, away: float) -> Outage:
    down = time.time()
    await trio.to_thread.run_sync(server.kill)
    await trio.sleep(away)
    await trio.to_thread.run_sync(server.start)
    return Outage(down, time.time())


def _unexpected(printed: str, tally: Tally) -> list[str]:
    expected: tuple[str, ...] = _OF_DEATHS
    if tally.outages:
        expected += _OF_OUTAGES
    if any(map(tally.costs_leases, tally.outages)):
        expected += _OF_LOST_LEASES
    return [line for line in printed.splitlines() if not any(text in line for text in expected)]


async def _start(client: Client, count: int, spread: float, seed: float) -> None:
    chance = random.Random(seed)
    for number in range(count):
        id, pause = f"job-{number}", chance.uniform(0.0, spread)
        while True:
            try:
                await client.start(job.options(id=id), number, pause)
                break
            except BackendUnavailable:
                # It may be stored, and done already: then its id could be used again.
                if await _patiently(partial(_exists, client, id)):
                    break


async def _exists(client: Client, id: str) -> bool:
    try:
        await client.handle(id).describe()
    except InstanceNotFound:
        return False
    return True


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer: nothing is changed by asking."""
    while True:
        try:
            return await ask()
        except BackendUnavailable:
            await trio.sleep(0.05)


async def crash(sizes: Sizes) -> list[Figure]:
    """2,000 workflows, two workers, twenty kills."""
    workflows, kills = sizes.of(2000, 30), sizes.of(20, 2)
    with scratch(sizes) as directory:
        tally = await torture(
            directory,
            f"sqlite:///{directory / 'crash.db'}",
            workflows=workflows,
            kills=kills,
            spread=sizes.of(20, 1),
            every=(0.6, 1.6) if not sizes.quick else (0.3, 0.6),
            lease=2.0 if not sizes.quick else 1.0,
            seed=time.time_ns(),
        )
    for fault in tally.faults[:50]:
        print(f"fault: {fault}", file=sys.stderr)
    for line in tally.stderr[:50]:
        print(f"printed: {line}", file=sys.stderr)
    return [
        Figure("crash", "workflows completed, each once", workflows - len(tally.faults), ""),
        Figure("crash", "kills", len(tally.kills), ""),
        Figure("crash", "faults", len(tally.faults), "", "<= 0"),
        Figure("crash", "lines on stderr", len(tally.stderr), "", "<= 0"),
        Figure("crash", "turns stored", tally.turns, ""),
        Figure("crash", "attempts of activities", tally.attempts, ""),
        Figure("crash", "repeated, in flight at a kill", tally.repeated, ""),
        Figure("crash", "longest from an end to its loss", tally.longest_loss * 1e3, "ms"),
        Figure("crash", "time", tally.seconds, "s"),
    ]
