"""Which instance has the next turn."""

from __future__ import annotations

from trioflow._model.events import ParentRef
from trioflow._worker.instances.held import HeldInstance
from trioflow._worker.instances.holdings import Ready


def live(id, *, turns=0, parent=None):
    one = HeldInstance(id, 1, "w", "q", parent, b"", b"", 0, "")
    one.turns = turns
    return one


def popped(ready):
    return [ready.pop().id for _ in range(len(ready))]


def test_what_is_under_way_comes_before_what_has_not_begun():
    ready = Ready()
    ready.append(live("new"))
    ready.append(live("old", turns=3))
    ready.append(live("child of the old", parent=ParentRef("old", 1, "0:0")))
    ready.append(live("new, too"))
    assert len(ready) == 4
    assert popped(ready) == ["old", "child of the old", "new", "new, too"]
    assert not ready


def test_nothing_waits_for_ever():
    ready = Ready()
    ready.append(live("new"))
    for _ in range(7):
        ready.append(live("old", turns=1))
        ready.append(live("old", turns=1))
        assert ready.pop().id == "old"
    assert ready.pop().id == "new"
    assert set(popped(ready)) == {"old"}


def test_it_can_be_emptied():
    ready = Ready()
    ready.append(live("new"))
    ready.append(live("old", turns=1))
    ready.clear()
    assert len(ready) == 0
