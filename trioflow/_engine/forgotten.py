"""Detection of calls that are not awaited: of activities, sub-workflows and signals.

A call is forgotten if nothing refers to its coroutine any more and it has not begun. Whether one is
may not depend on when the garbage collector runs. So it is decided once, at the end of the turn
that made the call; and a coroutine that the collector freed during the turn counts as referred to.
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


_NOBODY = 2  # references when nobody else has one: the `Call`, and getrefcount's argument


class Calls:
    """Tracks the calls of one execution until they begin.

    Calls that have begun are only counted, since mostly all of them begin at once. They are looked
    at one by one at the end of a turn in which some have not.

    Attributes:
        made: The calls that have not begun, and some that have.
        begun: How many of ``made`` have begun.
        watched: Whether calls are tracked. In executions by older rules they are not; Python warns
            of a coroutine that was never awaited.
    """

    __slots__ = ("_collected", "_decided", "_held", "begun", "made", "watched")

    def __init__(self) -> None:
        self.made: list[Call] = []
        self.begun = 0
        self.watched = False
        self._decided = 0  # so many of `made` are of earlier turns, and were decided on there
        self._held: Sequence[Call] = ()  # of this turn, referred to when a collection began
        self._collected: Sequence[Call] = ()  # those that a collection freed

    def begin_turn(self) -> None:
        """Begin a turn: calls that are made from now on belong to it."""
        self._decided = len(self.made)
        gc.callbacks.append(self._note_collection)  # not for longer: Ctrl-C is lost in it

    def end_turn(self) -> None:
        """End the turn."""
        gc.callbacks.remove(self._note_collection)
        if self._collected:
            self._collected = ()

    def _note_collection(self, phase: str, _: object) -> None:
        """Note which coroutines of this turn the garbage collector frees."""
        if phase == "start":
            new = self.made[self._decided :]
            self._held = [call for call in new if sys.getrefcount(call[0]) > _NOBODY]
            return
        held, self._held = self._held, ()
        dropped = [call for call in held if sys.getrefcount(call[0]) <= _NOBODY]
        self._collected = (*self._collected, *dropped)

    def find_forgotten(self) -> TrioflowError | None:
        """Return an error for the first forgotten call of this turn, ``None`` if there is none.

        Forgotten coroutines are closed; calls that have begun are dropped.
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
        """Drop all calls: they have begun."""
        self.made.clear()
        self.begun = self._decided = 0

    def close(self) -> None:
        """Close all coroutines that have not begun: the execution has ended."""
        for call in self.made:
            if inspect.getcoroutinestate(call[0]) == inspect.CORO_CREATED:
                call[0].close()
        self.forget()


def _line(code: CodeType, offset: int) -> int | None:
    """Return the number of the line of an instruction."""
    return next((line for start, end, line in code.co_lines() if start <= offset < end), None)
