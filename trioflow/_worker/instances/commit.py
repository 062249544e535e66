"""Storing batches, and what follows: effects where a unit was stored, a new beginning where not.

A unit can fail in three ways. The store *refuses* it (`CommitFailure`): something is not as the
unit expects, so its instances begin again from the store, or are let go. The store *rejects* it
(an error that is not about being reachable): its data cannot be stored, and the one instance that
they belong to is suspended; see `Rejections`. Or the worker's lease is lost, and with it all.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from trioflow._codec.values import Codec
from trioflow._model.events import encode_event
from trioflow._worker.activities.runner import ActivityRunner
from trioflow._worker.instances import cancel as cancels
from trioflow._worker.instances import reports
from trioflow._worker.instances.batch import Batch, OpenUnit
from trioflow._worker.instances.held import HeldInstance, State
from trioflow._worker.instances.holdings import Holdings
from trioflow._worker.instances.recorder import Recorder
from trioflow._worker.instances.rejections import Rejections
from trioflow.backends._common.backoff import Backoff
from trioflow.backends.abc import Backend
from trioflow.backends.records import (
    ActivityResult,
    ActivityTask,
    CommitFailure,
    InstanceCommit,
    TakenInstance,
    Unit,
)
from trioflow.errors import BackendUnavailable, LeaseLost

__all__ = ["Committer", "patiently"]

logger = logging.getLogger("trioflow.worker")

T = TypeVar("T")

_FIRST_DELAY, _LONGEST_DELAY = 0.05, 5.0  # seconds, when the store does not answer
_TRIES = 5  # of a unit that fails though none of its instances was lost


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Call the store until it answers; it may be away for a while."""
    pauses = Backoff(_FIRST_DELAY, _LONGEST_DELAY)
    while True:
        try:
            return await call()
        except BackendUnavailable as exc:
            if pauses.pause == _FIRST_DELAY:
                logger.warning("the store is not available, trying again: %s", exc)
            await anyio.sleep(next(pauses))


