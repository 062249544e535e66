"""Virtual time for the event loop that a test runs in, on trio and on asyncio.

`virtual_time` replaces the clock of the running loop. Whenever every task waits, the clock jumps to
the next deadline at once, as with `trio.testing.MockClock`. It can also be told of work that goes
on outside of the loop (a function in a thread): until that is done the clock stands still.

trio lets a clock be chosen only when a run begins, asyncio not at all. So this file reaches into
both: it is the only one of `trioflow.testing` that does.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
# Using what the two loops keep to themselves is the purpose of this file.

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from heapq import heappop, heappush
from math import inf
from typing import Any

import sniffio
import trio
from trio._core import _run

__all__ = [
    "SimulatedClock",
    "VirtualClock",
    "process",
    "repeatable_order",
    "simulated_time",
    "virtual_time",
]

_OUTSIDE = 32  # passes of a busy loop between two looks whether something has come from outside
_LOOK = 0.002  # real seconds between two looks whether the work outside is done
_NOTHING: Any = 0 if sys.platform == "win32" else []  # what trio takes for no events; not changed
_STUCK = 0.25  # real seconds without a deadline, an event and work outside, after which it is stuck


class VirtualClock:
    """The time of a loop under `virtual_time`.

    Args:
        now: Where it begins.
        busy: Says whether work goes on outside of the loop, for which the clock has to wait.
        on_stuck: Called, once, when nothing will ever happen: no task is ready, none has a deadline
            and nothing goes on outside.

    Attributes:
        now: The time, seconds; the loop's own clock says the same.
    """

    def __init__(
        self, now: float, busy: Callable[[], bool], on_stuck: Callable[[], None] | None
    ) -> None:
        self.now = now
        self._busy = busy
        self._on_stuck = on_stuck
        self._idle_since: float | None = None

    def time(self) -> float:
        """Return the time."""
        return self.now

    def note_events(self) -> None:
        """Say that something has come from outside."""
        self._idle_since = None

    def jump(self, deadline: float) -> bool:
        """Go to the next deadline if nothing is under way; every task waits.

        Args:
            deadline: When the loop is due, ``inf`` for never.

        Returns:
            Whether the time is ``deadline`` now. Otherwise the loop has to wait for a moment of
            real time, and to ask again.
        """
        if self._busy():
            self._idle_since = None
            return False
        if deadline != inf:
            self._idle_since = None
            self.now = max(self.now, deadline)
            return True
        now = time.monotonic()
        if self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since >= _STUCK and self._on_stuck is not None:
            stuck, self._on_stuck = self._on_stuck, None
            stuck()
        return False


@contextmanager
def virtual_time(
    busy: Callable[[], bool] = lambda: False, on_stuck: Callable[[], None] | None = None
) -> Generator[VirtualClock]:
    """Run the present event loop on virtual time for the length of a block.

    The virtual clock begins at the loop's own time. What waits when the block ends goes on by the
    loop's own clock.

    Args:
        busy: See `VirtualClock`.
        on_stuck: See `VirtualClock`.

    Raises:
        RuntimeError: The loop is none that this works with (asyncio's own, or trio's).
    """
    library = sniffio.current_async_library()
    if library == "trio":
        with _on_trio(busy, on_stuck) as clock:
            yield clock
    elif library == "asyncio":
        with _on_asyncio(busy, on_stuck) as clock:
            yield clock
    else:
        raise RuntimeError(f"virtual time works on trio and asyncio, not on {library}")


# --- trio -----------------------------------------------------------------------------------------


class _TrioClock(trio.abc.Clock):
    """A trio clock that says the virtual time."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def start_clock(self) -> None:
        raise RuntimeError("the run has begun already")

    def current_time(self) -> float:
        return self._clock.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline - self._clock.now


