"""A host on which no real time passes and chance is seeded, on trio and on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import anyio
import outcome
import trio
import trio.testing

from tests.worker.flow import EPOCH
from trioflow._model.randomness import RandomSource
from trioflow._worker.real_host import AsyncioHost, TrioHost
from trioflow.backends.memory import MemoryBackend


class InlineCall:
    """A plain function called in the loop, in no time."""

    def __init__(self, fn, clock):
        self._fn = fn
        self._clock = clock
        self.processor = self.began_at = self.ended_at = 0.0

    async def run(self, scope):
        await anyio.lowlevel.checkpoint()
        self.began_at = self._clock()
        result = outcome.capture(self._fn)
        self.ended_at = self._clock()
        return result

    def leave(self):
        raise AssertionError("it has ended before anybody else can run")


class Repeating:
    def __init__(self):
        self.scope = anyio.CancelScope()
        self.wake = anyio.Event()

    def call_now(self):
        self.wake.set()

    def stop(self):
        self.scope.cancel()


class _Simulated:
    """Clocks, chance, threads and signals; the loop is trio's or asyncio's own, see `simulate`."""

    def __init__(self, seed):
        super().__init__()
        self.random = RandomSource(random.Random(seed).randbytes)
        self.monotonic = self.current_time
        self.wall = lambda: EPOCH + self.current_time()
        self.has_threads = False
        self.repeating = []

    def repeat(self, interval, fn, name):
        repeating = Repeating()

        async def run():
            with repeating.scope:
                while True:
                    with anyio.move_on_after(interval):
                        await repeating.wake.wait()
                    repeating.wake = anyio.Event()
                    if not fn():
                        return

        self.spawn_detached(run, name)
        self.repeating.append(repeating)
        return repeating

    def thread_call(self, fn):
        return InlineCall(fn, self.monotonic)

    @contextlib.contextmanager
    def sigterm(self):
        yield anyio.Event()


class SimulatedTrio(_Simulated, TrioHost):
    pass


class SimulatedAsyncio(_Simulated, AsyncioHost):
    pass


def simulated_host(seed):
    """Return a host of the running loop."""
    return SimulatedTrio(seed) if trio.lowlevel.in_trio_run() else SimulatedAsyncio(seed)


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
