"""The tree of an instance's tasks from a replay of its history, where no worker is asked."""

from __future__ import annotations

from typing import Any

import anyio.lowlevel

from trioflow._client import Client
from trioflow._client.holders import with_holders
from trioflow._model.info import TaskInfo
from trioflow._model.workflows import Workflow
from trioflow.testing.history import Replay, export_history

__all__ = ["replayed_tasks"]

_TURNS = 20  # turns between two moments in which others may run


async def replayed_tasks(client: Client, id: str, workflow: Workflow[..., Any]) -> list[TaskInfo]:
    """Replay the last execution of an instance with the code of this process; return its tasks.

    Raises:
        InstanceNotFound: There is no such instance.
        ReplayError: The code does not replay the history.
        TrioflowError: It is the history of another workflow.
    """
    history = await export_history(client.handle(id))
    if not history.executions:
        return []
    with Replay(history, workflow, codec=client.codec, strict=False) as replay:
        for _ in replay:
            if replay.position % _TURNS == 0:
                await anyio.lowlevel.checkpoint()
        found = replay.tasks()
    return await with_holders(client.backend, found)
