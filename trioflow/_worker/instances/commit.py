"""Storing batches, and what follows: effects where a unit was stored, a new beginning where not.

The store judges every unit by itself; a unit is stored as a whole or not at all. So there are these
cases:

*Stored.* Only now happens what the turns asked for: activities begin or are told to stop, a client
hears that its instance exists, ends are logged and told. The instance goes on, or is parked, or let
go.

*Refused* (`CommitFailure`): something in the store is not as the unit expects. Nothing that its
turns did may stay in memory, so the executions are evicted. Then it depends on the instance:

- A client in this process started it, and its id is free: it is created and begun again.
- Its id is taken, or it is a child whose parent starts it anew, or the store calls it ``lost``: it
  is let go. But if an earlier try of the commit got no answer (``unsure``), that try may have been
  stored, and what is in the way is our own doing. So what is still leased to this worker is given
  back (`_release`), and a client that waits is told the truth.
- The unit is refused since a member is ``unseen``: it would have ended with a message in its inbox
  that it had not seen. Its turn is made again with that message, so not before the store has given
  the inbox again: made at once, it would be refused again. So it is given back. The other members
  go on at once.
- The unit asks for what a limit does not allow, of which this worker did not know. Now it does, and
  the turns are made again: activities are left to the store, and so are instances of a workflow
  that has a limit, whose client then creates them there.
- Otherwise it begins again from the store. That should help; if it does not after some times, what
  the store counts and what it has do not fit, and the instance is suspended.

*Rejected* (an error that is not about being reachable): the data cannot be stored. `_judge` finds
out which unit's, half by half. If several instances share the unit, they begin again one by one
(`HeldInstance.alone`), so that next time it is known whose data they are; see `Rejections`.

*The lease is lost*: nothing was stored, and the worker drops everything.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

from trioflow._client.waiting import Moment, ResultWaiter
from trioflow._observe import Observers
from trioflow._worker.activities.runner import ActivityRunner
from trioflow._worker.instances import reports
from trioflow._worker.instances.batch import Batch, OpenUnit
from trioflow._worker.instances.cancel import Cancels
from trioflow._worker.instances.held import HeldInstance
from trioflow._worker.instances.holdings import Holdings
from trioflow._worker.instances.intake import Intake
from trioflow._worker.instances.recorder import Recorder
from trioflow._worker.instances.rejections import Rejections
from trioflow._worker.instances.results import Results
from trioflow._worker.instances.states import State
from trioflow._worker.instances.telling import tell_batch, tell_stored
from trioflow._worker.limits import KnownLimits
from trioflow._worker.log_fields import of_instance
from trioflow._worker.polling import PollTimer
from trioflow._worker.registration import Registration
from trioflow.backends._common.backoff import Backoff
from trioflow.backends.abc import Backend
from trioflow.backends.commits import CommitFailure, InstanceCommit, Unit
from trioflow.backends.records import ActivityTask
from trioflow.errors import BackendUnavailable, LeaseLost, StoreFenced

__all__ = ["Committer", "patiently"]

logger = logging.getLogger("trioflow.worker")

T = TypeVar("T")

_FIRST_DELAY, _LONGEST_DELAY = 0.05, 5.0  # seconds, when the store does not answer
_TRIES = 5  # of a unit that fails though none of its instances was lost


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Call the store until it answers; it may be away for a while."""
    delays = Backoff(_FIRST_DELAY, _LONGEST_DELAY)
    while True:
        try:
            return await call()
        except BackendUnavailable as exc:
            if delays.delay == _FIRST_DELAY:
                logger.warning("the store is not available, trying again: %s", exc)
            await anyio.sleep(next(delays))


