"""What turns mean for the store: commands become rows, messages and new instances in a batch.

A child that is started is held here from birth if this worker has room and knows its workflow: it
makes its first turn in the same batch. Otherwise its row is left to any worker. In the same way a
child's end goes to its parent at once if that is held here, and otherwise through its inbox. An
instance whose last unit failed (`HeldInstance.alone`) does neither: its next unit is smaller, which
shows what was to blame.
"""

from __future__ import annotations

import logging
from typing import assert_never

import msgspec

from trioflow._model import events as ev
from trioflow._model.commands import (
    AnswerUpdate,
    CancelActivity,
    CancelChild,
    CancelInstance,
    ClaimShared,
    Command,
    EmitValue,
    NameTimer,
    RecordPatch,
    RecordSideEffect,
    ReleaseShared,
    RunActivity,
    SendSignal,
    SetShared,
    StartChild,
    StartDetached,
    TerminateInstance,
)
from trioflow._model.events import encode_event
from trioflow._model.info import SuspendReport
from trioflow._model.randomness import RandomSource
from trioflow._model.turns import Completed, Continued, Failed, Outcome, Turn, child_end
from trioflow._model.workflows import timeout_of
from trioflow._worker.activities.capacity import Capacity
from trioflow._worker.failures import describe
from trioflow._worker.instances import reports
from trioflow._worker.instances.batch import Batch, Delivery, OpenUnit, Received
from trioflow._worker.instances.cancel import Cancels, cancel_child
from trioflow._worker.instances.held import HeldInstance
from trioflow._worker.instances.holdings import Holdings, Left
from trioflow._worker.instances.outgoing import (
    answer_of,
    birth,
    closing_of,
    message_of,
    new_child,
    new_detached,
    shared_message,
)
from trioflow._worker.limits import KnownLimits
from trioflow._worker.log_fields import of_instance
from trioflow.backends.commits import (
    InstanceCommit,
    Message,
    NewActivity,
)

__all__ = ["Recorder"]

logger = logging.getLogger("trioflow.worker")

_encode = msgspec.json.Encoder().encode


