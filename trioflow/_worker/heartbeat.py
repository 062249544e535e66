"""The threads beside the loop: the heartbeat, and the watchdog that sees a loop that is stuck."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import anyio
import anyio.from_thread
import anyio.lowlevel

from trioflow.backends.abc import Backend
from trioflow.backends.records import ActivityKey
from trioflow.errors import BackendError

__all__ = ["Heart", "Step", "Watchdog"]

logger = logging.getLogger("trioflow.worker")


class Heart:
    """Renews a worker's row from a thread, so that a busy loop does not lose its leases.

    Args:
        backend: The store.
        worker: The worker's id.
        interval: Seconds between two beats.
        on_lost: Called in the loop when the row is gone.
        on_cancelled: Called in the loop with activities that are to be cancelled.
    """

    def __init__(
        self,
        backend: Backend,
        worker: str,
        interval: float,
        on_lost: Callable[[str], None],
        on_cancelled: Callable[[list[ActivityKey]], None],
    ) -> None:
        self._backend = backend
        self._worker = worker
        self._interval = interval
        self._on_lost = on_lost
        self._on_cancelled = on_cancelled
        self._stop = threading.Event()
        self._token = anyio.lowlevel.current_token()
        self._thread = threading.Thread(
            target=self._beat, name=f"trioflow-heart-{worker[:8]}", daemon=True
        )

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Stop beating; the thread ends by itself, at once unless the store is slow."""
        self._stop.set()

    def _beat(self) -> None:
        trouble = False
        while not self._stop.wait(self._interval):
            try:
                answer = self._backend.heartbeat(self._worker)
            except BackendError as exc:
                if not trouble:
                    logger.warning("the heartbeat does not reach the store, trying again: %s", exc)
                trouble = True
                continue
            trouble = False
            try:
                if not answer.alive:
                    self._tell(lambda: self._on_lost(self._worker))
                    return
                if answer.cancelled:
                    self._tell(partial(self._on_cancelled, answer.cancelled))
            except anyio.RunFinishedError:
                return

    def _tell(self, what: Callable[[], None]) -> None:
        if not self._stop.is_set():
            anyio.from_thread.run_sync(what, token=self._token)


class Step(NamedTuple):
    """A step of an instance: a number that is new for each, and whose it is."""

    number: int
    workflow: str
    instance: str


class Watchdog:
    """Reports a workflow step that does not come back, with the line at which it is stuck.

    Args:
        limit: Seconds that one step may take.
        step: Says which step is being made, ``None`` between two.
    """

    def __init__(self, limit: float, step: Callable[[], Step | None]) -> None:
        self._limit = limit
        self._step = step
        self._loop_thread = threading.get_ident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="trioflow-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch the steps of the thread that made this watchdog."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()

    def _watch(self) -> None:
        seen: Step | None = None
        since = 0.0
        reported = False
        while not self._stop.wait(self._limit / 4):
            step = self._step()
            now = time.monotonic()
            if step is None or step != seen:
                seen, since, reported = step, now, False
            elif not reported and now - since >= self._limit:
                reported = True
                self._report(step, now - since)

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
