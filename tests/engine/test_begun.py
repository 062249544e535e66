"""What follows from the first event of an execution."""

from __future__ import annotations

import msgspec
import pytest

from trioflow._engine.begun import Begun
from trioflow._model.events import CancelRequested, ParentRef, Started
from trioflow._model.info import Identity

PARENT = ParentRef("p", 2, "0:1", "a life")
EARLIER = ParentRef("p", 1, "0:1", "a life")
OTHERS = [ParentRef("q", 2, "0:1", "a life"), ParentRef("p", 2, "0:2", "a life")]


def begun(parent):
    started = Started("w", msgspec.Raw(b"[]"), parent=parent)
    return Begun(Identity("c", 1, "default"), started)


@pytest.mark.parametrize("parent", [None, PARENT])
def test_a_client_may_cancel_it(parent):
    assert begun(parent).is_asked_by(CancelRequested("why"))


@pytest.mark.parametrize("adopted", [False, True])
def test_of_parents_only_its_own_may_cancel_it(adopted):
    """Another one has called an id that was taken, and does not know it yet."""
    assert begun(PARENT).is_asked_by(CancelRequested("why", by=PARENT, adopted=adopted))
    for other in OTHERS:
        assert not begun(PARENT).is_asked_by(CancelRequested("why", by=other, adopted=adopted))
    assert not begun(None).is_asked_by(CancelRequested("why", by=PARENT, adopted=adopted))


def test_a_parent_that_was_reset_has_taken_it_over():
    assert begun(EARLIER).is_asked_by(CancelRequested("why", by=PARENT, adopted=True))
    assert not begun(EARLIER).is_asked_by(CancelRequested("why", by=PARENT))
