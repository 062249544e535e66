"""How activities end: their results go to the instances held here, or into the store's inbox."""

from __future__ import annotations

import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._model.events import Event, encode_event
from trioflow._model.progress import Progress
from trioflow._model.randomness import RandomSource
from trioflow._worker.instances.batch import Batch, OpenUnit, Received
from trioflow._worker.instances.held import HeldInstance
from trioflow._worker.instances.holdings import Holdings
from trioflow._worker.limits import KnownLimits
from trioflow._worker.polling import PollTimer
from trioflow.backends.abc import Backend
from trioflow.backends.commits import ActivityResult, ActivityRetry, KeptSlot
from trioflow.backends.records import ActivityKey, ActivityTask

__all__ = ["Results"]

_encode = msgspec.json.Encoder().encode


class Results:
    """Takes in how activities went; the listener of the worker's `ActivityRunner`.

    A result for an instance that is held here, and may make a turn, is consumed by that turn: the
    commit that stores the turn deletes the activity's row too. Every other result is a unit of its
    own in the open batch, and goes into the instance's inbox.

    Args:
        backend: The store.
        holdings: What the worker holds.
        batch: The batch that is being built.
        timer: When the worker looks for work.
        limits: What is known of limits.
        random: For the ids of places that are kept.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        holdings: Holdings,
        batch: Batch,
        timer: PollTimer,
        limits: KnownLimits,
        random: RandomSource,
    ) -> None:
        self._backend = backend
        self._holdings = holdings
        self._batch = batch
        self._timer = timer
        self._limits = limits
        self._random = random

    def activity_ended(self, task: ActivityTask, event: Event, *, apart: bool = False) -> None:
        """Hand an activity's end to its instance, directly if that is held here.

        Not one that ends ``apart``: what goes through the store counts only if its row is there.
        """
        key = task.key
        instance = self._holdings.held.get(key.instance)
        now = self._backend.now()
        if (
            instance is not None
            and instance.number == key.execution
            and instance.life == key.life
            and not instance.sealed
            and not apart
        ):
            instance.receive(Received(event, now, finished=key.command))
            self._holdings.queue(instance)
        else:
            self._store(ActivityResult(key, encode_event(event), now))
            if apart and instance is not None:
                self._holdings.queue(instance)  # perhaps it was only kept for this activity

    def activity_settled(self, task: ActivityTask) -> None:
        """Look for an activity's end, which the store has, and let go of its instance."""
        instance = self._holdings.held.get(task.key.instance)
        if instance is not None:
            self._holdings.queue(instance)
        self._timer.look_now()

    def activity_progressed(self, task: ActivityTask, details: bytes) -> None:
        """Store how far an activity is."""
        progress = _encode(Progress(self._backend.now(), msgspec.Raw(details)))
        self._batch.note_progress(task.key, progress)
        self._holdings.wake()

    def activity_given_back(
        self, task: ActivityTask, attempt: int, delay: float, failure: Failure | None
    ) -> None:
        """Store that an activity is to be attempted again, by anyone."""
        visible_at = self._backend.now() + delay
        data = task.failure if failure is None else _encode(failure)
        retry = ActivityRetry(task.key, attempt, visible_at, data)
        self._batch.add(OpenUnit(retries=[retry]))
        self._holdings.wake()
        instance = self._holdings.held.get(task.key.instance)
        if instance is not None:
            self._holdings.queue(instance)  # perhaps it was only kept for this activity
        self._timer.look_at(visible_at, "activities")

    def place_kept(self, task: ActivityTask) -> str:
        """Keep the place that an attempt has under limits, since its code goes on.

        To be called before the attempt is reported: so the place is stored no later than its end.

        Returns:
            What names the place, ``""`` if there is none.
        """
        if not self._limits.has(task.queue, task.activity):
            return ""
        slot = KeptSlot(self._random.hex(16), task.queue, task.activity, task.limit_key)
        self._batch.keep_slot(slot)
        self._holdings.wake()
        return slot.id

    def place_left(self, place: str) -> None:
        """Give a place back that was kept."""
        self._batch.free_slot(place)
        self._holdings.wake()

    def hand_over(self, instance: HeldInstance) -> None:
        """Put the results that an instance has received into the inbox: no turn here takes them."""
        for result in instance.take_results():
            assert result.finished is not None
            key = instance.key(result.finished)
            self._store(ActivityResult(key, encode_event(result.event), result.at))

    def _store(self, result: ActivityResult) -> None:
        self._batch.add(OpenUnit(results=[result]))
        self._holdings.wake()

    def under_way(self) -> set[ActivityKey]:
        """Return the activities whose ends, or next attempts, wait to be stored by themselves."""
        units = [unit.unit for unit in self._batch.units]
        results = {result.key for unit in units for result in unit.results}
        return results.union(retry.key for unit in units for retry in unit.retries)
