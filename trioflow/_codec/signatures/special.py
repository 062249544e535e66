"""Call signatures of definitions whose function is not at hand.

That is a method without an object, or a definition that is only known by its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trioflow._codec.limits import MAX_PAYLOAD
from trioflow._codec.signatures.signatures import CallSignature
from trioflow._codec.values import Codec, decode_as, encode_plain
from trioflow.errors import ArgumentError, DefinitionError, UndecodableValue, ValueMismatch

__all__ = ["SignatureByName", "UnboundSignature"]


class UnboundSignature(CallSignature):
    """The signature of a method that is not bound to an object: it cannot be called."""

    __slots__ = ()

    def encode(
        self,
        codec: Codec,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        what: str | None = None,
        limit: int = MAX_PAYLOAD,
    ) -> bytes:
        """Refuse the call."""
        raise ArgumentError(
            f"{what or self.name}() is an activity of an object; call it on the one that was "
            f"added with registry.add(...), as in the_object.{self.name}(...)"
        )

    def decode(
        self,
        codec: Codec,
        data: bytes,
        what: str | None = None,
    ) -> tuple[list[Any], dict[str, Any]]:
        """Refuse the input: there is no object to call it on."""
        raise UndecodableValue(
            f"{what or self.name}() is an activity of an object, and none was added in this "
            "process: give one to registry.add(...) before the worker starts"
        )


class SignatureByName(CallSignature):
    """The signature of a definition that is known by its name: any keyword arguments fit.

    They are stored as a call of the real function would store them.
    """

    __slots__ = ()

    def encode(
        self,
        codec: Codec,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        what: str | None = None,
        limit: int = MAX_PAYLOAD,
    ) -> bytes:
        """Return the keyword arguments as one JSON document; raises what `CallSignature` does."""
        name = what or self.name
        if args:
            raise ArgumentError(
                f"{name}() is defined elsewhere, so the order of its parameters is not known here; "
                "give all arguments by name"
            )
        try:
            return encode_plain(codec, dict(kwargs), f"{name}() arguments", limit)
        except (ValueMismatch, DefinitionError) as error:
            raise ArgumentError(str(error)) from error

    def decode(
        self, codec: Codec, data: bytes, what: str | None = None
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return all arguments by name, as plain data; for what a test has stand in for it."""
        return [], decode_as(codec, data, dict[str, Any], f"{what or self.name}() arguments")
