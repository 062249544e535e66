"""A history as lines: one for each event, command and outcome, with what is in it."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import msgspec

from trioflow._client.description import Undecodable
from trioflow._codec.failures.failures import Failure
from trioflow._model.turns import Turn

__all__ = ["KINDS", "Fact", "Line", "Wanted", "fact_of", "lines_of", "tag_of", "things_of"]

_NAMES = ("activity", "workflow", "name", "stream")
_VALUES = ("input", "result", "value")
# What a line says already, or that says nothing to people.
_SILENT = frozenset(
    {"id", "carried", "unread", "more", "failure", "instance", *_NAMES, *_VALUES, "plain", "seed"}
)

KINDS: dict[str, tuple[str, ...]] = {
    "activities": (
        "run activity",
        "cancel activity",
        "activity completed",
        "activity failed",
        "activity cancelled",
    ),
    "sub-workflows": (
        "start child",
        "cancel child",
        "child completed",
        "child failed",
        "child cancelled",
    ),
    "messages": (
        "signal received",
        "update requested",
        "answer update",
        "send signal",
        "signal sent",
        "signal failed",
        "promise resolved",
        "promise rejected",
    ),
    "timers": ("name timer", "woken"),
    "side effects": ("record side effect", "record patch", "emit value"),
    "other instances": (
        "start detached",
        "cancel instance",
        "terminate instance",
        "claim shared",
        "set shared",
        "release shared",
        "request done",
        "request failed",
    ),
    "life": (
        "started",
        "cancel requested",
        "completed",
        "failed",
        "cancelled",
        "continued",
        "reset",
        "unreadable",
    ),
}
"""Which tags each kind has that a history can be filtered by."""

_BAD = frozenset(
    {
        "activity failed",
        "child failed",
        "signal failed",
        "request failed",
        "promise rejected",
        "failed",
        "unreadable",
    }
)


class Fact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a history.

    Attributes:
        turn: The number of its turn, from 0.
        index: Its place in the turn, from 0.
        now: The turn's time, epoch seconds; of an event that came before that, its own.
        side: Whether it is an ``"event"``, a ``"command"``, or the ``"outcome"``.
        tag: What it is: ``"activity completed"``.
        name: Of the activity, workflow, signal, update, stream, …; ``""`` for none. Of an answer it
            is that of its command, where that is known.
        id: The id of its command, ``""`` for none.
        instance: The other instance that it concerns, ``""`` for none.
        value: Arguments, result or payload as plain data, or `Undecodable`.
        has_value: Whether it has one, which may be ``None``.
        failure: What failed, or ``None``.
        more: What else it says, by name.
        bad: Whether something failed.
    """

    turn: int
    index: int
    now: float
    side: str
    tag: str
    name: str = ""
    id: str = ""
    instance: str = ""
    value: Any = None
    has_value: bool = False
    failure: Failure | None = None
    more: dict[str, Any] = {}
    bad: bool = False


class Line(msgspec.Struct, frozen=True, gc=False):
    """Where a line of a history stands, and what it can be found by; see `Fact`."""

    turn: int
    index: int
    tag: str
    name: str
    id: str
    instance: str
    bad: bool


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What of a history is to be shown.

    Attributes:
        kind: One of `KINDS`, ``""`` for all.
        name: A part of the name, of the command's id or of the other instance, in any case.
        failed: Only what failed.
    """

    kind: str = ""
    name: str = ""
    failed: bool = False

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return not (self.kind or self.name or self.failed)

    def means(self, line: Line | Fact) -> bool:
        """Return whether a line is to be shown."""
        if self.failed and not line.bad:
            return False
        if self.kind and line.tag not in KINDS.get(self.kind, ()):
            return False
        if not self.name:
            return True
        wanted = self.name.casefold()
        return any(wanted in text.casefold() for text in (line.name, line.id, line.instance))


class _Shape(NamedTuple):
    """What the facts of a class have."""

    tag: str
    name: str  # the field that names it, "" for none
    value: str  # likewise
    has_id: bool
    has_instance: bool
    has_failure: bool
    bad: bool


@functools.cache
def _shape_of(kind: type[msgspec.Struct]) -> _Shape:
    fields = kind.__struct_fields__
    tag = str(kind.__struct_config__.tag or "reset")
    return _Shape(
        tag=tag,
        name=next((each for each in _NAMES if each in fields), ""),
        value=next((each for each in _VALUES if each in fields), ""),
        has_id="id" in fields,
        has_instance="instance" in fields,
        has_failure="failure" in fields,
        bad=tag in _BAD,
    )


def tag_of(thing: msgspec.Struct) -> str:
    """Return what kind of event, command or outcome it is."""
    return _shape_of(type(thing)).tag


def things_of(turn: Turn) -> list[msgspec.Struct]:
    """Return what makes the lines of a turn, in their order."""
    ends = [each for each in (turn.outcome, turn.reset) if each is not None]
    return [*turn.events, *turn.commands, *ends]


def lines_of(number: int, turn: Turn | Undecodable, names: dict[str, str]) -> list[Line]:
    """Return where the lines of a turn are, and what they can be found by.

    Args:
        number: The turn's number.
        turn: The turn.
        names: The names of commands by their ids, which answers get; those of this turn are added.
    """
    if isinstance(turn, Undecodable):
        return [Line(number, 0, "unreadable", "", "", "", bad=True)]
    found: list[Line] = []
    for index, thing in enumerate(things_of(turn)):
        shape = _shape_of(type(thing))
        id: str = getattr(thing, "id") if shape.has_id else ""  # noqa: B009
        if shape.name:
            name: str = getattr(thing, shape.name)
            if id:
                names[id] = name = names.get(id) or name
        else:
            name = names.get(id, "") if id else ""
        instance: str = getattr(thing, "instance") if shape.has_instance else ""  # noqa: B009
        bad = shape.bad or (shape.has_failure and getattr(thing, "failure") is not None)  # noqa: B009
        found.append(Line(number, index, shape.tag, name, id, instance, bad))
    return found


def fact_of(line: Line, turn: Turn | Undecodable, thing: msgspec.Struct | None) -> Fact:
    """Return a line with what is in it.

    Args:
        line: Which one.
        turn: Its turn.
        thing: The event, command or outcome, decoded; ``None`` if the turn cannot be read.
    """
    known = Fact(now=0.0, side="event", **msgspec.structs.asdict(line))
    if isinstance(turn, Undecodable) or thing is None:
        return msgspec.structs.replace(known, value=turn, has_value=True)
    shape = _shape_of(type(thing))
    events, commands = len(turn.events), len(turn.commands)
    side = "event"
    if line.index >= events:
        side = "command" if line.index < events + commands else "outcome"
    failure: Failure | None = getattr(thing, "failure", None)
    has_value = bool(shape.value) and failure is None
    return msgspec.structs.replace(
        known,
        side=side,
        now=turn.at[line.index] if line.index < len(turn.at) else turn.now,
        failure=failure,
        value=getattr(thing, shape.value) if has_value else None,
        has_value=has_value,
        more=_rest(thing),
    )


def _rest(thing: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a fact that are not their default and that no column shows."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(type(thing)):
        value = getattr(thing, field.name)
        if field.name in _SILENT or value in (None, "", [], {}) or value == field.default:
            continue
        found[field.name] = msgspec.to_builtins(value)
    promise = found.get("promise")
    if promise:
        found["promise"] = promise[:6] + "\N{HORIZONTAL ELLIPSIS}"  # it is a secret
    carried = getattr(thing, "carried", ())
    if carried:
        found["carried"] = f"{len(carried)} messages that were not read before"
    return found
