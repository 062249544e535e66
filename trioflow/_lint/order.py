"""Where the order of a set decides what comes next."""

from __future__ import annotations

import ast
import collections
import collections.abc
import functools
import itertools
from collections.abc import Iterator

import anyio

from trioflow._engine.guard.names import Here, Known
from trioflow._engine.guard.scopes import Comprehension, InstanceOfHere, Scope
from trioflow._lint.module import Names

__all__ = ["Sets"]

_SETS: tuple[object, ...] = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)
_SETS_OF_TYPING = frozenset({"Set", "FrozenSet", "AbstractSet", "MutableSet"})
_GIVING_SETS = frozenset(
    {"union", "intersection", "difference", "symmetric_difference", "copy"},
)
_TAKING_ANY_ORDER = _GIVING_SETS | {
    *("update", "intersection_update", "difference_update", "symmetric_difference_update"),
    *("isdisjoint", "issubset", "issuperset"),
}
_ANY_ORDER: tuple[object, ...] = (sorted, set, frozenset, any, all, sum, min, max, len)
_PASSING_ON: tuple[object, ...] = (list, tuple, map, filter, iter)
_OF_ITERTOOLS: tuple[object, ...] = tuple(
    each for name, each in vars(itertools).items() if not name.startswith("_")
)
_IN_ORDER: tuple[object, ...] = (
    *(list, tuple, map, filter, iter, enumerate, zip, dict, collections.deque),
    *(collections.OrderedDict, functools.reduce, anyio.amap, *_OF_ITERTOOLS),
)
_OPERATORS = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)


