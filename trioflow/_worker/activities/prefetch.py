"""How many activities a worker lays its hands on: no more than it begins soon.

What a worker holds, no other can take. So it holds as much as it can begin within a moment: that
is little where activities keep the processor busy, all that it may run at once where they wait for
something, and more than that where they are so quick that looking for each in the store would cost
more than running it. How much it is shows by how long activities wait here before they begin.
"""

from __future__ import annotations

import math

__all__ = ["Window"]

_SOON = 0.25  # seconds: nothing is to wait longer here, where others may be idle
_BACKLOG = 5  # times the limit, at most


class Window:
    """Counts the activities of a worker, and says whether there may be one more.

    Args:
        limit: How many may run at once.

    Attributes:
        held: How many are held: reserved, waiting, or begun.
        size: How many may be held now.
        begun: How many of them have begun.
        total: How many have ever begun.
        short: Whether the store may have activities for which there was no room.
    """

    __slots__ = (
        "_cut",
        "_cut_at",
        "_limit",
        "_most",
        "_usual",
        "begun",
        "held",
        "short",
        "size",
        "total",
    )

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._usual = math.inf  # how long they take, seconds
        self._most = self._limit * 1.0  # what `size` may be, by how many end soon
        self._cut = math.inf  # to so many, after some began late
        self._cut_at = -math.inf
        self.held = 0
        self.size = limit
        self.begun = 0
        self.total = 0
        self.short = False

    @property
    def _one_by_one(self) -> float:
        """How many end soon, one after the other."""
        return _SOON / self._usual

    @property
    def room(self) -> int:
        """How many more may be held."""
        return max(0, self.size - self.held)

    @property
    def is_worth_asking(self) -> bool:
        """Whether there is so much room that the store is to be asked at once."""
        return self.room >= max(1, self.size // 8)

    @property
    def admits(self) -> bool:
        """Whether one that is called here may be kept, without a look into the store.

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
            Whether the window is smaller now, so that some may have to go back to the store.
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
        self._cut = self.begun + int(soon)
        self._cut_at = now
        self.size = int(min(self._most, self._cut))
        return True

    def close(self, now: float) -> None:
        """Note that some have waited long and none begins: hold no more than what has begun."""
        self._cut = max(1, self.begun)
        self._cut_at = now
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
