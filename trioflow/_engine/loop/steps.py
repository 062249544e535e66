"""The limit of task steps in a turn, and the exceptions that end a step early."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any

import trio

from trioflow._engine.loop.runner import age_of

__all__ = ["EndedUnseen", "StepLimit", "StepsUsedUp"]

_PARTS = 200  # the limit is divided into so many
_STUBBORN = 20  # a task that makes one in so many steps of a part makes many
_FEW = 2  # and where a part is small, more than these


class EndedUnseen(Exception):
    """Raised when the main task ends before all events of the step were applied.

    Attributes:
        number: Of the thing or deadline that ended it; see `step_in_order`.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"the main task ended at {number}, with something left")
        self.number = number


def _is_cancelled(task: trio.lowlevel.Task) -> bool:
    # A task without a nursery has no status before it first runs, whatever trio's types say.
    status: Any = task._cancel_status
    return status is not None and bool(status.effectively_cancelled)


def _cancelled(tasks: Iterable[trio.lowlevel.Task]) -> list[trio.lowlevel.Task]:
    """Return those of the tasks that are cancelled, and the cancelled ones around them."""
    found: dict[trio.lowlevel.Task, None] = {}
    for task in tasks:
        each: trio.lowlevel.Task | None = task
        while each is not None and each not in found and _is_cancelled(each):
            found[each] = None
            nursery = each.parent_nursery
            each = None if nursery is None else nursery.parent_task
    return [*found]


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
    stopped then, since nothing but swallowing its cancel takes so many steps. It may wait for tasks
    that it starts again and again, so those that a cancelled task belongs to are counted as well.

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
        for task in _cancelled(tasks):
            points = task._schedule_points
            if points - before.get(task, points) > self._part // _STUBBORN + _FEW:
                raise StepsUsedUp(task)
            self._stubborn[task] = points
        self.left += self._part
