"""Names what is public after the public module that it is imported from, as trio does."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping

__all__ = ["fixup_module_metadata"]


def fixup_module_metadata(module_name: str, namespace: Mapping[str, object]) -> None:
    """Set ``__module__`` of the public classes and functions that come from private modules.

    Help, tracebacks and pickles then show the name that users import. What comes from a public
    module keeps that one's name; exceptions above all, whose names are stored.

    Args:
        module_name: The public module.
        namespace: Its public objects by name.
    """
    for name, value in namespace.items():
        module = getattr(value, "__module__", None)
        if not isinstance(value, type | types.FunctionType) or "._" not in str(module):
            continue
        assert value.__name__ == name, "it could not be found under its own name, as pickle does"
        if isinstance(value, type):
            _resolve(value)
            for member in vars(value).values():
                if isinstance(member, types.FunctionType):
                    member.__module__ = module_name
        value.__module__ = module_name


def _resolve(cls: type) -> None:
    """Replace a class' annotations in text by what they stand for, while its module says so.

    Whoever resolves them (`typing.get_type_hints`, msgspec, pydantic) looks into the module that
    the class names.
    """
    if own := inspect.get_annotations(cls):
        hints = typing.get_type_hints(cls, include_extras=True)
        cls.__annotations__ = {name: hints[name] for name in own}
