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
    waited_for = dict.fromkeys(
        task.waits_for for task in tasks if task.waits_for.startswith(_SHARED)
    )
    said: dict[str, str] = {}
    for text in waited_for:
        state = await backend.shared_state(text.removeprefix("shared "))
        if state.holders:
            said[text] = f"{text}, held by {', '.join(dict.fromkeys(state.holders))}"
    return [
        msgspec.structs.replace(task, waits_for=said.get(task.waits_for, task.waits_for))
        for task in tasks
    ]
