"""What is found after the torture, in the store and in the log; and whether all of it may be.

The client tells most of it. What it cannot tell, rows that belong to nothing, is looked for below
the store's contract.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.crash_worker import expected, job, part
from trioflow import Client, Description, ExecutionHistory
from trioflow._model import commands as cmd
from trioflow._model import events as ev
from trioflow._model.turns import Turn

__all__ = ["Attempt", "Outage", "Tally", "look_into_log", "look_into_store", "read_log"]

_PAGE = 500
# Two clocks are compared whose difference is only known so well: seconds.
_TOLERANCE = 0.25
# What each workflow asks for, whatever happens.
_COMMANDS: dict[str, list[str]] = {
    job.name: ["double", "part", "part", "square"],
    part.name: ["double", "square"],
}


@dataclass(frozen=True)
class Attempt:
    """One line of the log."""

    what: str
    instance: str
    command: str
    attempt: int
    pid: int
    at: float


@dataclass(frozen=True)
class Outage:
    """When the server was killed, and when it answered again."""

    down: float
    up: float

    def within(self, one: Attempt, after: Attempt) -> bool:
        """Whether it lies between the beginnings of two attempts, or touches them."""
        return one.at <= self.up and self.down <= after.at


@dataclass
class Tally:
    """What is left after all is done.

    Attributes:
        workflows: How many were started.
        lease: Of the workers, seconds.
        begun: When it began.
        ended: When all was done.
        kills: When each process was killed, by its id.
        outages: When the server was away.
        faults: What must not be, in words; empty if all is well.
        attempts: How many activity attempts were begun.
        repeated: How many of them because a worker had been killed, or the server.
        longest_loss: The longest time from an attempt's end to the kill that lost its result,
            seconds.
        latest: The longest time from the moment when a sleep was over to what comes after it.
        turns: How many turns are stored.
        stderr: What the workers printed, but for what such a day makes them say.
    """

    workflows: int
    lease: float
    begun: float = 0.0
    ended: float = 0.0
    kills: dict[int, float] = field(default_factory=dict)
    outages: list[Outage] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    attempts: int = 0
    repeated: int = 0
    longest_loss: float = 0.0
    latest: float = 0.0
    turns: int = 0
    stderr: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.begun

    def costs_leases(self, outage: Outage) -> bool:
        """Whether workers may be declared dead because of an outage.

        The last beat before it and the first one after it may each be a second away.
        """
        return outage.up - outage.down > self.lease / 2


# --- the store ----------------------------------------------------------------------------------


async def look_into_store(client: Client, tally: Tally) -> dict[str, float]:
    """Look at every instance and its history; return how long each job had to sleep."""
    faults = tally.faults
    left = await _left(client.backend)
    faults += [f"{count} left in {place}" for place, count in left.items() if count]
    faults += [f"the store counts {stats}" for stats in await client.stats()]
    found = await _all(client)
    kinds = Counter(one.workflow for one in found)
    if kinds != {job.name: tally.workflows, part.name: 2 * tally.workflows}:
        faults.append(f"{dict(kinds)} instances for {tally.workflows} workflows")
    for one in found:
        faults += [f"{one.id} {what}" for what in _wrong_in_row(one)]
        history = await client.handle(one.id).history()
        faults += [f"{one.id} {what}" for what in _wrong_in_history(one, history, tally)]
        tally.turns += sum(len(execution.turns) for execution in history)
    return {one.id: one.input["pause"] for one in found if one.workflow == job.name}


async def _all(client: Client) -> list[Description]:
    found: list[Description] = []
    after: str | None = None
    while page := await client.list(limit=_PAGE, after=after):
        found += page
        after = page[-1].id
    return found


def _wrong_in_row(one: Description) -> Iterable[str]:
    if one.status != "completed":
        yield f"is {one.status}: {one.failure or one.suspension}"
    elif one.workflow == job.name:
        number = int(one.id.removeprefix("job-"))
        if one.result != expected(number):
            yield f"returned {one.result!r}"
    if one.unread:
        yield f"has {one.unread} unread messages"


def _wrong_in_history(
    one: Description, history: list[ExecutionHistory], tally: Tally
) -> Iterable[str]:
    """Say whether a turn is missing, stored twice, or at a time that was not."""
    if [execution.number for execution in history] != [1]:
        yield f"has the executions {[execution.number for execution in history]}"
        return
    turns = [turn for turn in history[0].turns if isinstance(turn, Turn)]
    if len(turns) != one.turns or not turns:
        yield f"has {len(turns)} turns, not {one.turns}"
        return
    if [turn.outcome is not None for turn in turns] != [False] * (len(turns) - 1) + [True]:
        yield "does not end with its last turn"
    times = [turn.now for turn in turns]
    if times != sorted(times):
        yield f"went back in time: {times}"
    if times[0] < tally.begun - 1 or times[-1] > tally.ended + 1:
        yield f"ran from {times[0]} to {times[-1]}, not within {tally.begun} and {tally.ended}"
    yield from _wrong_in_turns(one.workflow, turns)


def _wrong_in_turns(workflow: str, turns: list[Turn]) -> Iterable[str]:
    """Say what was asked for or consumed that should not have been, or not again."""
    asked: list[cmd.Command] = []
    awaited: set[str] = set()
    kinds: Counter[str] = Counter()
    for turn in turns:
        for event in turn.events:
            kinds[type(event).__name__] += 1
            if isinstance(event, ev.ActivityCompleted | ev.ChildCompleted):
                if event.id not in awaited:
                    yield f"consumed the result of {event.id} twice, or before asking for it"
                awaited.discard(event.id)
        asked += turn.commands
        awaited |= {command.id for command in turn.commands}
    names = [
        command.activity if isinstance(command, cmd.RunActivity) else command.workflow
        for command in asked
        if isinstance(command, cmd.RunActivity | cmd.StartChild)
    ]
    if sorted(names) != _COMMANDS[workflow] or len(asked) != len(names):
        yield f"asked for {names}"
    if awaited:
        yield f"never heard of {awaited}"
    if kinds["Started"] != 1 or kinds["Woken"] > (workflow == job.name):
        yield f"consumed {dict(kinds)}"


async def _left(backend: Any) -> dict[str, int]:
    """Count what no finished instance needs, wherever it is."""
    if backend.name == "redis":
        connections = backend._connections  # noqa: SLF001 - below the contract
        left = _keys_left(backend.address.tag)
        return dict(await connections.thread.run(connections.calls.run, left))

    def counted() -> dict[str, int]:
        execute = backend._store().execute  # noqa: SLF001 - below the contract
        left = {
            table: execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # our own names
            for table in ("activities", "inbox")
        }
        numbers: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
        for *key, number in execute(
            "SELECT instance, execution, number FROM turns ORDER BY instance, execution, number"
        ).fetchall():
            numbers[tuple(key)].append(number)
        broken = [one for one in numbers.values() if one != list(range(len(one)))]
        return left | {"turns that do not follow each other": len(broken)}

    return await backend._run(counted)  # type: ignore[no-any-return]  # noqa: SLF001


def _keys_left(tag: str) -> Any:
    kinds = ("a", "x", "visible", "running", "marked", "ready", "held")

    def count(client: Any) -> dict[str, int]:
        return {
            f"{kind}:*": len(list(client.scan_iter(f"{tag}:{kind}:*", count=1000)))
            for kind in kinds
        }

    return count


# --- the log ------------------------------------------------------------------------------------


def read_log(path: Path) -> list[Attempt]:
    """Read the log of attempts."""
    found: list[Attempt] = []
    for line in path.read_text("ascii").splitlines():
        what, instance, command, attempt, pid, at = line.split()
        found.append(Attempt(what, instance, command, int(attempt), int(pid), float(at)))
    return found


def look_into_log(log: Iterable[Attempt], pauses: dict[str, float], tally: Tally) -> None:
    """Look at every attempt of an activity: why it was made, and whether a sleep lay before it."""
    begun: defaultdict[tuple[str, str], list[Attempt]] = defaultdict(list)
    ended: dict[tuple[str, str, int], float] = {}
    for line in log:
        if line.what == "start":
            begun[line.instance, line.command].append(line)
            tally.attempts += 1
        else:
            ended.setdefault((line.instance, line.command, line.attempt), line.at)
    if len(begun) != 6 * tally.workflows:
        tally.faults.append(f"{len(begun)} activities of {6 * tally.workflows} were begun")
    for (instance, command), attempts in begun.items():
        tally.repeated += len(attempts) - 1
        for one, after in pairwise(attempts):
            if wrong := _wrong_in_repeat(one, after, tally):
                tally.faults.append(f"{instance} {command} was repeated {wrong}")
            end = ended.get((instance, command, one.attempt))
            if end is not None:
                lost = [tally.kills.get(one.pid, 0.0), *(out.down for out in tally.outages)]
                losses = [at - end for at in lost if end <= at <= after.at]
                tally.longest_loss = max(tally.longest_loss, min(losses, default=0.0))
    _look_at_sleeps(begun, ended, pauses, tally)


def _wrong_in_repeat(one: Attempt, after: Attempt, tally: Tally) -> str:
    """Return what is wrong with an activity's being begun twice; ``""`` if it may be.

    It may be if the first one's worker was killed meanwhile. It may be, too, if the server was:
    whether a commit was stored whose answer was lost is found out by trying it again, and what an
    instance had under way is then given back, as the same attempt. Nobody needs a new attempt
    then, unless the server was away for so long that leases ran out.

    A worker that dies while it retries a suspect in isolation does not count as an attempt of its
    activities. There are suspects only after an earlier death.
    """
    outages = [outage for outage in tally.outages if outage.within(one, after)]
    killed = tally.kills.get(one.pid)
    if not outages and killed is None:
        return "though its worker was not killed"
    if not outages and killed is not None and after.at < killed:
        return "before its worker's death"
    if after.attempt < one.attempt:
        return f"as attempt {after.attempt} after {one.attempt}"
    if after.attempt == one.attempt:
        isolating = killed is not None and any(at < killed for at in tally.kills.values())
        return "" if outages or isolating else f"as attempt {one.attempt} again"
    deaths = [at for at in tally.kills.values() if one.at <= at <= after.at]
    if deaths or any(map(tally.costs_leases, outages)):
        return ""
    return f"as attempt {after.attempt}, though nobody's lease can have run out"


def _look_at_sleeps(
    begun: dict[tuple[str, str], list[Attempt]],
    ended: dict[tuple[str, str, int], float],
    pauses: dict[str, float],
    tally: Tally,
) -> None:
    """Compare the time between a job's two activities with the sleep between them."""
    commands: defaultdict[str, list[str]] = defaultdict(list)
    for instance, command in sorted(begun, key=lambda key: begun[key][0].at):
        commands[instance].append(command)
    for instance, pause in pauses.items():
        if len(commands[instance]) != 2:
            continue  # said elsewhere
        first, second = commands[instance]
        asleep = min(
            ended.get((instance, first, attempt.attempt), tally.ended)
            for attempt in begun[instance, first]
        )
        late = begun[instance, second][0].at - asleep - pause
        if late < -_TOLERANCE:
            tally.faults.append(f"{instance} slept {-late:.3f} s too short")
        tally.latest = max(tally.latest, late)
