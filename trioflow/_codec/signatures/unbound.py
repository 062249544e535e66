"""The call signature of an activity that is a method, before there is an object to call it on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trioflow._codec.limits import MAX_PAYLOAD
from trioflow._codec.signatures.signatures import CallSignature
from trioflow._codec.values import Codec
from trioflow.errors import ArgumentError, UndecodableValue

__all__ = ["UnboundSignature"]


class UnboundSignature(CallSignature):
    """That of a method which was taken from its class, where it cannot be called."""

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
        """Say that there is no object to call it on."""
        raise UndecodableValue(
            f"{what or self.name}() is an activity of an object, and none was added in this "
            "process: give one to registry.add(...) before the worker starts"
        )
