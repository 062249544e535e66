"""Tasks and cancel scopes of the host's loop: trio's own where that is trio, anyio's elsewhere.

anyio's do the same on trio, at a cost that counts where thousands of activities are run a second.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import Context, copy_context
from importlib import import_module
from types import TracebackType
from typing import Any, Protocol, cast

import anyio
import outcome
import trio

from trioflow.errors import NonRetryable

__all__ = [
    "DetachedGroup",
    "Scope",
    "TaskGroup",
    "cancel_scope",
    "current_time",
    "in_asyncio",
    "outlast",
    "task_group",
]

logger = logging.getLogger("trioflow.worker")


_LOOK = 1.0
"""Seconds between two looks whether a caller that must not be interrupted has been cancelled."""


class TaskGroup(Protocol):
    """What trio's nurseries and anyio's task groups have in common."""

    def start_soon(
        self, func: Callable[..., Awaitable[Any]], *args: Any, name: object = None
    ) -> object:
        """Start a task."""

    @property
    def cancel_scope(self) -> Scope:
        """The scope around all of them, and around the block."""
        ...


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

    @property
    def cancel_called(self) -> bool:
        """Whether it was cancelled, or its deadline has passed."""
        ...


def task_group() -> AbstractAsyncContextManager[TaskGroup]:
    """Return a new group of tasks of the running loop."""
    if trio.lowlevel.in_trio_run():
        return cast("AbstractAsyncContextManager[TaskGroup]", trio.open_nursery())
    return cast("AbstractAsyncContextManager[TaskGroup]", anyio.create_task_group())


def cancel_scope(deadline: float = math.inf) -> Scope:
    """Return a new cancel scope of the running loop, with a deadline by its clock."""
    if trio.lowlevel.in_trio_run():
        return trio.CancelScope(deadline=deadline)
    return cast("Scope", anyio.CancelScope(deadline=deadline))


def current_time() -> float:
    """Return the running loop's clock, seconds."""
    if trio.lowlevel.in_trio_run():
        return trio.current_time()
    return asyncio.get_running_loop().time()


_detached: set[asyncio.Task[None]] = set()  # asyncio itself keeps no reference to its tasks


class DetachedGroup:
    """A nursery run by a system task, so it can outlive the task that opened it.

    No cancel of that task reaches what runs in it: code that perhaps does not stop when it is
    cancelled can be abandoned. Only the end of the loop cancels it, or a task that fails. On
    asyncio it is a task group run by a task of its own.

    Args:
        name: Of the task that runs it.
        on_break: Called when a task has failed, so that all of them are cancelled. It soon takes
            no more.
    """

    def __init__(self, name: str, on_break: Callable[[], None] | None = None) -> None:
        self._name = name
        self._on_break = on_break
        self._group: TaskGroup | None = None
        self._early: list[tuple[Context, Callable[[TaskGroup], None]]] = []
        self._closing = anyio.Event()
        self._ended = anyio.Event()
        if trio.lowlevel.in_trio_run():
            trio.lowlevel.spawn_system_task(self._hold, name=name)
        else:
            task = asyncio.get_running_loop().create_task(self._hold(), name=name)
            _detached.add(task)
            task.add_done_callback(_detached.discard)

    def start_soon(
        self, func: Callable[..., Awaitable[Any]], *args: Any, name: object = None
    ) -> None:
        """Start a task, which must raise nothing, in a copy of the present context."""
        if self._group is None:

            def start(group: TaskGroup) -> None:
                group.start_soon(func, *args, name=name)

            self._early.append((copy_context(), start))
        else:
            self._group.start_soon(func, *args, name=name)

    @property
    def broken(self) -> bool:
        """Whether a task of it has failed, so that all of them are cancelled."""
        return self._group is not None and self._group.cancel_scope.cancel_called

    @property
    def ended(self) -> bool:
        """Whether all of its tasks have ended, and it with them."""
        return self._ended.is_set()

    def close(self) -> None:
        """Let it end as soon as all of its tasks have ended."""
        self._closing.set()

    async def wait(self) -> None:
        """Wait until it has ended."""
        await self._ended.wait()

    async def _hold(self) -> None:
        try:
            async with task_group() as group:
                self._group = group
                for context, start in self._early:
                    context.run(start, group)
                self._early.clear()
                try:
                    await self._closing.wait()
                except BaseException:  # a cancel
                    if self.broken and self._on_break is not None:
                        self._on_break()
                    raise
        except Exception:
            # It is nobody's child: an error that left it would end the whole loop.
            logger.exception(
                "%s: a task failed, which must not be; all of them are cancelled", self._name
            )
        finally:
            self._ended.set()


async def outlast(event: anyio.Event, patience: float) -> bool:
    """Wait for an event even if the caller is cancelled meanwhile.

    The cancellation is delivered at its next checkpoint.

    Args:
        event: What is waited for.
        patience: The seconds for which it is, from about the time on that the caller is cancelled.

    Returns:
        Whether the event has come.
    """
    if trio.lowlevel.in_trio_run():
        try:
            await event.wait()
        except trio.Cancelled:  # it is raised again by every await that is not shielded
            with trio.move_on_after(patience, shield=True):
                await event.wait()
        return event.is_set()
    until, cancels = math.inf, list[tuple[Any, ...]]()
    while not event.is_set() and anyio.current_time() < until:
        # One for each look: where the loop ends, it is cancelled as all tasks are.
        waiter = asyncio.ensure_future(event.wait())
        # The shield is against scopes, the rest against a task of asyncio that is cancelled. It
        # has no deadline, since that would cancel the task too, and be taken for the other.
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.wait((waiter,), timeout=min(_LOOK, patience))
            except asyncio.CancelledError as exc:
                cancels.append(exc.args)
        waiter.cancel()
        if until == math.inf and (cancels or anyio.current_effective_deadline() == -math.inf):
            until = anyio.current_time() + patience
    task = asyncio.current_task() if cancels else None
    if task is not None:
        # Asked for again, so that it comes at the next await, after the result.
        for _ in cancels:
            task.uncancel()
        for args in cancels:
            task.cancel(*args)
    return event.is_set()


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
        # Or what it raises would come in a group.
        result = await outcome.acapture(bridge.aio_as_trio(fn), *args, **kwargs)
    return result.unwrap()
