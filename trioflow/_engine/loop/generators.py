"""Async generators that are left before their end, cleaned up as trio does it.

trio closes them in a task of their own, in a scope that is cancelled: what the cleanup awaits is
cancelled at once, unless it is shielded. Errors are logged, and a warning says what to do instead.

One that the garbage collector finds is kept and closed at the end of the run, as if the collector
had not come: nothing that a workflow does may depend on when it comes.
"""

from __future__ import annotations

import gc
import itertools
import logging
import threading
import warnings
import weakref
from typing import Any, Protocol

import trio

from trioflow.errors import Evicted

__all__ = ["Begun", "close_left", "finish_at_once", "is_collecting", "warn_of"]

_logger = logging.getLogger("trio.async_generator_errors")  # trio's own name for it
_MOST_ROUNDS = 100  # so often a cleanup may object to its end
_FEW = 100  # so many entries are kept before those of generators that have gone are removed
_collector: int | None = None  # the thread in which the garbage collector runs
_numbers = itertools.count()


class _Loop(Protocol):
    fenced: bool
    quiet: bool


def _note_collection(phase: str, _: object) -> None:
    global _collector  # noqa: PLW0603  # there is one garbage collector
    _collector = threading.get_ident() if phase == "start" else None


gc.callbacks.append(_note_collection)


def is_collecting() -> bool:
    """Return whether this thread collects garbage: what goes now does so at no certain time."""
    return _collector == threading.get_ident()


class Begun:
    """The async generators of one execution that have begun, in the order in which they did."""

    __slots__ = ("_kept", "_many", "_noted")

    def __init__(self) -> None:
        # By identity; the collector clears weak references before it says what it has found.
        self._noted: dict[int, tuple[int, weakref.ref[Any]]] = {}
        self._kept: dict[int, Any] = {}
        self._many = _FEW

    def add(self, agen: Any) -> None:
        """Note one that begins."""
        if len(self._noted) >= self._many and _collector is None:
            for key, (_, ref) in list(self._noted.items()):
                if ref() is None and key not in self._kept:
                    del self._noted[key]
            self._many = max(_FEW, 2 * len(self._noted))
        self._noted[id(agen)] = next(_numbers), weakref.ref(agen)

    def drop(self, agen: Any) -> None:
        """Forget one that is being cleaned up."""
        self._noted.pop(id(agen), None)

    def keep(self, agen: Any) -> None:
        """Keep one that the collector found until the rest is closed."""
        self._kept[id(agen)] = agen

    def left(self) -> list[Any]:
        """Return those that have not ended, oldest first."""
        found = [
            (number, self._kept.get(key) or ref()) for key, (number, ref) in self._noted.items()
        ]
        found.sort(key=lambda each: each[0])
        return [agen for _, agen in found if agen is not None and agen.ag_frame is not None]


def warn_of(agen: Any) -> None:
    """Warn of an async generator that was dropped before its end."""
    name = f"{agen.ag_frame.f_globals.get('__name__', '?')}.{agen.__qualname__}"
    warnings.warn(
        f"Async generator {name!r} was garbage collected before it had been exhausted. Surround "
        "its use in 'async with aclosing(...):' to ensure that it gets cleaned up as soon as "
        "you're done using it.",
        ResourceWarning,
        stacklevel=3,
        source=agen,
    )


async def close_left(agen: Any, loop: _Loop) -> None:
    """Close an async generator; what it raises is logged, once."""
    name = agen.__qualname__
    try:
        with trio.CancelScope(shield=True) as scope:
            scope.cancel()
            await agen.aclose()
    except Evicted:
        raise
    except BaseException:
        if not loop.fenced and not loop.quiet:
            _logger.exception(
                "Exception ignored during finalization of async generator %r -- surround your use "
                "of the generator in 'async with aclosing(...):' to raise exceptions like this in "
                "the context where they're generated",
                name,
            )


def finish_at_once(agen: Any) -> None:
    """Run an async generator's cleanup as far as it goes without waiting."""
    closer = agen.aclose()
    try:
        closer.send(None)
        for _ in range(_MOST_ROUNDS):  # it waits: no further than here, also if it objects
            closer.throw(Evicted())  # not GeneratorExit, which would close what it awaits
    except BaseException:  # noqa: BLE001  # it has ended, or nobody is left to be told
        return
