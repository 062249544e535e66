"""The client: starts instances and speaks with them, from anywhere that reaches the store."""

# pyright: reportPrivateUsage=false
# Handle and Client are one thing in two classes.

from __future__ import annotations

import builtins
import math
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

import anyio
import msgspec

from trioflow.authoring import Signal
from trioflow.backends.base import Backend
from trioflow.backends.urls import open_backend
from trioflow.errors import (
    ArgumentError,
    BackendUnavailable,
    InstanceAlreadyExists,
    InstanceCancelled,
    InstanceFinished,
    InstanceNotFinished,
    InstanceNotFound,
    InstanceSuspended,
    InstanceTerminated,
)
from trioflow.model.definitions import Workflow
from trioflow.model.events import CancelRequested, Event, ParentRef, SignalReceived, encode_event
from trioflow.model.failures import Failure
from trioflow.model.info import SuspendReport
from trioflow.model.records import (
    ActivityTask,
    InstanceFilter,
    InstanceRecord,
    NewInstance,
    QueueStats,
    Status,
    Update,
)
from trioflow.model.turns import Cancelled, Completed, Failed, Outcome, Turn, decode_turn
from trioflow.model.values import Codec, JsonCodec, decode_as, encode_checked
from trioflow.registry import Registry, default_registry

