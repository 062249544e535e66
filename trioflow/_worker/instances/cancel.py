"""Every way in which activities are stopped before their time, and how a sub-workflow is cancelled.

An activity is cancelled in the store first and told afterwards, so that no cancel is forgotten
though everybody dies. And only what the store says of its row counts: whether its workflow has
asked for a cancel, or its instance is no more, cannot be concluded from anything else that this
worker has seen. These are the ways; each is one method of `Cancels`:

===================  =====================  =========================  =======================
who asks             state of the activity  what is stored             who tells the attempt
===================  =====================  =========================  =======================
its workflow, in a   asked for in the same  its row is taken out of    nobody: it never ran,
turn (`by_workflow`) open batch             the commit; its end goes   its room is given back
                                            into the own inbox
the same             its row is stored      the commit ends the row    `tell`, if it runs here,
                                            if it is free, and marks   as soon as this is
                                            it if a worker has it      stored; else `heard`
another worker, or   it runs here           the row is marked or gone  `heard`, by the keys
a terminate                                                            that a heartbeat brings
a commit that is     asked for in it        nothing                    nobody: `never_stored`
not stored                                                             gives its room back
the instance was     it runs here           its row is free, to be     `given_back`: it is
lost and given back                         tried again by anyone      dropped in silence
the lease is lost    it runs here           nothing: others have it    `all_lost`: dropped in
                                                                       silence
===================  =====================  =========================  =======================

What is marked and then given back, freed or reclaimed ends in the store as cancelled. A worker that
ends gives back what runs (`ActivityRunner.drain`), and a time limit fails an attempt (`Attempts`):
neither is a cancel.

A sub-workflow that is cancelled gets a message, or ends at once in the store if it has not begun.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from trioflow._model import events as ev
from trioflow._model.commands import CancelActivity, CancelChild
from trioflow._model.events import ParentRef, decode_event, encode_event
from trioflow._model.turns import Cancelled
from trioflow._worker.activities.runner import ActivityRunner
from trioflow._worker.instances.held import HeldInstance
from trioflow.backends.commits import CancelledActivity, InstanceCommit, Message
from trioflow.backends.records import ActivityKey

__all__ = ["Cancels", "cancel_child"]

_encode = msgspec.json.Encoder().encode


class Cancels:
    """Cancels activities: in what is stored, and in the runner of this worker.

    Args:
        activities: The runner of this worker.
    """

    def __init__(self, activities: ActivityRunner) -> None:
        self._activities = activities

    # --- as a workflow asks -------------------------------------------------------------

    def by_workflow(
        self, instance: HeldInstance, commit: InstanceCommit, cancel: CancelActivity
    ) -> None:
        """Say in a commit that an activity is cancelled."""
        command = cancel.id
        event = encode_event(ev.ActivityCancelled(command, cancel.reason))
        for index, activity in enumerate(commit.activities):
            if activity.command == command:
                del commit.activities[index]
                if activity.leased:
                    self._activities.unreserve(instance.id, activity.activity)
                # Through the inbox, since this turn may be stored and the next one not.
                commit.messages.append(
                    Message(instance.id, event, execution=instance.number, life=instance.life)
                )
                return
        commit.cancelled.append(CancelledActivity(command, event))
        instance.cancel_when_stored(command, cancel.reason)

    def tell(self, instance: HeldInstance) -> None:
        """Tell those that run here to stop, now that their cancel is stored."""
        for command, reason in instance.take_cancels():
            self._activities.cancel(instance.key(command), reason)

    # --- as the store says --------------------------------------------------------------

    def heard(self, marks: Mapping[ActivityKey, bytes]) -> set[ActivityKey]:
        """Stop what a heartbeat says is cancelled in the store; return what does not run here."""
        cancel = self._activities.cancel
        return {key for key, event in marks.items() if not cancel(key, _reason_in(event))}

    def given_back(self, instance: HeldInstance) -> None:
        """Drop what runs of an instance that was given back, for others have it now."""
        for key in self._activities.in_hand():
            if key.instance == instance.id and key.life == instance.life:
                self._activities.drop(key)

    def never_stored(self, instance: HeldInstance, commit: InstanceCommit) -> None:
        """Give back the room of activities that were to be stored here, and are not."""
        for activity in commit.activities:
            if activity.leased:
                self._activities.unreserve(instance.id, activity.activity)

    def all_lost(self) -> None:
        """Stop all without telling anyone: they belong to others, since the lease is lost."""
        for key in self._activities.in_hand():
            self._activities.drop(key)


def _reason_in(event: bytes) -> str | None:
    """Return the reason in the event that an activity is marked with."""
    if not event:
        return None  # its instance is no more
    try:
        found = decode_event(event)
    except msgspec.MsgspecError:  # of another version; the cancel counts all the same
        return None
    return found.reason if isinstance(found, ev.ActivityCancelled) else None


def cancel_child(instance: HeldInstance, command: CancelChild) -> Message:
    """Return the message that cancels a sub-workflow."""
    me = ParentRef(instance.id, instance.number, command.id, instance.life)
    execution = instance.execution
    adopted = execution is not None and execution.begun.taken_over
    return Message(
        instance=command.instance,
        event=encode_event(ev.CancelRequested(command.reason, me, adopted)),
        unstarted=_encode(Cancelled(command.reason)),
    )
