"""From a turn to what the store is told of it: plain functions over the model, no state."""

from __future__ import annotations

from typing import assert_never

import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._codec.foreign import suppressed
from trioflow._codec.values import Codec
from trioflow._model import events as ev
from trioflow._model.commands import RunActivity, SendSignal, StartChild
from trioflow._model.events import Event, ParentRef, encode_event
from trioflow._model.info import SuspendReport
from trioflow._model.turns import Cancelled, Completed, Continued, Failed, Outcome
from trioflow._worker.instances.held import HeldInstance
from trioflow.backends.records import Closing, InstanceCommit, Message, NewActivity, NewInstance
from trioflow.errors import InstanceNotFound

__all__ = [
    "birth",
    "child_end",
    "closing_of",
    "decode_metadata",
    "encode_report",
    "legible",
    "new_activity",
    "new_child",
    "signal_message",
]

_encode = msgspec.json.Encoder().encode
_decode_metadata = msgspec.json.Decoder(dict[str, str]).decode


def new_activity(command: RunActivity, *, leased: bool) -> NewActivity:
    """Return the row of an activity that a turn asked for."""
    return NewActivity(
        command.id,
        command.activity,
        command.queue,
        bytes(command.input),
        b"" if command.options is None else _encode(command.options),
        leased,
        command.priority,
    )


def decode_metadata(data: bytes) -> dict[str, str]:
    """Read an instance's metadata."""
    return _decode_metadata(data) if data else {}


def new_child(command: StartChild, parent: HeldInstance, life: str) -> NewInstance:
    """Return the row of a sub-workflow that a turn asked for. It inherits the parent's metadata."""
    return NewInstance(
        command.instance,
        command.workflow,
        command.queue,
        bytes(command.input),
        ParentRef(parent.id, parent.number, command.id, parent.life),
        parent.metadata,
        command.priority,
        life,
    )


def birth(new: NewInstance, *, leased: bool) -> InstanceCommit:
    """Return what creates an instance, to begin here or to be left to whoever takes it."""
    return InstanceCommit(
        id=new.id,
        execution=1,
        number=0,
        new=new,
        life=new.life,
        leased=leased,
        due=not leased,
    )


def signal_message(command: SendSignal) -> Message:
    """Return the message of a signal to another instance, with the two answers to its sender."""
    failure = Failure.of(InstanceNotFound(command.instance, "it does not exist, or has finished"))
    return Message(
        instance=command.instance,
        event=encode_event(ev.SignalReceived(command.name, command.value)),
        sent=encode_event(ev.SignalSent(command.id)),
        failed=encode_event(ev.SignalFailed(command.id, failure)),
    )


def closing_of(outcome: Outcome) -> Closing:
    """Return how an outcome that is no continuation is stored."""
    match outcome:
        case Completed():
            return Closing("completed", _encode(outcome))
        case Failed():
            return Closing("failed", _encode(outcome))
        case Cancelled():
            return Closing("cancelled", _encode(outcome))
        case Continued():
            raise AssertionError(f"{outcome!r} does not close an instance")
        case _:
            assert_never(outcome)


def child_end(outcome: Outcome, command: str) -> Event:
    """Return what the parent is told of its child's end."""
    match outcome:
        case Completed():
            return ev.ChildCompleted(command, outcome.result)
        case Failed():
            return ev.ChildFailed(command, outcome.failure)
        case Cancelled():
            return ev.ChildCancelled(command, outcome.reason)
        case Continued():
            raise AssertionError(f"{outcome!r} does not end a sub-workflow")
        case _:
            assert_never(outcome)


def encode_report(report: SuspendReport) -> bytes:
    """Return the stored form of the reason for a suspension."""
    return _encode(report)


def legible(failure: Failure, codec: Codec) -> Failure:
    """Return a failure as it is to be logged: sealed, if the codec cannot read what it wrote."""
    with suppressed():
        return failure.opened(codec)
    return failure
