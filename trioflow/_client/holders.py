"""Who holds what tasks of workflows wait for: locks and semaphores that instances share."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from trioflow._model.info import TaskInfo
from trioflow.backends.abc import Backend

__all__ = ["with_holders"]

_SHARED = ("shared lock:", "shared semaphore:")  # what a task waits for, see `TaskInfo`


async def with_holders(backend: Backend, tasks: Sequence[TaskInfo]) -> list[TaskInfo]:
    """Say of tasks that wait for a lock or a semaphore which instances hold it."""
    known: list[TaskInfo] = []
    for task in tasks:
        said = task
        if task.waits_for.startswith(_SHARED):
            state = await backend.shared_state(task.waits_for.removeprefix("shared "))
            if state.holders:
                holders = ", ".join(dict.fromkeys(state.holders))
                said = msgspec.structs.replace(
                    task, waits_for=f"{task.waits_for}, held by {holders}"
                )
        known.append(said)
    return known
