"""Tasks and cancel scopes of the host's loop: trio's own where that is trio, anyio's elsewhere.

anyio's do the same on trio, at a cost that counts where thousands of activities are run a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from types import TracebackType
from typing import Any, Protocol, cast

import anyio
import trio

from trioflow.errors import NonRetryable

__all__ = ["Scope", "TaskGroup", "cancel_scope", "in_asyncio", "outlast", "task_group"]


class TaskGroup(Protocol):
    """What trio's nurseries and anyio's task groups have in common."""

    def start_soon(
        self, func: Callable[..., Awaitable[Any]], *args: Any, name: object = None
    ) -> object:
        """Start a task."""


class Scope(Protocol):
    """What trio's and anyio's cancel scopes have in common."""

    def __enter__(self) -> Any: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
        /,
    ) -> bool | None: ...

    def cancel(self) -> None:
        """Cancel what runs inside."""


def task_group() -> AbstractAsyncContextManager[TaskGroup]:
    """Return a new group of tasks of the running loop."""
    if trio.lowlevel.in_trio_run():
        return cast("AbstractAsyncContextManager[TaskGroup]", trio.open_nursery())
    return cast("AbstractAsyncContextManager[TaskGroup]", anyio.create_task_group())


def cancel_scope() -> Scope:
    """Return a new cancel scope of the running loop."""
    return trio.CancelScope() if trio.lowlevel.in_trio_run() else anyio.CancelScope()


async def outlast(event: anyio.Event) -> None:
    """Wait for an event, however often the caller is cancelled; that comes at its next await."""
    if trio.lowlevel.in_trio_run():
        with trio.CancelScope(shield=True):
            await event.wait()
        return
    cancels: list[tuple[Any, ...]] = []
    # The shield is against anyio's scopes, the rest against a task that is cancelled by itself.
    with anyio.CancelScope(shield=True):
        while not event.is_set():
            try:
                await event.wait()
            except asyncio.CancelledError as exc:
                cancels.append(exc.args)
    task = asyncio.current_task()
    if cancels and task is not None:
        for _ in cancels:
            task.uncancel()
        for args in cancels:
            task.cancel(*args)


async def in_asyncio(
    fn: Callable[..., Awaitable[Any]], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Call a coroutine function that needs asyncio, on either host; cancellation reaches it.

    Raises:
        NonRetryable: The host is trio, and trio-asyncio is not installed.
    """
    if not trio.lowlevel.in_trio_run():
        return await fn(*args, **kwargs)
    try:
        # Untyped, an extra, and it changes asyncio when it is imported.
        bridge: Any = import_module("trio_asyncio")
    except ImportError as exc:
        raise NonRetryable(
            "an activity with runtime='asyncio' needs trio-asyncio where the worker runs on trio: "
            "pip install 'trioflow[asyncio]'"
        ) from exc
    async with bridge.open_loop():
        return await bridge.aio_as_trio(fn)(*args, **kwargs)
