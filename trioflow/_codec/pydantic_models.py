"""Pydantic models as JSON documents. Pydantic is not imported here."""

from __future__ import annotations

import sys
from typing import Any, Literal, cast, get_origin

import msgspec

from trioflow._codec.round_trip import ChangedValue, find_change

__all__ = ["is_model", "read_model", "write_model"]


def is_model(cls: Any) -> bool:
    """Tell whether a class is a model of pydantic."""
    # A model can only be met where pydantic was imported, so it never has to be imported here.
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(cls, pydantic.BaseModel.__class__)


def write_model(model: Any) -> bytes:
    """Return a model as a document that it reads as itself.

    Raises:
        ChangedValue: It would read it as something else, or not at all.
    """
    # Aliases and `round_trip` make the document one that the model itself accepts; what was left
    # to its default stays so, for `model_fields_set`.
    left_out = _left_to_default(model) or None
    data: bytes = model.model_dump_json(
        by_alias=True, round_trip=True, exclude=left_out, warnings=False
    ).encode()
    try:
        msgspec.json.decode(data)
        back = model.__class__.model_validate_json(data)
    except ValueError as error:  # also of msgspec, if pydantic wrote NaN
        text = f"the model does not accept what it writes: {_text(error)}"
        raise ChangedValue(("", text)) from error
    change = find_change(model, back)
    if change is not None:
        raise ChangedValue(change)
    return data


def read_model(cls: Any, data: Any) -> Any:
    """Return the model that JSON data holds.

    Raises:
        ValueError: The model refuses it; the message ends in the path as msgspec's do.
    """
    try:
        # Strict models take a JSON string for a datetime only when they read JSON.
        return cls.model_validate_json(msgspec.json.encode(data))
    except ValueError as error:
        raise ValueError(_text(error)) from error


def _left_to_default(value: Any) -> dict[Any, Any]:
    """Return the parts left to their defaults, in the form of pydantic's ``exclude``."""
    parts: dict[Any, Any] = {}
    if is_model(value.__class__):
        for name, field in value.__class__.model_fields.items():
            part = value.__dict__.get(name)
            if name not in value.model_fields_set and _is_default(field, part):
                parts[name] = True
            elif inner := _left_to_default(part):
                parts[name] = inner
    elif isinstance(value, (list, tuple, dict)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # of any content
        for key, part in cast("Any", pairs):
            if inner := _left_to_default(part):
                parts[key] = inner
    return parts


def _is_default(field: Any, part: Any) -> bool:
    # What a factory made may differ next time, and a Literal may be what tells members of a union
    # apart: both are always written.
    if field.default_factory is not None or get_origin(field.annotation) is Literal:
        return False
    return part.__class__ is field.default.__class__ and bool(part == field.default)


def _text(error: Any) -> str:
    if not hasattr(error, "errors"):
        return str(error)
    first, *others = error.errors(include_url=False)
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"])
    more = f" (and {len(others)} more)" if others else ""
    return f"{first['msg']}{more}" + (f" - at `${path}`" if path else "")
