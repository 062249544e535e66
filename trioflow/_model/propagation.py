"""Metadata: strings that travel with a call, and what puts them there and takes them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Protocol, cast

import msgspec

from trioflow._codec.limits import MAX_METADATA, check_characters
from trioflow.errors import ArgumentError, PayloadTooLarge

__all__ = ["ContextVars", "Propagator", "check_metadata", "injected"]

_encode = msgspec.json.Encoder().encode


class Propagator(Protocol):
    """Carries something of its own along the calls: client, workflow, activity, sub-workflow.

    Both methods are quick and do no I/O. In a workflow they do the same on each replay.
    """

    def inject(self, metadata: dict[str, str], /) -> None:
        """Add to the metadata of a call that is made here; what the caller has is in it already."""
        ...

    def extract(self, metadata: Mapping[str, str], /) -> None:
        """Take over the metadata of the workflow, or the attempt of an activity, that begins here.

        Context variables that are set here are seen by that workflow, or that attempt, alone.
        """
        ...


class ContextVars:
    """A propagator of context variables, each under a name: ``ContextVars(request_id=request_id)``.

    A variable without a value is left out, and so keeps its default at the other end.
    """

    def __init__(self, **variables: ContextVar[str]) -> None:
        self._variables = variables

    def inject(self, metadata: dict[str, str], /) -> None:
        """Add the values that the variables have here."""
        for name, variable in self._variables.items():
            value = variable.get(None)
            if value is not None:
                metadata[name] = value

    def extract(self, metadata: Mapping[str, str], /) -> None:
        """Give the variables the values that they had where the call was made."""
        for name, variable in self._variables.items():
            if name in metadata:
                variable.set(metadata[name])

    def __repr__(self) -> str:
        return f"ContextVars({', '.join(self._variables)})"


def check_metadata(metadata: object) -> dict[str, str]:
    """Return metadata as a dictionary of its own, if every store takes it.

    Raises:
        ArgumentError: It is no mapping of strings, or has characters that a store does not take.
        PayloadTooLarge: It is too large.
    """
    if type(metadata) is dict:
        # Nearly always it is small and all ASCII: then there is nothing else to check. A character
        # takes six bytes at most, and each text has quotes and a separator.
        plain: dict[str, str] = metadata  # pyright: ignore[reportUnknownVariableType]  # no call
        try:
            text = "".join([*plain, *plain.values()])
        except TypeError:  # it says below which one is none
            text = "\0"
        size = 6 * (len(text) + len(plain)) + 2
        if size <= MAX_METADATA and text.isascii() and "\0" not in text:
            return plain.copy()
    if not isinstance(metadata, Mapping):
        raise ArgumentError(f"metadata is a mapping of strings, not {metadata!r}")
    checked: dict[str, str] = {}
    for name, value in cast("Mapping[object, object]", metadata).items():
        known = check_characters(name, "a name in metadata")
        checked[known] = check_characters(value, f"metadata {known!r}")
    size = len(_encode(checked)) if checked else 0
    if size > MAX_METADATA:
        raise PayloadTooLarge(
            f"metadata has {size:,} bytes encoded, the limit is {MAX_METADATA:,}; pass what is "
            "large as an argument"
        )
    return checked


def injected(propagators: Sequence[Propagator], *given: Mapping[str, str] | None) -> dict[str, str]:
    """Return the metadata of a call: what is given, the later first, and what propagators add."""
    metadata: dict[str, str] = {}
    for each in given:
        if each:
            metadata.update(each)
    for propagator in propagators:
        propagator.inject(metadata)
    return check_metadata(metadata) if propagators else metadata
