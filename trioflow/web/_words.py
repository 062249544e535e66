"""How times, durations, numbers and values read on a page: filters of the templates."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from trioflow import Undecodable
from trioflow._codec.failures.lines import failure_line
from trioflow._worker.failures import raised_at

__all__ = ["FILTERS", "ago", "as_json", "clock", "duration", "number"]

_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_LONG: Final = 300  # characters of a value that are shown in a line
_LONGEST: Final = 1e16  # up to here floats are exact to a second or two
_FAR: Final = 86_400 * 1e7  # seconds; from here on the digits of the days say nothing


def clock(seconds: float, timespec: str = "seconds") -> str:
    """Return a time in UTC: ``2026-11-27 09:14:21``."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):  # further away than the calendar goes
        return f"{seconds:.0f}" if abs(seconds) < _LONGEST else f"{seconds:g}"
    return moment.replace(tzinfo=None).isoformat(" ", timespec)


def duration(seconds: float | None) -> str:
    """Return a number of seconds as people read it: ``85ms``, ``4.2s``, ``3m 20s``, ``2d 4h``."""
    if seconds is None:
        return ""
    if math.isnan(seconds):
        return "?"
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.9995:  # noqa: PLR2004 - it would be shown as 1000ms
        return f"{seconds * 1000:.0f}ms"
    if seconds < 9.95:  # noqa: PLR2004 - it would be shown as 10.0s
        return f"{seconds:.1f}s"
    return _parts(seconds, 2)


def _parts(seconds: float, most: int) -> str:
    """Return whole days, hours, minutes and seconds, the largest ``most`` of them."""
    if seconds >= _FAR:
        return f"{seconds / 86_400:.3g}d" if math.isfinite(seconds) else "∞"
    left, parts = round(seconds), list[str]()
    for size, unit in _UNITS:
        many, rest = divmod(left, size)
        if many or parts:
            parts.append(f"{many}{unit}")
            left = rest
        if len(parts) == most:
            break
    return " ".join(part for part in parts if part[0] != "0") or "0s"


def ago(seconds: float, now: float) -> str:
    """Return a time relative to now: ``3m ago``, ``5h 10m ago``, ``in 12d``, ``now``."""
    away = abs(seconds - now)
    if math.isnan(away):
        return "?"
    if away < 1:
        return "now"
    fine = any(size <= away < 10 * size for size, _ in _UNITS[:2])
    said = _parts(away, 2 if fine else 1)
    return f"in {said}" if seconds > now else f"{said} ago"


def number(value: float) -> str:
    """Return a number with its thousands set apart."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def rate(value: float) -> str:
    """Return a number of something in a time, with no more digits than say something."""
    return number(round(value)) if value >= 10 else f"{value:.1f}".removesuffix(".0")  # noqa: PLR2004 - digits


def as_json(value: Any, *, indent: int = 0) -> str:
    """Return a value as JSON; one that cannot be decoded says so."""
    if isinstance(value, Undecodable):
        return f"(cannot be decoded: {value.why})"
    text = msgspec.json.encode(value)
    return (msgspec.json.format(text, indent=indent) if indent else text).decode("utf-8", "replace")


def plain(value: Any) -> str:
    """Return a value as people read it: a text is itself, a time is in UTC, lists have commas."""
    match value:
        case str():
            return value
        case datetime():
            try:
                moment = value.astimezone(UTC)
            except (OverflowError, ValueError):  # in UTC it is not of a year from 1 to 9999
                return value.isoformat(" ", "seconds")
            return moment.isoformat(" ", "seconds").removesuffix("+00:00") + " UTC"
        case [*items]:
            return ", ".join(plain(each) for each in items)
        case _:
            return as_json(value)


def cut(text: str, most: int = _LONG) -> str:
    """Return a text that is not too long for a line."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _element(seconds: float, shown: str, title: str) -> Markup:
    machine = clock(seconds, "milliseconds").replace(" ", "T") + "Z"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(machine, title, shown)


@pass_context
def when(context: Context, seconds: float | None) -> Markup:
    """Return a time as an element that shows how long ago it was."""
    if seconds is None:
        return Markup()
    return _element(seconds, ago(seconds, context["now"]), f"{clock(seconds, 'milliseconds')} UTC")


@pass_context
def at(context: Context, seconds: float | None) -> Markup:
    """Return a time as an element that shows it in UTC."""
    if seconds is None:
        return Markup()
    return _element(seconds, f"{clock(seconds)} UTC", ago(seconds, context["now"]))


FILTERS: dict[str, Callable[..., Any]] = {
    "at": at,
    "as_json": as_json,
    "cut": cut,
    "failure_line": failure_line,
    "duration": duration,
    "number": number,
    "plain": plain,
    "raised_at": raised_at,
    "rate": rate,
    "when": when,
}
