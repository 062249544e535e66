"""Which instance has the next turn."""

from __future__ import annotations

from trioflow._model.events import ParentRef
from trioflow._worker.instances.held import HeldInstance
from trioflow._worker.instances.holdings import Ready
from trioflow.backends.commits import NewInstance


def instance(id, *, turns=0, parent=None):
    one = HeldInstance.born(NewInstance(id, "w", "q", b"", parent))
    one.turns = turns
    return one


def popped(ready):
    return [ready.pop().id for _ in range(ready.size)]


def test_what_is_under_way_comes_before_what_has_not_begun():
    ready = Ready()
    ready.append(instance("new"))
    ready.append(instance("old", turns=3))
    ready.append(instance("child of the old", parent=ParentRef("old", 1, "0:0")))
    ready.append(instance("new, too"))
    assert ready.size == 4
    assert popped(ready) == ["old", "child of the old", "new", "new, too"]
    assert ready.size == 0


def test_nothing_waits_for_ever():
    ready = Ready()
    ready.append(instance("new"))
    for _ in range(7):
        ready.append(instance("old", turns=1))
        ready.append(instance("old", turns=1))
        assert ready.pop().id == "old"
    assert ready.pop().id == "new"
    assert set(popped(ready)) == {"old"}


def test_it_can_be_emptied():
    ready = Ready()
    ready.append(instance("new"))
    ready.append(instance("old", turns=1))
    ready.clear()
    assert ready.size == 0


def test_one_of_several_can_be_removed():
    ready = Ready()
    kept, removed = instance("old", turns=1), instance("new")
    ready.append(kept)
    ready.append(removed)
    ready.remove(removed)
    ready.remove(removed)
    assert ready.size == 1
    assert list(ready) == [kept]
