"""The instances that have something to do, in the order in which they get their turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain

from trioflow._worker.instances.held import HeldInstance

__all__ = ["Ready"]

_EVERY = 8


class Ready:
    """A queue in which what is under way comes before what has not begun.

    So a flood of new instances does not keep those from ending that came before; there are fewer
    at a time, and they need less memory. Every eighth that is popped has not begun, if there is
    one, so that nothing waits for ever.
    """

    __slots__ = ("_fresh", "_popped", "_under_way")

    def __init__(self) -> None:
        self._under_way: deque[HeldInstance] = deque()
        self._fresh: deque[HeldInstance] = deque()
        self._popped = 0

    def __len__(self) -> int:
        return len(self._under_way) + len(self._fresh)

    def __iter__(self) -> Iterator[HeldInstance]:
        return chain(self._under_way, self._fresh)

    def append(self, instance: HeldInstance) -> None:
        """Add one; a sub-workflow is under way as soon as its parent is."""
        if instance.turns or instance.parent is not None:
            self._under_way.append(instance)
        else:
            self._fresh.append(instance)

    def pop(self) -> HeldInstance:
        """Remove the next one, and return it."""
        self._popped += 1
        if self._fresh and (not self._under_way or self._popped % _EVERY == 0):
            return self._fresh.popleft()
        return self._under_way.popleft()

    def remove(self, instance: HeldInstance) -> None:
        """Remove one that was added."""
        for waiting in (self._under_way, self._fresh):
            if instance in waiting:
                waiting.remove(instance)

    def clear(self) -> None:
        """Remove all."""
        self._under_way.clear()
        self._fresh.clear()