class Recorder:
    """Writes what turns mean into the open batch.

    Args:
        holdings: What the worker holds.
        batch: The batch that is being built.
        capacity: For how many more activities this worker has room.
        cancels: For activities that workflows cancel.
        random: For the lives of sub-workflows.
        limits: What may not be begun here at once.
        observed: Whether there are observers, who are told of turns when these are stored.
    """

    def __init__(
        self,
        *,
        holdings: Holdings,
        batch: Batch,
        capacity: Capacity,
        cancels: Cancels,
        random: RandomSource,
        limits: KnownLimits,
        observed: bool = False,
    ) -> None:
        self._random = random
        self._limits = limits
        self._observed = observed
        self._holdings = holdings
        self._batch = batch
        self._capacity = capacity
        self._cancels = cancels

    def record(self, instance: HeldInstance, unit: OpenUnit, turn: Turn, data: bytes) -> None:
        """Write down what a turn, whose stored form is ``data``, means for the store."""
        execution, commit = instance.execution, instance.commit
        assert execution is not None
        assert commit is not None
        outcome = turn.outcome
        wake_at = execution.wake_at if outcome is None else None
        instance.record_turn(data, execution.events, wake_at)
        if self._observed:
            instance.tell_when_stored(turn)
        for command in turn.commands:
            self._carry_out(instance, unit, commit, command)
        if execution.custom_status is not None:
            commit.status, execution.custom_status = execution.custom_status, None
        if execution.new_attributes is not None:
            commit.attributes, execution.new_attributes = execution.new_attributes, None
        if outcome is not None:
            self._end(instance, unit, commit, turn, outcome)
            return
        commit.leased = self.is_busy(instance)
        if execution.events >= execution.max_events:
            self.suspend(instance, reports.limit_reached(instance, execution))

    def _carry_out(
        self, instance: HeldInstance, unit: OpenUnit, commit: InstanceCommit, command: Command
    ) -> None:
        match command:
            case RunActivity():
                commit.activities.append(self._new_activity(instance, command))
            case StartChild():
                self._begin_child(instance, unit, command)
            case StartDetached():
                commit.messages.append(self._detached(instance, command))
            case (
                SendSignal()
                | CancelInstance()
                | TerminateInstance()
                | ClaimShared()
                | SetShared()
                | ReleaseShared()
            ):
                commit.messages.append(message_of(instance, command))
            case CancelActivity():
                self._cancels.by_workflow(instance, commit, command)
            case CancelChild():
                commit.messages.append(cancel_child(instance, command))
            case RecordSideEffect() | RecordPatch() | EmitValue() | NameTimer():
                # It has already happened. But others may wait for what is emitted.
                commit.read_along = commit.read_along or isinstance(command, EmitValue)
            case AnswerUpdate():
                commit.answers.append(answer_of(command))
            case _:
                assert_never(command)

    def _new_activity(self, instance: HeldInstance, command: RunActivity) -> NewActivity:
        """Return the row of an activity, which is begun here if it may be and there is room."""
        key, limited = "", False
        if self._limits.any:
            key = self._limits.key_of(command)
            limited = self._limits.has(command.queue, command.activity)
        return NewActivity(
            command.id,
            command.activity,
            command.queue,
            bytes(command.input),
            b"" if command.options is None else _encode(command.options),
            not limited and self._capacity.reserve(instance.id, command.activity, command.queue),
            command.priority,
            key,
        )

    def _begin_child(self, instance: HeldInstance, unit: OpenUnit, command: StartChild) -> None:
        timeout = timeout_of(self._holdings.workflows.get(command.workflow), command.options)
        new = new_child(command, instance, self._random.new_life(), timeout)
        if (
            instance.alone
            or new.start_at
            or new.id in self._holdings.held
            or not self._holdings.accepts(new.workflow, new.queue)
        ):
            unit.elsewhere.append(birth(new, leased=False))
            return
        child = HeldInstance.born(new)
        self._holdings.hold(child)
        child.join(unit, birth(new, leased=True))
        self._holdings.queue(child)

    def _detached(self, instance: HeldInstance, command: StartDetached) -> Message:
        timeout = timeout_of(self._holdings.workflows.get(command.workflow), command.options)
        return new_detached(command, instance, self._random.new_life(), timeout)

    def is_busy(self, instance: HeldInstance) -> bool:
        """Whether an instance has something under way here, so that it is kept.

        A suspect is not: what it waits for reaches it through the inbox, and it is then taken in
        isolation again.
        """
        if instance.suspect:
            return bool(instance.received)
        if instance.received or self._capacity.busy_with(instance.id):
            return True
        if instance.execution is not None:
            for command in instance.execution.waits_for:
                if isinstance(command, StartChild) and command.instance in self._holdings.held:
                    return True
        return False

    def _end(
        self,
        instance: HeldInstance,
        unit: OpenUnit,
        commit: InstanceCommit,
        turn: Turn,
        outcome: Outcome,
    ) -> None:
        execution = instance.execution
        assert execution is not None
        # What it has not released by itself: a block that was entered and never left.
        for name, claims in execution.claims.items():
            for _, command_id in claims:
                left = ReleaseShared(id=command_id, name=name)
                commit.messages.append(shared_message(instance, left))
        if isinstance(outcome, Continued):
            instance.seal()
            commit.continued = bytes(outcome.input)
            commit.carried = _encode(execution.messages.unread())
            commit.leased = True
            return
        unread = [
            each for each in execution.messages.unread() if isinstance(each, ev.SignalReceived)
        ]
        commit.closing = closing_of(outcome, unread)
        commit.leased = False
        report = ""
        if isinstance(outcome, Failed):
            report = describe(outcome.failure.legible(execution.codec))
        warns = isinstance(outcome, Completed) and execution.definition.unread == "warn"
        instance.seal(report, reports.unread_signals(unread) if unread and warns else "")
        schedule = execution.begun.schedule
        if schedule is not None:
            told = encode_event(ev.run_ended(instance.id, commit.closing.status))
            commit.messages.append(Message(schedule.id, told, life=schedule.life))
        ref = instance.parent
        if ref is None:
            return
        event = child_end(outcome, ref.command)
        message = Message(
            instance=ref.instance,
            event=encode_event(event),
            execution=ref.execution,
            life=ref.life,
        )
        parent = self._holdings.held.get(ref.instance)
        if (
            parent is None
            or not parent.is_parent_of(ref)
            or parent.sealed
            or instance.alone
            or parent.alone
        ):
            commit.messages.append(message)
            return
        delivery = Delivery(instance, parent, message)
        unit.deliveries.append(delivery)
        parent.receive(Received(event, turn.now, delivery=delivery))
        self._holdings.queue(parent)

    def suspend(self, instance: HeldInstance, report: SuspendReport) -> None:
        """Stop an instance until somebody has looked at it; nothing of it is lost."""
        commit = self._batch.commit_of(instance)
        commit.suspended = _encode(report)
        commit.leased = False
        commit.wake_at = instance.wake_at
        instance.seal(report.message)
        self._holdings.wake()

    def give_back_untouched(self, instance: HeldInstance) -> None:
        """Give back an instance that was taken and has nothing to do."""
        if self.is_busy(instance):
            return
        commit = self._batch.commit_of(instance)
        commit.leased = False
        commit.wake_at = instance.wake_at  # which is that of a turn in this batch, if there is one

    def leave_unknown(self, instance: HeldInstance) -> None:
        """Leave an instance whose workflow is not known here to a worker that knows it."""
        if instance.workflow not in self._holdings.unknown:
            self._holdings.unknown.add(instance.workflow)
            logger.warning(
                "workflow %r (instance %r) is not registered in this worker; it is left in the "
                "store. Import its module here, or run a worker that knows it.",
                instance.workflow,
                instance.id,
                extra=of_instance(instance),
            )
        self._let_go(instance)

    def leave(self, instance: HeldInstance, report: SuspendReport) -> None:
        """Leave an instance that the code here does not fit to a worker with other code."""
        logger.warning(
            "instance %r (%s) is left to workers with other code: %s",
            instance.id,
            instance.workflow,
            report.message,
        )
        left = Left(instance.id, instance.workflow, instance.life, instance.number)
        self._holdings.leave([left])
        self._let_go(instance)

    def _let_go(self, instance: HeldInstance) -> None:
        commit = self._batch.commit_of(instance)
        commit.leased = False
        commit.due = True
        commit.wake_at = instance.wake_at
        instance.seal()
