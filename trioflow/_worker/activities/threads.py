"""Plain functions in threads that can be abandoned.

A thread cannot be stopped. So a worker whose time is over must be able to go, and the process to
exit, while a function still blocks: the threads are daemons, and the task that waits for one can be
made to wait no longer. Until then `anyio.from_thread` and `trio.from_thread` work in them as in the
hosts' own worker threads, of which this uses a few private names. All such uses are in this file.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import time
from collections.abc import Callable, Generator
from typing import Any

import anyio
import anyio.to_thread
import outcome
import sniffio
import trio

from trioflow._worker.host import Scope

__all__ = ["Abandoned", "AsyncioThreadCall", "TrioThreadCall"]

# Where trio keeps, for each of its worker threads, to which task the thread belongs.
_trio_data: Any = getattr(getattr(trio, "_threads", None), "PARENT_TASK_DATA", None)


class Abandoned(BaseException):
    """Raised where a function was waited for that was abandoned."""


class _Call:
    """One call of a plain function in a thread of its own; see `trioflow._worker.host.ThreadCall`.

    Attributes:
        left: Whether it was abandoned.
    """

    __slots__ = ("_clock", "_fn", "began_at", "ended_at", "left", "processor")

    def __init__(self, fn: Callable[[], object], clock: Callable[[], float]) -> None:
        self._fn = fn
        self._clock = clock
        self.left = False
        self.processor = self.began_at = self.ended_at = 0.0

    def _call(self) -> outcome.Outcome[object]:
        self.began_at, processor = self._clock(), time.thread_time()
        result: outcome.Outcome[object]
        try:
            result = outcome.Value(self._fn())
        except BaseException as exc:  # noqa: BLE001  # whatever it is, somebody waits for it
            # Not outcome.capture(): it calls methods that the exception's class may have replaced.
            tb = sys.exc_info()[2]
            result = outcome.Error(BaseException.with_traceback(exc, tb and tb.tb_next))
        self.processor, self.ended_at = time.thread_time() - processor, self._clock()
        return result


class TrioThreadCall(_Call):
    """In one of trio's worker threads.

    Args:
        fn: The function.
        clock: By which it is measured.
        limiter: For the host's threads; one without a limit, if that is kept elsewhere.
    """

    __slots__ = ("_limiter", "_register", "_task")

    def __init__(
        self,
        fn: Callable[[], object],
        clock: Callable[[], float],
        limiter: anyio.CapacityLimiter,
    ) -> None:
        super().__init__(fn, clock)
        self._limiter = limiter
        self._register: list[Any] | None = None
        self._task: trio.lowlevel.Task | None = None

    async def run(self, scope: Scope) -> outcome.Outcome[object]:
        """Call the function and wait for it; raises `Abandoned` after `leave`."""
        self._task = trio.lowlevel.current_task()
        try:
            return await anyio.to_thread.run_sync(self._call_in_trio, limiter=self._limiter)
        finally:
            self._task = None

    def leave(self) -> None:
        """Let the task that waits for the function go on without it."""
        self.left = True
        if self._task is None or self._register is None:
            return
        if getattr(self._task, "_next_send_fn", None) is not None:
            # It has its turn soon: the thread has just ended, or has sent it something.
            trio.lowlevel.current_trio_token().run_sync_soon(self.leave)
        elif _waits(self._task):
            self._register[0] = None  # the thread's end wakes nobody
            trio.lowlevel.reschedule(self._task, outcome.Value(outcome.Error(Abandoned())))
            self._task = None

    def __bool__(self) -> bool:
        """Whether trio is to run what the thread sends to the loop beside the call's own task."""
        return self.left

    def _call_in_trio(self) -> outcome.Outcome[object]:
        if _trio_data is not None and hasattr(_trio_data, "abandon_on_cancel"):
            self._register = getattr(_trio_data, "task_register", None)
            _trio_data.abandon_on_cancel = self
        if self.left:  # when the thread had not begun: nobody has woken the task
            return outcome.Error(Abandoned())
        return self._call()


class AsyncioThreadCall(_Call):
    """In a daemon thread of trio's, on a loop of asyncio: anyio's keep the process from exiting."""

    __slots__ = ("_hold",)

    def __init__(self, fn: Callable[[], object], clock: Callable[[], float]) -> None:
        super().__init__(fn, clock)
        self._hold: anyio.CancelScope | None = None

    async def run(self, scope: Scope) -> outcome.Outcome[object]:
        """Call the function and wait for it; raises `Abandoned` after `leave`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[outcome.Outcome[object]] = loop.create_future()
        context = contextvars.copy_context()
        context.run(sniffio.current_async_library_cvar.set, None)

        def call() -> outcome.Outcome[object]:
            with _anyio_thread(loop, scope):
                return context.run(self._call)

        def settle(result: outcome.Outcome[object]) -> None:
            if not future.done():
                future.set_result(result)

        def deliver(called: outcome.Outcome[outcome.Outcome[object]]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, called.unwrap())

        trio.lowlevel.start_thread_soon(call, deliver, "trioflow activity")
        with anyio.CancelScope(shield=True) as self._hold:
            return await future
        raise Abandoned

    def leave(self) -> None:
        """Let the task that waits for the function go on without it."""
        self.left = True
        if self._hold is not None:
            self._hold.cancel()


def _waits(task: trio.lowlevel.Task) -> bool:
    """Whether a task waits for its thread, and does nothing for it at the moment."""
    frame: Any = task.coro
    while frame is not None:
        inner = getattr(frame, "cr_await", None)
        if frame.cr_code.co_name == "to_thread_run_sync":
            return getattr(inner, "__name__", "") == "wait_task_rescheduled"
        frame = inner if hasattr(inner, "cr_code") else None
    return False


@contextlib.contextmanager
def _anyio_thread(loop: asyncio.AbstractEventLoop, scope: Scope) -> Generator[None]:
    """Make the thread one of anyio's worker threads, for as long as the block lasts."""
    # Not at the top: trio hosts need no asyncio back-end.
    from anyio._backends._asyncio import AsyncIOBackend  # noqa: PLC0415
    from anyio._core._eventloop import claim_worker_thread, threadlocals  # noqa: PLC0415

    with claim_worker_thread(AsyncIOBackend, loop):
        threadlocals.current_cancel_scope = scope
        try:
            yield
        finally:
            del threadlocals.current_cancel_scope
