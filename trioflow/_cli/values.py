"""What is written on a command line as a value: JSON, times, conditions on attributes."""

from __future__ import annotations

import inspect
import operator
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from trioflow import ArgumentError, JsonCodec, Workflow, attribute
from trioflow._model.attributes import Condition

__all__ = ["Moment", "Span", "WhereCondition", "arguments", "json_or_text"]

if TYPE_CHECKING:
    _FloatType = click.ParamType[float]
    _ConditionType = click.ParamType[Condition]
else:
    _FloatType = _ConditionType = click.ParamType

_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_ALL_OTHERS = inspect.Parameter.VAR_POSITIONAL
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONDITION = re.compile(r"([^<>=]+)(<=|>=|=|<|>)(.*)", re.DOTALL)


def json_or_text(text: str) -> Any:
    """Return the value that a text is in JSON, or the text itself if it is no JSON.

    Raises:
        BadParameter: It begins like an object, an array or a string of JSON, and is none.
    """
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        if not text.lstrip().startswith(("{", "[", '"')):
            return text
        why = str(error).removeprefix("JSON is malformed: ")
        if "truncated" in why:
            why = "it is not complete"
        raise click.BadParameter(
            f"{text!r} begins like JSON, and is none: {why}. A text that begins so is given as a "
            'string of JSON, in "double quotes"'
        ) from None


def arguments(
    workflow: Workflow[..., Any], given: tuple[str, ...]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call, each of its parameter's type.

    Args:
        workflow: What is called.
        given: Values in the order of the parameters, or ``name=value``.

    Raises:
        ArgumentError: They do not fit the signature.
    """
    parameters = inspect.signature(workflow.fn).parameters
    order = [each for each in parameters.values() if each.kind is not each.KEYWORD_ONLY]
    record: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in parameters:
            free = [each for each in order if each.name not in record or each.kind is _ALL_OTHERS]
            if not free:
                raise ArgumentError(
                    f"{workflow.name}() has the parameters {', '.join(parameters) or '(none)'}, "
                    f"and none is left for {text!r}"
                )
            name, value = free[0].name, text
            if free[0].kind is _ALL_OTHERS:
                record.setdefault(name, []).append(json_or_text(value))
                continue
        elif name in record:
            raise ArgumentError(f"{workflow.name}() is given {name!r} twice")
        record[name] = json_or_text(value)
    return workflow.signature.decode(JsonCodec(), msgspec.json.encode(record), workflow.name)


class Moment(_FloatType):
    """A time: so long ago (``2h``, ``30m``, ``7d``), or as ISO 8601 has it, in UTC.

    Args:
        ahead: Whether ``2h`` is a time to come instead.
    """

    name = "time"

    def __init__(self, *, ahead: bool = False) -> None:
        super().__init__()
        self._direction = 1 if ahead else -1

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return it as seconds since the epoch."""
        if isinstance(value, float):
            return value
        if span := _SPAN.fullmatch(value):
            return time.time() + self._direction * float(span[1]) * _SECONDS[span[2]]
        try:
            return _utc(value).timestamp()
        except ValueError:
            self.fail(f"{value!r} is no time; write 2h, 7d or 2026-11-26T09:30", param, ctx)


class Span(_FloatType):
    """A length of time: ``30s``, ``5m``, or a number of seconds."""

    name = "span"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return it in seconds."""
        if isinstance(value, float):
            return value
        span = _SPAN.fullmatch(value) or _SPAN.fullmatch(f"{value}s")
        if span is None:
            self.fail(f"{value!r} is no length of time; write 30s, 5m or 2h", param, ctx)
        return float(span[1]) * _SECONDS[span[2]]


class WhereCondition(_ConditionType):
    """A condition on an attribute: ``customer=c7``, ``amount>=10``, ``due<2026-12-01``."""

    name = "condition"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Condition:
        """Return the condition."""
        if isinstance(value, Condition):
            return value
        parts = _CONDITION.fullmatch(value)
        if parts is None:
            self.fail(f"{value!r}: write customer=c7, amount>=10 or due<2026-12-01", param, ctx)
        name, how, text = parts.groups()
        try:
            wanted = json_or_text(text.strip())
            if how != "=" and isinstance(wanted, str):
                wanted = _utc(wanted)
            made: Condition = _COMPARED[how](attribute(name.strip()), wanted)
        except (ArgumentError, ValueError) as error:
            self.fail(str(error), param, ctx)
        return made


def _utc(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
