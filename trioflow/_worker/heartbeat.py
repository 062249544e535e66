"""Beside the loop: the heartbeat that renews leases, and the watchdog for steps that are stuck."""

from __future__ import annotations

import logging
import math
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import anyio

from trioflow._worker.host import Host, Repeating
from trioflow.backends.abc import Backend
from trioflow.backends.records import ActivityKey
from trioflow.errors import BackendError

__all__ = ["Heart", "Step", "Watchdog"]

logger = logging.getLogger("trioflow.worker")


class Heart:
    """Renews a worker's row beside the loop, so that a busy loop does not lose its leases.

    Args:
        backend: The store.
        worker: The worker's id.
        host: Where it beats.
        interval: Seconds between two beats.
        on_lost: Called in the loop when the row is gone.
        on_cancelled: Called in the loop with activities that are to be cancelled, and their events.
    """

    def __init__(
        self,
        backend: Backend,
        worker: str,
        *,
        host: Host,
        interval: float,
        on_lost: Callable[[str], None],
        on_cancelled: Callable[[dict[ActivityKey, bytes]], None],
    ) -> None:
        self._backend = backend
        self._worker = worker
        self._on_lost = on_lost
        self._on_cancelled = on_cancelled
        self._stopped = False
        self._trouble = False
        self._waiting: list[anyio.Event] = []
        self._call_soon = host.call_soon()
        self._beating = host.repeat(interval, self._beat, f"trioflow-heart-{worker[:8]}")

    def beat_now(self) -> anyio.Event:
        """Beat at once; return what is set when the answer to a beat has been worked through."""
        heard = anyio.Event()
        self._waiting.append(heard)
        self._beating.call_now()
        return heard

    def stop(self) -> None:
        """Stop beating. A beat that has begun is not waited for, and tells nothing any more."""
        self._stopped = True
        self._beating.stop()

    def _beat(self) -> bool:
        waiting, self._waiting = self._waiting, []
        goes_on = self._ask()
        if waiting:
            self._call_soon(partial(_set_all, waiting))
        return goes_on

    def _ask(self) -> bool:
        try:
            answer = self._backend.heartbeat(self._worker)
        except BackendError as exc:
            if not self._trouble:
                logger.warning("the heartbeat does not reach the store, trying again: %s", exc)
            self._trouble = True
            return True
        self._trouble = False
        if not answer.alive:
            self._call_soon(self._tell_lost)
            return False
        if answer.cancelled:
            return self._call_soon(partial(self._tell_cancelled, answer.marks()))
        return True

    # In the loop, a little later: it may have been stopped meanwhile.

    def _tell_lost(self) -> None:
        if not self._stopped:
            self._on_lost(self._worker)

    def _tell_cancelled(self, marks: dict[ActivityKey, bytes]) -> None:
        if not self._stopped:
            self._on_cancelled(marks)


def _set_all(events: list[anyio.Event]) -> None:
    for event in events:
        event.set()


class Step(NamedTuple):
    """A step of an instance: a number that is new for each, and whose it is."""

    number: int
    workflow: str
    instance: str


class Watchdog:
    """Logs a workflow step that does not return, with the line at which it is stuck.

    Args:
        host: Whose loop's thread is watched; it is the one that makes this watchdog.
        limit: Seconds that one step may take.
        step: Says which step is being made, ``None`` between two.
    """

    def __init__(self, host: Host, limit: float, step: Callable[[], Step | None]) -> None:
        self._host = host
        self._limit = limit
        self._step = step
        self._loop_thread = threading.get_ident()
        self._looking: Repeating | None = None
        self._seen: Step | None = None
        self._since = 0.0
        self._reported = False

    def start(self) -> None:
        """Begin to watch, where there is a limit, and a thread for it."""
        if self._host.has_threads and self._limit < math.inf:
            self._looking = self._host.repeat(self._limit / 4, self._look, "trioflow-watchdog")

    def stop(self) -> None:
        """Stop watching."""
        if self._looking is not None:
            self._looking.stop()

    def _look(self) -> bool:
        step, now = self._step(), self._host.monotonic()
        if step is None or step != self._seen:
            self._seen, self._since, self._reported = step, now, False
        elif not self._reported and now - self._since >= self._limit:
            self._reported = True
            self._report(step, now - self._since)
        return True

    def _report(self, step: Step, seconds: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # documented
        stack = (
            "".join(traceback.format_stack(frame)) if frame is not None else "(the thread is gone)"
        )
        logger.error(
            "workflow %r (instance %r) has been running for %.1f s without waiting for anything, "
            "and blocks this worker. Do long computations in an activity, and look for a loop that "
            "never ends. It is here:\n%s",
            step.workflow,
            step.instance,
            seconds,
            stack,
        )
