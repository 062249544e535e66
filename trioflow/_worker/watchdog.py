"""The watchdog: a thread that says who blocks the loop of a worker, and where.

It looks now and then, and reports three things, once each time:

- A step of a workflow does not return. Which one, the pump says.
- The loop does not come round, though no step is being made. Then some other code in it does not
  wait: mostly an activity that computes, or calls what blocks. Which attempt, its stack says.
- It could not look itself, since no Python code ran: native code kept the interpreter's lock, or
  the process was stopped. A worker's heartbeat stands still then, too, and its lease may be lost.

A loop that waits for something is not disturbed: what its thread does can be seen from here.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, NamedTuple

from trioflow._worker.activities.attempts import Attempts
from trioflow._worker.host import Host, Repeating
from trioflow._worker.log_fields import of_activity
from trioflow.backends.records import ActivityTask

__all__ = ["Step", "Watchdog"]

logger = logging.getLogger("trioflow.worker")

# Where a loop waits: the functions of trio and asyncio that ask the system for what has come.
_WAITING = frozenset({"get_events", "select"})
_MAKE = Attempts.make.__code__
_COMPUTED = 0.5  # of the time: with less, the process did not run at all


class Step(NamedTuple):
    """A step of an instance: a number that is new for each, and whose it is."""

    number: int
    workflow: str
    instance: str


class Watchdog:
    """Logs what blocks a worker's loop, with the line at which it is stuck.

    Args:
        host: Whose loop's thread is watched; it is the one that makes this watchdog.
        limit: Seconds for which one step, or other code in the loop, may run without a wait.
        step: Says which step is being made, ``None`` between two.
    """

    def __init__(self, host: Host, limit: float, step: Callable[[], Step | None]) -> None:
        self._host = host
        self._limit = limit
        self._step = step
        self._call_soon = host.call_soon()
        self._loop_thread = threading.get_ident()
        self._looking: Repeating | None = None
        self._seen: Step | None = None
        self._since = 0.0
        self._reported = False
        self._asked_at: float | None = None  # when the loop was asked to come round
        self._told = False
        self._looked_at = math.inf
        self._used = 0.0

    def start(self) -> None:
        """Begin to watch, where there is a limit, and a thread for it."""
        if self._host.has_threads and self._limit < math.inf:
            self._looked_at, self._used = self._host.monotonic(), time.process_time()
            self._looking = self._host.repeat(self._limit / 4, self._look, "trioflow-watchdog")

    def stop(self) -> None:
        """Stop watching."""
        if self._looking is not None:
            self._looking.stop()

    def _look(self) -> bool:
        step, now, used = self._step(), self._host.monotonic(), time.process_time()
        slept = now - self._looked_at - self._limit / 4
        if slept >= self._limit:
            self._report_standstill(slept, used - self._used, step)
            self._asked_at = None
        self._looked_at, self._used = now, used
        if step is None or step != self._seen:
            self._seen, self._since, self._reported = step, now, False
        elif not self._reported and now - self._since >= self._limit:
            self._reported = True
            self._report_step(step, now - self._since)
        if step is None:
            self._look_at_loop(now)
        else:
            self._asked_at = None
        return True

    def _look_at_loop(self, now: float) -> None:
        if self._asked_at is None:
            frame = _frame_of(self._loop_thread)
            if frame is not None and frame.f_code.co_name not in _WAITING:
                self._asked_at, self._told = now, False
                self._call_soon(self._come_round)
        elif now - self._asked_at >= self._limit and not self._told:
            self._told = True
            self._report_loop(now - self._asked_at)

    def _come_round(self) -> None:
        self._asked_at = None

    # --- reports ------------------------------------------------------------------------

    def _report_step(self, step: Step, seconds: float) -> None:
        logger.error(
            "workflow %r (instance %r) has been running for %.1f s without waiting for anything, "
            "and blocks this worker. Do long computations in an activity, and look for a loop that "
            "never ends. It is here:\n%s",
            step.workflow,
            step.instance,
            seconds,
            _stack(_frame_of(self._loop_thread)),
            extra={"instance": step.instance, "workflow": step.workflow},
        )

    def _report_loop(self, seconds: float) -> None:
        frame = _frame_of(self._loop_thread)
        task = _task_at(frame)
        if task is None:
            logger.error(
                "the event loop of this worker has not come round for %.1f s: some code in it runs "
                "without waiting for anything. It is here:\n%s",
                seconds,
                _stack(frame),
            )
            return
        logger.error(
            "activity %r of instance %r (%s, attempt %d) has been running for %.1f s without "
            "waiting for anything, and blocks this worker. Make what blocks or computes a plain "
            "function, which runs in a thread, or give it runtime='process'. It is here:\n%s",
            task.activity,
            task.key.instance,
            task.key.command,
            task.attempt,
            seconds,
            _stack(frame),
            extra=of_activity(task),
        )

    def _report_standstill(self, seconds: float, used: float, step: Step | None) -> None:
        frame = _frame_of(self._loop_thread)
        task = _task_at(frame)
        whose, fields = "", {}
        if step is not None:
            whose = f" in workflow {step.workflow!r} (instance {step.instance!r})"
            fields = {"instance": step.instance, "workflow": step.workflow}
        elif task is not None:
            whose = f" in activity {task.activity!r} of instance {task.key.instance!r}"
            fields = of_activity(task)
        if used < seconds * _COMPUTED:
            why = "the process was stopped, or had no processor"
        else:
            why = "native code in one of its threads kept the interpreter's lock"
        logger.error(
            "no Python code has run in this process for %.1f s, not even the heartbeat: %s. Its "
            "loop is%s here:\n%s",
            seconds,
            why,
            whose,
            _stack(frame),
            extra=fields,
        )


def _frame_of(thread: int) -> FrameType | None:
    return sys._current_frames().get(thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # documented


def _stack(frame: FrameType | None) -> str:
    return "(the thread is gone)" if frame is None else "".join(traceback.format_stack(frame))


def _task_at(frame: FrameType | None) -> ActivityTask | None:
    """Return the activity whose attempt is being made at a place, if there is one."""
    while frame is not None:
        if frame.f_code is _MAKE:
            with suppress(Exception):  # it goes on while it is looked at
                local: dict[str, Any] = frame.f_locals
                task: ActivityTask = local["run"].task
                return task
        frame = frame.f_back
    return None
