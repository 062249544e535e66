"""What must be true after a round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.races.calls import Told
from tests.races.flows import registry
from tests.races.plans import Plan
from trioflow._codec.values import JsonCodec
from trioflow._engine.calls import Caller
from trioflow._engine.execution import Execution, Identity
from trioflow._model import commands as cm
from trioflow._model import events as ev
from trioflow._model.turns import Completed, Continued, Turn, decode_turn
from trioflow.backends.abc import Backend
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import ENDED, InstanceRecord

__all__ = ["History", "Line", "check", "read_log", "read_store", "story"]

_CODEC = JsonCodec()
# A worker hears of a cancel with its heartbeat at the latest, and a turn is stored soon after it
# was made; what stops a worker or its connection adds to that. Seconds.
_SOON = 2.0
_LATE = 8.0


@dataclass(frozen=True)
class Line:
    """One line of the log."""

    what: str
    token: str
    instance: str
    execution: int
    command: str
    attempt: int
    pid: int
    nonce: str
    at: float


@dataclass(frozen=True)
class History:
    """An execution that is stored."""

    record: InstanceRecord
    number: int
    turns: list[Turn]

    @property
    def current(self) -> bool:
        """Whether it is the instance's last one."""
        return self.number == self.record.execution

    @property
    def started(self) -> ev.Started | None:
        """Its first event; an id may have been another workflow's before."""
        first = self.turns[0].events[0] if self.turns else None
        return first if isinstance(first, ev.Started) else None

    def __str__(self) -> str:
        workflow = self.record.workflow if self.started is None else self.started.workflow
        return f"{workflow} {self.record.id} execution {self.number}"


def read_log(path: Path) -> list[Line]:
    """Read the log; what a kill has cut off is left out."""
    if not path.exists():
        return []
    rows = [line.split() for line in path.read_text().splitlines()]
    return [
        Line(
            row[0],
            row[1],
            row[2],
            int(row[3]),
            row[4],
            int(row[5]),
            int(row[6]),
            row[7],
            float(row[8]),
        )
        for row in rows
        if len(row) == 9
    ]


async def read_store(backend: Backend) -> list[History]:
    """Read all histories."""
    found = []
    for record in await backend.list(InstanceFilter(), limit=100_000):
        for execution in await backend.history(record.id):
            turns = [decode_turn(data) for data in execution.turns]
            if turns or execution.number == record.execution:
                found.append(History(record, execution.number, turns))
    return found


def story(history: History) -> str:
    """Return an execution's turns for somebody who looks for a fault: a line for each."""
    lines = [f"    {history}: {history.record.status}"]
    for number, turn in enumerate(history.turns):
        events = ", ".join(f"{type(one).__name__} {getattr(one, 'id', '')}" for one in turn.events)
        given = ", ".join(f"{type(one).__name__} {one.id}" for one in turn.commands)
        lines.append(f"      {number} at {turn.now:.3f}: {events} -> {given} {turn.outcome or ''}")
    return "\n".join(line[:300] for line in lines)


def check(plan: Plan, told: Told, log: list[Line], histories: list[History]) -> Iterator[str]:
    """Yield what is wrong."""
    records = {one.record.id: one.record for one in histories}
    for record in records.values():
        yield from _ended(plan, record)
    yield from _parents(records)
    ends = {line.nonce for line in log if line.what == "end"}
    starts: dict[tuple[str, int, str], list[Line]] = defaultdict(list)
    for line in log:
        if line.what == "start":
            starts[line.instance, line.execution, line.command].append(line)
    for history in histories:
        if not history.turns:
            continue
        if history.started is None:
            yield f"{history} does not begin with Started: {history.turns[0]}"
            continue
        yield from _replays(history, history.started)
        yield from _answers(history, ends)
        yield from _after_cancel(plan, history, starts)
    yield from _begun(told, histories)
    yield from _drained(told, histories)


def _ended(plan: Plan, record: InstanceRecord) -> Iterator[str]:
    about = f"{record.workflow} {record.id}"
    if record.status == "running":
        yield f"{about} has not ended: {record}"
    if record.status == "suspended" and not _explained(plan, record):
        yield f"{about} is suspended: {record.outcome.decode()}"
    if record.status in ENDED and record.worker is not None:
        yield f"{about} has ended and has a worker: {record}"
    if record.status in ENDED and record.unread:
        yield f"{about} has ended with {record.unread} messages in its inbox"
    if record.status == "failed" and not _may_fail(record):
        yield f"{about} failed: {record.outcome.decode()[:2000]}"


def _explained(plan: Plan, record: InstanceRecord) -> bool:
    kind = msgspec.json.decode(record.outcome).get("kind")
    if record.workflow == "moody":
        return bool(kind == "diverged")
    return plan.chaos == "kill" and kind == "crashes its worker"


def _may_fail(record: InstanceRecord) -> bool:
    # A child that was terminated fails its parent, and so does one that died too often.
    outcome = record.outcome.decode()
    return '"InstanceTerminated"' in outcome or "Terminated" in outcome or "WorkerLost" in outcome


def _parents(records: dict[str, InstanceRecord]) -> Iterator[str]:
    for child in records.values():
        ref = child.parent
        parent = None if ref is None else records.get(ref.instance)
        if ref is None or parent is None or parent.finished_at is None:
            continue
        if parent.execution != ref.execution or parent.life != ref.life:
            continue
        if child.finished_at is None or child.finished_at > parent.finished_at:
            yield f"{child.id} ended at {child.finished_at}, its parent at {parent.finished_at}"


