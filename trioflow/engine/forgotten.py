"""Calls of activities and sub-workflows that have not begun, and those that never will."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Coroutine
from types import CodeType
from typing import Any, TypeAlias

from trioflow.errors import TrioflowError

__all__ = ["Calls"]


Call: TypeAlias = tuple[Coroutine[Any, Any, Any], str, str, CodeType, int]
"""A call whose coroutine has been made: that coroutine, ``"activity"`` or ``"workflow"``, the name
of its definition, the code that made it, and the offset of the instruction there. (A line's number
takes longer to find.)"""


class Calls:
    """The calls of one execution that have not begun.

    Attributes:
        waiting: Those calls by their numbers. Each takes itself out when it begins.
        number: Of the last one, from 1.
        watched: Whether calls are kept, so that a forgotten one can be found. Executions of older
            rules leave them to Python, which warns of them somewhere.
    """

    __slots__ = ("number", "waiting", "watched")

    def __init__(self) -> None:
        self.waiting: dict[int, Call] = {}
        self.number = 0
        self.watched = False

    def find_forgotten(self) -> TrioflowError | None:
        """Return an error for the first call that nobody can await any more, ``None`` without one.

        That is one whose coroutine nothing refers to but this. Such coroutines are closed.
        """
        error: TrioflowError | None = None
        for number, call in list(self.waiting.items()):
            if inspect.getcoroutinestate(call[0]) != inspect.CORO_CREATED:
                del self.waiting[number]
            elif sys.getrefcount(call[0]) <= 2:  # noqa: PLR2004  # the call's and the argument's
                call[0].close()
                del self.waiting[number]
                _, kind, name, code, offset = call
                error = error or TrioflowError(
                    f"{kind} {name!r} was called at {code.co_filename}:{_line(code, offset)} "
                    "and is not awaited, so it never runs. Write 'await' before the call, or "
                    "start it in a nursery."
                )
        return error

    def close(self) -> None:
        """Close all coroutines that have not begun: whoever holds them will not go on."""
        for made, *_ in self.waiting.values():
            made.close()
        self.waiting.clear()


def _line(code: CodeType, offset: int) -> int | None:
    """Return the number of the line of an instruction."""
    return next((line for start, end, line in code.co_lines() if start <= offset < end), None)
