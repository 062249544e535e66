"""The walk through the code that a workflow runs: its function, and those that it calls."""

from __future__ import annotations

import ast

from trioflow._engine.guard.codes import CODES
from trioflow._engine.guard.names import Here, Value, find
from trioflow._engine.guard.scopes import Function, InstanceOfHere
from trioflow._engine.guard.table import TABLE, Hit
from trioflow._lint import fixes
from trioflow._lint.awaits import forgets, gives_coroutine, yields
from trioflow._lint.findings import Edit, Finding
from trioflow._lint.module import Definition, Module, Names
from trioflow._lint.order import Sets
from trioflow._lint.state import ModuleState, changed_name, primitive_in

__all__ = ["find_mistakes"]

_FINE_OF_ASYNCIO = frozenset(
    {
        *("asyncio.TimeoutError", "asyncio.iscoroutine", "asyncio.iscoroutinefunction"),
        *("asyncio.QueueEmpty", "asyncio.QueueFull", "asyncio.InvalidStateError"),
    }
)
# What Python calls by itself once there is an instance.
_CALLED_BY_PYTHON = (
    *("__new__", "__init__", "__post_init__", "__call__", "__enter__", "__exit__"),
    *("__aenter__", "__aexit__", "__iter__", "__next__", "__aiter__", "__anext__", "__await__"),
)


def find_mistakes(module: Module) -> list[Finding]:
    """Find what the workflows of a module must not do, in the order of the source."""
    if "workflow" not in module.kinds.values():
        return []
    walk = _Walk(module)
    for function in module.functions:
        if module.kinds.get(function) == "workflow":
            walk.add(function, f"in workflow `{function.name}`")
    walk.run()
    return sorted(walk.findings.values())


