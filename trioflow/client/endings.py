"""Waiting for instances to end."""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio

from trioflow.backends.base import Backend
from trioflow.errors import BackendUnavailable, InstanceNotFound

__all__ = ["Endings"]


class _Waiter:
    """Somebody who waits for an instance's end."""

    __slots__ = ("ended", "outcome", "status")

    def __init__(self) -> None:
        self.ended = anyio.Event()
        self.status = ""
        self.outcome = b""


class Endings:
    """Those who wait for an instance's end, and how they are told.

    Args:
        backend: The store.
        holds: Whether a worker in this process holds an instance; it tells of its end by itself.
    """

    def __init__(self, backend: Backend, holds: Callable[[str], bool]) -> None:
        self._backend = backend
        self._holds = holds
        self._waiters: dict[str, list[_Waiter]] = {}
        self._watching = anyio.CancelScope()
        self._wanted = anyio.Event()

    @property
    def waiting(self) -> int:
        """How many instances somebody waits for."""
        return len(self._waiters)

    async def watch(self) -> None:
        """Tell those who wait for an instance when it has ended, until `close`."""
        with self._watching:
            while True:
                if not self._waiters:
                    self._wanted = anyio.Event()
                    await self._wanted.wait()
                seen = self._backend.changes()
                try:
                    await self._look_for_ends()
                except BackendUnavailable:
                    await anyio.sleep(0.5)
                    continue
                await self._backend.wait_change(seen, math.inf)

    async def _look_for_ends(self) -> None:
        # Of what this process holds, `tell` tells.
        ids = [id for id in self._waiters if not self._holds(id)]
        for id in await self._backend.not_running(ids) if ids else ():
            await self._look(id)

    def close(self) -> None:
        """Stop `watch`."""
        self._watching.cancel()

    def tell(self, id: str, status: str, outcome: bytes) -> None:
        """Accept word from the worker in this process that an instance has ended."""
        for waiter in self._waiters.pop(id, ()):
            waiter.status, waiter.outcome = status, outcome
            waiter.ended.set()

    async def _look(self, id: str) -> None:
        record = await self._backend.get(id)
        if record is not None and record.status != "running":
            self.tell(id, record.status, record.outcome)

    async def wait(self, id: str, *, wait_suspended: bool) -> tuple[str, bytes]:
        """Return the status and the stored outcome (the stored report if suspended)."""
        while True:
            waiter = _Waiter()
            self._waiters.setdefault(id, []).append(waiter)
            try:
                # Registered first, so that an end between the look and the wait is not missed.
                if not self._holds(id):
                    record = await self._backend.get(id)
                    if record is None:
                        raise InstanceNotFound(id)
                    if record.status != "running" and (
                        record.status != "suspended" or not wait_suspended
                    ):
                        return record.status, record.outcome
                self._wanted.set()
                await waiter.ended.wait()
            finally:
                waiters = self._waiters.get(id, [])
                if waiter in waiters:
                    waiters.remove(waiter)
                    if not waiters:
                        del self._waiters[id]
            if waiter.status != "suspended" or not wait_suspended:
                return waiter.status, waiter.outcome
            await anyio.sleep(0.5)  # it waits for a person: nothing is lost by looking now and then