class _IOManager:
    """Stands before a run's I/O manager, and lets time pass where the run would wait."""

    def __init__(self, manager: Any, runner: Any, clock: VirtualClock) -> None:
        self._manager = manager
        self._runner = runner
        self._clock = clock
        self._busy = 0  # passes since the last look outside
        self.process_events: Callable[[Any], None] = manager.process_events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    def get_events(self, timeout: float) -> Any:
        """Return what has come from outside; let time pass where the run would wait."""
        # A timeout of 0 does not say that tasks are ready: a guest run asks so before each wait.
        if self._runner.runq and self._busy < _OUTSIDE:
            self._busy += 1
            self._clock.note_events()
            return _NOTHING
        self._busy = 0
        events = self._manager.get_events(0)
        if events or self._runner.runq:
            self._clock.note_events()
        if events or timeout <= 0:
            return events
        due = self._runner.deadlines.next_deadline()
        if due != inf or self._runner.waiting_for_idle:
            # `wait_all_tasks_blocked` may ask for less time than is left until the next deadline.
            due = min(due, self._clock.now + timeout)
        if self._clock.jump(due):
            return events
        return self._manager.get_events(_LOOK)


@contextmanager
def _on_trio(
    busy: Callable[[], bool], on_stuck: Callable[[], None] | None
) -> Generator[VirtualClock]:
    context: Any = _run.GLOBAL_RUN_CONTEXT
    runner: Any = context.runner
    before = runner.clock, runner.io_manager, runner.clock_autojump_threshold
    # In guest mode, as under anyio's pytest plugin, a thread waits for events.
    queue = runner.entry_queue
    tell = None if on_stuck is None else partial(queue.run_sync_soon, on_stuck)
    clock = VirtualClock(runner.clock.current_time(), busy, tell)
    runner.clock = _TrioClock(clock)
    runner.io_manager = _IOManager(runner.io_manager, runner, clock)
    runner.clock_autojump_threshold = inf  # of a `MockClock` that the test has
    try:
        yield clock
    finally:
        runner.clock, runner.io_manager, runner.clock_autojump_threshold = before


# --- trio, with processes that stand still --------------------------------------------------------

process: ContextVar[Hashable] = ContextVar("trioflow_simulated_process", default=None)
"""Which simulated process a task of the run belongs to."""

_LOOK_OUTSIDE = 256  # passes of the loop between two looks whether Ctrl-C was pressed


class SimulatedClock(_IOManager):
    """The clock of a simulation of several processes, all in one trio run of their own.

    Nothing is expected from outside the run. A process can be made to stand still, as SIGSTOP does:
    its tasks do not run, while time passes for them as for all others.

    Attributes:
        virtual: The time as trio's clock says it.
    """

    def __init__(self, manager: Any, runner: Any) -> None:
        self.virtual = VirtualClock(0.0, lambda: False, None)
        super().__init__(manager, runner, self.virtual)
        self._passes = 0
        self._sleeping: list[tuple[float, int, list[trio.lowlevel.Task]]] = []
        self._slept = 0
        self._still: dict[Hashable, list[trio.lowlevel.Task]] = {}

    @property
    def now(self) -> float:
        """The time, seconds."""
        return self.virtual.now

    async def sleep(self, seconds: float) -> None:
        """Sleep; the same as ``trio.sleep``, at a third of the cost."""
        waiting = [trio.lowlevel.current_task()]

        def abort(_: object) -> trio.lowlevel.Abort:
            waiting.clear()
            return trio.lowlevel.Abort.SUCCEEDED

        self._slept += 1
        heappush(self._sleeping, (self.virtual.now + seconds, self._slept, waiting))
        await trio.lowlevel.wait_task_rescheduled(abort)

    def stop(self, stopped: Hashable) -> None:
        """Have a process stand still from the next pass of the loop on."""
        self._still.setdefault(stopped, [])

    def go_on(self, stopped: Hashable) -> None:
        """Have a process go on; its tasks run all at once. Nothing happens if it does run."""
        self._runner.runq.extend(self._still.pop(stopped, ()))

    def go_on_all(self) -> None:
        """Have all processes go on."""
        for stopped in list(self._still):
            self.go_on(stopped)

    def get_events(self, timeout: float) -> Any:
        """Let time pass where the run would wait, and hold back the tasks of what stands still."""
        self._passes += 1
        look = not self._passes % _LOOK_OUTSIDE
        events: Any = self._manager.get_events(0) if look else _NOTHING
        if timeout > 0 and not events and not self._jump():
            events = self._manager.get_events(_LOOK)
        if self._still:
            self._hold_back()
        return events

    def _jump(self) -> bool:
        sleeping, clock = self._sleeping, self.virtual
        while sleeping and not sleeping[0][2]:
            heappop(sleeping)
        due = self._runner.deadlines.next_deadline()
        if not sleeping or due < sleeping[0][0]:
            return clock.jump(due)
        clock.jump(sleeping[0][0])
        while sleeping and sleeping[0][0] <= clock.now:
            for task in heappop(sleeping)[2]:
                trio.lowlevel.reschedule(task)
        return True

    def _hold_back(self) -> None:
        # trio would do this a little later, and run what that wakes in the same pass.
        self._runner.deadlines.expire(self.virtual.now)
        ready = list(self._runner.runq)
        self._runner.runq.clear()
        for task in ready:
            held = self._still.get(task.context.get(process))
            (self._runner.runq if held is None else held).append(task)


