"""A worker, a client and a store in memory on a virtual clock, for tests of workflows."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ParamSpec, TypeVar, overload

import anyio
import anyio.abc
import anyio.to_thread

from trioflow._client.client import Client
from trioflow._client.handle import Handle
from trioflow._codec.failures.groups import is_cancel, is_own, joined
from trioflow._codec.values import Codec
from trioflow._model.activities import Activity
from trioflow._model.options import names_of_options, refuse_unknown
from trioflow._model.workflows import Workflow
from trioflow._registry import Registry, default_registry
from trioflow._worker.run import open_worker
from trioflow._worker.worker import Worker
from trioflow.backends.commits import NewInstance
from trioflow.backends.memory import MemoryBackend
from trioflow.errors import TrioflowError
from trioflow.testing.clock import virtual_time
from trioflow.testing.fakes import (
    Fake,
    FakingRegistry,
    check_fake,
    check_function,
    definition_of,
    refuse_name,
)
from trioflow.testing.listening import ListeningStore
from trioflow.testing.stuck import Stuck, report_of

__all__ = ["DEFAULT_START", "Tester", "UnmetExpectations", "open_tester"]

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_START = 1_767_225_600.0
"""When a test begins if nothing is said: 2026-01-01, midnight UTC, in epoch seconds."""


class UnmetExpectations(TrioflowError, AssertionError):
    """Raised at the end of `open_tester`'s block: fakes were not called as often as expected."""


class Tester:
    """What `open_tester` gives.

    Attributes:
        client: A client of the store; all its methods work.
        worker: The worker that runs the workflows.
        backend: The store.
    """

    __test__ = False  # pytest would take it for a class of tests where it is imported

    def __init__(
        self,
        worker: Worker,
        backend: ListeningStore,
        registry: FakingRegistry,
        start: float,
        group: anyio.abc.TaskGroup,
    ) -> None:
        self.worker = worker
        self.client: Client = worker.client
        self.backend: MemoryBackend = backend
        self._registry = registry
        self._start = start
        self._group = group
        self._fakes: list[Fake[..., Any]] = []
        self._listeners: list[tuple[Workflow[..., Any] | str, Callable[..., Any]]] = []
        backend.listeners.append(self._began)

    @property
    def now(self) -> float:
        """The virtual time, epoch seconds: what ``now()`` says in a workflow."""
        return self.backend.now()

    @property
    def elapsed(self) -> float:
        """The virtual seconds since the test began."""
        return self.now - self._start

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass; what falls due meanwhile happens in its order."""
        await anyio.sleep(seconds)

    def at(
        self,
        when: float | timedelta | datetime,
        fn: Callable[[], object] | Callable[[], Awaitable[object]],
    ) -> None:
        """Call a function at a virtual time. What it raises fails the test.

        Args:
            when: Seconds since the test began, or a time (with a time zone).
            fn: Takes nothing; async or not. ``functools.partial(handle.signal, approved, True)``
                is one.

        Raises:
            TypeError: ``fn`` is no function.
            ValueError: That time is past, or has no time zone.
        """
        check_function(fn, "at()")
        seconds = self._seconds(when)
        if seconds < self.elapsed:
            raise ValueError(f"{when!r} is past: {self.elapsed:g} s have gone by")
        self._group.start_soon(self._call_at, seconds, fn, name=f"at {seconds:g} s")

    def _seconds(self, when: float | timedelta | datetime) -> float:
        if isinstance(when, timedelta):
            return when.total_seconds()
        if isinstance(when, datetime):
            if when.tzinfo is None:
                raise ValueError(f"{when!r} has no time zone; give it one: tzinfo=UTC")
            return when.timestamp() - self._start
        return when

    async def _call_at(self, seconds: float, fn: Callable[[], Any]) -> None:
        await anyio.sleep(seconds - self.elapsed)
        await _called(fn)

    def on_start(
        self,
        workflow: Workflow[P, R] | str,
        fn: Callable[[Handle[R]], object] | Callable[[Handle[R]], Awaitable[object]],
    ) -> None:
        """Call a function with the handle of each instance of a workflow that begins from now on.

        Of a sub-workflow too, which can so be watched, signalled or cancelled though the test has
        not started it. What the function raises fails the test.

        Args:
            workflow: The workflow, or the name under which it is registered.
            fn: Takes the handle; async or not.

        Raises:
            DefinitionError: There is no workflow of that name.
        """
        if isinstance(workflow, str) and workflow not in self._registry.workflows:
            refuse_name(workflow, [*self._registry.workflows], "on_start()")
        self._listeners.append((workflow, fn))

    def _began(self, new: NewInstance) -> None:
        for workflow, fn in self._listeners:
            if new.workflow == (workflow if isinstance(workflow, str) else workflow.name):
                typed = None if isinstance(workflow, str) else workflow
                handle = Handle(self.client, new.id, typed, life=new.life)
                self._group.start_soon(_called, partial(fn, handle), name=f"start of {new.id}")

    async def start(
        self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Handle[R]:
        """Start an instance; the same as ``client.start``."""
        return await self.client.start(workflow, *args, **kwargs)

    async def run(self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an instance to its end and return its result; the same as ``client.run``."""
        return await self.client.run(workflow, *args, **kwargs)

    @overload
    def fake(
        self,
        definition: Activity[P, R] | Workflow[P, R],
        fn: Callable[P, Awaitable[R]],
        *,
        times: int | None = None,
    ) -> Fake[P, R]: ...

    @overload
    def fake(
        self,
        definition: Activity[P, R] | Workflow[P, R],
        fn: Callable[P, R],
        *,
        times: int | None = None,
    ) -> Fake[P, R]: ...

    @overload
    def fake(
        self, definition: str, fn: Callable[..., Any], *, times: int | None = None
    ) -> Fake[..., Any]: ...

    def fake(
        self, definition: Any, fn: Callable[..., Any], *, times: int | None = None
    ) -> Fake[..., Any]:
        """Have a function stand in for an activity or a sub-workflow from now on.

        Retries, timeouts, cancels and the types of arguments and results stay those of what it
        stands in for. The function runs in the test's loop, also if the activity has a thread.

        Args:
            definition: The activity or the workflow, or the name under which it is registered.
                What is only known by its name is given as `activity_by_name` or `workflow_by_name`
                return it.
            fn: What to call instead, async or not, with the same arguments. The fake of a workflow
                runs as a workflow: what it awaits is durable.
            times: How many calls are expected by the end of the test; ``None`` for any number.

        Returns:
            The fake, whose ``calls`` are recorded.

        Raises:
            DefinitionError: There is no activity or workflow of that name, or the function cannot
                take the arguments of the original.
            UnmetExpectations: At the end of the block, if ``times`` does not hold.
        """
        faked = definition_of(definition, self._registry, "fake()")
        check_fake(faked, fn)
        fake: Fake[..., Any] = Fake(faked.name, fn, times, lambda: self.elapsed)
        self._fakes.append(fake)
        stand_in: Any = copy.copy(faked)
        if isinstance(faked, Workflow):
            stand_in.fn = fake.call_workflow
            self._registry.replace_workflow(stand_in)
            return fake
        stand_in.fn, stand_in.runtime = fake.call_activity, "async"
        stand_in.transactional = False
        self._registry.replace_activity(stand_in)
        return fake

    def check(self) -> None:
        """Check that all fakes were called as often as expected; the end of the block does it too.

        Raises:
            UnmetExpectations: One was not.
        """
        wrong = [text for fake in self._fakes if (text := fake.check())]
        if wrong:
            raise UnmetExpectations("; ".join(wrong))


