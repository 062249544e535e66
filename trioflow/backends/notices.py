"""The few events that a store itself has to write, since nobody else is there to do it."""

from __future__ import annotations

import msgspec

from trioflow.errors import InstanceAlreadyExists
from trioflow.model.events import ChildFailed, ParentRef, encode_event
from trioflow.model.failures import Failure
from trioflow.model.records import Message

__all__ = ["child_terminated", "id_taken"]


class _Terminated(msgspec.Struct):
    failure: Failure


_outcomes = msgspec.json.Decoder(_Terminated)


def id_taken(instance: str, parent: ParentRef) -> Message:
    """Return what tells a parent that its child's id belongs to another instance."""
    return _child_failed(parent, Failure.of(InstanceAlreadyExists(instance)))


def child_terminated(outcome: bytes, parent: ParentRef) -> Message:
    """Return what tells a parent that its child was terminated.

    Args:
        parent: Who is told.
        outcome: The stored form of a `trioflow.model.turns.Failed`.

    Raises:
        msgspec.DecodeError: If ``outcome`` is something else.
    """
    return _child_failed(parent, _outcomes.decode(outcome).failure)


def _child_failed(parent: ParentRef, failure: Failure) -> Message:
    event = encode_event(ChildFailed(parent.command, failure))
    return Message(parent.instance, event, execution=parent.execution)
