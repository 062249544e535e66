"""The functions that workflows are written with, besides trio's and anyio's."""

from __future__ import annotations

import logging
import random as _random
import uuid as _uuid
from collections.abc import Callable, Coroutine, MutableMapping
from inspect import iscoroutine
from typing import Any, Never, NoReturn, ParamSpec, TypeVar

from trioflow._engine import guard
from trioflow._engine.calls import current_caller
from trioflow._engine.reader import current_view, current_view_or_none
from trioflow._engine.retrying import Attempt, Retrying
from trioflow._engine.sagas import Saga
from trioflow._model.attributes import AttributeValue
from trioflow._model.by_name import activity_by_name, workflow_by_name
from trioflow._model.info import (
    ActivityInfo,
    Info,
    current_activity,
    current_connection,
    current_heartbeat,
)
from trioflow._model.options import check_limit_in_seconds
from trioflow._model.promises import Promise
from trioflow._model.queries import Query
from trioflow._model.retry import DEFAULT_ACTIVITY_RETRY, RetryPolicy
from trioflow._model.shared import SharedEvent, SharedLock, SharedSemaphore
from trioflow._model.signals import Signal
from trioflow._model.updates import Update
from trioflow._model.workflows import Workflow
from trioflow._registry import default_registry
from trioflow.errors import ArgumentError, TrioflowError

__all__ = [
    "Attempt",
    "Promise",
    "Query",
    "Saga",
    "SharedEvent",
    "SharedLock",
    "SharedSemaphore",
    "Signal",
    "Update",
    "activity",
    "activity_by_name",
    "activity_connection",
    "activity_info",
    "cancel_instance",
    "continue_as_new",
    "deprecate_patch",
    "emit",
    "forward_unread",
    "heartbeat",
    "info",
    "is_replaying",
    "logger",
    "now",
    "patched",
    "random",
    "retrying",
    "saga",
    "send_signal",
    "set_attributes",
    "set_status",
    "side_effect",
    "sleep",
    "start_detached",
    "uuid4",
    "workflow",
    "workflow_by_name",
]

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

workflow = default_registry.workflow
activity = default_registry.activity


def send_signal(instance: str, signal: Signal[T], value: T) -> Coroutine[Never, object, None]:
    """Send a signal to another instance, and wait until it is in its inbox.

    Args:
        instance: The id of the target.
        signal: Which signal.
        value: A value of the signal's type.

    Raises:
        InstanceNotFound: There is no such instance, or it has ended.
        ValueMismatch: The value is not of the signal's type. Nothing was sent.
        NotInWorkflow: Outside of a workflow; use ``client.handle(id).signal(...)`` there.
    """
    caller = current_caller("send_signal()")
    return caller.send_signal(instance, signal.name, value, signal.type)


