"""One dedicated thread on which a synchronous driver runs, called from trio or asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar, TypeVarTuple

import anyio
import anyio.lowlevel
import outcome
import trio

from trioflow.errors import BackendUnavailable

__all__ = ["StorageThread"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_Reply = Callable[[outcome.Outcome[Any]], None]
_Job = tuple[Callable[..., Any], tuple[Any, ...], _Reply]


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
        if trio.lowlevel.in_trio_run():
            await trio.lowlevel.checkpoint_if_cancelled()
            return await self._run_trio(fn, args)
        await anyio.lowlevel.checkpoint_if_cancelled()
        return await self._run_asyncio(fn, args)

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
            await self._run_trio(_nothing, ())
        else:
            await self._run_asyncio(_nothing, ())

    async def _run_trio(self, fn: Callable[..., T], args: tuple[Any, ...]) -> T:
        task = trio.lowlevel.current_task()
        token = trio.lowlevel.current_trio_token()

        def reply(result: outcome.Outcome[Any]) -> None:
            token.run_sync_soon(trio.lowlevel.reschedule, task, result)

        self._put(fn, args, reply)

        def refuse(_: Any) -> trio.lowlevel.Abort:
            return trio.lowlevel.Abort.FAILED

        result: T = await trio.lowlevel.wait_task_rescheduled(refuse)
        return result

    async def _run_asyncio(self, fn: Callable[..., T], args: tuple[Any, ...]) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[outcome.Outcome[T]] = loop.create_future()

        def reply(result: outcome.Outcome[Any]) -> None:
            loop.call_soon_threadsafe(done.set_result, result)

        self._put(fn, args, reply)
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
        task = asyncio.current_task()
        if cancels and task is not None:
            # Asked for again, so that it comes at the next await, after the result.
            for _ in cancels:
                task.uncancel()
            for args_ in cancels:
                task.cancel(*args_)
        return done.result().unwrap()

    def _put(self, fn: Callable[..., Any], args: tuple[Any, ...], reply: _Reply) -> None:
        if self._closed:
            raise BackendUnavailable(f"{self._name} is closed; open the backend again")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put((fn, args, reply))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            fn, args, reply = job
            result = outcome.capture(fn, *args)
            # If the loop that asked is gone, nobody is left to tell.
            with contextlib.suppress(trio.RunFinishedError, RuntimeError):
                reply(result)
            del job, fn, args, reply, result


def _nothing() -> None:
    pass
