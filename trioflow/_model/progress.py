"""The progress of activities: what their code says with ``heartbeat()``, as it is stored."""

from __future__ import annotations

import msgspec

__all__ = ["Progress", "decode_progress"]


class Progress(msgspec.Struct, frozen=True):
    """What an attempt last gave to ``heartbeat()``.

    Attributes:
        at: When, by the store's clock.
        details: As the codec wrote them.
    """

    at: float
    details: msgspec.Raw


decode_progress = msgspec.json.Decoder(Progress).decode
