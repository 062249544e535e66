"""What has to hold in every cluster, whatever has happened to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from trioflow._client.description import decode_report
from trioflow._codec.values import Codec
from trioflow._model.commands import AnswerUpdate
from trioflow._model.events import (
    ActivityCancelled,
    ActivityCompleted,
    ActivityFailed,
    CancelRequested,
    Event,
    PromiseRejected,
    PromiseResolved,
    SignalReceived,
    Started,
    UpdateRequested,
    decode_event,
)
from trioflow._model.turns import Turn
from trioflow._registry import Registry, known_workflows
from trioflow.backends.abc import Backend
from trioflow.backends.commits import CommitFailure, Unit
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import ENDED, ActivityKey, InstanceRecord, RequestKey
from trioflow.errors import TrioflowError
from trioflow.testing.history import History, Replay, ReplayError, export_record

__all__ = ["BrokenInvariant", "Ledger", "check_store"]

# What clients send; a `Ledger` is told of all of it.
_Sent = SignalReceived | UpdateRequested | CancelRequested | PromiseResolved | PromiseRejected


class BrokenInvariant(TrioflowError, AssertionError):
    """Raised where a cluster has broken a promise; says which, where, and in which run."""


class Ledger:
    """What the store has accepted, to be held against what is there at the end.

    Attributes:
        problems: What was wrong while it went on.
        cancelled: When the cancel of which activity was stored, by the cluster's clock.
        moment: Grows with each commit.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.cancelled: dict[ActivityKey, float] = {}
        self.moment = 0
        self._cancelled_at: dict[ActivityKey, int] = {}  # by `moment`
        self._turns: dict[tuple[str, str, int, int], str] = {}
        self._lives: dict[tuple[str, int], str] = {}
        self._accepted: dict[tuple[str, str], list[Event]] = {}

    def committed(
        self,
        worker: str,
        units: Sequence[Unit],
        results: Sequence[CommitFailure | None],
        at: float,
    ) -> None:
        """Note a commit and what came of each unit."""
        self.moment += 1
        for unit, result in zip(units, results, strict=True):
            if result is not None:
                continue
            for commit in unit.instances:
                self._lives[commit.id, commit.execution] = commit.life
                for one in commit.cancelled:
                    activity = ActivityKey(commit.id, commit.execution, one.command, commit.life)
                    self.cancelled.setdefault(activity, at)
                    self._cancelled_at.setdefault(activity, self.moment)
                for offset in range(len(commit.turns)):
                    key = commit.id, commit.life, commit.execution, commit.number + offset
                    other = self._turns.setdefault(key, worker)
                    if other != worker:
                        self.problems.append(
                            f"turn {key[3]} of execution {key[2]} of {commit.id!r} was stored by "
                            f"{other} and by {worker}"
                        )

    def leased(self, activities: Sequence[ActivityKey], asked: int) -> None:
        """Note activities that a worker was given who had asked at a `moment`.

        Whose cancel was stored before is given to nobody: its row is deleted, or belongs to the
        worker that runs it, and is deleted when that one has ended or is dead.
        """
        for key in activities:
            if self._cancelled_at.get(key, asked + 1) <= asked:
                self.problems.append(
                    f"activity {key.command} of {key.instance!r} was given to a worker after its "
                    "cancel had been stored"
                )

    def reset(self, before: InstanceRecord, execution: int) -> None:
        """Note that a reset has begun an execution of an instance, whose row was so before.

        A cancel that has ended it has done what it was for, and a terminate drops what is unread.
        """
        self._lives[before.id, execution] = before.life
        accepted = self._accepted.get((before.id, before.life), [])
        if before.status == "terminated":
            accepted.clear()
        elif before.status in ENDED:
            accepted[:] = [each for each in accepted if not isinstance(each, CancelRequested)]

    def belongs_to(self, record: InstanceRecord, execution: int) -> bool:
        """Whether an execution of an id is of the life that its row has now.

        One that nobody has written to, and so has received nothing, is of none.
        """
        return self._lives.get((record.id, execution)) == record.life

    def accepted(self, instance: str, life: str, event: bytes) -> None:
        """Note what a client was told to be stored: a signal, or a cancel."""
        self._accepted.setdefault((instance, life), []).append(decode_event(event))

    def sent_to(self, record: InstanceRecord) -> list[Event]:
        """Return what was accepted for an instance, in its order."""
        return self._accepted.get((record.id, record.life), [])


async def check_store(
    store: Backend,
    versions: Sequence[Registry],
    ledger: Ledger,
    *,
    codec: Codec,
    around: Mapping[str, Any],
) -> tuple[list[str], list[History]]:
    """Return what is wrong with what is stored, and the histories.

    Args:
        store: The store, after everything has ended.
        versions: The code that was deployed, one after the other.
        ledger: What the store has accepted.
        codec: For the values.
        around: What a `Replay` is given of the workers' options, propagators and interceptors.
    """
    problems = list(ledger.problems)
    histories: list[History] = []
    for record in await store.list(InstanceFilter(), limit=1_000_000):
        history = await export_record(store, record)
        histories.append(history)
        problems += _of_record(record)
        if record.status in ENDED and await store.activities(record.id):
            problems.append(f"{record.id!r} has ended, and rows of activities are left")
        executions = [execution.decode() for execution in history.executions]
        problems += _of_history(record, history, executions)
        accepted = ledger.sent_to(record)
        mine = [
            turns
            for each, turns in zip(history.executions, executions, strict=True)
            if ledger.belongs_to(record, each.number)
        ]
        problems += _of_messages(record, mine, accepted)
        problems += await _of_updates(store, record, executions, accepted)
        problems += _replays(versions, history, codec, around)
    return problems, histories


