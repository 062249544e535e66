"""Side effects: run once, recorded in the history, and read from there on replay."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from trioflow._codec.failures.failures import Failure
from trioflow._codec.values import decode_as, encode_checked, encode_plain
from trioflow._engine import guard
from trioflow._model.activities import Activity
from trioflow._model.commands import RecordSideEffect
from trioflow._model.ids import check_command_id
from trioflow._model.workflows import Workflow
from trioflow.errors import ArgumentError, Evicted

if TYPE_CHECKING:
    from trioflow._engine.calls import Caller

__all__ = ["side_effect"]

T = TypeVar("T")


def side_effect(caller: Caller, fn: Callable[[], T], type_: object) -> T:
    """Run ``fn`` once and record what it gives or raises; on replay, return or raise that."""
    caller.check_not_fenced()
    execution = caller.execution
    command_id = caller.task_state("side_effect()").next_id()
    command = execution.commands.find_recorded(command_id)
    what = f"side effect {getattr(fn, '__qualname__', fn)}"
    declared = _declared_result(fn) if type_ is None else type_
    if type(command) is not RecordSideEffect:
        check_command_id(command_id, what)
        if execution.replaying:
            # The history has no such side effect. Do not run it; the turn diverges.
            execution.commands.give(RecordSideEffect(id=command_id))
            raise Evicted
        command = _happen(caller, command_id, fn, declared, what)
    elif command.failure is None:
        caller.count_recorded(command.value)
    execution.commands.give(command)
    if command.failure is not None:
        raise caller.rebuild(command.failure)
    if execution.replaying:
        value: Any = caller.read(command.value, declared, "{}", what)
    else:  # not stored yet: a value that cannot be read is an error of this call
        value = decode_as(execution.codec, bytes(command.value), declared, what)
    return value  # type: ignore[no-any-return]  # decoded as the declared type


def _happen(
    caller: Caller, command_id: str, fn: Callable[[], object], declared: object, what: str
) -> RecordSideEffect:
    codec = caller.execution.codec
    try:
        _check_function(fn)
        with guard.permitted():
            given = fn()
        if declared is Any:
            data = encode_plain(codec, given, what)
            _check_plain(given, decode_as(codec, data, declared, what), what)
        else:
            data = encode_checked(codec, given, declared, what)
        value = caller.count_new(data, what)
    except Exception as exc:  # noqa: BLE001  # what it raised is recorded like what it returned
        return RecordSideEffect(id=command_id, failure=Failure.of(exc, codec))
    return RecordSideEffect(id=command_id, value=value)


def _check_function(fn: object) -> None:
    """Raise for what is given instead of a plain function by mistake."""
    if not callable(fn):
        raise ArgumentError(
            f"side_effect() calls a function, and {fn!r} is none: leave out the parentheses, as in "
            "side_effect(read), or write side_effect(lambda: read(…))"
        )
    if isinstance(fn, Activity | Workflow) or inspect.iscoroutinefunction(fn):
        raise ArgumentError(
            f"side_effect() calls a plain function at once, and {fn!r} has to be awaited: make it "
            "an activity, if it is none, and write await in place of side_effect"
        )


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
