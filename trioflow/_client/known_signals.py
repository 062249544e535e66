"""Signals that a module defines: by their names, and what is sent with them checked by their types.

Who sends a signal from a shell or a web page has no object of it. One that cannot be decoded
suspends the instance that receives it, so it is better refused before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trioflow._codec.values import JsonCodec, decode_as
from trioflow._model.signals import Signal

__all__ = ["signals_among", "value_of"]


def signals_among(namespaces: Iterable[Mapping[str, object]]) -> dict[str, Signal[Any]]:
    """Return the signals at the top level of modules, by their names."""
    found: dict[str, Signal[Any]] = {}
    for namespace in namespaces:
        for each in [*namespace.values()]:  # another thread may import something into it
            if isinstance(each, Signal):
                signal: Signal[Any] = each  # pyright: ignore[reportUnknownVariableType]  # of any
                found[signal.name] = signal
    return found


def value_of(signal: Signal[Any], sent: object) -> Any:
    """Return plain JSON data as a value of a signal's type.

    Raises:
        UndecodableValue: It is none of that type, and where.
    """
    plain = JsonCodec()
    what = f"the value of signal {signal.name!r}"
    return decode_as(plain, plain.encode(sent), signal.type, what)
