"""The source check: applies the checks to a function's source without running it."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from tokenize import TokenError
from types import FunctionType, ModuleType
from typing import TypeAlias, cast

from trioflow._engine.guard.monitor import unwrap
from trioflow._engine.guard.table import MISSING, TABLE, Hit, slot

__all__ = ["Finding", "check_source"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A call in the source of a workflow that it cannot repeat on replay.

    Attributes:
        code: The check's short code, such as ``"TF101"``.
        line: Line number in the file, from 1.
        file: The file name, as the function's code object has it.
        call: The public dotted name of what is called, such as ``"time.time"``.
        hint: What to do instead.
    """

    code: str
    line: int
    file: str
    call: str
    hint: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.code} {self.call}() in a workflow; {self.hint}"


@dataclass(frozen=True, slots=True)
class _Known:
    """An object that exists, and the instance it was taken from if it is a method."""

    value: object
    owner: object = MISSING


@dataclass(frozen=True, slots=True)
class _InstanceOf:
    """Some instance of a class, as a call of it would make."""

    cls: type


@dataclass(frozen=True, slots=True)
class _Dotted:
    """Something of a module that is not imported yet."""

    name: str


_Value: TypeAlias = _Known | _InstanceOf | _Dotted | None
_Binding: TypeAlias = ast.expr | _Dotted | None
_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension: TypeAlias = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp

_SPAWNING = frozenset({"start_soon", "start", "create_task"})


def check_source(fn: Callable[..., object]) -> list[Finding]:
    """Find calls in a function's source that a workflow cannot repeat.

    Names are resolved as the function would: its own imports and assignments, its closure, its
    globals. What is passed to ``side_effect`` may do anything. Functions it calls are not read.

    Returns:
        The findings in the order of their lines; none when the source cannot be found.
    """
    functions = list(unwrap(fn, everything=True))
    if not functions:
        return []
    function = functions[-1]
    try:
        lines, first = inspect.getsourcelines(function)
        text = "".join(lines)
        if lines[0][:1].isspace():
            # an enclosing block keeps the indentation of multi-line strings out of question
            text, first = "if 1:\n" + text, first - 1
        tree = ast.parse(text)
    except (OSError, TypeError, SyntaxError, ValueError, IndexError, TokenError):
        return []
    wanted = (
        ast.Lambda if function.__name__ == "<lambda>" else ast.FunctionDef | ast.AsyncFunctionDef
    )
    for node in ast.walk(tree):
        if isinstance(node, wanted):
            TABLE.refresh()
            checker = _Checker(function, first - 1)
            checker.visit_body(node)
            return sorted(checker.findings, key=lambda finding: finding.line)
    return []


