"""The states of a held instance: what the table does not allow does not happen."""

from __future__ import annotations

import itertools

import pytest

from trioflow._worker.instances.held import _MOVES, HeldInstance, State, _Move
from trioflow.backends.records import InstanceCommit, NewInstance

CALLS = {
    _Move.SEAL: lambda held: held.seal(),
    _Move.STORE: lambda held: held.begin_storing(),
    _Move.GO_ON: lambda held: held.go_on(),
    _Move.BEGIN_AGAIN: lambda held: held.begin_again(InstanceCommit(id="i", execution=1, number=0)),
    _Move.PARK: lambda held: held.park(),
    _Move.UNPARK: lambda held: held.unpark(),
    _Move.LET_GO: lambda held: held.let_go(),
}


@pytest.mark.parametrize(("state", "move"), list(itertools.product(State, _Move)))
def test_the_table_decides(state, move):
    held = HeldInstance.born(NewInstance("i", "w", "default", b"[]"))
    held.state = state
    if (state, move) in _MOVES:
        CALLS[move](held)
        assert held.state is _MOVES[state, move]
    else:
        with pytest.raises(RuntimeError, match=f"'i' is {state.name} and cannot {move.name}"):
            CALLS[move](held)
        assert held.state is state


def test_every_state_can_be_left_and_reached():
    assert {state for state, _ in _MOVES} == set(State)
    assert set(_MOVES.values()) | {State.HELD} == set(State)
