"""A failure on one line."""

from __future__ import annotations

import pytest

from trioflow._codec.failures.failures import Failure
from trioflow._codec.failures.lines import failure_line


class Declined(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError(), "ValueError"),
        (ValueError("two\nlines"), "ValueError: two lines"),
        (
            ExceptionGroup("Exceptions from Trio nursery", [Declined("c7")]),
            "ExceptionGroup of 1: Declined: c7",
        ),
        (
            ExceptionGroup("unhandled errors in a TaskGroup", [KeyError(n) for n in range(5)]),
            "ExceptionGroup of 5: KeyError: 0; KeyError: 1; KeyError: 2; …",
        ),
        (
            ExceptionGroup(
                "undoing", [ExceptionGroup("Exceptions from Trio nursery", [OSError()])]
            ),
            "ExceptionGroup 'undoing' of 1: ExceptionGroup of 1: OSError",
        ),
    ],
)
def test_a_group_is_told_by_its_members(error, line):
    assert failure_line(Failure.of(error)) == line


def test_classes_are_qualified_on_demand():
    group = ExceptionGroup("Exceptions from Trio nursery", [Declined("c7")])
    assert failure_line(Failure.of(group), qualified=True).endswith("failure_lines.Declined: c7")
