"""Observers that record in a thread of their own, so that the loop only keeps what it tells.

What is kept is bounded: what comes while it is full is dropped and counted. Everything is recorded
in the order in which it was told, by one thread at a time: the background thread, or whoever calls
`flush`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

__all__ = ["BackgroundObserver"]

logger = logging.getLogger("trioflow.worker")

_GATHERING = 0.05
"""Seconds before the thread records what came: in batches it takes less of the loop's time."""
_AT_ONCE = 500
_IN_TIME = 20
"""So many at once where the time is limited: one may take seconds, to reach a server."""
_FORKING = 1.0  # seconds that a fork waits for what is being recorded
_recorders: weakref.WeakSet[BackgroundObserver] = weakref.WeakSet()


class _Held(threading.local):
    """Those that do not record while this thread forks."""

    def __init__(self) -> None:
        self.recorders: list[BackgroundObserver] = []


_held = _Held()


class BackgroundObserver(ABC):
    """Keeps what an observer is told, and records it in the background.

    Args:
        limit: So many observations are kept at most; further ones are dropped.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"limit: at least 1 is needed, not {limit}")
        self._limit = limit
        self._dropped = self._known_dropped = 0
        self._failed = False
        self._begin_anew()
        _recorders.add(self)

    def _begin_anew(self) -> None:
        self._kept: deque[Any] = deque()
        self._recording = threading.RLock()
        self._wakeups: SimpleQueue[bool] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._idle = True
        weakref.finalize(self, self._wakeups.put, True)  # noqa: FBT003 - ends the thread

    @property
    def dropped(self) -> int:
        """How many observations were dropped because too many were waiting to be recorded."""
        return self._dropped

    @abstractmethod
    def _record(self, items: list[Any], dropped: int) -> None:
        """Record some of what was kept, in its order; so many were dropped since the last time."""

    def observe(self, observation: Any, /) -> None:
        """Keep it, to be recorded soon."""
        self.keep([self], (observation,))

    def _drop(self, number: int) -> None:
        first, self._dropped = not self._dropped, self._dropped + number
        if first:
            logger.warning(
                "%r cannot record as quickly as things happen: %d observations wait, further ones "
                "are dropped, and counted in its attribute 'dropped'",
                self,
                self._limit,
            )

    def _wake(self) -> None:
        self._idle = False
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._record_in_background,
                args=(weakref.ref(self), self._wakeups),
                name="trioflow observer",
                daemon=True,
            )
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter ends, or there are too many threads
                self._thread = None
                self.flush()
                self._idle = True  # what comes next tries again
                return
        self._wakeups.put(False)  # noqa: FBT003

    def flush(self, timeout: float | None = None) -> bool:
        """Record what this was told until now, in the calling thread.

        Args:
            timeout: Begin nothing more after so many seconds; by default there is no limit.

        Returns:
            Whether everything is recorded.
        """
        end = None if timeout is None else time.monotonic() + timeout
        if not self._recording.acquire(timeout=-1 if timeout is None else timeout):
            return False
        try:
            left = len(self._kept)
            while left > 0 and self._kept:
                if end is not None and time.monotonic() >= end:
                    return False
                left -= self._record_some(_AT_ONCE if end is None else _IN_TIME)
        finally:
            self._recording.release()
        return True

    def _record_some(self, most: int) -> int:
        kept = self._kept
        items = [kept.popleft() for _ in range(min(len(kept), most))]
        known, self._known_dropped = self._known_dropped, self._dropped
        try:
            self._record(items, self._known_dropped - known)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # noqa: BLE001 - as in `Observers.tell`
            self._name_failure(exc)
        return len(items)

    def _name_failure(self, exc: BaseException) -> None:
        """Log the first failure."""
        if not self._failed:
            self._failed = True
            logger.error(
                "observer %r failed to record what it was told; it is told of what follows, and "
                "further failures of it are not logged",
                self,
                exc_info=exc,
            )

    @staticmethod
    def keep(recorders: Sequence[BackgroundObserver], items: Sequence[Any]) -> None:
        """Have each of them keep what is to be recorded soon.

        Each call in here would be one more for every turn.
        """
        for recorder in recorders:
            kept = recorder._kept  # noqa: SLF001
            if len(kept) + len(items) > recorder._limit:  # noqa: SLF001
                recorder._drop(len(items))  # noqa: SLF001
                continue
            kept.extend(items)
            if recorder._idle:  # noqa: SLF001
                recorder._wake()  # noqa: SLF001

    @staticmethod
    def _record_in_background(
        reference: weakref.ref[BackgroundObserver], wakeups: SimpleQueue[bool]
    ) -> None:
        """Record until the recorder is gone, to which this holds no reference while it waits."""
        while True:
            gone = wakeups.get()
            if gone:
                return
            time.sleep(_GATHERING)
            recorder = reference()
            if recorder is None:
                return
            # Before it is emptied: what is kept from now on wakes this thread again.
            recorder._idle = True  # noqa: SLF001 - the other half of `BackgroundObserver._wake`
            recorder.flush()
            del recorder

    @staticmethod
    def hold_before_fork() -> None:
        """Let nobody record: the locks of what it writes to would stay closed in the child."""
        _held.recorders = [
            recorder
            for recorder in list(_recorders)
            if recorder._recording.acquire(timeout=_FORKING)  # noqa: SLF001
        ]

    @staticmethod
    def go_on_in_parent() -> None:
        """After a fork: record again."""
        for recorder in _held.recorders:
            recorder._recording.release()  # noqa: SLF001
        _held.recorders = []

    @staticmethod
    def begin_anew_in_child() -> None:
        """After a fork: what the parent was told is its to record, and its thread is not here."""
        _held.recorders = []
        for recorder in list(_recorders):
            recorder._begin_anew()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=BackgroundObserver.hold_before_fork,
        after_in_parent=BackgroundObserver.go_on_in_parent,
        after_in_child=BackgroundObserver.begin_anew_in_child,
    )
