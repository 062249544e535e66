"""The monitor (Python 3.12+): checks calls in workflows, and in user code that they call.

It listens to CALL events of ``sys.monitoring`` on their code objects.
"""

from __future__ import annotations

import dis
import functools
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import cast

from trioflow._engine.guard.files import add_user_root, is_trioflow_file, is_user_file
from trioflow._engine.guard.step import make_error, place_of_caller, stepping
from trioflow._engine.guard.table import MISSING, TABLE, Hit

__all__ = ["AVAILABLE", "follow", "unwrap", "watch"]

#: Whether this Python can watch calls at all.
AVAILABLE = sys.version_info >= (3, 12)

_logger = logging.getLogger(__name__)


def unwrap(fn: object, *, everything: bool = False) -> Iterator[FunctionType]:
    """Yield the Python functions a callable stands for: behind methods, partials and wrappers.

    Args:
        fn: Any object.
        everything: Also look behind objects that say ``__wrapped__`` but are no functions, and
            behind trioflow's own. False for what a workflow names: behind an activity is code
            that does not run in the workflow.
    """
    seen: set[int] = set()
    while id(fn) not in seen:
        seen.add(id(fn))
        behind: object = MISSING
        if isinstance(fn, FunctionType):
            yield fn
            if everything or not is_trioflow_file(fn.__code__.co_filename):
                behind = fn.__dict__.get("__wrapped__", MISSING)
        elif isinstance(fn, MethodType | classmethod | staticmethod):
            behind = cast("object", fn.__func__)
        elif isinstance(fn, functools.partial):
            behind = cast("functools.partial[object]", fn).func
        elif everything or type(fn) is _CACHE_WRAPPER:
            behind = getattr(fn, "__wrapped__", MISSING)
        if behind is MISSING:
            return
        fn = behind


_CACHE_WRAPPER = type(functools.lru_cache(len))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _named_by(function: FunctionType) -> Iterator[object]:
    """Yield what a function's code names and may thus call, or hand to a nursery that calls it."""
    names = {name for code in _codes(function.__code__) for name in code.co_names}
    for cell in function.__closure__ or ():
        try:
            yield cast("object", cell.cell_contents)
        except ValueError:
            continue
    namespace = cast("dict[str, object]", function.__globals__)
    for name in names & namespace.keys():
        found = namespace[name]
        yield found
        if isinstance(found, ModuleType) and is_user_file(getattr(found, "__file__", None) or "<"):
            for member in names & vars(found).keys():
                yield vars(found)[member]


