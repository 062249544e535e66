"""Where activities wait until they may begin: those of higher priority first."""

from __future__ import annotations

import heapq
import time
from itertools import count
from typing import Literal

from trioflow.model.records import ActivityTask
from trioflow.worker.host import Scope

__all__ = ["Lane", "Run"]

# So many are about to begin: enough to keep the loop at it, and few enough for all else in between.
_AHEAD = 8

_numbers = count()


class Run:
    """An activity in this worker's hands.

    Attributes:
        came_at: When it came, by `time.perf_counter`.
        came_after: How many activities had begun then.
        stop: Why it is to stop, or must not begin.
    """

    __slots__ = ("came_after", "came_at", "number", "scope", "stop", "task")

    def __init__(self, task: ActivityTask, came_after: int) -> None:
        self.task = task
        self.came_at = time.perf_counter()
        self.came_after = came_after
        self.number = next(_numbers)
        self.scope: Scope | None = None
        self.stop: Literal["", "cancelled", "given back", "dropped"] = ""

    @property
    def rank(self) -> tuple[int, int]:
        """The lower, the sooner it begins."""
        return -self.task.priority, self.number


class Lane:
    """Activities that share a limit.

    Args:
        limit: How many may run at once.

    Attributes:
        running: How many have a task.
        fresh: How many of them have not begun.
    """

    __slots__ = ("_limit", "_waiting", "fresh", "running")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: list[tuple[tuple[int, int], Run]] = []  # a heap
        self.running = 0
        self.fresh = 0

    def add(self, run: Run) -> None:
        """Let one more wait."""
        heapq.heappush(self._waiting, (run.rank, run))

    def next(self) -> Run | None:
        """Return one that is to get a task now."""
        if not self._waiting or self.running >= self._limit or self.fresh >= _AHEAD:
            return None
        self.running += 1
        self.fresh += 1
        return heapq.heappop(self._waiting)[1]

    def remove(self, run: Run) -> bool:
        """Let one wait no longer; False if it did not."""
        entry = (run.rank, run)
        if entry not in self._waiting:
            return False
        self._waiting.remove(entry)
        heapq.heapify(self._waiting)
        return True

    def surplus(self, number: int) -> list[Run]:
        """Remove up to so many, the last that would begin; return them."""
        kept = max(0, len(self._waiting) - number)
        self._waiting.sort()
        found = [run for _, run in self._waiting[kept:]]
        del self._waiting[kept:]
        return found
