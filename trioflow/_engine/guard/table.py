"""The lookup of callables, code and audit events among the checks.

It imports none of the modules that the checks name.
"""

from __future__ import annotations

import functools
import os
import random
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    CodeType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
)
from typing import NamedTuple, cast

from trioflow._engine.guard.checks import CHECKS, Check

_PRIVATE_MODULES = re.compile(r"\.futures\.(?:_base|thread|process)\.")

__all__ = ["MISSING", "TABLE", "Hit", "Table", "slot"]

#: Stands for "no first argument", as ``sys.monitoring.MISSING`` does where that exists.
MISSING: object = getattr(getattr(sys, "monitoring", None), "MISSING", object())


class Hit(NamedTuple):
    """A callable found in the table: its check, and the public dotted name to show."""

    check: Check
    call: str


def slot(cls: type, name: str) -> object:
    """Return what a class or its bases hold under a name, unbound; MISSING when nothing."""
    for base in cls.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return MISSING


class Table:
    """Finds callables among checks, by identity: no user code runs and nothing need be hashable.

    A check's module is never imported; its callables are looked up once the program has it.
    """

    def __init__(self, checks: Iterable[Check]) -> None:
        self.named: dict[str, Hit] = {}
        self._exact: dict[int, Hit] = {}
        # ids stay true only as long as their objects live
        self._kept: list[object] = []
        self._codes: dict[int, Hit | None] = {}
        self._builtin_names: set[str] = set()
        self._pending: dict[str, list[tuple[str, Hit]]] = {}
        self._events: dict[str, Check] = {}
        self._modules_seen = 0
        # a finalizer may call what is watched while this thread holds it
        self._lock = threading.RLock()
        for check in checks:
            for call in check.calls:
                module, _, name = call.partition(":")
                public = name if module == "builtins" else f"{module}.{name}"
                hit = Hit(check, _PRIVATE_MODULES.sub(".futures.", public))
                self.named.setdefault(public, hit)
                self._pending.setdefault(module, []).append((name, hit))
            for event in check.events:
                self._events.setdefault(event, check)
        self._hidden: object = getattr(random.random, "__self__", MISSING)
        self._hidden_hit = self.named.get("random.random")
        self._system_hit = self.named.get("random.SystemRandom")
        self._random_methods = {
            id(member)
            for cls in (random.Random, random.SystemRandom, *random.Random.__mro__[1:-1])
            for member in vars(cls).values()
            if isinstance(member, FunctionType | MethodDescriptorType)
        }
        self.refresh()

    def refresh(self) -> None:
        """Look up the callables of modules that were imported since the last time. Cheap."""
        with self._lock:
            self._modules_seen = len(sys.modules)
            for name in [name for name in self._pending if name in sys.modules]:
                module = sys.modules[name]
                if getattr(getattr(module, "__spec__", None), "_initializing", False):
                    self._modules_seen = -1
                    continue
                for qualname, hit in self._pending.pop(name, ()):
                    self._register(module, qualname, hit)

    def _register(self, module: ModuleType, qualname: str, hit: Hit) -> None:
        found: object = module
        for part in qualname.split("."):
            if isinstance(found, type):
                found = slot(found, part)
            elif isinstance(found, ModuleType):
                # anyio gets its names only when they are asked for; another that does so could
                # import anything then
                lazy = found.__name__ == "anyio"
                found = getattr(found, part, MISSING) if lazy else vars(found).get(part, MISSING)
            else:
                return
        if found is MISSING:
            return
        items: list[object] = [found]
        if found is os.environ:
            # Every read of it, a subscript too, calls one of these (see `guard_monitor`).
            items += [os.environ.encodekey, os.environ.decodekey]
        behind: object = getattr(found, "__func__", None)
        if isinstance(found, classmethod | staticmethod):
            # not of a bound method: another object's may have the same function
            items.append(behind)
        for item in items:
            self._exact.setdefault(id(item), hit)
            self._kept.append(item)
            if isinstance(item, MethodDescriptorType | ClassMethodDescriptorType):
                self._builtin_names.add(item.__name__)
            if isinstance(item, FunctionType):
                # wrappers made by one decorator share their code, which then names none of them
                shared = self._codes.get(id(item.__code__), hit) != hit
                self._codes[id(item.__code__)] = None if shared else hit

    def find(self, fn: object, arg0: object = MISSING) -> Hit | None:  # noqa: PLR0911 - one per kind
        """Return the check that names a callable, or ``None``.

        Args:
            fn: Any callable: function, class, bound or unbound method, partial.
            arg0: Its first argument (``self`` for a method called as such), if known.
        """
        if len(sys.modules) != self._modules_seen:
            self.refresh()
        key = id(fn)
        hit = self._exact.get(key)
        if hit is not None:
            return hit
        kind = type(fn)
        if kind is FunctionType or kind is MethodDescriptorType:
            return self._of_generator(key, arg0) if key in self._random_methods else None
        if kind is BuiltinFunctionType:
            return self._of_builtin(cast("BuiltinFunctionType", fn))
        if kind is MethodType:
            method = cast("MethodType", fn)
            return self.find(method.__func__, method.__self__)
        # issubclass, as isinstance would ask an object that is none for its __class__
        if issubclass(kind, type):
            return self._of_class(cast("type", fn))
        if issubclass(kind, functools.partial):
            return self._of_partial(cast("functools.partial[object]", fn), arg0)
        return None

    def depends_on_owner(self, fn: object) -> bool:
        """Return whether :meth:`find` may give another result for another first argument."""
        return id(fn) in self._random_methods

    def _of_generator(self, key: int, owner: object) -> Hit | None:
        if owner is self._hidden:
            return self._hidden_hit
        return self._system_hit if isinstance(owner, random.SystemRandom) else None

    def _of_builtin(self, fn: BuiltinFunctionType) -> Hit | None:
        name, owner = fn.__name__, fn.__self__
        if owner is self._hidden:
            return self._hidden_hit
        if name not in self._builtin_names or owner is None or isinstance(owner, ModuleType):
            return None
        if not isinstance(owner, type):
            return self._exact.get(id(slot(type(owner), name)))
        hit = self._exact.get(id(slot(owner, name)))
        return hit and Hit(hit.check, f"{owner.__module__}.{owner.__qualname__}.{name}")

    def _of_class(self, cls: type) -> Hit | None:
        for base in cls.__mro__[:-1]:
            hit = self._exact.get(id(base))
            if hit is not None:
                return hit
            if "__init__" in base.__dict__ or "__new__" in base.__dict__:
                # it decides itself what it passes on, and its own code is looked at
                return None
        return None

    def _of_partial(self, fn: functools.partial[object], arg0: object) -> Hit | None:
        hit = self.find(fn.func, fn.args[0] if fn.args else arg0)
        if hit is not None and hit.check.fine_with and len(fn.args) >= hit.check.fine_with:
            return None
        return hit

    def find_code(self, code: CodeType) -> Hit | None:
        """Return the check that names the Python function this code belongs to, or ``None``."""
        if len(sys.modules) != self._modules_seen:
            self.refresh()
        return self._codes.get(id(code))

    def find_event(self, event: str) -> Check | None:
        """Return the check that names an audit event, or ``None``."""
        for pattern in _patterns(event):
            check = self._events.get(pattern)
            if check is not None:
                return check
        return None


def _patterns(event: str) -> Iterator[str]:
    yield event
    parts = event.split(".")
    for count in range(len(parts), 0, -1):
        yield ".".join(parts[:count]) + ("*" if count == len(parts) else ".*")


TABLE = Table(CHECKS)
