"""What workflow code can ask of the engine: each call becomes a command, or reads the turn.

A call finds its recorded command by its structural id on replay and then encodes nothing. A call
that is refused (bad arguments) uses up its id all the same: otherwise the next call's recorded
command would be found in its place.
"""

from __future__ import annotations

import hashlib
import inspect
import random
import sys
import uuid
from collections.abc import Callable, Coroutine
from types import NoneType
from typing import Any, TypeVar, assert_never, get_type_hints

import msgspec
import trio

from trioflow._codec.failures.failures import Failure
from trioflow._codec.limits import (
    COMMAND_LENGTH,
    MAX_TURN,
    check_characters,
    check_command_id,
    check_given,
    check_id,
)
from trioflow._codec.values import decode_as, encode_checked, encode_plain, named, open_text
from trioflow._engine import guard
from trioflow._engine.execution import Execution, Identity
from trioflow._engine.loop.runner import TaskState, current_task_state, in_cancelled_scope
from trioflow._model import events as ev
from trioflow._model.commands import (
    ActivityOptions,
    CancelActivity,
    CancelChild,
    Command,
    RecordSideEffect,
    RunActivity,
    SendSignal,
    StartChild,
)
from trioflow._model.definitions import Activity, Workflow, current_invoker, invoker_for
from trioflow._model.info import Info
from trioflow._model.rules import IN_ORDER_OF_TIME
from trioflow.errors import (
    ActivityTimeout,
    ArgumentError,
    ContinueAsNew,
    Evicted,
    InstanceCancelled,
    NotInWorkflow,
    UndecodableValue,
)

__all__ = ["Caller", "current_caller", "current_caller_or_none"]

_LEGIBLE = 120  # characters of a derived id, beyond which its end is a digest
_KEPT = 60  # characters of it that are kept before the digest

T = TypeVar("T")
R = TypeVar("R")


def current_caller_or_none() -> Caller | None:
    """Return what calls of the running workflow go to, ``None`` outside of a workflow."""
    invoker = current_invoker.get()
    return invoker if isinstance(invoker, Caller) else None


def current_caller(what: str) -> Caller:
    """Return what calls of the running workflow go to.

    Raises:
        NotInWorkflow: Outside of a workflow; ``what`` names what was called.
    """
    invoker = invoker_for(what)
    assert isinstance(invoker, Caller)
    return invoker


