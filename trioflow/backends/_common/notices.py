"""Build the few events that a store itself has to write, since no worker is there to do it."""

from __future__ import annotations

import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._model.events import (
    ChildCancelled,
    ChildFailed,
    Event,
    ParentRef,
    ScheduleRef,
    encode_event,
    run_ended,
)
from trioflow.backends.commits import Message
from trioflow.errors import ArgumentError, InstanceAlreadyExists

__all__ = [
    "asked_by",
    "child_cancelled",
    "child_terminated",
    "id_taken",
    "id_too_long",
    "run_has_ended",
]


_TAKEN = (
    "a sub-workflow cannot take its id while it runs; give it another with options(id=…), or leave "
    "that out, for an id that is derived from its parent's"
)


class _Terminated(msgspec.Struct):
    failure: Failure


class _Cancelled(msgspec.Struct):
    reason: str | None = None


class _CancelRequested(msgspec.Struct):
    by: ParentRef | None = None


class _Options(msgspec.Struct):
    schedule: ScheduleRef | None = None


_options = msgspec.json.Decoder(_Options)
_requests = msgspec.json.Decoder(_CancelRequested)
_terminated = msgspec.json.Decoder(_Terminated)
_cancelled = msgspec.json.Decoder(_Cancelled)


def id_taken(instance: str, parent: ParentRef) -> Message:
    """Return what tells a parent that its child's id belongs to another instance."""
    return _child_failed(parent, Failure.of(InstanceAlreadyExists(instance, _TAKEN)))


def id_too_long(instance: str, parent: ParentRef, most: int) -> Message:
    """Return what tells a parent that its child's id has more characters than the store takes."""
    error = ArgumentError(
        f"the id {instance[:40]!r}… of a sub-workflow has {len(instance)} characters; this store "
        f"takes at most {most}; give it a shorter one with options(id=…)"
    )
    return _child_failed(parent, Failure.of(error))


def child_terminated(outcome: bytes, parent: ParentRef) -> Message:
    """Return what tells a parent that its child was terminated.

    Args:
        parent: Who is told.
        outcome: The stored form of a `trioflow._model.turns.Failed`.

    Raises:
        msgspec.DecodeError: If ``outcome`` is something else.
    """
    return _child_failed(parent, _terminated.decode(outcome).failure)


def asked_by(event: bytes) -> ParentRef | None:
    """Return whose sub-workflow is meant by a request for a cancel, ``None`` if it is no parent's.

    Args:
        event: The stored form of a `trioflow._model.events.CancelRequested`.
    """
    try:
        return _requests.decode(event).by
    except msgspec.DecodeError:
        return None


def child_cancelled(outcome: bytes, parent: ParentRef) -> Message:
    """Return what tells a parent that its child was cancelled before it began.

    Args:
        parent: Who is told.
        outcome: The stored form of a `trioflow._model.turns.Cancelled`.

    Raises:
        msgspec.DecodeError: If ``outcome`` is something else.
    """
    return _told(parent, ChildCancelled(parent.command, _cancelled.decode(outcome).reason))


def run_has_ended(options: bytes, instance: str, status: str) -> Message | None:
    """Return what tells a schedule of the end of a run, ``None`` if no schedule has begun it.

    Args:
        options: The stored options of the instance (`NewInstance.options`).
        instance: Its id.
        status: How it ended.
    """
    if not options:
        return None
    try:
        ref = _options.decode(options).schedule
    except (msgspec.MsgspecError, TypeError):
        return None  # damaged: that must not keep it from ending
    if ref is None:
        return None
    return Message(ref.id, encode_event(run_ended(instance, status)), life=ref.life)


def _child_failed(parent: ParentRef, failure: Failure) -> Message:
    return _told(parent, ChildFailed(parent.command, failure))


def _told(parent: ParentRef, event: Event) -> Message:
    told = encode_event(event)
    return Message(parent.instance, told, execution=parent.execution, life=parent.life)
