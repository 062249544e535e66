"""Calls of activities, sub-workflows and signals that have not begun, and those that never will.

Whether a call is forgotten may not depend on when the garbage collector comes. So that is decided
once, at the end of the turn that made the call, and a call that only the collector has let go of by
then counts as held.
"""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Coroutine, Sequence
from types import CodeType
from typing import Any, TypeAlias

from trioflow.errors import TrioflowError

__all__ = ["Calls"]


Call: TypeAlias = tuple[Coroutine[Any, Any, Any], str, str, CodeType, int]
"""A call whose coroutine has been made: that coroutine, what was called (``"activity"``), the name
of its definition or signal, the code that made it, and the offset of the instruction there. (A
line's number takes longer to find.)"""


_NOBODY = 2  # references to a coroutine that nobody has: the call's, and the argument's

_watching: set[Calls] = set()


def _note_collection(phase: str, _: object) -> None:
    for calls in list(_watching):
        calls.note_collection(ends=phase == "stop")


gc.callbacks.append(_note_collection)


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

    __slots__ = ("_collected", "_decided", "_held", "begun", "made", "watched")

    def __init__(self) -> None:
        self.made: list[Call] = []
        self.begun = 0
        self.watched = False
        self._decided = 0  # how many of `made`, the first ones, were made in earlier turns
        self._held: Sequence[
            Call
        ] = ()  # those of this turn that somebody has as a collection begins
        self._collected: Sequence[Call] = ()  # those that nobody has since a collection

    def begin_turn(self) -> None:
        """Say that the calls from now on are those of a new turn."""
        self._decided = len(self.made)
        _watching.add(self)

    def end_turn(self) -> None:
        """Say that no more calls are made in this turn."""
        _watching.discard(self)
        if self._collected:
            self._collected = ()

    def note_collection(self, *, ends: bool) -> None:
        """Note which calls of this turn the garbage collector lets go of."""
        if not ends:
            new = self.made[self._decided :]
            self._held = [call for call in new if sys.getrefcount(call[0]) > _NOBODY]
            return
        held, self._held = self._held, ()
        dropped = [call for call in held if sys.getrefcount(call[0]) <= _NOBODY]
        self._collected = (*self._collected, *dropped)

    def find_forgotten(self) -> TrioflowError | None:
        """Return an error for the first call of this turn that nobody can await any more.

        That is one whose coroutine nothing refers to but this. Such coroutines are closed. What has
        begun is let go of.
        """
        error: TrioflowError | None = None
        made, self.made, self.begun = self.made, [], 0
        for number, call in enumerate(made):
            if inspect.getcoroutinestate(call[0]) != inspect.CORO_CREATED:
                continue
            decided = number < self._decided or any(call is one for one in self._collected)
            if decided or sys.getrefcount(call[0]) > _NOBODY:
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
        self.begun = self._decided = 0

    def close(self) -> None:
        """Close all coroutines that have not begun: whoever holds them will not go on."""
        for call in self.made:
            if inspect.getcoroutinestate(call[0]) == inspect.CORO_CREATED:
                call[0].close()
        self.forget()


def _line(code: CodeType, offset: int) -> int | None:
    """Return the number of the line of an instruction."""
    return next((line for start, end, line in code.co_lines() if start <= offset < end), None)
