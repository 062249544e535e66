"""Calls that give a coroutine, and whether something awaits it."""

from __future__ import annotations

import ast
import inspect

from trioflow._engine.guard.names import Here, Known, Result, Value
from trioflow._engine.guard.scopes import Dotted
from trioflow._lint.module import Module, Names

__all__ = ["forgets", "gives_coroutine"]

_OURS = frozenset({"trioflow.send_signal", "trioflow.authoring.send_signal"})
_BY_NAME = frozenset({"activity_by_name", "workflow_by_name"})
_FINE_METHODS = frozenset({"close", "send", "throw"})


def gives_coroutine(names: Names, call: ast.Call) -> bool:
    """Return whether a call gives a coroutine for sure."""
    return _is_async(names, names.resolve(call.func))


def _is_async(names: Names, value: Value) -> bool:
    match value:
        case Here(node=node):
            if node in names.module.kinds:
                return True
            return (
                isinstance(node, ast.AsyncFunctionDef)
                and not yields(node)
                and all(
                    isinstance(each, ast.Name) and each.id in ("staticmethod", "classmethod")
                    for each in node.decorator_list
                )
            )
        case Known(value=function):
            function = getattr(function, "__func__", function)
            module = getattr(function, "__module__", None) or ""
            return not module.startswith("asyncio") and inspect.iscoroutinefunction(function)
        case Dotted(name=name):
            return name in _OURS or name in (
                "trioflow.Signal.receive",
                "trioflow.authoring.Signal.receive",
            )
        case Result(name=name):
            return name.startswith("trioflow.") and any(
                part in _BY_NAME for part in name.split(".")[1:3]
            )
        case _:
            return False


def yields(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a function is a generator."""
    waiting: list[ast.AST] = [*function.body]
    for node in waiting:
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return False


def forgets(module: Module, call: ast.Call) -> bool:  # noqa: PLR0911 - one per kind of parent
    """Return whether nothing can await the coroutine that a call gives."""
    node: ast.AST = call
    parent = module.parents[node]
    while isinstance(parent, ast.IfExp) and node is not parent.test:
        node, parent = parent, module.parents[parent]
    match parent:
        case ast.Expr() | ast.BinOp() | ast.UnaryOp() | ast.Compare() | ast.FormattedValue():
            return True
        case ast.If() | ast.While() | ast.IfExp() | ast.Assert() | ast.For() | ast.AsyncFor():
            return True
        case ast.Subscript() | ast.withitem():
            return True
        case ast.comprehension(iter=iterated):
            return node is iterated
        case ast.Attribute(attr=attribute):
            return attribute not in _FINE_METHODS
        case ast.Call(func=ast.Attribute(attr="start_soon" | "start")):
            return node in parent.args
        case ast.Assign(targets=[ast.Name(id=name)]):
            return not _is_used(module, parent, name)
        case ast.Return():
            function = next(each for each in module.around(node) if _is_function(each))
            return isinstance(function, ast.AsyncFunctionDef)
        case _:
            return False


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _is_used(module: Module, assignment: ast.AST, name: str) -> bool:
    functions = [each for each in module.around(assignment) if _is_function(each)]
    return not functions or any(
        isinstance(each, ast.Name) and each.id == name and isinstance(each.ctx, ast.Load)
        for each in ast.walk(functions[-1])
    )