class Committer:
    """Stores the batches of one worker, and carries out what their turns asked for.

    Args:
        backend: The store.
        holdings: What the worker holds.
        batch: The batch that is being built meanwhile.
        recorder: Writes into it.
        intake: For what waited until another life of its id was let go.
        results: For results of activities that no turn here will consume.
        activities: For the activities that the turns asked for.
        cancels: For those that run, and are to stop.
        registration: The worker's row, which the leases name.
        timer: When the worker looks for work.
        rejections: For units that the store rejects.
        limits: What is known of limits.
        waiter: Gives who waits for results in this process, and is told of them.
        observers: Who is told of what is stored, ``None`` for nobody.

    Attributes:
        under_way: The units that are being stored.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        holdings: Holdings,
        batch: Batch,
        recorder: Recorder,
        intake: Intake,
        results: Results,
        activities: ActivityRunner,
        cancels: Cancels,
        registration: Registration,
        timer: PollTimer,
        rejections: Rejections,
        limits: KnownLimits,
        waiter: Callable[[], ResultWaiter],
        observers: Observers | None = None,
    ) -> None:
        self._observers = observers
        self._told_evicted = 0
        self._backend = backend
        self._holdings = holdings
        self._batch = batch
        self._recorder = recorder
        self._intake = intake
        self._results = results
        self._activities = activities
        self._cancels = cancels
        self._registration = registration
        self._timer = timer
        self._get_waiter = waiter
        self._waiter: ResultWaiter  # as of the commit that is under way
        self._before: Moment
        self._rejections = rejections
        self._limits = limits
        self.under_way: list[OpenUnit] = []

    async def commit(self, units: list[OpenUnit]) -> None:
        """Store a batch, and do what follows from it."""
        self.under_way = units
        self._waiter = self._get_waiter()
        self._before = self._waiter.moment()
        for unit in units:
            for instance in unit.members:
                instance.begin_storing()
        unsure = False

        async def attempt(part: list[Unit]) -> list[CommitFailure | None]:
            nonlocal unsure
            try:
                return await self._backend.commit(self._registration.id, part)
            except BackendUnavailable:
                unsure = True
                raise

        began_at = 0.0 if self._observers is None else self._backend.now()
        try:
            results = await _judge(attempt, [unit.unit for unit in units])
        except LeaseLost:
            self.under_way = []
            self._registration.lose()
            return
        if self._observers is not None:
            seconds = self._backend.now() - began_at
            tell_batch(self._observers, units, results, seconds, self._about_worker())
        try:
            await self._work_through(units, results, unsure=unsure)
        finally:
            self.under_way = []
        if unsure:
            # Stored more than once tried, it may have leased activities of which we know nothing.
            self._registration.answer_lost = True
            self._timer.look_now()

    def _about_worker(self) -> dict[str, Any]:
        holdings = self._holdings
        evicted, self._told_evicted = holdings.evicted - self._told_evicted, holdings.evicted
        return {
            "worker": self._registration.name,
            "held": len(holdings.held),
            "cached": holdings.cached,
            "evicted": evicted,
        }

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
                    if self._observers is not None:
                        tell_stored(self._observers, instance)
                    self._committed(instance)
            elif isinstance(result, CommitFailure):
                if result.limited:
                    await patiently(self._limits.refresh)
                # Only after a first try without an answer may what is in the way be our own.
                await self._refused(unit, result, unsure=unsure)
            elif len(unit.members) > 1:  # each begins again by itself
                await self._refused(unit, CommitFailure(), unsure=False)
            else:
                self._reject(unit, result)

    # --- where a unit was stored ----------------------------------------------------------

    def _committed(self, instance: HeldInstance) -> None:
        if instance.start is not None:
            instance.settle_start(created=True)
        if instance.state is State.GONE:  # the worker has ended meanwhile
            return
        report = instance.report
        commit = instance.stored()
        if commit.activities:
            self._begin_activities(instance, commit)
        if instance.to_cancel:
            self._cancels.tell(instance)
        if commit.closing is not None or commit.suspended is not None:
            self._holdings.drop(instance)
            self._results.hand_over(instance)
            self._look_at_parent(instance)
            self._report_end(instance, commit, report)
        elif commit.continued is not None:
            self._holdings.evict(instance)
            self._results.hand_over(instance)
            instance.continue_as_next(commit)
            self._holdings.queue(instance)
        elif commit.leased:
            instance.go_on()
            if commit.wake_at is not None:
                self._timer.look_at(commit.wake_at, "instances")
            # What it was kept for may have ended while the commit was under way.
            if instance.has_work or not self._recorder.is_busy(instance):
                self._holdings.queue(instance)
        else:
            self._park(instance, commit)

    def _begin_activities(self, instance: HeldInstance, commit: InstanceCommit) -> None:
        now = self._backend.now()
        for activity in commit.activities:
            if activity.leased:
                self._activities.start(
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
                "instance %r (%s) is suspended: %s",
                instance.id,
                instance.workflow,
                report,
                extra={**of_instance(instance), "status": "suspended"},
            )
            self._tell_end(instance, "suspended", commit.suspended)
            return
        closing = commit.closing
        assert closing is not None
        if closing.status == "failed":
            logger.error(
                "instance %r (%s) failed: %s",
                instance.id,
                instance.workflow,
                report,
                extra={**of_instance(instance), "status": "failed"},
            )
        if instance.unread:
            logger.warning(
                "instance %r (%s) has ended with signals that it never received: %s. Does the "
                "workflow receive them under these names?",
                instance.id,
                instance.workflow,
                instance.unread,
                extra=of_instance(instance),
            )
        self._tell_end(instance, closing.status, closing.outcome)

    def _tell_end(self, instance: HeldInstance, status: str, outcome: bytes) -> None:
        self._waiter.tell(instance.id, instance.life, status, outcome, self._before)

    def _park(self, instance: HeldInstance, commit: InstanceCommit) -> None:
        self._results.hand_over(instance)
        if instance.received:  # since its last turn: the store gives it again, and says nothing
            self._timer.look_at(self._backend.now(), "instances")
        self._holdings.park(instance)
        self._waiter.let_go(instance.id, self._before)
        if commit.wake_at is not None:
            self._timer.look_at(commit.wake_at, "instances")
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
        """Begin again from the store with a unit's instances, or let go what is not ours."""
        dropped: list[HeldInstance] = []
        for instance in unit.members:
            if instance.gone:
                continue
            commit = instance.unsay()
            self._cancels.never_stored(instance, commit)
            waits = failure.limited and instance.workflow in self._holdings.limited
            if instance.start is not None and instance.id not in failure.taken_ids and not waits:
                instance.begin_again(commit)
                self._batch.unit_of(instance)
                self._restart(instance)
            elif instance.new is not None or instance.id in failure.lost:
                self._holdings.drop(instance)
                dropped.append(instance)
            else:
                waiting = bool(instance.received)  # beyond what the refused turns had consumed
                known = bool(failure.unseen or failure.limited)
                instance.begin_again(commit, failed=not known)
                if failure.unseen:
                    self._await_unseen(
                        instance, at_once=waiting or instance.id not in failure.unseen
                    )
                else:
                    self._restart(instance)
        await self._release(dropped, unsure=unsure)

    def _await_unseen(self, instance: HeldInstance, *, at_once: bool) -> None:
        """Make the last turns again, when the store has given the inbox with what was not seen.

        It is given back until then: if it is ended from outside meanwhile, the store never gives it
        again, and nothing here may wait for that.
        """
        self._holdings.evict(instance)
        if at_once:
            self._holdings.queue(instance)
        else:
            instance.forget_messages()
            self._results.hand_over(instance)
            self._recorder.give_back_untouched(instance)
        self._timer.look_at(self._backend.now())

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
            self._cancels.never_stored(instance, instance.commit)
        self._rejections.handle(unit, error)

    async def _release(self, dropped: list[HeldInstance], *, unsure: bool) -> None:
        """Give back what was let go but is leased to this worker all the same.

        So it is if the store took a commit and could not say so: tried again, it is refused. What
        is not ours any more may have ended, or go on elsewhere, or wait suspended. Its activities
        that run here are still leased to this worker and go on, unless the store marks them.
        """
        if not dropped:
            return
        # What waits for its predecessor to be let go is leased to this worker by right.
        ids = [instance.id for instance in dropped if instance.successor is None]
        ours, answer_lost = await self._release_from_store(ids)
        for instance in dropped:
            if instance.id in ours or (answer_lost and instance.id in ids):
                self._cancels.given_back(instance)
            if instance.start is not None:
                created = instance.id in ours
                if not created and unsure:
                    created = await self._was_created(instance)
                instance.settle_start(created=created)
            instance.unread_again()  # the rows of the activities that had ended are still there
            self._results.hand_over(instance)
            self._look_at_parent(instance)
            self._waiter.let_go(instance.id)
            if instance.successor is not None:
                self._intake.receive(instance.successor)

    async def _release_from_store(self, ids: list[str]) -> tuple[list[str], bool]:
        """Release instances; return those that were leased here, and whether an answer was lost.

        With such an answer it is lost which of them were. So what runs of any is dropped, and the
        store is asked to free what this worker then no longer has in hand (`Backend.recall`).
        """
        answer_lost = False

        async def release() -> list[str]:
            nonlocal answer_lost
            try:
                return await self._backend.release_instances(self._registration.id, ids)
            except BackendUnavailable:
                answer_lost = self._registration.answer_lost = True
                self._timer.look_now()
                raise

        return (await patiently(release) if ids else []), answer_lost

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
        StoreFenced: The store is closed, and what it holds is moved.
    """
    try:
        return [*await patiently(lambda: attempt(units))]
    except (LeaseLost, StoreFenced):
        raise
    except Exception as exc:  # noqa: BLE001  # whatever a store says of data that it does not take
        if len(units) == 1:
            return [exc]
    half = len(units) // 2
    return [*await _judge(attempt, units[:half]), *await _judge(attempt, units[half:])]
