"""The limit of task steps in a turn, and the exceptions that end a step early."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any

import trio

from trioflow._engine.loop.runner import age_of

__all__ = ["EndedUnseen", "StepLimit", "StepsUsedUp"]

_PARTS = 20  # the limit is divided into so many


class EndedUnseen(Exception):
    """Raised when the main task ends before all events of the step were applied.

    Attributes:
        number: Of the thing or deadline that ended it; see `NestedLoop.step_in_order`.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"the main task ended at {number}, with something left")
        self.number = number


def _is_cancelled(task: trio.lowlevel.Task) -> bool:
    # A task without a nursery has no status before it first runs, whatever trio's types say.
    status: Any = task._cancel_status
    return status is not None and bool(status.effectively_cancelled)


class StepsUsedUp(Exception):
    """Raised when tasks have used up the step limit, or when the step was halted.

    Attributes:
        task: One that was about to run again.
        cancelled: Whether it goes on although it is cancelled.
    """

    def __init__(self, task: trio.lowlevel.Task) -> None:
        super().__init__("the tasks of a workflow never block")
        self.task = task
        self.cancelled = _is_cancelled(task)


class StepLimit:
    """Counts the task steps of a turn, and ends it at the limit.

    The limit is divided into parts. A cancelled task that keeps running through two of them is
    stopped then, since nothing but swallowing its cancel takes so many steps.

    Attributes:
        left: How many may be made until then. The loop itself counts down.
    """

    __slots__ = ("_all", "_part", "_stubborn", "left")

    def __init__(self) -> None:
        self._stubborn: dict[trio.lowlevel.Task, int] = {}
        self._part = self._all = self.left = inf

    def set(self, steps: float) -> None:
        """Allow so many steps from now on; ``inf`` for no limit."""
        if steps == inf == self.left:
            return
        self._part = steps if steps == inf else steps // _PARTS + 1
        self._all = steps
        self.left = self._part
        if self._stubborn:
            self._stubborn = {}

    def exhaust(self) -> None:
        """Allow no more steps."""
        self.left = self._all = -inf

    def take_tally(self, ready: Iterable[trio.lowlevel.Task]) -> None:
        """Begin the next part, unless the limit is reached or a task swallows its cancel.

        Raises:
            StepsUsedUp: With the oldest of the ready tasks, or one that swallows its cancel.
        """
        tasks = sorted(ready, key=age_of)
        self._all -= self._part
        if self._all < 0:
            raise StepsUsedUp(tasks[0])
        before, self._stubborn = self._stubborn, {}
        for task in tasks:
            if _is_cancelled(task):
                points = task._schedule_points
                if points - before.get(task, points) > self._part // _PARTS:
                    raise StepsUsedUp(task)
                self._stubborn[task] = points
        self.left += self._part
