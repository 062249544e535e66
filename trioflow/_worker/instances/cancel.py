"""How a workflow's cancel of an activity or a sub-workflow reaches it, once and for all.

An activity whose row is not stored yet never was: it is taken out of the commit. Otherwise the
commit that asks for the cancel also marks the row, whoever holds it, so that it is not forgotten
though everybody dies: what is free ends at once; what is held and given back, freed or reclaimed
ends then. Besides, the worker that runs it is told: this one as soon as the commit is stored,
another one by its heartbeat.

A sub-workflow gets a message, or ends at once in the store if it has not begun.
"""

from __future__ import annotations

import msgspec

from trioflow._model import events as ev
from trioflow._model.commands import CancelChild
from trioflow._model.events import ParentRef, encode_event
from trioflow._model.turns import Cancelled
from trioflow._worker.activities.runner import ActivityRunner
from trioflow._worker.instances.held import HeldInstance
from trioflow.backends.records import CancelledActivity, InstanceCommit, Message

__all__ = ["cancel_activity", "cancel_child", "tell_activities"]

_encode = msgspec.json.Encoder().encode


def cancel_activity(
    instance: HeldInstance, commit: InstanceCommit, command: str, activities: ActivityRunner
) -> None:
    """Say in a commit that an activity is cancelled."""
    event = encode_event(ev.ActivityCancelled(command))
    for index, activity in enumerate(commit.activities):
        if activity.command == command:
            del commit.activities[index]
            if activity.leased:
                activities.unreserve(instance.id, activity.activity)
            # Through the inbox, since this turn may be stored and the next one not.
            commit.messages.append(
                Message(instance.id, event, execution=instance.number, life=instance.life)
            )
            return
    commit.cancelled.append(CancelledActivity(command, event))
    instance.to_cancel.append(command)


def tell_activities(instance: HeldInstance, activities: ActivityRunner) -> None:
    """Tell those that run here to stop, now that their cancel is stored."""
    for command in instance.to_cancel:
        activities.cancel(instance.key(command))
    instance.to_cancel.clear()


def cancel_child(instance: HeldInstance, command: CancelChild) -> Message:
    """Return the message that cancels a sub-workflow."""
    me = ParentRef(instance.id, instance.number, command.id, instance.life)
    return Message(
        instance=command.instance,
        event=encode_event(ev.CancelRequested(command.reason, me)),
        unstarted=_encode(Cancelled(command.reason)),
    )
