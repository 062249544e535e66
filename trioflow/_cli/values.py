"""What is written on a command line as a value: JSON, times, conditions on attributes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from trioflow import ArgumentError, Workflow
from trioflow._client import texts
from trioflow._model.attributes import Condition

__all__ = ["Moment", "Span", "WhereCondition", "arguments", "json_or_text"]

if TYPE_CHECKING:
    _FloatType = click.ParamType[float]
    _ConditionType = click.ParamType[Condition]
else:
    _FloatType = _ConditionType = click.ParamType


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


class Moment(_FloatType):
    """A time: so long ago (``2h``, ``30m``, ``7d``), or as ISO 8601 has it, in UTC.

    Args:
        ahead: Whether ``2h`` is a time to come instead.
    """

    name = "time"

    def __init__(self, *, ahead: bool = False) -> None:
        super().__init__()
        self._ahead = ahead

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return it as seconds since the epoch."""
        if isinstance(value, float):
            return value
        try:
            return texts.moment_of(value, time.time(), ahead=self._ahead)
        except ArgumentError as error:
            self.fail(str(error), param, ctx)


class Span(_FloatType):
    """A length of time: ``30s``, ``5m``, or a number of seconds."""

    name = "span"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return it in seconds."""
        if isinstance(value, float):
            return value
        try:
            return texts.span_of(value)
        except ArgumentError as error:
            self.fail(str(error), param, ctx)


class WhereCondition(_ConditionType):
    """A condition on an attribute: ``customer=c7``, ``amount>=10``, ``due<2026-12-01``."""

    name = "condition"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Condition:
        """Return the condition."""
        if isinstance(value, Condition):
            return value
        try:
            return texts.condition_of(value)
        except ArgumentError as error:
            self.fail(str(error), param, ctx)
