"""The call signature of definitions that are only known by their name. Nothing else lives here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trioflow._codec.signatures.signatures import CallSignature
from trioflow._codec.values import MAX_PAYLOAD, Codec, encode_plain
from trioflow.errors import ArgumentError, DefinitionError, ValueMismatch

__all__ = ["SignatureByName"]


class SignatureByName(CallSignature):
    """Takes any keyword arguments and stores them as a call of the real function would."""

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
