"""One dedicated thread on which a synchronous driver runs, called from trio or asyncio.

A call that was handed over is waited for, whatever is cancelled: what was committed is never
unknown. The exception is the end of a worker whose server hangs. Its calls are made in a
`CallGroup`; once that is being left, its callers obey their cancels. What the thread had not begun
is not done then, and of what it has begun nobody hears how it went.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeAlias, TypeVar, TypeVarTuple

import anyio
import anyio.lowlevel
import msgspec
import outcome
import trio

from trioflow.backends._common.loop import cancel_again
from trioflow.errors import BackendUnavailable

__all__ = ["CallGroup", "StorageThread", "one_by_one"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Calls = Sequence[Callable[[], Any]]
Together = Callable[[Calls], Sequence[outcome.Outcome[Any]]]


class _Wait(Protocol):
    """Who waits for a call.

    Attributes:
        left: Nobody does any more. Written on the loop; the thread reads it before it begins.
    """

    left: bool

    def reply(self, result: outcome.Outcome[Any]) -> None:
        """Pass on how it went; called on the thread."""

    def obey(self) -> None:
        """Deliver a cancel that was refused until now, or let it be delivered."""


# How to run it, what to run, who waits for it.
_Job: TypeAlias = tuple[Together, Callable[[], Any], _Wait]

# So many that a disk's flush is well shared, so few that the first need not wait long.
_MOST_TOGETHER = 100


class CallGroup:
    """The calls that one owner makes of storage threads, whose callers it can make leave them.

    Whatever is called while it is `entered`, in that task and those that are started there, belongs
    to it. Each worker has one, since other workers and clients may share its backend.

    Attributes:
        leaving: Whether `leave` was called.
        waits: Who waits at the moment.
    """

    __slots__ = ("leaving", "waits")

    def __init__(self) -> None:
        self.leaving = False
        self.waits: set[_Wait] = set()

    @contextlib.contextmanager
    def entered(self) -> Generator[None]:
        """Let what is called in the block belong to it; any number of tasks may be in such one."""
        token = _group.set(self)
        try:
            yield
        finally:
            _group.reset(token)

    def leave(self) -> None:
        """Let callers that are cancelled, or will be, wait no longer."""
        self.leaving = True
        for wait in list(self.waits):
            wait.obey()


_group: ContextVar[CallGroup | None] = ContextVar("trioflow storage calls", default=None)


class _TrioWait(msgspec.Struct, eq=False):  # made in C
    task: trio.lowlevel.Task
    token: trio.lowlevel.TrioToken
    group: CallGroup | None
    left: bool = False
    raise_cancel: Callable[[], Any] | None = None

    def reply(self, result: outcome.Outcome[Any]) -> None:
        self.token.run_sync_soon(self.settle, result)

    def settle(self, result: outcome.Outcome[Any]) -> None:
        if not self.left:
            self.left = True
            trio.lowlevel.reschedule(self.task, result)

    def abort(self, raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        if self.group is not None and self.group.leaving:
            self.left = True
            return trio.lowlevel.Abort.SUCCEEDED
        self.raise_cancel = raise_cancel
        return trio.lowlevel.Abort.FAILED

    def obey(self) -> None:
        if self.raise_cancel is not None:
            self.settle(outcome.capture(self.raise_cancel))


class _AsyncioWait(msgspec.Struct, eq=False):
    thread: str
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[outcome.Outcome[Any]]
    hold: anyio.CancelScope
    left: bool = False
    cancels: list[tuple[Any, ...]] = []  # msgspec copies it

    def reply(self, result: outcome.Outcome[Any]) -> None:
        self.loop.call_soon_threadsafe(self.settle, result)

    def settle(self, result: outcome.Outcome[Any]) -> None:
        if not (self.left or self.done.done()):
            self.done.set_result(result)

    def obey(self) -> None:
        self.hold.shield = False
        if self.cancels:  # of the task itself, not of a scope: asked for again after this error
            left = BackendUnavailable(f"{self.thread}: not waited for, since its caller ends")
            self.settle(outcome.Error(left))
            self.left = True


class _Nobody:
    left = False

    def reply(self, result: outcome.Outcome[Any]) -> None:
        pass

    def obey(self) -> None:
        pass


class StorageThread:
    """Runs functions one after the other on a thread of its own.

    It starts with the first `run`. It is a daemon: a process that ends without `aclose` does not
    wait for it.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run ``fn(*args)`` on the thread and return its result.

        A caller that is cancelled before the job is handed over gets its cancellation and
        nothing has run; afterwards it waits for the job and gets its result: what was committed
        is never unknown. The cancellation comes at its next checkpoint; but at once in a
        `CallGroup` that is being left.

        Raises:
            BackendUnavailable: After `aclose`.
        """
        return await self.run_together(one_by_one, fn, *args)

    async def run_together(self, together: Together, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Like `run`, for what can share a transaction with what is waiting beside it.

        Args:
            together: Called on the thread with those calls in a row that were given the same
                ``together``; it makes them all and returns an outcome for each.
            fn: What to call.
            args: With what.
        """
        if trio.lowlevel.in_trio_task():
            await trio.lowlevel.checkpoint_if_cancelled()
            return await self._run_trio(together, partial(fn, *args))
        await anyio.lowlevel.checkpoint_if_cancelled()
        return await self._run_asyncio(together, partial(fn, *args))

    async def aclose(self, last: Callable[[], None] | None = None) -> None:
        """Let what was handed over finish, and ``last``; then end and join the thread. Idempotent.

        In a `CallGroup` that is being left, a caller that is cancelled leaves the thread behind: it
        ends by itself, with ``last``, if its present call ever does.
        """
        if self._closed:
            return
        try:
            if self._thread is not None:
                await self._make_last(_nothing if last is None else last)
        finally:
            self._closed = True
            self._jobs.put(None)
        if self._thread is not None:
            self._thread.join()

    async def _make_last(self, call: Callable[[], None]) -> None:
        made = False

        def once() -> None:
            nonlocal made
            if not made:
                made = True
                call()

        try:
            if trio.lowlevel.in_trio_task():
                await self._run_trio(one_by_one, once)
            else:
                await self._run_asyncio(one_by_one, once)
        except BaseException:
            self._put((one_by_one, once, _Nobody()))  # it has perhaps not begun
            raise

    # An interrupt between the call and the wait would end the task, which the answer then wakes.
    @trio.lowlevel.enable_ki_protection
    async def _run_trio(self, together: Together, call: Callable[[], T]) -> T:
        group = _group.get()
        wait = _TrioWait(trio.lowlevel.current_task(), trio.lowlevel.current_trio_token(), group)
        self._put((together, call, wait))
        result: T
        if group is None:
            result = await trio.lowlevel.wait_task_rescheduled(wait.abort)
            return result
        group.waits.add(wait)
        try:
            result = await trio.lowlevel.wait_task_rescheduled(wait.abort)
        finally:
            group.waits.discard(wait)
        return result

    async def _run_asyncio(self, together: Together, call: Callable[[], T]) -> T:
        group = _group.get()
        loop = asyncio.get_running_loop()
        hold = anyio.CancelScope(shield=group is None or not group.leaving)
        wait = _AsyncioWait(self._name, loop, loop.create_future(), hold)
        self._put((together, call, wait))
        if group is not None:
            group.waits.add(wait)
        try:
            # The shield is against anyio's cancel scopes, which cancel again in every round of the
            # loop; the rest against a task that is cancelled by itself.
            with hold:
                while not wait.done.done():
                    try:
                        # It leaves the future alone when the waiter is cancelled.
                        await asyncio.wait((wait.done,))
                    except asyncio.CancelledError as exc:
                        if group is not None and group.leaving:
                            wait.left = True
                            raise
                        wait.cancels.append(exc.args)
        finally:
            if group is not None:
                group.waits.discard(wait)
        cancel_again(wait.cancels)
        result: T = wait.done.result().unwrap()
        return result

    def _put(self, job: _Job) -> None:
        if self._closed:
            raise BackendUnavailable(f"{self._name} is closed; open the backend again")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        job = self._jobs.get()
        while job is not None:
            together, call, wait = job
            following: _Job | None = None
            if not wait.left:
                calls, waits = [call], [wait]
                if together is not one_by_one:
                    following = self._gather(together, calls, waits)
                _answer(waits, together(calls))
                del calls, waits
            # Nothing may be kept alive by a thread that waits.
            del job, call, wait
            job = following if following is not None else self._jobs.get()

    def _gather(
        self, together: Together, calls: list[Callable[[], Any]], waits: list[_Wait]
    ) -> _Job | None:
        """Add what is waiting and goes with it; return the first job that does not."""
        while len(calls) < _MOST_TOGETHER:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return None
            if job is None:
                self._jobs.put(None)  # the end: nothing comes after it
                return None
            if job[0] != together:
                return job
            if not job[2].left:
                calls.append(job[1])
                waits.append(job[2])
        return None


def _answer(waits: Sequence[_Wait], results: Sequence[outcome.Outcome[Any]]) -> None:
    for wait, result in zip(waits, results, strict=True):
        # If the loop that asked is gone, nobody is left to tell.
        with contextlib.suppress(trio.RunFinishedError, RuntimeError):
            wait.reply(result)


def one_by_one(calls: Calls) -> list[outcome.Outcome[Any]]:
    """Make each call by itself."""
    return [outcome.capture(call) for call in calls]


def _nothing() -> None:
    pass
