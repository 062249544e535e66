"""Deliver asyncio's native cancels (``task.cancel()``, ``timeout()``) in the call that they meet.

A store's call that has begun is waited for, and an asyncio task that is cancelled meanwhile is
cancelled again, for its next await. For the scopes of trio and anyio that is enough: they are
level-triggered, and know which tasks they mean. A native cancel is delivered once, to whatever the
task awaits next: that could be long after, or code outside the ``timeout()`` block, or again a call
that waits for its store. So a call raises it before it returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import trio

from trioflow._client.intercepting import around_calls, intercepted

__all__ = ["raise_native_cancel", "raises_native_cancels"]

P = ParamSpec("P")
T = TypeVar("T")


async def raise_native_cancel() -> None:
    """Raise the native cancel that is pending for the next await of this task, if there is one."""
    if _is_pending():
        await asyncio.sleep(0)


def raises_native_cancels(
    method: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Decorate a coroutine function so that it leaves no native cancel of its task pending.

    One that is pending is raised before anything is done. One that comes meanwhile is raised at the
    end, instead of the result or of an error.
    """

    @wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if _is_pending():
            await asyncio.sleep(0)
        try:
            # Here, since this is around each call of a client and its handles.
            interceptors = around_calls(args)
            if not interceptors:
                result = await method(*args, **kwargs)
            else:
                result = await intercepted(interceptors, method, args, kwargs)
        except Exception:
            if _is_pending():
                await asyncio.sleep(0)
            raise
        if _is_pending():
            await asyncio.sleep(0)
        return result

    return call


def _is_pending() -> bool:
    if trio.lowlevel.in_trio_task():
        return False
    task = asyncio.current_task()
    # A private name, but anyio's too. A task of another kind does not tell, so it has to wait.
    # `cancelling()` says too little: it stays while a cancelled task cleans up.
    return task is not None and getattr(task, "_must_cancel", True)
