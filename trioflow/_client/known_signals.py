"""Signals that a module defines: by their names, and what is sent with them checked by their types.

Who sends a signal from a shell or a web page has no object of it. One that cannot be decoded
suspends the instance that receives it, so it is better refused before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trioflow._codec.values import JsonCodec, decode_as
from trioflow._model.signals import Signal
from trioflow.errors import UndecodableValue

__all__ = ["signals_among", "value_of"]


def signals_among(namespaces: Iterable[Mapping[str, object]]) -> dict[str, list[Signal[Any]]]:
    """Return the signals at the top level of modules, by their names; several may have one."""
    found: dict[str, list[Signal[Any]]] = {}
    for namespace in namespaces:
        for each in [*namespace.values()]:  # another thread may import something into it
            if isinstance(each, Signal):
                signal: Signal[Any] = each  # pyright: ignore[reportUnknownVariableType]  # of any
                found.setdefault(signal.name, []).append(signal)
    return found


def value_of(signals: Sequence[Signal[Any]], sent: object) -> tuple[Signal[Any], Any]:
    """Return plain JSON data as a value of one of some signals of one name, and which one that is.

    Raises:
        UndecodableValue: It is of none of their types, and where.
    """
    plain = JsonCodec()
    what = f"the value of signal {signals[0].name!r}"
    refused: UndecodableValue | None = None
    for signal in signals:
        try:
            return signal, decode_as(plain, plain.encode(sent), signal.type, what)
        except UndecodableValue as error:
            refused = refused or error
    assert refused is not None
    raise refused
