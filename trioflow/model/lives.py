"""The identity of one life of an instance's id."""

from __future__ import annotations

import os

__all__ = ["new_life"]


def new_life() -> str:
    """Return 128 random bits in hexadecimal, for `NewInstance.life` or `Started.seed`."""
    return os.urandom(16).hex()
