"""Commands: what a workflow asks for, as a closed union. A turn gives them.

A command's ``id`` is structural (`trioflow._model.ids`). A cancel carries the id of what it
cancels.
"""

from __future__ import annotations

from typing import Literal, assert_never

import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._model.attributes import Stored
from trioflow._model.events import ScheduleRef
from trioflow._model.ids import IdOrder, order_of
from trioflow._model.retry import RetryPolicy

__all__ = [
    "ActivityOptions",
    "AnswerUpdate",
    "CancelActivity",
    "CancelChild",
    "CancelInstance",
    "ClaimShared",
    "Command",
    "EmitValue",
    "NameTimer",
    "RecordPatch",
    "RecordSideEffect",
    "ReleaseShared",
    "RunActivity",
    "SendSignal",
    "SetShared",
    "StartChild",
    "StartDetached",
    "StartOptions",
    "TerminateInstance",
    "command_order",
    "command_target",
    "decode_options",
    "decode_start_options",
]


class ActivityOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Options of one call of an activity; ``None`` for what is as in the definition.

    ``execution`` is set where an execution has taken the call over from an earlier one, by a reset:
    the number of that one, which the call's idempotency key has.
    """

    retry: RetryPolicy | None = None
    timeout: float | None = None
    schedule_timeout: float | None = None
    heartbeat_timeout: float | None = None
    on_cancel: Literal["wait", "abandon"] | None = None
    metadata: dict[str, str] | None = None
    execution: int | None = None


_decode_options = msgspec.json.Decoder(ActivityOptions).decode


def decode_options(data: bytes) -> ActivityOptions | None:
    """Read the options of an activity's row, ``None`` if its call changed nothing.

    Raises:
        msgspec.DecodeError: If ``data`` is not their stored form.
    """
    return _decode_options(data) if data else None


class StartOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Options of one start of a workflow; ``None`` for what is as in the definition.

    ``schedule`` is set by the schedule that starts it. Stores look for that when they end the
    instance themselves.
    """

    timeout: float | None = None
    max_events: int | None = None
    schedule: ScheduleRef | None = None


decode_start_options = msgspec.json.Decoder(StartOptions).decode


class _Command(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="command", gc=False):
    id: str


class RunActivity(_Command, frozen=True, tag="run activity"):
    """Run the activity of that name on ``queue``."""

    activity: str
    input: msgspec.Raw
    queue: str = "default"
    options: ActivityOptions | None = None
    priority: int = 0


class StartChild(_Command, frozen=True, tag="start child"):
    """Start a sub-workflow as the instance ``instance``, at ``start_at`` or, if that is 0, now.

    ``metadata`` is ``None`` if it is that of the instance itself.
    """

    workflow: str
    instance: str
    input: msgspec.Raw
    queue: str = "default"
    priority: int = 0
    start_at: float = 0.0
    options: StartOptions | None = None
    attributes: Stored = {}
    metadata: dict[str, str] | None = None


class SendSignal(_Command, frozen=True, tag="send signal"):
    """Put a signal into another instance's inbox."""

    instance: str
    name: str
    value: msgspec.Raw


class StartDetached(_Command, frozen=True, tag="start detached"):
    """Start a workflow as the instance ``instance``, which has no parent.

    ``if_exists`` and ``reuse_finished`` say what to do if there is one of that id; ``metadata`` is
    as in `StartChild`.
    """

    workflow: str
    instance: str
    input: msgspec.Raw
    queue: str = "default"
    priority: int = 0
    start_at: float = 0.0
    options: StartOptions | None = None
    attributes: Stored = {}
    if_exists: Literal["raise", "return", "replace"] = "raise"
    reuse_finished: bool = True
    metadata: dict[str, str] | None = None


class CancelInstance(_Command, frozen=True, tag="cancel instance"):
    """Ask another instance, which need not be a sub-workflow, to end."""

    instance: str
    reason: str | None = None


class TerminateInstance(_Command, frozen=True, tag="terminate instance"):
    """End another instance, which need not be a sub-workflow, without asking its code."""

    instance: str
    reason: str | None = None


class RecordSideEffect(_Command, frozen=True, tag="record side effect"):
    """Record what a side effect returned or raised; replay reads it from here."""

    value: msgspec.Raw = msgspec.Raw(b"null")
    failure: Failure | None = None


class EmitValue(_Command, frozen=True, tag="emit value"):
    """Append a value to a stream of the instance, which is read from here."""

    stream: str
    value: msgspec.Raw


class NameTimer(_Command, frozen=True, tag="name timer"):
    """Say what a sleep of the workflow is for; it ends at ``due_at``, epoch seconds."""

    name: str
    due_at: float


class RecordPatch(_Command, frozen=True, tag="record patch"):
    """Record that ``patched()`` said yes; the patch's name is the marker in ``id``."""


class AnswerUpdate(_Command, frozen=True, tag="answer update"):
    """Answer the update of the request ``update`` with what its handler returned or raised."""

    update: str
    name: str
    result: msgspec.Raw = msgspec.Raw(b"null")
    failure: Failure | None = None


class ClaimShared(_Command, frozen=True, tag="claim shared"):
    """Wait for one of ``size`` places of what instances share; for an event if that is 0."""

    name: str
    size: int = 1


class SetShared(_Command, frozen=True, tag="set shared"):
    """Set an event that instances share, or clear it."""

    name: str
    value: bool = True


class ReleaseShared(_Command, frozen=True, tag="release shared"):
    """Release, or withdraw, the claim of that command."""

    name: str


class CancelActivity(_Command, frozen=True, tag="cancel activity"):
    """Cancel the activity of that command; ``reason`` is that of the scope that was cancelled."""

    reason: str | None = None


class CancelChild(_Command, frozen=True, tag="cancel child"):
    """Cancel the sub-workflow of that command, as `CancelActivity`."""

    instance: str
    reason: str | None = None


Command = (
    RunActivity
    | StartChild
    | SendSignal
    | RecordSideEffect
    | EmitValue
    | NameTimer
    | RecordPatch
    | AnswerUpdate
    | CancelActivity
    | CancelChild
    | StartDetached
    | CancelInstance
    | ClaimShared
    | SetShared
    | ReleaseShared
    | TerminateInstance
)


def command_target(command: Command) -> str:
    """Return the name that replay compares besides kind and id; ``""`` where there is none."""
    match command:
        case RunActivity():
            return command.activity
        case StartChild() | StartDetached():
            return command.workflow
        case (
            SendSignal()
            | AnswerUpdate()
            | ClaimShared()
            | SetShared()
            | ReleaseShared()
            | NameTimer()
        ):
            return command.name
        case EmitValue():
            return command.stream
        case RecordPatch():
            return order_of(command.id)[-1]
        case (
            RecordSideEffect()
            | CancelActivity()
            | CancelChild()
            | CancelInstance()
            | TerminateInstance()
        ):
            return ""
        case _:
            assert_never(command)


_CANCELS = CancelActivity | CancelChild | ReleaseShared


def command_order(command: Command) -> tuple[IdOrder, bool]:
    """Return the sort key of a turn's commands: by task, then in the order of the calls."""
    return order_of(command.id), isinstance(command, _CANCELS)
