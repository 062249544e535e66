"""What many viewers ask for again and again, and is read once for all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import anyio

__all__ = ["Kept"]

T = TypeVar("T")

_SHARE: Final = 10


class Kept(Generic[T]):
    """Something that is read when it is asked for, but not all the time.

    Those who ask while it is read wait for that, and it is kept for nine times as long as it took:
    so reading it takes a tenth of the time at most, however many ask. What is read quickly is as
    good as never kept. If reading fails, all who have waited for it get the error.

    Args:
        read: What reads it.
        least: For how many seconds it is kept at least.
    """

    def __init__(self, read: Callable[[], Awaitable[T]], *, least: float = 0.0) -> None:
        self._read = read
        self._least = least
        self._lock = anyio.Lock()
        self._kept: list[T] = []
        self._until = 0.0
        self._asked = 0  # how many have asked
        self._failed: tuple[int, Exception] | None = None  # of the first so many who have asked

    async def get(self) -> T:
        """Return it, read lately; errors are those of reading, and are not kept."""
        self._asked += 1
        place = self._asked
        async with self._lock:
            if self._failed is not None and place <= self._failed[0]:
                raise self._failed[1]
            now = anyio.current_time()
            if self._kept and now < self._until:
                return self._kept[0]
            self._kept, self._failed = [], None
            try:
                self._kept = [await self._read()]
            except Exception as exc:
                self._failed = self._asked, exc
                raise
            self._until = now + max(_SHARE * (anyio.current_time() - now), self._least)
            return self._kept[0]
