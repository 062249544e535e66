"""Activities as they are decorated."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Concatenate, Generic, Literal, Never, ParamSpec, TypeVar, get_args, overload

import msgspec

from trioflow._codec.signatures.signatures import CallSignature
from trioflow._codec.signatures.special import UnboundSignature
from trioflow._model.bound import BoundActivity
from trioflow._model.commands import ActivityOptions
from trioflow._model.definitions import (
    Definition,
    OnCancel,
    check_queue,
    check_retry,
    inner_function,
)
from trioflow._model.info import current_activity
from trioflow._model.invoker import current_invoker
from trioflow._model.options import (
    check_choice,
    check_flag,
    check_limit_in_seconds,
    check_priority,
    refuses_unknown,
)
from trioflow._model.retry import RetryPolicy
from trioflow.errors import DefinitionError

__all__ = [
    "Activity",
    "Runtime",
]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")

logger = logging.getLogger("trioflow.model")

Runtime = Literal["auto", "async", "thread", "asyncio", "process"]

_PLAIN = ("thread", "process")  # the runtimes of functions that are not async

_called_inline: set[tuple[str, str]] = set()  # the pairs that a warning was logged for


def _is_async(fn: Any) -> bool:
    """Return whether calling it gives a coroutine, also for an object with ``__call__``."""
    fn = inner_function(fn)
    cls: Any = fn.__class__
    return any(
        inspect.iscoroutinefunction(each)
        for each in (fn, inspect.unwrap(fn), getattr(cls, "__call__", None))  # noqa: B004 - not whether it can be called
    )


class Activity(Definition, Generic[P, R]):
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
        transactional: Whether a plain function writes in a transaction of the store, on
            `trioflow.activity_connection`, which also stores its result: exactly once.
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
        transactional: bool = False,
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
        check_flag("transactional", transactional)
        if transactional and (is_async or runtime == "process"):
            raise DefinitionError(
                f"activity {self.name!r} ({self.where}): transactional=True is for a plain "
                "function in a thread, since the drivers' connections block; make it 'def', "
                "without runtime="
            )
        check_limit_in_seconds("timeout", timeout)
        check_limit_in_seconds("schedule_timeout", schedule_timeout)
        check_limit_in_seconds("heartbeat_timeout", heartbeat_timeout)
        check_priority(priority)
        check_queue(queue)
        check_retry(retry)
        self.queue = queue
        self.priority = priority
        self.retry = retry
        self.timeout = timeout
        self.schedule_timeout = schedule_timeout
        self.heartbeat_timeout = heartbeat_timeout
        self.runtime: Literal["async", "thread", "asyncio", "process"]
        self.runtime = ("async" if is_async else "thread") if runtime == "auto" else runtime
        self.on_cancel: OnCancel = on_cancel
        self.transactional = transactional
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
        check_queue(queue)
        check_retry(retry)
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
