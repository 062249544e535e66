"""The states of a held instance: what the table does not allow does not happen."""

from __future__ import annotations

import ast
import dataclasses
import itertools
from pathlib import Path

import pytest

import trioflow._worker
from trioflow._worker.instances.held import HeldInstance
from trioflow._worker.instances.states import MOVES, Move, State
from trioflow.backends.commits import InstanceCommit, NewInstance

CALLS = {
    Move.SEAL: lambda held: held.seal(),
    Move.STORE: lambda held: held.begin_storing(),
    Move.GO_ON: lambda held: held.go_on(),
    Move.BEGIN_AGAIN: lambda held: held.begin_again(InstanceCommit(id="i", execution=1, number=0)),
    Move.PARK: lambda held: held.park(),
    Move.UNPARK: lambda held: held.unpark(),
    Move.LET_GO: lambda held: held.let_go(),
}


@pytest.mark.parametrize(("state", "move"), list(itertools.product(State, Move)))
def test_the_table_decides(state, move):
    held = HeldInstance.born(NewInstance("i", "w", "default", b"[]"))
    held.state = state
    if (state, move) in MOVES:
        CALLS[move](held)
        assert held.state is MOVES[state, move]
    else:
        with pytest.raises(RuntimeError, match=f"'i' is {state.name} and cannot {move.name}"):
            CALLS[move](held)
        assert held.state is state


def test_every_state_can_be_left_and_reached():
    assert {state for state, _ in MOVES} == set(State)
    assert set(MOVES.values()) | {State.HELD} == set(State)


HELD = {"instance", "held", "child", "parent", "suspect", "again"}  # what variables are called
FIELDS = {each.name for each in dataclasses.fields(HeldInstance)}
CHANGES = {"append", "appendleft", "clear", "extend", "extendleft", "pop", "popleft", "remove"}


def changed(node):
    """Return the attribute of a held instance that a node of a syntax tree changes, if it does."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        node = node.func.value if node.func.attr in CHANGES else None
    elif not isinstance(getattr(node, "ctx", None), ast.Store | ast.Del):
        return None
    if not isinstance(node, ast.Attribute) or node.attr not in FIELDS:
        return None
    owner = node.value
    name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
    return node.attr if name in HELD else None


def test_only_its_own_methods_change_it():
    found = {
        (path.name, changed(node))
        for path in Path(trioflow._worker.__file__).parent.rglob("*.py")
        if path.name != "held.py"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if changed(node) is not None
    }
    assert found == {("holdings.py", "queued"), ("pump.py", "queued")}