@contextmanager
def simulated_time() -> Generator[SimulatedClock]:
    """Run the present trio run on a `SimulatedClock`, from 0 on, for the length of a block."""
    context: Any = _run.GLOBAL_RUN_CONTEXT
    runner: Any = context.runner
    before = runner.clock, runner.io_manager
    clock = SimulatedClock(runner.io_manager, runner)
    runner.clock = _TrioClock(clock.virtual)
    runner.io_manager = clock
    try:
        yield clock
    finally:
        clock.go_on_all()
        runner.clock, runner.io_manager = before


@contextmanager
def repeatable_order(seed: int) -> Generator[None]:
    """Have trio run the tasks that are ready in an order that depends on a seed alone.

    trio shuffles them, and lets only Hypothesis make that repeatable. For the runs that begin and
    end in the block.
    """
    core: Any = _run
    before, state = core._ALLOW_DETERMINISTIC_SCHEDULING, core._r.getstate()
    core._ALLOW_DETERMINISTIC_SCHEDULING = True
    core._r.seed(seed)
    try:
        yield
    finally:
        core._ALLOW_DETERMINISTIC_SCHEDULING = before
        core._r.setstate(state)


# --- asyncio --------------------------------------------------------------------------------------


class _Selector:
    """Stands before a loop's selector, and lets time pass where the loop would wait."""

    def __init__(self, selector: Any, clock: VirtualClock) -> None:
        self._selector = selector
        self._clock = clock
        self._busy = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)

    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout <= 0 and self._busy < _OUTSIDE:
            self._busy += 1
            self._clock.note_events()
            return []
        self._busy = 0
        events = self._selector.select(0)
        if events or (timeout is not None and timeout <= 0):
            self._clock.note_events()
            return events
        if self._clock.jump(inf if timeout is None else self._clock.now + timeout):
            return events
        return self._selector.select(_LOOK)


@contextmanager
def _on_asyncio(
    busy: Callable[[], bool], on_stuck: Callable[[], None] | None
) -> Generator[VirtualClock]:
    loop: Any = asyncio.get_running_loop()
    if not hasattr(loop, "_selector"):
        raise RuntimeError(
            f"virtual time needs asyncio's own selector loop, not {type(loop).__qualname__}"
        )
    clock = VirtualClock(loop.time(), busy, on_stuck)
    before = loop._selector
    loop._selector, loop.time = _Selector(before, clock), clock.time
    try:
        yield clock
    finally:
        loop._selector = before
        del loop.time
