"""The hosts of a program: trio's loop or asyncio's, real time, real threads and signals.

Of trio and anyio, the one is used where both do the same: on trio its own scopes and nurseries,
since anyio's cost what counts where thousands of activities are run a second.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import copy_context
from importlib import import_module
from typing import Any, cast

import anyio
import outcome
import trio

from trioflow._model.randomness import system_random
from trioflow._worker.activities.threads import AsyncioThreadCall, TrioThreadCall
from trioflow._worker.host import Host, Repeating, Scope, TaskGroup, ThreadCall
from trioflow._worker.sigterm import sigterm_event
from trioflow.backends._common.loop import CallSoon, call_soon_here, cancel_again
from trioflow.errors import NonRetryable

__all__ = ["AsyncioHost", "TrioHost", "running_host"]

_LOOK = 1.0
"""Seconds between two looks whether a caller that must not be interrupted has been cancelled."""


def running_host() -> Host:
    """Return the host of the loop that runs this task.

    Not of any loop that runs in this thread: trio may be a guest of asyncio there.
    """
    return TrioHost() if trio.lowlevel.in_trio_task() else AsyncioHost()


class _RealHost(Host):
    """What both have in common: the process."""

    def __init__(self) -> None:
        self.monotonic = time.perf_counter
        self.wall = time.time
        self.random = system_random
        self.has_threads = self.has_processes = True

    def call_soon(self) -> CallSoon:
        return call_soon_here()

    def repeat(self, interval: float, fn: Callable[[], bool], name: str) -> Repeating:
        return _RepeatingThread(interval, fn, name)

    def sigterm(self) -> AbstractContextManager[anyio.Event]:
        return sigterm_event()


class _RepeatingThread:
    """A daemon that calls a function every so many seconds."""

    def __init__(self, interval: float, fn: Callable[[], bool], name: str) -> None:
        self._interval = interval
        self._fn = fn
        self._wake = threading.Event()
        self._stopped = False
        threading.Thread(
            target=copy_context().run, args=(self._run,), name=name, daemon=True
        ).start()

    def call_now(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait(self._interval)
            self._wake.clear()
            if self._stopped or not self._fn():
                return


class TrioHost(_RealHost):
    """A run of trio."""

    def __init__(self) -> None:
        super().__init__()
        self.current_time = trio.lowlevel.current_clock().current_time
        self._threads = anyio.CapacityLimiter(math.inf)  # the lane of plain functions has a limit

    def task_group(self) -> AbstractAsyncContextManager[TaskGroup]:
        return cast("AbstractAsyncContextManager[TaskGroup]", trio.open_nursery())

    def cancel_scope(self) -> Scope:
        return trio.CancelScope()

    def spawn_detached(self, fn: Callable[[], Awaitable[None]], name: str) -> None:
        trio.lowlevel.spawn_system_task(fn, name=name)

    async def outlast(self, event: anyio.Event, patience: float) -> bool:
        try:
            await event.wait()
        except trio.Cancelled:  # it is raised again by every await that is not shielded
            with trio.move_on_after(patience, shield=True):
                await event.wait()
        return event.is_set()

    async def run_asyncio(
        self, fn: Callable[..., Awaitable[Any]], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        try:
            # Untyped, an extra, and it changes asyncio when it is imported.
            bridge: Any = import_module("trio_asyncio")
        except ImportError as exc:
            raise NonRetryable(
                "an activity with runtime='asyncio' needs trio-asyncio where the worker runs on "
                "trio: pip install 'trioflow[asyncio]'"
            ) from exc
        async with bridge.open_loop():
            # Or what it raises would come in a group.
            result = await outcome.acapture(bridge.aio_as_trio(fn), *args, **kwargs)
        return result.unwrap()

    def thread_call(self, fn: Callable[[], object]) -> ThreadCall:
        return TrioThreadCall(fn, self.monotonic, self._threads)


class AsyncioHost(_RealHost):
    """A running loop of asyncio, with anyio's scopes and groups."""

    def __init__(self) -> None:
        super().__init__()
        self.current_time = asyncio.get_running_loop().time
        self._detached: set[asyncio.Task[None]] = set()  # asyncio keeps no reference to its tasks

    def task_group(self) -> AbstractAsyncContextManager[TaskGroup]:
        return cast("AbstractAsyncContextManager[TaskGroup]", anyio.create_task_group())

    def cancel_scope(self) -> Scope:
        return cast("Scope", anyio.CancelScope())

    def spawn_detached(self, fn: Callable[[], Awaitable[None]], name: str) -> None:
        coroutine = cast("Any", fn())
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._detached.add(task)
        task.add_done_callback(self._detached.discard)

    async def outlast(self, event: anyio.Event, patience: float) -> bool:
        until, cancels = math.inf, list[tuple[Any, ...]]()
        while not event.is_set() and self.current_time() < until:
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
                until = self.current_time() + patience
        cancel_again(cancels)
        return event.is_set()

    async def run_asyncio(
        self, fn: Callable[..., Awaitable[Any]], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        return await fn(*args, **kwargs)

    def thread_call(self, fn: Callable[[], object]) -> ThreadCall:
        return AsyncioThreadCall(fn, self.monotonic)