class Committer:
    """Stores the batches of one worker.

    Args:
        backend: The store.
        holdings: What the worker holds.
        batch: The batch that is being built meanwhile.
        recorder: Who builds it.
        wake: Called when there is something to commit.
        on_end: Called with an instance's id, life, status and stored outcome when it has ended.
        on_wake_at: Called with the time when a stored instance will be due.
        on_lease_lost: Called when the worker's row is gone.
        on_lost_answer: Called after a commit that may have been stored more than once tried: then
            the store may have leased activities to this worker of which it knows nothing.
        on_successor: Called with a row that waited until another life of its id was let go.
        codec: For failures.

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
        on_end: Callable[[str, str, str, bytes], None],
        on_wake_at: Callable[[float], None],
        on_lease_lost: Callable[[], None],
        on_lost_answer: Callable[[], None],
        on_successor: Callable[[TakenInstance], None],
        codec: Codec,
    ) -> None:
        self._backend = backend
        self._holdings = holdings
        self._batch = batch
        self._recorder = recorder
        self._wake = wake
        self._on_end = on_end
        self._on_wake_at = on_wake_at
        self._on_lease_lost = on_lease_lost
        self._on_lost_answer = on_lost_answer
        self._on_successor = on_successor
        self._rejections = Rejections(holdings, batch, recorder, wake, codec)
        self.activities: ActivityRunner = None  # type: ignore[assignment]  # see `Pump.attach`
        self.worker = ""
        self.under_way: list[OpenUnit] = []

    async def commit(self, units: list[OpenUnit]) -> None:
        """Store a batch, and carry out what its turns asked for."""
        self.under_way = units
        for unit in units:
            for instance in unit.members:
                instance.begin_storing()
        unsure = False

        async def attempt(part: list[Unit]) -> list[CommitFailure | None]:
            nonlocal unsure
            try:
                return await self._backend.commit(self.worker, part)
            except BackendUnavailable:
                unsure = True
                raise

        try:
            results = await _judge(attempt, [unit.unit for unit in units])
        except LeaseLost:
            self.under_way = []
            self._on_lease_lost()
            return
        try:
            await self._work_through(units, results, unsure=unsure)
        finally:
            self.under_way = []
        if unsure:
            self._on_lost_answer()

    async def _work_through(
        self,
        units: list[OpenUnit],
        results: list[CommitFailure | Exception | None],
        *,
        unsure: bool,
    ) -> None:
        for unit, result in zip(units, results, strict=True):
            if result is None:
                for instance in unit.members:
                    self._committed(instance)
            elif isinstance(result, CommitFailure):
                # Only after a first try without an answer may what is in the way be our own.
                await self._refused(unit, result, unsure=unsure)
            elif self._rejections.is_shared(unit):
                await self._refused(unit, CommitFailure(), unsure=False)
            else:
                self._reject(unit, result)

    # --- where a unit was stored ----------------------------------------------------------

    def _committed(self, instance: HeldInstance) -> None:
        if instance.start is not None:
            instance.start.settle(created=True)
            instance.start = None
        if instance.state is State.GONE:  # the worker has ended meanwhile
            return
        report = instance.report
        commit = instance.stored()
        if commit.activities:
            self._begin_activities(instance, commit)
        if instance.to_cancel:
            cancels.tell_activities(instance, self.activities)
        if commit.closing is not None or commit.suspended is not None:
            self._holdings.drop(instance)
            self.hand_over(instance)
            self._look_at_parent(instance)
            self._report_end(instance, commit, report)
        elif commit.continued is not None:
            self._holdings.evict(instance)
            self.hand_over(instance)
            instance.continue_as_next(commit)
            self._holdings.queue(instance)
        elif commit.leased:
            instance.go_on()
            if commit.wake_at is not None:
                self._on_wake_at(commit.wake_at)
            # What it was kept for may have ended while the commit was under way.
            if instance.has_work or not self._recorder.is_busy(instance):
                self._holdings.queue(instance)
        else:
            self._park(instance, commit)

    def _begin_activities(self, instance: HeldInstance, commit: InstanceCommit) -> None:
        now = self._backend.now()
        for activity in commit.activities:
            if activity.leased:
                self.activities.start(
                    ActivityTask(
                        instance.key(activity.command),
                        activity.activity,
                        activity.queue,
                        activity.input,
                        activity.options,
                        1,
                        now,
                        priority=activity.priority,
                    )
                )

    def _report_end(self, instance: HeldInstance, commit: InstanceCommit, report: str) -> None:
        if commit.suspended is not None:
            logger.error(
                "instance %r (%s) is suspended: %s", instance.id, instance.workflow, report
            )
            return
        closing = commit.closing
        assert closing is not None
        if closing.status == "failed":
            logger.error("instance %r (%s) failed: %s", instance.id, instance.workflow, report)
        if instance.unread:
            logger.warning(
                "instance %r (%s) has ended with signals that it never received: %s. Does the "
                "workflow receive them under these names?",
                instance.id,
                instance.workflow,
                instance.unread,
            )
        self._on_end(instance.id, instance.life, closing.status, closing.outcome)

    def hand_over(self, instance: HeldInstance) -> None:
        """Put results of activities into the inbox: no turn will consume them here."""
        results = [r for r in instance.received if r.finished is not None]
        if not results:
            return
        instance.received = deque(r for r in instance.received if r.finished is None)
        for result in results:
            assert result.finished is not None
            unit = OpenUnit()
            event = encode_event(result.event)
            unit.unit.results = [ActivityResult(instance.key(result.finished), event, result.at)]
            self._batch.add(unit)
            self._wake()

    def _park(self, instance: HeldInstance, commit: InstanceCommit) -> None:
        self.hand_over(instance)
        self._holdings.park(instance)
        if commit.wake_at is not None:
            self._on_wake_at(commit.wake_at)
        self._look_at_parent(instance)

    def _look_at_parent(self, instance: HeldInstance) -> None:
        """Have a parent looked at that was perhaps only kept for this child."""
        parent = (
            None if instance.parent is None else self._holdings.held.get(instance.parent.instance)
        )
        if parent is not None:
            self._holdings.queue(parent)

    # --- where it was refused ---------------------------------------------------------------

    async def _refused(self, unit: OpenUnit, failure: CommitFailure, *, unsure: bool) -> None:
        """Nothing of a unit was stored: begin again from the store, or let go what is not ours."""
        dropped: list[HeldInstance] = []
        for instance in unit.members:
            if instance.gone:
                continue
            commit = instance.unsay()
            self.activities.unreserve_all(instance.id, commit.activities)
            if instance.start is not None and instance.id not in failure.taken_ids:
                instance.begin_again(commit)
                self._batch.unit_of(instance)
                self._restart(instance)
            elif instance.new is not None or instance.id in failure.lost:
                self._holdings.drop(instance)
                dropped.append(instance)
            else:
                waiting = bool(instance.received)  # beyond what the refused turns had consumed
                instance.begin_again(commit)
                if failure.unseen:
                    self._await_unseen(
                        instance, at_once=waiting or instance.id not in failure.unseen
                    )
                else:
                    instance.failures += 1
                    self._restart(instance)
        await self._release(dropped, unsure=unsure)

    def _await_unseen(self, instance: HeldInstance, *, at_once: bool) -> None:
        """Make the last turns again; not before what had not been seen is at hand."""
        self._holdings.evict(instance)
        if at_once:
            self._holdings.queue(instance)
        elif self._holdings.closed:  # nothing is taken any more: another worker makes that turn
            self.hand_over(instance)
        # The store gives it again, with all of its inbox.
        self._on_wake_at(self._backend.now())

    def _restart(self, instance: HeldInstance) -> None:
        self._holdings.evict(instance)
        if instance.failures < _TRIES:
            self._holdings.queue(instance)
            return
        self._recorder.suspend(instance, reports.always_refused(instance))

    def _reject(self, unit: OpenUnit, error: Exception) -> None:
        for instance in unit.members:
            if instance.gone:
                return
            assert instance.commit is not None
            self.activities.unreserve_all(instance.id, instance.commit.activities)
        self._rejections.handle(unit, error)

    async def _release(self, dropped: list[HeldInstance], *, unsure: bool) -> None:
        """Give back what was dropped but is leased to this worker all the same.

        So it is if the store took a commit and could not say so: tried again, it is refused. What
        is not ours any more may have ended, or go on elsewhere, or wait suspended. Its activities
        that run here are still leased to this worker and go on, unless the store marks them.
        """
        if not dropped:
            return
        # What waits for its predecessor to be let go is leased to this worker by right.
        ids = [instance.id for instance in dropped if instance.successor is None]
        ours: list[str] = []
        if ids:
            ours = await patiently(lambda: self._backend.release_instances(self.worker, ids))
        for instance in dropped:
            if instance.id in ours:
                self.activities.drop_of(instance.id, instance.life)
            if instance.start is not None:
                created = instance.id in ours
                if not created and unsure:
                    created = await self._was_created(instance)
                instance.start.settle(created=created)
                instance.start = None
            # The rows of what had ended are still there.
            instance.received.extend(instance.used)
            instance.used.clear()
            self.hand_over(instance)
            self._look_at_parent(instance)
            if instance.successor is not None:
                self._on_successor(instance.successor)

    async def _was_created(self, instance: HeldInstance) -> bool:
        """Find out whether the row that has an instance's id is that instance, begun and left."""
        row = await patiently(lambda: self._backend.get(instance.id))
        return row is not None and row.life == instance.life


async def _judge(
    attempt: Callable[[list[Unit]], Awaitable[list[CommitFailure | None]]], units: list[Unit]
) -> list[CommitFailure | Exception | None]:
    """Commit units together; if their data are rejected, find out whose, half by half.

    Raises:
        LeaseLost: The worker's row is gone.
    """
    try:
        return [*await patiently(lambda: attempt(units))]
    except LeaseLost:
        raise
    except Exception as exc:  # noqa: BLE001  # whatever a store says of data that it does not take
        if len(units) == 1:
            return [exc]
    half = len(units) // 2
    return [*await _judge(attempt, units[:half]), *await _judge(attempt, units[half:])]
