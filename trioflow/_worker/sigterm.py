"""The event that SIGTERM sets, so that a worker drains when its process is asked to end.

Not by `anyio.open_signal_receiver`, which cannot do what this promises. It hands each signal to a
task of the loop, so a second SIGTERM would wait for a loop that is stuck in somebody's code, which
is when it is needed: here the first one restores the default effect in the handler itself. The
newest of two receivers takes the signal from the older, so of two workers in one program only one
would hear of it. And it replaces a handler that the program has installed.
"""

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
