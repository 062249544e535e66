"""Make the outcome of an execution from how its workflow function ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

import msgspec
from outcome import Error

from trioflow._codec.failures.failures import Failure
from trioflow._codec.failures.groups import continuation
from trioflow._codec.foreign import suppressed
from trioflow._codec.values import Codec, encode_checked, is_plain
from trioflow._engine.hints import add_hints
from trioflow._engine.suspension import NeedsSuspension, raised_in
from trioflow._model.events import Message, SignalReceived
from trioflow._model.turns import Cancelled, Completed, Continued, Failed, Outcome, Turn
from trioflow._model.workflows import Unread, Workflow
from trioflow.errors import ArgumentError, ContinueAsNew, UnreadSignals

if TYPE_CHECKING:
    from trioflow._engine.execution import Execution

__all__ = [
    "outcome_of",
    "over",
]


def over(deadline: float, workflow: str) -> TimeoutError:
    """Return the error that says that an instance's time is over."""
    when = datetime.fromtimestamp(deadline, UTC).isoformat(timespec="seconds")
    return TimeoutError(
        f"workflow {workflow!r} took longer than its timeout, which was over at {when}"
    )


def outcome_of(execution: Execution, recorded: Turn | None) -> Outcome:
    """Return how an execution ends whose workflow function has ended.

    Args:
        execution: Which one; its tasks are gone.
        recorded: On replay, that turn.

    Raises:
        NeedsSuspension: It raised what its definition says suspends it.
    """
    definition, codec, end = execution.definition, execution.codec, execution.loop.outcome
    assert end is not None
    doomed, why = execution.doomed, execution.cancelled_why
    error = doomed or (end.error if isinstance(end, Error) else None)
    if error is not None and definition.suspend_on and not execution.replaying:
        _suspend_if_wanted(execution, error)
    if doomed is not None:
        return Failed(Failure.of(doomed, codec))
    outcome: Outcome
    if isinstance(end, Error):
        outcome = _raised(codec, end.error)
    elif why is not None and execution.loop.root.cancelled_caught:
        outcome = Cancelled(why.reason)
    else:
        policy = definition.unread if recorded is None else _judged(recorded.outcome)
        outcome = _returned(definition, codec, end.unwrap())
        if policy == "fail" and isinstance(outcome, Completed):
            outcome = _unread_is_fine(outcome, execution.messages.unread())
    if execution.calls.made:
        execution.calls.close()
    if why is not None and isinstance(outcome, Continued):
        return Cancelled(why.reason)  # the next execution would be cancelled at its start
    return outcome


def _suspend_if_wanted(execution: Execution, error: BaseException) -> None:
    failing = execution.failing
    if _suspends(execution.definition, error):
        said = type(error).__name__
        if is_plain(execution.codec):
            said += f": {error}"
        name, me = execution.definition.name, execution.identity.id
        failed = failing.raised_by(error, execution.codec)
        began = failing.began
        raise NeedsSuspension(raised_in(name, me, execution.turns, said, failed, began))


def _returned(definition: Workflow[..., Any], codec: Codec, value: object) -> Completed | Failed:
    """Return the outcome of a workflow whose function returned ``value``."""
    if isinstance(value, CoroutineType):
        value.close()
        called = f"{definition.name}() ({definition.where}) returned a coroutine"
        error = ArgumentError(f"{called}: write 'return await ...' where it returns a call")
        return Failed(Failure.of(error, codec))
    what = f"{definition.name}() result"
    try:
        data = encode_checked(codec, value, definition.signature.result_type, what)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # noqa: BLE001  # whatever the codec says is the workflow's failure
        return Failed(Failure.of(exc, codec))
    return Completed(msgspec.Raw(data))


def _suspends(definition: Workflow[..., Any], error: BaseException) -> bool:
    """Return whether what a workflow raised, or all that is in a group, suspends the instance."""
    classes = definition.suspend_on
    if issubclass(type(error), BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).split(classes)[1] is None
    return issubclass(type(error), classes)


def _raised(codec: Codec, error: BaseException) -> Failed | Continued:
    """Return the outcome of a workflow whose function raised."""
    again = continuation(error)
    if again is not None:
        return _continued(codec, again)
    with suppressed():  # a failing hint must not replace the error
        add_hints(error)
    return Failed(Failure.of(error, codec))


def _continued(codec: Codec, again: ContinueAsNew) -> Failed | Continued:
    data = again.input
    if again.encode is not None:
        try:
            data = again.encode()
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # noqa: BLE001  # what a handler has made of the arguments
            return Failed(Failure.of(exc, codec))
    return Continued(msgspec.Raw(data))


def _judged(recorded: Outcome | None) -> Unread:
    """Return the policy for unread signals by which a stored execution has ended.

    That of its definition may be another one by now.
    """
    failed = isinstance(recorded, Failed) and recorded.failure.type == _UNREAD
    return "fail" if failed else "ignore"


def _unread_is_fine(end: Completed, unread: Sequence[Message]) -> Completed | Failed:
    """Return how a workflow ends that must receive all its signals, and has not received these."""
    names = [each.name for each in unread if isinstance(each, SignalReceived)]
    if not names:
        return end
    counts = ", ".join(f"{name!r} ({count})" for name, count in Counter(names).items())
    return Failed(
        Failure.of(
            UnreadSignals(
                f"the workflow returned without receiving signals: {counts}. Receive them before, "
                "hand them on with forward_unread(), or declare @workflow(unread='ignore')"
            )
        )
    )


_UNREAD = f"{UnreadSignals.__module__}.{UnreadSignals.__qualname__}"
