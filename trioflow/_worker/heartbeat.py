"""Beside the loop: the heartbeat that renews leases."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import anyio

from trioflow._worker.host import Host
from trioflow.backends.abc import Backend
from trioflow.backends.records import ActivityKey
from trioflow.errors import BackendError

__all__ = ["Heart"]

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
