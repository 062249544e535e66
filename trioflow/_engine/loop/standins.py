"""Stand-ins for the process' I/O, threads, clock and asyncio loop.

Nothing here is trio's; each stand-in says, where workflow code comes upon it, what to do instead.
"""

from __future__ import annotations

from typing import Any

import trio

from trioflow.errors import DeterminismError

__all__ = ["FORBIDDEN_LOOP", "ForbiddenLoop", "NoIO", "NoQueue", "TurnClock"]


class NoIO:
    """Replaces trio's I/O manager; every use of it is a workflow doing I/O."""

    def force_wakeup(self) -> None:
        pass

    def close(self) -> None:
        pass

    def statistics(self) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        raise DeterminismError(
            f"a workflow waited for I/O (trio.lowlevel.{name}): sockets, pipes and processes "
            "cannot be replayed. Do this in an activity."
        )


class NoQueue:
    """Replaces trio's queue of calls from other threads: there are none."""

    def size(self) -> int:
        return 0

    def close(self) -> None:
        pass


class TurnClock(trio.abc.Clock):
    """A clock that returns the turn's ``now``, in epoch seconds."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0.0

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline - self.now


class ForbiddenLoop:
    """The running loop that asyncio finds inside of a workflow; every use of it is refused."""

    def __getattr__(self, name: str) -> Any:
        raise DeterminismError(
            f"a workflow used asyncio (its loop's {name}): a workflow runs on trio's primitives. "
            "Use trio's or anyio's sleep, nurseries, events and channels here, and asyncio in "
            "activities."
        )


FORBIDDEN_LOOP = ForbiddenLoop()
