"""Whether a store is closed, since what it holds is moved: then there is nothing to wait for."""

from __future__ import annotations

import math
from typing import cast

import anyio

from trioflow.backends.abc import Backend
from trioflow.backends.moves import fence_text
from trioflow.errors import StoreFenced

__all__ = ["FenceLooks", "closed_by", "only_fenced"]

_EVERY = 5.0  # seconds between two looks


async def closed_by(backend: Backend) -> str | None:
    """Return what a closed store says, ``None`` if it is open, or cannot be closed."""
    ask = getattr(backend, "fenced", None)
    fence = None if ask is None else await ask()
    return fence_text(fence) if fence is not None and fence.closed else None


class FenceLooks:
    """Looks, now and then, whether a store is closed, for those who wait for changes of it.

    Args:
        backend: The store.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._asked_at = -math.inf
        self._was_closed = False

    async def demand_open(self) -> None:
        """Raise `StoreFenced` if the store is closed; if others share it, perhaps later."""
        if self._backend.shared:
            now = anyio.current_time()
            # One that was closed is asked again at once: all who wait are to hear of it.
            if not self._was_closed and now - self._asked_at < _EVERY:
                return
            self._asked_at = now
        elif not getattr(self._backend, "was_fenced", False):
            return
        text = await closed_by(self._backend)
        self._was_closed = text is not None
        if text is not None:
            raise StoreFenced(text)


def only_fenced(error: BaseException | None) -> StoreFenced | None:
    """Return why, if an error says nothing but that the store is closed."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        found = [only_fenced(each) for each in group.exceptions]
        return found[0] if all(found) else None
    return error if isinstance(error, StoreFenced) else None
