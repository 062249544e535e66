"""Ending a worker when the process is asked to end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Generator
from types import FrameType

import anyio

from trioflow.backends._common.loop import call_soon_here

__all__ = ["sigterm_event"]

_wakers: list[Callable[[], None]] = []


@contextlib.contextmanager
def sigterm_event() -> Generator[anyio.Event]:
    """Give an event that is set when the process gets SIGTERM, for as long as the block lasts.

    A second SIGTERM has its default effect and ends the process at once. Where a handler is already
    installed, and in other threads than the main one, the signal is left alone: then the event is
    never set. Several blocks may be open at once, also in several runs of trio or asyncio.
    """
    event = anyio.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    if not _wakers:
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            yield event
            return
        signal.signal(signal.SIGTERM, _on_sigterm)
    soon = call_soon_here()

    def waker() -> None:  # in the signal handler, which may run in the midst of anything
        soon(event.set)

    _wakers.append(waker)
    try:
        yield event
    finally:
        _wakers.remove(waker)
        if not _wakers and signal.getsignal(signal.SIGTERM) is _on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _on_sigterm(_signum: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for waker in tuple(_wakers):
        waker()
