"""Facts about a declared type that decide how its values are checked."""

from __future__ import annotations

from typing import Any, NamedTuple, get_origin

from msgspec import inspect

from trioflow._codec.pydantic_models import is_model

__all__ = ["TypeFacts", "facts_of_type"]

_OBJECTS = (inspect.DataclassType, inspect.TypedDictType, inspect.NamedTupleType)


class TypeFacts(NamedTuple):
    """The facts about one type.

    Attributes:
        unknown: The first class in it that only a hook could build, or ``None``.
        exact: A value that equals what came back is what it was.
        has_datetimes: There may be a datetime in it.
        has_models: There may be a model of pydantic in it.
        drops_unknown: msgspec drops fields of stored values that it does not have.
        plain: Reading it takes no more than msgspec: no datetime, and nothing is dropped.
    """

    unknown: Any
    exact: bool
    has_datetimes: bool
    has_models: bool
    drops_unknown: bool
    plain: bool


def facts_of_type(type: Any) -> TypeFacts:
    """Collect the facts about a type and all types in it."""
    unknown: Any = None
    exact, has_datetimes, has_models, drops_unknown = True, False, False, False
    for node in _nodes(inspect.type_info(type)):
        if isinstance(node, inspect.CustomType):
            exact = False
            has_models = has_models or is_model(node.cls)
            if unknown is None and node.cls is not object and not is_model(node.cls):
                unknown = node.cls
        elif isinstance(node, inspect.DateTimeType):
            exact, has_datetimes = False, True
        elif isinstance(node, (inspect.AnyType, inspect.TimeType, inspect.RawType)):
            exact = False
        elif isinstance(node, _OBJECTS):
            drops_unknown = True
            # msgspec leaves private attributes of attrs out.
            exact = exact and not any(each.name[:1] == "_" for each in node.fields)
        elif isinstance(node, inspect.StructType):
            cls: Any = get_origin(node.cls) or node.cls
            config = cls.__struct_config__
            drops_unknown = drops_unknown or not config.forbid_unknown_fields
        elif isinstance(node, inspect.DictType):
            exact = exact and not isinstance(node.key_type, inspect.UnionType)
    plain = not (has_datetimes or drops_unknown)
    return TypeFacts(unknown, exact, has_datetimes, has_models, drops_unknown, plain)


def _nodes(info: Any) -> list[Any]:
    """Return a described type and all types in it, each once."""
    nodes: list[Any] = []
    seen: set[int] = set()
    queue: list[Any] = [info]
    while queue:
        node = queue.pop(0)
        if node.__class__ is tuple:
            queue.extend(node)
        elif isinstance(node, inspect.Field):
            queue.append(node.type)
        elif isinstance(node, inspect.Type) and id(node) not in seen:
            seen.add(id(node))
            nodes.append(node)
            queue.extend(getattr(node, name) for name in node.__struct_fields__)
    return nodes
