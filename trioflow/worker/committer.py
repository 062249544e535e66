"""Storing batches, and what follows: effects where a unit was stored, a new beginning where not."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from trioflow.backends.base import Backend
from trioflow.errors import BackendUnavailable, LeaseLost
from trioflow.model import events as ev
from trioflow.model.events import encode_event
from trioflow.model.records import (
    ActivityKey,
    ActivityResult,
    ActivityTask,
    CancelledActivity,
    CommitFailure,
    InstanceCommit,
)
from trioflow.worker.activities import ActivityRunner
from trioflow.worker.batch import Batch, OpenUnit
from trioflow.worker.holdings import Holdings
from trioflow.worker.live import Live
from trioflow.worker.recorder import Recorder

__all__ = ["Committer", "patiently"]

logger = logging.getLogger("trioflow.worker")

T = TypeVar("T")

_FIRST_DELAY = 0.05  # seconds, when the store does not answer
_TRIES = 5  # of a unit that fails though none of its instances was lost


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Call the store until it answers; it may be away for a while."""
    delay = _FIRST_DELAY
    while True:
        try:
            return await call()
        except BackendUnavailable as exc:
            if delay == _FIRST_DELAY:
                logger.warning("the store is not available, trying again: %s", exc)
            await anyio.sleep(delay)
            delay = min(delay * 2, 5.0)


