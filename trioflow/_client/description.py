"""What a client is told of instances, and how it is read from their rows.

What cannot be decoded is shown as that, and everything else beside it: whoever looks for what is
wrong with an instance must not be refused because of it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, cast

import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._codec.values import Codec, open_text
from trioflow._model.attributes import readable_attributes
from trioflow._model.commands import ActivityOptions, decode_options
from trioflow._model.events import ParentRef
from trioflow._model.info import SuspendReport
from trioflow._model.progress import decode_progress
from trioflow._model.turns import Cancelled, Completed, Failed, Outcome
from trioflow.backends.records import ENDED, ActivityKey, ActivityTask, InstanceRecord, Status

__all__ = [
    "ActivityDescription",
    "DeadLetter",
    "Description",
    "ExecutionDescription",
    "Undecodable",
    "as_arguments",
    "decode_outcome",
    "decode_report",
    "describe",
    "opened",
    "readable",
]

T = TypeVar("T")

decode_outcome: Callable[[bytes], Outcome] = msgspec.json.Decoder(Outcome).decode
decode_report = msgspec.json.Decoder(SuspendReport).decode
_decode_failure = msgspec.json.Decoder(Failure).decode
_decode_metadata = msgspec.json.Decoder(dict[str, str]).decode

_FOREIGN = (
    "these are no arguments by name but something else in JSON; it looks as if they were stored by "
    "another codec. Give this client the workers' codec: open_client(..., codec=...)"
)
_SEALED = (
    "it looks as if it was stored by another codec, as the input was. Give this client the "
    "workers' codec: open_client(..., codec=...)"
)


class Undecodable(msgspec.Struct, frozen=True):
    """Stands in the place of a stored value that cannot be decoded.

    Attributes:
        why: What the codec, or the reader of the row, said.
    """

    why: str


class DeadLetter(msgspec.Struct, frozen=True):
    """A signal that an instance had not received when it ended.

    Attributes:
        name: The signal's name.
        value: Its value, plain JSON data; or `Undecodable`.
    """

    name: str
    value: Any


class ActivityDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an unfinished activity.

    Attributes:
        key: Names it: the instance, its execution, and the id of the command.
        activity: The activity's name.
        queue: Where it runs.
        priority: The larger, the sooner it is taken.
        attempt: The attempt that runs, or is next; counts from 1.
        next_at: When that may begin, epoch seconds: in the future if it waits to be tried again;
            ``None`` if a worker holds it.
        scheduled_at: When it was called, epoch seconds.
        input: Its arguments by name, plain JSON data; or `Undecodable`.
        options: What the call changed of the definition, or ``None``.
        failure: Why the last attempt failed, or ``None``.
        heartbeat: What it last gave to ``heartbeat()``, plain JSON data; ``None`` for nothing.
        heartbeat_at: When, epoch seconds; ``None`` if it has said nothing. A call may be about a
            second later than that.
        undecodable: The fields that cannot be decoded, and why; see `Description`.
    """

    key: ActivityKey
    activity: str
    queue: str
    priority: int
    attempt: int
    scheduled_at: float
    input: Any
    options: ActivityOptions | None
    failure: Failure | None
    heartbeat: Any = None
    heartbeat_at: float | None = None
    undecodable: dict[str, str] = {}
    next_at: float | None = None


class ExecutionDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one execution of an id that has ended, and after which another one began.

    Attributes:
        number: The execution's number. It goes on counting when the id is used again.
        life: Names the instance that it belongs to: the executions of one ``continue_as_new`` after
            the other share it, and no other instance has it.
        workflow: The workflow's name.
        status: ``"continued"`` if the next execution followed it by ``continue_as_new``,
            ``"reset"`` if that began by a reset; otherwise how its instance ended.
        started_at: Epoch seconds; ``None`` if the execution before it is not known any more.
        ended_at: Epoch seconds; of one that was reset, when that was.
        turns: How many turns it has.
        result: What it returned, if it completed, also if it was reset afterwards.
        failure: Why it failed, or was terminated, likewise, or ``None``.
        reason: Why it was cancelled, if somebody said.
        custom_status: The value that ``set_status()`` had given last, or ``None``.
        undecodable: The fields that cannot be decoded, and why; see `Description`.
    """

    number: int
    life: str
    workflow: str
    status: Status | Literal["continued", "reset"]
    started_at: float | None
    ended_at: float
    turns: int
    result: Any = None
    failure: Failure | None = None
    reason: str | None = None
    custom_status: Any = None
    undecodable: dict[str, str] = {}


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an instance. Payloads are plain JSON data.

    Attributes:
        id: The instance's id.
        execution: The number of its current execution, from 1.
        workflow: The workflow's name.
        queue: Where it runs.
        priority: The larger, the sooner it is taken.
        status: ``"running"``, ``"completed"``, ``"failed"``, ``"cancelled"``, ``"terminated"`` or
            ``"suspended"``.
        parent: Who started it, or ``None``.
        input: Its arguments by name.
        result: What it returned, if it completed.
        failure: Why it failed, or was terminated, or ``None``.
        reason: Why it was cancelled, if somebody said.
        suspension: Why it is suspended, or ``None``.
        custom_status: The last value of ``set_status()``, or ``None``.
        metadata: What propagators put there.
        turns: How many turns its execution has.
        events: Size of the execution's history: events and commands.
        unread: How many messages wait for it.
        worker: The id of the worker that holds it, or ``None``.
        wakes_at: The earliest moment at which it has something to do, epoch seconds, or ``None``.
        created_at: Epoch seconds.
        attributes: What it can be found by; see ``set_attributes()``.
        starts_at: The time before which it does not begin, epoch seconds, or ``None``.
        finished_at: Epoch seconds, or ``None``.
        activities: Its unfinished activities; only from ``handle.describe()``. From
            ``list(trouble="retrying")`` the one that has been tried most often.
        earlier: The executions of the id before this one, in order, also those of finished
            instances that had the id; only from ``handle.describe()``.
        dead_letters: The signals that it had not received when it ended, in the order of their
            arrival; not those of one that was terminated.
        more_dead_letters: How many more there were, too many to be kept.
        undecodable: The fields that cannot be decoded, and why: ``{"input": "…"}``. A value
            (``input``, ``result``, ``custom_status``) is an `Undecodable` then, a ``failure`` that
            another codec stored has no more than its type and its bases, and anything else is as
            if nothing was stored. ``"outcome"`` stands for what it has of ``result``, ``failure``
            and ``reason``.
    """

    id: str
    execution: int
    workflow: str
    queue: str
    status: Status
    parent: ParentRef | None
    input: Any
    result: Any
    failure: Failure | None
    reason: str | None
    suspension: SuspendReport | None
    custom_status: Any
    metadata: dict[str, str]
    turns: int
    events: int
    unread: int
    worker: str | None
    wakes_at: float | None
    created_at: float
    finished_at: float | None
    priority: int = 0
    starts_at: float | None = None
    attributes: dict[str, Any] = {}
    activities: list[ActivityDescription] = []
    earlier: list[ExecutionDescription] = []
    dead_letters: list[DeadLetter] = []
    more_dead_letters: int = 0
    undecodable: dict[str, str] = {}


