"""What an execution keeps of itself and of a command that is under way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from trioflow._model.commands import Command

__all__ = ["Identity", "Pending"]


class Pending:
    """A command whose task waits for its event."""

    __slots__ = ("abandon", "command", "raise_cancel", "task", "turn")

    def __init__(
        self, command: Command, task: trio.lowlevel.Task, turn: int, *, abandon: bool
    ) -> None:
        self.command = command
        self.task = task
        self.turn = turn
        self.abandon = abandon
        self.raise_cancel: Callable[[], Any] | None = None


class Identity:
    """Which execution of which instance; what does not change in its life."""

    __slots__ = ("execution", "id", "life", "priority", "queue")

    def __init__(
        self, id: str, execution: int, queue: str, priority: int = 0, life: str = ""
    ) -> None:
        self.id = id
        self.life = life
        self.execution = execution
        self.queue = queue
        self.priority = priority
