"""A failure on one line, for lists, logs and tables."""

from __future__ import annotations

import re
from typing import Final

from trioflow._codec.failures.failures import Failure

__all__ = ["failure_line"]

_SHOWN: Final = 3  # of the members of a group

# What trio and anyio call the groups of their nurseries, which says nothing; and what Python adds.
_OF_NURSERIES: Final = {"Exceptions from Trio nursery", "unhandled errors in a TaskGroup", ""}
_COUNT: Final = re.compile(r" ?\(\d+ sub-exceptions?\)$")


def failure_line(failure: Failure, *, qualified: bool = False) -> str:
    """Return what was raised on one line, as Python writes it; of a group what its members are.

    Args:
        failure: What failed.
        qualified: Whether classes are written with their modules.
    """
    return " ".join(_line(failure, qualified=qualified).split())


def _line(failure: Failure, *, qualified: bool) -> str:
    kind = failure.type if qualified else failure.type.rpartition(".")[2]
    if not failure.members:
        return f"{kind}: {failure.message}" if failure.message else kind
    title = _COUNT.sub("", failure.message)
    called = "" if title in _OF_NURSERIES else f" {title!r}"
    parts = [_line(each, qualified=qualified) for each in failure.members[:_SHOWN]]
    if len(failure.members) > _SHOWN:
        parts.append("…")
    return f"{kind}{called} of {len(failure.members)}: {'; '.join(parts)}"
