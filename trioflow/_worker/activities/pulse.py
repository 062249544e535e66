"""The heartbeats of one attempt, thinned out: what its code says often is stored now and then.

``heartbeat()`` is called in whatever thread runs the function, perhaps in a tight loop. So it does
little: it notes the time and the details. Details are encoded and sent to the loop only when the
loop wants some: at first, and after a silence. Then the loop looks once in `INTERVAL` seconds what
was said meanwhile (`take`). So the last details of an attempt are stored a little later, or with
its end.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Final

from trioflow.backends._common.loop import CallSoon

__all__ = ["INTERVAL", "Pulse"]

logger = logging.getLogger("trioflow.worker")

INTERVAL: Final = 1.0
"""Seconds between two looks at what was said."""


class Pulse:
    """What one attempt says with ``heartbeat()``, and when.

    Args:
        clock: The loop's clock, which any thread may ask.
        encode: Encodes details.
        call_soon: Calls a function in the loop.
        on_first: Called in the loop when something was said after a silence, for `take` to give.

    Attributes:
        last_at: When something was said last, or when the attempt began.
        silence: For how many seconds the attempt may say nothing; ``inf`` for no limit.
        overdue: Whether it has been silent for longer.
        spoke: Whether anything was said at all.
        quiet: Whether nothing was said since the last look but one.
    """

    __slots__ = (
        "_call_soon",
        "_clock",
        "_encode",
        "_encoded",
        "_on_first",
        "_said",
        "_wanted",
        "last_at",
        "overdue",
        "quiet",
        "silence",
        "spoke",
    )

    def __init__(
        self,
        clock: Callable[[], float],
        encode: Callable[[object], bytes],
        call_soon: CallSoon,
        on_first: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._encode = encode
        self._call_soon = call_soon
        self._on_first = on_first
        self._said: deque[object] = deque(maxlen=1)  # whose methods threads may call at any time
        self._encoded: bytes | None = None
        self._wanted = True
        self.last_at = clock()
        self.silence = math.inf
        self.overdue = self.spoke = False
        self.quiet = True

    @property
    def silent_at(self) -> float:
        """When it has been silent for too long, if nothing is said until then."""
        return math.inf if self.overdue else self.last_at + self.silence

    def beat(self, details: object) -> None:
        """Note what the attempt says. Called in any thread.

        Raises:
            ValueMismatch: The details were wanted at once, and cannot be encoded.
        """
        self.last_at = self._clock()
        self.spoke = True
        if not self._wanted:
            self._said.append(details)
            return
        encoded = self._encode(details)
        self._said.clear()
        self._encoded = encoded
        self._wanted = False
        self._call_soon(self._on_first)

    def heard(self) -> str:
        """Return how long it is since something was said, for the log; ``""`` if nothing was."""
        if not self.spoke:
            return ""
        return f"; its last heartbeat came {self._clock() - self.last_at:.3g} s before"

    def take(self) -> bytes | None:
        """Return what was said since the last look, encoded; ``None`` for nothing. In the loop."""
        encoded, self._encoded = self._encoded, None
        if self._said:
            try:
                encoded = self._encode(self._said.pop())
            except Exception as exc:  # noqa: BLE001  # of the codec; the function has gone on
                logger.warning("%s", exc)
        # Not quiet before the second look: a thread may be about to say what it must not encode.
        self.quiet = encoded is None and self._wanted
        if encoded is None:
            self._wanted = True
        return encoded
