"""Turns, the unit of history, and the outcomes of executions."""

from __future__ import annotations

from typing import assert_never

import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._model.commands import Command
from trioflow._model.events import (
    ChildAnswer,
    ChildCancelled,
    ChildCompleted,
    ChildFailed,
    Event,
    SignalReceived,
)

__all__ = [
    "Cancelled",
    "Completed",
    "Continued",
    "Failed",
    "Outcome",
    "Reset",
    "Turn",
    "child_end",
    "decode_turn",
    "encode_turn",
]


class _Outcome(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    tag_field="outcome",
    gc=False,
    kw_only=True,
):
    """How an execution ended.

    In an instance's row, but not in a turn, with the signals that it had not received: ``unread``,
    and how many ``more`` there were that are too many to be kept.
    """

    unread: list[SignalReceived] = []
    more: int = 0


class Completed(_Outcome, frozen=True, tag="completed"):
    """The workflow function returned ``result``."""

    result: msgspec.Raw


class Failed(_Outcome, frozen=True, tag="failed"):
    """The workflow function raised."""

    failure: Failure


class Cancelled(_Outcome, frozen=True, tag="cancelled"):
    """The workflow function ended because the instance was cancelled."""

    reason: str | None = None


class Continued(_Outcome, frozen=True, tag="continued"):
    """The workflow function asked for a new execution with ``input``."""

    input: msgspec.Raw


Outcome = Completed | Failed | Cancelled | Continued


def child_end(outcome: Outcome, command: str) -> ChildAnswer:
    """Return what the parent is told of its child's end."""
    match outcome:
        case Completed():
            return ChildCompleted(command, outcome.result)
        case Failed():
            return ChildFailed(command, outcome.failure)
        case Cancelled():
            return ChildCancelled(command, outcome.reason)
        case Continued():
            raise AssertionError(f"{outcome!r} does not end a sub-workflow")
        case _:
            assert_never(outcome)


class Reset(msgspec.Struct, frozen=True, omit_defaults=True):
    """An execution was left: the instance went on in the next one, from before a turn of this one.

    Attributes:
        turn: The number of the first turn that the next execution has not taken over, from 0.
        reason: Why, as whoever asked for it said.
    """

    turn: int
    reason: str | None = None


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step: the events that were consumed, at which time, and what the workflow then asked for.

    Attributes:
        now: The workflow's clock during the turn, epoch seconds; it never goes backwards.
        events: In the order in which they were applied.
        commands: In the order of their ids (`command_order`).
        outcome: Set in the last turn of an execution.
        reset: Set if the execution was left by a reset. Then this is no turn that was made: it
            stands after all others, which may have ended, and says nothing else.
        at: When each of ``events`` happened, by the store's clock, where that decides between it
            and a deadline that passed before ``now``; otherwise empty.
        together_from: The number, from 0, of the event or overdue deadline together with which all
            events after it were applied, since the workflow would have ended there; -1 if each was
            applied by itself.
    """

    now: float
    events: list[Event]
    commands: list[Command] = []
    outcome: Outcome | None = None
    at: list[float] = []
    together_from: int = -1
    reset: Reset | None = None


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Turn] = msgspec.json.Decoder(Turn)


def encode_turn(turn: Turn) -> bytes:
    """Return the stored form of a turn."""
    return _encoder.encode(turn)


def decode_turn(data: bytes) -> Turn:
    """Read a turn from its stored form.

    Raises:
        msgspec.DecodeError: If ``data`` is not a stored turn.
    """
    return _decoder.decode(data)