def _of_record(record: InstanceRecord) -> Iterator[str]:
    if record.status == "running":
        yield f"{record.id!r} ({record.workflow}) has not ended: {record}"
    if record.status == "suspended":
        report = decode_report(record.outcome)
        yield f"{record.id!r} is suspended ({report.kind}): {report.message}"
    if record.status in ENDED and record.worker is not None:
        yield f"{record.id!r} has ended and is leased to {record.worker}"
    if record.status in ENDED and record.unread:
        yield f"{record.id!r} has ended, and {record.unread} messages are left in its inbox"


def _of_history(
    record: InstanceRecord, history: History, executions: Sequence[Sequence[Turn]]
) -> Iterator[str]:
    for execution, stored in zip(history.executions, executions, strict=True):
        turns = [turn for turn in stored if turn.reset is None]
        if not turns:
            continue
        where = f"execution {execution.number} of {record.id!r}"
        if not isinstance(turns[0].events[0], Started):
            yield f"{where} does not begin with Started"
        for turn in turns[:-1]:
            if turn.outcome is not None:
                yield f"{where} goes on after its end"
        times = [turn.now for turn in turns]
        if times != sorted(times):
            yield f"the clock of {where} goes back"
        yield from _answers(where, turns)
        ended = record.status in ("completed", "failed", "cancelled")
        if execution is history.executions[-1] and ended and turns[-1].outcome is None:
            yield f"{record.id!r} is {record.status}, and its history has no end"


def _of_messages(
    record: InstanceRecord, executions: Sequence[Sequence[Turn]], accepted: Sequence[Event]
) -> Iterator[str]:
    """What clients were told to be stored has been consumed, once and in its order."""
    if record.status in ("terminated", "suspended"):
        return
    counts = _effective(executions)
    received = [
        event
        for turns in counts
        for turn in turns
        for event in turn.events
        if isinstance(event, _Sent)
    ]
    if not accepted:
        return
    if not record.turns and record.status == "cancelled":
        return  # before it began; what is there is of an earlier life of its id
    given, got = Counter(map(_said, accepted)), Counter(map(_said, received))
    for what, times in given.items():
        if got[what] < times:
            yield f"{record.id!r} was sent {what} {times} times and has received it {got[what]}"
    clients = [what for what in map(_said, received) if what in given]
    if got == given and clients != list(map(_said, accepted)):
        yield f"{record.id!r} has received what it was sent in another order"


def _effective(executions: Sequence[Sequence[Turn]]) -> list[Sequence[Turn]]:
    """Return the executions but those that were left by a reset: what counts of them is copied."""
    return [turns for turns in executions if not turns or turns[-1].reset is None]


async def _of_updates(
    store: Backend,
    record: InstanceRecord,
    executions: Sequence[Sequence[Turn]],
    accepted: Sequence[Event],
) -> list[str]:
    """An update that was accepted is answered once, and whoever asks for the answer gets it."""
    asked = [event.update for event in accepted if isinstance(event, UpdateRequested)]
    if not asked:
        return []
    problems: list[str] = []
    stored = await store.answers([RequestKey(record.id, record.life, id) for id in asked])
    for id, answer in zip(asked, stored, strict=True):
        given = _answers_to(id, _effective(executions))
        if given > 1:
            problems.append(f"{record.id!r} has answered update {id!r} {given} times")
        if (answer is None) != (not _answers_to(id, executions)):
            there = "not stored" if answer is None else "in no turn"
            problems.append(f"the answer of {record.id!r} to update {id!r} is {there}")
    return problems


def _answers_to(update: str, executions: Sequence[Sequence[Turn]]) -> int:
    return sum(
        isinstance(command, AnswerUpdate) and command.update == update
        for turns in executions
        for turn in turns
        for command in turn.commands
    )


def _said(event: Event) -> str:
    return msgspec.json.encode(event).decode()


def _answers(where: str, turns: Sequence[Turn]) -> Iterator[str]:
    answered: set[str] = set()
    for turn in turns:
        for event in turn.events:
            if not isinstance(event, ActivityCompleted | ActivityFailed | ActivityCancelled):
                continue
            if event.id in answered:
                yield f"{where} has two answers to {event.id}"
            answered.add(event.id)


def _replays(
    versions: Sequence[Registry], history: History, codec: Codec, around: Mapping[str, Any]
) -> Iterator[str]:
    """Each execution is what some of the code that was deployed gives.

    Where other code has made other turns of it, what commands carry may differ.
    """
    strict = len(versions) == 1
    for execution in history.executions:
        turns = execution.decode()
        if not turns or turns[0].reset is not None:
            continue
        started: Any = turns[0].events[0]
        known = [known_workflows(version).get(started.workflow) for version in versions]
        tried = [workflow for workflow in known if workflow is not None]
        if not tried:
            yield f"workflow {started.workflow!r} of {history.id!r} is not registered"
            continue
        errors: list[ReplayError] = []
        for workflow in tried:
            try:
                with Replay(
                    history,
                    workflow,
                    execution=execution.number,
                    codec=codec,
                    strict=strict,
                    **around,
                ) as replay:
                    for _ in replay:
                        pass
            except ReplayError as exc:
                errors.append(exc)
            else:
                break
        if len(errors) == len(tried):
            yield f"{history.id!r} does not replay: {errors[-1]}"