def _replays(history: History, started: ev.Started) -> Iterator[str]:
    record, turns = history.record, history.turns
    identity = Identity(record.id, history.number, record.queue, record.priority)
    execution = Execution(registry.workflows[started.workflow], identity, _CODEC, Caller)
    try:
        execution.replay(turns)
    except Exception as exc:  # whatever it is, it is a fault
        if started.workflow != "moody":
            yield f"{history} does not replay: {exc!r} {exc}"
    finally:
        execution.evict()
    end = turns[-1].outcome
    if history.current and record.status in ("completed", "failed", "cancelled") and end is None:
        yield f"{history} is {record.status}, and its history has no end"
    if history.current and end is not None and record.status == "running":
        yield f"{history} has an end in its history, and is running"
    for turn in turns[:-1]:
        if turn.outcome is not None:
            yield f"{history} goes on after its end"


def _answers(history: History, ends: set[str]) -> Iterator[str]:
    """Each activity has one answer at most, and a result was really had by somebody."""
    answered: set[str] = set()
    names = _commands(history)
    for turn in history.turns:
        for event in turn.events:
            id = getattr(event, "id", None)
            if id is None:
                continue
            if id in answered:
                yield f"{history} has two answers to {id}"
            answered.add(id)
            if id not in names:
                yield f"{history} has an answer to {id}, which it never asked for"
            if isinstance(event, ev.ActivityCompleted):
                nonce = msgspec.json.decode(bytes(event.result))
                if nonce not in ends:
                    yield f"{history} has a result of {id} that nobody had: {nonce}"


def _commands(history: History) -> dict[str, tuple[float, cm.Command]]:
    return {
        command.id: (turn.now, command)
        for turn in history.turns
        for command in turn.commands
        if not isinstance(command, cm.CancelActivity | cm.CancelChild)
    }


def _after_cancel(
    plan: Plan, history: History, starts: dict[tuple[str, int, str], list[Line]]
) -> Iterator[str]:
    """No attempt begins once its cancel is stored and its worker has heard of it or is dead."""
    slack = _SOON if plan.chaos in ("none", "kill", "term") else _LATE
    commands = _commands(history)
    assert history.started is not None
    token = _token(bytes(history.started.input))
    for turn in history.turns:
        for command in turn.commands:
            if not isinstance(command, cm.CancelActivity) or command.id not in commands:
                continue
            for line in starts[history.record.id, history.number, command.id]:
                if line.token == token and line.at > turn.now + slack:
                    late = line.at - turn.now
                    yield (
                        f"{history}: attempt {line.attempt} of {command.id} began {late:.2f} s"
                        " after its cancel"
                    )


def _token(input: bytes) -> str:
    given = msgspec.json.decode(input)
    return str(given["token"] if isinstance(given, dict) else given[0])


def _begun(told: Told, histories: list[History]) -> Iterator[str]:
    """What was started is there, unless a client has ended or removed it."""
    there = {_token(one.record.input) for one in histories}
    there |= {_token(bytes(one.started.input)) for one in histories if one.started is not None}
    for id, tokens in told.started.items():
        for token in tokens:
            if token not in there:
                yield f"the start of {id} with {token} was accepted, and nothing is left of it"


def _drained(told: Told, histories: list[History]) -> Iterator[str]:
    """What a draining workflow was sent and what was accepted is in a result, once."""
    got: dict[str, list[int]] = defaultdict(list)
    unsure: set[str] = set()
    for history in histories:
        if history.record.workflow != "drains" or not history.turns:
            continue
        end = history.turns[-1].outcome
        if isinstance(end, Completed):
            got[history.record.id] += msgspec.json.decode(bytes(end.result))
        elif not isinstance(end, Continued):
            unsure.add(history.record.id)
    for id, values in got.items():
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            yield f"{id} got signals twice: {twice}; {_about_signals(histories, twice)}"
    for id, values in _accepted(told, histories).items():
        missing = set(values) - set(got[id])
        if missing and id not in unsure:
            yield f"{id} has lost accepted signals: {sorted(missing)}"


def _about_signals(histories: list[History], values: list[int]) -> list[str]:
    """Return where signals were sent, received and returned."""
    found: list[str] = []
    for history in histories:
        for number, turn in enumerate(history.turns):
            where = f"turn {number} of {history} (at {turn.now:.3f})"
            found += [
                f"sent {_value(command)} in {where}"
                for command in turn.commands
                if isinstance(command, cm.SendSignal) and _value(command) in values
            ]
            for event in turn.events:
                if isinstance(event, ev.SignalReceived) and _value(event) in values:
                    found.append(f"received {_value(event)} in {where}")
                if isinstance(event, ev.Started):
                    found += [
                        f"carried {_value(signal)} into {where}"
                        for signal in event.carried
                        if _value(signal) in values
                    ]
    return found


def _value(signal: cm.SendSignal | ev.SignalReceived) -> int:
    return int(msgspec.json.decode(bytes(signal.value)))


def _accepted(told: Told, histories: list[History]) -> dict[str, list[int]]:
    """Return the signals of which clients or workflows were told that they arrived."""
    accepted = {id: list(values) for id, values in told.accepted.items()}
    for history in histories:
        commands = _commands(history)
        for turn in history.turns:
            for event in turn.events:
                _, command = commands.get(getattr(event, "id", ""), (0.0, None))
                if isinstance(event, ev.SignalSent) and isinstance(command, cm.SendSignal):
                    accepted.setdefault(command.instance, []).append(_value(command))
    return accepted
