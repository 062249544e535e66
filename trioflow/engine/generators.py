"""Async generators that are left before their end, cleaned up as trio does it.

trio closes them in a task of their own, in a scope that is cancelled: what the cleanup awaits is
cancelled at once, unless it is shielded. Errors are logged, and a warning says what to do instead.
"""

from __future__ import annotations

import gc
import logging
import warnings
from typing import Any, Protocol

import trio

from trioflow.errors import Evicted

__all__ = ["close_left", "finish_at_once", "is_collecting", "warn_of"]

_logger = logging.getLogger("trio.async_generator_errors")  # trio's own name for it
_MOST_ROUNDS = 100  # so often a cleanup may object to its end
_collecting = False


class _Loop(Protocol):
    fenced: bool
    quiet: bool


def _note_collection(phase: str, _: object) -> None:
    global _collecting  # noqa: PLW0603  # there is one garbage collector
    _collecting = phase == "start"


gc.callbacks.append(_note_collection)


def is_collecting() -> bool:
    """Return whether the garbage collector runs: what goes now does so at no certain time."""
    return _collecting


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
