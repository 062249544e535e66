"""Where random bits come from: for lives, for ids and for tokens.

Nothing else in trioflow draws random bits that are stored: what a workflow draws comes out of its
`Started.seed`, and the jitter of a retry out of the activity's key. So a run in which the source is
seeded and the clocks are virtual can be repeated exactly.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO

__all__ = ["RandomSource", "system_random"]

_POOL = 4096  # bytes that are read at once
_LIFE = 16  # bytes of a life: 128 bits


class RandomSource:
    """Random bits as hexadecimal text, from bytes that are read in advance. Any thread may use it.

    Each call of `os.urandom` lets go of the interpreter's lock. A storage thread that waits for the
    lock then takes it, and the loop has to wait in turn: at every start of an instance.

    Args:
        read: Gives so many random bytes: the system's, or for a run that can be repeated those of a
            seeded generator, ``random.Random(7).randbytes``.
    """

    __slots__ = ("_bytes", "_read")

    def __init__(self, read: Callable[[int], bytes] = os.urandom) -> None:
        self._read = read
        self._bytes = BytesIO()

    def hex(self, size: int) -> str:
        """Return so many random bytes, two digits for each."""
        taken = self._bytes.read(size)  # atomic: threads get different ones
        if len(taken) < size:
            self._bytes = fresh = BytesIO(self._read(_POOL))
            taken = fresh.read(size)
        return taken.hex()

    def new_life(self) -> str:
        """Return 128 random bits, for `NewInstance.life` or `Started.seed`."""
        return self.hex(_LIFE)

    def empty(self) -> None:
        """Forget what was read in advance."""
        self._bytes = BytesIO()


system_random = RandomSource()
"""The system's, as one pool for the whole process."""

if hasattr(os, "register_at_fork"):
    # Parent and child must not give the same ones.
    os.register_at_fork(after_in_child=system_random.empty)
