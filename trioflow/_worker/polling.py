"""When a worker looks for work in the store: after a change there, at a time, or when told."""

from __future__ import annotations

import math

import anyio

from trioflow.backends.abc import Backend

__all__ = ["PollTimer"]

_NIBBLE = 0.05  # seconds for which a little room is collected before the store is asked


class PollTimer:
    """Ends the wait between two looks into the store.

    Args:
        backend: The store, by whose clock the times are.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._at = math.inf
        self._waiting: anyio.CancelScope | None = None
        self._little_room = anyio.Event()

    def begin(self) -> None:
        """Forget the times of before: a look begins, and will say when the next is due."""
        self._at = math.inf

    def look_at(self, at: float | None) -> None:
        """Look again at that time, or earlier; ``None`` is never."""
        if at is not None and at < self._at:
            self._at = at
            self.look_now()

    def look_now(self) -> None:
        """End the wait, if there is one."""
        if self._waiting is not None:
            self._waiting.cancel()

    def see_room(self, at_once: bool) -> None:  # noqa: FBT001  # see `ActivityRunner`
        """Look for activities, since there is room: at once, or soon if there is only a little."""
        if at_once:
            self.look_now()
        else:
            self._little_room.set()

    async def collect_room(self) -> None:
        """End the wait for a little room too, but not each time that one activity has ended."""
        while True:
            await self._little_room.wait()
            await anyio.sleep(_NIBBLE)
            self._little_room = anyio.Event()
            self.look_now()

    async def wait(self, seen: int) -> None:
        """Wait until it is time.

        Args:
            seen: What ``backend.changes()`` returned before the last look.
        """
        seconds = max(0.0, self._at - self._backend.now())
        with anyio.move_on_after(seconds) as self._waiting:
            await self._backend.wait_change(seen, math.inf)
        self._waiting = None
