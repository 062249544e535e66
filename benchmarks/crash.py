"""Two workers on one file, killed again and again; and what is found in the file afterwards."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import trio

from benchmarks.crash_worker import expected, job, registry
from benchmarks.measuring import Figure, Sizes, scratch
from trioflow import Client, open_client

__all__ = ["Attempt", "Tally", "Victim", "crash", "read_log", "torture"]

_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Attempt:
    """One line of the log."""

    what: str
    instance: str
    command: str
    attempt: int
    pid: int
    at: float


@dataclass
class Tally:
    """What is left after all is done.

    Attributes:
        workflows: How many were started.
        kills: When each process was killed, by its id.
        seconds: How long it took.
        faults: What must not be, in words; empty if all is well.
        attempts: How many activity attempts were begun.
        repeated: How many of them because a worker had been killed.
        longest_loss: The longest time from an attempt's end to the kill that lost its result,
            seconds.
        turns: How many turns are stored.
        stderr: What the workers printed, but for their warnings that another one is dead.
    """

    workflows: int
    kills: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    attempts: int = 0
    repeated: int = 0
    longest_loss: float = 0.0
    turns: int = 0
    stderr: list[str] = field(default_factory=list)


class Victim:
    """A worker in a process of its own.

    Args:
        directory: Where the store is; the log and what it prints go there too.
        lease: Of the worker, seconds.
    """

    def __init__(self, directory: Path, lease: float) -> None:
        url = f"sqlite:///{directory / 'crash.db'}"
        command = [sys.executable, "-m", "benchmarks.crash_worker", url]
        command += [str(directory / "log"), str(lease)]
        with (directory / "stderr").open("a") as stderr:
            self.process = subprocess.Popen(
                command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=stderr
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
    *,
    workflows: int,
    kills: int,
    spread: float,
    every: tuple[float, float],
    lease: float,
    seed: int = 0,
) -> Tally:
    """Start workflows, kill one of the two workers again and again, and count what is left.

    Args:
        directory: An empty one.
        workflows: How many.
        kills: How many.
        spread: The longest durable sleep of a workflow, seconds; they are spread evenly.
        every: The shortest and the longest time between two kills, seconds.
        lease: Of the workers, seconds.
        seed: Of the moments and the victims.
    """
    chance = random.Random(seed)
    tally = Tally(workflows)
    begun = time.monotonic()
    async with open_client(f"sqlite:///{directory / 'crash.db'}", registry=registry) as client:
        victims = [Victim(directory, lease) for _ in range(2)]
        try:
            for victim in victims:
                await victim.ready()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_start, client, workflows, spread, chance.random())
                for _ in range(kills):
                    await trio.sleep(chance.uniform(*every))
                    at = chance.randrange(2)
                    pid = victims[at].process.pid
                    victims[at].end()
                    tally.kills[pid] = time.time()
                    victims[at] = Victim(directory, lease)
            seen = 0
            while seen < workflows or await client.count(status="running"):
                seen = await client.count(workflow=job)
                await trio.sleep(0.1)
        finally:
            for victim in victims:
                victim.end(signal.SIGTERM)
    tally.seconds = time.monotonic() - begun
    _look_into_store(directory / "crash.db", tally)
    _look_into_log(read_log(directory / "log"), tally)
    lines = (directory / "stderr").read_text("utf-8").splitlines()
    tally.stderr = [line for line in lines if "has not been heard of for" not in line]
    return tally


async def _start(client: Client, count: int, spread: float, seed: float) -> None:
    chance = random.Random(seed)
    for number in range(count):
        await client.start(job.options(id=f"job-{number}"), number, chance.uniform(0.0, spread))


def _look_into_store(path: Path, tally: Tally) -> None:
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute(
            "SELECT id, workflow, status, outcome, execution, turns FROM instances"
        ).fetchall()
        numbers: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
        for instance, execution, number in connection.execute(
            "SELECT instance, execution, number FROM turns ORDER BY instance, execution, number"
        ):
            numbers[instance, execution].append(number)
            tally.turns += 1
        left = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("activities", "inbox")
        }
        names = [row[0] for row in connection.execute("SELECT name FROM workers")]
    finally:
        connection.close()
    faults = tally.faults
    faults += [f"{count} rows left in {table}" for table, count in left.items() if count]
    # A killed worker's row stays until another one finds it too old.
    pids = {int(name.rpartition(":")[2]) for name in names}
    faults += [f"worker {pid} did not sign off" for pid in pids - tally.kills.keys()]
    kinds = Counter(workflow for _, workflow, *_ in rows)
    if kinds != {"job": tally.workflows, "part": 2 * tally.workflows}:
        faults.append(f"{dict(kinds)} instances for {tally.workflows} workflows")
    for instance, workflow, status, outcome, execution, turns in rows:
        if status != "completed":
            faults.append(f"{instance} is {status}: {outcome!r}")
        elif workflow == "job":
            wanted = b'"result":%d}' % expected(int(instance.removeprefix("job-")))
            if wanted not in outcome:
                faults.append(f"{instance} returned {outcome!r}")
        if numbers[instance, execution] != list(range(turns)):
            faults.append(f"{instance} has turns {numbers[instance, execution]}, not {turns}")


def read_log(path: Path) -> list[Attempt]:
    """Read the log of attempts."""
    found: list[Attempt] = []
    for line in path.read_text("ascii").splitlines():
        what, instance, command, attempt, pid, at = line.split()
        found.append(Attempt(what, instance, command, int(attempt), int(pid), float(at)))
    return found


def _look_into_log(log: Iterable[Attempt], tally: Tally) -> None:
    begun: defaultdict[tuple[str, str], list[Attempt]] = defaultdict(list)
    ended: dict[tuple[str, str, int], float] = {}
    for line in log:
        if line.what == "start":
            begun[line.instance, line.command].append(line)
            tally.attempts += 1
        else:
            ended[line.instance, line.command, line.attempt] = line.at
    if len(begun) != 6 * tally.workflows:
        tally.faults.append(f"{len(begun)} activities of {6 * tally.workflows} were begun")
    for (instance, command), attempts in begun.items():
        tally.repeated += len(attempts) - 1
        for one, after in pairwise(attempts):
            killed = tally.kills.get(one.pid)
            if killed is None:
                tally.faults.append(f"{instance} {command} was repeated, its worker was not killed")
            elif after.at < killed:
                tally.faults.append(f"{instance} {command} was repeated before its worker's death")
            elif (end := ended.get((instance, command, one.attempt))) is not None:
                tally.longest_loss = max(tally.longest_loss, killed - end)
            if after.attempt <= one.attempt:
                tally.faults.append(f"{instance} {command} had attempt {one.attempt} twice")


async def crash(sizes: Sizes) -> list[Figure]:
    """2,000 workflows, two workers, twenty kills."""
    workflows, kills = sizes.of(2000, 30), sizes.of(20, 2)
    with scratch(sizes) as directory:
        tally = await torture(
            directory,
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
