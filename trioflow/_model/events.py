"""Events: what happened to an instance, as a closed union. A turn consumes them.

Payloads are JSON documents (`msgspec.Raw`), so that a stored history is readable as it is and
is neither decoded nor encoded twice on its way.
"""

from __future__ import annotations

import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._model.attributes import Stored

__all__ = [
    "NO_VALUE",
    "RUN_ENDED",
    "ActivityAnswer",
    "ActivityCancelled",
    "ActivityCompleted",
    "ActivityFailed",
    "CancelRequested",
    "ChildAnswer",
    "ChildCancelled",
    "ChildCompleted",
    "ChildFailed",
    "Event",
    "Message",
    "Origin",
    "ParentRef",
    "PromiseRejected",
    "PromiseResolved",
    "RequestAnswer",
    "RequestDone",
    "RequestFailed",
    "ScheduleRef",
    "SignalAnswer",
    "SignalFailed",
    "SignalReceived",
    "SignalSent",
    "Started",
    "UpdateRequested",
    "Woken",
    "decode_event",
    "decode_messages",
    "encode_event",
    "run_ended",
]


NO_VALUE = msgspec.Raw(b"")
"""Stands for a value where there is none. It is this very object: then it is not written."""


class ParentRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parent of a sub-workflow: its id, its execution, and the id of its command.

    ``life`` is the parent's (`NewInstance.life`), ``""`` if it began before lives had one.
    """

    instance: str
    execution: int
    command: str
    life: str = ""


class ScheduleRef(msgspec.Struct, frozen=True):
    """The schedule that began an instance: its id and its life; the run was due ``at`` that time.

    It is told of the end of the instance, in whatever execution it is then.
    """

    id: str
    life: str
    at: float


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which execution has made the first turns of one that began by a reset or a fork.

    Attributes:
        instance: The id of its instance.
        execution: Its number.
        turns: The number of turns up to and with its last one; those before its first one are of
            the origin before this.
    """

    instance: str
    execution: int
    turns: int


class _Event(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="event", gc=False):
    pass


class SignalReceived(_Event, frozen=True, tag="signal received"):
    """A signal was delivered; ``value`` is its payload.

    It is ``plain`` JSON if a worker or a store has written it, which no codec has encoded.
    """

    name: str
    value: msgspec.Raw
    plain: bool = False


class UpdateRequested(_Event, frozen=True, tag="update requested"):
    """A client asked for an update; ``update`` is the id of its request.

    ``value`` is its argument, empty if it has none.
    """

    update: str
    name: str
    value: msgspec.Raw = NO_VALUE


class Started(_Event, frozen=True, tag="started"):
    """An execution began. Always the first event of its first turn.

    Attributes:
        workflow: The workflow's name.
        input: Its arguments.
        metadata: What propagators put there.
        parent: Who called it, if a workflow did.
        carried: Signals that the execution before it had received and not read, and updates that
            it had not begun, in the order of their arrival.
        rules: The number of the engine's rules (`trioflow._model.rules`) by which this execution
            runs for as long as it lasts. 0 where it is absent.
        seed: 128 random bits in hexadecimal for ``uuid4()`` and ``random()``. Where it is absent
            they are seeded with the instance's id.
        code: The fingerprint of the workflow's source (`Workflow.fingerprint`) with which it began.
            Absent if it is not known.
        deadline_at: When the workflow's timeout is over, epoch seconds, the same for all executions
            of the instance. Absent if it has none. By rules below `LATE_GENERATORS` it may be
            absent all the same; then the definition's timeout is that of each execution.
        max_events: The size of the history at which the instance is suspended; 0 for what the
            definition says.
        attributes: Those that the instance has, when the execution begins.
        schedule: Which schedule has begun the instance, if one has.
        origins: Of an execution that began by a reset or a fork: which executions have made its
            first turns, the oldest first.
    """

    workflow: str
    input: msgspec.Raw
    metadata: dict[str, str] = {}
    parent: ParentRef | None = None
    carried: list[SignalReceived | UpdateRequested] = []
    rules: int = 0
    seed: str = ""
    code: str = ""
    deadline_at: float | None = None
    max_events: int = 0
    attributes: Stored = {}
    schedule: ScheduleRef | None = None
    origins: list[Origin] = []


