"""The limits of the store, as a worker knows them.

A worker is not told of a limit: it learns of one when the store refuses a commit that it does not
allow, or from an answer that names another version than it knows. So without limits it never asks.
What it knows may be out of date at any moment; only the store enforces them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trioflow._codec.values import Codec
from trioflow._model.activities import Activity
from trioflow._model.commands import RunActivity
from trioflow._model.limits import NO_LIMITS
from trioflow._worker.instances.holdings import Holdings
from trioflow.backends._common.backoff import Backoff
from trioflow.backends.abc import Backend
from trioflow.backends.records import TakenActivities

__all__ = ["KnownLimits"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5  # seconds, between two looks for a place that is free


class KnownLimits:
    """What a worker knows of limits.

    Args:
        backend: The store.
        holdings: What is told which workflows have limits.
        activities: The functions by name.
        codec: For the values of keys.

    Attributes:
        current: The limits.
        any: Whether there are some.
    """

    def __init__(
        self,
        backend: Backend,
        holdings: Holdings,
        activities: Mapping[str, Activity[..., Any]],
        codec: Codec,
    ) -> None:
        self._backend = backend
        self._holdings = holdings
        self._activities = activities
        self._codec = codec
        self._pauses = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self.current = NO_LIMITS
        self.any = False

    async def refresh(self) -> None:
        """Learn them from the store."""
        self.current = await self._backend.limits()
        self.any = bool(self.current.limits)
        workflows = self.current.of_kind("workflow")
        self._holdings.limited = frozenset(limit.name for limit in workflows)

    async def see(self, taken: TakenActivities) -> float | None:
        """Learn from an answer of the store; return when it is worth asking for a place again.

        Nobody tells when a place becomes free that another worker had. So the store is asked again:
        soon while activities are quick, and less and less often while nothing comes.
        """
        if taken.limits != self.current.version:
            await self.refresh()
        if taken.activities:
            self._pauses.reset()
        return self._backend.now() + next(self._pauses) if taken.limited else None

    def has(self, queue: str, activity: str) -> bool:
        """Return whether an activity has a limit."""
        return self.any and bool(self.current.of_activity(queue, activity))

    def key_of(self, command: RunActivity) -> str:
        """Return the key by which an activity takes its turn; ``""`` if it has none."""
        name = self.current.key_name(command.queue, command.activity)
        if name is None:
            return ""
        value = self._argument(command, name)
        return self.current.key_of(command.queue, command.activity, value)

    def _argument(self, command: RunActivity, name: str) -> Any:
        """Return an argument of a call; ``None`` if there is none of that name."""
        definition = self._activities.get(command.activity)
        data = bytes(command.input)
        try:
            if definition is not None:
                return definition.signature.argument(self._codec, data, name)
            arguments: Any = self._codec.decode(data, dict[str, Any])
            return arguments.get(name)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001  # of the codec; whoever runs it says what is wrong
            return None
