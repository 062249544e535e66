"""Definitions: activities and workflows as they are decorated.

Calling a definition inside a workflow reaches the engine through `current_invoker`, a context
variable that the engine sets in the contexts it runs workflow code in. So definitions need no
engine.
"""

from __future__ import annotations

import copy
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import (
    Any,
    Concatenate,
    Generic,
    Literal,
    Never,
    ParamSpec,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    get_args,
    overload,
)

import msgspec

from trioflow._codec.limits import check_id, check_name
from trioflow._codec.signatures.signatures import CallSignature
from trioflow._codec.signatures.special import UnboundSignature
from trioflow._model.attributes import AttributeValue, Stored, stored_attributes
from trioflow._model.awaited import NotAwaited
from trioflow._model.bound import BoundActivity, BoundWorkflow
from trioflow._model.commands import ActivityOptions, StartOptions
from trioflow._model.fingerprints import fingerprint_of
from trioflow._model.info import current_activity
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
    "Activity",
    "IfExists",
    "Invoker",
    "OnCancel",
    "Runtime",
    "SuspendOn",
    "Unread",
    "Workflow",
    "answering_to",
    "checks_of_source",
    "current_invoker",
    "invoker_for",
]

logger = logging.getLogger("trioflow.model")

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")

Runtime = Literal["auto", "async", "thread", "asyncio", "process"]
_LEAST_EVENTS = 100  # with fewer, the limit could be reached before a workflow continues as new

_PLAIN = ("thread", "process")  # the runtimes of functions that are not async

OnCancel = Literal["wait", "abandon"]
Unread = Literal["ignore", "warn", "fail"]
IfExists = Literal["raise", "return", "replace"]
SuspendOn: TypeAlias = type[Exception] | tuple[type[Exception], ...]

checks_of_source: list[Callable[[Callable[..., Any]], None]] = []
"""Called with the function of each workflow that is decorated; the engine's guard adds its own."""

_called_inline: set[tuple[str, str]] = set()  # the pairs that a warning was logged for


class Invoker(Protocol):
    """What definitions and signals call inside a workflow: the engine's `Caller`."""

    def call(
        self,
        definition: Activity[..., R] | Workflow[..., R],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Coroutine[Any, Any, R]:
        """Run an activity or a sub-workflow durably and wait for its result."""
        ...

    def receive_signal(self, name: str, type_: object) -> Coroutine[Any, Any, Any]:
        """Wait for the next signal of that name."""
        ...

    def receive_signal_nowait(self, name: str, type_: object) -> Any:
        """Return the next signal of that name, or raise `trio.WouldBlock`."""
        ...

    def receive_any_signal(self) -> Coroutine[Any, Any, tuple[str, Any]]:
        """Wait for the next signal that nobody receives by its name."""
        ...

    def receive_any_signal_nowait(self) -> tuple[str, Any]:
        """Return the next such signal, or raise `trio.WouldBlock`."""
        ...

    def make_promise(self, name: str) -> str:
        """Make a promise, and return its token."""
        ...

    def receive_promise(self, name: str, token: str, type_: object) -> Coroutine[Any, Any, Any]:
        """Wait until a promise is settled."""
        ...

    def set_query_handler(self, query: Any, fn: Callable[..., Any]) -> None:
        """Answer queries of that name with a function; with ``None`` those that have none."""
        ...

    def set_update_handler(
        self, update: Any, fn: Callable[..., Any], validator: Callable[..., Any] | None
    ) -> None:
        """Answer updates of that name with a function; with ``None`` those that have none."""
        ...


# Calls are Coroutine[Never, object, R], not [Any, Any, R]: what takes any coroutine takes both, but
# with Any mypy does not choose among overloads such as those of anyio.gather.

current_invoker: ContextVar[Invoker | None] = ContextVar("trioflow_invoker", default=None)


def invoker_for(what: str) -> Invoker:
    """Return what calls of the running workflow go to.

    Raises:
        NotInWorkflow: Outside of a workflow; ``what`` names what was called.
    """
    invoker = current_invoker.get()
    if invoker is None:
        raise NotInWorkflow(
            f"{what} can only be called inside a workflow, and none runs here: call it there, and "
            "pass on to activities what they need as arguments"
        )
    return invoker


@contextmanager
def answering_to(invoker: Invoker) -> Generator[None]:
    """Let all calls of the block go to this one. The block does not await."""
    token = current_invoker.set(invoker)
    try:
        yield
    finally:
        current_invoker.reset(token)


def _default_name(fn: Any) -> str:
    fn = _inner(fn)
    name: str = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    return name.rpartition("<locals>.")[2]


def _inner(fn: Any) -> Any:
    while fn.__class__ is functools.partial:
        fn = fn.func
    return fn


def _is_async(fn: Any) -> bool:
    """Return whether calling it gives a coroutine, also for an object with ``__call__``."""
    fn = _inner(fn)
    cls: Any = fn.__class__
    return any(
        inspect.iscoroutinefunction(each)
        for each in (fn, inspect.unwrap(fn), getattr(cls, "__call__", None))  # noqa: B004 - not whether it can be called
    )


def _is_method(fn: Any) -> bool:
    """Return whether a function stands in a class and takes an object of it."""
    owner = getattr(fn, "__qualname__", "").rpartition(".")[0]
    if not owner or owner.endswith("<locals>") or inspect.ismethod(fn):
        return False
    return next(iter(inspect.signature(fn).parameters), "") in ("self", "cls")


def _check_retry(retry: RetryPolicy | None) -> None:
    if retry is not None and not isinstance(retry, RetryPolicy):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may have no type checker
        raise DefinitionError(
            f"retry is a RetryPolicy, not {retry!r}; for example RetryPolicy(max_attempts=5)"
        )


def _check_queue(queue: str | None) -> None:
    if queue is not None:
        check_name(queue, "a queue")


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


class _Definition(NotAwaited):
    """What activities and workflows share."""

    kind = "definition"

    def __init__(self, fn: Callable[..., Any], name: str | None) -> None:
        # Not the attributes of an object with `__call__`.
        updated = ("__dict__",) if inspect.isroutine(fn) else ()
        functools.update_wrapper(self, fn, updated=updated)  # type: ignore[arg-type]  # we are callable; mypy looks at the subclass
        self.fn: Callable[..., Any] = fn
        self.name = check_name(name or _default_name(fn), f"the {self.kind}")
        self.signature = CallSignature.of(fn)

    def _variant(self, **changes: Any) -> Self:
        clone = copy.copy(self)
        clone.__dict__.update((key, value) for key, value in changes.items() if value is not None)
        return clone

    @property
    def where(self) -> str:
        """``file:line`` of the function, for messages."""
        code = getattr(inspect.unwrap(self.fn), "__code__", None)
        return "unknown place" if code is None else f"{code.co_filename}:{code.co_firstlineno}"

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name!r}>"

    def _instead(self) -> str:
        called = self.name.rpartition(".")[2]
        return (
            f"it is not called; write {called}(…) with its arguments, or {called}.options(…)(…), "
            "since options() only gives a variant of it"
        )


