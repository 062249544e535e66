"""What a turn gives to the store: rows of new instances, messages, answers, and how it closes.

Nothing is decided here, and nothing is known of what else the worker holds; `Recorder` puts it into
the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._codec.limits import MAX_PAYLOAD
from trioflow._model import events as ev
from trioflow._model.attributes import encode_attributes
from trioflow._model.commands import (
    AnswerUpdate,
    CancelInstance,
    ClaimShared,
    ReleaseShared,
    SendSignal,
    SetShared,
    StartChild,
    StartDetached,
    TerminateInstance,
)
from trioflow._model.events import ParentRef, encode_event
from trioflow._model.turns import Cancelled, Completed, Continued, Failed, Outcome
from trioflow._worker.instances.held import HeldInstance
from trioflow.backends.commits import (
    Answer,
    Closing,
    InstanceCommit,
    Message,
    NewInstance,
    SharedClaim,
)
from trioflow.errors import InstanceAlreadyExists, InstanceNotFound, InstanceTerminated

__all__ = [
    "answer_of",
    "birth",
    "closing_of",
    "message_of",
    "new_child",
    "new_detached",
    "shared_message",
]

_encode = msgspec.json.Encoder().encode


def new_child(command: StartChild, parent: HeldInstance, life: str, timeout: float) -> NewInstance:
    """Return the row of a sub-workflow that a turn asked for."""
    return NewInstance(
        command.instance,
        command.workflow,
        command.queue,
        bytes(command.input),
        ParentRef(parent.id, parent.number, command.id, parent.life),
        parent.metadata if command.metadata is None else _encode(command.metadata),
        command.priority,
        life,
        command.start_at,
        b"" if command.options is None else _encode(command.options),
        encode_attributes(command.attributes),
        timeout=timeout,
    )


def new_detached(
    command: StartDetached, asking: HeldInstance, life: str, timeout: float
) -> Message:
    """Return the message that creates an instance, with the two answers to who asked for it."""
    id, done = command.instance, encode_event(ev.RequestDone(command.id))
    taken = encode_event(ev.RequestFailed(command.id, Failure.of(InstanceAlreadyExists(id))))
    replacing = None
    if command.if_exists == "replace":
        error = InstanceTerminated(id, "another one was started in its place")
        replacing = _encode(Failed(Failure.of(error)))
    new = NewInstance(
        id=id,
        workflow=command.workflow,
        queue=command.queue,
        input=bytes(command.input),
        metadata=asking.metadata if command.metadata is None else _encode(command.metadata),
        priority=command.priority,
        life=life,
        start_at=command.start_at,
        options=b"" if command.options is None else _encode(command.options),
        attributes=encode_attributes(command.attributes),
        timeout=timeout,
    )
    return Message(
        instance=id,
        event=b"",
        sent=done,
        failed=done if command.if_exists == "return" else taken,
        new=new,
        reuse=command.reuse_finished,
        replacing=replacing,
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


def message_of(
    instance: HeldInstance,
    command: SendSignal
    | CancelInstance
    | TerminateInstance
    | ClaimShared
    | SetShared
    | ReleaseShared,
) -> Message:
    match command:
        case SendSignal():
            return _signal_message(command)
        case CancelInstance() | TerminateInstance():
            return _end_message(command)
        case _:
            return shared_message(instance, command)


def _signal_message(command: SendSignal) -> Message:
    """Return the message of a signal to another instance, with the two answers to its sender."""
    failure = Failure.of(InstanceNotFound(command.instance, "it does not exist, or has finished"))
    return Message(
        instance=command.instance,
        event=encode_event(ev.SignalReceived(command.name, command.value)),
        sent=encode_event(ev.SignalSent(command.id)),
        failed=encode_event(ev.SignalFailed(command.id, failure)),
    )


def _end_message(command: CancelInstance | TerminateInstance) -> Message:
    """Return what cancels or terminates an instance, with the two answers to who asked for it."""
    failure = Failure.of(InstanceNotFound(command.instance, "it does not exist, or has finished"))
    message = Message(
        instance=command.instance,
        event=b"",
        sent=encode_event(ev.RequestDone(command.id)),
        failed=encode_event(ev.RequestFailed(command.id, failure)),
    )
    if isinstance(command, CancelInstance):
        event, outcome = ev.CancelRequested(command.reason), Cancelled(command.reason)
        return msgspec.structs.replace(
            message, event=encode_event(event), unstarted=_encode(outcome)
        )
    error = InstanceTerminated(command.instance, command.reason)
    return msgspec.structs.replace(message, terminated=_encode(Failed(Failure.of(error))))


def shared_message(
    instance: HeldInstance, command: ClaimShared | SetShared | ReleaseShared
) -> Message:
    """Return what asks for something shared; its event is the answer, which the store keeps."""
    match command:
        case ClaimShared():
            claim = SharedClaim("take", command.name, command.id, command.size)
        case SetShared():
            claim = SharedClaim("set" if command.value else "clear", command.name, command.id)
        case ReleaseShared():
            claim = SharedClaim("free", command.name, command.id)
        case _:
            assert_never(command)
    event = encode_event(ev.RequestDone(command.id))
    me = instance.id, instance.number, instance.life
    return Message(me[0], event, execution=me[1], life=me[2], claim=claim)


def answer_of(command: AnswerUpdate) -> Answer:
    """Return the answer to an update, as clients read it."""
    if command.failure is None:
        return Answer(command.update, _encode(Completed(command.result)))
    return Answer(command.update, _encode(Failed(command.failure)))


def closing_of(outcome: Outcome, unread: Sequence[ev.SignalReceived]) -> Closing:
    """Return how an outcome that is no continuation is stored, with unread signals."""
    if unread:
        kept, size = 0, 0
        for signal in unread:
            size += len(bytes(signal.value)) + len(signal.name)
            if size > MAX_PAYLOAD:
                break
            kept += 1
        outcome = msgspec.structs.replace(
            outcome, unread=list(unread[:kept]), more=len(unread) - kept
        )
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