async def _called(fn: Callable[[], Any]) -> None:
    result = fn()
    if inspect.isawaitable(result):
        await result


class _Watch:
    """Tells those who wait for results and answers that nothing will ever come.

    Attributes:
        stuck: What it has found, if nobody waited for one.
    """

    def __init__(self, client: Client, registry: Registry, everything: anyio.CancelScope) -> None:
        self.stuck: Stuck | None = None
        self._client = client
        self._registry = registry
        self._everything = everything
        self._scopes: set[anyio.CancelScope] = set()
        self._found: Stuck | None = None
        # To fail them.
        client.waiter.wait = self._failing(client.waiter.wait)  # type: ignore[method-assign]
        client.answers.wait = self._failing(client.answers.wait)  # type: ignore[method-assign]

    async def run(self, silence: anyio.Event, limit: float | None) -> None:
        """Wait until nothing can happen any more, or the time is over."""
        why = "the test waits, and nothing will ever happen any more."
        with anyio.move_on_after(limit) as in_time:
            await silence.wait()
        if in_time.cancelled_caught:
            why = f"the test has not ended after {limit:g} s of virtual time."
        self._found = Stuck(await report_of(self._client, self._registry, why))
        for scope in self._scopes:
            scope.cancel()
        if not self._scopes:
            self.stuck = self._found
            self._everything.cancel()

    def _failing(
        self, wait: Callable[P, Coroutine[Any, Any, R]]
    ) -> Callable[P, Coroutine[Any, Any, R]]:
        """Return a function that waits likewise, and fails when nothing will come."""

        async def waits(*args: P.args, **kwargs: P.kwargs) -> R:
            with anyio.CancelScope() as scope:
                self._scopes.add(scope)
                try:
                    return await wait(*args, **kwargs)
                finally:
                    self._scopes.discard(scope)
            assert self._found is not None
            raise self._found

        return waits


