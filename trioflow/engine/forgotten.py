"""Calls of activities and sub-workflows that have not begun, and those that never will.

Whether a call is forgotten may not depend on when the garbage collector comes. So that is decided
once, at the end of the turn that made the call, and a call that only the collector has let go of by
then counts as held.
"""

from __future__ import annotations

import gc
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


_NOBODY = 2  # references to a coroutine that nobody has: the call's, and the argument's

_watching: set[Calls] = set()


def _note_collection(phase: str, _: object) -> None:
    for calls in list(_watching):
        calls.note_collection(ends=phase == "stop")


gc.callbacks.append(_note_collection)


class Calls:
    """The calls of one execution that have not begun.

    Attributes:
        waiting: Those calls by their numbers. Each takes itself out when it begins.
        number: Of the last one, from 1.
        watched: Whether calls are kept, so that a forgotten one can be found. Executions of older
            rules leave them to Python, which warns of them somewhere.
    """

    __slots__ = ("_collected", "_decided", "_held", "number", "waiting", "watched")

    def __init__(self) -> None:
        self.waiting: dict[int, Call] = {}
        self.number = 0
        self.watched = False
        self._decided = 0  # the last call of the turn before
        self._held: list[int] = []  # calls of this turn that somebody has as a collection begins
        self._collected: set[int] = set()  # those that nobody has since a collection

    def begin_turn(self) -> None:
        """Say that the calls from now on are those of a new turn."""
        self._decided = self.number
        _watching.add(self)

    def end_turn(self) -> None:
        """Say that no more calls are made in this turn."""
        _watching.discard(self)
        if self._collected:
            self._collected = set()

    def note_collection(self, *, ends: bool) -> None:
        """Note which calls of this turn the garbage collector lets go of."""
        if not ends:
            self._held = [
                number
                for number, call in list(self.waiting.items())
                if number > self._decided and sys.getrefcount(call[0]) > _NOBODY
            ]
            return
        held, self._held = self._held, []
        for number in held:
            call = self.waiting.get(number)
            if call is not None and sys.getrefcount(call[0]) <= _NOBODY:
                self._collected.add(number)

    def find_forgotten(self) -> TrioflowError | None:
        """Return an error for the first call of this turn that nobody can await any more.

        That is one whose coroutine nothing refers to but this. Such coroutines are closed.
        """
        error: TrioflowError | None = None
        for number, call in list(self.waiting.items()):
            if inspect.getcoroutinestate(call[0]) != inspect.CORO_CREATED:
                del self.waiting[number]
            elif number <= self._decided or number in self._collected:
                continue
            elif sys.getrefcount(call[0]) <= _NOBODY:
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
