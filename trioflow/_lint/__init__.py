"""The linter: finds in source files what a workflow must not do, without running them.

It looks at the functions that are decorated as workflows and at what they call in their file. Its
parts are

- ``module``: a source file, its names and its definitions;
- ``walk``: the walk through the code that a workflow runs;
- ``order``, ``state``, ``awaits``: sets, what instances share, and coroutines;
- ``fixes``: the mistakes that can be mended;
- ``noqa``: comments that leave findings out;
- ``files``: which files there are, reading and writing them;
- ``flake8``: the plugin.

What the codes mean is in `trioflow._engine.guard.codes`, the calls that they stand for in
`trioflow._engine.guard.checks`.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass

from trioflow._lint import fixes
from trioflow._lint.findings import Edit, Finding
from trioflow._lint.module import Module
from trioflow._lint.noqa import Exemptions
from trioflow._lint.walk import find_mistakes

__all__ = ["Edit", "Finding", "Report", "check", "check_tree", "fix"]

_MOST_PASSES = 10


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in a source.

    Attributes:
        findings: The mistakes, in the order of the source.
        workflows: How many workflows there are.
    """

    findings: list[Finding]
    workflows: int = 0


def check(text: str) -> Report:
    """Find what the workflows in a source must not do; comments may leave findings out.

    Args:
        text: The source, with lines that end in a line feed.

    Returns:
        The findings, or one of ``TF100`` if it cannot be parsed.
    """
    if "workflow" not in text:
        return Report([])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in strings, for example
            tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line, column = (getattr(error, name, None) or 1 for name in ("lineno", "offset"))
        what = f"The file is not valid Python: {getattr(error, 'msg', None) or error}"
        return Report([Finding(line, column, line, column + 1, "TF100", what, "fix the syntax")])
    report = check_tree(text, tree)
    if not report.findings:
        return report
    exemptions = Exemptions(text)
    left = [each for each in report.findings if not exemptions.cover(each.code, each.line)]
    return Report(left, report.workflows)


def check_tree(text: str, tree: ast.Module) -> Report:
    """Find what the workflows in a parsed source must not do; comments do not matter."""
    module = Module(text, tree)
    return Report(find_mistakes(module), [*module.kinds.values()].count("workflow"))


def fix(text: str, codes: tuple[str, ...] = ("",)) -> tuple[str, int]:
    """Fix what can be fixed automatically.

    Args:
        text: The source, with lines that end in a line feed.
        codes: What the codes of the findings to mend begin with.

    Returns:
        The source after that, and how many findings were mended.
    """
    before = waiting = _fixable(text, codes)
    for _ in range(_MOST_PASSES):
        if not waiting:
            break
        text = fixes.apply(text, [each.fix for each in waiting])
        waiting = _fixable(text, codes)
    return text, len(before) - len(waiting)


def _fixable(text: str, codes: tuple[str, ...]) -> list[Finding]:
    return [each for each in check(text).findings if each.fix and each.code.startswith(codes)]
