"""Where activities wait until they may begin: those of higher priority first."""

from __future__ import annotations

import heapq
import math
from itertools import count
from typing import Literal

from trioflow._model.commands import ActivityOptions
from trioflow._worker.activities.prefetch import Window
from trioflow._worker.host import DetachedGroup, Scope, ThreadCall
from trioflow.backends.records import ActivityTask

__all__ = ["Lane", "Run", "ThreadLane"]

# So many are about to begin: enough to keep the loop at it, and few enough for all else in between.
_AHEAD = 8
# Of a processor: with so much of it taken more threads are of no use; with less they may be.
_BUSY, _IDLE, _HALF = 0.9, 0.8, 0.5
# Seconds; who waits for the interpreter lock gets it after five milliseconds or more.
_LATE, _PROMPT = 0.003, 0.001

_numbers = count()


class Run:
    """An activity in this worker's hands.

    Attributes:
        came_at: When it came, by the host's monotonic clock.
        came_after: How many activities of its lane had begun then.
        stop: Why it is to stop, or must not begin.
        waits: Whether it waits in its lane.
        options: Those of its call, once it has begun.
        scope: Around its function, once that runs.
        limit: What its time is limited by, in words; ``""`` if it is not.
        due: When it is given up if it has not ended, by the loop's clock.
        detached: It has been reported, or must not be; what it still does is dropped.
        given_up: It was cancelled, and did not stop in time.
        thread: Its thread, if it is a plain function that runs.
        group: The group that its task is in, once it has one.
    """

    __slots__ = (
        "came_after",
        "came_at",
        "detached",
        "due",
        "given_up",
        "group",
        "limit",
        "number",
        "options",
        "scope",
        "stop",
        "task",
        "thread",
        "waits",
    )

    def __init__(self, task: ActivityTask, came_at: float, came_after: int) -> None:
        self.task = task
        self.came_at = came_at
        self.came_after = came_after
        self.number = next(_numbers)
        self.scope: Scope | None = None
        self.waits = False
        self.stop: Literal["", "cancelled", "given back", "dropped"] = ""
        self.limit = ""
        self.options: ActivityOptions | None = None
        self.due = math.inf
        self.detached = self.given_up = False
        self.thread: ThreadCall | None = None
        self.group: DetachedGroup | None = None

    @property
    def interrupted(self) -> bool:
        """Whether its task is cancelled because another one has failed."""
        return self.group is not None and self.group.broken

    @property
    def rank(self) -> tuple[int, int]:
        """The lower, the sooner it begins."""
        return -self.task.priority, self.number


class Lane:
    """Activities that share a limit.

    Attributes:
        limit: How many may run at once.
        running: How many have a task.
        fresh: How many of them have not begun.
        waiting: How many wait for one.
        window: How many of them a worker lays its hands on.
    """

    __slots__ = ("_heap", "_looked", "fresh", "limit", "running", "waiting", "window")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.window = Window(limit)
        # A heap, and how many of it still wait: to search it for one would take long.
        self._heap: list[tuple[tuple[int, int], Run]] = []
        self.waiting = 0
        self.running = 0
        self.fresh = 0
        self._looked = (0, 0)  # at the last look: how many had begun, and who came last

    def add(self, run: Run) -> None:
        """Let one more wait."""
        run.waits = True
        self.waiting += 1
        heapq.heappush(self._heap, (run.rank, run))

    @property
    def head(self) -> tuple[int, int] | None:
        """The rank of the next, if it may get a task now."""
        if not self.waiting or self.running >= self.limit or self.fresh >= _AHEAD:
            return None
        while not self._heap[0][1].waits:
            heapq.heappop(self._heap)
        return self._heap[0][0]

    def next(self) -> Run | None:
        """Return one that is to get a task now."""
        if not self.waiting or self.running >= self.limit or self.fresh >= _AHEAD:
            return None
        self.running += 1
        self.fresh += 1
        run = heapq.heappop(self._heap)[1]
        while not run.waits:
            run = heapq.heappop(self._heap)[1]
        run.waits = False
        self.waiting -= 1
        return run

    def remove(self, run: Run) -> bool:
        """Let one wait no longer; False if it did not."""
        if not run.waits:
            return False
        run.waits = False
        self.waiting -= 1
        return True

    def surplus(self, number: int) -> list[Run]:
        """Remove up to so many, the last that would begin; return them."""
        kept = max(0, self.waiting - number)
        self._heap = sorted(entry for entry in self._heap if entry[1].waits)
        found = [run for _, run in self._heap[kept:]]
        for run in found:
            self.remove(run)
        del self._heap[kept:]
        return found

    def stuck(self) -> list[Run]:
        """Remove and return those that waited at the last look too, if none has begun since."""
        begun, last = self._looked
        found: list[Run] = []
        if begun == self.window.total:
            found = [run for _, run in self._heap if run.waits and run.number <= last]
            for run in found:
                self.remove(run)
        newest = max((run.number for _, run in self._heap if run.waits), default=0)
        self._looked = self.window.total, newest
        return found


class ThreadLane(Lane):
    """Plain functions, each in a thread.

    Threads that compute take turns, as there is one interpreter lock: many at a time take as long,
    end late all together, and are kept from other workers. It shows by three things at once: they
    have the processor for less than half of their time, all of them together have one, and the loop
    has to wait when it wants to run. Then there are fewer at a time.
    """

    __slots__ = ("_most",)

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._most = limit

    def ran(self, processor: float, seconds: float, late: float) -> None:
        """Note how one has run.

        Args:
            processor: How long it had the processor, seconds.
            seconds: How long it ran.
            late: How long it took from its end until the loop knew.
        """
        share = processor / max(seconds, 1e-6)
        together = share * self.running
        if share < _HALF and together >= _BUSY and late >= _LATE:
            self.limit = max(min(2, self._most), min(self.limit, self.running) - 1)
        elif together < _IDLE or late < _PROMPT:
            self.limit = min(self._most, self.limit + 1)
