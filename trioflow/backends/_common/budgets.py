"""What limits leave for one look of a worker; pure, for stores that count in Python."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import msgspec

from trioflow._model.limits import Limit, Limits

__all__ = ["Budget", "Budgets", "LimitState"]

_PARTS = 100  # of the time of a rate, in which what began is counted


class LimitState(msgspec.Struct, array_like=True):
    """What a store keeps of a limit.

    Attributes:
        begun: How many began in each part of time, by the part's number. A part has a hundredth of
            the limit's ``per`` seconds; it counts in full until ``per`` seconds after its end, so
            that within no ``per`` seconds more begin than allowed.
        turns: The key that was given to last, by queue.
    """

    begun: list[tuple[int, int]] = []
    turns: dict[str, str] = {}


class Budget:
    """What one limit leaves.

    Args:
        limit: The limit.
        state: What the store keeps of it.
        now: The store's time.
    """

    def __init__(self, limit: Limit, state: LimitState, now: float) -> None:
        self.limit = limit
        self.state = state
        self.changed = False
        self.in_way = False
        self._part = limit.per / _PARTS
        self._now = now
        self._used = 0
        self._of_key: Counter[str] = Counter()
        self._begun = 0
        if limit.rate is not None:
            still = [each for each in state.begun if self._counts_until(each[0]) > now]
            state.begun = still
            self._begun = sum(number for _, number in still)

    def count(self, key: str, number: int) -> None:
        """Count activities that are under way."""
        self._used += number
        self._of_key[key] += number

    def room(self) -> float:
        """Return how many more may begin now."""
        limit, room = self.limit, math.inf
        if limit.concurrency is not None:
            room = limit.concurrency - self._used
            self.in_way = self.in_way or room <= 0
        if limit.rate is not None:
            room = min(room, limit.rate - self._begun)
        return max(room, 0)

    def room_of(self, key: str) -> float:
        """Return how many more of a key may begin now."""
        most = self.limit.key_concurrency
        if most is None or not key:
            return math.inf
        room = max(most - self._of_key[key], 0)
        self.in_way = self.in_way or room == 0
        return room

    def take(self, key: str) -> None:
        """Note that one begins."""
        self.count(key, 1)
        self.changed = True
        if self.limit.rate is None:
            return
        self._begun += 1
        begun, part = self.state.begun, math.floor(self._now / self._part)
        if begun and begun[-1][0] >= part:
            begun[-1] = (begun[-1][0], begun[-1][1] + 1)
        else:
            begun.append((part, 1))

    def next_at(self) -> float | None:
        """Return when the rate allows one more; ``None`` if it does now, or if there is none."""
        rate, begun = self.limit.rate, self.state.begun
        if rate is None or self._begun < rate or not begun:
            return None
        return self._counts_until(begun[0][0])

    def turn_of(self, queue: str) -> str:
        """Return the key of a queue that was given to last."""
        return self.state.turns.get(queue, "")

    def keep_turn(self, queue: str, key: str) -> None:
        """Keep which key of a queue was given to last."""
        if self.state.turns.get(queue) != key:
            self.state.turns[queue] = key
            self.changed = True

    def _counts_until(self, part: int) -> float:
        return (part + 1) * self._part + self.limit.per


class Budgets:
    """What all limits leave for a look into some queues.

    Args:
        limits: All limits.
        budgets: Of those limits that may matter.
    """

    def __init__(self, limits: Limits, budgets: Iterable[Budget]) -> None:
        self._limits = limits
        self.all = list(budgets)
        self._by_name = {(each.limit.kind, each.limit.name): each for each in self.all}
        self._keyed = [each for each in self.all if each.limit.key is not None]
        # Names of activities, and keys, of which no more may begin.
        self.full: set[str] = set()
        self.full_keys: set[str] = set()

    def count(self, queue: str, activity: str, key: str, number: int) -> None:
        """Count activities that are under way."""
        for budget in self._of(queue, activity):
            budget.count(key, number)

    def room_of_queue(self, queue: str) -> float:
        """Return how many more of a queue may begin now."""
        budget = self._by_name.get(("queue", queue))
        return math.inf if budget is None else budget.room()

    def room_of_key(self, queue: str, key: str) -> float:
        """Return how many more of a key may begin now, as far as that is known."""
        if key in self.full_keys:
            return 0
        budget = self._by_name.get(("queue", queue))
        return math.inf if budget is None else budget.room_of(key)

    def activities(self) -> list[str]:
        """Return the names of activities that have a limit of their own."""
        return [name for kind, name in self._by_name if kind == "activity"]

    def room_of_activity(self, activity: str) -> float:
        """Return how many more of an activity may begin now by its own limit."""
        return self._by_name["activity", activity].room()

    def take(self, queue: str, activity: str, key: str) -> bool:
        """Note that one begins, if it may; return whether it does."""
        budgets = self._of(queue, activity)
        for budget in budgets:
            if budget.room() < 1:
                if budget.limit.kind == "activity":
                    self.full.add(activity)
                return False
            if budget.room_of(key) < 1:
                self.full_keys.add(key)
                return False
        for budget in budgets:
            budget.take(key)
        return True

    def in_way(self) -> bool:
        """Return whether a limit of what is under way at once was in the way."""
        return any(budget.in_way for budget in self.all)

    def next_at(self) -> list[float]:
        """Return when rates allow one more that do not now."""
        return [at for budget in self.all if (at := budget.next_at()) is not None]

    def keeper_of(self, queue: str) -> Budget | None:
        """Return what keeps whose turn it is in a queue; ``None`` if there are no keys in it."""
        own = self._by_name.get(("queue", queue))
        if own is not None and own.limit.key is not None:
            return own
        others = [each for each in self._keyed if each.limit.kind == "activity"]
        return others[0] if others else None

    def _of(self, queue: str, activity: str) -> list[Budget]:
        found = self._by_name.get(("queue", queue)), self._by_name.get(("activity", activity))
        return [budget for budget in found if budget is not None]
