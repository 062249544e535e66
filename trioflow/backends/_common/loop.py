"""Calls from other threads, and deferred cancels, on trio's loop and on asyncio's."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from typing import Any

import sniffio
import trio

__all__ = ["CallSoon", "call_soon_here", "cancel_again"]

CallSoon = Callable[[Callable[[], object]], bool]
"""Call a function in the loop soon, from any thread or signal handler. It must raise nothing.

Called twice with an equal function before the loop comes round to it, trio calls it only once.
Returns whether the loop is still there.
"""


def call_soon_here() -> CallSoon:
    """Return what calls a function in the loop that is running now."""
    if trio.lowlevel.in_trio_task():
        token = trio.lowlevel.current_trio_token()

        def in_trio(fn: Callable[[], object]) -> bool:
            try:
                token.run_sync_soon(fn, idempotent=True)
            except trio.RunFinishedError:
                return False
            return True

        return in_trio
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    # Or whoever asks in a callback, which belongs to no task, is told that no loop runs.
    context.run(sniffio.current_async_library_cvar.set, "asyncio")

    def in_asyncio(fn: Callable[[], object]) -> bool:
        try:
            loop.call_soon_threadsafe(fn, context=context)
        except RuntimeError:
            if loop.is_closed():
                return False
            raise
        return True

    return in_asyncio


def cancel_again(cancels: Sequence[tuple[Any, ...]]) -> None:
    """Make native cancels that a wait of this asyncio task has caught pending for its next await.

    Args:
        cancels: The arguments of each `asyncio.CancelledError` that was caught.
    """
    task = asyncio.current_task() if cancels else None
    if task is not None:
        for _ in cancels:
            task.uncancel()
        for args in cancels:
            task.cancel(*args)
