"""Delays between tries of something that may be away for a while."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

__all__ = ["Backoff"]


class Backoff(Iterator[float]):
    """Exponential backoff: the delays between tries, each twice as long as the one before.

    The schedule is ``first``, ``2 * first``, ``4 * first`` and so on, and from then on ``longest``
    for ever. It has no end: whoever tries decides for how long. ::

        for delay in Backoff(0.05, 2.0):  # 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, …
            ...

    Jitter spreads those that were turned away together: it takes up to that fraction off each
    delay, and leaves the schedule itself as it is.

    Args:
        first: Seconds of the first delay.
        longest: Seconds of the longest.
        jitter: From 0 for none to 1, where a delay is anything from nothing to its full length.
        random: Gives a number from 0 to 1 for the jitter.

    Attributes:
        delay: The next delay, in seconds, without its jitter.
    """

    __slots__ = ("_first", "_jitter", "_longest", "_random", "delay")

    def __init__(
        self,
        first: float,
        longest: float,
        *,
        jitter: float = 0.0,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self._random = random
        self.delay = first

    def __next__(self) -> float:
        """Return the next delay in seconds; the one after it is longer."""
        delay = self.delay
        self.delay = min(delay * 2, self._longest)
        return delay * (1.0 - self._jitter * self._random()) if self._jitter else delay

    def reset(self) -> None:
        """Begin again with the first delay, after a success."""
        self.delay = self._first
