"""What is called or asked before it is awaited: an error that says how, where it was forgotten."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

__all__ = ["NotAwaited"]


class NotAwaited:
    """A base of what users await by mistake. Python's own error would not say what is missing."""

    __slots__ = ()

    if not TYPE_CHECKING:  # so that type checkers find the mistake

        def __await__(self) -> Generator[None, None, None]:
            raise TypeError(f"{self!r} cannot be awaited: {self._instead()}")

    def _instead(self) -> str:
        """Return what to write instead."""
        raise NotImplementedError
