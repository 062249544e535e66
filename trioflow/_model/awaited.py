"""A clear error for awaiting something that is no coroutine, but has methods that give one."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

__all__ = ["NotAwaited"]


class NotAwaited:
    """A base class of objects that users await by mistake; the error says what to write instead."""

    __slots__ = ()

    if not TYPE_CHECKING:  # so that type checkers find the mistake

        def __await__(self) -> Generator[None, None, None]:
            raise TypeError(f"{self!r} cannot be awaited: {self._instead()}")

    def _instead(self) -> str:
        """Return what to write instead."""
        raise NotImplementedError
