"""Calls of activities and sub-workflows that have not begun, and those that never will."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

from trioflow.errors import TrioflowError

__all__ = ["Call", "Calls"]

T = TypeVar("T")


class Call:
    """A call whose coroutine has been made.

    Attributes:
        what: ``"activity 'charge'"``.
        file: Of the line that made it.
        line: Its number.
        made: The coroutine, until it begins.
    """

    __slots__ = ("file", "line", "made", "what")

    def __init__(self, what: str, file: str, line: int) -> None:
        self.what = what
        self.file = file
        self.line = line
        self.made: Coroutine[Any, Any, Any] | None = None


class Calls:
    """The calls of one execution that have not begun.

    Attributes:
        watched: Whether coroutines are kept, so that a forgotten one can be found. Executions of
            older rules leave them to Python, which warns of them somewhere.
    """

    __slots__ = ("_waiting", "watched")

    def __init__(self) -> None:
        self._waiting: dict[Call, None] = {}
        self.watched = False

    def note(self, what: str, frame: FrameType) -> Call:
        """Note a call; ``frame`` is that of the code that makes it."""
        call = Call(what, frame.f_code.co_filename, frame.f_lineno)
        self._waiting[call] = None
        return call

    def made(self, call: Call, made: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """Note the coroutine of a call and return it."""
        if self.watched:
            call.made = made
        return made

    def began(self, call: Call) -> None:
        """Forget a call that is awaited."""
        call.made = None
        self._waiting.pop(call, None)

    def find_forgotten(self) -> TrioflowError | None:
        """Return an error for the first call that nobody can await any more, ``None`` without one.

        That is one whose coroutine nothing refers to but this. Such coroutines are closed.
        """
        error: TrioflowError | None = None
        for call in list(self._waiting):
            if call.made is None or inspect.getcoroutinestate(call.made) != inspect.CORO_CREATED:
                del self._waiting[call]
            elif sys.getrefcount(call.made) <= 2:  # noqa: PLR2004  # the call's and the argument's
                call.made.close()
                del self._waiting[call]
                error = error or TrioflowError(
                    f"{call.what} was called at {call.file}:{call.line} and is not awaited, so it "
                    "never runs. Write 'await' before the call, or start it in a nursery."
                )
        return error

    def close(self) -> None:
        """Close all coroutines that have not begun: whoever holds them will not go on."""
        for call in self._waiting:
            if call.made is not None:
                call.made.close()
        self._waiting.clear()

    def __bool__(self) -> bool:
        return bool(self._waiting)
