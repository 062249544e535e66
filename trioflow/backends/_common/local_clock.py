"""This machine's clock, for stores that have no server to ask."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["LocalClock"]


class LocalClock:
    """Epoch seconds that never go back and never stand still. Any thread may use it.

    When somebody sets the machine's clock ahead, or the machine slept, it follows at once, as all
    processes do. When it is set back, time goes on from where it was.

    Args:
        wall: The machine's clock, epoch seconds.
        monotonic: What time passes by; its beginning does not matter.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._difference = wall() - monotonic()

    def __call__(self) -> float:
        """Return the time."""
        # In this order: whoever is interrupted between the two sees a smaller difference.
        wall = self._wall()
        now = self._monotonic()
        if wall - now > self._difference:
            with self._lock:
                self._difference = max(self._difference, wall - now)
        # Both only grow, so that no later call gives less.
        return now + self._difference

    def not_before(self, time: float) -> None:
        """Give at least this time from now on."""
        with self._lock:
            self._difference = max(self._difference, time - self._monotonic())
