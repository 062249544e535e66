"""Events, commands and outcomes in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from trioflow import Undecodable
from trioflow._cli.output import as_json, shown
from trioflow._codec.failures.failures import Failure
from trioflow._codec.failures.lines import failure_line
from trioflow._model.turns import Turn

__all__ = ["fact_line", "failure_line", "tag_of", "turn_lines"]

_NAMES = ("activity", "workflow", "name", "instance")
_VALUES = ("input", "result", "value")


def tag_of(thing: msgspec.Struct) -> str:
    """Return what kind of event, command or outcome it is."""
    return str(type(thing).__struct_config__.tag)


def fact_line(thing: msgspec.Struct, *, values: bool = False) -> str:
    """Say what an event, a command or an outcome is.

    Args:
        thing: What it is.
        values: Whether to show what is in it, decoded; it may be secret.
    """
    names = (getattr(thing, name, "") for name in _NAMES)
    words = [
        tag_of(thing),
        *dict.fromkeys(name for name in names if isinstance(name, str) and name),
    ]
    id_ = getattr(thing, "id", "")
    if id_:
        words.append(f"({id_})")
    if values:
        words += _values_of(thing)
    return shown(" ".join(words))


def _values_of(thing: msgspec.Struct) -> Iterator[str]:
    for name in _VALUES:
        value: Any = getattr(thing, name, None)
        if isinstance(value, Undecodable):
            yield f"(cannot be decoded: {value.why})"
        elif value is not None:
            yield as_json(value)
    failure = getattr(thing, "failure", None)
    if isinstance(failure, Failure):
        yield failure_line(failure)
    reason = getattr(thing, "reason", None)
    if reason:
        yield f"because: {reason}"


def turn_lines(turn: Turn, *, values: bool = False) -> Iterator[tuple[str, str]]:
    """Give what a turn consumed and asked for: what each thing is, and a line about it."""
    for event in turn.events:
        yield "event", fact_line(event, values=values)
    for command in turn.commands:
        yield "command", fact_line(command, values=values)
    if turn.outcome is not None:
        yield "outcome", fact_line(turn.outcome, values=values)
    if turn.reset is not None:
        why = f", because: {turn.reset.reason}" if values and turn.reset.reason else ""
        yield "reset", shown(f"to before turn {turn.reset.turn}{why}")
