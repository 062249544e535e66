"""Cancels of asyncio's own that come while a store is asked: raised by the call that they meet.

A store's call that has begun is waited for, and an asyncio task that is cancelled meanwhile is
cancelled again, for its next wait. For trio's and anyio's scopes that is enough, since they know
whom they mean. But ``asyncio.timeout()`` and ``task.cancel()`` mean whatever waits next: that could
be long after, or code outside the block, or again a call that waits for its store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import trio

__all__ = ["hears_cancels", "raise_cancel"]

P = ParamSpec("P")
T = TypeVar("T")


async def raise_cancel() -> None:
    """Raise the cancel that is to come at the next wait of this asyncio task, if there is one."""
    if _is_due():
        await asyncio.sleep(0)


def hears_cancels(
    method: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Decorate a coroutine function so that it leaves no cancel of its asyncio task behind.

    One that was to come at the next wait is raised before anything is done. One that comes
    meanwhile is raised at the end, instead of the result or of an error.
    """

    @wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if _is_due():
            await asyncio.sleep(0)
        try:
            result = await method(*args, **kwargs)
        except Exception:
            if _is_due():
                await asyncio.sleep(0)
            raise
        if _is_due():
            await asyncio.sleep(0)
        return result

    return call


def _is_due() -> bool:
    if trio.lowlevel.in_trio_run():
        return False
    task = asyncio.current_task()
    # A private name, but anyio's too. A task of another kind does not tell, so it has to wait.
    # `cancelling()` says too little: it stays while a cancelled task cleans up.
    return task is not None and getattr(task, "_must_cancel", True)
