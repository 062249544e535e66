"""Tagged JSON for small values without an annotation, such as an exception's arguments.

Nothing is imported to read it back, and no class but those named here and imported enums is used.
"""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final, cast
from uuid import UUID

import msgspec

from trioflow._codec.names import imported, qualified

__all__ = ["fits", "from_plain", "small", "to_plain"]

_MAX_DEPTH: Final = 16
_SCALARS: Final[dict[str, Any]] = {
    "bytes": bytes,
    "date": date,
    "datetime": datetime,
    "decimal": Decimal,
    "time": time,
    "timedelta": timedelta,
    "uuid": UUID,
}
_TAGS: Final = {cls: tag for tag, cls in _SCALARS.items()}
_COLLECTIONS: Final[dict[str, Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}


def to_plain(value: Any, depth: int = 0) -> Any:  # noqa: C901, PLR0911 - a line for each type
    """Return ``value`` as JSON data, other types as ``{"$type": data}``.

    Raises:
        Exception: Of any kind: it is not plain data.
    """
    cls = value.__class__
    if value is None or cls is bool or cls is int:
        return value
    if cls is str:
        value.encode()  # refuses lone surrogates, which cannot be stored
        return value
    if cls is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if cls is list:
        return [to_plain(each, depth + 1) for each in value]
    if cls is dict:
        if all(key.__class__ is str and key[:1] != "$" for key in value):
            return {to_plain(key): to_plain(each, depth + 1) for key, each in value.items()}
        return {"$dict": to_plain([list(item) for item in value.items()], depth + 1)}
    if tag := _TAGS.get(cls):
        return {f"${tag}": msgspec.to_builtins(value)}
    if cls in (tuple, set, frozenset):
        return {f"${cls.__name__}": [to_plain(each, depth + 1) for each in value]}
    if isinstance(value, Enum):
        return {"$enum": [qualified(cls), value.name]}
    base: Any  # the constructors have nothing in common but this use
    for base in (str, int, float):
        if isinstance(value, base):
            return to_plain(base.__new__(base, value))
    raise TypeError(f"{cls} is not plain data")


def from_plain(data: Any) -> Any:  # noqa: PLR0911 - a line for each type
    """Return the value that :func:`to_plain` was given.

    Raises:
        Exception: Of any kind: it is not what :func:`to_plain` returns, or it needs an enum that
            is not imported here.
    """
    if data.__class__ is list:
        return [from_plain(each) for each in data]
    if not isinstance(data, dict):
        return data
    items = cast("dict[str, Any]", data)
    if len(items) != 1 or not (tag := next(iter(items))).startswith("$"):
        return {key: from_plain(each) for key, each in items.items()}
    content, tag = items[tag], tag[1:]
    if tag in _SCALARS:
        return msgspec.convert(content, _SCALARS[tag])
    if tag in _COLLECTIONS:
        return _COLLECTIONS[tag](from_plain(content))
    if tag == "dict":
        return dict(from_plain(content))
    if tag == "float":
        return float(content)
    enum = imported(content[0])
    if tag != "enum" or not (isinstance(enum, type) and issubclass(enum, Enum)):
        raise ValueError(f"unknown plain data {tag!r}")
    return enum[content[1]]


def fits(data: Any, limit: int) -> bool:
    """Tell whether JSON data takes at most ``limit`` bytes."""
    return len(msgspec.json.encode(data)) <= limit


def small(data: Any, limit: int) -> Any:
    """Return JSON data that takes at most ``limit`` bytes; raise ``ValueError`` otherwise."""
    if not fits(data, limit):
        raise ValueError("over the limit")
    return data
