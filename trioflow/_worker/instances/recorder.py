"""From a turn to what the batch says of it: commands become rows, messages and new instances."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import assert_never

import msgspec

from trioflow._model.commands import (
    CancelActivity,
    CancelChild,
    Command,
    RecordSideEffect,
    RunActivity,
    SendSignal,
    StartChild,
)
from trioflow._model.events import encode_event
from trioflow._model.info import SuspendReport
from trioflow._model.randomness import RandomSource
from trioflow._model.turns import Continued, Failed, Turn
from trioflow._worker.activities.runner import ActivityRunner
from trioflow._worker.instances import cancel as cancels
from trioflow._worker.instances import records as commits
from trioflow._worker.instances import reports
from trioflow._worker.instances.batch import Batch, OpenUnit
from trioflow._worker.instances.held import Delivery, HeldInstance, Received
from trioflow._worker.instances.holdings import Holdings
from trioflow.backends.records import InstanceCommit, Message

__all__ = ["Recorder"]

logger = logging.getLogger("trioflow.worker")

_encode = msgspec.json.Encoder().encode


class Recorder:
    """Writes what turns mean into the open batch.

    Args:
        holdings: What the worker holds.
        batch: The batch that is being built.
        wake: Called when there is something to commit.
        random: For the lives of sub-workflows.
    """

    def __init__(
        self,
        holdings: Holdings,
        batch: Batch,
        wake: Callable[[], None],
        random: RandomSource,
    ) -> None:
        self._holdings = holdings
        self._batch = batch
        self._wake = wake
        self._random = random
        self.activities: ActivityRunner = None  # type: ignore[assignment]  # set by the worker: they know each other
        self.unknown: set[str] = set()

    def consume(self, instance: HeldInstance, unit: OpenUnit) -> OpenUnit:
        """Note what a turn has consumed; return its unit, which now holds children that ended."""
        commit = instance.commit
        assert commit is not None
        for received in instance.received:
            if received.seq is not None:
                commit.consumed.append(received.seq)
            elif received.finished is not None:
                commit.finished.append(received.finished)
            elif received.delivery is not None:
                received.delivery.consumed = True
                assert received.delivery.child.unit is not None
                unit = self._batch.merge(unit, received.delivery.child.unit)
        instance.used.extend(instance.received)
        instance.received.clear()
        instance.due = False
        instance.together_from = -1
        return unit

    def record(self, instance: HeldInstance, unit: OpenUnit, turn: Turn, data: bytes) -> None:
        """Write down what a turn, whose stored form is ``data``, means for the store."""
        execution, commit = instance.execution, instance.commit
        assert execution is not None
        assert commit is not None
        instance.turns += 1
        commit.turns.append(data)
        instance.events = commit.events = execution.events
        for command in turn.commands:
            self._carry_out(instance, unit, commit, command)
        status = execution.take_custom_status()
        if status is not None:
            commit.status = status
        if turn.outcome is not None:
            self._end(instance, unit, commit, turn)
            return
        instance.wake_at = commit.wake_at = execution.wake_at
        commit.leased = self.is_busy(instance)
        if execution.events >= execution.definition.max_events:
            self.suspend(instance, reports.limit_reached(instance, execution))

    def _carry_out(
        self, instance: HeldInstance, unit: OpenUnit, commit: InstanceCommit, command: Command
    ) -> None:
        match command:
            case RunActivity():
                leased = self.activities.capacity.reserve(
                    instance.id, command.activity, command.queue
                )
                commit.activities.append(commits.new_activity(command, leased=leased))
            case StartChild():
                self._begin_child(instance, unit, command)
            case SendSignal():
                commit.messages.append(commits.signal_message(command))
            case CancelActivity():
                cancels.cancel_activity(instance, commit, command.id, self.activities)
            case CancelChild():
                commit.messages.append(cancels.cancel_child(instance, command))
            case RecordSideEffect():
                pass  # it has already happened
            case _:
                assert_never(command)

    def _begin_child(self, instance: HeldInstance, unit: OpenUnit, command: StartChild) -> None:
        new = commits.new_child(command, instance, self._random.new_life())
        if (
            instance.alone
            or new.id in self._holdings.held
            or not self._holdings.accepts(new.workflow, new.queue)
        ):
            unit.elsewhere.append(commits.birth(new, leased=False))
            return
        child = HeldInstance.born(new)
        self._holdings.forget_parked(new.id)
        self._holdings.held[new.id] = child
        unit.add(child, commits.birth(new, leased=True))
        self._holdings.queue(child)

    def is_busy(self, instance: HeldInstance) -> bool:
        """Whether an instance has something under way here, so that it is kept.

        A suspect is not: what it waits for reaches it through the inbox, and it is then taken in
        isolation again.
        """
        if instance.suspect:
            return bool(instance.received)
        if instance.received or self.activities.capacity.busy_with(instance.id):
            return True
        return instance.execution is not None and any(
            isinstance(command, StartChild) and command.instance in self._holdings.held
            for command in instance.execution.waits_for
        )

    def _end(
        self, instance: HeldInstance, unit: OpenUnit, commit: InstanceCommit, turn: Turn
    ) -> None:
        assert turn.outcome is not None
        instance.seal()
        commit.wake_at = None
        if isinstance(turn.outcome, Continued):
            assert instance.execution is not None
            commit.continued = bytes(turn.outcome.input)
            commit.carried = _encode(instance.execution.unread_signals())
            commit.leased = True
            return
        commit.closing = commits.closing_of(turn.outcome)
        commit.leased = False
        assert instance.execution is not None
        instance.unread = reports.unread_signals(instance.execution)
        if isinstance(turn.outcome, Failed):
            failure = commits.legible(turn.outcome.failure, instance.execution.codec)
            instance.report = reports.failed(failure)
        if instance.parent is None:
            return
        event = commits.child_end(turn.outcome, instance.parent.command)
        message = Message(
            instance=instance.parent.instance,
            event=encode_event(event),
            execution=instance.parent.execution,
            life=instance.parent.life,
        )
        parent = self._holdings.held.get(instance.parent.instance)
        if (
            parent is None
            or not parent.is_parent_of(instance.parent)
            or parent.sealed
            or instance.alone
            or parent.alone
        ):
            commit.messages.append(message)
            return
        delivery = Delivery(instance, parent, message)
        unit.deliveries.append(delivery)
        parent.received.append(Received(event, turn.now, delivery=delivery))
        self._holdings.queue(parent)

    def suspend(self, instance: HeldInstance, report: SuspendReport) -> None:
        """Stop an instance until somebody has looked at it; nothing of it is lost."""
        self._batch.unit_of(instance)
        commit = instance.commit
        assert commit is not None
        commit.suspended = commits.encode_report(report)
        commit.leased = False
        commit.wake_at = instance.wake_at
        instance.report = report.message
        instance.seal()
        self._wake()

    def give_back_untouched(self, instance: HeldInstance) -> None:
        """Give back an instance that was taken and has nothing to do."""
        if self.is_busy(instance):
            return
        self._batch.unit_of(instance)
        commit = instance.commit
        assert commit is not None
        commit.leased = False
        commit.wake_at = instance.wake_at  # which is that of a turn in this batch, if there is one

    def leave_unknown(self, instance: HeldInstance) -> None:
        """Leave an instance whose workflow is not known here to a worker that knows it."""
        if instance.workflow not in self.unknown:
            self.unknown.add(instance.workflow)
            logger.warning(
                "workflow %r (instance %r) is not registered in this worker; it is left in the "
                "store. Import its module here, or run a worker that knows it.",
                instance.workflow,
                instance.id,
            )
        self._batch.unit_of(instance)
        commit = instance.commit
        assert commit is not None
        commit.leased = False
        commit.due = True
        commit.wake_at = instance.wake_at
        instance.seal()
