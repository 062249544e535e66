"""The scopes of a source: which names a function, class or module binds, and to what."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = [
    "Binding",
    "Comprehension",
    "Dotted",
    "Function",
    "InstanceOfHere",
    "Scope",
    "scope_of",
    "scope_of_targets",
]


@dataclass(frozen=True, slots=True)
class Dotted:
    """Something by its dotted name, as an import says it: nothing is known of it but that."""

    name: str


@dataclass(frozen=True, slots=True)
class InstanceOfHere:
    """Some instance of a class that is defined in the source."""

    cls: ast.ClassDef


Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension: TypeAlias = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
Binding: TypeAlias = (
    ast.expr
    | ast.FunctionDef
    | ast.AsyncFunctionDef
    | ast.ClassDef
    | Dotted
    | InstanceOfHere
    | None
)
"""What a name stands for, ``None`` if that cannot be told from where it is bound."""


@dataclass(slots=True)
class Scope:
    """The names that a function, class, module or comprehension binds.

    Attributes:
        found: What each stands for, if it is the same wherever it is bound.
        values: All that each is bound to, in the order of the source.
        annotations: The annotations of those that have one.
    """

    found: dict[str, Binding] = field(default_factory=dict[str, Binding])
    values: dict[str, list[Binding]] = field(default_factory=dict[str, list[Binding]])
    annotations: dict[str, ast.expr] = field(default_factory=dict[str, ast.expr])

    def bind(self, name: str, value: Binding) -> None:
        """Add something that a name is bound to."""
        self.found[name] = value if self.found.get(name, value) == value else None
        self.values.setdefault(name, []).append(value)


def scope_of(node: Function | ast.ClassDef | ast.Module, package: str) -> Scope:
    """Return the scope that a function, class or module makes.

    Args:
        node: Its syntax tree.
        package: The package of its module, for relative imports.
    """
    collector = _Collector(package)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        collector.add_arguments(node.args)
    for statement in node.body if isinstance(node.body, list) else [node.body]:
        collector.visit(statement)
    for name in collector.elsewhere:
        for names in (collector.scope.found, collector.scope.values, collector.scope.annotations):
            names.pop(name, None)
    return collector.scope


def scope_of_targets(node: Comprehension) -> Scope:
    """Return the scope that a comprehension makes."""
    scope = Scope()
    for inner in (inner for part in node.generators for inner in ast.walk(part.target)):
        if isinstance(inner, ast.Name):
            scope.bind(inner.id, None)
    return scope


class _Collector(ast.NodeVisitor):
    """Collects the bindings of one scope; scopes in it have their own."""

    def __init__(self, package: str) -> None:
        self.scope = Scope()
        self.elsewhere: set[str] = set()
        self._package = package
        self._bind = self.scope.bind

    def add_arguments(self, arguments: ast.arguments) -> None:
        """Bind the parameters of a function."""
        rest = [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
        plain = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        for argument in (*plain, *rest):
            self._bind(argument.arg, None)
            if argument.annotation is not None and argument not in rest:
                self.scope.annotations[argument.arg] = argument.annotation

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

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.scope.annotations[node.target.id] = node.annotation
            if node.value is not None:
                self._bind(node.target.id, node.value)
        else:
            self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        if isinstance(node.target, ast.Name):
            # What it was bound to remains known as far as its kind goes.
            self.scope.found[node.target.id] = None
        else:
            self.visit(node.target)

    def _visit_with(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self.visit(item.context_expr)
            if isinstance(item.optional_vars, ast.Name):
                # Most classes that are entered return themselves.
                self._bind(item.optional_vars.id, item.context_expr)
            elif item.optional_vars is not None:
                self.visit(item.optional_vars)
        for statement in node.body:
            self.visit(statement)

    visit_With = _visit_with  # noqa: N815 - the names are those of ast
    visit_AsyncWith = _visit_with  # noqa: N815

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._bind(node.target.id, node.value)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            top = alias.name.partition(".")[0]
            self._bind(alias.asname or top, Dotted(alias.name if alias.asname else top))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        if node.level:
            parents = self._package.split(".")
            kept = parents[: len(parents) - node.level + 1]
            module = ".".join([*kept, module] if module else kept)
        for alias in node.names:
            self._bind(alias.asname or alias.name, Dotted(f"{module}.{alias.name}"))

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
        self.elsewhere.update(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.elsewhere.update(node.names)

    def _visit_definition(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    ) -> None:
        self._bind(node.name, node)

    visit_FunctionDef = _visit_definition  # noqa: N815
    visit_AsyncFunctionDef = _visit_definition  # noqa: N815
    visit_ClassDef = _visit_definition  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """Skip a lambda: its names are local to it."""

    def _visit_comprehension(self, node: Comprehension) -> None:
        # its targets are its own, but `:=` in it binds here
        for inner in ast.walk(node):
            if isinstance(inner, ast.NamedExpr):
                self._bind(inner.target.id, inner.value)

    visit_ListComp = _visit_comprehension  # noqa: N815
    visit_SetComp = _visit_comprehension  # noqa: N815
    visit_DictComp = _visit_comprehension  # noqa: N815
    visit_GeneratorExp = _visit_comprehension  # noqa: N815