def start_detached(
    workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> Coroutine[Never, object, str]:
    """Start an instance that is no sub-workflow, and wait until it is stored.

    It has no parent: it goes on when this workflow ends, is cancelled or terminated, and nobody is
    told of its end. ``options()`` of the workflow say all that they say for ``client.start()``; its
    queue, priority and metadata are those of this workflow, unless they say otherwise.

    Args:
        workflow: The workflow, or a variant of it: ``report.options(id="report-7")``.
        *args: Its arguments.
        **kwargs: Its keyword arguments.

    Returns:
        The id of the instance: the given one, or one that is derived from this instance's. With
        ``options(if_exists="return")`` perhaps of one that was there before, whatever its workflow.

    Raises:
        ArgumentError: The arguments do not fit the signature, or cannot be stored; or it is no
            workflow.
        InstanceAlreadyExists: An instance has the id.
        NotInWorkflow: Outside of a workflow; use ``client.start(...)`` there.
    """
    caller = current_caller("start_detached()")
    if not isinstance(workflow, Workflow):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may have no type checker
        raise ArgumentError(
            f"start_detached() takes a workflow and its arguments, start_detached(report, 7), not "
            f"{workflow!r}" + (": leave out the call's brackets" if iscoroutine(workflow) else "")
        )
    return caller.start_detached(workflow, args, kwargs)


def cancel_instance(id: str, reason: str | None = None) -> Coroutine[Never, object, None]:
    """Ask an instance to end, as ``handle.cancel(reason)`` does, and wait until that is stored.

    For sub-workflows that this workflow waits for, a cancel scope is the better way.

    Args:
        id: The instance.
        reason: Why, for ``InstanceCancelled.reason``.

    Raises:
        InstanceNotFound: There is no such instance, or it has ended.
        ArgumentError: The reason is too long, or has characters that a store does not take.
        NotInWorkflow: Outside of a workflow; use ``client.handle(id).cancel(...)`` there.
    """
    return current_caller("cancel_instance()").cancel_instance(id, reason)


def forward_unread(to: str) -> Coroutine[Never, object, int]:
    """Send all signals that were not received to another instance, in the order of their arrival.

    For the end of a workflow: what is handed on is no dead letter. If the target is not there, or
    ends meanwhile, the signals that are left stay unread.

    Args:
        to: The id of the target.

    Returns:
        How many were sent.

    Raises:
        InstanceNotFound: There is no such instance, or it has ended.
        NotInWorkflow: Outside of a workflow.
    """
    return current_caller("forward_unread()").forward_unread(to)


def now() -> float:
    """Return the workflow's clock: epoch seconds, the same on replay.

    It stands still between two waits, and it is what ``trio.current_time()`` says in a workflow.

    Raises:
        NotInWorkflow: Outside of a workflow.
    """
    return current_view("now()").now


def uuid4() -> _uuid.UUID:
    """Return a new UUID, the same on replay.

    Raises:
        NotInWorkflow: Outside of a workflow.
    """
    return current_caller("uuid4()").uuid4()


def random() -> _random.Random:
    """Return the running task's random generator, which gives the same numbers on replay.

    Each task has its own, so that drawing in one branch does not change another. Not for secrets.

    Raises:
        NotInWorkflow: Outside of a workflow.
    """
    return current_caller("random()").random()


def side_effect(fn: Callable[[], T], type: object = None) -> T:
    """Call ``fn`` once and record what it returns; on replay return that without calling it.

    For something quick that cannot be repeated, such as reading the environment or a clock. It runs
    at once, in the workflow, and may run again if the process dies in the same moment; what takes
    time or can fail belongs into an activity.

    Args:
        fn: A function without parameters.
        type: The type of its value; by default its return annotation.

    Raises:
        ArgumentError: Without a type, the value would come back from the history as something else.
        ValueMismatch: The value cannot be stored, or is not of that type.
        NotInWorkflow: Outside of a workflow.
    """
    return current_caller("side_effect()").side_effect(fn, type)


def sleep(seconds: float, *, name: str) -> Coroutine[Never, object, None]:
    """Sleep as ``trio.sleep(seconds)``, with a name that the history and ``tasks()`` show.

    Args:
        seconds: How long, from 0 on.
        name: What for. Like the names of activities it is part of the history, so replay compares
            it.

    Raises:
        ArgumentError: The time is no such number; or the name is empty, too long, or has characters
            that a store does not take.
        NotInWorkflow: Outside of a workflow; use ``trio.sleep()`` or ``anyio.sleep()`` there.
    """
    return current_caller("sleep()").sleep(seconds, name)


def patched(patch: str) -> bool:
    """Return whether to take the new way here, so that executions under way fit their history.

    True in an execution that comes here for the first time with this code, and recorded; false
    where it came by before there was this patch. Each pass by a place, in a loop or in another
    task, decides for itself. Asking shifts the number of no call.

    Args:
        patch: A name for the change, of its own: two changes have two names.

    Raises:
        DeterminismError: The same patch is asked for at another place of the workflow. Ask once and
            keep the answer: ``new = patched("fraud-check")``.
        ArgumentError: The name is empty, too long, or has characters that a store does not take.
        NotInWorkflow: Outside of a workflow.

    Example:
        .. code-block:: python

            if patched("fraud-check"):
                await check_fraud(order)
            await charge(order)
    """
    return current_caller("patched()").patched(patch)


def deprecate_patch(patch: str) -> None:
    """Keep the place of a patch whose old way is gone; records nothing itself.

    It stands where ``patched()`` stood, once no execution that went the old way is left, and can be
    taken out once no execution is left in which ``patched()`` was recorded.

    Raises:
        ArgumentError: As for `patched`.
        NotInWorkflow: Outside of a workflow.
    """
    current_caller("deprecate_patch()").deprecate_patch(patch)


def retrying(policy: RetryPolicy | None = None) -> Retrying:
    """Try a block of a workflow again until it succeeds, as a policy says; the waits are durable.

    The block may call several activities. What it raises is judged as an activity's failure is: a
    class of ``non_retryable`` ends it also as a cause and in an exception group, and `Retry`
    chooses the delay. The last error is raised as it is. A cancel is no failure.

    Args:
        policy: By default three attempts, after 1 and 2 seconds.

    Raises:
        ArgumentError: It is no `RetryPolicy`.
        NotInWorkflow: Outside of a workflow.

    Example:
        .. code-block:: python

            async for attempt in retrying(RetryPolicy(max_attempts=5)):
                with attempt:
                    seat = await reserve(trip)
                    await pay(seat)
    """
    caller = current_caller("retrying()")
    if policy is not None and not isinstance(policy, RetryPolicy):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may have no type checker
        raise ArgumentError(
            f"retrying() takes a RetryPolicy, not {policy!r}; for example "
            "retrying(RetryPolicy(max_attempts=5))"
        )
    return Retrying(caller, policy or DEFAULT_ACTIVITY_RETRY)


def saga(*, undo_timeout: float | None = None) -> Saga:
    """Make a block whose steps are undone if it fails, is cancelled, or takes too long.

    Args:
        undo_timeout: Seconds that undoing may take, all steps together; ``None`` for no limit. What
            is under way then is cancelled, and the rest is not undone.

    Raises:
        TypeError: ``undo_timeout`` is no number.
        ValueError: It is not above 0.
        NotInWorkflow: Outside of a workflow.

    Example:
        .. code-block:: python

            async with saga(undo_timeout=3600) as s:
                await s.do(partial(book_hotel, trip), undo=partial(cancel_hotel, trip))
                await s.do(partial(book_flight, trip), undo=partial(cancel_flight, trip))
    """
    caller = current_caller("saga()")
    check_limit_in_seconds("undo_timeout", undo_timeout)
    return Saga(caller, undo_timeout)


def info() -> Info:
    """Return the running workflow's ids, queue and size of history.

    Raises:
        NotInWorkflow: Outside of a workflow.
    """
    return current_view("info()").info()


def activity_info() -> ActivityInfo:
    """Return the running activity's attempt, idempotency key and instance.

    Raises:
        TrioflowError: Outside of an activity, also where one is called directly, as in a unit test.
    """
    found = current_activity.get()
    if found is None:
        hint = "in a test use 'with trioflow.testing.activity_context():'"
        raise TrioflowError(f"activity_info() is for inside an activity that a worker runs; {hint}")
    return found


def activity_connection() -> Any:
    """Return the connection on which the running activity writes, with ``transactional=True``.

    It is one of the driver's to the database of the store: a ``sqlite3.Connection``, a
    ``psycopg.Connection`` or one of PyMySQL's, in a transaction that trioflow commits when the
    function has returned, together with its result; and rolls back if it raises, if its time is
    over, or if the worker has lost the activity to another one. Neither commit nor roll back on it.

    Raises:
        TrioflowError: Outside of a transactional activity, also where one is called directly, as in
            a unit test.
    """
    found = current_connection.get()
    if found is None:
        hint = "in a test use 'with trioflow.testing.activity_context(connection=…):', or a fake"
        raise TrioflowError(
            "activity_connection() is for inside an activity with transactional=True that a worker "
            f"runs; {hint}"
        )
    return found


def heartbeat(details: object = None) -> None:
    """Say that the running activity makes progress, and how far it is.

    The last details are seen in ``describe()``, and the next attempt has them as
    ``activity_info().heartbeat``, as plain JSON data. With ``heartbeat_timeout=`` an attempt that
    says nothing for so long is given up. It may be called as often as you like, from async and
    from plain functions: about once a second the last details are stored, and so they are when the
    attempt ends; a call in between takes about a microsecond. If the worker's process dies,
    those of the last second may be missing.

    Where an activity is called directly, as in a unit test, it does nothing.

    Args:
        details: Any storable value. It may be read up to a second later; give a new one each time
            rather than one that changes.

    Raises:
        ValueMismatch: The details cannot be stored. Only a call whose details are stored at once
            finds out; otherwise the worker's log says so.
        TrioflowError: In a workflow.
    """
    beat = current_heartbeat.get()
    if beat is not None:
        beat(details)
    elif current_view_or_none() is not None:
        raise TrioflowError(
            "heartbeat() was called in a workflow, which is stored as it goes; it is for activities"
        )


def is_replaying() -> bool:
    """Return whether the workflow is being replayed. False outside of a workflow.

    Only for what has no effect on the workflow, such as progress on a screen.
    """
    caller = current_view_or_none()
    return caller is not None and caller.replaying


def set_status(value: object) -> None:
    """Publish any storable value, seen in ``describe()``. It is no part of the history.

    Raises:
        ValueMismatch: The value cannot be stored.
        NotInWorkflow: Outside of a workflow.
    """
    current_caller("set_status()").set_status(value)


def emit(stream: str, value: object) -> Coroutine[Never, object, None]:
    """Append a value to a stream of this instance, for those who read it as it grows.

    ``async for item in handle.stream(name)`` reads it, once the turn is stored. The value is in the
    history, exactly once, whatever is replayed. This does not wait for anybody.

    Args:
        stream: The stream's name; there are as many as a workflow likes.
        value: Any storable value.

    Raises:
        ArgumentError: The name is empty, too long, or has characters that a store does not take.
        ValueMismatch: The value cannot be stored.
        PayloadTooLarge: It is too large, or with it what the workflow has given since it waited.
        NotInWorkflow: Outside of a workflow.
    """
    return current_caller("emit()").emit(stream, value)


def set_attributes(**changes: AttributeValue | None) -> None:
    """Set attributes of the instance, by which ``client.list(where=…)`` finds it.

    The others stay; ``None`` removes one. They are stored with the turn, are no part of the
    history, and are kept when the workflow continues as new. No codec hides them.

    Args:
        **changes: A str, int, float, bool, datetime with a time zone, or list of str. An instance
            has at most 32 attributes, their names at most 64 characters, each value 2 KiB.

    Raises:
        ArgumentError: A name or value is of another kind, or too large, or there are too many.
            Nothing was changed.
        NotInWorkflow: Outside of a workflow; ``options(attributes=…)`` sets those of a start.
    """
    current_caller("set_attributes()").set_attributes(changes)


def continue_as_new(*args: Any, **kwargs: Any) -> NoReturn:
    """End this execution and start the next with an empty history and these arguments.

    The instance keeps its id; signals that were not received go over in their order; whoever waits
    for the result waits for the last execution's. Does not return: it raises what ends the
    workflow, so it must not be caught.

    Raises:
        ArgumentError: The arguments do not fit the workflow's signature. The execution goes on.
        NotInWorkflow: Outside of a workflow.
    """
    raise current_caller("continue_as_new()").continue_as_new(args, kwargs)


class _ContextLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds what runs to log records, and drops them during replay."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # logging's name
        return not is_replaying() and self.logger.isEnabledFor(level)

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        caller = current_view_or_none()
        if caller is not None:
            me = caller.identity
            kwargs["extra"] = {
                "instance": me.id,
                "execution": me.execution,
                **(kwargs.get("extra") or {}),
            }
        elif (attempt := current_activity.get()) is not None:
            kwargs["extra"] = {
                "instance": attempt.instance,
                "execution": attempt.execution,
                "command": attempt.command,
                "activity": attempt.activity,
                "attempt": attempt.attempt,
                **(kwargs.get("extra") or {}),
            }
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if self.isEnabledFor(level):
            # One level more, so that the record has the caller's line.
            kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
            with guard.permitted():  # handlers write
                super().log(level, msg, *args, **kwargs)


logger = _ContextLogger(logging.getLogger("trioflow.workflow"), {})
"""For workflows and activities: adds what runs to the record, and is silent on replay.

Records of a workflow get ``instance`` and ``execution``, those of an activity also ``activity``,
``attempt`` and ``command``.
"""
