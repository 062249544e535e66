"""Last attempts after deaths of workers: one at a time, so that they do not end together.

When a worker dies, whatever it ran has used up an attempt, whoever ended the process. What was
taken together is freed together, and taken together again: so one activity that ends its process
would take the attempts of all others with it, and fail them all. So what has lost a worker in each
attempt makes the last one while no other such activity does in this worker. It waits in the store
meanwhile: what waits here would have used up that attempt, should the worker die.

One that takes long does not hold up the others for more than `_LONGEST` seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any

import msgspec

from trioflow._model.activities import Activity
from trioflow._model.commands import decode_options
from trioflow._worker.activities.attempts import policy_of
from trioflow.backends.records import ActivityKey, ActivityTask

__all__ = ["LastAttempts"]

_SHORTEST = 0.05  # seconds until the next may come, at least
_LONGEST = 10.0  # seconds for which one is alone


class LastAttempts:
    """Says which activities that workers have died with may begin now.

    Args:
        activities: The functions by name.
        clock: A monotonic clock.

    Attributes:
        alone: Which of them makes its last attempt, if one does.
    """

    def __init__(
        self, activities: Mapping[str, Activity[..., Any]], clock: Callable[[], float]
    ) -> None:
        self._activities = activities
        self._clock = clock
        self.alone: ActivityKey | None = None
        self._since = -inf
        self._usual = _SHORTEST  # seconds that they take
        self._line = -inf  # when the last of those comes that were told to wait

    def wait(self, task: ActivityTask) -> float:
        """Return for how many seconds an activity has to be left in the store; 0 if it begins.

        Those that wait come one after the other, at about the pace at which they end.
        """
        if not self._is_last(task):
            return 0.0
        now = self._clock()
        alone_for = now - self._since
        if self.alone is None or alone_for >= _LONGEST:
            self.alone, self._since = task.key, now
            return 0.0
        self._line = max(self._line, now) + max(self._usual, alone_for)
        return self._line - now

    def leave(self, key: ActivityKey) -> None:
        """Note that an activity is no longer in hand."""
        if self.alone == key:
            self.alone = None
            self._usual = max(_SHORTEST, self._clock() - self._since)

    def _is_last(self, task: ActivityTask) -> bool:
        """Whether it has one attempt left, and workers died in all those before."""
        if task.attempt == 1 or task.failure:
            return False
        try:
            options = decode_options(task.options)
        except msgspec.MsgspecError:
            return False  # it does not begin
        return policy_of(self._activities[task.activity], options).max_attempts == task.attempt
