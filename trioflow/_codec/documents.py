"""Checks of one JSON document, whatever codec wrote it: its nesting, and its keys."""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Any, Final

import msgspec

from trioflow._codec.limits import VALUE_LEVELS

__all__ = ["LOST_KEYS", "NESTED_TOO_DEEPLY", "find_lost_keys", "is_too_deep"]

NESTED_TOO_DEEPLY: Final = f"it is nested more than {VALUE_LEVELS} levels deep, the limit"

LOST_KEYS: Final = (
    "of {} keys {} would come back, because JSON writes keys as text and some are alike; use keys "
    "of one type"
)

_STEPS: Final = bytes.maketrans(b"[{]}", b"\1\1\xff\xff")  # 1 and -1, read as signed
_OTHERS: Final = bytes(each for each in range(256) if each not in b'[]{}"')
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class _Object(list[tuple[str, Any]]):
    """A JSON object with all its keys, those that occur twice included."""

    __slots__ = ()


def is_too_deep(document: bytes, levels: int = VALUE_LEVELS) -> bool:
    """Tell whether arrays and objects are nested on more than so many levels in a document.

    It is done by few calls of C for the whole, since each value is checked.
    """
    if document.count(b"[") + document.count(b"{") <= levels:
        return False
    if b"\\" in document:
        document = document.replace(rb"\\", b"").replace(rb"\"", b"")
    rest = document.translate(_STEPS, _OTHERS).replace(b'""', b"")
    brackets = b"".join(rest.split(b'"')[::2])  # those in strings are left out
    return max(accumulate(memoryview(brackets).cast("b")), default=0) > levels


def find_lost_keys(document: bytes) -> tuple[str, str] | None:
    """Return the first object of a document in which a key occurs twice: its path, and a text."""
    if _encode(_decode(document)) == document:
        return None
    return _find(json.loads(document, object_pairs_hook=_Object))


def _find(node: Any) -> tuple[str, str] | None:
    if node.__class__ is _Object:
        keys = len({key for key, _ in node})
        if keys != len(node):
            return "", LOST_KEYS.format(len(node), keys)
        steps = [(f".{key}" if key.isidentifier() else f"[{key!r}]", part) for key, part in node]
    elif node.__class__ is list:
        steps = [(f"[{number}]", part) for number, part in enumerate(node)]
    else:
        return None
    for step, part in steps:
        if (found := _find(part)) is not None:
            return step + found[0], found[1]
    return None
