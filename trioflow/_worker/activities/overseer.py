"""The overseer: one task that watches the time of activities, and hears their heartbeats.

It wakes at the earliest of three times: when an attempt has to have stopped, or has been silent for
too long; when it is time to look for what waits in a lane that stands still; and when it is time to
look at what was said with ``heartbeat()``. What then follows is the runner's business.

Nobody is judged silent because the loop or the machine stood still: an attempt could then not say
anything, or has not been heard yet. That shows in a wake that comes late. After such one each
attempt has some time to be heard; but not again and again, where every wake comes late.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import anyio

from trioflow._worker.activities.lanes import Run
from trioflow._worker.activities.pulse import INTERVAL

__all__ = ["Overseen", "Overseer"]

# Seconds.
_LOOK = 0.25  # between two looks for what waits in a lane that stands still
_LATE = 0.1  # between the time of a wake and the wake, if the loop stood still
_HEARING = 1.0  # for attempts to be heard after that,
_APART = 10.0  # once in so many


class Overseen(Protocol):
    """What the overseer calls."""

    def overdue(self, run: Run) -> None:
        """Give up one that has not stopped in time."""

    def silent(self, run: Run) -> None:
        """Stop one that has said nothing for longer than it may."""

    def look(self) -> bool:
        """Give back what waits too long; return whether there is a reason to look again."""
        ...

    def report_progress(self, run: Run) -> None:
        """Store what one has said since the last time."""


class Overseer:
    """Watches the clock for a runner of activities.

    Args:
        clock: The loop's.
        overseen: What is called when something is due.
    """

    def __init__(self, clock: Callable[[], float], overseen: Overseen) -> None:
        self._clock = clock
        self._overseen = overseen
        self._due: dict[Run, None] = {}
        self._talking: dict[Run, None] = {}
        self._look_at = self._listen_at = math.inf
        self._alarm, self._alarm_at = anyio.Event(), math.inf
        self._late_at = -math.inf  # when it woke late, and some are still heard
        self._scope = anyio.CancelScope()

    def watch_limit(self, run: Run, deadline: float) -> None:
        """Watch one that must have ended at a time, and must not be silent for too long.

        Args:
            run: What runs.
            deadline: By the loop's clock; ``inf`` for no limit but the silence.
        """
        run.over_at = min(run.over_at, deadline)
        self._due[run] = None
        run.due = run.over_at
        if run.pulse is not None:
            run.due = min(run.due, run.pulse.silent_at)
        self._wake_at(run.due)

    def look_soon(self) -> None:
        """Look for what waits too long, from now on."""
        if self._look_at == math.inf:
            self._look_at = self._clock() + _LOOK
            self._wake_at(self._look_at)

    def hear(self, run: Run) -> None:
        """Take what one says after a silence, and listen to it from now on."""
        if run.detached:
            return
        self._overseen.report_progress(run)
        self._talking[run] = None
        if self._listen_at == math.inf:
            self._listen_at = self._clock() + INTERVAL
            self._wake_at(self._listen_at)

    def forget(self, run: Run) -> None:
        """Watch one no longer."""
        self._due.pop(run, None)

    async def watch(self) -> None:
        """Watch until `stop`."""
        with self._scope:
            while True:
                self._alarm = anyio.Event()
                self._alarm_at = min((run.due for run in self._due), default=math.inf)
                self._alarm_at = min(self._alarm_at, self._look_at, self._listen_at)
                with anyio.move_on_after(self._alarm_at - self._clock()):
                    await self._alarm.wait()
                now = self._clock()
                if now - self._alarm_at > _LATE and now - self._late_at > _APART:
                    self._late_at = now
                for run in [run for run in self._due if run.due <= now]:
                    self._end_time(run, now)
                if self._look_at <= now:
                    self._look_at = now + _LOOK if self._overseen.look() else math.inf
                if self._listen_at <= now:
                    self._listen(now)

    def stop(self) -> None:
        """End `watch`."""
        self._scope.cancel()

    def _end_time(self, run: Run, now: float) -> None:
        if run.over_at <= now:
            del self._due[run]
            self._overseen.overdue(run)
        elif run.pulse is not None and run.pulse.silent_at <= now:
            hearing_until = self._late_at + min(_HEARING, run.pulse.silence)
            if hearing_until > now:
                run.due = min(run.over_at, hearing_until)
            else:
                self._overseen.silent(run)
        else:  # it has said something since
            self.watch_limit(run, run.over_at)

    def _listen(self, now: float) -> None:
        for run in list(self._talking):
            assert run.pulse is not None
            if not run.detached:
                self._overseen.report_progress(run)
            if run.detached or run.pulse.quiet:
                del self._talking[run]
        self._listen_at = now + INTERVAL if self._talking else math.inf

    def _wake_at(self, at: float) -> None:
        if at < self._alarm_at:
            self._alarm_at = at
            self._alarm.set()
