"""The source check: applies the checks to a function's source without running it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from tokenize import TokenError
from types import FunctionType
from typing import cast

from trioflow._engine.guard.monitor import unwrap
from trioflow._engine.guard.names import Known, Value, Walker
from trioflow._engine.guard.table import TABLE, Hit

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


class _Checker(Walker):
    """Checks every call in the body of a function that exists."""

    def __init__(self, function: FunctionType, offset: int) -> None:
        namespace = cast("dict[str, object]", function.__globals__)
        package = namespace.get("__package__")
        super().__init__(package if isinstance(package, str) else "")
        self.findings: list[Finding] = []
        self._function = function
        self._namespace = namespace
        self._offset = offset

    def report(self, hit: Hit, node: ast.expr) -> None:
        line = node.lineno + self._offset
        file = self._function.__code__.co_filename
        self.findings.append(Finding(hit.check.code, line, file, hit.call, hit.check.hint))

    def outside(self, name: str) -> Value:
        function = self._function
        if name in function.__code__.co_freevars:
            cells = dict(
                zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
            )
            try:
                return Known(cast("object", cells[name].cell_contents))
            except (KeyError, ValueError):
                return None
        return Known(self._namespace[name]) if name in self._namespace else super().outside(name)
