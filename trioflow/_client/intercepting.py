"""Interceptors around the calls of a client and of its handles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

from trioflow._model.interceptors import Call, around

__all__ = ["intercepted"]

# Whether this task is in a call that has interceptors around it: what that calls has none.
_within: ContextVar[bool] = ContextVar("trioflow_within_client_call", default=False)


async def intercepted(
    method: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Make a method's call with the interceptors of its object around it, but for inner calls."""
    if _within.get():
        return await method(*args, **kwargs)
    owner, *given = args
    instance = getattr(owner, "instance", None) or getattr(owner, "id", None)
    call = Call(getattr(method, "__name__", ""), instance, tuple(given), kwargs)
    token = _within.set(True)
    try:
        return await around(owner.around_calls, "client", call, partial(method, *args, **kwargs))
    finally:
        _within.reset(token)
