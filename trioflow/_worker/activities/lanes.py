"""Lanes: queues of leased activities that share a limit, highest priority first.

An activity waits in the lane of its runtime from the moment when it is leased until it gets a task.
Only a few (`AHEAD`) have a task and have not begun: then the loop always has the next ones at
hand, and everything else has its turn in between.
"""

from __future__ import annotations

import heapq
import math
from itertools import count
from typing import Literal

from trioflow._model.commands import ActivityOptions
from trioflow._worker.activities.prefetch import Window
from trioflow._worker.activities.pulse import Pulse
from trioflow._worker.host import DetachedGroup, Scope, ThreadCall
from trioflow.backends.outbox import ActivityTransaction
from trioflow.backends.records import ActivityTask

__all__ = ["AHEAD", "Lane", "Run", "ThreadLane"]

AHEAD = 8  # tasks that have not begun
# Shares of a processor, see `ThreadLane`.
_BUSY, _IDLE, _HALF = 0.9, 0.8, 0.5
# Seconds from a thread's end until the loop knows. Who waits for the interpreter lock gets it after
# five milliseconds or more.
_LATE, _PROMPT = 0.003, 0.001

_numbers = count()


class Run:
    """An activity that this worker has leased, from its coming until it is reported.

    Attributes:
        came_at: When it came, by the host's monotonic clock.
        came_after: How many activities of its lane had begun then.
        stop: Why it is to stop, or must not begin.
        reason: What its workflow's scope was cancelled with, as it is stored.
        waits: Whether it waits in its lane.
        options: Those of its call, once it has begun.
        scope: Around its function, once that runs.
        limit: What its time is limited by, in words; ``""`` if it is not.
        over_at: When it is given up if it has not ended, by the loop's clock.
        due: When that is to be looked at, or whether it is silent.
        detached: It has been reported, or must not be; what it still does is dropped.
        given_up: It was cancelled, and did not stop in time.
        thread: Its thread, if it is a plain function that runs.
        group: The group that its task is in, once it has one.
        pulse: What it says with ``heartbeat()``, once it has, or if it must.
        transaction: What it writes in, while it does.
        place: Names its place under limits if it keeps one after it was given up.
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
        "over_at",
        "place",
        "pulse",
        "reason",
        "scope",
        "stop",
        "task",
        "thread",
        "transaction",
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
        self.reason: str | None = None
        self.limit = ""
        self.options: ActivityOptions | None = None
        self.over_at = self.due = math.inf
        self.detached = self.given_up = False
        self.thread: ThreadCall | None = None
        self.transaction: ActivityTransaction | None = None
        self.group: DetachedGroup | None = None
        self.pulse: Pulse | None = None
        self.place = ""

    @property
    def interrupted(self) -> bool:
        """Whether its task is cancelled because another one has failed."""
        return self.group is not None and self.group.broken

    @property
    def rank(self) -> tuple[int, int]:
        """The lower, the sooner it begins."""
        return -self.task.priority, self.number


class Lane:
    """A priority queue of activities that share a limit.

    Attributes:
        limit: How many may run at once.
        running: How many have a task.
        fresh: How many of them have not begun.
        waiting: How many wait for one.
        window: How many of them are leased ahead.
    """

    __slots__ = ("_heap", "_looked", "fresh", "limit", "running", "waiting", "window")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.window = Window(limit)
        # A heap. One that is removed stays in it, and waits no longer: to search for it takes long.
        self._heap: list[tuple[tuple[int, int], Run]] = []
        self.waiting = 0
        self.running = 0
        self.fresh = 0
        self._looked = (0, 0)  # at the last look: how many had begun, and who came last

    def add(self, run: Run) -> None:
        """Add one that waits."""
        run.waits = True
        self.waiting += 1
        heapq.heappush(self._heap, (run.rank, run))

    @property
    def head(self) -> tuple[int, int] | None:
        """The rank of the next, if it may get a task now."""
        if not self.waiting or self.running >= self.limit or self.fresh >= AHEAD:
            return None
        while not self._heap[0][1].waits:
            heapq.heappop(self._heap)
        return self._heap[0][0]

    def next(self) -> Run | None:
        """Remove the first and return it, if it may get a task now."""
        if not self.waiting or self.running >= self.limit or self.fresh >= AHEAD:
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
        """Remove one; False if it did not wait."""
        if not run.waits:
            return False
        run.waits = False
        self.waiting -= 1
        return True

    def surplus(self, number: int) -> list[Run]:
        """Remove up to so many of those that would begin last; return them."""
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
    """A lane of plain functions in threads, with a limit that follows how much threads gain.

    Threads that compute take turns, as there is one interpreter lock. Many at a time take as long
    as a few, end late all together, are kept from other workers, and keep the loop waiting for the
    lock. Threads that wait, or compute without the lock, gain by being many. Three things together
    tell the first kind, for each that has ended:

    - it had the processor for less than half of its time (`_HALF`);
    - all that run have a processor together (`_BUSY`), so that it did not just wait for something;
    - the loop was late to learn of its end (`_LATE`): it waited for the lock too.

    Then one thread fewer may run, down to two, so that one can be seen to wait while the other
    computes. One more may run when a processor is no longer taken (`_IDLE`) or the loop is told
    promptly (`_PROMPT`).

    Defended by ``python -m benchmarks sharing``, "workflows beside plain activities that compute":
    beside 250 of them 1.9 small workflows a second end with this, and 0.6 without it, as medians of
    six alternations on two busy processors.
    """

    __slots__ = ("_most",)

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._most = limit

    def ran(self, processor: float, seconds: float, late: float) -> None:
        """Adjust the limit to how one has run.

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