__all__ = ["Client", "Description", "ExecutionHistory", "Handle", "open_client"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_decode_outcome = msgspec.json.Decoder(Outcome).decode
_decode_report = msgspec.json.Decoder(SuspendReport).decode
_encode = msgspec.json.Encoder().encode

_ENDED = ("completed", "failed", "cancelled", "terminated")


class _Start(Protocol):
    async def wait(self) -> bool: ...


class _LocalWorker(Protocol):
    """What a client asks of a worker in the same process."""

    def accepts(self, workflow: str, queue: str) -> bool: ...

    def holds(self, instance: str) -> bool: ...

    def start(self, new: NewInstance) -> _Start: ...


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an instance. Payloads are plain JSON data.

    Attributes:
        id: The instance's id.
        execution: The number of its current execution, from 1.
        workflow: The workflow's name.
        queue: Where it runs.
        status: ``"running"``, ``"completed"``, ``"failed"``, ``"cancelled"``, ``"terminated"`` or
            ``"suspended"``.
        parent: Who started it, or ``None``.
        input: Its arguments by name.
        result: What it returned, if it completed.
        failure: Why it failed, or was terminated, or ``None``.
        reason: Why it was cancelled, if somebody said.
        suspension: Why it is suspended, or ``None``.
        custom_status: The last value of ``set_status()``, or ``None``.
        metadata: What propagators put there.
        turns: How many turns its execution has.
        events: Size of the execution's history: events and commands.
        unread: How many messages wait for it.
        worker: The id of the worker that holds it, or ``None``.
        wakes_at: The earliest moment at which it has something to do, epoch seconds, or ``None``.
        created_at: Epoch seconds.
        finished_at: Epoch seconds, or ``None``.
        activities: Its unfinished activities; only from ``handle.describe()``.
    """

    id: str
    execution: int
    workflow: str
    queue: str
    status: Status
    parent: ParentRef | None
    input: Any
    result: Any
    failure: Failure | None
    reason: str | None
    suspension: SuspendReport | None
    custom_status: Any
    metadata: dict[str, str]
    turns: int
    events: int
    unread: int
    worker: str | None
    wakes_at: float | None
    created_at: float
    finished_at: float | None
    activities: list[ActivityTask] = []


class ExecutionHistory(msgspec.Struct, frozen=True):
    """One execution's history: its number and its turns."""

    number: int
    turns: list[Turn]


class Handle(Generic[R]):
    """An instance, by its id.

    Attributes:
        id: The id.
    """

    def __init__(self, client: Client, id: str, workflow: Workflow[..., R] | None) -> None:
        self.id = id
        self._client = client
        self._workflow = workflow

    def __repr__(self) -> str:
        return f"<Handle of instance {self.id!r}>"

    async def result(self, *, wait_suspended: bool = True) -> R:
        """Wait until the instance has ended, through all its executions, and return its result.

        Args:
            wait_suspended: False raises as soon as the instance is suspended, instead of waiting
                until it is resumed.

        Raises:
            InstanceNotFound: There is no such instance.
            InstanceCancelled: It was cancelled.
            InstanceTerminated: It was terminated.
            InstanceSuspended: It is suspended, and ``wait_suspended`` is false.
            ValueMismatch: The result does not have the declared type.
            Exception: What the workflow raised: its own class where that is imported here,
                otherwise `RemoteError`; the remote traceback is the cause.
        """
        status, outcome = await self._client._wait_end(self.id, wait_suspended=wait_suspended)
        if status == "suspended":
            raise InstanceSuspended(self.id, _decode_report(outcome).message)
        match _decode_outcome(outcome):
            case Completed() as completed:
                result_type = (
                    Any if self._workflow is None else self._workflow.signature.result_type
                )
                what = f"result of instance {self.id!r}"
                return cast(
                    "R", decode_as(self._client.codec, bytes(completed.result), result_type, what)
                )
            case Cancelled() as cancelled:
                raise InstanceCancelled(self.id, cancelled.reason)
            case Failed() as failed:
                error = failed.failure.rebuild()
                if status != "terminated":
                    error.add_note(f"raised in instance {self.id!r}")
                raise error
            case other:
                raise AssertionError(f"instance {self.id!r} ended with {other!r}")

    async def describe(self) -> Description:
        """Return what is known of the instance now.

        Raises:
            InstanceNotFound: There is no such instance.
        """
        backend = self._client.backend
        record = await backend.get(self.id)
        if record is None:
            raise InstanceNotFound(self.id)
        activities = [] if record.status in _ENDED else await backend.activities(self.id)
        return self._client._describe(record, activities)

    async def history(self) -> list[ExecutionHistory]:
        """Return the turns of all executions that are stored, in order.

        Raises:
            InstanceNotFound: There is no such instance.
        """
        stored = await self._client.backend.history(self.id)
        if not stored and await self._client.backend.get(self.id) is None:
            raise InstanceNotFound(self.id)
        return [ExecutionHistory(e.number, [decode_turn(turn) for turn in e.turns]) for e in stored]

    @overload
    async def signal(self, signal: Signal[T], value: T) -> None: ...

    @overload
    async def signal(self, signal: str, value: object) -> None: ...

    async def signal(self, signal: Signal[Any] | str, value: object) -> None:
        """Put a signal into the instance's inbox. It is stored when this returns.

        Args:
            signal: Which one, or its name.
            value: A value of its type.

        Raises:
            InstanceNotFound: There is no such instance.
            InstanceFinished: It has ended.
            ValueMismatch: The value is not of the signal's type. Nothing was sent.
        """
        name, type_ = (signal, Any) if isinstance(signal, str) else (signal.name, signal.type)
        data = encode_checked(self._client.codec, value, type_, f"signal {name!r}")
        await self._send(SignalReceived(name, msgspec.Raw(data)))

    async def cancel(self, reason: str | None = None) -> None:
        """Ask the instance to end: its root scope is cancelled, and with it everything below.

        Returns when the request is stored; `result` waits for the end.

        Raises:
            InstanceNotFound: There is no such instance.
            InstanceFinished: It has ended.
        """
        await self._send(CancelRequested(reason))

    async def terminate(self, reason: str | None = None) -> None:
        """End the instance and its unfinished sub-workflows at once, without asking their code.

        Raises:
            InstanceNotFound: There is no such instance.
            InstanceFinished: It has ended.
        """
        outcome = _encode(Failed(Failure.of(InstanceTerminated(self.id, reason))))
        self._check(await self._client.backend.terminate(self.id, outcome))

    async def resume(self) -> None:
        """Let a suspended instance try again with the code as it is now; others are left alone.

        Raises:
            InstanceNotFound: There is no such instance.
            InstanceFinished: It has ended.
        """
        self._check(await self._client.backend.resume(self.id))

    async def remove(self) -> None:
        """Remove the instance and its history from the store.

        Raises:
            InstanceNotFound: There is no such instance.
            InstanceNotFinished: It has not ended.
        """
        if not await self._client.backend.remove(InstanceFilter(), ids=[self.id], limit=1):
            if await self._client.backend.get(self.id) is None:
                raise InstanceNotFound(self.id)
            raise InstanceNotFinished(self.id)

    async def _send(self, event: Event) -> None:
        self._check(await self._client.backend.send(self.id, encode_event(event)))

    def _check(self, update: Update) -> None:
        if update == "not found":
            raise InstanceNotFound(self.id)
        if update == "finished":
            raise InstanceFinished(self.id)


class _Waiter:
    """Somebody who waits for an instance's end."""

    __slots__ = ("ended", "outcome", "status")

    def __init__(self) -> None:
        self.ended = anyio.Event()
        self.status = ""
        self.outcome = b""


class Client:
    """Starts instances and finds them again. `open_client` makes one; a worker has one.

    Attributes:
        backend: The store.
        codec: How values are stored.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        codec: Codec,
        registry: Registry,
        local: _LocalWorker | None = None,
    ) -> None:
        self.backend = backend
        self.codec = codec
        self._registry = registry
        self._local = local
        self._waiters: dict[str, list[_Waiter]] = {}
        self._watching = anyio.CancelScope()
        self._wanted = anyio.Event()

    # --- starting -----------------------------------------------------------------------

    @overload
    async def start(
        self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Handle[R]: ...

    @overload
    async def start(self, workflow: str, /, *args: Any, **kwargs: Any) -> Handle[Any]: ...

    async def start(self, workflow: Any, /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Start an instance. It is stored when this returns.

        Args:
            workflow: The workflow, or a variant of it: ``checkout.options(id="order-7")``, or the
                name of a registered one.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            A handle of the new instance.

        Raises:
            ArgumentError: The arguments do not fit the signature, or cannot be stored.
            PayloadTooLarge: They are too large.
            InstanceAlreadyExists: An unfinished instance has the id. (A finished one's may be used
                again.)
            UnknownDefinition: No workflow of that name is registered here.
            BackendUnavailable: The store cannot be reached or written.
        """
        definition = self._definition(workflow)
        data = definition.signature.encode(self.codec, args, kwargs, definition.name)
        new = NewInstance(
            id=definition.id or _fresh_id(definition.name),
            workflow=definition.name,
            queue=definition.queue or "default",
            input=data,
        )
        if not await self._create(new):
            raise InstanceAlreadyExists(new.id)
        return Handle(self, new.id, definition)

    @overload
    async def run(self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    async def run(self, workflow: str, /, *args: Any, **kwargs: Any) -> Any: ...

    async def run(self, workflow: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Start an instance and wait for its result; errors as `start` and `Handle.result`."""
        handle = await self.start(workflow, *args, **kwargs)
        return await handle.result()

    # --- finding ------------------------------------------------------------------------

    @overload
    def handle(self, id: str) -> Handle[Any]: ...

    @overload
    def handle(self, id: str, workflow: Workflow[..., R]) -> Handle[R]: ...

    def handle(self, id: str, workflow: Workflow[..., Any] | None = None) -> Handle[Any]:
        """Return a handle of an instance by its id; whether it exists shows when it is used.

        Args:
            id: The instance's id.
            workflow: Its workflow, for the type of the result; without it the result is plain JSON
                data.
        """
        return Handle(self, id, workflow)

    async def list(
        self,
        *,
        status: Status | Sequence[Status] = (),
        workflow: Workflow[..., Any] | str | None = None,
        queue: str | None = None,
        parent: str | None = None,
        id_prefix: str | None = None,
        created_after: float | None = None,
        created_before: float | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> builtins.list[Description]:
        """Return instances, newest first.

        Args:
            status: Only those of this status, or of these.
            workflow: Only those of this workflow, or of this name.
            queue: Only those of this queue.
            parent: Only the sub-workflows of this instance; ``""`` for those that have no parent.
            id_prefix: Only those whose id begins so.
            created_after: Epoch seconds.
            created_before: Epoch seconds.
            limit: How many at most.
            after: The id of the last one of the page before.
        """
        where = _filter(status, workflow, queue, parent, id_prefix, created_after, created_before)
        return [
            self._describe(record, [])
            for record in await self.backend.list(where, limit=limit, after=after)
        ]

    async def count(
        self,
        *,
        status: Status | Sequence[Status] = (),
        workflow: Workflow[..., Any] | str | None = None,
        queue: str | None = None,
        parent: str | None = None,
        id_prefix: str | None = None,
        created_after: float | None = None,
        created_before: float | None = None,
    ) -> int:
        """Return how many instances there are; the arguments are those of `list`."""
        return await self.backend.count(
            _filter(status, workflow, queue, parent, id_prefix, created_after, created_before)
        )

    async def stats(self) -> builtins.list[QueueStats]:
        """Return the numbers of each queue that has unfinished instances or activities."""
        return await self.backend.stats()

    async def remove(
        self,
        *,
        finished_before: float,
        status: Status | Sequence[Status] = (),
        workflow: Workflow[..., Any] | str | None = None,
        queue: str | None = None,
        id_prefix: str | None = None,
        limit: int = 1000,
    ) -> int:
        """Remove finished instances with their histories.

        Args:
            finished_before: Only those that ended before this time, epoch seconds.
            status: Only those of this status, or of these.
            workflow: Only those of this workflow, or of this name.
            queue: Only those of this queue.
            id_prefix: Only those whose id begins so.
            limit: How many at most; call again while it returns as many.

        Returns:
            How many were removed.
        """
        where = _filter(status, workflow, queue, None, id_prefix, None, None)
        where = msgspec.structs.replace(where, finished_before=finished_before)
        return await self.backend.remove(where, limit=limit)

    # --- what belongs to it ---------------------------------------------------------------

    async def watch(self) -> None:
        """Tell those who wait for an instance when it has ended, until `close`."""
        with self._watching:
            while True:
                if not self._waiters:
                    self._wanted = anyio.Event()
                    await self._wanted.wait()
                seen = self.backend.changes()
                try:
                    await self._look_for_ends()
                except BackendUnavailable:
                    await anyio.sleep(0.5)
                    continue
                await self.backend.wait_change(seen, math.inf)

    async def _look_for_ends(self) -> None:
        # Of what this process holds, `instance_ended` tells.
        ids = [id for id in self._waiters if self._local is None or not self._local.holds(id)]
        for id in await self.backend.not_running(ids) if ids else ():
            await self._look(id)

    def close(self) -> None:
        """Stop `watch`."""
        self._watching.cancel()

    def instance_ended(self, id: str, status: str, outcome: bytes) -> None:
        """Accept word from the worker in this process that an instance has ended."""
        for waiter in self._waiters.pop(id, ()):
            waiter.status, waiter.outcome = status, outcome
            waiter.ended.set()

    async def _look(self, id: str) -> None:
        record = await self.backend.get(id)
        if record is not None and record.status != "running":
            self.instance_ended(id, record.status, record.outcome)

    async def _wait_end(self, id: str, *, wait_suspended: bool) -> tuple[str, bytes]:
        """Return the status and the stored outcome (the stored report if suspended)."""
        while True:
            waiter = _Waiter()
            self._waiters.setdefault(id, []).append(waiter)
            try:
                # Registered first, so that an end between the look and the wait is not missed.
                if self._local is None or not self._local.holds(id):
                    record = await self.backend.get(id)
                    if record is None:
                        raise InstanceNotFound(id)
                    if record.status != "running" and (
                        record.status != "suspended" or not wait_suspended
                    ):
                        return record.status, record.outcome
                self._wanted.set()
                await waiter.ended.wait()
            finally:
                waiters = self._waiters.get(id, [])
                if waiter in waiters:
                    waiters.remove(waiter)
                    if not waiters:
                        del self._waiters[id]
            if waiter.status != "suspended" or not wait_suspended:
                return waiter.status, waiter.outcome
            await anyio.sleep(0.5)  # it waits for a person: nothing is lost by looking now and then

    async def _create(self, new: NewInstance) -> bool:
        local = self._local
        if (
            local is not None
            and local.accepts(new.workflow, new.queue)
            and await local.start(new).wait()
        ):
            return True
        return (await self.backend.create([new]))[0]

    def _definition(self, workflow: object) -> Workflow[..., Any]:
        if isinstance(workflow, Workflow):
            return cast("Workflow[..., Any]", workflow)
        if isinstance(workflow, str):
            return self._registry.find_workflow(workflow)
        raise ArgumentError(f"{workflow!r} is not a workflow; decorate the function with @workflow")

    def _describe(
        self, record: InstanceRecord, activities: builtins.list[ActivityTask]
    ) -> Description:
        outcome = (
            _decode_outcome(record.outcome) if record.outcome and record.status in _ENDED else None
        )
        return Description(
            id=record.id,
            execution=record.execution,
            workflow=record.workflow,
            queue=record.queue,
            status=record.status,
            parent=record.parent,
            input=self._plain(record.input),
            result=self._plain(bytes(outcome.result)) if isinstance(outcome, Completed) else None,
            failure=outcome.failure if isinstance(outcome, Failed) else None,
            reason=outcome.reason if isinstance(outcome, Cancelled) else None,
            suspension=_decode_report(record.outcome) if record.status == "suspended" else None,
            custom_status=self._plain(record.custom_status) if record.custom_status else None,
            metadata=msgspec.json.decode(record.metadata) if record.metadata else {},
            turns=record.turns,
            events=record.events,
            unread=record.unread,
            worker=record.worker,
            wakes_at=record.ready_at,
            created_at=record.created_at,
            finished_at=record.finished_at,
            activities=activities,
        )

    def _plain(self, data: bytes) -> Any:
        return self.codec.decode(data, Any)


def _filter(  # noqa: PLR0917  # the keywords of list() and count()
    status: Status | Sequence[Status],
    workflow: Workflow[..., Any] | str | None,
    queue: str | None,
    parent: str | None,
    id_prefix: str | None,
    created_after: float | None,
    created_before: float | None,
) -> InstanceFilter:
    return InstanceFilter(
        status=(status,) if isinstance(status, str) else tuple(status),
        workflow=workflow.name if isinstance(workflow, Workflow) else workflow,
        queue=queue,
        parent=parent,
        id_prefix=id_prefix,
        created_after=created_after,
        created_before=created_before,
    )


def _fresh_id(name: str) -> str:
    """Return an id that sorts by its time, so that those of one hour lie together in the store."""
    return f"{name}-{int(time.time() * 1000):011x}{secrets.token_hex(7)}"


@asynccontextmanager
async def open_client(
    backend: str | Backend, *, codec: Codec | None = None, registry: Registry | None = None
) -> AsyncGenerator[Client, None]:
    """Open a client on a store, for as long as the block lasts.

    Args:
        backend: A URL, as for `run_worker`, or a backend.
        codec: How values are stored; the same as the workers'.
        registry: Where workflows that are started by name are looked up.

    Raises:
        BackendUnavailable: The store cannot be reached.
        SchemaError: The store's schema is newer than this code.
    """
    store = open_backend(backend)
    await store.open()
    error: BaseException | None = None
    try:
        client = Client(store, codec=codec or JsonCodec(), registry=registry or default_registry)
        async with anyio.create_task_group() as group:
            group.start_soon(client.watch)
            try:
                yield client
            except (Exception, KeyboardInterrupt, SystemExit) as exc:  # noqa: BLE001
                error = exc  # raised below, as it is and not in a group
            finally:
                client.close()
        if error is not None:
            raise error
    finally:
        del error
        if store is not backend:
            with anyio.CancelScope(shield=True):
                await store.aclose()
