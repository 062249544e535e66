"""The way from a simulated worker or client to the store: slow, cut, or losing answers."""

from __future__ import annotations

import random
from math import inf
from typing import Any

import anyio

from trioflow.backends._common.watching import selection_of
from trioflow.backends.abc import Backend, Concern
from trioflow.backends.records import Heartbeat
from trioflow.errors import BackendUnavailable
from trioflow.testing.clock import SimulatedClock

__all__ = ["Link"]

_TIMEOUT = 2.0  # seconds after which a call on a link that is cut fails, as a socket's would


class Link:
    """A `Backend` that passes calls on to another one, in time and with faults.

    Args:
        store: The store.
        chance: For latencies and lost answers.
        clock: The cluster's.
        latency: How long a call takes each way, seconds at most. Half of the ways take no time.

    Attributes:
        cut_until: Until then nothing goes through, by the loop's clock.
        slow_until: Until then every call takes a hundred times as long.
        loses: How likely it is that an answer is lost though the call was carried out.
        dead: Nothing goes through any more: the process behind it was killed.
    """

    name = "simulated"
    shared = True

    def __init__(
        self,
        store: Backend,
        chance: random.Random,
        clock: SimulatedClock,
        latency: float = 0.002,
    ) -> None:
        self._store = store
        self._changed = selection_of(store)
        self._chance = chance
        self._clock = clock
        self._latency = latency
        self.cut_until = self.slow_until = -inf
        self.loses = 0.0
        self.dead = False

    async def open(self) -> None:
        """Do nothing: the store is open."""
        await anyio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Do nothing: others use the store."""
        await anyio.lowlevel.checkpoint()

    def now(self) -> float:
        """Return the store's time."""
        return self._store.now()

    def changes(self) -> int:
        """Return the store's counter of changes."""
        return self._store.changes()

    def changed(self, what: Concern, since: int, worker: str = "") -> bool:
        """Return what the store knows of its changes."""
        return self._changed(what, since, worker)

    async def wait_change(self, seen: int, timeout: float) -> None:
        """Wait until the store says that something has changed; what is cut hears nothing."""
        if self._is_cut:
            await self._clock.sleep(min(timeout, 1.0))
        else:
            await self._store.wait_change(seen, min(timeout, 60.0))

    def heartbeat(self, worker: str) -> Heartbeat:
        """Renew a worker's row, if the link is up."""
        if self._is_cut:
            raise BackendUnavailable("the simulated link is cut")
        return self._store.heartbeat(worker)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._travel()
            result = await method(*args, **kwargs)
            await self._travel()
            if self._chance.random() < self.loses:
                raise BackendUnavailable("the answer was lost in the simulation")
            return result

        self.__dict__[name] = call  # so that it is asked for once
        return call

    @property
    def _is_cut(self) -> bool:
        return self.dead or self._clock.now < self.cut_until

    async def _travel(self) -> None:
        if self._is_cut:
            await self._clock.sleep(_TIMEOUT)
            raise BackendUnavailable("the simulated link is cut")
        slow = self._clock.now < self.slow_until
        seconds = (self._chance.random() - (0.0 if slow else 0.5)) * self._latency
        if seconds <= 0:
            return  # the order of calls differs by what is left, and each is a pass of the loop
        await self._clock.sleep(seconds * (100 if slow else 1))
        if self._is_cut:
            raise BackendUnavailable("the simulated link was cut")