class Woken(_Event, frozen=True, tag="woken"):
    """The earliest deadline of the instance has come."""


class ActivityCompleted(_Event, frozen=True, tag="activity completed"):
    """The activity of command ``id`` returned ``result``."""

    id: str
    result: msgspec.Raw


class ActivityFailed(_Event, frozen=True, tag="activity failed"):
    """The activity of command ``id`` failed for good."""

    id: str
    failure: Failure


class ActivityCancelled(_Event, frozen=True, tag="activity cancelled"):
    """The activity of command ``id`` was cancelled, as the workflow had asked."""

    id: str
    reason: str | None = None


class ChildCompleted(_Event, frozen=True, tag="child completed"):
    """The sub-workflow of command ``id`` returned ``result``."""

    id: str
    result: msgspec.Raw


class ChildFailed(_Event, frozen=True, tag="child failed"):
    """The sub-workflow of command ``id`` failed, was terminated, or could not be started."""

    id: str
    failure: Failure


class ChildCancelled(_Event, frozen=True, tag="child cancelled"):
    """The sub-workflow of command ``id`` ended because it was cancelled."""

    id: str
    reason: str | None = None


class SignalSent(_Event, frozen=True, tag="signal sent"):
    """The signal of command ``id`` is in the inbox of its target."""

    id: str


class SignalFailed(_Event, frozen=True, tag="signal failed"):
    """The signal of command ``id`` has no target: no such instance, or it has finished."""

    id: str
    failure: Failure


class RequestDone(_Event, frozen=True, tag="request done"):
    """What the command ``id`` asked of another instance was done: its start, or its cancel."""

    id: str


class RequestFailed(_Event, frozen=True, tag="request failed"):
    """What the command ``id`` asked of another instance could not be done."""

    id: str
    failure: Failure


class PromiseResolved(_Event, frozen=True, tag="promise resolved"):
    """Somebody has given the promise with the secret ``promise`` its value."""

    promise: str
    value: msgspec.Raw


class PromiseRejected(_Event, frozen=True, tag="promise rejected"):
    """Somebody has said that the promise with the secret ``promise`` will not be kept."""

    promise: str
    failure: Failure


class CancelRequested(_Event, frozen=True, tag="cancel requested"):
    """A client, or the parent, asked for the instance to be cancelled.

    ``by`` is set if a parent asked it of its sub-workflow. An instance that has another parent
    ignores it: that parent's call for the id was refused, which it did not know yet. With
    ``adopted`` the parent's execution does not count: it may have taken the call over from an
    earlier one, by a reset.
    """

    reason: str | None = None
    by: ParentRef | None = None
    adopted: bool = False


ActivityAnswer = ActivityCompleted | ActivityFailed | ActivityCancelled
ChildAnswer = ChildCompleted | ChildFailed | ChildCancelled
SignalAnswer = SignalSent | SignalFailed
RequestAnswer = RequestDone | RequestFailed

Message = SignalReceived | UpdateRequested
"""What waits in an execution until its code asks for it, and goes over into the next."""

Event = (
    Started
    | Woken
    | ActivityAnswer
    | ChildAnswer
    | Message
    | SignalAnswer
    | PromiseResolved
    | PromiseRejected
    | CancelRequested
    | RequestAnswer
)

RUN_ENDED = "run ended"
"""Which message to a schedule says that a run has ended."""


def run_ended(run: str, status: str) -> SignalReceived:
    """Return what a schedule is told of the end of a run. The scripts of Redis write the same."""
    told = {"message": RUN_ENDED, "run": run, "status": status}
    return SignalReceived("trioflow.schedule", msgspec.Raw(_encoder.encode(told)), plain=True)


_encoder = msgspec.json.Encoder()
_messages = msgspec.json.Decoder(list[Message])
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """Return the stored form of an event."""
    return _encoder.encode(event)


def decode_event(data: bytes) -> Event:
    """Read an event from its stored form.

    Raises:
        msgspec.DecodeError: If ``data`` is not a stored event.
    """
    return _decoder.decode(data)


def decode_messages(data: bytes) -> list[Message]:
    """Read messages that one execution left to the next.

    Raises:
        msgspec.DecodeError: If ``data`` is something else.
    """
    return _messages.decode(data)
