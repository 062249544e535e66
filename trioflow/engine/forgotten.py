"""Calls of activities and sub-workflows that have not begun, and those that never will."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Coroutine
from types import FrameType
from typing import Any

from trioflow.errors import TrioflowError

__all__ = ["Call", "Calls"]


class Call:
    """A call whose coroutine has been made.

    Attributes:
        kind: ``"activity"`` or ``"workflow"``.
        name: Of its definition.
        code: That made it.
        offset: Of the instruction; a line's number takes longer to find.
        made: The coroutine, until it begins.
    """

    __slots__ = ("code", "kind", "made", "name", "offset")

    def __init__(self, kind: str, name: str, frame: FrameType) -> None:
        self.kind = kind
        self.name = name
        self.code = frame.f_code
        self.offset = frame.f_lasti
        self.made: Coroutine[Any, Any, Any] | None = None

    @property
    def line(self) -> int | None:
        """The number of the line that made the call."""
        lines = self.code.co_lines()
        return next((line for start, end, line in lines if start <= self.offset < end), None)


class Calls:
    """The calls of one execution that have not begun.

    Attributes:
        waiting: Those calls. Each takes itself out when it begins.
        watched: Whether calls are kept, so that a forgotten one can be found. Executions of older
            rules leave them to Python, which warns of them somewhere.
    """

    __slots__ = ("waiting", "watched")

    def __init__(self) -> None:
        self.waiting: dict[Call, None] = {}
        self.watched = False

    def began(self, call: Call) -> None:
        """Forget a call that is awaited."""
        call.made = None
        self.waiting.pop(call, None)

    def find_forgotten(self) -> TrioflowError | None:
        """Return an error for the first call that nobody can await any more, ``None`` without one.

        That is one whose coroutine nothing refers to but this. Such coroutines are closed.
        """
        error: TrioflowError | None = None
        for call in list(self.waiting):
            if call.made is None or inspect.getcoroutinestate(call.made) != inspect.CORO_CREATED:
                del self.waiting[call]
            elif sys.getrefcount(call.made) <= 2:  # noqa: PLR2004  # the call's and the argument's
                call.made.close()
                del self.waiting[call]
                error = error or TrioflowError(
                    f"{call.kind} {call.name!r} was called at {call.code.co_filename}:{call.line} "
                    "and is not awaited, so it never runs. Write 'await' before the call, or "
                    "start it in a nursery."
                )
        return error

    def close(self) -> None:
        """Close all coroutines that have not begun: whoever holds them will not go on."""
        for call in self.waiting:
            if call.made is not None:
                call.made.close()
        self.waiting.clear()
