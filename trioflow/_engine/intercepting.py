"""Interceptors around the function of a workflow: what they do is as deterministic as that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from trioflow._engine import guard
from trioflow._model.interceptors import Call, Interceptor, around
from trioflow._model.workflows import Workflow

__all__ = ["intercepted"]


def intercepted(
    interceptors: Sequence[Interceptor], definition: Workflow[..., Any], instance: str
) -> Callable[..., Awaitable[Any]]:
    """Return a workflow's function with interceptors around it, watched as the function is."""
    for one in interceptors:
        guard.watch(one.workflow)

    def call(*args: Any, **kwargs: Any) -> Awaitable[Any]:
        made = Call(definition.name, instance, args, kwargs)
        return around(interceptors, "workflow", made, partial(definition.fn, *args, **kwargs))

    return call
