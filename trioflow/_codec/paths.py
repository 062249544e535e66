"""Paths to the bad part of a value, such as ``$.lines[0].quantity``, for messages."""

from __future__ import annotations

import dataclasses
import re
from collections import deque
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any, cast

import msgspec

__all__ = ["at", "locate", "parts_of", "readable"]

# A value that contains itself has no end.
_MAX_DEPTH = 64
_LOCATION = re.compile(r" - at (?:`?key`? in )?`\$(?P<path>[^`]*)`")
_FIELD = re.compile(r"(required field|unknown field) `([^`]*)`")


def readable(text: str) -> str:
    """Return msgspec's message without backticks, the paths of nested decoders joined."""
    paths = [match["path"] for match in _LOCATION.finditer(text)]
    keyed = " in a key" if "`key` in `$" in text else ""
    plain = _FIELD.sub(r"\1 '\2'", _LOCATION.sub("", text)).replace("`", "")
    if plain.endswith("encoded date"):
        plain += "; of a datetime give its .date()"
    return at(plain + keyed, "".join(reversed(paths)))


def at(text: str, path: str) -> str:
    """Return a message that ends in the path, unless that is the whole value."""
    return f"{text} - at ${path}" if path else text


def locate(value: object, bad: Callable[[object], bool]) -> tuple[str, object]:
    """Follow the bad parts of a bad value down to the one whose own parts are all good."""
    path = ""
    for _ in range(_MAX_DEPTH):
        found = next(((step, part) for step, part in parts_of(value) if bad(part)), None)
        if found is None:
            break
        path, value = path + found[0], found[1]
    return path, value


def parts_of(value: Any) -> Iterator[tuple[str, object]]:
    """Yield what a value contains, each with its step of the path."""
    if isinstance(value, dict):
        for key, part in cast("dict[object, object]", value).items():
            plain = isinstance(key, str) and key.isidentifier()
            yield (f".{key}" if plain else f"[{key!r}]"), part
    elif isinstance(value, (list, tuple, AbstractSet, deque)):
        for number, part in enumerate(cast("list[object]", value)):
            yield f"[{number}]", part
    elif isinstance(value, msgspec.Struct):
        for field, name in zip(
            value.__struct_fields__, value.__struct_encode_fields__, strict=True
        ):
            yield f".{name}", getattr(value, field, None)
    elif dataclasses.is_dataclass(value):
        for each in dataclasses.fields(value):
            yield f".{each.name}", getattr(value, each.name, None)
    else:
        for attribute in getattr(value.__class__, "__attrs_attrs__", ()):
            yield f".{attribute.name}", getattr(value, attribute.name, None)
