"""How times, durations, numbers and values read on a page: filters of the templates."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, cast

import msgspec
from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from trioflow import Undecodable

__all__ = ["FILTERS", "ago", "as_json", "clock", "duration", "number"]

_UNITS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"))
_LONG: Final = 300  # characters of a value that are shown in a line


def clock(seconds: float, timespec: str = "seconds") -> str:
    """Return a time in UTC: ``2026-11-27 09:14:21``."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):  # further away than the calendar goes
        return f"{seconds:.0f}"
    return moment.replace(tzinfo=None).isoformat(" ", timespec)


def duration(seconds: float | None) -> str:
    """Return a number of seconds as people read it: ``85 ms``, ``4.2 s``, ``3m 20s``, ``2d 4h``."""
    if seconds is None:
        return ""
    if not math.isfinite(seconds):
        return "∞"
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    if seconds < 0.9995:  # noqa: PLR2004 - it would be shown as 1000 ms
        return f"{sign}{seconds * 1000:.0f} ms"
    if seconds < 9.95:  # noqa: PLR2004 - it would be shown as 10.0 s
        return f"{sign}{seconds:.1f} s"
    left = round(seconds)
    parts: list[str] = []
    for size, unit in _UNITS:
        many, rest = divmod(left, int(size))
        if many or parts:
            parts.append(f"{many}{unit}")
            left = rest
        if len(parts) == 2:  # noqa: PLR2004 - the rest is too fine to matter
            break
    return sign + " ".join(part for part in parts if part[0] != "0")


def ago(seconds: float, now: float) -> str:
    """Return a time relative to now: ``3m 20s ago``, ``in 2h``, ``now``."""
    away = seconds - now
    if abs(away) < 1:
        return "now"
    said = duration(float(round(abs(away))))
    return f"in {said}" if away > 0 else f"{said} ago"


def number(value: float) -> str:
    """Return a number with its thousands set apart."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


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
            return value.astimezone(UTC).isoformat(" ", "seconds").removesuffix("+00:00") + " UTC"
        case list():
            return ", ".join(map(plain, cast("list[Any]", value)))
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
    "duration": duration,
    "number": number,
    "plain": plain,
    "when": when,
}
