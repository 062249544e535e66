"""What stands before a cluster's store: it notes what was accepted, and makes the store's troubles.

All workers and clients share it, as they share the store.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Sequence
from math import inf
from typing import Any

import anyio

from trioflow.backends._common.watching import selection_of
from trioflow.backends.abc import Backend, Concern
from trioflow.backends.commits import CommitFailure, Unit
from trioflow.backends.records import Effect, Heartbeat, TakenActivities
from trioflow.backends.resets import Reset, ResetResult
from trioflow.errors import BackendUnavailable
from trioflow.testing.clock import SimulatedClock
from trioflow.testing.cluster.faults import Faults
from trioflow.testing.cluster.invariants import Ledger

__all__ = ["Witness"]

_READS = frozenset(
    {"get", "history", "activities", "count", "stats", "list", "load", "inbox", "answers"}
)
_FULL = "the disk of the simulated store is full"
_AWAY = "the simulated store is away"
_WAITS = 0.5  # seconds for which a commit waits on average while the store is slow


class Witness:
    """A `Backend` that passes calls on to the store.

    Args:
        store: The store.
        ledger: Where it is noted what the store has accepted.
        clock: The cluster's.
        chance: For how long commits wait.

    Attributes:
        full_until: Until then the store refuses to write.
        slow_until: Until then every commit waits for the disk.
        away_until: Until then it answers nothing, as while its server is started again.
    """

    def __init__(
        self, store: Backend, ledger: Ledger, clock: SimulatedClock, chance: random.Random
    ) -> None:
        self._store = store
        self._changed = selection_of(store)
        self._ledger = ledger
        self._clock = clock
        self._chance = chance
        self.full_until = self.slow_until = self.away_until = -inf

    @property
    def well_at(self) -> float:
        """When it takes whatever it is given."""
        return max(self.full_until, self.away_until)

    def heal(self) -> None:
        """End its troubles."""
        self.full_until = self.slow_until = self.away_until = -inf

    async def trouble(self, faults: Faults, say: Callable[[str], None]) -> None:
        """Have things happen to it, again and again."""
        chance = self._chance
        while faults.store > 0 and faults.trouble > 0:
            await anyio.sleep(chance.expovariate(1 / faults.store))
            kind = chance.choice(("is full", "is slow", "is away"))
            seconds = chance.expovariate(1 / faults.trouble)
            say(f"the store {kind} for {seconds:.3f} s")
            until = self._clock.now + seconds
            if kind == "is full":
                self.full_until = until
            elif kind == "is slow":
                self.slow_until = until
            else:
                self.away_until = until
            await anyio.sleep(seconds)

    # --- what it passes on --------------------------------------------------------------------

    def now(self) -> float:
        """Return the store's time."""
        return self._store.now()

    def changes(self) -> int:
        """Return the store's counter of changes."""
        return self._store.changes()

    def changed(self, what: Concern, since: int, worker: str = "") -> bool:
        """Return what the store knows of its changes."""
        return self._changed(what, since, worker)

    def wait_change(self, seen: int, timeout: float) -> Coroutine[Any, Any, None]:
        """Wait until the store says that something has changed."""
        return self._store.wait_change(seen, timeout)

    def heartbeat(self, worker: str) -> Heartbeat:
        """Renew a worker's row."""
        self._check("heartbeat")
        return self._store.heartbeat(worker)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._check(name)
            result = await method(*args, **kwargs)
            if self._clock.now < self.away_until:
                raise BackendUnavailable(_AWAY)
            return result

        self.__dict__[name] = call  # so that it is asked for once
        return call

    def _check(self, name: str) -> None:
        now = self._clock.now
        if now < self.away_until:
            raise BackendUnavailable(_AWAY)
        if now < self.full_until and name not in _READS:
            raise BackendUnavailable(_FULL)

    # --- what it notes ------------------------------------------------------------------------

    async def commit(self, worker: str, units: Sequence[Unit]) -> list[CommitFailure | None]:
        """Store units, and note those that were stored."""
        if self._clock.now < self.slow_until:
            await self._clock.sleep(self._chance.expovariate(1 / _WAITS))
        self._check("commit")
        results = await self._store.commit(worker, units)
        self._ledger.committed(worker, units, results, self._clock.now)
        return results

    async def take_activities(self, *args: Any, **kwargs: Any) -> TakenActivities:
        """Lease activities to a worker, and note which."""
        self._check("take_activities")
        asked = self._ledger.moment
        taken = await self._store.take_activities(*args, **kwargs)
        self._ledger.leased([task.key for task in taken.activities], asked)
        if self._clock.now < self.away_until:
            raise BackendUnavailable(_AWAY)
        return taken

    async def send(
        self, instance: str, event: bytes, *, life: str | None = None, request: str = ""
    ) -> Effect:
        """Put an event into an inbox, and note it."""
        self._check("send")
        before = await self._life(instance, life)
        update = await self._store.send(instance, event, life=life, request=request)
        if update == "done":
            await self._note(instance, before, life, event)
        return update

    async def cancel(
        self, instance: str, event: bytes, outcome: bytes, *, life: str | None = None
    ) -> Effect:
        """Ask for a cancel, and note it."""
        self._check("cancel")
        before = await self._life(instance, life)
        update = await self._store.cancel(instance, event, outcome, life=life)
        if update == "done":
            await self._note(instance, before, life, event)
        return update

    async def reset(self, reset: Reset) -> ResetResult:
        """Begin a new execution of an instance, and note whose it is."""
        self._check("reset")
        before = await self._store.get(reset.id)
        result = await self._store.reset(reset)
        if result == "done" and before is not None:
            self._ledger.reset(before, reset.execution + 1)
        if self._clock.now < self.away_until:
            raise BackendUnavailable(_AWAY)
        return result

    async def _note(
        self, instance: str, before: str | None, named: str | None, event: bytes
    ) -> None:
        """Note what was accepted, if it is certain for which life of the id.

        What has accepted it may have ended since, by a cancel even at once, and somebody may have
        started the next life of its id: what is there now need not be what was sent something.
        """
        if before is not None and before == await self._life(instance, named):
            self._ledger.accepted(instance, before, event)

    async def _life(self, instance: str, named: str | None) -> str | None:
        """Return the life that is named, or that the instance has now."""
        if named is not None:
            return named
        record = await self._store.get(instance)
        return None if record is None else record.life
