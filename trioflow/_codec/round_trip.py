"""Detection of values that change in a round trip, and of stored parts that would be dropped.

These are comparisons only; the codec decides what to do about a difference.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from itertools import zip_longest
from types import NoneType
from typing import Any, Final, TypeAlias, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from trioflow._codec.documents import LOST_KEYS

__all__ = [
    "Change",
    "ChangedValue",
    "class_name",
    "equal",
    "find_change",
    "find_unknown",
    "find_untyped",
    "is_object",
]

Change: TypeAlias = tuple[str, str]
"""Where a value would come back different, as a path, and in what."""

_EXACT: Final = frozenset({NoneType, bool, int, str, bytes, UUID, date, timedelta})
# Any, so that type checkers do not take what is of one of these for one of unknown content.
_DICT: Final[Any] = dict
_LIST: Final[Any] = list
_LISTS: Final[Any] = (list, tuple, AbstractSet, deque)
_SEQUENCES: Final[Any] = (list, tuple, deque)
_NUMBERS: Final[Any] = (bool, int, float, Decimal, bytes, bytearray, memoryview)
_MISSING: Final = object()


class ChangedValue(ValueError):
    """Raised inside an encoder: a part of the value would come back different."""

    def __init__(self, change: Change) -> None:
        self.path, self.text = change
        super().__init__(self.text)


def class_name(cls: Any) -> str:
    """Return a class's name for messages."""
    name = getattr(cls, "__qualname__", None) or repr(cls)
    module = getattr(cls, "__module__", "builtins")
    return name if module in ("builtins", "typing") else f"{module}.{name}"


def is_object(value: object) -> bool:
    """Return whether a value has fields: a dataclass, a Struct or an attrs object."""
    cls = value.__class__
    return (
        isinstance(value, msgspec.Struct)
        or hasattr(cls, "__dataclass_fields__")
        or hasattr(cls, "__attrs_attrs__")
    )


def find_change(value: Any, back: Any, untyped: Collection[str] = ()) -> Change | None:
    """Return the first part of ``value`` that came back as something else, ``None`` if none did.

    A value is judged by its JSON form: a list may come back as the tuple, and a string as the
    datetime, that is declared; strings of a subclass come back as strings.

    Args:
        value: What was stored.
        back: What it was read as.
        untyped: The fields of ``value`` that are not compared.
    """
    if untyped and value.__class__ is back.__class__:
        return _find_change_of_fields(value, back, untyped)
    return _compare(value, back)


def find_untyped(value: Any, back: Any) -> Change | None:
    """Return the first part of a value without a declared type that came back as something else.

    As `find_change`, but nothing was declared: so a tuple or a set that came back as a list is no
    list that was asked for.
    """
    return _find_list(value, back) or find_change(value, back)


def find_unknown(plain: Any, value: Any) -> Change | None:
    """Return the first part of stored JSON data that the value read from it lacks.

    Classes with a true ``__allow_unknown_fields__``, and pydantic models, judge that themselves.
    """
    if plain.__class__ is dict:
        return _unknown_in_dict(plain, value)
    if plain.__class__ is not list or not plain:
        return None
    if isinstance(value, AbstractSet):
        return _unknown_in_set(plain, cast("AbstractSet[object]", value))
    cls: Any = value.__class__
    if issubclass(cls, msgspec.Struct):
        inside: list[Any] = [getattr(value, name) for name in value.__struct_fields__]
    elif isinstance(value, _SEQUENCES):
        inside = list(value)
    else:
        return None
    if len(plain) > len(inside) and not _allows(value):
        return "", f"the stored value has {len(plain)} parts, {class_name(cls)} fewer"
    return _first(
        (f"[{number}]", find_unknown(part, item))
        for number, (part, item) in enumerate(zip(plain, inside, strict=False))
    )


# --- inside -------------------------------------------------------------------------------------


def _compare(value: Any, back: Any) -> Change | None:  # noqa: C901, PLR0911, PLR0912 - a line for each kind
    cls = value.__class__
    if cls in _EXACT and cls is back.__class__:
        return None if value == back else _other(value, back)
    if isinstance(value, (datetime, time)):
        return _find_change_of_time(value, back)
    if isinstance(value, _DICT):
        return _find_change_of_dict(value, back)
    if isinstance(value, _LISTS):
        return _find_change_of_list(value, back)
    if is_object(value) or _is_model(cls):
        return _find_change_of_object(value, back)
    if isinstance(value, (str, msgspec.Raw)) or value is msgspec.UNSET:
        # What a string was declared to be has been made of it.
        return None if not isinstance(back, str) or value == back else _other(value, back)
    if isinstance(value, Enum) and not isinstance(back, Enum):
        return None if equal(value, back) else _untyped(value, back)
    if isinstance(value, float) and value != value and back != back:  # noqa: PLR0124 - both are nan
        return None
    if isinstance(value, _NUMBERS):
        # Of a number, too, what was declared has been made.
        if (
            isinstance(back, Enum)
            or equal(value, back)
            or (value.__class__ is back.__class__ and str(value) == str(back))
        ):
            return None
        return _other(value, back)
    if not isinstance(back, cls):
        return _untyped(value, back)
    if cls.__eq__ is object.__eq__ or equal(value, back):
        return None
    if hasattr(value, "get_secret_value"):
        return "", (
            f"a {class_name(cls)} is written as asterisks; give the field a serializer that "
            "reveals it (and the store a codec that encrypts), or pass a reference"
        )
    return _other(value, back)


