"""Signals that are sent by a form: checked by the modules of the workflows that the pages know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from trioflow import Signal
from trioflow._client.known_signals import signals_among, value_of
from trioflow.web._acting.forms import Given, Sheet
from trioflow.web._site import Site

__all__ = ["known_signals", "signal_given", "unchecked"]

_UNCHECKED: Final = "unchecked"


class _UnknownSignal(ValueError):
    """A signal is in none of the modules that are known."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        super().__init__(
            f"The module of the workflow has no signal {name!r}; it has "
            f"{', '.join(sorted(known))}. Send it once more to send it unchecked."
        )


def known_signals(site: Site, workflows: Sequence[str] | None) -> dict[str, list[Signal[Any]]]:
    """Return the signals of the modules of workflows; ``None`` means all that the pages know."""
    if site.registry is None:
        return {}
    known = site.registry.workflows
    names = known if workflows is None else [name for name in workflows if name in known]
    return signals_among(getattr(known[name].fn, "__globals__", {}) for name in names)


def signal_given(given: Given) -> tuple[Any, Any]:
    """Return what a form says is to be sent: the signal, or its name, and the value.

    Raises:
        ValueError: There is no such signal, and nobody has said that it is to be sent all the same.
        ArgumentError: The value begins like JSON, and is none.
        UndecodableValue: It is not of the signal's type.
    """
    name, value = given.text("name"), given.value("value")
    sent = value[0] if value else None
    if signals := given.signals.get(name):
        return value_of(signals, sent)
    if name and given.signals and given.raw(_UNCHECKED) != name:
        raise _UnknownSignal(name, given.signals)
    return name, sent


def unchecked(sheet: Sheet, error: Exception) -> Sheet:
    """Return a form that sends an unknown signal all the same, if that was the error."""
    if not isinstance(error, _UnknownSignal):
        return sheet
    return replace(sheet, hidden={**sheet.hidden, _UNCHECKED: error.name})
