"""What is written on a command line as a value: JSON, times, conditions on attributes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from trioflow import ArgumentError, Workflow
from trioflow._client import texts
from trioflow._model.attributes import Condition

__all__ = ["CONDITION", "MOMENT", "MOMENT_AHEAD", "SPAN", "arguments", "json_or_text"]

if TYPE_CHECKING:
    _ParamType = click.ParamType[object]
else:
    _ParamType = click.ParamType


def json_or_text(text: str) -> Any:
    """Return the value that a text is in JSON, or the text itself if it is no JSON.

    Raises:
        BadParameter: It begins like an object, an array or a string of JSON, and is none.
    """
    try:
        return texts.json_or_text(text)
    except ArgumentError as error:
        raise click.BadParameter(str(error)) from None


def arguments(
    workflow: Workflow[..., Any], given: tuple[str, ...]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call, as `trioflow._client.texts.arguments_of`."""
    return texts.arguments_of(workflow, given, json_or_text)


class _Written(_ParamType):
    """A type of what is written as a text, of which errors say what to write instead.

    Args:
        name: What it is called.
        kind: What it is once it is read.
        read: Reads it.
    """

    def __init__(self, name: str, kind: type[object], read: Callable[[str], object]) -> None:
        super().__init__()
        self.name = name
        self._kind = kind
        self._read = read

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Return what is written."""
        if isinstance(value, self._kind):
            return value
        try:
            return self._read(value)
        except ArgumentError as error:
            self.fail(str(error), param, ctx)


def _moment(text: str, *, ahead: bool) -> float:
    return texts.moment_of(text, time.time(), ahead=ahead)


MOMENT = _Written("time", float, partial(_moment, ahead=False))
"""A time: so long ago (``2h``, ``30m``, ``7d``), or as ISO 8601 has it, in UTC."""
MOMENT_AHEAD = _Written("time", float, partial(_moment, ahead=True))
"""The same, where ``2h`` is a time to come."""
SPAN = _Written("span", float, texts.span_of)
"""A length of time: ``30s``, ``5m``, or a number of seconds."""
CONDITION = _Written("condition", Condition, texts.condition_of)
"""A condition on an attribute: ``customer=c7``, ``amount>=10``, ``due<2026-12-01``."""
