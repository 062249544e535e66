"""A source file as the linter sees it: its names, and which of its functions are definitions."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cached_property
from typing import Literal, TypeAlias

from trioflow._engine.guard.names import Here, Known, Result, Value, Walker
from trioflow._engine.guard.scopes import Binding, Dotted, Function, InstanceOfHere, Scope, scope_of

__all__ = ["Definition", "Kind", "Module", "Names"]

Kind: TypeAlias = Literal["workflow", "activity"]
Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_LIVE = frozenset({*sys.stdlib_module_names, "trio", "anyio"})
_MOST_BASES = 20


class Module:
    """A parsed source file. Nothing in it is imported or run.

    Attributes:
        text: The source.
        tree: Its syntax tree.
        parents: The node around each node.
        scope: What its top level binds.
        globals: The names of the top level, also those that only functions bind.
        uses_trioflow: Whether it imports trioflow itself.
        names: Resolves names of the top level.
        functions: Every ``def`` in it, in the order of the source.
        kinds: Which of them are workflows and activities.
    """

    def __init__(self, text: str, tree: ast.Module) -> None:
        self.text = text
        self.tree = tree
        self.parents: dict[ast.AST, ast.AST] = {}
        self.functions: list[Definition] = []
        self.globals: set[str] = set()
        self.uses_trioflow = False
        calls: list[ast.Call] = []
        stars: list[str] = []
        for node in ast.walk(tree):
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.functions.append(node)
            elif isinstance(node, ast.Call):
                calls.append(node)
            elif isinstance(node, ast.Global):
                self.globals.update(node.names)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                self.uses_trioflow |= "trioflow" in _imported_packages(node)
                stars += _star(node)
        self.scope = scope_of(tree, "")
        for module in stars:
            self._add_star(module)
        self.globals |= self.scope.values.keys()
        self.names = Names(self, [self.scope])
        self.kinds: dict[ast.AST, Kind] = {}
        self._class_scopes: dict[ast.ClassDef, Scope] = {}
        for function in self.functions:
            self._add_decorated(function)
        for call in calls:
            self._add_called(call)

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the source as Python counts them, without their ends."""
        text = self.text.replace("\r\n", "\n").replace("\r", "\n")
        return text.split("\n")

    def _add_star(self, module: str) -> None:
        """Bind what ``from module import *`` binds, of modules whose names are known here."""
        if module.partition(".")[0] not in {*_LIVE, "trioflow"}:
            return
        found = sys.modules.get(module)
        for name in getattr(found, "__all__", [name for name in vars(found or self) if found]):
            if not name.startswith("_") and name not in self.scope.found:
                self.scope.bind(name, Dotted(f"{module}.{name}"))

    def _add_decorated(self, function: Definition) -> None:
        for decorator in function.decorator_list:
            names = self.names_around(function)
            kind = kind_of(names.resolve(decorator)) or self._by_its_look(names, decorator)
            if kind is not None:
                self.kinds[function] = kind

    def _by_its_look(self, names: Names, decorator: ast.expr) -> Kind | None:
        """Return what a decorator makes of a function if only its name is known.

        A registry may come from a module of the user's, or be a parameter.
        """
        if isinstance(decorator, ast.Call):
            decorator = decorator.func
        if not isinstance(decorator, ast.Attribute):
            return None
        if isinstance(names.resolve(decorator), Known | Here):
            return None
        match decorator.value:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                registry = self.uses_trioflow or name.lower().endswith("registry")
                return _kind_named(decorator.attr) if registry else None
            case _:
                return None

    def _add_called(self, call: ast.Call) -> None:
        """Take note of ``workflow(function)``."""
        if len(call.args) != 1:
            return
        names = self.names_around(call)
        kind = kind_of(names.resolve(call.func))
        if kind is not None:
            for function in names.functions_of(call.args[0]):
                self.kinds[function] = kind

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield the nodes around a node, the innermost first."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def names_around(self, node: ast.AST) -> Names:
        """Return the names that hold at the place of a node."""
        around = [
            each
            for each in self.around(node)
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        ]
        names = Names(self)
        names.scopes = [names.scope_of(each) for each in reversed(around)]
        return names

    def owner_of(self, function: ast.AST) -> ast.ClassDef | None:
        """Return the class whose method a function is."""
        parent = self.parents.get(function)
        return parent if isinstance(parent, ast.ClassDef) else None

    def class_scope(self, cls: ast.ClassDef) -> Scope:
        """Return what the body of a class binds."""
        if cls not in self._class_scopes:
            self._class_scopes[cls] = scope_of(cls, "")
        return self._class_scopes[cls]

    def bases(self, cls: ast.ClassDef) -> list[ast.ClassDef]:
        """Return a class and its bases, as far as they are in this file."""
        found = [cls]
        for each in found:
            for base in each.bases:
                value = self.names.resolve(base)
                if isinstance(value, Here) and isinstance(value.node, ast.ClassDef):
                    found.append(value.node)
            if len(found) > _MOST_BASES:
                break
        return found

    def member(self, cls: ast.ClassDef, name: str) -> Value:
        """Resolve an attribute of a class, or of an instance of it."""
        for each in self.bases(cls):
            scope = self.class_scope(each)
            if name in scope.found:
                binding = scope.found[name]
                if isinstance(binding, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    return Here(binding)
                found = self.names.bound(binding)
                if found is not None:
                    return found
            if name in scope.annotations:
                return self.names.annotated(scope.annotations[name])
        return None


class Names(Walker):
    """Resolves the names of a source file."""

    def __init__(self, module: Module, scopes: list[Scope] | None = None) -> None:
        super().__init__("", scopes or [])
        self.module = module

    def outside(self, name: str) -> Value:
        """Resolve a name of the top level, or a builtin."""
        if self is self.module.names:
            return super().outside(name)
        return self.module.names.lookup(name)

    def may_look_into(self, module: str) -> bool:
        """Return whether it is of the standard library, trio or anyio."""
        # Not into the user's, nor into libraries that happen to be imported by another plugin.
        return module in _LIVE

    def scope_of(self, node: Function) -> Scope:
        """Return the scope of a function; in a method it knows what ``self`` is."""
        scope = super().scope_of(node)
        owner = self.module.owner_of(node)
        arguments = [*node.args.posonlyargs, *node.args.args]
        if owner is not None and arguments and not isinstance(node, ast.Lambda):
            decorators = {each.id for each in node.decorator_list if isinstance(each, ast.Name)}
            if "classmethod" in decorators:
                scope.found[arguments[0].arg] = owner
            elif "staticmethod" not in decorators:
                scope.found[arguments[0].arg] = InstanceOfHere(owner)
        return scope

    def member(self, value: Value, name: str) -> Value:
        """Resolve an attribute, also of what is defined in the file."""
        if isinstance(value, InstanceOfHere):
            return self.module.member(value.cls, name)
        if isinstance(value, Here) and isinstance(value.node, ast.ClassDef):
            return self.module.member(value.node, name)
        return super().member(value, name)

    def result_of(self, node: ast.Call) -> Value:
        """Resolve what a call returns; ``options()`` of a definition returns that."""
        if isinstance(node.func, ast.Attribute) and node.func.attr == "options":
            variant = self.resolve(node.func.value)
            if isinstance(variant, Here) and variant.node in self.module.kinds:
                return variant
        called = self.resolve(node.func)
        if kind_of(called) is not None and len(node.args) == 1:
            return self.resolve(node.args[0])
        return super().result_of(node)

    def functions_of(self, node: ast.expr) -> list[Definition]:
        """Return the functions of the file that an expression may stand for."""
        found: list[Binding] = []
        value = self.resolve(node)
        if isinstance(value, Here):
            found.append(value.node)
        elif isinstance(node, ast.Name):  # `flow = workflow(flow)` binds the name again
            scopes = (*reversed(self.scopes), self.module.scope)
            bound = [scope.values[node.id] for scope in scopes if node.id in scope.values]
            found += bound[0] if bound else []
        return [each for each in found if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]

    def dotted(self, node: ast.expr) -> str | None:
        """Return the dotted name that an imported thing has by the import."""
        match node:
            case ast.Attribute():
                owner = self.dotted(node.value)
                return None if owner is None else f"{owner}.{node.attr}"
            case ast.Name():
                for scope in (*reversed(self.scopes), self.module.scope):
                    if node.id in scope.found:
                        binding = scope.found[node.id]
                        return binding.name if isinstance(binding, Dotted) else None
                return None
            case _:
                return None

    def module_level(self, name: str) -> bool:
        """Return whether a name is one of the top level of the file at this place."""
        return name in self.module.globals and not any(name in scope.found for scope in self.scopes)

    def is_builtin(self, node: ast.expr, *functions: object) -> bool:
        """Return whether an expression stands for one of these objects."""
        value = self.resolve(node)
        return isinstance(value, Known) and any(value.value is each for each in functions)


def kind_of(value: Value) -> Kind | None:
    """Return what a decorator makes of a function."""
    if not isinstance(value, Dotted | Result):
        return None
    owner, _, last = value.name.rpartition(".")
    ours = owner.partition(".")[0] == "trioflow"
    if ours or owner.rpartition(".")[2].lower().endswith("registry"):
        return _kind_named(last)
    return None


def _kind_named(name: str) -> Kind | None:
    match name:
        case "workflow" | "activity":
            return name
        case _:
            return None


def _star(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the module of which all is imported, in a list."""
    if isinstance(node, ast.Import) or node.level or node.names[0].name != "*":
        return []
    return [node.module or ""]


def _imported_packages(node: ast.Import | ast.ImportFrom) -> set[str]:
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").partition(".")[0]} if not node.level else set()
    return {alias.name.partition(".")[0] for alias in node.names}
