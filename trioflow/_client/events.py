"""Events that clients send, in their stored form, and what became of them."""

from __future__ import annotations

from typing import Final

import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._codec.limits import check_reason
from trioflow._codec.values import Codec, encode_plain, seal_text
from trioflow._model.events import (
    CancelRequested,
    PromiseRejected,
    PromiseResolved,
    encode_event,
)
from trioflow._model.promises import Token
from trioflow._model.turns import Cancelled
from trioflow.backends.records import Effect
from trioflow.errors import InstanceFinished, InstanceNotFound

__all__ = ["cancel_event", "check_effect", "settling"]

_encode: Final = msgspec.json.Encoder().encode


def cancel_event(codec: Codec, reason: str | None) -> tuple[bytes, bytes]:
    """Return a cancel, and the outcome of an instance that has not begun.

    Raises:
        ArgumentError: The reason is too long, or has characters that a store does not take.
    """
    why = seal_text(codec, check_reason(reason))
    return encode_event(CancelRequested(why)), _encode(Cancelled(why))


def settling(
    codec: Codec, token: str, *, value: object = None, error: BaseException | None = None
) -> tuple[str, str, bytes, str]:
    """Return what settles a promise: instance, life, event, and the id of the request.

    Raises:
        ArgumentError: It is no token.
        ValueMismatch: The value cannot be stored.
        PayloadTooLarge: It is too large.
    """
    meant = Token.parse(token)
    event: PromiseResolved | PromiseRejected
    if error is None:
        data = msgspec.Raw(encode_plain(codec, value, "the value of a promise"))
        event = PromiseResolved(meant.secret, data)
    else:
        event = PromiseRejected(meant.secret, Failure.of(error, codec))
    return meant.instance, meant.life, encode_event(event), f"promise {meant.secret}"


def check_effect(instance: str, effect: Effect) -> None:
    """Check that what was sent to an instance, or asked of it, has found it.

    Raises:
        InstanceNotFound: There is no such instance.
        InstanceFinished: It has ended.
    """
    if effect == "not found":
        raise InstanceNotFound(instance)
    if effect == "finished":
        raise InstanceFinished(instance)
