"""The names of signals, queries and updates that are given as text."""

from __future__ import annotations

from typing import Final, Literal

from trioflow._codec.limits import check_name
from trioflow._model.queries import Query
from trioflow._model.signals import Signal
from trioflow._model.updates import Update
from trioflow.errors import ArgumentError

__all__ = ["message_name"]

_CLASSES: Final = {"signal": Signal, "query": Query, "update": Update}


def message_name(given: object, kind: Literal["signal", "query", "update"]) -> str:
    """Return a name that was given in place of a message of that kind.

    Raises:
        ArgumentError: It is no name that a store takes, or a message of another kind.
    """
    for other, cls in _CLASSES.items():
        if isinstance(given, cls):
            raise ArgumentError(f"{given!r} is no {kind}: write {other}(…) in place of {kind}(…)")
    return check_name(given, f"an {kind}" if kind == "update" else f"a {kind}")
