"""Calls from workflow code into the engine. Each gives a command, or reads the turn.

A call finds its recorded command by its structural id on replay and then encodes nothing. A call
that is refused (bad arguments) uses up its id all the same: otherwise the next call's recorded
command would be found in its place.
"""

from __future__ import annotations

import random
import sys
import uuid
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from types import NoneType
from typing import Any, TypeVar, assert_never

import msgspec
import trio

from trioflow._codec.failures.failures import Failure
from trioflow._codec.limits import COMMAND_LENGTH, MAX_TURN, check_given
from trioflow._codec.values import JsonCodec, encode_plain, named
from trioflow._engine.children import call_workflow
from trioflow._engine.execution import Execution
from trioflow._engine.loop.runner import TaskState, current_task_state, in_cancelled_scope
from trioflow._engine.mailbox import forward, receive, receive_any, send
from trioflow._engine.patches import deprecate_patch, patched
from trioflow._engine.promises import make_token, receive_promise
from trioflow._engine.reader import Reader, View
from trioflow._engine.requests import cancel_instance, start_detached
from trioflow._engine.shared import claim, release, set_event
from trioflow._engine.side_effects import side_effect
from trioflow._engine.streams import emit
from trioflow._engine.timers import sleep
from trioflow._model import events as ev
from trioflow._model.activities import Activity
from trioflow._model.attributes import AttributeValue, changed, encode_attributes
from trioflow._model.commands import (
    ActivityOptions,
    RunActivity,
)
from trioflow._model.ids import HANDLER_KIND, check_command_id
from trioflow._model.invoker import current_invoker, invoker_for
from trioflow._model.queries import Query
from trioflow._model.rules import IN_ORDER_OF_TIME
from trioflow._model.updates import Update
from trioflow._model.workflows import Workflow
from trioflow.errors import (
    ActivityTimeout,
    ContinueAsNew,
    DeterminismError,
    Evicted,
    NotInWorkflow,
    TrioflowError,
    UndecodableValue,
)

__all__ = ["Caller", "current_caller"]

T = TypeVar("T")
R = TypeVar("R")

_PLAIN = JsonCodec()


def current_caller(what: str) -> Caller:
    """Return what calls of the running workflow go to.

    Raises:
        NotInWorkflow: Outside of a workflow; ``what`` names what was called.
        DeterminismError: In code that may only look.
    """
    invoker = invoker_for(what)
    if isinstance(invoker, Reader):
        invoker.refuse(what)
    assert isinstance(invoker, Caller)
    return invoker


