"""Queries: the handlers of an execution, and how they are asked between two turns.

A handler runs outside of all tasks, in the execution's context and with its loop as the thread's.
What it asks of trioflow is refused (`Reader`). What else it does to trio's objects, such as to set
an event, would be a turn that nobody has recorded: if a task is woken or the earliest deadline
changes, that is found afterwards, and the execution must be thrown away. Changes that nobody waits
for are not found; the guide says so.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._codec.values import decode_as, encode_checked
from trioflow._engine import guard
from trioflow._engine.reader import Reader
from trioflow._model.invoker import answering_to
from trioflow._model.queries import Query, Question
from trioflow._model.rules import CHECKED_HANDLERS
from trioflow._model.turns import Completed, Failed
from trioflow._model.updates import NO_ARGUMENT, check_takes
from trioflow.errors import ArgumentError, DeterminismError, QueryNotHandled

if TYPE_CHECKING:
    from trioflow._engine.execution import Execution

__all__ = ["Queries"]


class _Handler(NamedTuple):
    """``query`` is ``None`` for the handler of those that have none of their own."""

    query: Query[..., Any] | None
    fn: Callable[..., Any]


class Queries:
    """The queries of one execution.

    Args:
        execution: Whose they are.

    Attributes:
        disturbed: A handler has changed something, so that the execution is of no use any more.
    """

    __slots__ = ("_execution", "_handlers", "disturbed")

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._handlers: dict[str | None, _Handler] = {}
        self.disturbed = False

    def handle(self, query: Query[..., Any] | None, fn: Callable[..., Any]) -> None:
        """Set the handler for a query, or for any other."""
        guard.judge(fn)
        if query is not None and self._execution.rules >= CHECKED_HANDLERS:
            takes, what = int(query.argument is not NO_ARGUMENT), f"query {query.name!r}"
            check_takes(fn, takes, f"the handler of {what}", what)
        self._handlers[None if query is None else query.name] = _Handler(query, fn)

    def answer(self, question: Question) -> Completed | Failed:
        """Ask a handler; what it raises is an answer, too."""
        execution = self._execution
        try:
            handler = self._find(question.name)
            args = self._arguments(handler.query, question)
            result = self._ask(handler, question.name, args)
            type_ = Any if handler.query is None else handler.query.result
            what = f"the result of query {question.name!r}"
            data = encode_checked(execution.codec, result, type_, what)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # noqa: BLE001  # whatever code of the user's raises
            return Failed(Failure.of(exc, execution.codec))
        return Completed(msgspec.Raw(data))

    # --- inside -------------------------------------------------------------------------

    def _find(self, name: str) -> _Handler:
        found = self._handlers.get(name) or self._handlers.get(None)
        if found is None:
            names = ", ".join(map(repr, self._handlers))
            there = f"there are handlers for {names}" if names else "it has no handler at all"
            raise QueryNotHandled(self._execution.identity.id, f"{name!r}; {there}")
        return found

    def _arguments(self, query: Query[..., Any] | None, question: Question) -> tuple[Any, ...]:
        what, data = f"the argument of query {question.name!r}", bytes(question.value)
        if query is None:
            value = decode_as(self._execution.codec, data, Any, what) if data else None
            return question.name, value
        if query.argument is NO_ARGUMENT:
            if data:
                raise ArgumentError(f"query {query.name!r} has no argument, and was given one")
            return ()
        if not data:
            raise ArgumentError(f"query {query.name!r} has an argument, and was given none")
        return (decode_as(self._execution.codec, data, query.argument, what),)

    def _ask(self, handler: _Handler, name: str, args: tuple[Any, ...]) -> object:
        loop = self._execution.loop
        who = f"the handler of query {name!r}"
        generators = loop.generators()
        before = [generator.getstate() for generator in generators]
        agenda = loop.agenda

        def ask() -> object:
            with answering_to(Reader(self._execution, who)):
                return handler.fn(*args)

        token = guard.enter_step(self._execution.rules)
        try:
            with loop.entered():
                return loop.call_in_context(ask)
        finally:
            guard.leave_step(token)
            drawn, disturbed = _put_back(generators, before), loop.agenda != agenda
            self.disturbed |= disturbed
            if drawn or disturbed:
                what = "drew random numbers" if drawn else "woke a task, or changed a deadline"
                raise DeterminismError(
                    f"{who} {what}: it may look at what there is, and change nothing; do that in "
                    "the workflow, or in the handler of an update"
                )


def _put_back(generators: list[random.Random], before: list[Any]) -> bool:
    """Undo what was drawn; return whether something was."""
    drawn = False
    for generator, state in zip(generators, before, strict=True):
        if generator.getstate() != state:
            generator.setstate(state)
            drawn = True
    return drawn
