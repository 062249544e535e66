"""Workflows as they are decorated."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Generic, Literal, Never, ParamSpec, TypeAlias, TypeVar, get_args

from trioflow._codec.limits import check_id
from trioflow._model.attributes import AttributeValue, Stored, stored_attributes
from trioflow._model.bound import BoundWorkflow
from trioflow._model.commands import StartOptions
from trioflow._model.definitions import Definition, OnCancel, check_queue, check_retry
from trioflow._model.fingerprints import fingerprint_of
from trioflow._model.invoker import current_invoker
from trioflow._model.options import (
    check_choice,
    check_count,
    check_flag,
    check_limit_in_seconds,
    check_priority,
    check_seconds,
    check_time,
    refuses_unknown,
)
from trioflow._model.propagation import check_metadata
from trioflow._model.retry import RetryPolicy
from trioflow.errors import DefinitionError, NotInWorkflow

__all__ = [
    "IfExists",
    "SuspendOn",
    "Unread",
    "Workflow",
    "checks_of_source",
    "timeout_of",
]

P = ParamSpec("P")
R = TypeVar("R")

_LEAST_EVENTS = 100  # with fewer, the limit could be reached before a workflow continues as new

Unread = Literal["ignore", "warn", "fail"]
IfExists = Literal["raise", "return", "replace"]
SuspendOn: TypeAlias = type[Exception] | tuple[type[Exception], ...]

checks_of_source: list[Callable[[Callable[..., Any]], None]] = []
"""Called with the function of each workflow that is decorated; the engine's guard adds its own."""


def _is_method(fn: Any) -> bool:
    """Return whether a function stands in a class and takes an object of it."""
    owner = getattr(fn, "__qualname__", "").rpartition(".")[0]
    if not owner or owner.endswith("<locals>") or inspect.ismethod(fn):
        return False
    return next(iter(inspect.signature(fn).parameters), "") in ("self", "cls")


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def _suspend_on(given: SuspendOn) -> tuple[type[Exception], ...]:
    classes = given if isinstance(given, tuple) else (given,)
    for each in classes:
        if not _is_exception(each):
            raise DefinitionError(
                f"suspend_on is one or several classes of exceptions, not {each!r}"
            )
    return classes


def timeout_of(definition: Workflow[..., Any] | None, options: StartOptions | None) -> float:
    """Return how many seconds an instance may take, as far as is known; 0 for any.

    Args:
        definition: Of its workflow; ``None`` if that is not known here.
        options: Of its start.
    """
    timeout = None if options is None else options.timeout
    if timeout is None and definition is not None:
        timeout = definition.timeout
    return timeout or 0.0


def _start_of(start_at: float | None, delay: float | None) -> dict[str, float]:
    """Return the options that say when an instance begins; the one takes the place of the other."""
    if start_at is not None and delay is not None:
        raise DefinitionError("start_at and delay both say when it starts; give one of them")
    if start_at is not None:
        return {"start_at": check_time(start_at, "start_at"), "delay": 0.0}
    if delay is not None:
        check_seconds("delay", delay, zero=True)
        return {"start_at": 0.0, "delay": delay}
    return {}


