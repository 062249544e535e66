"""Interceptors around the calls of a client and of its handles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

from trioflow._model.interceptors import Call, Interceptor, around

__all__ = ["around_calls", "intercepted"]

# Whether this task is in a call that has interceptors around it: what that calls has none.
_within: ContextVar[bool] = ContextVar("trioflow_within_client_call", default=False)


def around_calls(args: tuple[Any, ...]) -> Sequence[Interceptor]:
    """Return the interceptors of a method's call, whose first argument is a client or a handle."""
    owner = args[0] if args else None
    return getattr(getattr(owner, "_client", owner), "around_calls", ())


async def intercepted(
    interceptors: Sequence[Interceptor],
    method: Callable[..., Awaitable[Any]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Make a method's call with interceptors around it, unless one of its client is around it."""
    if _within.get():
        return await method(*args, **kwargs)
    owner, *given = args
    instance = getattr(owner, "instance", None) or getattr(owner, "id", None)
    call = Call(getattr(method, "__name__", ""), instance, tuple(given), kwargs)
    token = _within.set(True)
    try:
        return await around(interceptors, "client", call, partial(method, *args, **kwargs))
    finally:
        _within.reset(token)
