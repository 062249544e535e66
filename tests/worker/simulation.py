"""A host on which no real time passes and chance is seeded, on trio and on asyncio."""

from __future__ import annotations

import asyncio
import time

import trio
import trio.testing

from tests.worker.flow import EPOCH
from trioflow.backends.memory import MemoryBackend
from trioflow.testing.cluster.host import SimulatedAsyncioHost, SimulatedTrioHost


def simulated_host(seed):
    """Return a host of the running loop."""
    make = SimulatedTrioHost if trio.lowlevel.in_trio_run() else SimulatedAsyncioHost
    return make(seed, EPOCH)


class SharedMemory(MemoryBackend):
    """A memory store as several processes would share it: with leases and heartbeats."""

    shared = True

    def __init__(self, clock):
        super().__init__(clock=clock)
        self.beats = []

    def heartbeat(self, worker):
        self.beats.append((self.now(), worker))
        return super().heartbeat(worker)


class JumpingLoop(asyncio.SelectorEventLoop):
    """Its clock jumps to the next timer as soon as nothing else is to be done."""

    def __init__(self):
        super().__init__()
        self._now = 0.0
        self._really_select = self._selector.select
        self._selector.select = self._select

    def time(self):
        return self._now

    def _select(self, timeout=None):
        ready = self._really_select(0)
        if not ready:
            assert timeout is not None, "nothing will ever happen any more"
            self._now += timeout
        return ready


def simulate(loop, main, monkeypatch):
    """Run ``main(backend)`` on a loop whose clock jumps and whose order of tasks is fixed."""

    async def with_store():
        host = simulated_host(0)
        backend = SharedMemory(host.wall)
        await backend.open()
        try:
            return await main(backend)
        finally:
            await backend.aclose()

    began = time.perf_counter()
    if loop == "trio":
        core = trio._core._run  # noqa: TID251  # nothing public makes its order repeatable
        monkeypatch.setattr(core, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        core._r.seed(0)
        result = trio.run(with_store, clock=trio.testing.MockClock(autojump_threshold=0))
    else:
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            result = runner.run(with_store())
    assert time.perf_counter() - began < 20, "virtual time passes too slowly"
    return result
