"""When a worker looks for work in the store: after a change there, at a time, or when told."""

from __future__ import annotations

import math
from typing import Final, Literal, TypeAlias

import anyio
import anyio.lowlevel

from trioflow.backends._common.watching import selection_of
from trioflow.backends.abc import Backend

__all__ = ["PollTimer"]

Kind: TypeAlias = Literal["instances", "activities"]

_KINDS: Final[tuple[Kind, ...]] = ("instances", "activities")
_NIBBLE = 0.05  # seconds for which a little room is collected before the store is asked


class PollTimer:
    """Ends the wait between two looks into the store, and says what to look for.

    Args:
        backend: The store, by whose clock the times are.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._changed = selection_of(backend)
        self._at: dict[Kind, float] = dict.fromkeys(_KINDS, math.inf)
        self._seen: dict[Kind, int | None] = dict.fromkeys(_KINDS)  # ``None``: to be looked for
        self._told = False
        self._waiting: anyio.CancelScope | None = None
        self._little_room = anyio.Event()

    # --- looks --------------------------------------------------------------------------

    def begin(self, worker: str, *, everything: bool = False) -> list[Kind]:
        """Return what to look for now: of what there may be something new, or what is due.

        The times of before are forgotten: the look will say when the next is due.

        Args:
            worker: Who looks.
            everything: Look for all there is.
        """
        everything, self._told = everything or self._told, False
        due: list[Kind] = [kind for kind in _KINDS if everything or self._is_due(kind, worker)]
        for kind in due:
            self._at[kind] = math.inf
            self._seen[kind] = None
        return due

    def _is_due(self, kind: Kind, worker: str) -> bool:
        seen = self._seen[kind]
        if seen is None or self._changed(kind, seen, worker):
            return True
        return self._at[kind] <= self._backend.now()

    def saw_all(self, kind: Kind, seen: int) -> None:
        """Say that nothing is left, so that there is nothing to look for until something comes.

        Args:
            kind: Of what.
            seen: What ``backend.changes()`` returned before the look.
        """
        self._seen[kind] = seen

    def look_at(self, at: float | None, *kinds: Kind) -> None:
        """Look again at that time, or earlier; ``None`` is never. For both, if nothing is named."""
        if at is None:
            return
        earlier = at < min(self._at.values())
        for kind in kinds or _KINDS:
            self._at[kind] = min(at, self._at[kind])
        if earlier:
            self.follow_clock()

    def follow_clock(self) -> None:
        """End the wait when it is time by the store's clock.

        That goes ahead of the loop's while the machine sleeps, or when its clock is set.
        """
        if self._waiting is not None:
            self._waiting.deadline = anyio.current_time() + self._seconds()

    def _seconds(self) -> float:
        """Return how long it is until the next look is due."""
        return max(0.0, min(self._at.values()) - self._backend.now())

    def look_now(self) -> None:
        """End the wait, or the next if a look is under way, and look for everything next time."""
        self._told = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def wait(self, seen: int) -> None:
        """Wait until it is time, or something has changed.

        Args:
            seen: What ``backend.changes()`` returned before the last look.
        """
        if self._told:  # while the store was asked
            await anyio.lowlevel.checkpoint()
            return
        with anyio.move_on_after(self._seconds()) as self._waiting:
            await self._backend.wait_change(seen, math.inf)
        if self._waiting.cancelled_caught:
            at = min(self._at.values())
            for kind in _KINDS:  # though by the store's clock it may not be quite so late
                if self._at[kind] == at:
                    self._seen[kind] = None
        self._waiting = None

    # --- room ---------------------------------------------------------------------------

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
