"""What names in a source stand for, and the walk over the calls in a function's body."""

from __future__ import annotations

import ast
import builtins
import functools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import TypeAlias, cast

from trioflow._engine.guard.scopes import (
    Binding,
    Comprehension,
    Dotted,
    Function,
    InstanceOfHere,
    Scope,
    scope_of,
    scope_of_targets,
)
from trioflow._engine.guard.table import MISSING, TABLE, Hit, slot

__all__ = [
    "Here",
    "InstanceOf",
    "Known",
    "Result",
    "Value",
    "Walker",
    "find",
    "is_fine",
]


@dataclass(frozen=True, slots=True)
class Known:
    """An object that exists, and the instance it was taken from if it is a method."""

    value: object
    owner: object = MISSING


@dataclass(frozen=True, slots=True)
class InstanceOf:
    """Some instance of a class, as a call of it would make."""

    cls: type


@dataclass(frozen=True, slots=True)
class Here:
    """A function or class that is defined in the source, and the class that it is a method of."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    owner: ast.ClassDef | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a call of something returns of which only the name is known."""

    name: str


Value: TypeAlias = Known | InstanceOf | Dotted | Here | InstanceOfHere | Result | None

_SPAWNING = frozenset({"start_soon", "start", "create_task"})


class Walker(ast.NodeVisitor):
    """Walks through a function's body, nested functions included, and resolves names on the way.

    Subclasses say what the names outside of it stand for, and what is done about a call that a
    check names.
    """

    def __init__(self, package: str, scopes: Sequence[Scope] = ()) -> None:
        self.scopes = list(scopes)
        self._package = package
        self._permitted: set[str] = set()
        self._resolving: set[int] = set()

    # --- for subclasses --------------------------------------------------------------------

    def outside(self, name: str) -> Value:
        """Resolve a name that no scope binds."""
        return Known(vars(builtins)[name]) if name in vars(builtins) else None

    def may_look_into(self, module: str) -> bool:
        """Return whether a module that is imported in this process is the one that is meant."""
        del module
        return True

    def scope_of(self, node: Function) -> Scope:
        """Return the scope of a function."""
        return scope_of(node, self._package)

    def report(self, hit: Hit, node: ast.expr) -> None:
        """Take note of a call that a check names.

        Args:
            hit: What is called.
            node: The call, or the argument that gives the function to a nursery.
        """
        raise NotImplementedError

    # --- the walk --------------------------------------------------------------------------

    def visit_body(self, node: Function) -> None:
        """Walk through a function's body in a scope of its own."""
        self.scopes.append(self.scope_of(node))
        body: list[ast.stmt] | list[ast.expr] = (
            [node.body] if isinstance(node, ast.Lambda) else node.body
        )
        outer = self._permitted
        self._permitted = outer | set(self._side_effects(body))
        for statement in body:
            self.visit(statement)
        self._permitted = outer
        self.scopes.pop()

    def _side_effects(self, body: list[ast.stmt] | list[ast.expr]) -> Iterator[str]:
        for node in (inner for statement in body for inner in ast.walk(statement)):
            if isinstance(node, ast.Call) and self._is_side_effect(node):
                yield from (arg.id for arg in node.args if isinstance(arg, ast.Name))

    def visit_function(self, node: Function) -> None:
        """Walk through a function that is defined in the one that is walked through."""
        # defaults and decorators run where the function is defined
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        if not isinstance(node, ast.Lambda):
            for decorator in node.decorator_list:
                self.visit(decorator)
            if node.name in self._permitted:
                return
        self.visit_body(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_function(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit_function(node)

    def visit_comprehension_expr(self, node: Comprehension) -> None:
        """Walk through a comprehension, whose first iterable belongs to the scope around it."""
        self.visit(node.generators[0].iter)
        self.scopes.append(scope_of_targets(node))
        for position, part in enumerate(node.generators):
            for expression in part.ifs if position == 0 else (part.iter, *part.ifs):
                self.visit(expression)
        if isinstance(node, ast.DictComp):
            self.visit(node.key)
            self.visit(node.value)
        else:
            self.visit(node.elt)
        self.scopes.pop()

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self.visit_comprehension_expr(node)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self.visit_comprehension_expr(node)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self.visit_comprehension_expr(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self.visit_comprehension_expr(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        # a local annotation is not evaluated
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        if self._is_side_effect(node):
            self.visit(node.func)
            for argument in node.args:
                if not isinstance(argument, ast.Lambda):
                    self.visit_side_effect(argument)
            return
        hit = find(self.resolve(node.func))
        if hit is not None and not is_fine(hit, node):
            self.report(hit, node)
        elif isinstance(node.func, ast.Attribute) and node.func.attr in _SPAWNING and node.args:
            hit = find(self.resolve(node.args[0]))
            if hit is not None and not hit.check.fine_with:
                self.report(hit, node.args[0])
        self.generic_visit(node)

    def visit_side_effect(self, node: ast.expr) -> None:
        """Walk through an argument of ``side_effect`` that is no lambda."""
        self.visit(node)

    def _is_side_effect(self, node: ast.Call) -> bool:
        found = self.resolve(node.func)
        if isinstance(found, Dotted):
            return found.name.startswith("trioflow.") and found.name.endswith(".side_effect")
        return (
            isinstance(found, Known)
            and isinstance(found.value, FunctionType)
            and found.value.__name__ == "side_effect"
            and found.value.__module__.startswith("trioflow")
        )

    # --- what an expression stands for -----------------------------------------------------

    def resolve(self, node: ast.expr) -> Value:
        """Return what an expression stands for; ``None`` if that cannot be told."""
        if id(node) in self._resolving:
            return None
        self._resolving.add(id(node))
        try:
            match node:
                case ast.Name():
                    return self.lookup(node.id)
                case ast.Attribute():
                    return self.member(self.resolve(node.value), node.attr)
                case ast.NamedExpr():
                    return self.resolve(node.value)
                case ast.Call():
                    return self.result_of(node)
                case _:
                    return None
        finally:
            self._resolving.discard(id(node))

    def lookup(self, name: str) -> Value:
        """Return what a name stands for at this place."""
        for scope in reversed(self.scopes):
            if name in scope.found:
                found = self.bound(scope.found[name])
                if found is None and name in scope.annotations:
                    found = self.annotated(scope.annotations[name])
                return found
        return self.outside(name)

    def bound(self, binding: Binding) -> Value:
        """Return what a binding stands for."""
        match binding:
            case None | InstanceOfHere():
                return binding
            case Dotted():
                return self.imported(binding.name)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                return Here(binding)
            case _:
                return self.resolve(binding)

    def annotated(self, node: ast.expr) -> Value:
        """Return an instance of the class that an annotation names, if it names one."""
        match node:
            case ast.Constant(value=str(text)):
                try:
                    return self.annotated(ast.parse(text, mode="eval").body)
                except SyntaxError:
                    return None
            case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
                return self.annotated(left)
            case ast.Name() | ast.Attribute():
                return _instance(self.resolve(node))
            case _:
                return None

    def result_of(self, node: ast.Call) -> Value:
        """Resolve what a call returns: an instance of a class, or what a partial stands for."""
        called = self.resolve(node.func)
        if isinstance(called, Known) and called.value is functools.partial:
            return self.resolve(node.args[0]) if node.args else None
        return _instance(called)

    def imported(self, name: str) -> Value:
        """Resolve a dotted name that an import statement bound, without importing anything."""
        if self.may_look_into(name.partition(".")[0]):
            if name in sys.modules:
                return Known(sys.modules[name])
            module, _, attribute = name.rpartition(".")
            if module in sys.modules:
                return self.member(Known(sys.modules[module]), attribute)
        return Dotted(name)

    def member(self, value: Value, name: str) -> Value:
        """Resolve an attribute without running any code of its owner."""
        match value:
            case Dotted():
                return self.imported(f"{value.name}.{name}")
            case Result():
                return Dotted(f"{value.name}.{name}")
            case InstanceOf():
                return _member_of_class(value.cls, name)
            case Known():
                return _member_of(value.value, name)
            case _:
                return None


def _instance(value: Value) -> Value:
    """Return what a call of it returns, as far as that can be told."""
    if isinstance(value, Dotted):
        return Result(value.name)
    if isinstance(value, Known) and isinstance(value.value, type):
        return InstanceOf(value.value)
    if isinstance(value, Here) and isinstance(value.node, ast.ClassDef):
        return InstanceOfHere(value.node)
    return None


def _member_of(owner: object, name: str) -> Value:
    if isinstance(owner, ModuleType):
        found = vars(owner).get(name, MISSING)
        if found is MISSING and owner.__name__ == "anyio":  # it gets its names when asked for
            found = getattr(owner, name, MISSING)
        full = f"{owner.__name__}.{name}"
        if found is MISSING and full in sys.modules:
            return Known(sys.modules[full])
        return Dotted(full) if found is MISSING else Known(found)
    if isinstance(owner, type):
        return _member_of_class(owner, name)
    state: object = getattr(owner, "__dict__", None)
    if isinstance(state, dict) and name in state:
        return Known(cast("dict[str, object]", state)[name])
    return _found(slot(type(owner), name), owner)


def _member_of_class(cls: type, name: str) -> Value:
    found = slot(cls, name)
    # another Python may have it
    return (
        Dotted(f"{cls.__module__}.{cls.__qualname__}.{name}") if found is MISSING else Known(found)
    )


def _found(member: object, owner: object = MISSING) -> Value:
    return None if member is MISSING else Known(member, owner)


def find(value: Value) -> Hit | None:
    """Return the check that names what an expression stands for."""
    if isinstance(value, Dotted):
        return TABLE.named.get(value.name)
    if isinstance(value, Known):
        return TABLE.find(value.value, value.owner)
    return None


def is_fine(hit: Hit, node: ast.Call) -> bool:
    """Return whether the call can be repeated with these arguments."""
    needed = hit.check.fine_with
    if not needed:
        return False
    if any(isinstance(arg, ast.Starred) for arg in node.args) or any(
        keyword.arg is None for keyword in node.keywords
    ):
        return True
    first = node.args[0] if node.args else None
    if isinstance(first, ast.Constant) and first.value is None:
        return False
    return len(node.args) + len(node.keywords) >= needed