class Committer:
    """Stores the batches of one worker.

    Args:
        backend: The store.
        holdings: What the worker holds.
        batch: The batch that is being built meanwhile.
        recorder: Who builds it.
        wake: Called when there is something to commit.
        on_end: Called with an instance's id, status and stored outcome when it has ended.
        on_wake_at: Called with the time when a stored instance will be due.
        on_lease_lost: Called when the worker's row is gone.

    Attributes:
        worker: The worker's id.
        under_way: The units that are being stored.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        holdings: Holdings,
        batch: Batch,
        recorder: Recorder,
        wake: Callable[[], None],
        on_end: Callable[[str, str, bytes], None],
        on_wake_at: Callable[[float], None],
        on_lease_lost: Callable[[], None],
    ) -> None:
        self._backend = backend
        self._holdings = holdings
        self._batch = batch
        self._recorder = recorder
        self._wake = wake
        self._on_end = on_end
        self._on_wake_at = on_wake_at
        self._on_lease_lost = on_lease_lost
        self.activities: ActivityRunner = None  # type: ignore[assignment]  # see `Pump.attach`
        self.worker = ""
        self.under_way: list[OpenUnit] = []

    async def commit(self, units: list[OpenUnit]) -> None:
        """Store a batch, and carry out what its turns asked for."""
        self.under_way = units
        for unit in units:
            for live in unit.lives:
                live.committing = True
        began_at = self._backend.now()
        tries = 0

        async def attempt() -> list[CommitFailure | None]:
            nonlocal tries
            tries += 1
            return await self._backend.commit(self.worker, [unit.unit for unit in units])

        try:
            results = await patiently(attempt)
        except LeaseLost:
            self.under_way = []
            self._on_lease_lost()
            return
        self.under_way = []
        for unit, failure in zip(units, results, strict=True):
            if failure is None:
                for live in unit.lives:
                    if live.commit is not None:  # otherwise all was dropped while it was stored
                        self._committed(live)
            else:
                # Only after a first try without an answer may what is in the way be our own.
                await self._refused(unit, failure, began_at if tries > 1 else None)

    def _committed(self, live: Live) -> None:  # noqa: C901  # one branch for each way to go on
        commit = live.commit
        assert commit is not None
        live.commit = live.unit = live.new = None
        live.committing = live.alone = False
        live.failures = 0
        live.used.clear()
        if live.start is not None:
            live.start.settle(created=True)
            live.start = None
        for activity in commit.activities:
            if activity.leased:
                key = ActivityKey(live.id, commit.execution, activity.command)
                self.activities.start(
                    ActivityTask(
                        key,
                        activity.activity,
                        activity.queue,
                        activity.input,
                        activity.options,
                        1,
                        self._backend.now(),
                        priority=activity.priority,
                    )
                )
        for command in live.cancel_here:
            here = self.activities.cancel(ActivityKey(live.id, live.number, command))
            if not here and commit.leased and commit.continued is None:
                self._cancel_in_store(live, command)
        live.cancel_here.clear()
        if commit.closing is not None or commit.suspended is not None:
            del self._holdings.held[live.id]
            self._holdings.evict(live)
            self._hand_over(live)
            if commit.closing is not None:
                self._on_end(live.id, commit.closing.status, commit.closing.outcome)
        elif commit.continued is not None:
            self._continue(live, commit)
        elif commit.leased:
            if commit.wake_at is not None:
                self._on_wake_at(commit.wake_at)
            # What it was kept for may have ended while the commit was under way.
            if live.has_work or not self._recorder.is_busy(live):
                self._holdings.queue(live)
        else:
            self._park(live, commit)

    def _cancel_in_store(self, live: Live, command: str) -> None:
        """Cancel an activity that was given back while its cancel was being stored."""
        if not any(r.finished == command for r in live.received):
            self._batch.unit_of(live)
            assert live.commit is not None
            event = encode_event(ev.ActivityCancelled(command))
            live.commit.cancelled.append(CancelledActivity(command, event))
            live.commit.wake_at = live.wake_at
            self._wake()

    def _continue(self, live: Live, commit: InstanceCommit) -> None:
        assert commit.continued is not None
        self._holdings.evict(live)
        self._hand_over(live)
        live.execution = None
        live.number += 1
        live.turns = 0
        live.input = commit.continued
        live.carried = commit.carried
        live.wake_at = None
        live.events = 0
        live.due = live.ended = False
        live.received = deque(r for r in live.received if r.seq is not None)
        self._holdings.queue(live)

    def _hand_over(self, live: Live) -> None:
        """Put results of activities into the inbox: no turn will consume them here."""
        results = [r for r in live.received if r.finished is not None]
        if not results:
            return
        live.received = deque(r for r in live.received if r.finished is None)
        for result in results:
            assert result.finished is not None
            key = ActivityKey(live.id, live.number, result.finished)
            unit = OpenUnit()
            unit.unit.results = [ActivityResult(key, encode_event(result.event))]
            self._batch.add(unit)
            self._wake()

    def _park(self, live: Live, commit: InstanceCommit) -> None:
        self._hand_over(live)
        self._holdings.park(live)
        if commit.wake_at is not None:
            self._on_wake_at(commit.wake_at)
        self._look_at_parent(live)

    def _look_at_parent(self, live: Live) -> None:
        """Have a parent looked at that was perhaps only kept for this child."""
        parent = None if live.parent is None else self._holdings.held.get(live.parent.instance)
        if parent is not None:
            self._holdings.queue(parent)

    # --- when a unit is refused, or everything is lost -----------------------------------

    async def _refused(
        self, unit: OpenUnit, failure: CommitFailure, unsure_since: float | None
    ) -> None:
        """Nothing of a unit was stored: begin again from the store, or let go what is not ours."""
        dropped: list[Live] = []
        for live in unit.lives:
            commit = live.commit
            if commit is None:  # all was dropped while this was tried
                continue
            for activity in commit.activities:
                if activity.leased:
                    self.activities.unreserve(live.id, activity.activity)
            live.commit = live.unit = None
            live.committing = live.ended = False
            live.cancel_here.clear()
            if live.start is not None and live.id not in failure.taken_ids:
                self._batch.unit_of(live)
                self._restart(live, commit)
            elif live.new is not None or live.id in failure.lost:
                self._holdings.drop(live)
                dropped.append(live)
            else:
                live.failures += 1
                self._restart(live, commit)
        await self._release(dropped, unsure_since)

    async def _release(self, dropped: list[Live], unsure_since: float | None) -> None:
        """Give back what was dropped but is leased to this worker all the same.

        So it is if the store took a commit and could not say so: tried again, it is refused.
        """
        if not dropped:
            return
        ids = [live.id for live in dropped]
        ours = await patiently(lambda: self._backend.release_instances(self.worker, ids))
        for live in dropped:
            self.activities.stop_of(live.id, "dropped" if live.id in ours else "cancelled")
            if live.start is not None:
                created = live.id in ours
                if not created and unsure_since is not None:
                    created = await self._was_created(live, unsure_since)
                live.start.settle(created=created)
                live.start = None
            # The rows of what had ended are still there.
            live.received.extend(live.used)
            live.used.clear()
            self._hand_over(live)
            self._look_at_parent(live)

    async def _was_created(self, live: Live, began_at: float) -> bool:
        """Find out whether the row that has an instance's id is that instance, begun and left."""
        row = await patiently(lambda: self._backend.get(live.id))
        return row is not None and row.created_at >= began_at and row.input == live.input

    def _restart(self, live: Live, commit: InstanceCommit) -> None:
        self._holdings.evict(live)
        again = [
            r
            for r in live.used
            if r.delivery is None and (r.seq is not None or r.finished is not None)
        ]
        live.received.extendleft(reversed(again))
        live.used.clear()
        live.turns = commit.number
        live.alone = True
        if live.failures >= _TRIES:
            logger.error(
                "the turns of instance %r were refused %d times; it is given back",
                live.id,
                live.failures,
            )
            self._batch.unit_of(live)
            assert live.commit is not None
            live.commit.leased, live.commit.due = False, True
            live.ended = True
        else:
            self._holdings.queue(live)