class Caller(View):
    """The calls of one execution, as definitions and `trioflow.authoring` make them."""

    __slots__ = ("_bytes", "_turn")

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self._turn: int = -1
        self._bytes = 0

    # --- activities and sub-workflows ---------------------------------------------------

    def call(
        self,
        definition: Activity[..., R] | Workflow[..., R],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Coroutine[Any, Any, R]:
        """Make the coroutine of a call of an activity or a sub-workflow.

        It is tracked until it begins, with the line of the call, so that a call without an
        ``await`` is found.
        """
        if isinstance(definition, Activity):
            made = self._call_activity(definition, args, kwargs)
        else:
            made = call_workflow(self, definition, args, kwargs)
        calls = self.execution.calls
        if calls.watched:
            frame = sys._getframe(2)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # no public way
            calls.made.append((made, definition.kind, definition.name, frame.f_code, frame.f_lasti))
        return made

    async def _call_activity(
        self, activity: Activity[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> R:
        """Run an activity and wait for its result."""
        execution = self.execution
        state = await self.begin("activity", activity.name)
        command_id = state.next_id()
        command = execution.commands.find_recorded(command_id)
        if type(command) is not RunActivity or command.activity != activity.name:
            if len(command_id) > COMMAND_LENGTH:
                check_command_id(command_id, f"activity {activity.name!r}")
            me = execution.identity
            command = RunActivity(
                id=command_id,
                activity=activity.name,
                input=self.count_new(
                    activity.signature.encode(execution.codec, args, kwargs, activity.name),
                    f"{activity.name}() arguments",
                ),
                queue=activity.queue or me.queue,
                options=self._options_of(activity)
                if execution.carries or activity.schedule_timeout is not None
                else activity.overrides,
                priority=me.priority if activity.priority is None else activity.priority,
            )
        else:
            self.count_recorded(command.input)
        abandon = activity.on_cancel == "abandon"
        limit = None if command.options is None else command.options.schedule_timeout
        answer: ev.ActivityAnswer
        if limit is None or execution.rules < IN_ORDER_OF_TIME:
            answer = await execution.commands.give_and_wait(command, abandon=abandon)
        else:
            answer = await self._wait_within(limit, command, abandon=abandon)
        match answer:
            case ev.ActivityCompleted():
                type_ = activity.signature.result_type
                result: Any = self.read(answer.result, type_, "{}() result", activity.name)
                return result  # type: ignore[no-any-return]  # decoded as the annotated type
            case ev.ActivityFailed():
                raise self.rebuild(answer.failure)
            case ev.ActivityCancelled():
                raise RuntimeError(
                    f"activity {activity.name!r} was cancelled, though not by this workflow"
                )
            case _:
                assert_never(answer)

    def _options_of(self, activity: Activity[..., Any]) -> ActivityOptions | None:
        """Return the options to record: with metadata and the ``schedule_timeout`` we enforce."""
        options, limit = activity.overrides, activity.schedule_timeout
        if limit is not None and self.execution.rules >= IN_ORDER_OF_TIME:
            options = options or ActivityOptions()
            options = msgspec.structs.replace(options, schedule_timeout=float(limit))
        if self.execution.carries and (metadata := self.execution.outgoing()):
            options = msgspec.structs.replace(options or ActivityOptions(), metadata=metadata)
        return options

    async def _wait_within(
        self, limit: float, command: RunActivity, *, abandon: bool
    ) -> ev.ActivityAnswer:
        """Wait for an activity at most ``limit`` seconds, whether or not a worker has taken it."""
        with trio.move_on_after(limit):
            answer: ev.ActivityAnswer = await self.execution.commands.give_and_wait(
                command, abandon=abandon
            )
            return answer
        raise ActivityTimeout(
            f"activity {command.activity!r} took longer than its schedule_timeout of {limit:g} s"
        )

    # --- signals ------------------------------------------------------------------------

    def receive_signal(self, name: str, type_: object) -> Coroutine[Any, Any, Any]:
        """Wait for the next signal of that name."""
        return self._note(receive(self, name, type_), "receive() of signal", name)

    def receive_signal_nowait(self, name: str, type_: object) -> Any:
        """Return the next signal of that name.

        Raises:
            trio.WouldBlock: There is none.
        """
        self.check_not_fenced()
        signal = self.execution.messages.mailbox.take(name)
        if signal is None:
            raise trio.WouldBlock
        return self.read(signal.value, type_, "signal {!r}", name, plain=signal.plain)

    def receive_any_signal(self) -> Coroutine[Any, Any, tuple[str, Any]]:
        """Wait for the next signal that nobody receives by its name."""
        return self._note(receive_any(self), "receive() of", "any signal")

    def receive_any_signal_nowait(self) -> tuple[str, Any]:
        """Return the next such signal.

        Raises:
            trio.WouldBlock: There is none.
        """
        self.check_not_fenced()
        signal = self.execution.messages.mailbox.take_any()
        if signal is None:
            raise trio.WouldBlock
        return signal.name, self.read(signal.value, Any, "signal {!r}", signal.name)

    def send_signal(
        self, instance: str, name: str, value: object, type_: object
    ) -> Coroutine[Any, Any, None]:
        """Put a signal into another instance's inbox, and wait until it is there."""
        made = send(self, instance, name, value, type_)
        return self._note(made, "send_signal() of", name)

    # --- other instances ----------------------------------------------------------------

    def start_detached(
        self, workflow: Workflow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, str]:
        """Start an instance without a parent, wait until it is stored, and return its id."""
        made = start_detached(self, workflow, args, kwargs)
        return self._note(made, "start_detached() of", workflow.name)

    def cancel_instance(self, instance: str, reason: str | None) -> Coroutine[Any, Any, None]:
        """Ask an instance to end, and wait until the request is stored."""
        made = cancel_instance(self, instance, reason)
        return self._note(made, "cancel_instance() of", instance)

    def make_promise(self, name: str) -> str:
        """Make a promise, and return its token."""
        return make_token(self, name)

    def receive_promise(self, name: str, token: str, type_: object) -> Coroutine[Any, Any, Any]:
        """Wait until a promise is settled."""
        made = receive_promise(self, name, token, type_)
        return self._note(made, "receive() of promise", name)

    # --- what instances share -----------------------------------------------------------

    def claim_shared(self, name: str, size: int) -> Coroutine[Any, Any, None]:
        """Wait for a place, or an event, of what instances share."""
        return claim(self, name, size)

    def release_shared(self, name: str) -> None:
        """Release what was claimed last of that name, by the running task if it has any."""
        release(self, name)

    def set_shared(self, name: str, *, value: bool) -> Coroutine[Any, Any, None]:
        """Set or clear an event that instances share."""
        return self._note(set_event(self, name, value=value), "SharedEvent.set() of", name)

    def forward_unread(self, to: str) -> Coroutine[Any, Any, int]:
        """Send the unread signals to another instance; return how many."""
        return self._note(forward(self, to), "forward_unread() to", to)

    def _note(self, made: Coroutine[Any, Any, T], what: str, name: str) -> Coroutine[Any, Any, T]:
        """Track a call's coroutine until it begins, as `call` does."""
        calls = self.execution.calls
        if calls.watched:
            frame = sys._getframe(3)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # no public way
            calls.made.append((made, what, name, frame.f_code, frame.f_lasti))
        return made

    def set_update_handler(
        self,
        update: Update[..., Any] | None,
        fn: Callable[..., Any],
        validator: Callable[..., Any] | None,
    ) -> None:
        """Answer updates of that name with a function."""
        self.check_not_fenced()
        self.task_state("Update.handler()")
        self.execution.messages.updates(self.execution).handle(update, fn, validator)

    def set_query_handler(self, query: Query[..., Any] | None, fn: Callable[..., Any]) -> None:
        """Answer queries of that name with a function."""
        self.check_not_fenced()
        self.task_state("Query.handler()")
        self.execution.queries.handle(query, fn)

    # --- values -------------------------------------------------------------------------

    def side_effect(self, fn: Callable[[], T], type_: object) -> T:
        """Run ``fn`` once and record what it gives or raises; on replay, return or raise that."""
        return side_effect(self, fn, type_)

    def count_new(self, data: bytes, what: str) -> msgspec.Raw:
        """Count the value of a new command against the limit of a turn, and return it as JSON."""
        turn = self.execution.turns
        size = len(data) if turn != self._turn else self._bytes + len(data)
        if size > MAX_TURN:
            check_given(size, what)
        self._turn, self._bytes = turn, size
        return msgspec.Raw(data)

    def count_recorded(self, data: msgspec.Raw) -> None:
        """Count the value of a recorded command, so that replay refuses what was refused live."""
        turn, size = self.execution.turns, memoryview(data).nbytes
        self._bytes = size if turn != self._turn else self._bytes + size
        self._turn = turn

    def random(self) -> random.Random:
        """Return the running task's own generator, the same on replay."""
        state = self.task_state("random()")
        if not hasattr(state, "generator"):
            state.generator = random.Random(f"{self.execution.begun.seed}/{state.path}")  # noqa: S311  # not for secrets
        return state.generator

    def uuid4(self) -> uuid.UUID:
        """Return the next UUID of the running task, the same on replay."""
        return uuid.UUID(int=self.random().getrandbits(128), version=4)

    def set_status(self, value: object) -> None:
        """Publish a value that clients see in ``describe()``."""
        self.check_not_fenced()
        self.execution.custom_status = encode_plain(self.execution.codec, value, "set_status()")

    def emit(self, stream: str, value: object) -> Coroutine[Any, Any, None]:
        """Append a value to a stream."""
        return self._note(emit(self, stream, value), "emit() to", stream)

    def sleep(self, seconds: float, name: str) -> Coroutine[Any, Any, None]:
        """Sleep, and record for what."""
        return self._note(sleep(self, seconds, name), "sleep()", name)

    def set_attributes(self, changes: Mapping[str, AttributeValue | None]) -> None:
        """Change what the instance can be found by."""
        self.check_not_fenced()
        execution = self.execution
        execution.attributes = changed(execution.attributes, changes)
        execution.new_attributes = encode_attributes(execution.attributes)

    # --- patches ------------------------------------------------------------------------

    def patched(self, patch: str) -> bool:
        """Return whether the execution takes the new way here."""
        return patched(self, patch)

    def deprecate_patch(self, patch: str) -> None:
        """Accept what `patched` has recorded here; record nothing."""
        deprecate_patch(self, patch)

    # --- the execution itself -----------------------------------------------------------

    def continue_as_new(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ContinueAsNew:
        """Return the exception that ends this execution and carries the arguments of the next."""
        state = self.task_state("continue_as_new()")
        if state.path.startswith(HANDLER_KIND):
            raise NotInWorkflow(
                "continue_as_new() was called in the handler of an update: it would end the "
                "workflow while its main task is at work. Set a flag or an event here, and let the "
                "main task call it"
            )
        definition = self.execution.definition
        what = f"continue_as_new() of {definition.name}"
        encode = partial(definition.signature.encode, self.execution.codec, args, kwargs, what)
        return ContinueAsNew(encode(), encode if self.execution.messages.has_updates else None)

    # --- what the kinds of calls share --------------------------------------------------

    def task_state(self, what: str) -> TaskState:
        """Return the state of the running task; ``what`` names what was called."""
        state = current_task_state()
        if state is None:
            raise _outside(what)
        return state

    async def begin(self, kind: str, name: str, attempt: int = 1) -> TaskState:
        """Begin a call: mark it as awaited, and raise `trio.Cancelled` in a cancelled scope.

        As with trio's calls, this comes before the call has an effect. In a fenced execution it
        waits until the task is unwound.
        """
        execution = self.execution
        if current_invoker.get() is not self:
            raise self._awaited_elsewhere(f"{kind} {name!r}")
        if attempt == 1:
            calls = execution.calls
            calls.begun += 1
            if calls.begun == len(calls.made):
                calls.forget()
        if execution.loop.fenced:
            # Nothing may have an effect any more; `unwind` throws an error into this wait.
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        state = current_task_state()
        if state is None:
            raise _outside(f"{kind} {name!r}")
        if in_cancelled_scope():
            await trio.lowlevel.checkpoint_if_cancelled()
        return state

    def _awaited_elsewhere(self, what: str) -> TrioflowError:
        """Return the error for a call that another execution awaits, or a task of the host."""
        other = current_invoker.get()
        if not isinstance(other, View):
            return _outside(what)
        return DeterminismError(
            f"{what} was called in instance {self.identity.id!r} and is awaited in instance "
            f"{other.identity.id!r}. A call belongs to the history of the execution that made it: "
            "call it where it is awaited, and keep no coroutines in what instances share"
        )

    def check_not_fenced(self) -> None:
        """Raise `Evicted` in a fenced execution, whose code only runs to be unwound."""
        if self.execution.loop.fenced:
            raise Evicted

    def read(
        self, data: msgspec.Raw, type_: object, form: str, name: str, *, plain: bool = False
    ) -> Any:
        """Decode a stored value. If that fails the instance is suspended, the call does not fail.

        ``form.format(name)`` says in messages what the value is. ``plain``: no codec has encoded
        it.
        """
        codec = _PLAIN if plain else self.execution.codec
        try:  # as `decode_as` does
            return codec.decode(bytes(data), NoneType if type_ is None else type_)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # noqa: BLE001  # whatever a codec or a type says
            what = form.format(name)
            error = named(codec, exc, what, UndecodableValue)
            error.__cause__ = exc
            raise self._cannot_read(what, error) from None

    def rebuild(self, failure: Failure) -> BaseException:
        """Return the exception of a stored failure, to be raised.

        As with `read`, one that cannot be read suspends the instance.
        """
        try:
            return failure.rebuild(self.execution.codec)
        except UndecodableValue as error:
            return self._cannot_read(f"what the stored {failure.type} says", error)

    def _cannot_read(self, what: str, error: Exception) -> BaseException:
        state = current_task_state()
        return self.execution.cannot_read(what, error, "" if state is None else state.path)


def _outside(what: str) -> NotInWorkflow:
    return NotInWorkflow(f"{what} was called from outside of the workflow's tasks")
