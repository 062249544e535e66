"""One simulated process with a worker: its way to the store, its clock, its end."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import cast

import anyio
import trio

from trioflow._worker.options import WorkerOptions
from trioflow._worker.run import worker_on
from trioflow.backends.abc import Backend
from trioflow.errors import BackendUnavailable
from trioflow.testing.clock import SimulatedClock, process
from trioflow.testing.cluster.faults import Faults
from trioflow.testing.cluster.host import SimulatedTrioHost
from trioflow.testing.cluster.link import Link

__all__ = ["Process", "skew_here"]


class Process:
    """A worker in a process of its own.

    Attributes:
        name: The worker's, ``worker 1.3``: its place, and which life it is.
        version: The number of the code that it runs.
        skew: How far its clock is ahead, seconds.
        link: Its way to the store.
        ended: Set when it is gone.
    """

    def __init__(
        self,
        name: str,
        version: int,
        *,
        store: Backend,
        clock: SimulatedClock,
        chance: random.Random,
        faults: Faults | None,
    ) -> None:
        self.name = name
        self.version = version
        self.skew = 0.0
        if faults is not None and faults.skew > 0:
            self.skew = chance.choice((0.0, 1.0, -1.0)) * chance.expovariate(1 / faults.skew)
        self.link = Link(store, chance, clock)
        self.ended = anyio.Event()
        self._clock = clock
        self._chance = chance
        self._faults = faults
        self._alive = trio.CancelScope()

    async def run(self, options: WorkerOptions, start: float) -> None:
        """Run the worker until `kill` or `drain`; the task that calls this is the process'.

        Args:
            options: The worker's.
            start: The true time at the clock's 0, epoch seconds.
        """
        process.set(self)
        host = SimulatedTrioHost(self._chance.getrandbits(64), start + self.skew, self)
        try:
            with self._alive:
                async with worker_on(cast("Backend", self.link), options, host):
                    await trio.sleep_forever()
        except BackendUnavailable:
            pass  # it could not register: what keeps it running starts it again
        finally:
            self.ended.set()

    def kill(self) -> None:
        """End it at once: nothing that it does from now on reaches anybody."""
        self.link.dead = True
        self.drain()

    def drain(self) -> None:
        """Have it end as it should."""
        self._clock.go_on(self)
        self._alive.cancel()

    async def trouble(self, faults: Faults, say: Callable[[str], None]) -> None:
        """Have things happen to it, again and again; to be run outside of it."""
        chance, link = self._chance, self.link
        while True:
            await anyio.sleep(chance.expovariate(1 / faults.between))
            kind = chance.choice(("is cut", "is slow", "loses answers", "stands still"))
            mean = {"is slow": faults.slow, "stands still": faults.still}.get(kind, faults.cut)
            seconds = chance.expovariate(1 / mean) if mean > 0 else 0.0
            say(f"{self.name} {kind} for {seconds:.3f} s")
            until = self._clock.now + seconds
            if kind == "is cut":
                link.cut_until = until
            elif kind == "is slow":
                link.slow_until = until
            elif kind == "loses answers":
                link.loses = faults.lost
            else:
                self._clock.stop(self)
            await anyio.sleep(seconds)
            self.heal()

    def heal(self) -> None:
        """End what has happened to it, as far as it lasts."""
        self._clock.go_on(self)
        self.link.cut_until = self.link.slow_until = -1.0
        self.link.loses = 0.0


def skew_here() -> float:
    """Return how far the clock of the process that the running task belongs to is ahead."""
    here = process.get()
    return here.skew if isinstance(here, Process) else 0.0
