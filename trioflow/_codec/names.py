"""Names under which classes are stored, and lookup of classes by such names.

A program that is started as a script calls its own module ``__main__``; everybody else knows it
by its name. What is stored has that name, so that both find it. Nothing is ever imported here.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any, Final

__all__ = ["canonical", "imported", "qualified"]

# The second is what multiprocessing calls the parent's __main__ in a child.
_MAIN: Final = ("__main__", "__mp_main__")


def qualified(cls: type[Any]) -> str:
    """Return a class's stored name: ``"shop.CardExpired"``, and of a builtin ``"ValueError"``."""
    module = cls.__module__
    if module == "builtins":
        return cls.__qualname__
    return f"{_main_name() if module in _MAIN else module}.{cls.__qualname__}"


def canonical(name: str) -> str:
    """Return a stored or given name with the main module's own name for ``__main__``."""
    module, dot, rest = name.partition(".")
    return f"{_main_name()}.{rest}" if dot and module in _MAIN else name


def imported(name: str) -> object | None:
    """Return the class of that name if its module is imported; nothing is run to find it."""
    parts = name.split(".")
    if len(parts) == 1:
        parts = ["builtins", name]
    main = _main_name().split(".")
    if parts[: len(main)] == main and len(parts) > len(main):
        # What runs is the script; a module of the same file that was imported beside it is not.
        found = _class_in(sys.modules.get("__main__"), parts[len(main) :])
        if found is not None:
            return found
    for end in range(len(parts) - 1, 0, -1):
        found = _class_in(sys.modules.get(".".join(parts[:end])), parts[end:])
        if found is not None:
            return found
    return None


def _class_in(found: object, path: list[str]) -> object | None:
    for part in path:
        try:
            # Not getattr(): a lazy module would be executed by it, or import others.
            found = object.__getattribute__(found, "__dict__").get(part)
        except AttributeError:
            return None
    return found if isinstance(found, type) else None


def _main_name() -> str:
    names = getattr(sys.modules.get("__main__"), "__dict__", {})
    # With `python -m` the module has a spec, whose name is the one that others import.
    name = getattr(names.get("__spec__"), "name", None)
    if isinstance(name, str) and name not in _MAIN:
        return name
    file = names.get("__file__")
    return _name_of_file(file) if isinstance(file, str) else "__main__"


@functools.lru_cache(maxsize=8)
def _name_of_file(file: str) -> str:
    path = Path(file)
    parts = [path.stem]
    folder = path.resolve().parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts)