class _Walk:
    """What is found, and the functions that are still to be looked at."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.state = ModuleState(module)
        self.findings: dict[tuple[str, int, int], Finding] = {}
        self._seen: set[ast.AST] = set()
        self._classes: set[ast.ClassDef] = set()
        self._waiting: list[tuple[Definition, str, str]] = []

    def add(self, function: Definition, place: str, workflow: str = "") -> None:
        """Look at a function later on, unless that is done or goes without saying.

        Args:
            function: A workflow, or a function that one calls.
            place: Says in a message where that is.
            workflow: The name of the workflow, if it is another function.
        """
        if function in self._seen or (
            workflow and any(each in self._seen for each in self.module.around(function))
        ):
            return
        self._seen.add(function)
        self._waiting.append((function, place, workflow or function.name))

    def add_class(self, cls: ast.ClassDef, workflow: str) -> None:
        """Look at what Python calls of an instance of a class."""
        if cls in self._classes:
            return
        self._classes.add(cls)
        for name in _CALLED_BY_PYTHON:
            member = self.module.member(cls, name)
            if isinstance(member, Here) and not isinstance(member.node, ast.ClassDef):
                self.add_called(member.node, workflow)
        for each in self.module.bases(cls):
            for statement in each.body:
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.value, ast.Call):
                    self._add_factory(each, statement.value, workflow)

    def _add_factory(self, cls: ast.ClassDef, field: ast.Call, workflow: str) -> None:
        for keyword in field.keywords:
            if keyword.arg in ("default_factory", "factory"):
                names = _FunctionWalk(
                    self, f"for `{cls.name}`, which workflow `{workflow}` makes", workflow
                )
                hit = find(names.resolve(keyword.value))
                if hit is not None and not hit.check.fine_with:
                    names.report(hit, keyword.value)
                names.visit(keyword.value)

    def add_called(self, function: Definition, workflow: str) -> None:
        """Look at a function that a workflow calls, unless it is a definition itself."""
        if function not in self.module.kinds:
            self.add(function, f"in `{function.name}`, which workflow `{workflow}` calls", workflow)

    def skip(self, function: ast.AST) -> None:
        """Do not look at a function later on: it is looked at where it is defined."""
        self._seen.add(function)

    def run(self) -> None:
        """Look at all functions, and at those that they call."""
        for function, place, workflow in self._waiting:
            names = _FunctionWalk(self, place, workflow)
            names.scopes = self.module.names_around(function).scopes
            names.outer = len(names.scopes)
            if self.module.kinds.get(function) == "workflow":
                names.check_definition(function)
                names.fixable = True
            names.visit_body(function)

    def note(self, finding: Finding) -> None:
        """Keep a finding, unless there is one of that code at its place."""
        key = finding.code, finding.line, finding.column
        self.findings.setdefault(key, finding)


class _FunctionWalk(Names):
    """Looks at one function, and at those that are defined in it.

    Attributes:
        outer: How many scopes are around the function.
        fixable: Whether calls can be mended, as in a workflow's own body: what an inner or another
            function does elsewhere is not known.
    """

    def __init__(self, walk: _Walk, place: str, workflow: str) -> None:
        super().__init__(walk.module)
        self.outer = 0
        self.fixable = False
        self._walk = walk
        self._place = place
        self._workflow = workflow
        self._sets = Sets(self)

    # --- findings --------------------------------------------------------------------------

    def _note(
        self,
        code: str,
        node: ast.expr | ast.stmt,
        what: str,
        hint: str = "",
        fix: tuple[Edit, ...] = (),
    ) -> None:
        line, column, end_line, end_column = fixes.position(self.module, node)
        message = f"{what} {self._place}"
        hint = hint or CODES[code].hint
        finding = Finding(line, column + 1, end_line, end_column + 1, code, message, hint, fix)
        self._walk.note(finding)

    def report(self, hit: Hit, node: ast.expr) -> None:
        """Take note of a call that a check names."""
        fix: tuple[Edit, ...] = ()
        if isinstance(node, ast.Call) and self.fixable:
            fix = fixes.fix_of_call(self, node, hit.call)
        self._note(hit.check.code, node, f"`{hit.call}()`", hit.check.hint, fix)

    def check_definition(self, function: Definition) -> None:
        """Look at how a workflow is defined."""
        hint = CODES["TF206"].hint
        if isinstance(function, ast.FunctionDef):
            what = "is a plain function"
        elif yields(function):
            what = "is a generator"
        elif self._is_method(function):
            what = "is a method"
            hint = "make it a function at the top of the module, and give it what it needs"
        else:
            return
        line = self.module.lines[function.lineno - 1]
        start = line.find("def ", fixes.position(self.module, function)[1]) + len("def ")
        end = start + len(function.name)
        message = f"Workflow `{function.name}` {what}"
        self._walk.note(
            Finding(function.lineno, start + 1, function.lineno, end + 1, "TF206", message, hint)
        )

    def _is_method(self, function: Definition) -> bool:
        arguments = [*function.args.posonlyargs, *function.args.args]
        in_class = isinstance(self.module.parents.get(function), ast.ClassDef)
        return in_class and bool(arguments) and arguments[0].arg in ("self", "cls")

    # --- the walk --------------------------------------------------------------------------

    def visit(self, node: ast.AST) -> None:
        """Look at every node."""
        for found in self._sets.ordered_uses(node):
            fix = fixes.fix_of_set(self, found)
            self._note("TF201", found, "The order of a set is used", fix=fix)
        changed = changed_name(self, self._walk.state, node)
        if changed is not None:
            self._note("TF203", changed, f"`{changed.id}`, which belongs to the module, is changed")
        super().visit(node)

    def visit_function(self, node: Function) -> None:
        """Walk through an inner function in its place, so that it is not looked at again."""
        self._walk.skip(node)
        if node not in self.module.kinds:
            fixable, self.fixable = self.fixable, False
            super().visit_function(node)
            self.fixable = fixable

    def visit_side_effect(self, node: ast.expr) -> None:
        """Let a function that `side_effect` calls do anything."""
        if not isinstance(self.resolve(node), Here):
            super().visit_side_effect(node)

    def visit_Call(self, node: ast.Call) -> None:  # noqa: N802 - the names are those of ast
        if gives_coroutine(self, node) and forgets(self.module, node):
            self._note_forgotten(node)
        super().visit_Call(node)

    def _note_forgotten(self, node: ast.Call) -> None:
        parent = self.module.parents[node]
        if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Attribute):
            called = ast.unparse(node.func)
            arguments = "".join(f", {ast.unparse(each)}" for each in node.args)
            self._note(
                "TF205",
                node,
                f"`{parent.func.attr}()` gets a call instead of a function",
                f"give it the function and its arguments: "
                f"`{parent.func.attr}({called}{arguments})`",
            )
        else:
            self._note("TF205", node, f"`{ast.unparse(node.func)}()` is not awaited")

    def visit_Name(self, node: ast.Name) -> None:  # noqa: N802
        if isinstance(node.ctx, ast.Load):
            self._follow(self.resolve(node))
            self._check_import(node)
            self._check_builtin(node)
            if self.module_level(node.id):
                self._check_shared(node)
            else:
                self._check_closure(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:  # noqa: N802
        if isinstance(node.ctx, ast.Load):
            self._follow(self.resolve(node))
            self._check_import(node)
            self._check_class_attribute(node)
        self.generic_visit(node)

    def _follow(self, value: Value) -> None:
        """Look at a function that is named here, since it is likely to be called."""
        match value:
            case InstanceOfHere(cls=cls) | Here(node=ast.ClassDef() as cls):
                self._walk.add_class(cls, self._workflow)
            case Here(node=ast.FunctionDef() | ast.AsyncFunctionDef() as function):
                self._walk.add_called(function, self._workflow)
            case _:
                pass

    def _check_import(self, node: ast.Name | ast.Attribute) -> None:
        """Look for what must not even be named."""
        name = self.dotted(node)
        if name == "os.environ":
            check = TABLE.named[name].check
            self._note(check.code, node, f"`{name}`", check.hint)
        if isinstance(self.module.parents.get(node), ast.Attribute):
            return  # what is looked up in it says more
        if name is not None and name.startswith("asyncio.") and name not in _FINE_OF_ASYNCIO:
            hit = find(self.resolve(node))
            self._note("TF111", node, f"`{name}`", "" if hit is None else hit.check.hint)

    def _check_builtin(self, node: ast.Name) -> None:
        if node.id in ("id", "hash") and self.is_builtin(node, id, hash):
            self._note("TF202", node, f"`{node.id}()`")
        elif node.id == "print" and self.is_builtin(node, print):
            self._note("TF207", node, "`print()`")

    def _check_shared(self, node: ast.Name) -> None:
        state, name = self._walk.state, node.id
        if name in state.primitives:
            what = f"`{name}`, a `{state.primitives[name]}` of the module, is used"
            self._note("TF204", node, what)
        elif name in state.asyncio:
            self._note("TF111", node, f"`{name}`, which is an `{state.asyncio[name]}`, is used")
        elif name in state.used_up:
            self._note("TF203", node, f"`{name}`, {state.used_up[name]} of the module, is used")
        elif name in state.changed:
            what = f"`{name}`, which `{state.changed[name]}` changes, is read"
            self._note("TF203", node, what)

    def _check_closure(self, node: ast.Name) -> None:
        """Look for a primitive of the function that the workflow is defined in."""
        for depth, scope in reversed([*enumerate(self.scopes)]):
            if node.id in scope.found:
                value = scope.found[node.id]
                if depth < self.outer and isinstance(value, ast.Call):
                    primitive = primitive_in(self, value.func)
                    if primitive is not None:
                        what = f"`{node.id}`, a `{primitive}` that is made outside, is used"
                        self._note("TF204", node, what)
                return

    def _check_class_attribute(self, node: ast.Attribute) -> None:
        """Look for a primitive that all instances of a class share."""
        owner = self.resolve(node.value)
        match owner:
            case InstanceOfHere(cls=cls) | Here(node=ast.ClassDef() as cls):
                pass
            case _:
                return
        for each in self.module.bases(cls):
            value = self.module.class_scope(each).found.get(node.attr)
            if isinstance(value, ast.Call):
                primitive = primitive_in(self.module.names, value.func)
                if primitive is not None:
                    what = f"`{ast.unparse(node)}`, a `{primitive}` of the class, is used"
                    self._note("TF204", node, what)
