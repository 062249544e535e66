"""An instance's history for people: its turns, with their values decoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from trioflow._client.description import Undecodable, as_arguments, opened, readable
from trioflow._codec.failures.failures import Failure
from trioflow._codec.values import Codec, open_text
from trioflow._model.events import NO_VALUE, Started
from trioflow._model.turns import Continued, Turn, decode_turn
from trioflow.backends.records import Execution

__all__ = ["ExecutionHistory", "read_history", "readable_fact", "same_life"]

T = TypeVar("T", bound=msgspec.Struct)


class ExecutionHistory(msgspec.Struct, frozen=True):
    """One execution's history.

    Attributes:
        number: The execution's number, from 1.
        turns: Its turns in order. Arguments, results and the values of signals and side effects
            stand in them as plain JSON data; what cannot be decoded, a value or a whole turn, is an
            `Undecodable`. A failure that this client's codec cannot read says only its type.
    """

    number: int
    turns: list[Turn | Undecodable]


def read_history(executions: Sequence[Execution], codec: Codec) -> list[ExecutionHistory]:
    """Read stored executions; this never fails because of what is in them."""
    return [
        ExecutionHistory(each.number, [_turn(data, codec) for data in each.turns])
        for each in executions
    ]


def same_life(history: Sequence[ExecutionHistory]) -> list[ExecutionHistory]:
    """Return the last execution, and those before it that ended by ``continue_as_new`` or a reset.

    Turns stay when an id is used again, so those of another life may come before.
    """
    first = len(history) - 1
    while first > 0 and _goes_on(history[first - 1]):
        first -= 1
    return list(history[max(first, 0) :])


def _goes_on(execution: ExecutionHistory) -> bool:
    last = execution.turns[-1] if execution.turns else None
    if not isinstance(last, Turn):
        return False
    return last.reset is not None or isinstance(last.outcome, Continued)


def _turn(data: bytes, codec: Codec) -> Turn | Undecodable:
    try:
        turn = decode_turn(data)
    except Exception as exc:  # noqa: BLE001 - bytes of any kind
        return Undecodable(str(exc) or type(exc).__name__)
    return msgspec.structs.replace(
        turn,
        events=[readable_fact(event, codec) for event in turn.events],
        commands=[readable_fact(command, codec) for command in turn.commands],
        outcome=None if turn.outcome is None else readable_fact(turn.outcome, codec),
        reset=None if turn.reset is None else readable_fact(turn.reset, codec),
    )


def readable_fact(fact: T, codec: Codec) -> T:
    """Return an event, a command or an outcome with its values as plain data; this never fails."""
    values: dict[str, Any] = {}
    for name in fact.__struct_fields__:
        value = getattr(fact, name)
        if value is NO_VALUE:
            values[name] = None
        elif isinstance(value, msgspec.Raw):
            plain = readable(codec, value)
            values[name] = as_arguments(plain) if name == "input" else plain
        elif isinstance(value, Failure):
            values[name] = opened(codec, value)[0]
        elif name == "reason":
            values[name] = open_text(codec, value)
    if isinstance(fact, Started):
        values["carried"] = [readable_fact(message, codec) for message in fact.carried]
    return msgspec.structs.replace(fact, **values) if values else fact
