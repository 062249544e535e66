"""Updates: the handlers of an execution, and the tasks in which they run.

Each update is numbered as it arrives, and its handler runs in the task ``"u<number>"``, beside the
main one: see `NestedLoop.spawn`. Its first counted command answers it, after all that it has given
before. Until a workflow has a handler for an update, that waits; so it does once the workflow has
ended, or is being cancelled, and then it goes over into the next execution, or hears of the end.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from trioflow._codec.failures.failures import Failure
from trioflow._codec.values import decode_as, encode_checked, is_plain
from trioflow._engine import guard
from trioflow._engine.ending import over
from trioflow._engine.loop.nested import is_expired
from trioflow._engine.reader import Reader
from trioflow._model.commands import AnswerUpdate
from trioflow._model.events import UpdateRequested
from trioflow._model.ids import HANDLER_KIND
from trioflow._model.invoker import answering_to
from trioflow._model.rules import CHECKED_HANDLERS
from trioflow._model.updates import NO_ARGUMENT, Update, check_takes
from trioflow.errors import ArgumentError, Evicted, InstanceCancelled

if TYPE_CHECKING:
    from trioflow._engine.execution import Execution

__all__ = ["Updates"]


class _Handler(NamedTuple):
    """``update`` is ``None`` for the handler of those that have none of their own."""

    update: Update[..., Any] | None
    fn: Callable[..., Any]
    validator: Callable[..., Any] | None


class _Waiting(NamedTuple):
    """An update whose handler has not begun: its number, and how many messages came before it."""

    number: int
    arrival: int
    event: UpdateRequested


class Updates:
    """The updates of one execution.

    Args:
        execution: Whose they are.
    """

    __slots__ = ("_count", "_execution", "_handlers", "_waiting")

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._handlers: dict[str | None, _Handler] = {}
        self._waiting: list[_Waiting] = []
        self._count = 0

    def deliver(self, event: UpdateRequested, arrival: int) -> None:
        """Begin the handler of an update, or keep that until there is one."""
        self._count += 1
        waiting = _Waiting(self._count, arrival, event)
        if self._execution.loop.ending or not self._begin(waiting):
            self._waiting.append(waiting)

    def handle(
        self,
        update: Update[..., Any] | None,
        fn: Callable[..., Any],
        validator: Callable[..., Any] | None,
    ) -> None:
        """Set the handler for an update, or for any other, and begin it for those that wait."""
        guard.judge(fn)
        if validator is not None:
            guard.judge(validator)
        if update is not None and self._execution.rules >= CHECKED_HANDLERS:
            takes, what = int(update.argument is not NO_ARGUMENT), f"update {update.name!r}"
            check_takes(fn, takes, f"the handler of {what}", what)
            if validator is not None:
                check_takes(validator, takes, f"the validator of {what}", what)
        name = None if update is None else update.name
        self._handlers[name] = _Handler(update, fn, validator)
        if not self._execution.loop.ending:
            self._waiting = [each for each in self._waiting if not self._begin(each)]

    def waiting(self) -> list[tuple[int, UpdateRequested]]:
        """Return the updates that have not begun, each with its place among all messages."""
        return [(each.arrival, each.event) for each in self._waiting]

    # --- inside -------------------------------------------------------------------------

    def _begin(self, waiting: _Waiting) -> bool:
        """Begin the handler of an update; return whether there is one."""
        event = waiting.event
        handler = self._handlers.get(event.name) or self._handlers.get(None)
        if handler is None:
            return False

        async def run(scope: trio.CancelScope) -> None:
            await self._run(scope, handler, event)

        name = f"update {event.name}"
        deadline = self._execution.begun.handlers_end_at
        self._execution.loop.spawn(run, name, HANDLER_KIND, waiting.number, deadline=deadline)
        return True

    async def _run(
        self, scope: trio.CancelScope, handler: _Handler, event: UpdateRequested
    ) -> None:
        """Do what an update asks for, and answer it. Raises nothing but what ends the process."""
        execution = self._execution
        result: object = None
        failure: BaseException | None = None
        # One that is cancelled before it begins is not entered: trio would not see the cancel.
        cancelled = scope.cancel_called
        try:
            if not cancelled:
                with scope:
                    result = await self._call(handler, event)
                cancelled = scope.cancelled_caught
            if cancelled:
                why = execution.cancelled_why
                if is_expired(scope):
                    failure = over(scope.deadline, execution.definition.name)
                elif why is None:
                    return  # the workflow has failed: whoever waits hears of its end
                else:
                    failure = InstanceCancelled(execution.identity.id, why.reason)
        except (Evicted, KeyboardInterrupt):
            raise
        except BaseException as exc:  # noqa: BLE001  # whatever a handler raises is its answer
            failure = exc
        if not execution.loop.fenced:
            self._answer(handler.update, event, result, failure)

    async def _call(self, handler: _Handler, event: UpdateRequested) -> object:
        args = self._arguments(handler.update, event)
        if handler.validator is not None:
            who = f"the validator of update {event.name!r}"
            with answering_to(Reader(self._execution, who)):
                handler.validator(*args)
        result: object = handler.fn(*args)
        return await result if inspect.isawaitable(result) else result

    def _arguments(
        self, update: Update[..., Any] | None, event: UpdateRequested
    ) -> tuple[Any, ...]:
        """Return what the handler is called with; what does not fit is the client's mistake."""
        what, data = f"the argument of update {event.name!r}", bytes(event.value)
        if update is None:
            value = self._execution.caller.read(event.value, Any, "{}", what) if data else None
            return event.name, value
        if update.argument is NO_ARGUMENT:
            if data:
                raise ArgumentError(f"update {event.name!r} has no argument, and was given one")
            return ()
        if not data:
            raise ArgumentError(f"update {event.name!r} has an argument, and was given none")
        codec = self._execution.codec
        if not is_plain(codec):
            # What this process cannot read at all is not the client's mistake: it suspends.
            caller = self._execution.caller
            caller.read(event.value, Any, "{}", what)
        return (decode_as(codec, data, update.argument, what),)

    def _answer(
        self,
        update: Update[..., Any] | None,
        event: UpdateRequested,
        result: object,
        failure: BaseException | None,
    ) -> None:
        execution = self._execution
        caller = self._execution.caller
        command_id = caller.task_state("the answer to an update").next_id()
        command = execution.commands.find_recorded(command_id)
        if type(command) is not AnswerUpdate or command.update != event.update:
            command = self._make(caller, command_id, update, event, result, failure)
        else:
            caller.count_recorded(command.result)
        execution.commands.give(command)

    def _make(  # noqa: PLR0917  # what it is made of
        self,
        caller: Any,
        command_id: str,
        update: Update[..., Any] | None,
        event: UpdateRequested,
        result: object,
        failure: BaseException | None,
    ) -> AnswerUpdate:
        codec, name = self._execution.codec, event.name
        if failure is None:
            what = f"the result of update {name!r}"
            try:
                type_ = Any if update is None else update.result
                data = caller.count_new(encode_checked(codec, result, type_, what), what)
            except KeyboardInterrupt:
                raise
            except BaseException as exc:  # noqa: BLE001  # whatever the codec says is the answer
                failure = exc
            else:
                return AnswerUpdate(command_id, event.update, name, result=data)
        failed = Failure.of(failure, codec)
        return AnswerUpdate(command_id, event.update, name, failure=failed)
