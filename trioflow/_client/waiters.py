"""Calls that wait for something that the store will show: who they are, and who looks for them.

A call is registered before its first look, so that what happens between the look and the wait is
not missed. One task looks for all of them after each change of the store. A wake-up too many does
no harm: whoever is woken without being told looks again, or finds the client closed.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable
from itertools import chain
from typing import Generic, Protocol, TypeVar

import anyio

from trioflow._client.fences import closed_by
from trioflow.backends._common.watching import selection_of
from trioflow.backends.abc import Backend
from trioflow.errors import BackendUnavailable, ClientClosed, StoreFenced

__all__ = ["PATIENCE", "Waiters"]

PATIENCE = 5.0
"""Seconds at most between two looks for all: no change tells that an instance was removed, or that
this process has lost its lease."""

_TRY_AGAIN = 0.5  # seconds until the next look, if the store cannot be reached


class _Waiter(Protocol):
    """One call that waits; ``woken`` is set once it was told, or is to look again."""

    woken: anyio.Event


K = TypeVar("K", bound=Hashable)
W = TypeVar("W", bound=_Waiter)


class Waiters(Generic[K, W]):
    """The calls that wait, by what they wait for.

    Args:
        backend: The store.
        doubts: Whether any change may be of interest, and not only an outcome.

    Attributes:
        patience: Seconds at most between two looks for all of them.
        closed: Whether `close` was called.
        waiting: The calls by what they wait for, written here alone.
    """

    def __init__(self, backend: Backend, doubts: Callable[[], bool] = lambda: False) -> None:
        # A store of this process alone tells of everything. (And a clock of its own may jump.)
        self.patience = PATIENCE if backend.shared else math.inf
        self.closed = False
        self._backend = backend
        self._changed = selection_of(backend)
        self._doubts = doubts
        self.waiting: dict[K, list[W]] = {}
        self._wanted = anyio.Event()
        self._watching = anyio.CancelScope()
        self._cut_off: dict[W, str] = {}
        self._asked_at = -math.inf  # when it was last looked whether the store is closed

    async def wait(self, key: K, waiter: W, look: Callable[[], Awaitable[bool]]) -> None:
        """Register a call, look for what it waits for, and wait until it is woken.

        Args:
            key: What it waits for.
            waiter: The call.
            look: Looks for this call alone; returns whether there is nothing to wait for.

        Raises:
            ClientClosed: The client was closed before, or the look failed because of that.
            StoreFenced: Nothing will happen in the store any more.
            Exception: What ``look`` raises.
        """
        if self.closed:
            raise ClientClosed
        self.waiting.setdefault(key, []).append(waiter)
        try:
            if await look():
                return
            self._wanted.set()
            await waiter.woken.wait()
            if waiter in self._cut_off:
                raise StoreFenced(self._cut_off[waiter])
        except BackendUnavailable as exc:
            if self.closed:
                raise ClientClosed from exc
            raise
        finally:
            self._cut_off.pop(waiter, None)
            waiting = self.waiting[key]
            waiting.remove(waiter)
            if not waiting:
                del self.waiting[key]

    async def watch(self, look: Callable[[], Awaitable[None]]) -> None:
        """Look for all that wait after each change of the store, until `close`."""
        with self._watching:
            while True:
                if not self.waiting:
                    self._wanted = anyio.Event()
                    await self._wanted.wait()
                seen = self._backend.changes()
                try:
                    await look()
                    await self._look_for_a_fence()
                except BackendUnavailable:
                    await anyio.sleep(_TRY_AGAIN)
                    continue
                await self._wait(seen)

    async def _wait(self, looked: int) -> None:
        """Wait until there may be something new to be told, but not for too long."""
        seen = looked
        with anyio.move_on_after(self.patience):
            while not (self._changed("outcomes", looked) or (seen != looked and self._doubts())):
                await self._backend.wait_change(seen, math.inf)
                seen = self._backend.changes()

    async def _look_for_a_fence(self) -> None:
        """Now and then, wake all if the store is closed: nobody will tell them anything."""
        if self._backend.shared:
            now = anyio.current_time()
            if now - self._asked_at < self.patience:
                return
            self._asked_at = now
        elif not getattr(self._backend, "was_fenced", False):
            return
        text = await closed_by(self._backend)
        if text is not None:
            for waiter in chain.from_iterable(self.waiting.values()):
                self._cut_off[waiter] = text
                waiter.woken.set()

    def close(self) -> None:
        """End `watch`, and wake everybody; whoever has not been told raises `ClientClosed`."""
        self.closed = True
        self._watching.cancel()
        for waiter in chain.from_iterable(self.waiting.values()):
            waiter.woken.set()