class _Reader:
    """Reads the parts of one row, and keeps what could not be read."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._sealed = False  # whether the input looks as if another codec had wrapped it
        self.undecodable: dict[str, str] = {}

    def part(self, name: str, decode: Callable[[bytes], T], data: bytes) -> T | None:
        """Return what is stored in a field of ours, ``None`` if that is nothing or unreadable."""
        if not data:
            return None
        try:
            return decode(data)
        except Exception as exc:  # noqa: BLE001 - bytes of any kind, read by code of any kind
            self.undecodable[name] = _why(exc)
            return None

    def failure(self, name: str, failure: Failure | None) -> Failure | None:
        """Return a failure with what it says; one that cannot be read says only its type."""
        if failure is None:
            return None
        shown, why = opened(self._codec, failure)
        if why is not None:
            self.undecodable[name] = why
        return shown

    def value(self, name: str, data: bytes | msgspec.Raw) -> Any:
        """Return a payload as plain data, or `Undecodable`."""
        value = readable(self._codec, data)
        if name == "input":
            value = as_arguments(value)
            self._sealed = isinstance(value, Undecodable) and value.why == _FOREIGN
        elif self._sealed and isinstance(value, str) and _is_base64(value):
            value = Undecodable(_SEALED)
        if isinstance(value, Undecodable):
            self.undecodable[name] = value.why
        return value


def opened(codec: Codec, failure: Failure) -> tuple[Failure, str | None]:
    """Return a failure as it can be read, and why all but its type cannot be, if so."""
    try:
        return failure.opened(codec), None
    except Exception as exc:  # noqa: BLE001 - sealed by another codec, or with another key
        return failure, _why(exc)


def readable(codec: Codec, data: bytes | msgspec.Raw) -> Any:
    """Return a stored payload as plain JSON data, or `Undecodable`."""
    try:
        return codec.decode(bytes(data) if isinstance(data, msgspec.Raw) else data, Any)
    except Exception as exc:  # noqa: BLE001 - bytes of any kind, and a codec of the user's
        return Undecodable(_why(exc))


def as_arguments(value: Any) -> Any:
    """Return what was read of a call's arguments, or `Undecodable` if it cannot be arguments.

    What a `WrappedCodec` stored is JSON too, a text, so a client without it can read that.
    """
    if isinstance(value, (dict, Undecodable)):
        return cast("Any", value)
    return Undecodable(_FOREIGN)


def describe(
    record: InstanceRecord, activities: Sequence[ActivityTask], codec: Codec
) -> Description:
    """Read an instance's row for people; this never fails because of what is in it."""
    reader = _Reader(codec)
    outcome = suspension = None
    if record.status in ENDED:
        outcome = reader.part("outcome", decode_outcome, record.outcome)
    elif record.status == "suspended":
        suspension = reader.part("suspension", decode_report, record.outcome)
        if suspension is not None and suspension.reason is not None:
            opened = open_text(codec, suspension.reason)
            suspension = msgspec.structs.replace(suspension, reason=opened)
    custom = record.custom_status
    return Description(
        id=record.id,
        execution=record.execution,
        workflow=record.workflow,
        queue=record.queue,
        status=record.status,
        parent=record.parent,
        input=reader.value("input", record.input),
        result=reader.value("result", outcome.result) if isinstance(outcome, Completed) else None,
        failure=reader.failure("failure", outcome.failure) if isinstance(outcome, Failed) else None,
        reason=open_text(codec, outcome.reason) if isinstance(outcome, Cancelled) else None,
        suspension=suspension,
        custom_status=reader.value("custom_status", custom) if custom else None,
        metadata=reader.part("metadata", _decode_metadata, record.metadata) or {},
        turns=record.turns,
        events=record.events,
        unread=record.unread,
        worker=record.worker,
        wakes_at=record.ready_at,
        created_at=record.created_at,
        finished_at=record.finished_at,
        priority=record.priority,
        starts_at=record.start_at or None,
        attributes=reader.part("attributes", readable_attributes, record.attributes) or {},
        activities=[_describe_activity(task, codec) for task in activities],
        dead_letters=[
            DeadLetter(signal.name, readable(codec, signal.value))
            for signal in (() if outcome is None else outcome.unread)
        ],
        more_dead_letters=0 if outcome is None else outcome.more,
        undecodable=reader.undecodable,
    )


def _describe_activity(task: ActivityTask, codec: Codec) -> ActivityDescription:
    reader = _Reader(codec)
    progress = reader.part("heartbeat", decode_progress, task.progress)
    return ActivityDescription(
        key=task.key,
        activity=task.activity,
        queue=task.queue,
        priority=task.priority,
        attempt=task.attempt,
        scheduled_at=task.scheduled_at,
        input=reader.value("input", task.input),
        options=reader.part("options", decode_options, task.options),
        failure=reader.failure("failure", reader.part("failure", _decode_failure, task.failure)),
        heartbeat=None if progress is None else reader.value("heartbeat", progress.details),
        heartbeat_at=None if progress is None else progress.at,
        undecodable=reader.undecodable,
        next_at=task.next_at,
    )


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def _why(exc: Exception) -> str:
    return str(exc) or type(exc).__name__
