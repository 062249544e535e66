"""What has to hold in every cluster, whatever has happened to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from trioflow._model.events import ActivityCancelled, ActivityCompleted, ActivityFailed, Started
from trioflow._model.turns import Turn
from trioflow._registry import Registry
from trioflow.backends.abc import Backend
from trioflow.backends.records import (
    ENDED,
    CommitFailure,
    InstanceFilter,
    InstanceRecord,
    Unit,
)
from trioflow.errors import TrioflowError
from trioflow.testing.history import History, Replay, ReplayError, export_record

__all__ = ["BrokenInvariant", "Ledger", "check_store"]


class BrokenInvariant(TrioflowError, AssertionError):
    """Raised where a cluster has broken a promise; says which, where, and in which run."""


class Ledger:
    """What the store has accepted, to be held against what is there at the end.

    Attributes:
        problems: What was wrong while it went on.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._turns: dict[tuple[str, str, int, int], str] = {}

    def committed(
        self, worker: str, units: Sequence[Unit], results: Sequence[CommitFailure | None]
    ) -> None:
        """Note a commit and what came of each unit."""
        for unit, result in zip(units, results, strict=True):
            if result is not None:
                continue
            for commit in unit.instances:
                for offset in range(len(commit.turns)):
                    key = commit.id, commit.life, commit.execution, commit.number + offset
                    other = self._turns.setdefault(key, worker)
                    if other != worker:
                        self.problems.append(
                            f"turn {key[3]} of execution {key[2]} of {commit.id!r} was stored by "
                            f"{other} and by {worker}"
                        )


async def check_store(
    store: Backend, registry: Registry, ledger: Ledger, *, may_suspend: bool
) -> tuple[list[str], list[History]]:
    """Return what is wrong with what is stored, and the histories."""
    problems = list(ledger.problems)
    histories: list[History] = []
    for record in await store.list(InstanceFilter(), limit=1_000_000):
        history = await export_record(store, record)
        histories.append(history)
        problems += _of_record(record, may_suspend=may_suspend)
        if record.status in ENDED and await store.activities(record.id):
            problems.append(f"{record.id!r} has ended, and rows of activities are left")
        problems += _of_history(record, history)
        problems += _replays(registry, history)
    return problems, histories


def _of_record(record: InstanceRecord, *, may_suspend: bool) -> Iterator[str]:
    if record.status == "running":
        yield f"{record.id!r} ({record.workflow}) has not ended: {record}"
    if record.status == "suspended" and not may_suspend:
        yield f"{record.id!r} is suspended: {record.outcome.decode(errors='replace')}"
    if record.status in ENDED and record.worker is not None:
        yield f"{record.id!r} has ended and is leased to {record.worker}"
    if record.status in ENDED and record.unread:
        yield f"{record.id!r} has ended, and {record.unread} messages are left in its inbox"


def _of_history(record: InstanceRecord, history: History) -> Iterator[str]:
    for execution in history.executions:
        turns = execution.decode()
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


def _answers(where: str, turns: Sequence[Turn]) -> Iterator[str]:
    answered: set[str] = set()
    for turn in turns:
        for event in turn.events:
            if not isinstance(event, ActivityCompleted | ActivityFailed | ActivityCancelled):
                continue
            if event.id in answered:
                yield f"{where} has two answers to {event.id}"
            answered.add(event.id)


def _replays(registry: Registry, history: History) -> Iterator[str]:
    for execution in history.executions:
        if not execution.turns:
            continue
        started: Any = execution.decode()[0].events[0]
        workflow = registry.workflows.get(started.workflow)
        if workflow is None:
            yield f"workflow {started.workflow!r} of {history.id!r} is not registered"
            continue
        try:
            with Replay(history, workflow, execution=execution.number) as replay:
                for _ in replay:
                    pass
        except ReplayError as exc:
            yield f"{history.id!r} does not replay: {exc}"
