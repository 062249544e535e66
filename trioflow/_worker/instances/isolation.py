"""Retry in isolation: instances that were held by a worker when it died are stepped alone.

Something ended a worker's process; perhaps one of the instances that it held did. The store gives
these as *suspects*, one by one, with the number of workers that died while they held it. While a
suspect is here that has not made a turn since, nothing else in this worker makes one: no other
instance is stepped or loaded, and no activities are taken. If the process ends now, it is known
who ended it: the store counts one more death of that suspect and of no other, and after a few of
them it is suspended (``crashes its worker``).

A suspect stops being one when its turn is stored (`HeldInstance.stored`), or when it is no longer
held. That is looked at after each commit. The others' places in the queue stay as they were.
"""

from __future__ import annotations

from trioflow._worker.instances.held import HeldInstance
from trioflow._worker.instances.holdings import Holdings
from trioflow._worker.polling import PollTimer
from trioflow.backends.abc import Backend

__all__ = ["Isolation"]


class Isolation:
    """The suspects of a worker; while there are any, only they make turns.

    Args:
        backend: The store.
        holdings: What the worker holds.
        timer: When the worker looks for work.

    Attributes:
        suspects: Those that have not made their turn yet, in the order in which they came.
    """

    def __init__(self, backend: Backend, holdings: Holdings, timer: PollTimer) -> None:
        self._backend = backend
        self._holdings = holdings
        self._timer = timer
        self.suspects: list[HeldInstance] = []

    def add(self, instance: HeldInstance) -> None:
        """Step this one alone; nothing if it is a suspect already."""
        if instance not in self.suspects:
            self.suspects.append(instance)

    def review(self) -> None:
        """Let the others go on if the suspects have made their turn, or are let go."""
        held = self._holdings.held
        self.suspects = [x for x in self.suspects if x.suspect and held.get(x.id) is x]
        self._holdings.wake()  # also for one that stood in the queue until its commit was refused
        if not self.suspects:
            self._timer.look_at(self._backend.now())  # there may be more suspects

    def clear(self) -> None:
        """Isolate none any more."""
        self.suspects.clear()
