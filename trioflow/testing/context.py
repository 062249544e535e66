"""`activity_context`: what an activity that a test calls by itself is told of its call."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from trioflow._model.activities import Activity
from trioflow._model.info import (
    ActivityInfo,
    current_activity,
    current_connection,
    current_heartbeat,
)

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
    metadata: Mapping[str, str] | None = None,
    heartbeat: Any = None,
    beats: list[Any] | None = None,
    connection: Any = None,
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
        metadata: What came with the call.
        heartbeat: What the attempt before gave to ``heartbeat()``.
        connection: What `trioflow.activity_connection` returns.
        beats: Gets what the activity gives to ``heartbeat()``, one after the other.

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
        metadata=dict(metadata or {}),
        heartbeat=heartbeat,
    )
    token = current_activity.set(about)
    beating = current_heartbeat.set(None if beats is None else beats.append)
    connected = current_connection.set(connection)
    try:
        yield about
    finally:
        current_connection.reset(connected)
        current_heartbeat.reset(beating)
        current_activity.reset(token)
