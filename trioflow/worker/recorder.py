"""From a turn to what the batch says of it: commands become rows, messages and new instances."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from trioflow.engine.execution import Execution
from trioflow.model import events as ev
from trioflow.model.commands import (
    CancelActivity,
    CancelChild,
    Command,
    RunActivity,
    SendSignal,
    StartChild,
)
from trioflow.model.events import ParentRef, encode_event
from trioflow.model.info import SuspendReport
from trioflow.model.records import ActivityKey, CancelledActivity, InstanceCommit, Message
from trioflow.model.turns import Continued, Turn, encode_turn
from trioflow.worker import commits
from trioflow.worker.activities import ActivityRunner
from trioflow.worker.batch import Batch, OpenUnit
from trioflow.worker.holdings import Holdings
from trioflow.worker.live import Delivery, Live, Received

__all__ = ["Recorder"]

logger = logging.getLogger("trioflow.worker")

_encode = msgspec.json.Encoder().encode


class Recorder:
    """Writes what turns mean into the open batch.

    Args:
        holdings: What the worker holds.
        batch: The batch that is being built.
        wake: Called when there is something to commit.
    """

    def __init__(self, holdings: Holdings, batch: Batch, wake: Callable[[], None]) -> None:
        self._holdings = holdings
        self._batch = batch
        self._wake = wake
        self.activities: ActivityRunner = None  # type: ignore[assignment]  # set by the worker: they know each other
        self.unknown: set[str] = set()

    def consume(self, live: Live, unit: OpenUnit) -> OpenUnit:
        """Note what a turn has consumed; return its unit, which now holds children that ended."""
        commit = live.commit
        assert commit is not None
        for received in live.received:
            if received.seq is not None:
                commit.consumed.append(received.seq)
            elif received.finished is not None:
                commit.finished.append(received.finished)
            elif received.delivery is not None:
                received.delivery.consumed = True
                assert received.delivery.child.unit is not None
                unit = self._batch.merge(unit, received.delivery.child.unit)
        live.used.extend(live.received)
        live.received.clear()
        live.due = False
        return unit

    def record(self, live: Live, unit: OpenUnit, turn: Turn) -> None:
        """Write down what a turn means for the store."""
        execution, commit = live.execution, live.commit
        assert execution is not None
        assert commit is not None
        live.turns += 1
        commit.turns.append(encode_turn(turn))
        live.events = commit.events = execution.events
        for command in turn.commands:
            self._carry_out(live, unit, commit, command)
        status = execution.take_custom_status()
        if status is not None:
            commit.status = status
        if turn.outcome is not None:
            self._end(live, unit, commit, turn)
            return
        live.wake_at = commit.wake_at = execution.wake_at
        commit.leased = self.is_busy(live)
        if execution.events >= execution.definition.max_events:
            self.suspend(live, limit_report(live, execution))

    def _carry_out(
        self, live: Live, unit: OpenUnit, commit: InstanceCommit, command: Command
    ) -> None:
        match command:
            case RunActivity():
                leased = self.activities.reserve(live.id, command.activity, command.queue)
                commit.activities.append(commits.new_activity(command, leased=leased))
            case StartChild():
                self._begin_child(live, unit, command)
            case SendSignal():
                commit.messages.append(commits.signal_message(command))
            case CancelActivity():
                self._cancel_activity(live, commit, command.id)
            case CancelChild():
                me = ParentRef(live.id, live.number, command.id)
                event = encode_event(ev.CancelRequested(command.reason, me))
                commit.messages.append(Message(instance=command.instance, event=event))
            case _:
                pass  # a side effect has already happened

    def _begin_child(self, live: Live, unit: OpenUnit, command: StartChild) -> None:
        new = commits.new_child(command, live.id, live.number, live.metadata)
        if (
            live.alone
            or new.id in self._holdings.held
            or not self._holdings.accepts(new.workflow, new.queue)
        ):
            unit.elsewhere.append(
                InstanceCommit(id=new.id, execution=1, number=0, new=new, leased=False, due=True)
            )
            return
        child = Live.born(new)
        self._holdings.forget_parked(new.id)
        self._holdings.held[new.id] = child
        unit.add(child, InstanceCommit(id=new.id, execution=1, number=0, new=new))
        self._holdings.queue(child)

    def _cancel_activity(self, live: Live, commit: InstanceCommit, command: str) -> None:
        for index, activity in enumerate(commit.activities):
            if activity.command == command:  # not stored yet: it never was
                del commit.activities[index]
                if activity.leased:
                    self.activities.unreserve(live.id, activity.activity)
                # Through the inbox, since this turn may be stored and the next one not.
                event = encode_event(ev.ActivityCancelled(command))
                commit.messages.append(Message(live.id, event, execution=live.number))
                return
        if self.activities.runs(ActivityKey(live.id, live.number, command)):
            live.cancel_here.append(command)
        else:
            event = encode_event(ev.ActivityCancelled(command))
            commit.cancelled.append(CancelledActivity(command, event))

    def leave_to_others(self, live: Live, key: ActivityKey) -> None:
        """Have an activity that is given back cancelled in the store, if it was to be so here."""
        if live.committing or live.number != key.execution or key.command not in live.cancel_here:
            return
        assert live.commit is not None
        live.cancel_here.remove(key.command)
        event = encode_event(ev.ActivityCancelled(key.command))
        live.commit.cancelled.append(CancelledActivity(key.command, event))

    def is_busy(self, live: Live) -> bool:
        """Whether an instance has something under way here, so that it is kept."""
        if live.received or self.activities.busy_with(live.id):
            return True
        return live.execution is not None and any(
            isinstance(command, StartChild) and command.instance in self._holdings.held
            for command in live.execution.waits_for
        )

    def _end(self, live: Live, unit: OpenUnit, commit: InstanceCommit, turn: Turn) -> None:
        assert turn.outcome is not None
        live.ended = True
        commit.wake_at = None
        if isinstance(turn.outcome, Continued):
            assert live.execution is not None
            commit.continued = bytes(turn.outcome.input)
            commit.carried = _encode(live.execution.unread_signals())
            commit.leased = True
            return
        commit.closing = commits.closing_of(turn.outcome)
        commit.leased = False
        if live.parent is None:
            return
        event = commits.child_end(turn.outcome, live.parent.command)
        message = Message(
            instance=live.parent.instance,
            event=encode_event(event),
            execution=live.parent.execution,
        )
        parent = self._holdings.held.get(live.parent.instance)
        if (
            parent is None
            or parent.number != live.parent.execution
            or parent.ended
            or live.alone
            or parent.alone
        ):
            commit.messages.append(message)
            return
        delivery = Delivery(live, parent, message)
        unit.deliveries.append(delivery)
        parent.received.append(Received(event, delivery=delivery))
        self._holdings.queue(parent)

    def suspend(self, live: Live, report: SuspendReport) -> None:
        """Stop an instance until somebody has looked at it; nothing of it is lost."""
        logger.error("instance %r (%s) is suspended: %s", live.id, live.workflow, report.message)
        self._batch.unit_of(live)
        commit = live.commit
        assert commit is not None
        commit.suspended = commits.encode_report(report)
        commit.leased = False
        commit.wake_at = live.wake_at
        live.ended = True
        self._wake()

    def give_back_untouched(self, live: Live) -> None:
        """Give back an instance that was taken and has nothing to do."""
        if self.is_busy(live):
            return
        self._batch.unit_of(live)
        commit = live.commit
        assert commit is not None
        commit.leased = False
        commit.wake_at = live.wake_at  # which is that of a turn in this batch, if there is one

    def leave_unknown(self, live: Live) -> None:
        """Leave an instance whose workflow is not known here to a worker that knows it."""
        if live.workflow not in self.unknown:
            self.unknown.add(live.workflow)
            logger.warning(
                "workflow %r (instance %r) is not registered in this worker; it is left in the "
                "store. Import its module here, or run a worker that knows it.",
                live.workflow,
                live.id,
            )
        self._batch.unit_of(live)
        commit = live.commit
        assert commit is not None
        commit.leased = False
        commit.due = True
        commit.wake_at = live.wake_at
        live.ended = True


def limit_report(live: Live, execution: Execution) -> SuspendReport:
    return SuspendReport(
        kind="history limit",
        message=(
            f"the history of instance {live.id!r} has {execution.events} events, the limit of "
            f"workflow {live.workflow!r} is {execution.definition.max_events}. Let the workflow "
            "call continue_as_new() when info().should_continue_as_new is true; to go on with this "
            "one, raise its max_events and resume it."
        ),
        turn=live.turns,
    )