def _first(found: Iterable[tuple[str, Change | None]]) -> Change | None:
    for step, change in found:
        if change is not None:
            return step + change[0], change[1]
    return None


def equal(value: object, back: object) -> bool:
    """Return whether two values are equal; an error in their ``__eq__`` counts as no."""
    try:
        return bool(value == back)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - it is the user's code
        return False


def _short(value: object) -> str:
    try:
        text = repr(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - it is the user's code
        text = f"<{class_name(value.__class__)}>"
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004 - as much as one reads


def _other(value: object, back: object) -> Change:
    different = value.__class__ is not back.__class__ and back is not None
    hint = "; declare its type there" if different else ""
    return "", f"{_short(value)} would come back as {_short(back)}{hint}"


def _untyped(value: object, back: object) -> Change:
    return "", (
        f"a {class_name(value.__class__)} would come back as a {class_name(back.__class__)}; "
        "declare its type there"
    )


def _find_change_of_dict(value: dict[Any, Any], back: Any) -> Change | None:
    if not isinstance(back, _DICT):
        return None  # What was declared has been made of it.
    found = back
    if len(value) != len(found):
        return "", LOST_KEYS.format(len(value), len(found))
    changes: list[tuple[str, Change | None]] = []
    for (key, part), (key_back, part_back) in zip(value.items(), found.items(), strict=True):
        step = f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"
        change = _compare(key, key_back)
        if change is not None:
            return step, f"the key: {change[1]}"
        changes.append((step, _compare(part, found.get(key, part_back))))
    return _first(changes)


def _find_change_of_list(value: Any, back: Any) -> Change | None:
    if hasattr(value, "_fields") and back.__class__ is not value.__class__:
        return _untyped(value, back)
    if not isinstance(back, _LISTS):
        return None  # What was declared has been made of it.
    parts, parts_back = list(value), list(back)
    if len(parts) != len(parts_back):
        return "", f"of {len(parts)} members {len(parts_back)} would come back"
    if isinstance(back, AbstractSet):
        return _find_change_of_set(parts, parts_back)
    return _first(
        (f"[{number}]", _compare(part, part_back))
        for number, (part, part_back) in enumerate(zip(parts, parts_back, strict=True))
    )


def _find_list(value: Any, back: Any) -> Change | None:
    if isinstance(value, _DICT):
        if not isinstance(back, _DICT) or len(value) != len(back):
            return None
        pairs: Iterator[tuple[Any, Any]] = zip(value.items(), back.values(), strict=True)
        return _first(
            (f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]", found)
            for (key, part), part_back in pairs
            if (found := _find_list(part, part_back)) is not None
        )
    if not isinstance(value, _LISTS) or back.__class__ is not list:
        return None
    if not isinstance(value, _LIST):
        return _untyped(value, back)
    return _first(
        (f"[{number}]", _find_list(part, part_back))
        for number, (part, part_back) in enumerate(zip(value, back, strict=False))
    )


def _find_change_of_set(parts: list[Any], parts_back: list[Any]) -> Change | None:
    mine = {each: each for each in parts_back}
    for number, part in enumerate(parts):
        try:
            part_back = mine.get(part, _MISSING)
        except TypeError:  # A list that has become a tuple.
            continue
        if part_back is not _MISSING:
            change = _compare(part, part_back)
        elif isinstance(part, (str, int, float)):
            change = None  # What was declared has been made of it.
        else:
            change = "", f"{_short(part)} would come back as something else"
        if change is not None:
            return f"[{number}]{change[0]}", change[1]
    return None


def _find_change_of_object(value: Any, back: Any) -> Change | None:
    cls = value.__class__
    if back.__class__ is not cls:
        if issubclass(cls, back.__class__):
            return "", (
                f"a {class_name(cls)} would come back as a {class_name(back.__class__)}, which is "
                "declared, without what only the subclass has; declare the subclass, or a union"
            )
        return _untyped(value, back)
    if _is_model(cls):
        return _find_change_of_model(value, back)
    return _find_change_of_fields(value, back)


def _find_change_of_fields(value: Any, back: Any, untyped: Collection[str] = ()) -> Change | None:
    for name, stored in _fields(value.__class__):
        part, part_back = getattr(value, name, None), getattr(back, name, None)
        if part is part_back or stored in untyped:
            continue
        change = _compare(part, part_back)
        if change is not None:
            return f".{stored}{change[0]}", change[1]
    return None


@functools.lru_cache(maxsize=1024)
def _fields(cls: Any) -> tuple[tuple[str, str], ...]:
    """Return the names of an object's attributes, each with the name that it is stored under."""
    if issubclass(cls, msgspec.Struct):
        return tuple(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
    attributes: Any = getattr(cls, "__attrs_attrs__", None) or dataclasses.fields(cls)
    return tuple((each.name, each.name) for each in attributes)


def _find_change_of_model(value: Any, back: Any) -> Change | None:
    """Compare two models of pydantic."""
    named: list[tuple[str, Any, Any]] = [
        (f".{name}", value.__dict__.get(name), back.__dict__.get(name))
        for name in value.__class__.model_fields
    ]
    named += [
        (step, getattr(value, attribute), getattr(back, attribute))
        for attribute, step in (("__pydantic_extra__", ""), ("__pydantic_private__", ""))
        if getattr(value, attribute, None) is not None
    ]
    found = _first((step, _compare(part, part_back)) for step, part, part_back in named)
    if found is None:
        lost = sorted(value.model_fields_set - back.model_fields_set)
        return ("", f"model_fields_set would come back without {lost[0]!r}") if lost else None
    path, text = found
    if text.endswith("as None"):
        text += ", because JSON has no such number; set ser_json_inf_nan='strings' in model_config"
    elif "would come back as" in text:
        text += (
            ": the model does not read what it writes (different aliases for reading and writing, "
            "a private attribute, a serializer, a validator)"
        )
    return path, text


def _find_change_of_time(value: Any, back: Any) -> Change | None:  # noqa: PLR0911 - as above
    if not isinstance(back, (datetime, time)):
        return _untyped(value, back)
    zone, zone_back = value.tzinfo, back.tzinfo
    if zone is zone_back is UTC and value == back:
        return None
    if isinstance(zone, ZoneInfo):
        name = zone.key
        kept = isinstance(zone_back, ZoneInfo) and zone_back.key == name
        if not kept:
            shown = f"ZoneInfo({name!r})" if name else "without a name"
            do = "store the zone's name in a field of its own"
            if name == "UTC":
                do = "use datetime.UTC"
            return "", f"its time zone {shown} would come back as {zone_back!r}; {do}"
        same = value.replace(tzinfo=None) == back.replace(tzinfo=None) and value.fold == back.fold
        return None if same else ("", f"{value} is in a gap of its time zone {name}")
    if value != back:
        why = ": an offset of UTC with seconds" if _has_seconds(value) else ""
        return "", f"{value.isoformat()} would come back as {back.isoformat()}{why}"
    if zone is None:
        return ("", "fold=1 of a time without a time zone would be lost") if value.fold else None
    fixed = isinstance(zone, timezone) or class_name(zone.__class__).startswith("pydantic_core.")
    if fixed or (zone.tzname(None) == "UTC" and not value.utcoffset()):
        return None
    return "", (
        f"its time zone, a {class_name(zone.__class__)}, would come back as the fixed offset "
        f"{zone_back}; use zoneinfo.ZoneInfo"
    )


def _has_seconds(value: Any) -> bool:
    offset = value.utcoffset()
    return offset is not None and offset % timedelta(minutes=1) != timedelta(0)


def _is_model(cls: Any) -> bool:
    # A model can only be met where pydantic was imported, so it never has to be imported here.
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(cls, pydantic.BaseModel.__class__)


def _allows(value: object) -> bool:
    return bool(getattr(value.__class__, "__allow_unknown_fields__", False))


def _known(value: Any) -> dict[str, Any] | None:
    """Return an object's fields by their stored names, ``None`` for what is no such object."""
    if not is_object(value):
        return None
    known = {stored: getattr(value, name, None) for name, stored in _fields(value.__class__)}
    tag = value.__struct_config__.tag_field if isinstance(value, msgspec.Struct) else None
    return known if tag is None else {tag: None, **known}


def _unknown_in_dict(plain: dict[str, Any], value: Any) -> Change | None:
    if isinstance(value, _DICT):
        inside = value
        if len(plain) <= len(inside):
            pairs: Iterator[tuple[Any, Any]] = zip_longest(plain.items(), inside.items())
            return _first(
                (f"[{key!r}]", find_unknown(part, item[1])) for (key, part), item in pairs
            )
        known = {str(key): item for key, item in inside.items()}
        cls: Any = "the declared TypedDict"
    else:
        found = None if _is_model(value.__class__) else _known(value)
        if found is None:
            return None
        known, cls = found, class_name(value.__class__)
    unknown = next((name for name in plain if name not in known), None)
    if unknown is not None and not _allows(value):
        return "", (
            f"the stored field {unknown!r} is no field of {cls} (any more); keep a renamed or "
            "removed field until nothing stored has it"
        )
    return _first(
        (f".{name}", find_unknown(part, known[name]))
        for name, part in plain.items()
        if name in known
    )


def _unknown_in_set(plain: list[Any], value: AbstractSet[object]) -> Change | None:
    known: set[str] = set()
    for each in value:
        known.update(_known(each) or ())
    for number, part in enumerate(plain):
        unknown = [name for name in part if name not in known] if part.__class__ is dict else []
        if known and unknown:
            return f"[{number}]", f"the stored field {unknown[0]!r} is no field there (any more)"
    return None
