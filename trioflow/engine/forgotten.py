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

    It is only counted how many have begun; mostly that is soon all of them. Only at the end of a
    turn in which it is not, each is looked at.

    Attributes:
        made: Those calls, and some that have begun.
        begun: How many these are.
        watched: Whether calls are kept, so that a forgotten one can be found. Executions of older
            rules leave them to Python, which warns of them somewhere.
    """

    __slots__ = ("begun", "made", "watched")

    def __init__(self) -> None:
        self.made: list[Call] = []
        self.begun = 0
        self.watched = False

    def find_forgotten(self) -> TrioflowError | None:
        """Return an error for the first call that nobody can await any more, ``None`` without one.

        That is one whose coroutine nothing refers to but this. Such coroutines are closed. What has
        begun is let go of.
        """
        error: TrioflowError | None = None
        made, self.made, self.begun = self.made, [], 0
        for call in made:
            if inspect.getcoroutinestate(call[0]) != inspect.CORO_CREATED:
                continue
            if sys.getrefcount(call[0]) > 2:  # noqa: PLR2004  # the call's and the argument's
                self.made.append(call)
                continue
            call[0].close()
            _, kind, name, code, offset = call
            error = error or TrioflowError(
                f"{kind} {name!r} was called at {code.co_filename}:{_line(code, offset)} "
                "and is not awaited, so it never runs. Write 'await' before the call, or "
                "start it in a nursery."
            )
        return error

    def forget(self) -> None:
        """Let go of all calls: they have begun."""
        self.made.clear()
        self.begun = 0

    def close(self) -> None:
        """Close all coroutines that have not begun: whoever holds them will not go on."""
        for call in self.made:
            if inspect.getcoroutinestate(call[0]) == inspect.CORO_CREATED:
                call[0].close()
        self.forget()


def _line(code: CodeType, offset: int) -> int | None:
    """Return the number of the line of an instruction."""
    return next((line for start, end, line in code.co_lines() if start <= offset < end), None)
