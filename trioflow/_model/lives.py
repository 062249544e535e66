"""The identity of one life of an instance's id."""

from __future__ import annotations

import os
from io import BytesIO

__all__ = ["new_life"]

_SIZE = 16  # bytes of one
_TOGETHER = 256  # so many are read from the system at once


class _Pool:
    """Random bytes of the system, read in advance.

    Each call of `os.urandom` lets go of the interpreter's lock. A storage thread that waits for the
    lock then takes it, and the loop has to wait in turn: at every start of an instance.
    """

    def __init__(self) -> None:
        self._bytes = BytesIO()

    def take(self) -> bytes:
        taken = self._bytes.read(_SIZE)  # atomic: threads get different ones
        if len(taken) < _SIZE:
            self._bytes = fresh = BytesIO(os.urandom(_SIZE * _TOGETHER))
            taken = fresh.read(_SIZE)
        return taken

    def empty(self) -> None:
        self._bytes = BytesIO()


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.empty)  # parent and child must not give the same ones


def new_life() -> str:
    """Return 128 random bits in hexadecimal, for `NewInstance.life` or `Started.seed`."""
    return _pool.take().hex()
