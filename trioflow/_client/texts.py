"""What people write as text, on a command line or in a form: values, times, conditions, arguments.

And what is said of an instance in a line. Errors say what to write instead.
"""

from __future__ import annotations

import inspect
import math
import operator
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from trioflow._client.description import ActivityDescription, Description
from trioflow._codec.failures.lines import failure_line
from trioflow._codec.values import JsonCodec
from trioflow._model.attributes import Condition, attribute
from trioflow._model.workflows import Workflow
from trioflow.errors import ArgumentError

__all__ = [
    "argument_of",
    "arguments_of",
    "attempt_line",
    "call_of",
    "condition_of",
    "detail_of",
    "json_or_text",
    "moment_of",
    "span_of",
]

_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SHOWN: Final = 200  # characters of a text that are repeated in an error
_ALL_OTHERS = inspect.Parameter.VAR_POSITIONAL
_REST = (_ALL_OTHERS, inspect.Parameter.VAR_KEYWORD)
_COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONDITION: Final = re.compile(r"([^<>=]+)(<=|>=|=|<|>)(.*)", re.DOTALL)


def json_or_text(text: str) -> Any:
    """Return the value that a text is in JSON, or the text itself if it is no JSON.

    Raises:
        ArgumentError: It begins like an object, an array or a string of JSON, and is none, or its
            values are in each other too often.
    """
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise ArgumentError(f"{_short(text)} is nested too deeply to be read") from None
    except msgspec.DecodeError as error:
        if not text.lstrip().startswith(("{", "[", '"')):
            return text
        why = str(error).removeprefix("JSON is malformed: ")
        if "truncated" in why:
            why = "it is not complete"
        raise ArgumentError(
            f"{_short(text)} begins like JSON, and is none: {why}. A text that begins so is given "
            'as a string of JSON, in "double quotes"'
        ) from None


def arguments_of(
    workflow: Workflow[..., Any],
    given: Sequence[str],
    read: Callable[[str], Any] = json_or_text,
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call, each of its parameter's type.

    Args:
        workflow: What is called.
        given: Values in the order of the parameters, or ``name=value``.
        read: What reads a value.

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
                record.setdefault(name, []).append(argument_of(free[0], value, read))
                continue
        elif name in record:
            raise ArgumentError(f"{workflow.name}() is given {name!r} twice")
        record[name] = argument_of(parameters[name], value, read)
    return call_of(workflow, record)


def argument_of(
    parameter: inspect.Parameter, text: str, read: Callable[[str], Any] = json_or_text
) -> Any:
    """Return what an argument is that was written as text.

    For a parameter that is a ``str``, numbers and ``true`` are texts, too.
    """
    value = read(text)
    is_text = parameter.annotation in (str, "str") and isinstance(value, int | float)
    return text if is_text else value


def call_of(
    workflow: Workflow[..., Any], record: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call, each of its parameter's type, from plain values by name.

    Raises:
        ArgumentError: They do not fit the signature.
    """
    for each in inspect.signature(workflow.fn).parameters.values():
        if each.default is each.empty and each.name not in record and each.kind not in _REST:
            raise ArgumentError(f"{workflow.name}() missing a required argument: {each.name!r}")
    return workflow.signature.decode(JsonCodec(), msgspec.json.encode(record), workflow.name)


def moment_of(text: str, now: float, *, ahead: bool = False) -> float:
    """Return a time as epoch seconds: so long ago (``2h``, ``7d``), or as ISO 8601 has it, in UTC.

    Args:
        text: What was written.
        now: Epoch seconds.
        ahead: Whether ``2h`` is a time to come instead.

    Raises:
        ArgumentError: It is no time, or not one of the years from 1 to 9999.
    """
    try:
        if span := _SPAN.fullmatch(text):
            away = float(span[1]) * _SECONDS[span[2]]
            moment = now + away if ahead else now - away
        else:
            moment = _utc(text).timestamp()
    except ValueError:
        raise ArgumentError(
            f"{_short(text)} is no time; write 2h, 7d or 2026-11-26T09:30"
        ) from None
    try:
        datetime.fromtimestamp(moment, UTC)
    except (OverflowError, OSError, ValueError):
        raise ArgumentError(
            f"{_short(text)} is no time of the years from 1 to 9999; write one that is nearer"
        ) from None
    return moment


def span_of(text: str) -> float:
    """Return a length of time in seconds: ``30s``, ``5m``, or a number of seconds.

    Raises:
        ArgumentError: It is none.
    """
    span = _SPAN.fullmatch(text) or _SPAN.fullmatch(f"{text}s")
    if span is None or math.isinf(float(span[1])):
        raise ArgumentError(f"{text!r} is no length of time; write 30s, 5m or 2h")
    return float(span[1]) * _SECONDS[span[2]]


def condition_of(text: str) -> Condition:
    """Return a condition on an attribute: ``customer=c7``, ``amount>=10``, ``due<2026-12-01``.

    Raises:
        ArgumentError: It is none.
    """
    parts = _CONDITION.fullmatch(text)
    if parts is None:
        raise ArgumentError(f"{text!r}: write customer=c7, amount>=10 or due<2026-12-01")
    name, how, value = parts.groups()
    wanted = json_or_text(value.strip())
    try:
        if how != "=" and isinstance(wanted, str):
            wanted = _utc(wanted)
        made: Condition = _COMPARED[how](attribute(name.strip()), wanted)
    except OverflowError:
        raise ArgumentError(
            f"{_short(text)}: its time in UTC is none of the years from 1 to 9999"
        ) from None
    except ValueError as error:
        raise ArgumentError(str(error)) from None
    return made


def attempt_line(task: ActivityDescription, now: float, shown: Callable[[float], str]) -> str:
    """Say which attempt of an activity runs, or is next; ``shown`` writes times."""
    number = f"attempt {task.attempt}"
    if task.next_at is None:
        return f"{number} runs"
    if task.next_at > now:
        return f"{number} begins {shown(task.next_at)}"
    return f"{number} waits for a worker since {shown(task.next_at)}"


def detail_of(one: Description) -> str:
    """Say what there is to say of an instance in a few words: why it failed, for example."""
    if one.status == "running" and one.activities:
        tried = one.activities[0]
        does = "runs" if tried.next_at is None else "is next"
        why = f"; last: {failure_line(tried.failure)}" if tried.failure is not None else ""
        return f"{tried.activity}, attempt {tried.attempt} {does}{why}"
    if one.failure is not None:
        return failure_line(one.failure)
    if one.suspension is not None:
        why = f": {one.suspension.reason}" if one.suspension.reason else ""
        return f"{one.suspension.kind}{why}"
    if one.reason:
        return one.reason
    return "" if one.custom_status is None else msgspec.json.encode(one.custom_status).decode()


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _utc(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no number and no time; write amount>=10 or due<2026-12-01"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
