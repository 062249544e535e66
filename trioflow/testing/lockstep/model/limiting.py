"""The limits of the model: what may begin is decided for one after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from trioflow._model.limits import Limit, Limits
from trioflow.backends.commits import InstanceCommit, KeptSlot, NewActivity, Unit

__all__ = ["Limiting"]

_PARTS = 100


@dataclass
class Limiting:
    """All limits, and what is known of what has begun.

    Attributes:
        changes: How often they were changed.
        limits: By kind and name.
        begun: Until when each beginning counts, of each limit that has a rate.
        turns: The last key of each queue.
        admitted: The instances of limited workflows that have begun, with their lives.
        kept: Places that workers keep.
    """

    changes: int = 0
    limits: dict[tuple[str, str], Limit] = field(default_factory=dict[tuple[str, str], Limit])
    begun: dict[tuple[str, str], list[float]] = field(
        default_factory=dict[tuple[str, str], list[float]]
    )
    turns: dict[str, str] = field(default_factory=dict[str, str])
    admitted: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    kept: dict[tuple[str, str], KeptSlot] = field(default_factory=dict[tuple[str, str], KeptSlot])

    def seen(self) -> Limits:
        """Return what clients see."""
        return Limits.of(str(self.changes or ""), list(self.limits.values()))

    def of_activity(self, queue: str, activity: str) -> list[Limit]:
        """Return the limits of an activity."""
        return self.seen().of_activity(queue, activity)

    def is_over(self, commit: InstanceCommit) -> bool:
        """Return whether a commit asks for more than the limits allow."""
        new = commit.new
        begins = commit.leased or bool(commit.turns)
        if new is not None and begins and ("workflow", new.workflow) in self.limits:
            return True
        return any(map(self._is_wrong, commit.activities))

    def _is_wrong(self, new: NewActivity) -> bool:
        limits = self.of_activity(new.queue, new.activity)
        keyed = any(limit.key is not None for limit in limits)
        return (new.leased and bool(limits)) or keyed != bool(new.limit_key)

    def keep(self, worker: str, unit: Unit) -> None:
        """Keep the places that a unit keeps, and free those that it gives back."""
        self.kept.update({(worker, slot.id): slot for slot in unit.kept})
        for id in unit.freed:
            self.kept.pop((worker, id), None)

    def free(self, worker: str) -> None:
        """Free all places that a worker keeps."""
        for key in [key for key in self.kept if key[0] == worker]:
            del self.kept[key]

    def allows(self, leased: Sequence[NewActivity], new: NewActivity, now: float) -> bool:
        """Return whether an activity may begin while others are leased."""
        there: list[NewActivity | KeptSlot] = [*leased, *self.kept.values()]
        for limit in self.of_activity(new.queue, new.activity):
            same = [each for each in there if getattr(each, limit.kind) == limit.name]
            of_key = [each for each in same if each.limit_key == new.limit_key]
            key_limit = limit.key_concurrency if new.limit_key else None
            if (
                (limit.concurrency is not None and len(same) >= limit.concurrency)
                or (key_limit is not None and len(of_key) >= key_limit)
                or (limit.rate is not None and len(self._counting(limit, now)) >= limit.rate)
            ):
                return False
        return True

    def begin(self, new: NewActivity, now: float) -> None:
        """Note that an activity begins."""
        self.turns[new.queue] = new.limit_key
        for limit in self.of_activity(new.queue, new.activity):
            part = limit.per / _PARTS
            until = (math.floor(now / part) + 1) * part + limit.per
            self.begun.setdefault((limit.kind, limit.name), []).append(until)

    def next_at(self, queues: Sequence[str], now: float) -> list[float]:
        """Return when rates allow the next."""
        times: list[float] = []
        for limit in self.limits.values():
            if limit.rate is None or (limit.kind == "queue" and limit.name not in queues):
                continue
            counting = self._counting(limit, now)
            if len(counting) >= limit.rate:
                times.append(min(counting))
        return times

    def _counting(self, limit: Limit, now: float) -> list[float]:
        return [until for until in self.begun.get((limit.kind, limit.name), []) if until > now]
