"""Whether a store is closed, since what it holds is moved: then there is nothing to wait for."""

from __future__ import annotations

from typing import cast

from trioflow.backends.abc import Backend
from trioflow.backends.moves import fence_text
from trioflow.errors import StoreFenced

__all__ = ["closed_by", "only_fenced"]


async def closed_by(backend: Backend) -> str | None:
    """Return what a closed store says, ``None`` if it is open, or cannot be closed."""
    ask = getattr(backend, "fenced", None)
    fence = None if ask is None else await ask()
    return fence_text(fence) if fence is not None and fence.closed else None


def only_fenced(error: BaseException | None) -> StoreFenced | None:
    """Return why, if an error says nothing but that the store is closed."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        found = [only_fenced(each) for each in group.exceptions]
        return found[0] if all(found) else None
    return error if isinstance(error, StoreFenced) else None