class Activity(_Definition, Generic[P, R]):
    """A function that does side effects: called at least once, its result recorded once.

    Calling it gives a coroutine. Inside a workflow that runs the activity durably; elsewhere it
    simply runs the function, so that it can be tested as the function it is.

    Attributes:
        name: By which histories and workers know it.
        fn: The function itself.
        queue: Where it runs; ``None`` for the calling instance's queue.
        priority: A whole number from -100 to 100: the larger, the sooner it is taken from its
            queue; ``None`` for the calling instance's.
        retry: What happens after a failed attempt; ``None`` for the default policy.
        timeout: Seconds that one attempt may take.
        schedule_timeout: Seconds that all attempts may take together, from the call on.
        heartbeat_timeout: Seconds for which an attempt may be silent: without `heartbeat()`.
        runtime: ``"async"`` runs it in the worker's loop, ``"thread"`` in a worker thread,
            ``"process"`` runs a plain function that computes in a process of its own, and
            ``"asyncio"`` runs a coroutine function that needs asyncio, also where the worker runs
            on trio (through trio-asyncio: ``pip install 'trioflow[asyncio]'``);
            ``"auto"`` decides by whether it is a coroutine function.
        on_cancel: Whether a cancelled caller waits until the activity has stopped.
    """

    kind = "activity"

    def __init__(
        self,
        fn: Callable[P, Awaitable[R]] | Callable[P, R],
        *,
        name: str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        schedule_timeout: float | None = None,
        heartbeat_timeout: float | None = None,
        runtime: Runtime = "auto",
        on_cancel: OnCancel = "wait",
    ) -> None:
        super().__init__(fn, name)
        is_async = _is_async(fn)
        check_choice(f"activity {self.name!r}: runtime", runtime, get_args(Runtime))
        check_choice(f"activity {self.name!r}: on_cancel", on_cancel, get_args(OnCancel))
        if runtime != "auto" and is_async != (runtime not in _PLAIN):
            raise DefinitionError(
                f"activity {self.name!r} ({self.where}): runtime={runtime!r} does not fit a "
                f"function that is {'' if is_async else 'not '}async"
            )
        if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
            raise DefinitionError(
                f"activity {self.name!r} ({self.where}) is a generator; return a list instead"
            )
        check_limit_in_seconds("timeout", timeout)
        check_limit_in_seconds("schedule_timeout", schedule_timeout)
        check_limit_in_seconds("heartbeat_timeout", heartbeat_timeout)
        check_priority(priority)
        _check_queue(queue)
        _check_retry(retry)
        self.queue = queue
        self.priority = priority
        self.retry = retry
        self.timeout = timeout
        self.schedule_timeout = schedule_timeout
        self.heartbeat_timeout = heartbeat_timeout
        self.runtime: Literal["async", "thread", "asyncio", "process"]
        self.runtime = ("async" if is_async else "thread") if runtime == "auto" else runtime
        self.on_cancel: OnCancel = on_cancel
        self.overrides: ActivityOptions | None = None

    @refuses_unknown("activity.options()")
    def options(
        self,
        *,
        queue: str | None = None,
        priority: int | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        schedule_timeout: float | None = None,
        heartbeat_timeout: float | None = None,
        on_cancel: OnCancel | None = None,
    ) -> Activity[P, R]:
        """Return a variant with other options and the same signature; what is not given stays.

        Raises:
            ArgumentError: The queue's name is empty, too long, or has characters that a store
                does not take.
            DefinitionError: There is no such option, or no such ``on_cancel``.
            TypeError: Seconds are not given as a number.
            ValueError: A number of seconds is not above 0, or the priority is out of range.
        """
        check_limit_in_seconds("timeout", timeout)
        check_limit_in_seconds("schedule_timeout", schedule_timeout)
        check_limit_in_seconds("heartbeat_timeout", heartbeat_timeout)
        if on_cancel is not None:
            check_choice("on_cancel", on_cancel, get_args(OnCancel))
        check_priority(priority)
        _check_queue(queue)
        _check_retry(retry)
        before = self.overrides or ActivityOptions()
        overrides = ActivityOptions(
            retry=before.retry if retry is None else retry,
            timeout=before.timeout if timeout is None else timeout,
            schedule_timeout=before.schedule_timeout
            if schedule_timeout is None
            else schedule_timeout,
            heartbeat_timeout=before.heartbeat_timeout
            if heartbeat_timeout is None
            else heartbeat_timeout,
            on_cancel=before.on_cancel if on_cancel is None else on_cancel,
        )
        return self._variant(
            queue=queue,
            priority=priority,
            retry=retry,
            timeout=timeout,
            schedule_timeout=schedule_timeout,
            heartbeat_timeout=heartbeat_timeout,
            on_cancel=on_cancel,
            overrides=None if overrides == ActivityOptions() else overrides,
        )

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Never, object, R]:
        """Return a coroutine that runs the activity; see the class."""
        invoker = current_invoker.get()
        if invoker is None:
            return self._run_here(args, kwargs)
        return invoker.call(self, args, kwargs)

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> BoundActivity[R]:
        """Return a call with these arguments that is held and not made."""
        return BoundActivity(self, args, kwargs)

    def call_plain(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call a function that is not async, as a worker thread does.

        Raises:
            DefinitionError: It gave a coroutine all the same.
        """
        result: object = self.fn(*args, **kwargs)
        if inspect.iscoroutine(result):
            result.close()  # no warning about it in addition to the error
            raise DefinitionError(
                f"activity {self.name!r} ({self.where}) gave a coroutine, which nobody awaits in "
                f"a {self.runtime}; make it 'async def' and await the coroutine in it"
            )
        return result

    async def _run_here(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        caller = current_activity.get()
        if caller is not None and not caller.activity:  # a test's context, for this call
            token = current_activity.set(msgspec.structs.replace(caller, activity=self.name))
            try:
                return await self._call_function(args, kwargs)
            finally:
                current_activity.reset(token)
        if caller is not None and (caller.activity, self.name) not in _called_inline:
            _called_inline.add((caller.activity, self.name))
            logger.warning(
                "activity %r calls activity %r: that runs as a part of it, without a timeout, a "
                "retry or a record of its own. Call it in the workflow, or make what they share a "
                "plain function",
                caller.activity,
                self.name,
            )
        return await self._call_function(args, kwargs)

    async def _call_function(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        if self.runtime in _PLAIN:
            return self.call_plain(args, kwargs)  # type: ignore[no-any-return]  # what fn gives
        result: Any = await self.fn(*args, **kwargs)
        return result  # type: ignore[no-any-return]  # what fn gives

    def __set_name__(self, owner: type, name: str) -> None:
        """Note that the function is a method, which can only be called on an object."""
        method = getattr(self.fn, "__qualname__", "") == f"{owner.__qualname__}.{name}"
        if method and not isinstance(self.fn, staticmethod):
            self.signature = UnboundSignature.of(self.fn)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Activity[P, R]: ...

    @overload
    def __get__(
        self: Activity[Concatenate[Any, Q], R], instance: object, owner: type | None = None
    ) -> Activity[Q, R]: ...

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind an activity that is defined as a method, as functions do."""
        if instance is None:
            return self
        bound = self.fn.__get__(instance, owner)
        return self._variant(fn=bound, signature=CallSignature.of(bound))


class Workflow(_Definition, Generic[P, R]):
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
        _check_queue(queue)
        _check_retry(retry)
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
        _check_queue(queue)
        _check_retry(retry)
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
