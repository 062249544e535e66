"""Who holds what tasks of workflows wait for: locks and semaphores that instances share."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from trioflow._model.info import TaskInfo
from trioflow._model.shared import held_in
from trioflow.backends.abc import Backend

__all__ = ["with_holders"]


async def with_holders(backend: Backend, tasks: Sequence[TaskInfo]) -> list[TaskInfo]:
    """Say of tasks that wait for a lock or a semaphore which instances hold it."""
    said: dict[str, str] = {}
    for text in dict.fromkeys(task.waits_for for task in tasks):
        key = held_in(text)
        holders = [] if key is None else (await backend.shared_state(key)).holders
        if holders:
            said[text] = f"{text}, held by {', '.join(dict.fromkeys(holders))}"
    return [
        msgspec.structs.replace(task, waits_for=said.get(task.waits_for, task.waits_for))
        for task in tasks
    ]
