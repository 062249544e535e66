"""What `--fix` does: changes after which a workflow does the same, but the same on replay."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from trioflow._engine.guard.scopes import Dotted
from trioflow._lint.findings import Edit
from trioflow._lint.module import Module, Names

__all__ = ["apply", "fix_of_call", "fix_of_set", "position"]

# random.random() draws from a generator of the process, trioflow.random() gives the task's own.
_DRAWING = frozenset(
    {
        *("random", "uniform", "triangular", "randint", "choice", "randrange", "sample"),
        *("shuffle", "choices", "normalvariate", "lognormvariate", "expovariate", "gauss"),
        *("vonmisesvariate", "gammavariate", "betavariate", "paretovariate", "weibullvariate"),
        *("getrandbits", "randbytes"),
    }
)


def fix_of_call(names: Names, call: ast.Call, name: str) -> tuple[Edit, ...]:
    """Return the changes that mend a call in the body of a workflow; none if that takes thought.

    Args:
        names: Resolves names at its place.
        call: The call.
        name: The public name of what it calls.
    """
    plain = not call.args and not call.keywords
    match name:
        case "time.time" if plain:
            return _replace(names, call, "now", "{}()")
        case "uuid.uuid4" if plain:
            return _replace(names, call, "uuid4", "{}()")
        case _ if name.startswith("random.") and name.partition(".")[2] in _DRAWING:
            return _replace(names, call.func, "random", "{}()." + name.partition(".")[2])
        case _:
            return ()


def fix_of_set(names: Names, node: ast.expr) -> tuple[Edit, ...]:
    """Return the changes that give a set of constants an order; none if it may have no order."""
    if not isinstance(node, ast.Set):
        return ()
    kinds = {type(each.value) if isinstance(each, ast.Constant) else None for each in node.elts}
    if kinds not in ({str}, {int}) or not names.is_builtin(ast.Name("sorted", ast.Load()), sorted):
        return ()
    text = ast.get_source_segment(names.module.text, node)
    return () if text is None else (_edit(names.module, node, f"sorted({text})"),)


def _replace(names: Names, node: ast.expr, function: str, pattern: str) -> tuple[Edit, ...]:
    called, imports = _name_for(names, function)
    if called is None:
        return ()
    return (*imports, _edit(names.module, node, pattern.format(called)))


def _name_for(names: Names, function: str) -> tuple[str | None, tuple[Edit, ...]]:
    """Return how a function of trioflow is called at a place, and the import that this takes."""
    module = names.module
    for bound, binding in module.scope.found.items():
        if isinstance(binding, Dotted) and names.module_level(bound):
            if binding.name == f"trioflow.{function}":
                return bound, ()
            if binding.name == "trioflow":
                return f"{bound}.{function}", ()
    if "trioflow" in module.globals or any("trioflow" in each.found for each in names.scopes):
        return None, ()
    line = _line_for_import(module)
    if line is None:
        return None, ()
    return f"trioflow.{function}", (Edit(line, 0, line, 0, "import trioflow\n"),)


def _line_for_import(module: Module) -> int | None:
    """Return the line before which `import trioflow` goes."""
    for node in module.tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trioflow"):
            return node.lineno if _stands_alone(module, node) else None
    return None


def _stands_alone(module: Module, node: ast.stmt) -> bool:
    same = [each for each in module.tree.body if each.lineno <= node.lineno <= _end(each)]
    return len(same) == 1


def _end(node: ast.stmt) -> int:
    return node.lineno if node.end_lineno is None else node.end_lineno


def position(module: Module, node: ast.expr | ast.stmt) -> tuple[int, int, int, int]:
    """Return where a node begins and ends: lines from 1, columns from 0 in characters."""
    end_line = node.lineno if node.end_lineno is None else node.end_lineno
    end = node.col_offset if node.end_col_offset is None else node.end_col_offset
    return (
        node.lineno,
        _characters(module, node.lineno, node.col_offset),
        end_line,
        _characters(module, end_line, end),
    )


def _characters(module: Module, line: int, column: int) -> int:
    """Turn a column in bytes, as ast counts them, into one in characters."""
    text = module.lines[line - 1] if line <= len(module.lines) else ""
    return len(text.encode()[:column].decode(errors="ignore"))


def _edit(module: Module, node: ast.expr, text: str) -> Edit:
    return Edit(*position(module, node), text)


def apply(text: str, fixes: Iterable[tuple[Edit, ...]]) -> str:
    """Return a text after fixes; one that overlaps with an earlier one is left for another time.

    Args:
        text: With lines that end in a line feed.
        fixes: The changes of one fix are all made, or none.
    """
    chosen: set[Edit] = set()
    for fix in fixes:
        if all(edit in chosen or not _overlaps(edit, chosen) for edit in fix):
            chosen.update(fix)
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    for edit in sorted(chosen, reverse=True):
        begin = starts[edit.line - 1] + edit.column
        end = starts[edit.end_line - 1] + edit.end_column
        text = text[:begin] + edit.text + text[end:]
    return text


def _overlaps(edit: Edit, others: set[Edit]) -> bool:
    begin, end = (edit.line, edit.column), (edit.end_line, edit.end_column)
    return any(
        begin < (other.end_line, other.end_column) and (other.line, other.column) < end
        for other in others
    )