class _Threads:
    """Runs plain-function activities, and knows whether any thread has work of this loop."""

    def __init__(self) -> None:
        self.running = 0
        self._limiter = anyio.CapacityLimiter(math.inf)
        # Of what async activities do in threads, reading a file for example.
        self._of_loop = anyio.to_thread.current_default_thread_limiter()
        self._before = self._of_loop.borrowed_tokens

    def busy(self) -> bool:
        return self.running > 0 or self._of_loop.borrowed_tokens > self._before

    def wrap(self, activity: Activity[..., Any]) -> Activity[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.running += 1
            try:
                return await anyio.to_thread.run_sync(
                    partial(activity.call_plain, args, kwargs), limiter=self._limiter
                )
            finally:
                self.running -= 1

        wrapped: Any = copy.copy(activity)
        wrapped.fn, wrapped.runtime, wrapped.transactional = call, "async", False
        return wrapped  # type: ignore[no-any-return]  # a copy of an activity


@asynccontextmanager
async def open_tester(
    *,
    registry: Registry | None = None,
    start_time: float | datetime = DEFAULT_START,
    timeout: float | timedelta | None = None,
    queues: Sequence[str] = (),
    codec: Codec | None = None,
    cache_size: int = 1000,
    **options: Any,
) -> AsyncGenerator[Tester]:
    """Run a worker on virtual time, with a store in memory, for the length of a block.

    The clock of the event loop that the test runs in is replaced: whenever nothing is ready it
    jumps to the next deadline, so a month passes in milliseconds. Plain-function activities run in
    threads, and the clock waits for them, as for all that goes through the default limiter of
    ``to_thread.run_sync``. It does not wait for the network: have fakes for that. Works on trio and
    on asyncio.

    Args:
        registry: The definitions; by default all that were decorated in this process.
        start_time: When the test begins: epoch seconds, or a datetime with a time zone.
        timeout: How much virtual time the test may take; ``None`` for any.
        queues: The queues that are served besides ``"default"`` and those that definitions name.
        codec: How values are stored; by default `JsonCodec`.
        cache_size: How many executions are kept in memory while they wait. With 0 each one is
            replayed from its history before every turn.
        **options: Further options of `open_worker`.

    Yields:
        The tester.

    Raises:
        DefinitionError: There is no such option.
        Stuck: Nothing will ever happen any more, though the block has not ended, or ``timeout``
            is over. It says which task of which instance waits for what.
        UnmetExpectations: A fake was not called as often as expected.
    """
    known = [*names_of_options(open_tester), *names_of_options(open_worker)]
    if not options.keys() <= {*known}:
        refuse_unknown("open_tester()", options, known)
    start = start_time.timestamp() if isinstance(start_time, datetime) else float(start_time)
    limit = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    threads, silence = _Threads(), anyio.Event()
    faking = FakingRegistry(default_registry if registry is None else registry)
    for activity in list(faking.activities.values()):
        if activity.runtime in {"thread", "process"}:
            faking.replace_activity(threads.wrap(activity))
    worker_options: dict[str, Any] = {
        "registry": faking,
        "queues": _queues(faking, queues),
        "codec": codec,
        "cache_size": cache_size,
        "drain": 0.0,
        "name": "tester",
        **options,
    }
    with virtual_time(threads.busy, silence.set) as clock:
        began = clock.now
        backend = ListeningStore(clock=lambda: start + (clock.now - began))
        await backend.open()
        task = anyio.get_current_task()
        error: BaseException | None = None
        left: BaseException | None = None
        watch: _Watch | None = None
        try:
            async with (
                open_worker(backend, **worker_options) as worker,
                anyio.create_task_group() as group,
            ):
                tester = Tester(worker, backend, faking, start, group)
                watch = _Watch(worker.client, faking, group.cancel_scope)
                group.start_soon(watch.run, silence, limit, name="trioflow stuck watch")
                try:
                    yield tester
                    tester.check()
                except BaseException as exc:
                    if not is_own(exc, task):
                        raise
                    error = exc  # raised below, as it is and not in a group
                group.cancel_scope.cancel()
        except BaseException as exc:  # noqa: BLE001  # as above
            left = exc
        finally:
            with anyio.CancelScope(shield=True):
                await backend.aclose()
        if watch is not None and watch.stuck is not None and (error is None or is_cancel(error)):
            error = watch.stuck
        error = joined(error, left)
        try:
            if error is not None:
                raise error
        finally:
            del error, left, watch


def _queues(registry: Registry, more: Sequence[str]) -> list[str]:
    """Return each queue that work may come from, once."""
    named = [each.queue for each in registry.workflows.values()]
    named += [each.queue for each in registry.activities.values()]
    return list(dict.fromkeys(["default", *filter(None, named), *more]))
