"""Wake the tasks that wait for new work or a new outcome in a store."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel

from trioflow.backends._common.backoff import Backoff
from trioflow.backends.commits import Unit

__all__ = ["Watcher", "concerns_others"]

_SHORTEST = 0.002  # seconds


class Watcher:
    """A number that grows with every change, and the tasks that wait for it to grow.

    Changes made here are told by `notify`. Where others may change the store too, one of the
    waiting tasks looks for their changes: often while there is activity, seldom when there is none.

    Args:
        look: Returns whether somebody else has changed the store since it was called last;
            ``None`` if nobody else can.
        seldom: The longest time between two looks, seconds.
    """

    def __init__(
        self, look: Callable[[], Awaitable[bool]] | None = None, *, seldom: float = 0.1
    ) -> None:
        self.number = 0
        self._look = look
        self._looking = False
        self._delays = Backoff(_SHORTEST, seldom)
        self._event: anyio.Event | None = None

    def notify(self) -> None:
        """Count a change and wake everybody."""
        self.number += 1
        self._delays.reset()
        self._wake()

    async def wait(self, seen: int, timeout: float) -> None:
        """Return when the number is not ``seen``, or after ``timeout`` seconds."""
        if self.number != seen:
            await anyio.lowlevel.checkpoint()
            return
        if timeout == math.inf:
            await self._until_changed(seen)
            return
        with anyio.move_on_after(timeout):
            await self._until_changed(seen)

    async def _until_changed(self, seen: int) -> None:
        while self.number == seen:
            if self._look is None or self._looking:
                await self._changed().wait()
            else:
                await self._keep_looking(self._look, seen)

    async def _keep_looking(self, look: Callable[[], Awaitable[bool]], seen: int) -> None:
        self._looking = True
        try:
            while self.number == seen:
                with anyio.move_on_after(self._delays.delay):
                    await self._changed().wait()
                if self.number != seen:
                    break
                if await look():
                    self.notify()
                else:
                    next(self._delays)
        finally:
            self._looking = False
            self._wake()  # one of those who wait on has to look from now on

    def _changed(self) -> anyio.Event:
        if self._event is None:
            self._event = anyio.Event()
        return self._event

    def _wake(self) -> None:
        event, self._event = self._event, None
        if event is not None:
            event.set()


def concerns_others(unit: Unit) -> bool:
    """Return whether a unit leaves something for others than the committing worker."""
    if unit.results or unit.retries:
        return True
    for commit in unit.instances:
        if commit.messages or commit.cancelled or commit.answers or not commit.leased:
            return True
        if commit.closing is not None or commit.suspended is not None or commit.read_along:
            return True
        for new in commit.activities:
            if not new.leased:
                return True
    return False
