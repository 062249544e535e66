"""What a module's top level holds that instances share: state that changes, and primitives."""

from __future__ import annotations

import ast
import collections
import itertools
import random
import weakref
from collections.abc import Iterator

import anyio
import trio

from trioflow._engine.guard.names import Here, InstanceOf, Known
from trioflow._engine.guard.scopes import Function
from trioflow._lint.module import Definition, Module, Names

__all__ = ["ModuleState", "changed_name"]

_PRIMITIVES: frozenset[object] = frozenset(
    {
        *(trio.Event, trio.Lock, trio.StrictFIFOLock, trio.Semaphore, trio.CapacityLimiter),
        *(trio.Condition, trio.lowlevel.ParkingLot, trio.open_memory_channel, trio.CancelScope),
        *(anyio.Event, anyio.Lock, anyio.Condition, anyio.Semaphore, anyio.CapacityLimiter),
        *(anyio.create_memory_object_stream, anyio.CancelScope, anyio.Future),
    }
)
_CONTAINERS: tuple[type, ...] = (
    *(list, dict, set, bytearray, collections.deque, collections.OrderedDict),
    *(collections.defaultdict, collections.Counter, collections.ChainMap),
    *(weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet),
)
_ITERATORS: tuple[type, ...] = (
    *(itertools.count, itertools.cycle, itertools.repeat, itertools.chain, itertools.islice),
    *(map, filter, zip, enumerate, reversed),
)
_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
_CHANGING = frozenset(
    {
        *("add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert"),
        *("move_to_end", "pop", "popitem", "popleft", "remove", "reverse", "rotate", "setdefault"),
        *("sort", "subtract", "update", "intersection_update", "difference_update"),
        *("symmetric_difference_update", "__setitem__", "__delitem__"),
    }
)


class ModuleState:
    """The names of a module's top level that instances share.

    Attributes:
        primitives: Names of events, locks and so on, or of what holds some, and what they are.
        asyncio: Names of what asyncio makes, and what that is.
        containers: Names of lists, dicts and so on.
        used_up: Names of iterators and random generators: each use changes what the next gives.
        changed: Names that code changes after the import, and the function that does.
    """

    def __init__(self, module: Module) -> None:
        self._module = module
        self.primitives: dict[str, str] = {}
        self.used_up: dict[str, str] = {}
        self.asyncio: dict[str, str] = {}
        self.containers: set[str] = set()
        for name, value in _assigned(module.tree):
            self._add(name, value)
        self.changed: dict[str, str] = {}
        for name, function in self._changes():
            self.changed.setdefault(name, function)

    def _add(self, name: str, value: ast.expr) -> None:
        names = self._module.names
        for node in ast.walk(value):
            primitive = primitive_in(names, node)
            if primitive is not None:
                self.primitives.setdefault(name, primitive)
        if isinstance(value, _DISPLAYS):
            self.containers.add(name)
        elif isinstance(value, ast.GeneratorExp):
            self.used_up[name] = "a generator"
        elif isinstance(value, ast.Call):
            self._add_made(name, value)

    def _add_made(self, name: str, value: ast.Call) -> None:
        names = self._module.names
        called = names.dotted(value.func) or ""
        made = names.resolve(value)
        if called.startswith("asyncio."):
            self.asyncio[name] = called
        elif names.is_builtin(value.func, iter):
            self.used_up[name] = "an iterator"
        elif isinstance(made, InstanceOf) and made.cls in _CONTAINERS:
            self.containers.add(name)
        elif isinstance(made, InstanceOf) and made.cls in _ITERATORS:
            self.used_up[name] = "an iterator"
        elif isinstance(made, InstanceOf) and made.cls is random.Random:
            self.used_up[name] = "a random generator"

    def _changes(self) -> Iterator[tuple[str, str]]:
        """Yield the names that functions change which run after the import, and the function."""
        module = self._module
        collectors: dict[ast.AST, _Collector] = {}
        for function in module.functions:
            if function not in collectors:
                collector = _Collector(module, self)
                collector.walk(function)
                collectors[function] = collector
        # A plain function that nothing async calls may fill a table while modules are imported.
        waiting: list[ast.AST] = [
            function
            for function in module.functions
            if isinstance(function, ast.AsyncFunctionDef) or function in module.kinds
        ]
        seen = set(waiting)
        for each in waiting:
            collector = collectors[each]
            for name in collector.changes:
                yield name, getattr(each, "name", "")
            new = collector.called - seen
            seen |= new
            waiting += sorted(new, key=lambda node: getattr(node, "lineno", 0))


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that a module binds at its top level, and what to."""
    waiting: list[ast.AST] = [*tree.body]
    for node in waiting:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Lambda():
                continue
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    for each in ast.walk(target):
                        if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load):
                            yield each.id, value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value
            case _:
                waiting += ast.iter_child_nodes(node)


def primitive_in(names: Names, node: ast.AST) -> str | None:
    """Return the name of the primitive that an expression makes, or the class of one."""
    if not isinstance(node, ast.Name | ast.Attribute):
        return None
    value = names.resolve(node)
    if isinstance(value, Known) and any(value.value is each for each in _PRIMITIVES):
        module = getattr(value.value, "__module__", "").partition(".")[0]
        return f"{module}.{getattr(value.value, '__name__', '')}"
    return None


def changed_name(names: Names, state: ModuleState, node: ast.AST) -> ast.Name | None:
    """Return the name of the module's top level that a statement or call changes, if it does one.

    Args:
        names: Resolves names at this place.
        state: Of the module.
        node: Any node.
    """
    match node:
        case ast.Call(func=ast.Attribute(value=owner, attr=method)):
            while isinstance(owner, ast.Subscript):
                owner = owner.value
            if isinstance(owner, ast.Name) and owner.id in state.containers:
                return _if_shared(names, owner) if method in _CHANGING else None
        case ast.Subscript() | ast.Attribute():
            if not isinstance(node.ctx, ast.Load):
                root: ast.expr = node
                while isinstance(root, ast.Subscript | ast.Attribute):
                    root = root.value
                return _if_shared(names, root)
        case ast.Name():
            if not isinstance(node.ctx, ast.Load):
                return _if_shared(names, node)
        case _:
            pass
    return None


def _if_shared(names: Names, node: ast.expr) -> ast.Name | None:
    return node if isinstance(node, ast.Name) and names.module_level(node.id) else None


class _Collector(Names):
    """Collects what one function changes, and which functions it names."""

    def __init__(self, module: Module, state: ModuleState) -> None:
        super().__init__(module)
        self.changes: dict[str, None] = {}
        self.called: set[ast.AST] = set()
        self._state = state

    def walk(self, function: Definition) -> None:
        """Walk through a function, but not through those that are defined in it."""
        self.scopes = self.module.names_around(function).scopes
        self.visit_body(function)

    def visit_function(self, node: Function) -> None:
        """Take note of an inner function, which is walked through by itself."""
        if isinstance(node, ast.Lambda):
            super().visit_function(node)
        else:
            self.called.add(node)

    def visit(self, node: ast.AST) -> None:
        """Look at every node."""
        name = changed_name(self, self._state, node)
        if name is not None:
            self.changes[name.id] = None
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            value = self.resolve(node)
            if isinstance(value, Here) and not isinstance(value.node, ast.ClassDef):
                self.called.add(value.node)
        super().visit(node)

    def report(self, hit: object, node: ast.expr) -> None:
        """Leave calls to the linter."""
