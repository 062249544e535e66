"""`activity_context`: what an activity that a test calls by itself is told of its call."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from trioflow._model.definitions import Activity
from trioflow._model.info import ActivityInfo, current_activity

__all__ = ["activity_context"]


@contextmanager
def activity_context(
    activity: Activity[..., Any] | str | None = None,
    /,
    *,
    attempt: int = 1,
    instance: str = "tested",
    execution: int = 1,
    command: str = "0:1",
    queue: str = "default",
    scheduled_at: float = 0.0,
    life: str = "",
) -> Generator[ActivityInfo]:
    """Let `activity_info` work in activities that are called in the block, without a worker.

    An activity that a test calls is the function that it is: no retry, no timeout, no record. Two
    calls in one block are told the same; give each attempt a block of its own.

    Args:
        activity: Whose call it is, or its name; by default the one that is called.
        attempt: Which attempt, from 1.
        instance: The id of the instance that calls it.
        execution: The instance's execution.
        command: The id of the call.
        queue: Where it runs.
        scheduled_at: When it was called, epoch seconds.
        life: What tells the instance from others of its id.

    Yields:
        What `activity_info` returns.

    Raises:
        ValueError: The attempt or the execution is less than 1.

    Example:
        >>> with activity_context(attempt=2):  # doctest: +SKIP
        ...     assert await charge(order) == "the receipt of before"
    """
    if attempt < 1 or execution < 1:
        what = "attempt" if attempt < 1 else "execution"
        raise ValueError(f"{what} counts from 1, not {attempt if attempt < 1 else execution}")
    name = activity if isinstance(activity, str | None) else activity.name
    about = ActivityInfo(
        activity=name or "",
        instance=instance,
        execution=execution,
        command=command,
        attempt=attempt,
        scheduled_at=scheduled_at,
        queue=queue,
        life=life,
    )
    token = current_activity.set(about)
    try:
        yield about
    finally:
        current_activity.reset(token)
