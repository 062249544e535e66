"""What a simulated worker takes from its process: virtual clocks, seeded chance, no threads."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable, Generator, Hashable

import anyio
import anyio.lowlevel
import outcome

from trioflow._model.randomness import RandomSource
from trioflow._worker.host import Host, Repeating, Scope, ThreadCall
from trioflow._worker.real_host import AsyncioHost, TrioHost
from trioflow.testing.clock import process

__all__ = ["SimulatedAsyncioHost", "SimulatedTrioHost"]


class _InlineCall:
    """A plain function, called in the loop, in no time."""

    def __init__(self, fn: Callable[[], object], clock: Callable[[], float]) -> None:
        self._fn = fn
        self._clock = clock
        self.processor = self.began_at = self.ended_at = 0.0

    async def run(self, scope: Scope) -> outcome.Outcome[object]:
        await anyio.lowlevel.checkpoint()
        self.began_at = self._clock()
        result = outcome.capture(self._fn)
        self.ended_at = self._clock()
        return result

    def leave(self) -> None:
        """Do nothing: it has ended before anybody else can run."""


class _Repeating:
    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.wake = anyio.Event()

    def call_now(self) -> None:
        self.wake.set()

    def stop(self) -> None:
        self.scope.cancel()


class _Simulated(Host):
    """What simulated hosts have in common; the loop's own clock is to be virtual.

    Args:
        seed: For random bits.
        start: The wall clock at the beginning of the loop's time, epoch seconds.
        belongs_to: The simulated process; see `trioflow.testing.clock.process`.

    Attributes:
        repeating: What is called again and again, such as heartbeats.
    """

    def __init__(self, seed: int, start: float, belongs_to: Hashable = None) -> None:
        super().__init__()
        self.random = RandomSource(random.Random(seed).randbytes)  # noqa: S311  # it is repeated
        self.monotonic = self.current_time
        self.wall = lambda: start + self.current_time()
        self.has_threads = self.has_processes = False
        self.repeating: list[Repeating] = []
        self._process = belongs_to

    def _inside(self, fn: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """Return the function for a task that outlives its opener, as one of this process."""

        async def run() -> None:
            process.set(self._process)
            await fn()

        return run

    def repeat(self, interval: float, fn: Callable[[], bool], name: str) -> Repeating:
        """Call a function again and again, in the loop."""
        repeating = _Repeating()

        async def run() -> None:
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

    def thread_call(self, fn: Callable[[], object]) -> ThreadCall:
        """Return a call that is made in the loop."""
        return _InlineCall(fn, self.monotonic)

    @contextlib.contextmanager
    def sigterm(self) -> Generator[anyio.Event]:
        """Give an event that is never set."""
        yield anyio.Event()


class SimulatedTrioHost(_Simulated, TrioHost):
    """A host on a trio loop."""

    def spawn_detached(self, fn: Callable[[], Awaitable[None]], name: str) -> None:
        """Start a task that outlives its opener."""
        TrioHost.spawn_detached(self, self._inside(fn), name)


class SimulatedAsyncioHost(_Simulated, AsyncioHost):
    """A host on an asyncio loop."""

    def spawn_detached(self, fn: Callable[[], Awaitable[None]], name: str) -> None:
        """Start a task that outlives its opener."""
        AsyncioHost.spawn_detached(self, self._inside(fn), name)
