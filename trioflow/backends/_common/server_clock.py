"""Estimate the server's clock from this side of the connection.

Leases and visibility are judged by the server's clock, so that a worker with a wrong clock steals
nothing. It is not asked for every call: its difference to this machine's monotonic clock is
measured every few seconds, as the middle of a round trip, whose length bounds the error. A
measurement that took much longer than the one before is ignored for a while. The wall clock is
used for one thing only: when it and the monotonic clock disagree about the time that has passed,
the machine slept or somebody set its clock, and the difference is measured at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["ServerClock"]

# After so many seconds it is measured again.
_FRESH = 10.0
# A measurement is worse than the one before if it took this much longer; it is taken after
# `_OLD` seconds all the same.
_WORSE = 3.0
_OLD = 60.0
# The process slept, or somebody has set this machine's clock: seconds.
_JUMP = 0.2


class ServerClock:
    """The server's time in epoch seconds: the monotonic clock plus a measured difference.

    Any thread may use it.
    """

    def __init__(self) -> None:
        # The difference, how long measuring it took, when it was, and what the wall clock said.
        self._measured: tuple[float, float, float, float] | None = None

    def __call__(self) -> float:
        """Return the server's time.

        Raises:
            RuntimeError: It has never been measured.
        """
        if self._measured is None:
            raise RuntimeError("the server's clock has not been read yet")
        return time.monotonic() + self._measured[0]

    def due(self) -> bool:
        """Return whether it is time to measure."""
        if self._measured is None:
            return True
        _, _, at, wall = self._measured
        passed = time.monotonic() - at
        return passed > _FRESH or abs(time.time() - wall - passed) > _JUMP

    def measure(self, ask: Callable[[], float]) -> None:
        """Measure the difference; ``ask`` returns what the server's clock says."""
        start = time.monotonic()
        said = ask()
        end = time.monotonic()
        took = end - start
        wall = time.time()
        if self._measured is not None:
            offset, before, at, wall_then = self._measured
            slept = abs(wall - wall_then - (end - at)) > _JUMP
            if took > before * _WORSE and end - at < _OLD and not slept:
                # Not asked again for a while, but what is known is better.
                said = offset + (start + end) / 2
                took = before
        self._measured = (said - (start + end) / 2, took, end, wall)