if sys.version_info >= (3, 12):
    _monitoring = sys.monitoring
    _CALL = _monitoring.events.CALL
    # 0, 1, 2 belong to debuggers, coverage and profilers, 5 to optimizers; Hypothesis takes 3.
    _CANDIDATES = (4, 5, 3)

    _lock = threading.RLock()
    _tool: int | None = None
    _refused = False
    _modules_seen = 0
    # Callables that need no second look: such as live for good, and such as may go away. Only
    # those of a type that cannot have a __hash__ of the user's.
    _LASTING = frozenset({BuiltinFunctionType, MethodDescriptorType})
    _constant: set[object] = set()
    _weakly: set[type] = {FunctionType}
    _passing: set[weakref.ref[object]] = set()
    _BUILTIN = frozenset({BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType})
    # What a library's function of these checks calls is stopped, too, where no watched code calls
    # the function itself.
    _INNER = frozenset({"TF104"})
    _FOLLOWED = (type, FunctionType, MethodType, functools.partial, _CACHE_WRAPPER)

    def _acquire() -> int | None:
        """Take a free tool id once; afterwards return it, or ``None`` when none was free."""
        global _tool, _refused  # noqa: PLW0603 - a tool id belongs to the process
        with _lock:
            if _tool is not None or _refused:
                return _tool
            for candidate in _CANDIDATES:
                if _monitoring.get_tool(candidate) is not None:
                    continue
                try:
                    _monitoring.use_tool_id(candidate, "trioflow")
                except ValueError:
                    continue
                _monitoring.register_callback(candidate, _CALL, _on_call)
                for method in (type(os.environ).__getitem__, type(os.environ).__iter__):
                    _monitoring.set_local_events(candidate, method.__code__, _CALL)
                _tool = candidate
                return _tool
            _refused = True
            _logger.warning(
                "No free sys.monitoring tool id (tried %s): calls that workflows cannot repeat are "
                "not stopped as they happen; the source of workflows is checked instead.",
                ", ".join(map(str, _CANDIDATES)),
            )
            return None

    def watch(fn: Callable[..., object]) -> bool:
        """Watch the calls of a workflow function. Cheap when it is watched already.

        Returns:
            False when calls cannot be watched in this process.
        """
        global _modules_seen  # noqa: PLW0603 - shared by all threads, as sys.modules is
        tool = _acquire()
        if tool is None:
            return False
        TABLE.refresh()
        for function in unwrap(fn, everything=True):
            if is_trioflow_file(function.__code__.co_filename):
                continue
            if add_user_root(function.__code__.co_filename):
                # what was a library's before may be the user's now
                _modules_seen = -1
        for function in unwrap(fn, everything=True):
            # a wrapper of a library's is not the user's, but the innermost function always is
            if is_user_file(function.__code__.co_filename) or "__wrapped__" not in vars(function):
                _watch_function(tool, function)
        return True

    def _watch_function(tool: int, function: FunctionType) -> None:
        waiting = [function]
        while waiting:
            function = waiting.pop()
            if _monitoring.get_local_events(tool, function.__code__):
                continue
            for code in _codes(function.__code__):
                _monitoring.set_local_events(tool, code, _CALL)
            for named in _named_by(function):
                waiting.extend(_user_functions(named))

    def _user_functions(found: object) -> Iterator[FunctionType]:
        """Yield the user's functions behind an object; for a class, those of its methods."""
        if issubclass(type(found), type):
            for member in _class_members(cast("type", found)):
                yield from _user_functions(member)
            return
        for function in unwrap(found):
            named = TABLE.find_code(function.__code__)
            if is_user_file(function.__code__.co_filename) or (
                named and named.check.code in _INNER
            ):
                yield function

    def _class_members(cls: type) -> Iterator[object]:
        """Yield the functions that make up a class, the first time that it is seen."""
        if _is_quiet(cls):
            return
        _remember(cls)
        fields = getattr(cls, "__pydantic_fields__", None)
        if isinstance(fields, dict):
            # pydantic's core, which nobody can watch, calls them.
            for field in cast("dict[str, object]", fields).values():
                yield getattr(field, "default_factory", None)
        for base in cls.__mro__[:-1]:
            for member in tuple(vars(base).values()):
                if isinstance(member, property):
                    yield from (member.fget, member.fset, member.fdel)
                elif isinstance(member, functools.cached_property):
                    yield cast("functools.cached_property[object]", member).func
                elif not isinstance(member, type):
                    yield member

    def _is_quiet(fn: object) -> bool:
        """Return whether a callable was checked before and is harmless."""
        kind = type(fn)
        if kind in _LASTING:
            return fn in _constant
        return kind in _weakly and weakref.ref(fn) in _passing

    def _remember(fn: object) -> None:
        """Note that a callable is harmless, without keeping it alive."""
        kind = type(fn)
        if kind is BuiltinFunctionType:
            if isinstance(cast("BuiltinFunctionType", fn).__self__, ModuleType):
                _constant.add(fn)
        elif kind is MethodDescriptorType:
            _constant.add(fn)
        elif kind is FunctionType or (
            issubclass(kind, type) and kind.__hash__ is type.__hash__ and kind.__eq__ is type.__eq__
        ):
            _weakly.add(kind)
            _passing.add(weakref.ref(fn, _passing.discard))

    def _on_call(code: CodeType, offset: int, fn: object, arg0: object) -> None:
        """Check one call of watched code. An error is raised at the line of the call.

        ``id()`` and reading ``__code__`` are audit events, each a call of every hook: what was
        judged before is found without them. A site is never disabled, because another callable
        may be called there next time.
        """
        global _modules_seen  # noqa: PLW0603 - shared by all threads, as sys.modules is
        if not stepping.active:
            return
        if len(sys.modules) != _modules_seen:
            # a check may name by now what was of no interest before
            _modules_seen = len(sys.modules)
            _constant.clear()
            _passing.clear()
        if not _is_quiet(fn):
            hit = TABLE.find(fn, arg0)
            if hit is None:
                follow(fn)
                if not TABLE.depends_on_owner(fn):
                    _remember(fn)
            elif hit.check.since <= stepping.rules and not _is_fine(hit, code, offset, arg0):
                place = place_of_caller()
                if place is not None:
                    # A library's function that a check names says more than what it calls itself.
                    raise make_error(place.hit or hit, place)
        if type(arg0) is FunctionType and not _is_quiet(arg0):
            # map(helper, ...), sorted(..., key) and decorators call it from code not watched
            follow(arg0)

    def follow(fn: object) -> None:
        """Watch the user's functions behind a callable, if there is a monitor."""
        kind = type(fn)
        if _tool is None or kind in _BUILTIN:
            return
        if not issubclass(kind, _FOLLOWED):
            fn = kind
        for function in _user_functions(fn):
            _watch_function(_tool, function)

    def _is_fine(hit: Hit, code: CodeType, offset: int, arg0: object) -> bool:
        """Return whether the call can be repeated with these arguments."""
        needed = hit.check.fine_with
        if not needed:
            return False
        if needed == 1:
            return arg0 is not MISSING and arg0 is not None
        count = _argument_count(code, offset)
        return count is None or count >= needed

    def _argument_count(code: CodeType, offset: int) -> int | None:
        """Return the number of arguments by the bytecode; ``None`` for ``f(*args)``."""
        plain = code.co_code
        name = dis.opname[plain[offset]]
        return plain[offset + 1] if name in {"CALL", "CALL_KW"} else None

else:

    def watch(fn: Callable[..., object]) -> bool:
        """Do nothing: calls cannot be watched before Python 3.12. Returns False."""
        del fn
        return False

    def follow(fn: object) -> None:
        """Do nothing: calls cannot be watched before Python 3.12."""
        del fn
