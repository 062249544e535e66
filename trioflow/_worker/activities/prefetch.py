"""The prefetch window: how many activities a worker leases ahead of running them.

What a worker has leased, no other worker takes. With too small a window it waits for the store
between activities; with too large a one it keeps work that others, who are idle, could begin. So
the window follows how long activities wait here before they begin, with one target: none waits
longer than `_SOON`. That is little where activities keep the processor busy, all that may run at
once where they wait for something, and more than that where they are so quick that asking the store
for each would cost more than running it.

The size is the smaller of two numbers:

``_most``
    What ends soon: the limit of what may run at once, and so many times that as end one after the
    other within `_SOON`, by the usual time that they take. Never more than `_BACKLOG` times the
    limit.
``_cut``
    What was held when one began late: those that had begun, and as many as begin within `_SOON` at
    the pace seen since it came. From there it grows by one with each that begins in time while half
    of it is in use, as a congestion window does, until it no longer limits.

If then nothing waits here though the store has more, it is narrow (`is_narrow`): those that have
begun may never end, and none begins to make it grow. So it is widened (`widen`) by one, and by
twice as much each time until one begins late again.

Only a late one that came after the last cut counts: those before it came when more were held. And a
late one does not count if the rest begin soon all the same: then something else took the time, and
other workers could not help with that.

Defended by ``python -m benchmarks sharing``, "a second joins 400 activities of one": of activities
that compute, called by one workflow, a second worker has half of what is left (0.47 to 0.53), its
first after 0.9 to 1.6 s on two busy processors. Without the window it gets none.
"""

from __future__ import annotations

import math

__all__ = ["Window"]

_SOON = 0.25  # seconds that an activity may wait here before it begins
_BACKLOG = 5  # times the limit: the largest window


class Window:
    """The prefetch window of one lane: counts its activities, and says whether to lease more.

    Args:
        limit: How many may run at once.

    Attributes:
        held: How many are leased: reserved for a commit under way, waiting, or begun.
        size: How many may be.
        begun: How many of those held have begun.
        total: How many have ever begun.
        short: Whether the store may have activities for which there was no room.
    """

    __slots__ = (
        "_cut",
        "_cut_at",
        "_limit",
        "_most",
        "_step",
        "_usual",
        "begun",
        "held",
        "short",
        "size",
        "total",
    )

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._usual = math.inf  # seconds that they take
        self._most = self._limit * 1.0
        self._cut = math.inf
        self._cut_at = -math.inf  # when
        self._step = 1  # by how much it is widened next
        self.held = 0
        self.size = limit
        self.begun = 0
        self.total = 0
        self.short = False

    @property
    def _one_by_one(self) -> float:
        """How many end within `_SOON`, one after the other."""
        return _SOON / self._usual

    @property
    def room(self) -> int:
        """How many more may be held."""
        return max(0, self.size - self.held)

    @property
    def is_worth_asking(self) -> bool:
        """Whether there is room enough to ask the store at once, and not a little later."""
        return self.room >= max(1, self.size // 8)

    @property
    def admits(self) -> bool:
        """Whether one that a turn calls may be leased at birth, without going through the store.

        If others wait in the store, some room is left for them: they may have a higher priority.
        """
        size = self.size
        return self.held < size - (max(1, size // 8) if self.short else 0)

    def begin(self, came_at: float, came_after: int, now: float) -> bool:
        """Note that one begins.

        Args:
            came_at: When it came.
            came_after: What `total` was then.
            now: Of the same clock, seconds.

        Returns:
            Whether the window is smaller now: what is held beyond it is to be given back.
        """
        waited = now - came_at
        passed = self.total - came_after  # so many were begun meanwhile
        self.begun += 1
        self.total += 1
        if waited <= _SOON:
            if self.held > self._cut / 2:  # otherwise it has not been tried out
                self._cut += 1
                if self._cut > self._most:
                    self._cut = math.inf
                self.size = int(min(self._most, self._cut))
            return False
        if came_at <= self._cut_at:
            return False  # it came when more were held than now
        # If they are quick it is something else that takes the time; others cannot help with that.
        soon = max(passed * _SOON / waited, self._one_by_one)
        if self.begun + soon >= self.size:
            return False
        self._cut_to(self.begun + int(soon), now)
        return True

    @property
    def is_narrow(self) -> bool:
        """Whether it keeps out what could begin: the store may have more, and none waits here."""
        return self.short and self.held == self.begun and not self.is_worth_asking

    def widen(self) -> None:
        """Grow, since it has been narrow for a while."""
        self._cut = max(self._cut, self.held) + self._step
        self._step *= 2
        if self._cut > self._most:
            self._cut, self._step = math.inf, 1
        self.size = int(min(self._most, self._cut))

    def close(self, now: float) -> None:
        """Cut to what has begun, since some have waited long and none begins."""
        self._cut_to(max(1, self.begun), now)

    def _cut_to(self, size: int, now: float) -> None:
        self._cut, self._cut_at, self._step = size, now, 1
        self.size = int(min(self._most, self._cut))

    def end(self, took: float) -> None:
        """Note that one has ended which took so many seconds."""
        self.begun -= 1
        # Towards the median: some take long only because something else had the processor.
        if self._usual == math.inf:
            self._usual = max(took, 1e-6)
        else:
            self._usual *= 1.1 if took > self._usual else 0.9
        self._most = self._limit * min(_BACKLOG, 1.0 + _SOON / self._usual)
        self.size = int(min(self._most, self._cut))