class Workflow(Definition, Generic[P, R]):
    """A durable function, deterministic but for what trioflow records.

    Calling it gives a coroutine. Inside a workflow that starts a sub-workflow and waits for its
    result; elsewhere use ``client.run(workflow, ...)`` or ``client.start(workflow, ...)``.

    Attributes:
        name: By which the store and workers know it.
        fn: The function itself.
        queue: Where its instances run; ``None`` for the parent's queue, or ``"default"``.
        priority: A whole number from -100 to 100: the larger, the sooner its instances, and the
            activities that they call, are taken from their queues; ``None`` for the parent's, or 0.
        retry: For sub-workflows: what happens after a failed run; ``None`` for no retry.
        timeout: Seconds that an instance may take, over all its executions, from when it was
            started (or from ``start_at``): a durable deadline around the function.
        max_events: Size of the history (events and commands) at which an instance is suspended;
            from 80 % on ``info().should_continue_as_new`` is true.
        unread: What follows if the workflow returns and has not received all its signals: nothing
            (``"ignore"``), a line in the log (``"warn"``), or it fails with `UnreadSignals`
            (``"fail"``). They are seen in ``describe()`` in any case.
        suspend_on: Exceptions that suspend an instance instead of failing it: the turn that raised
            one is not stored, and is made again when the instance is resumed.
        id: The id of the instance to be started; ``None`` for a generated one.
        start_at: The earliest time at which it begins, epoch seconds; ``None`` for at once. Until
            then it can be cancelled and terminated, and what is sent to it waits.
        delay: The same in seconds from the start; ``None`` for none.
        attributes: What the instance can be found by, as stored; ``set_attributes()`` changes it.
        if_exists: What ``client.start()`` does if an unfinished instance has the id: ``"raise"``;
            ``"return"`` a handle of that one, which may have finished, too; or ``"replace"`` it:
            it is terminated first.
        on_cancel: What happens to a sub-workflow when its caller is cancelled: ``"wait"`` cancels
            it and waits until it has ended; with ``"abandon"`` it goes on, beyond its parent's end,
            but not beyond its parent's terminate.
        reuse_finished: Whether the id of a finished instance is used again. ``None`` stands for
            true, and for false with ``if_exists="return"``: such a start does the work once,
            however often it is repeated.
    """

    kind = "workflow"

    def __init__(
        self,
        fn: Callable[P, Awaitable[R]],
        *,
        name: str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        max_events: int = 50_000,
        suspend_on: SuspendOn = (),
        unread: Unread = "warn",
    ) -> None:
        super().__init__(fn, name)
        if not inspect.iscoroutinefunction(inspect.unwrap(fn)):
            raise DefinitionError(
                f"workflow {self.name!r} ({self.where}) must be an 'async def' function: a "
                "workflow waits for its activities. Make it async, or decorate it with @activity "
                "if it does side effects."
            )
        if _is_method(fn):
            raise DefinitionError(
                f"workflow {self.name!r} ({self.where}) is a method, and there is no object to "
                "call it on: an instance lives in the store, and any worker may run it. Make it a "
                "function, and give it what it needs as arguments. (Activities may be methods: "
                "registry.add(the_object) adds them.)"
            )
        check_limit_in_seconds("timeout", timeout)
        check_count("max_events", max_events, _LEAST_EVENTS)
        check_choice(f"workflow {self.name!r}: unread", unread, get_args(Unread))
        check_priority(priority)
        check_queue(queue)
        check_retry(retry)
        self.queue = queue
        self.priority = priority
        self.retry = retry
        self.timeout = timeout
        self.max_events = max_events
        self.suspend_on = _suspend_on(suspend_on)
        self.unread: Unread = unread
        self.id: str | None = None
        self.start_at: float | None = None
        self.delay: float | None = None
        self.attributes: Stored = {}
        self.overrides: StartOptions | None = None
        self.on_cancel: OnCancel = "wait"
        self.if_exists: IfExists = "raise"
        self.reuse_finished: bool | None = None
        self.metadata: Mapping[str, str] = {}
        self.watched = False  # by the determinism guard

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 digits that stand for the function's own source; ``""`` if there is none to read.

        Each execution keeps the one that it began with.
        """
        return fingerprint_of(self.fn)

    @refuses_unknown("workflow.options()")
    def options(
        self,
        *,
        id: str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        max_events: int | None = None,
        start_at: float | None = None,
        delay: float | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        on_cancel: OnCancel | None = None,
        if_exists: IfExists | None = None,
        reuse_finished: bool | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Workflow[P, R]:
        """Return a variant with other options and the same signature; what is not given stays.

        Raises:
            ArgumentError: The id or the queue's name is empty, too long, or has characters that
                a store does not take; an attribute is not as `attribute` says; or metadata are no
                strings.
            PayloadTooLarge: They are too large.
            DefinitionError: There is no such option, ``if_exists`` or ``on_cancel``; or both
                ``start_at`` and ``delay`` are given.
            TypeError: ``reuse_finished`` is neither true nor false, or seconds are no number.
            ValueError: The priority, or a number, is out of range.
        """
        if id is not None:
            check_id(id)
        check_priority(priority)
        check_queue(queue)
        check_retry(retry)
        if on_cancel is not None:
            check_choice("on_cancel", on_cancel, get_args(OnCancel))
        if if_exists is not None:
            check_choice("if_exists", if_exists, get_args(IfExists))
        if reuse_finished is not None:
            check_flag("reuse_finished", reuse_finished)
        return self._variant(
            id=id,
            queue=queue,
            priority=priority,
            retry=retry,
            on_cancel=on_cancel,
            if_exists=if_exists,
            reuse_finished=reuse_finished,
            timeout=timeout,
            max_events=max_events,
            metadata=None if metadata is None else check_metadata(metadata),
            overrides=self._overrides(timeout, max_events),
            attributes=None if attributes is None else stored_attributes(attributes),
            **_start_of(start_at, delay),
        )

    def _overrides(self, timeout: float | None, max_events: int | None) -> StartOptions | None:
        check_limit_in_seconds("timeout", timeout)
        if max_events is not None:
            check_count("max_events", max_events, _LEAST_EVENTS)
        before = self.overrides or StartOptions()
        overrides = StartOptions(
            timeout=before.timeout if timeout is None else float(timeout),
            max_events=before.max_events if max_events is None else max_events,
        )
        return None if overrides == StartOptions() else overrides

    def starts_at(self, now: float) -> float:
        """Return when an instance begins that is started now; 0 for at once."""
        return now + self.delay if self.delay else self.start_at or 0.0

    @property
    def reuses_finished(self) -> bool:
        """Whether a start uses the id of a finished instance again."""
        if self.reuse_finished is None:
            return self.if_exists != "return"
        return self.reuse_finished

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Never, object, R]:
        """Return a coroutine that runs the sub-workflow; see the class."""
        invoker = current_invoker.get()
        if invoker is None:
            raise NotInWorkflow(
                f"workflow {self.name!r} was called outside of a workflow, where nothing would "
                f"make it durable. Use 'await client.run({self.fn.__name__}, ...)' for its result, "
                "or client.start(...) for a handle."
            )
        return invoker.call(self, args, kwargs)

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> BoundWorkflow[R]:
        """Return a call with these arguments that is held and not made."""
        return BoundWorkflow(self, args, kwargs)
