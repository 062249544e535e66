"""Telling observers what a commit has stored of an instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from trioflow._model.turns import Cancelled, Completed, Continued, Failed, Outcome
from trioflow._observe import (
    BatchStored,
    ExecutionEnded,
    InstanceSuspended,
    InstanceTaken,
    Observation,
    Observers,
    TurnStored,
)
from trioflow._worker.instances.batch import OpenUnit
from trioflow._worker.instances.held import HeldInstance
from trioflow._worker.instances.holdings import Holdings
from trioflow.backends.records import TakenInstance

__all__ = ["tell_batch", "tell_stored", "tell_taken"]

_STATUSES: dict[type[Outcome], Literal["completed", "failed", "cancelled", "continued"]] = {
    Completed: "completed",
    Failed: "failed",
    Cancelled: "cancelled",
    Continued: "continued",
}


def tell_taken(
    observers: Observers,
    row: TakenInstance,
    holdings: Holdings,
    now: float,
) -> None:
    """Tell of an instance that the store gave, before it is received.

    Args:
        observers: Whom.
        row: What the store gave.
        holdings: What the worker has of it until now.
        now: The store's time.
    """
    cached = None
    if row.turns and row.id not in holdings.held:
        cached = holdings.has_parked(row)
    observers.tell(
        InstanceTaken(
            instance=row.id,
            workflow=row.workflow,
            queue=row.queue,
            waited=max(0.0, now - row.ready_at),
            cached=cached,
        )
    )


def tell_batch(
    observers: Observers,
    units: Sequence[OpenUnit],
    results: Sequence[object],
    seconds: float,
    about: Mapping[str, Any],
) -> None:
    """Tell of a transaction.

    Args:
        observers: Whom.
        units: What it had.
        results: For each of them ``None``, or why it was not stored.
        seconds: How long it took.
        about: What else is said of the worker.
    """
    stored = [unit for unit, result in zip(units, results, strict=True) if result is None]
    observers.tell(
        BatchStored(
            units=len(units),
            refused=len(units) - len(stored),
            turns=sum([len(each.turns) for unit in stored for each in unit.unit.instances]),
            seconds=seconds,
            **about,
        )
    )


def tell_stored(observers: Observers, instance: HeldInstance) -> None:
    """Tell of an instance's turns, and of its end, before what the end lets go is let go.

    Args:
        observers: Whom.
        instance: Whose commit was stored.
    """
    commit = instance.commit
    assert commit is not None
    turns = instance.take_told()
    execution = instance.execution
    if turns and execution is not None:
        info = execution.info()
        about: dict[str, Any] = {
            "instance": instance.id,
            "life": instance.life,
            "execution": info.execution,
            "workflow": instance.workflow,
            "queue": instance.queue,
            "parent": info.parent,
            "metadata": info.metadata,
            "started_at": info.started_at,
        }
        first = execution.turns - len(turns)
        told: list[Observation] = []
        for number, turn in enumerate(turns, first):  # a list's display would be a call more
            told.append(TurnStored(number=number, turn=turn, **about))
        outcome = turns[-1].outcome
        if outcome is not None:
            failure = outcome.failure if isinstance(outcome, Failed) else None
            ended_at = turns[-1].now
            told.append(
                ExecutionEnded(
                    status=_STATUSES[type(outcome)], ended_at=ended_at, failure=failure, **about
                )
            )
        observers.tell(*told)
    if commit.suspended is not None:
        observers.tell(
            InstanceSuspended(
                instance=instance.id,
                life=instance.life,
                execution=instance.number,
                workflow=instance.workflow,
                queue=instance.queue,
                message=instance.report,
            )
        )