class Caller:
    """The calls of one execution."""

    __slots__ = ("_bytes", "_execution", "_turn")

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._turn: int = -1
        self._bytes = 0

    # --- activities and sub-workflows ---------------------------------------------------

    def call_activity(
        self, activity: Activity[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, R]:
        """Run an activity and wait for its result."""
        calls = self._execution.calls
        if not calls.watched:
            return self._call_activity(activity, args, kwargs)
        made = self._call_activity(activity, args, kwargs)
        frame = sys._getframe(2)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # no public way
        calls.made.append((made, "activity", activity.name, frame.f_code, frame.f_lasti))
        return made

    async def _call_activity(
        self,
        activity: Activity[..., R],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> R:
        execution = self._execution
        calls = execution.calls
        calls.begun += 1
        if calls.begun == len(calls.made):
            calls.forget()
        state = await self._checkpoint("activity", activity.name)
        command_id = state.next_id()
        command = execution.recorded(command_id)
        if type(command) is not RunActivity or command.activity != activity.name:
            if len(command_id) > COMMAND_LENGTH:
                check_command_id(command_id, f"activity {activity.name!r}")
            command = RunActivity(
                id=command_id,
                activity=activity.name,
                input=self._given(
                    activity.signature.encode(execution.codec, args, kwargs, activity.name),
                    f"{activity.name}() arguments",
                ),
                queue=activity.queue or execution.identity.queue,
                options=activity.overrides
                if activity.schedule_timeout is None
                else self._options_of(activity),
                priority=_first(activity.priority, execution.identity.priority),
            )
        else:
            self._given_before(command.input)
        abandon = activity.on_cancel == "abandon"
        limit = None if command.options is None else command.options.schedule_timeout
        answer: ev.ActivityAnswer
        if limit is None or execution.rules < IN_ORDER_OF_TIME:
            answer = await execution.give_and_wait(command, abandon=abandon)
        else:
            answer = await self._wait_within(limit, command, abandon=abandon)
        match answer:
            case ev.ActivityCompleted():
                type_ = activity.signature.result_type
                result: Any = self._read(answer.result, type_, "{}() result", activity.name)
                return result  # type: ignore[no-any-return]  # decoded as the annotated type
            case ev.ActivityFailed():
                raise answer.failure.rebuild(execution.codec)
            case ev.ActivityCancelled():
                raise RuntimeError(
                    f"activity {activity.name!r} was cancelled, though not by this workflow"
                )
            case _:
                assert_never(answer)

    def _options_of(self, activity: Activity[..., Any]) -> ActivityOptions | None:
        """Return what goes into the command; a limit that the caller keeps is always in it."""
        options, limit = activity.overrides, activity.schedule_timeout
        if limit is None or self._execution.rules < IN_ORDER_OF_TIME:
            return options
        return msgspec.structs.replace(options or ActivityOptions(), schedule_timeout=float(limit))

    async def _wait_within(
        self, limit: float, command: RunActivity, *, abandon: bool
    ) -> ev.ActivityAnswer:
        """Wait for an activity, no longer than its ``schedule_timeout`` wherever it waits."""
        with trio.move_on_after(limit):
            answer: ev.ActivityAnswer = await self._execution.give_and_wait(
                command, abandon=abandon
            )
            return answer
        raise ActivityTimeout(
            f"activity {command.activity!r} took longer than its schedule_timeout of {limit:g} s"
        )

    def call_workflow(
        self, workflow: Workflow[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, R]:
        """Start a sub-workflow and wait for its result, as often as its policy says."""
        calls = self._execution.calls
        if not calls.watched:
            return self._call_workflow(workflow, args, kwargs)
        made = self._call_workflow(workflow, args, kwargs)
        frame = sys._getframe(2)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # no public way
        calls.made.append((made, "workflow", workflow.name, frame.f_code, frame.f_lasti))
        return made

    async def _call_workflow(
        self,
        workflow: Workflow[..., R],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> R:
        calls = self._execution.calls
        calls.begun += 1
        if calls.begun == len(calls.made):
            calls.forget()
        began_at = trio.current_time()
        attempt = 1
        while True:
            answer, child = await self._run_child(workflow, args, kwargs)
            match answer:
                case ev.ChildCompleted():
                    type_ = workflow.signature.result_type
                    result: Any = self._read(answer.result, type_, "{}() result", workflow.name)
                    return result  # type: ignore[no-any-return]  # decoded as the annotated type
                case ev.ChildFailed():
                    delay = None
                    if workflow.retry is not None:
                        elapsed = trio.current_time() - began_at
                        delay = workflow.retry.next_delay(attempt, answer.failure, elapsed, child)
                    if delay is None:
                        error = answer.failure.rebuild(self._execution.codec)
                        error.add_note(f"raised in instance {child!r} ({workflow.name})")
                        raise error
                    attempt += 1
                    await trio.sleep(delay)
                case ev.ChildCancelled():
                    raise InstanceCancelled(child, open_text(self._execution.codec, answer.reason))
                case _:
                    raise AssertionError(f"{answer!r} answers a sub-workflow")

    async def _run_child(
        self, workflow: Workflow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[ev.ChildAnswer, str]:
        execution = self._execution
        state = await self._checkpoint("workflow", workflow.name)
        command_id = state.next_id()
        command = execution.recorded(command_id)
        if type(command) is not StartChild or command.workflow != workflow.name:
            if len(command_id) > COMMAND_LENGTH:
                check_command_id(command_id, f"workflow {workflow.name!r}")
            me = execution.identity
            command = StartChild(
                id=command_id,
                workflow=workflow.name,
                instance=check_id(workflow.id) if workflow.id else _child_id(me, command_id),
                input=self._given(
                    workflow.signature.encode(execution.codec, args, kwargs, workflow.name),
                    f"{workflow.name}() arguments",
                ),
                queue=workflow.queue or me.queue,
                priority=_first(workflow.priority, me.priority),
            )
        else:
            self._given_before(command.input)
        return await execution.give_and_wait(command), command.instance

    def cancel_of(self, command: Command) -> Command:
        """Return the command that cancels another one."""
        if isinstance(command, StartChild):
            why = self._execution.cancel_reason
            return CancelChild(id=command.id, instance=command.instance, reason=why)
        return CancelActivity(id=command.id)

    # --- signals ------------------------------------------------------------------------

    def receive_signal(self, name: str, type_: object) -> Coroutine[Any, Any, Any]:
        """Wait for the next signal of that name."""
        calls = self._execution.calls
        if not calls.watched:
            return self._receive_signal(name, type_)
        made = self._receive_signal(name, type_)
        frame = sys._getframe(2)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # no public way
        calls.made.append((made, "receive() of signal", name, frame.f_code, frame.f_lasti))
        return made

    async def _receive_signal(self, name: str, type_: object) -> Any:
        calls = self._execution.calls
        calls.begun += 1
        if calls.begun == len(calls.made):
            calls.forget()
        await self._checkpoint("signal", name)
        mailbox = self._execution.mailbox
        signal = mailbox.take(name)
        if signal is None:
            signal = await mailbox.wait(name)
        return self._read(signal.value, type_, "signal {!r}", name)

    def receive_signal_nowait(self, name: str, type_: object) -> Any:
        """Return the next signal of that name.

        Raises:
            trio.WouldBlock: There is none.
        """
        self._unfenced()
        signal = self._execution.mailbox.take(name)
        if signal is None:
            raise trio.WouldBlock
        return self._read(signal.value, type_, "signal {!r}", name)

    def send_signal(
        self, instance: str, name: str, value: object, type_: object
    ) -> Coroutine[Any, Any, None]:
        """Put a signal into another instance's inbox, and wait until it is there."""
        calls = self._execution.calls
        if not calls.watched:
            return self._send_signal(instance, name, value, type_)
        made = self._send_signal(instance, name, value, type_)
        frame = sys._getframe(2)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # no public way
        calls.made.append((made, "send_signal() of", name, frame.f_code, frame.f_lasti))
        return made

    async def _send_signal(self, instance: str, name: str, value: object, type_: object) -> None:
        execution = self._execution
        calls = execution.calls
        calls.begun += 1
        if calls.begun == len(calls.made):
            calls.forget()
        state = await self._checkpoint("signal", name)
        command_id = state.next_id()
        command = execution.recorded(command_id)
        if type(command) is not SendSignal or command.name != name:
            what = f"signal {name!r}"
            check_command_id(command_id, what)
            check_characters(instance, "an instance's id")
            data = encode_checked(execution.codec, value, type_, what)
            command = SendSignal(
                id=command_id, instance=instance, name=name, value=self._given(data, what)
            )
        else:
            self._given_before(command.value)
        with trio.CancelScope(shield=True):  # it is under way; the answer comes at once
            answer: ev.SignalAnswer = await execution.give_and_wait(command)
            match answer:
                case ev.SignalSent():
                    pass
                case ev.SignalFailed():
                    raise answer.failure.rebuild(execution.codec)
                case _:
                    assert_never(answer)

    # --- values -------------------------------------------------------------------------

    def side_effect(self, fn: Callable[[], T], type_: object) -> T:
        """Run ``fn`` once and record what it gives or raises; on replay, return or raise that."""
        self._unfenced()
        execution = self._execution
        command_id = self._state("side_effect()").next_id()
        command = execution.recorded(command_id)
        what = f"side effect {getattr(fn, '__qualname__', fn)}"
        declared = _declared_result(fn) if type_ is None else type_
        if type(command) is not RecordSideEffect:
            check_command_id(command_id, what)
            if execution.replaying:
                # The history has no such side effect: it must not happen now, and the turn differs.
                execution.give(RecordSideEffect(id=command_id))
                raise Evicted
            command = self._happen(command_id, fn, declared, what)
        elif command.failure is None:
            self._given_before(command.value)
        execution.give(command)
        if command.failure is not None:
            raise command.failure.rebuild(execution.codec)
        if execution.replaying:
            value: Any = self._read(command.value, declared, "{}", what)
        else:  # not stored yet: what cannot be read is this call's error
            value = decode_as(execution.codec, bytes(command.value), declared, what)
        return value  # type: ignore[no-any-return]  # decoded as the declared type

    def _happen(
        self, command_id: str, fn: Callable[[], object], declared: object, what: str
    ) -> RecordSideEffect:
        codec = self._execution.codec
        try:
            with guard.permitted():
                given = fn()
            if declared is Any:
                data = encode_plain(codec, given, what)
                _check_plain(given, decode_as(codec, data, declared, what), what)
            else:
                data = encode_checked(codec, given, declared, what)
            value = self._given(data, what)
        except Exception as exc:  # noqa: BLE001  # what it raised is recorded like what it returned
            return RecordSideEffect(id=command_id, failure=Failure.of(exc, codec))
        return RecordSideEffect(id=command_id, value=value)

    def _given(self, data: bytes, what: str) -> msgspec.Raw:
        """Return a value of a new command, if the turn still has room for it."""
        turn = self._execution.turns
        size = len(data) if turn != self._turn else self._bytes + len(data)
        if size > MAX_TURN:
            check_given(size, what)
        self._turn, self._bytes = turn, size
        return msgspec.Raw(data)

    def _given_before(self, data: msgspec.Raw) -> None:
        """Count a value of a recorded command, so that what was refused after it is so again."""
        turn, size = self._execution.turns, memoryview(data).nbytes
        self._bytes = size if turn != self._turn else self._bytes + size
        self._turn = turn

    def random(self) -> random.Random:
        """Return the running task's own generator, the same on replay."""
        state = self._state("random()")
        if not hasattr(state, "generator"):
            state.generator = random.Random(f"{self._execution.seed}/{state.path}")  # noqa: S311  # not for secrets
        return state.generator

    def uuid4(self) -> uuid.UUID:
        """Return the next UUID of the running task, the same on replay."""
        return uuid.UUID(int=self.random().getrandbits(128), version=4)

    def set_status(self, value: object) -> None:
        """Publish a value that clients see in ``describe()``."""
        self._unfenced()
        self._execution.custom_status = encode_plain(self._execution.codec, value, "set_status()")

    # --- the execution itself -----------------------------------------------------------

    @property
    def identity(self) -> Identity:
        """Which execution of which instance this is."""
        return self._execution.identity

    @property
    def now(self) -> float:
        """The turn's time."""
        return self._execution.now

    @property
    def replaying(self) -> bool:
        """Whether what runs now ran before."""
        return self._execution.replaying

    def info(self) -> Info:
        """What the workflow may know of itself."""
        return self._execution.info()

    def continue_as_new(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ContinueAsNew:
        """Return what ends this execution and starts the next with those arguments."""
        definition = self._execution.definition
        what = f"continue_as_new() of {definition.name}"
        return ContinueAsNew(definition.signature.encode(self._execution.codec, args, kwargs, what))

    # --- inside -------------------------------------------------------------------------

    def _state(self, what: str) -> TaskState:
        state = current_task_state()
        if state is None:
            raise _outside(what)
        return state

    async def _checkpoint(self, kind: str, name: str) -> TaskState:
        """Refuse to begin in a cancelled scope, as trio's calls do, or in a fenced execution."""
        if self._execution.loop.fenced:
            # It has no effect any more; whoever unwinds us throws into this wait.
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        state = current_task_state()
        if state is None:
            raise _outside(f"{kind} {name!r}")
        if in_cancelled_scope():
            await trio.lowlevel.checkpoint_if_cancelled()
        return state

    def _unfenced(self) -> None:
        if self._execution.loop.fenced:
            raise Evicted

    def _read(self, data: msgspec.Raw, type_: object, form: str, name: str) -> Any:
        """Decode what is stored; where that fails the instance is suspended, not the call.

        ``form`` is what the value is, for messages, once ``name`` has been put into it.
        """
        execution = self._execution
        codec = execution.codec
        try:  # as `decode_as` does
            return codec.decode(bytes(data), NoneType if type_ is None else type_)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # noqa: BLE001  # whatever a codec or a type says
            what = form.format(name)
            error = named(codec, exc, what, UndecodableValue)
            error.__cause__ = exc
            state = current_task_state()
            raise execution.cannot_read(what, error, "" if state is None else state.path) from None


def _child_id(me: Identity, command_id: str) -> str:
    """Derive a sub-workflow's id from its parent's and the command's; it stays short.

    Nested some levels deep it is legible; beyond that the path from the root becomes a digest, so
    that no depth reaches the limit of a store.
    """
    prefix = me.id if me.execution == 1 else f"{me.id}/{me.execution}"
    whole = f"{prefix}/{command_id}"
    if len(whole) <= _LEGIBLE:
        return whole
    digest = hashlib.blake2b(whole.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return f"{whole[:_KEPT]}~{digest}"


def _outside(what: str) -> NotInWorkflow:
    return NotInWorkflow(f"{what} was called from outside of the workflow's tasks")


def _first(own: int | None, inherited: int) -> int:
    return inherited if own is None else own


def _check_plain(given: object, comes_back: object, what: str) -> None:
    if comes_back != given:
        name = type(given).__name__
        raise ArgumentError(
            f"{what} gave a {name}, which comes back from the history as a "
            f"{type(comes_back).__name__}; say what it is: side_effect(fn, {name})"
        )


def _declared_result(fn: Callable[[], Any]) -> object:
    if not (inspect.isfunction(fn) or inspect.ismethod(fn)):
        return Any
    try:
        hints = get_type_hints(fn, include_extras=True)
    except Exception:  # noqa: BLE001  # annotations that cannot be resolved say nothing
        return Any
    return hints.get("return", Any)
