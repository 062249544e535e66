"""When a worker looks for work in the store: after a change there, at a time, or when told."""

from __future__ import annotations

import math

import anyio

from trioflow.backends.abc import Backend

__all__ = ["PollTimer"]


class PollTimer:
    """Ends the pause between two looks into the store.

    Args:
        backend: The store, by whose clock the times are.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._at = math.inf
        self._pause: anyio.CancelScope | None = None

    def begin(self) -> None:
        """Forget the times of before: a look begins, and will say when the next is due."""
        self._at = math.inf

    def look_at(self, at: float | None) -> None:
        """Look again at that time, or earlier; ``None`` is never."""
        if at is not None and at < self._at:
            self._at = at
            self.look_now()

    def look_now(self) -> None:
        """End the pause, if there is one."""
        if self._pause is not None:
            self._pause.cancel()

    async def pause(self, seen: int) -> None:
        """Wait until it is time.

        Args:
            seen: What ``backend.changes()`` returned before the last look.
        """
        with anyio.CancelScope() as self._pause:
            await self._backend.wait_change(seen, max(0.0, self._at - self._backend.now()))
        self._pause = None