class _Bindings(ast.NodeVisitor):
    """Collects the local names of a function, and the value of those that are bound once."""

    def __init__(self, node: _Function, package: str) -> None:
        self.found: dict[str, _Binding] = {}
        self._package = package
        self._elsewhere: set[str] = set()
        arguments = node.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            self._bind(argument.arg, None)
        for rest in (arguments.vararg, arguments.kwarg):
            if rest is not None:
                self._bind(rest.arg, None)
        for statement in node.body if isinstance(node.body, list) else [node.body]:
            self.visit(statement)
        for name in self._elsewhere:
            self.found.pop(name, None)

    def _bind(self, name: str, value: _Binding) -> None:
        self.found[name] = value if self.found.get(name, value) == value else None

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._bind(node.id, None)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            if isinstance(target, ast.Name):
                self._bind(target.id, node.value)
            else:
                self.visit(target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._bind(node.target.id, node.value)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            top = alias.name.partition(".")[0]
            self._bind(alias.asname or top, _Dotted(alias.name if alias.asname else top))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        if node.level:
            parents = self._package.split(".")
            kept = parents[: len(parents) - node.level + 1]
            module = ".".join([*kept, module] if module else kept)
        for alias in node.names:
            self._bind(alias.asname or alias.name, _Dotted(f"{module}.{alias.name}"))

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._bind(node.name, None)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        if node.name:
            self._bind(node.name, None)
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name:
            self._bind(node.name, None)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest:
            self._bind(node.rest, None)
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        self._elsewhere.update(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self._elsewhere.update(node.names)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._bind(node.name, None)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._bind(node.name, None)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._bind(node.name, None)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """Skip a lambda: its names are local to it."""

    def _visit_comprehension(self, node: _Comprehension) -> None:
        # its targets are its own, but `:=` in it binds here
        for inner in ast.walk(node):
            if isinstance(inner, ast.NamedExpr):
                self._bind(inner.target.id, inner.value)

    visit_ListComp = _visit_comprehension  # noqa: N815 - the names are those of ast
    visit_SetComp = _visit_comprehension  # noqa: N815
    visit_DictComp = _visit_comprehension  # noqa: N815
    visit_GeneratorExp = _visit_comprehension  # noqa: N815


class _Checker(ast.NodeVisitor):
    """Checks every call in a function's body, nested functions included."""

    def __init__(self, function: FunctionType, offset: int) -> None:
        self.findings: list[Finding] = []
        self._function = function
        self._offset = offset
        self._scopes: list[dict[str, _Binding]] = []
        self._permitted: set[str] = set()
        self._resolving: set[int] = set()

    def visit_body(self, node: _Function) -> None:
        """Check a function's body in a scope of its own."""
        package = cast("dict[str, object]", self._function.__globals__).get("__package__")
        self._scopes.append(_Bindings(node, package if isinstance(package, str) else "").found)
        body: list[ast.stmt] | list[ast.expr] = (
            [node.body] if isinstance(node, ast.Lambda) else node.body
        )
        outer = self._permitted
        self._permitted = outer | set(self._side_effects(body))
        for statement in body:
            self.visit(statement)
        self._permitted = outer
        self._scopes.pop()

    def _side_effects(self, body: list[ast.stmt] | list[ast.expr]) -> Iterator[str]:
        for node in (inner for statement in body for inner in ast.walk(statement)):
            if isinstance(node, ast.Call) and self._is_side_effect(node):
                yield from (arg.id for arg in node.args if isinstance(arg, ast.Name))

    def _visit_function(self, node: _Function) -> None:
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

    visit_FunctionDef = _visit_function  # noqa: N815 - the names are those of ast
    visit_AsyncFunctionDef = _visit_function  # noqa: N815
    visit_Lambda = _visit_function  # noqa: N815

    def _visit_comprehension(self, node: _Comprehension) -> None:
        self.visit(node.generators[0].iter)
        targets = (inner for part in node.generators for inner in ast.walk(part.target))
        self._scopes.append({inner.id: None for inner in targets if isinstance(inner, ast.Name)})
        for position, part in enumerate(node.generators):
            for expression in part.ifs if position == 0 else (part.iter, *part.ifs):
                self.visit(expression)
        if isinstance(node, ast.DictComp):
            self.visit(node.key)
            self.visit(node.value)
        else:
            self.visit(node.elt)
        self._scopes.pop()

    visit_ListComp = _visit_comprehension  # noqa: N815 - the names are those of ast
    visit_SetComp = _visit_comprehension  # noqa: N815
    visit_DictComp = _visit_comprehension  # noqa: N815
    visit_GeneratorExp = _visit_comprehension  # noqa: N815

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        # a local annotation is not evaluated
        if node.value is not None:
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        if self._is_side_effect(node):
            self.visit(node.func)
            for argument in node.args:
                if not isinstance(argument, ast.Lambda):
                    self.visit(argument)
            return
        hit = self._find(self._resolve(node.func))
        if hit is not None and not _is_fine(hit, node):
            self._report(hit, node)
        elif isinstance(node.func, ast.Attribute) and node.func.attr in _SPAWNING and node.args:
            hit = self._find(self._resolve(node.args[0]))
            if hit is not None and not hit.check.fine_with:
                self._report(hit, node.args[0])
        self.generic_visit(node)

    def _report(self, hit: Hit, node: ast.expr) -> None:
        line = node.lineno + self._offset
        file = self._function.__code__.co_filename
        self.findings.append(Finding(hit.check.code, line, file, hit.call, hit.check.hint))

    def _is_side_effect(self, node: ast.Call) -> bool:
        found = self._resolve(node.func)
        if isinstance(found, _Dotted):
            return found.name.startswith("trioflow.") and found.name.endswith(".side_effect")
        return (
            isinstance(found, _Known)
            and isinstance(found.value, FunctionType)
            and found.value.__name__ == "side_effect"
            and found.value.__module__.startswith("trioflow")
        )

    def _find(self, value: _Value) -> Hit | None:
        if isinstance(value, _Dotted):
            return TABLE.named.get(value.name)
        if isinstance(value, _Known):
            return TABLE.find(value.value, value.owner)
        return None

    def _resolve(self, node: ast.expr) -> _Value:
        if id(node) in self._resolving:
            return None
        self._resolving.add(id(node))
        try:
            match node:
                case ast.Name():
                    return self._lookup(node.id)
                case ast.Attribute():
                    return _member(self._resolve(node.value), node.attr)
                case ast.NamedExpr():
                    return self._resolve(node.value)
                case ast.Call():
                    return self._result(node)
                case _:
                    return None
        finally:
            self._resolving.discard(id(node))

    def _lookup(self, name: str) -> _Value:
        for scope in reversed(self._scopes):
            if name in scope:
                bound = scope[name]
                if isinstance(bound, _Dotted):
                    return _imported(bound.name)
                return None if bound is None else self._resolve(bound)
        function = self._function
        if name in function.__code__.co_freevars:
            cells = dict(
                zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
            )
            try:
                return _Known(cast("object", cells[name].cell_contents))
            except (KeyError, ValueError):
                return None
        for namespace in (cast("dict[str, object]", function.__globals__), vars(builtins)):
            if name in namespace:
                return _Known(namespace[name])
        return None

    def _result(self, node: ast.Call) -> _Value:
        """Resolve what a call returns: an instance of a class, or what a partial stands for."""
        called = self._resolve(node.func)
        if not isinstance(called, _Known) or not isinstance(called.value, type):
            return None
        if called.value is functools.partial:
            return self._resolve(node.args[0]) if node.args else None
        return _InstanceOf(called.value)


def _imported(name: str) -> _Value:
    """Resolve a dotted name that an import statement bound, without importing anything."""
    if name in sys.modules:
        return _Known(sys.modules[name])
    module, _, attribute = name.rpartition(".")
    if module in sys.modules:
        return _member(_Known(sys.modules[module]), attribute)
    return _Dotted(name)


def _member(value: _Value, name: str) -> _Value:  # noqa: PLR0911 - one per kind of owner
    """Resolve an attribute without running any code of its owner."""
    if isinstance(value, _Dotted):
        return _imported(f"{value.name}.{name}")
    if isinstance(value, _InstanceOf):
        return _found(slot(value.cls, name))
    if not isinstance(value, _Known):
        return None
    owner = value.value
    if isinstance(owner, ModuleType):
        found = vars(owner).get(name, MISSING)
        full = f"{owner.__name__}.{name}"
        if found is MISSING and full in sys.modules:
            return _Known(sys.modules[full])
        return _Dotted(full) if found is MISSING else _Known(found)
    if isinstance(owner, type):
        return _found(slot(owner, name))
    state: object = getattr(owner, "__dict__", None)
    if isinstance(state, dict) and name in state:
        return _Known(cast("dict[str, object]", state)[name])
    return _found(slot(type(owner), name), owner)


def _found(member: object, owner: object = MISSING) -> _Value:
    return None if member is MISSING else _Known(member, owner)


def _is_fine(hit: Hit, node: ast.Call) -> bool:
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
