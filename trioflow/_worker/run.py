"""`open_worker` and `run_worker`: a worker for as long as a block lasts, or until SIGTERM."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import anyio.abc

from trioflow._client.fences import only_fenced
from trioflow._client.native_cancel import raise_native_cancel
from trioflow._codec.failures.groups import is_own, joined
from trioflow._codec.values import Codec, JsonCodec
from trioflow._model.interceptors import Interceptor
from trioflow._model.options import refuses_unknown
from trioflow._model.propagation import Propagator
from trioflow._observe import Observer
from trioflow._registry import Registry, default_registry
from trioflow._worker.code_check import Check
from trioflow._worker.host import Host
from trioflow._worker.options import WorkerOptions
from trioflow._worker.real_host import running_host
from trioflow._worker.worker import Worker
from trioflow.backends.abc import Backend
from trioflow.backends.urls import open_backend

__all__ = ["open_worker", "run_worker", "worker_on"]

_CLOSING = 1.0  # seconds after which connections that do not close are left to a thread


@refuses_unknown("open_worker()")
def open_worker(
    backend: str | Backend = "sqlite:///trioflow.db",
    *,
    registry: Registry | None = None,
    queues: Sequence[str] = ("default",),
    activity_queues: Sequence[str] | None = None,
    workflows: bool = True,
    activities: bool = True,
    max_activities: int = 1000,
    max_threads: int = 40,
    max_processes: int | None = None,
    max_instances: int = 5000,
    cache_size: int = 1000,
    lease: float = 15.0,
    drain: float = 10.0,
    sticky: float = 1.0,
    stuck_after: float = 2.0,
    max_steps: int = 1_000_000,
    codec: Codec | None = None,
    name: str | None = None,
    check: Check = "off",
    propagators: Sequence[Propagator] = (),
    interceptors: Sequence[Interceptor] = (),
    keep_finished: float | None = None,
    keep_executions: float | None = None,
    observers: Sequence[Observer] = (),
) -> AbstractAsyncContextManager[Worker]:
    """Run a worker for as long as the block lasts; for embedding in a service.

    Works on trio and, through anyio, on asyncio. Leaving the block, also by an error or a
    cancellation, drains the worker, and no cancel scope shortens that: turns under way are stored,
    activities get ``drain`` seconds and are then cancelled and given back. What has not stopped
    half a second later is abandoned. A store that hangs prolongs it by at most eight seconds: what
    could not be stored is said in the log, and is done again by others when the lease has run out.
    A second Ctrl-C ends it at once. So does ``Task.cancel()`` of asyncio during the drain, since a
    loop that ends cancels its tasks in this way.

    Args:
        backend: A URL (``memory://``, ``sqlite:///relative.db``, ``sqlite:////absolute.db``) or a
            backend. A backend is opened if it is not open, and left open, since others may use it:
            close it yourself (``async with contextlib.aclosing(backend)``).
        registry: The definitions; by default all that were decorated in this process.
        queues: The queues whose instances it runs.
        activity_queues: The queues whose activities it runs; by default ``queues``.
        workflows: False for a worker that runs activities only.
        activities: False for a worker that runs workflows only.
        max_activities: How many activities may run at once. More may be leased ahead.
        max_threads: How many of them may be plain functions, each in a thread.
        max_processes: How many of them may run in processes of their own, with
            ``runtime="process"``; by default as many as there are processors.
        max_instances: How many instances may be leased at once.
        cache_size: How many executions are kept in memory besides those leased, so that they need
            no replay: the size of the instance cache.
        lease: Seconds without a heartbeat after which a worker expires, and others take its work.
        drain: Seconds that running activities are given at the end.
        sticky: Seconds for which an instance is left to the worker that has it in its cache.
        stuck_after: Seconds after which a workflow's step that does not return is logged, or an
            activity that blocks the event loop, with its line.
        max_steps: How many task steps a workflow may make before all of its tasks wait; beyond it
            the instance is suspended.
        codec: How values are stored; by default `JsonCodec`.
        name: What operators see; by default ``host:pid``.
        propagators: What takes metadata over where a workflow or an activity begins, and adds to
            that of the calls that are made.
        interceptors: What is around its workflows, its activities, and the calls of its client.
        keep_finished: Seconds after which finished instances are removed from the store, whichever
            queue they are of; ``None`` keeps them.
        keep_executions: Seconds after which executions are removed that another one of the same
            instance or id has followed, with their turns; ``None`` keeps them.
        observers: Who is told of what happens; one that is a propagator, too, is used as both.
        check: What is done about running instances of ``queues`` whose history the code does not
            fit. Unless it is ``"off"``, all of them are replayed before any work is taken.
            ``"warn"`` logs which do not fit, and where; such an instance is suspended when it is
            next stepped, as with ``"off"``. ``"leave"`` leaves them to workers with other code,
            also those that turn out later not to fit. With ``"refuse"`` the worker does not start.

    Returns:
        A context manager that gives the worker; ``worker.client`` is a client on the same backend.

    Raises:
        BackendUnavailable: The store cannot be reached or written.
        StoreFenced: The store is closed, or was while the worker ran: what it holds is moved.
        SchemaError: The store's schema is newer than this code.
        DefinitionError: A definition's annotations cannot be resolved, or name a type that cannot
            be stored; or there is no such option, or no such ``check``.
        IncompatibleCode: Running instances do not fit the code, with ``check="refuse"``.
        ValueError: A number is out of its range.
        TypeError: Queues were given as one string, a number as something else, or an observer or
            interceptor is none.
    """
    options = WorkerOptions(
        registry=registry or default_registry,
        queues=queues,
        activity_queues=activity_queues,
        workflows=workflows,
        activities=activities,
        max_activities=max_activities,
        max_threads=max_threads,
        max_processes=max_processes,
        max_instances=max_instances,
        cache_size=cache_size,
        lease=lease,
        drain=drain,
        sticky=sticky,
        stuck_after=stuck_after,
        max_steps=max_steps,
        codec=codec or JsonCodec(),
        name=name,
        check=check,
        propagators=propagators,
        interceptors=interceptors,
        keep_finished=keep_finished,
        keep_executions=keep_executions,
        observers=observers,
    )
    return worker_on(backend, options)


@refuses_unknown("run_worker()")
async def run_worker(
    backend: str | Backend = "sqlite:///trioflow.db",
    *,
    registry: Registry | None = None,
    queues: Sequence[str] = ("default",),
    activity_queues: Sequence[str] | None = None,
    workflows: bool = True,
    activities: bool = True,
    max_activities: int = 1000,
    max_threads: int = 40,
    max_processes: int | None = None,
    max_instances: int = 5000,
    cache_size: int = 1000,
    lease: float = 15.0,
    drain: float = 10.0,
    sticky: float = 1.0,
    stuck_after: float = 2.0,
    max_steps: int = 1_000_000,
    codec: Codec | None = None,
    name: str | None = None,
    check: Check = "off",
    propagators: Sequence[Propagator] = (),
    interceptors: Sequence[Interceptor] = (),
    keep_finished: float | None = None,
    keep_executions: float | None = None,
    observers: Sequence[Observer] = (),
    task_status: anyio.abc.TaskStatus[Worker] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Run a worker until it is cancelled, or the process gets SIGTERM.

    On SIGTERM the worker drains and the call returns; a second SIGTERM ends the process at once.
    The signal is left alone where a handler of the program's own is installed, and outside the main
    thread. A service that does more than run a worker uses `open_worker`, which leaves it alone.
    ``await nursery.start(run_worker, url)`` returns the `Worker` when it is ready. The arguments
    are those of `open_worker`.
    """
    options = WorkerOptions(
        registry=registry or default_registry,
        queues=queues,
        activity_queues=activity_queues,
        workflows=workflows,
        activities=activities,
        max_activities=max_activities,
        max_threads=max_threads,
        max_processes=max_processes,
        max_instances=max_instances,
        cache_size=cache_size,
        lease=lease,
        drain=drain,
        sticky=sticky,
        stuck_after=stuck_after,
        max_steps=max_steps,
        codec=codec or JsonCodec(),
        name=name,
        check=check,
        propagators=propagators,
        interceptors=interceptors,
        keep_finished=keep_finished,
        keep_executions=keep_executions,
        observers=observers,
    )
    host = running_host()
    with host.sigterm() as asked_to_end:
        async with worker_on(backend, options, host) as worker:
            task_status.started(worker)
            await asked_to_end.wait()


@asynccontextmanager
async def worker_on(
    backend: str | Backend, options: WorkerOptions, host: Host | None = None
) -> AsyncGenerator[Worker, None]:
    """Do what `open_worker` does, with its options in one object.

    Args:
        backend: As there.
        options: Its keywords.
        host: What the worker takes from its process; by default that of the running loop.
    """
    if host is None:
        host = running_host()
    store = open_backend(backend)
    await store.open()
    worker: Worker | None = None
    task = anyio.get_current_task()
    error: BaseException | None = None
    left: BaseException | None = None  # what has left the group
    try:
        await raise_native_cancel()
        worker = Worker(store, options, host)
        await worker.register()  # out here, so that its errors are not in a group
        try:
            async with host.task_group() as group:
                worker.start(group)
                try:
                    yield worker
                except BaseException as exc:
                    if not is_own(exc, task):
                        raise
                    error = exc  # raised below, as it is and not in a group
                finally:
                    try:
                        await worker.drain()
                    except KeyboardInterrupt as exc:
                        error = exc
                    finally:  # also if a cancel of asyncio's own ends the drain
                        worker.client.close()
        except BaseException as exc:  # noqa: BLE001  # a mere cancel must not hide the error
            left = exc
        error = joined(worker.interrupt or error, left)
        error = only_fenced(error) or error
        if error is not None:
            raise error
    finally:
        del error, left
        if store is not backend:
            await _close(store, worker)
    await raise_native_cancel()


async def _close(store: Backend, worker: Worker | None) -> None:
    """Close a worker's own backend, without waiting long for a server that hangs."""
    with anyio.CancelScope(shield=True):
        if worker is None or not worker.calls.leaving:
            await store.aclose()
            return
        with worker.calls.entered(), anyio.move_on_after(_CLOSING):
            await store.aclose()