class Sets:
    """Tells which expressions are sets, and where their order matters.

    Args:
        names: Resolves names at the place that is looked at.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._looking: set[int] = set()

    # --- which expressions are sets --------------------------------------------------------

    def is_set(self, node: ast.expr) -> bool:  # noqa: PLR0911 - one per kind of expression
        """Return whether an expression is a set for sure."""
        if id(node) in self._looking:
            return False
        self._looking.add(id(node))
        try:
            match node:
                case ast.Set() | ast.SetComp():
                    return True
                case ast.Call():
                    return self._gives_set(node)
                case ast.Await(value=ast.Call() as call):
                    return self._returns_set(call)
                case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _OPERATORS):
                    return any(self.is_set(each) or _is_view(each) for each in (left, right))
                case ast.IfExp(body=body, orelse=other):
                    return self.is_set(body) or self.is_set(other)
                case ast.NamedExpr(value=value):
                    return self.is_set(value)
                case ast.Name(id=name):
                    return self._is_set_by_name(name)
                case ast.Attribute(value=owner, attr=name):
                    return self._is_set_by_field(owner, name)
                case _:
                    return False
        finally:
            self._looking.discard(id(node))

    def _gives_set(self, node: ast.Call) -> bool:
        if self._names.is_builtin(node.func, set, frozenset):
            return True
        if isinstance(node.func, ast.Attribute) and node.func.attr in _GIVING_SETS:
            return self.is_set(node.func.value)
        function = self._names.resolve(node.func)
        return (
            isinstance(function, Here)
            and isinstance(function.node, ast.FunctionDef)
            and function.node not in self._names.module.kinds
            and self._returns_set(node)
        )

    def _returns_set(self, node: ast.Call) -> bool:
        function = self._names.resolve(node.func)
        if not isinstance(function, Here) or isinstance(function.node, ast.ClassDef):
            return False
        return function.node.returns is not None and self._is_annotation(function.node.returns)

    def _is_set_by_name(self, name: str) -> bool:
        for scope in (*reversed(self._names.scopes), self._names.module.scope):
            if name in scope.found:
                return self._is_set_in(scope, name)
        return False

    def _is_set_in(self, scope: Scope, name: str) -> bool:
        annotated = name in scope.annotations and self._is_annotation(scope.annotations[name])
        values = scope.values.get(name, [])
        known = [each for each in values if isinstance(each, ast.expr)]
        if annotated:
            return all(self.is_set(each) for each in known)
        return bool(known) and len(known) == len(values) and all(map(self.is_set, known))

    def _is_set_by_field(self, owner: ast.expr, name: str) -> bool:
        value = self._names.resolve(owner)
        if not isinstance(value, InstanceOfHere):
            return False
        module = self._names.module
        for cls in module.bases(value.cls):
            scope = module.class_scope(cls)
            if name in scope.annotations:
                return self._is_annotation(scope.annotations[name])
        return False

    def _is_annotation(self, node: ast.expr) -> bool:
        match node:
            case ast.Constant(value=str(text)):
                try:
                    return self._is_annotation(ast.parse(text, mode="eval").body)
                except SyntaxError:
                    return False
            case ast.Subscript(value=generic):
                return self._is_annotation(generic)
            case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
                return self._is_annotation(left)
            case ast.Name() | ast.Attribute():
                value = self._names.resolve(node)
                last = node.id if isinstance(node, ast.Name) else node.attr
                of_typing = (self._names.dotted(node) or "").startswith("typing.")
                return (of_typing and last in _SETS_OF_TYPING) or (
                    isinstance(value, Known) and any(value.value is each for each in _SETS)
                )
            case _:
                return False

    # --- where their order matters ---------------------------------------------------------

    def ordered_uses(self, node: ast.AST) -> Iterator[ast.expr]:
        """Yield the sets whose order a node makes matter."""
        match node:
            case ast.For(iter=iterated) | ast.YieldFrom(value=iterated):
                yield from self._if_set(iterated)
            case ast.ListComp() | ast.GeneratorExp() | ast.DictComp() | ast.SetComp():
                if not self._keeps_no_order(node):
                    for part in node.generators:
                        yield from self._if_set(part.iter)
            case ast.Assign(targets=targets, value=value):
                if any(isinstance(target, ast.Tuple | ast.List) for target in targets):
                    yield from self._if_set(value)
            case ast.Starred(value=value, ctx=ast.Load()):
                if not isinstance(self._names.module.parents.get(node), ast.Set):
                    yield from self._if_set(value)
            case ast.Call():
                yield from self._in_call(node)
            case _:
                pass

    def _if_set(self, node: ast.expr) -> Iterator[ast.expr]:
        if self.is_set(node):
            yield node

    def _in_call(self, node: ast.Call) -> Iterator[ast.expr]:
        takes_in_order = self._names.is_builtin(node.func, *_IN_ORDER)
        if isinstance(node.func, ast.Attribute):
            owner, method = node.func.value, node.func.attr
            if method == "pop" and not node.args:
                yield from self._if_set(owner)
            takes_in_order |= method in ("join", "extend", "fromkeys")
        if takes_in_order and not self._is_for_any_order(node):
            for argument in node.args:
                yield from self._if_set(argument)

    def _keeps_no_order(self, node: Comprehension) -> bool:
        if any(isinstance(inner, ast.Await) for inner in ast.walk(node)):
            return False  # what it awaits is called in the order of the set
        return isinstance(node, ast.SetComp) or self._is_for_any_order(node)

    def _is_for_any_order(self, node: ast.expr) -> bool:
        call = self._names.module.parents.get(node)
        if not isinstance(call, ast.Call) or node not in call.args:
            return False
        if self._names.is_builtin(call.func, *_ANY_ORDER):
            return True
        if isinstance(call.func, ast.Attribute) and call.func.attr in _TAKING_ANY_ORDER:
            return self.is_set(call.func.value)
        return self._names.is_builtin(call.func, *_PASSING_ON) and self._is_for_any_order(call)


def _is_view(node: ast.expr) -> bool:
    """Return whether it is the keys or items of a dict, which operators make a set of."""
    match node:
        case ast.Call(func=ast.Attribute(attr="keys" | "items"), args=[]):
            return True
        case _:
            return False
