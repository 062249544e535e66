"""A store whose n-th call fails, in one of several ways."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import trio

from trioflow.errors import BackendUnavailable, LeaseLost

How = Literal["before", "after", "dies before", "dies after"]

# The calls that can be made to fail: the worker's.
CALLS = (
    "commit",
    "load",
    "reclaim",
    "register_worker",
    "release_instances",
    "release_worker",
    "take_activities",
    "take_instances",
)


class Faulty:
    """Passes all calls on, but for some.

    ``before``: the call raises `BackendUnavailable` and does nothing. ``after``: it is done and
    raises all the same, so that the caller does not know. ``dies``: from there on nothing reaches
    the store any more, as if the process were gone, and `died` is set.

    Args:
        store: The store itself, open.
        call: Which call fails.
        number: From which time on, counted from 1.
        how: In which way.
        times: How often.
    """

    def __init__(self, store: Any, call: str, number: int, how: How, *, times: int = 1) -> None:
        self._store = store
        self._call = call
        self._failing = range(number, number + times)
        self._how = how
        self.calls: Counter[str] = Counter()
        self.failing = trio.Event()
        self.died = trio.Event()

    @property
    def struck(self) -> bool:
        """Whether it was ever called often enough to fail."""
        return self.failing.is_set()

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._store, name)
        return self._passing(name, member) if name in CALLS else member

    def _passing(self, name: str, member: Any) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._stop_if_dead(name)
            self.calls[name] += 1
            if name != self._call or self.calls[name] not in self._failing:
                return await member(*args, **kwargs)
            self.failing.set()
            if self._how.endswith("after"):
                await member(*args, **kwargs)
            if self._how.startswith("dies"):
                self.died.set()
                await self._stop_if_dead(name)
            raise BackendUnavailable(f"{name} {self.calls[name]} failed {self._how} it was done")

        return call

    async def _stop_if_dead(self, name: str) -> None:
        """Let what a dead worker calls neither reach the store nor hold up the test."""
        if not self.died.is_set():
            return
        if name == "commit":
            raise LeaseLost("the process is dead")
        if name == "release_worker":
            raise BackendUnavailable("the process is dead")
        await trio.sleep_forever()
