"""What a handler may take: checked when it is set, as far as a function's own code says."""

from __future__ import annotations

from functools import partial

import pytest

from trioflow import DefinitionError
from trioflow._model.updates import check_takes


class Cart:
    def add(self, item):
        return item


def one(item):
    return item


def two(item, other):
    return item


def optional(item=None):
    return item


def any_number(*items):
    return items


@pytest.mark.parametrize(
    ("fn", "count"),
    [
        (one, 1),
        (optional, 1),
        (optional, 0),
        (any_number, 1),
        (any_number, 0),
        (lambda: 1, 0),
        # Not looked at: what they take is not seen quickly.
        (Cart().add, 1),
        ([].append, 1),
        (partial(two, 1), 1),
    ],
)
def test_what_fits_is_taken(fn, count):
    check_takes(fn, count, "the handler", "update 'add'")


@pytest.mark.parametrize(("fn", "count", "says"), [(one, 0, "no"), (two, 1, "an"), (two, 0, "no")])
def test_what_does_not_fit_is_refused_with_its_place(fn, count, says):
    message = rf"the handler \(.*test_handlers.py:\d+\) is called with {says} argument"
    with pytest.raises(DefinitionError, match=message):
        check_takes(fn, count, "the handler", "update 'add'")
