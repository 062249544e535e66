"""Breaking off a connection that another thread uses."""

from __future__ import annotations

import socket

__all__ = ["break_off"]


def break_off(fileno: int) -> None:
    """End a connection both ways; who waits for an answer on it, or asks next, gets an error.

    The descriptor stays open, and the driver's memory is not touched: both are the other thread's.

    Raises:
        OSError: It is not connected any more.
    """
    there = socket.socket(fileno=fileno)
    try:
        there.shutdown(socket.SHUT_RDWR)
    finally:
        there.detach()
