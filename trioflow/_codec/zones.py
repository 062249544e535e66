"""Datetimes with named time zones (RFC 9557): ``2026-01-15T09:00:00+01:00[Europe/Berlin]``.

Only the text and the search for it in JSON data live here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, cast
from zoneinfo import ZoneInfo

import msgspec

__all__ = ["from_named", "to_named"]

_STAMP: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)"
_NAMED: Final = re.compile(rf"(?P<stamp>{_STAMP})\[(?P<zone>[A-Za-z][\w+/-]*)\]", re.ASCII)


def to_named(data: Any) -> Any:
    """Return JSON data in which datetimes are text, with the name of their zone if it has one."""
    return _each(data, _to_text)


def from_named(data: Any) -> tuple[Any, bool]:
    """Return JSON data in which text of that form is datetimes, and whether there was any.

    Raises:
        ValueError: A zone's name is not known on this machine.
    """
    found = False

    def read(leaf: Any) -> Any:
        nonlocal found
        match = _NAMED.fullmatch(leaf) if leaf.__class__ is str else None
        if match is None:
            return leaf
        found = True
        try:
            zone = ZoneInfo(match["zone"])
        except (LookupError, OSError) as error:
            raise ValueError(
                f"the time zone {match['zone']!r} is not known here; install tzdata"
            ) from error
        return msgspec.convert(match["stamp"], datetime).astimezone(zone)

    return _each(data, read), found


def _to_text(leaf: Any) -> Any:
    if not isinstance(leaf, datetime):
        return leaf
    text = msgspec.to_builtins(leaf)
    zone = leaf.tzinfo
    return f"{text}[{zone.key}]" if isinstance(zone, ZoneInfo) and zone.key else text


def _each(data: Any, change: Callable[[Any], Any]) -> Any:
    if data.__class__ is dict:
        items = cast("dict[str, Any]", data).items()
        return {key: _each(part, change) for key, part in items}
    if data.__class__ in (list, tuple, set, frozenset):
        return [_each(part, change) for part in cast("list[Any]", data)]
    return change(data)
