"""The flake8 plugin: the same findings as those of ``trioflow lint``."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from trioflow._lint import check_tree

__all__ = ["Plugin"]


class Plugin:
    """What flake8 makes for each file; it leaves out by itself what comments say.

    Args:
        tree: The syntax tree of the file.
        lines: Its lines, with their ends.
    """

    name = "trioflow"

    def __init__(self, tree: ast.Module, lines: Sequence[str]) -> None:
        self._tree = tree
        self._lines = lines

    def run(self) -> Iterator[tuple[int, int, str, type[Plugin]]]:
        """Yield line, column, text and class of each finding."""
        if not any("workflow" in line for line in self._lines):
            return
        text = "".join(self._lines).replace("\r\n", "\n").replace("\r", "\n")
        for each in check_tree(text, self._tree).findings:
            yield each.line, each.column - 1, f"{each.code} {each.message}; {each.hint}", Plugin
