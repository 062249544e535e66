"""Telling observers how an attempt of an activity has ended."""

from __future__ import annotations

from typing import Literal

from trioflow._codec.failures.failures import Failure
from trioflow._model.events import ActivityCancelled, ActivityCompleted, ActivityFailed, Event
from trioflow._observe import AttemptEnded, Observers
from trioflow._worker.activities.attempts import Again
from trioflow._worker.activities.lanes import Run
from trioflow._worker.activities.transactions import Kept

__all__ = ["tell_attempt"]

_Status = Literal["completed", "failed", "cancelled", "retried", "given back"]


def tell_attempt(
    observers: Observers, run: Run, result: Event | Again | Kept | None, seconds: float, now: float
) -> None:
    """Tell of an attempt.

    Args:
        observers: Whom.
        run: Which one.
        result: What became of the activity; ``None`` if the attempt has stopped because of
            `Run.stop`.
        seconds: How long it took.
        now: When it ended, by the store's clock.
    """
    task, options = run.task, run.options
    status, failure = _end(run, result)
    observers.tell(
        AttemptEnded(
            instance=task.key.instance,
            life=task.key.life,
            execution=task.key.execution,
            command=task.key.command,
            activity=task.activity,
            queue=task.queue,
            attempt=task.attempt,
            status=status,
            failure=failure,
            metadata=(options.metadata if options else None) or {},
            scheduled_at=task.scheduled_at,
            began_at=now - seconds,
            ended_at=now,
        )
    )


def _end(run: Run, result: Event | Again | Kept | None) -> tuple[_Status, Failure | None]:
    if isinstance(result, Again):
        return "retried", result.failure
    if isinstance(result, ActivityCompleted) or result is Kept.STORED:
        return "completed", None
    if isinstance(result, ActivityFailed):
        return "failed", result.failure
    if isinstance(result, ActivityCancelled) or run.stop == "cancelled":
        return "cancelled", None
    return "given back", None
