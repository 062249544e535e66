"""What a worker takes from the process that it runs in, as one object that can be replaced.

Everything that differs between trio and asyncio, and everything that makes two runs differ, comes
from the worker's `Host`: clocks, random bits, tasks that outlive their opener, threads, calls into
the loop from outside, signals. `trioflow._worker.real_host` has those of a program. A simulation
brings its own, on a loop whose clock jumps, with a seeded source of random bits, and runs inline
what would be in threads. Then no real time passes, and a run can be repeated.

Three clocks, which must not be mixed:

``current_time``
    The loop's, of deadlines and sleeps. `anyio.sleep` and `anyio.move_on_after` are by it, and may
    be used anywhere: whoever replaces the loop's clock has replaced theirs.
``monotonic``
    Only for how long something took.
``wall``
    Epoch seconds of this machine, for ids that sort by time. What is stored, and whether a lease is
    alive, is judged by the store's clock alone: ``backend.now()``.

All methods but those of what `call_soon` returns are called in the loop's thread.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import Context, copy_context
from types import TracebackType
from typing import Any, Protocol

import anyio
import outcome

from trioflow._model.randomness import RandomSource
from trioflow.backends._common.loop import CallSoon

__all__ = ["DetachedGroup", "Host", "Repeating", "Scope", "TaskGroup", "ThreadCall"]

logger = logging.getLogger("trioflow.worker")


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

    @property
    def deadline(self) -> float:
        """When it is cancelled, by the loop's clock."""
        ...

    @deadline.setter
    def deadline(self, value: float, /) -> None: ...

    def __enter__(self) -> Any: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
        /,
    ) -> bool | None: ...

    def cancel(self, reason: str | None = None) -> None:
        """Cancel what runs inside."""

    @property
    def cancel_called(self) -> bool:
        """Whether it was cancelled, or its deadline has passed."""
        ...


class Repeating(Protocol):
    """A function that is called again and again."""

    def call_now(self) -> None:
        """Call it without waiting for the rest of the interval. Any thread may say so."""

    def stop(self) -> None:
        """Call it no more. Any thread may say so; a call that has begun is not waited for."""


class ThreadCall(Protocol):
    """One call of a plain function beside the loop.

    Attributes:
        processor: How long the function had the processor, seconds.
        began_at: When it began, by `Host.monotonic`.
        ended_at: When it ended, likewise; 0 before.
    """

    processor: float
    began_at: float
    ended_at: float

    async def run(self, scope: Scope) -> outcome.Outcome[object]:
        """Call the function and wait for it, whatever is cancelled meanwhile.

        Args:
            scope: The scope of whose cancel ``from_thread.check_cancelled()`` tells the function.

        Returns:
            What it returned or raised.

        Raises:
            Abandoned: It was abandoned.
        """
        ...

    def leave(self) -> None:
        """Abandon it: let the task that waits for the function go on without it."""


class Host(ABC):
    """The loop, the clocks, the random bits, the threads and the signals of a worker.

    Attributes:
        current_time: The loop's clock, seconds. Any thread may ask it.
        monotonic: A clock for how long something takes, seconds.
        wall: This machine's clock, epoch seconds.
        random: For ids, lives and tokens.
        has_threads: Whether there are other threads, so that one can watch the loop's.
        has_processes: Whether activities may be run in processes of their own.
    """

    current_time: Callable[[], float]
    monotonic: Callable[[], float]
    wall: Callable[[], float]
    random: RandomSource
    has_threads: bool
    has_processes: bool

    # --- tasks --------------------------------------------------------------------------

    @abstractmethod
    def task_group(self) -> AbstractAsyncContextManager[TaskGroup]:
        """Return a new group of tasks."""

    @abstractmethod
    def cancel_scope(self) -> Scope:
        """Return a new cancel scope."""

    @abstractmethod
    def spawn_detached(self, fn: Callable[[], Awaitable[None]], name: str) -> None:
        """Run a task that only the end of the loop cancels. It must raise nothing."""

    @abstractmethod
    async def outlast(self, event: anyio.Event, patience: float) -> bool:
        """Wait for an event even if the caller is cancelled meanwhile.

        The cancellation is delivered at its next checkpoint.

        Args:
            event: What is waited for.
            patience: The seconds for which it is, from about the time on that the caller is
                cancelled.

        Returns:
            Whether the event has come.
        """

    @abstractmethod
    async def run_asyncio(
        self, fn: Callable[..., Awaitable[Any]], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Call a coroutine function that needs asyncio; cancellation reaches it.

        Raises:
            NonRetryable: There is no asyncio here.
        """

    # --- beside the loop ----------------------------------------------------------------

    @abstractmethod
    def call_soon(self) -> CallSoon:
        """Return what calls a function in this loop soon, from any thread or signal handler."""

    @abstractmethod
    def repeat(self, interval: float, fn: Callable[[], bool], name: str) -> Repeating:
        """Call a function every ``interval`` seconds, until it returns False.

        In a thread of its own, which ends with the process: however busy the loop is, it is called
        in time. A host without threads calls it in the loop.
        """

    @abstractmethod
    def thread_call(self, fn: Callable[[], object]) -> ThreadCall:
        """Return a call of a plain function, to be run in a thread that can be abandoned."""

    @abstractmethod
    def sigterm(self) -> AbstractContextManager[anyio.Event]:
        """Give an event that is set when the process gets SIGTERM, while the block lasts."""


class DetachedGroup:
    """A nursery run by a detached task, so it can outlive the task that opened it.

    No cancel of that task reaches what runs in it: code that perhaps does not stop when it is
    cancelled can be abandoned. Only the end of the loop cancels it, or a task that fails.

    Args:
        host: Where it runs.
        name: Of the task that runs it.
        on_break: Called when a task has failed, so that all of them are cancelled. It soon takes
            no more.
    """

    def __init__(self, host: Host, name: str, on_break: Callable[[], None] | None = None) -> None:
        self._host = host
        self._name = name
        self._on_break = on_break
        self._group: TaskGroup | None = None
        self._early: list[tuple[Context, Callable[[TaskGroup], None]]] = []
        self._closing = anyio.Event()
        self._ended = anyio.Event()
        host.spawn_detached(self._hold, name)

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
            async with self._host.task_group() as group:
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
