"""One dedicated thread on which a synchronous driver runs, called from trio or asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, TypeVarTuple

import anyio
import anyio.lowlevel
import outcome
import trio

from trioflow.backends._common.loop import cancel_again
from trioflow.errors import BackendUnavailable

__all__ = ["StorageThread", "one_by_one"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Calls = Sequence[Callable[[], Any]]
Together = Callable[[Calls], Sequence[outcome.Outcome[Any]]]

_Reply = Callable[[outcome.Outcome[Any]], None]
# How to run it, what to run, whom to tell.
_Job = tuple[Together, Callable[[], Any], _Reply]

# So many that a disk's flush is well shared, so few that the first need not wait long.
_MOST_TOGETHER = 100


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
        is never unknown. The cancellation comes at its next checkpoint.

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
        if trio.lowlevel.in_trio_run():
            await trio.lowlevel.checkpoint_if_cancelled()
            return await self._run_trio(together, partial(fn, *args))
        await anyio.lowlevel.checkpoint_if_cancelled()
        return await self._run_asyncio(together, partial(fn, *args))

    async def aclose(self) -> None:
        """Let what was handed over finish, then end and join the thread. Idempotent."""
        if self._closed:
            return
        if self._thread is not None:
            await self._drain()
        self._closed = True
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join()

    async def _drain(self) -> None:
        if trio.lowlevel.in_trio_run():
            await self._run_trio(one_by_one, _nothing)
        else:
            await self._run_asyncio(one_by_one, _nothing)

    async def _run_trio(self, together: Together, call: Callable[[], T]) -> T:
        task = trio.lowlevel.current_task()
        token = trio.lowlevel.current_trio_token()

        def reply(result: outcome.Outcome[Any]) -> None:
            token.run_sync_soon(trio.lowlevel.reschedule, task, result)

        self._put((together, call, reply))

        def refuse(_: Any) -> trio.lowlevel.Abort:
            return trio.lowlevel.Abort.FAILED

        result: T = await trio.lowlevel.wait_task_rescheduled(refuse)
        return result

    async def _run_asyncio(self, together: Together, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[outcome.Outcome[T]] = loop.create_future()

        def reply(result: outcome.Outcome[Any]) -> None:
            loop.call_soon_threadsafe(done.set_result, result)

        self._put((together, call, reply))
        cancels: list[tuple[Any, ...]] = []
        # The shield is against anyio's cancel scopes, which cancel again in every round of the
        # loop; the rest against a task that is cancelled by itself.
        with anyio.CancelScope(shield=True):
            while not done.done():
                try:
                    # It leaves the future alone when the waiter is cancelled.
                    await asyncio.wait((done,))
                except asyncio.CancelledError as exc:
                    cancels.append(exc.args)
        cancel_again(cancels)
        return done.result().unwrap()

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
            together, call, reply = job
            calls, replies = [call], [reply]
            following: _Job | None = None
            if together is not one_by_one:
                following = self._gather(together, calls, replies)
            _answer(replies, together(calls))
            # Nothing may be kept alive by a thread that waits.
            del job, call, reply, calls, replies
            job = following if following is not None else self._jobs.get()

    def _gather(
        self, together: Together, calls: list[Callable[[], Any]], replies: list[_Reply]
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
            calls.append(job[1])
            replies.append(job[2])
        return None


def _answer(replies: Sequence[_Reply], results: Sequence[outcome.Outcome[Any]]) -> None:
    for reply, result in zip(replies, results, strict=True):
        # If the loop that asked is gone, nobody is left to tell.
        with contextlib.suppress(trio.RunFinishedError, RuntimeError):
            reply(result)


def one_by_one(calls: Calls) -> list[outcome.Outcome[Any]]:
    """Make each call by itself."""
    return [outcome.capture(call) for call in calls]


def _nothing() -> None:
    pass
