"""Whether a store is closed, since what it holds is moved: then there is nothing to wait for."""

from __future__ import annotations

from trioflow.backends.abc import Backend
from trioflow.backends.moves import fence_text

__all__ = ["closed_by"]


async def closed_by(backend: Backend) -> str | None:
    """Return what a closed store says, ``None`` if it is open, or cannot be closed."""
    ask = getattr(backend, "fenced", None)
    fence = None if ask is None else await ask()
    return fence_text(fence) if fence is not None and fence.closed else None
