"""The client: starts instances and finds them again, from anywhere that reaches the store."""

from __future__ import annotations

import asyncio
import builtins
import math
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import (
    Any,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    Unpack,
    cast,
    overload,
)

import anyio
import anyio.lowlevel
import msgspec

from trioflow._client.answers import AnswerWaiter
from trioflow._client.arguments import (
    Filters,
    check_group,
    check_id,
    check_workflow,
    finished_statuses,
    instance_filter,
)
from trioflow._client.description import Description, describe
from trioflow._client.events import settling
from trioflow._client.handle import Handle, encode_terminated, signal_event
from trioflow._client.native_cancel import raise_native_cancel, raises_native_cancels
from trioflow._client.outbox import (
    AsyncConnection,
    AsyncTransaction,
    Starting,
    SyncConnection,
    Transaction,
)
from trioflow._client.updates import NOTHING, UpdateHandle, update_event
from trioflow._client.waiting import ResultWaiter
from trioflow._codec.failures.groups import joined
from trioflow._codec.values import Codec, JsonCodec
from trioflow._model.attributes import (
    AttributeKey,
    NamedAttribute,
    Where,
    encode_attributes,
    group_value,
)
from trioflow._model.bound import BoundWorkflow
from trioflow._model.definitions import Workflow
from trioflow._model.options import check_count, check_time
from trioflow._model.propagation import Propagator, injected
from trioflow._model.randomness import RandomSource, system_random
from trioflow._model.signals import Signal
from trioflow._model.updates import Update
from trioflow._registry import Registry, default_registry
from trioflow.backends.abc import Backend
from trioflow.backends.records import ENDED, NewInstance, QueueStats, RequestKey, Status
from trioflow.backends.urls import open_backend
from trioflow.errors import (
    ArgumentError,
    ClientClosed,
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceNotFound,
    InstanceTerminated,
)

__all__ = ["Client", "client_on", "open_client"]

_encode = msgspec.json.Encoder().encode

_LOOK_EVERY = 1.0
"""Seconds at most between two looks at an instance: not every change of it is told."""

P = ParamSpec("P")
A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")


class _Start(Protocol):
    async def wait(self) -> bool: ...


class _LocalWorker(Protocol):
    """The worker in a client's process: starts instances at once, and knows those that it holds."""

    def accepts(self, workflow: str, queue: str) -> bool: ...

    def life_of(self, instance: str) -> str | None: ...

    def start(self, new: NewInstance) -> _Start: ...


class Client:
    """Starts instances and finds them again. `open_client` makes one; a worker has one.

    Args:
        backend: The store.
        codec: How values are stored.
        registry: Where workflows that are started by name are looked up.
        local: The worker in this process that begins instances at once.
        random: For ids and lives.
        wall: The clock of ids, epoch seconds.
        propagators: What adds metadata to what is started.

    Attributes:
        codec: How values are stored.
        propagators: What was given.
        waiter: Waits for the results of instances.
        answers: Waits for their answers to requests.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        codec: Codec,
        registry: Registry,
        local: _LocalWorker | None = None,
        random: RandomSource = system_random,
        wall: Callable[[], float] = time.time,
        propagators: Sequence[Propagator] = (),
    ) -> None:
        self.codec = codec
        self.propagators = propagators
        self._backend = backend
        self._registry = registry
        self._local = local
        self._random = random
        self._wall = wall
        self.waiter = ResultWaiter(backend, self._life_here)
        self.answers = AnswerWaiter(backend)

    @property
    def backend(self) -> Backend:
        """The store.

        Raises:
            ClientClosed: The client's block was left.
        """
        if self.waiter.closed:
            raise ClientClosed
        return self._backend

    def close(self) -> None:
        """Refuse further calls, and end those that wait with `ClientClosed`."""
        self.waiter.close()
        self.answers.close()

    async def watch(self) -> None:
        """Wake the calls that wait, until `close`."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.waiter.watch)
            await self.answers.watch()

    def fresh_request(self) -> str:
        """Return an id for a request that is like no other."""
        return self._random.hex(16)

    # --- starting -----------------------------------------------------------------------

    @overload
    async def start(
        self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Handle[R]: ...

    @overload
    async def start(self, workflow: str, /, *args: Any, **kwargs: Any) -> Handle[Any]: ...

    @raises_native_cancels
    async def start(self, workflow: Any, /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Start an instance. It is stored when this returns.

        A caller that is cancelled gets its cancellation before anything is done, or else the
        handle: then the cancellation comes at its next checkpoint. But a cancel of asyncio's own
        (``task.cancel()``, ``asyncio.timeout()``) is raised here, once the instance is stored; a
        note of it names the instance.

        Args:
            workflow: The workflow, or a variant of it: ``checkout.options(id="order-7")``, or the
                name of a registered one.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            A handle of the new instance. It never shows another one that takes the id later.

        Raises:
            ArgumentError: The arguments do not fit the signature, or cannot be stored.
            PayloadTooLarge: They are too large.
            InstanceAlreadyExists: An unfinished instance has the id; ``client.handle(id)`` is a
                handle of it. (A finished one's may be used again, but for
                ``options(reuse_finished=False)``.) With ``options(if_exists="return")`` only if
                that is one of another workflow, with ``"replace"`` never because of an unfinished.
            UnknownDefinition: No workflow of that name is registered here.
            BackendUnavailable: The store cannot be reached or written.
        """
        definition = self._definition(workflow)
        new = self._new(definition, args, kwargs)
        life = await self._create_or_find(new, definition)
        try:
            await raise_native_cancel()
        except asyncio.CancelledError as exc:
            if life == new.life:
                exc.add_note(f"instance {new.id!r} was started all the same")
            raise
        if life is None:
            known = f"it has not ended; client.handle({new.id!r}, workflow) gives a handle of it"
            if not definition.reuses_finished:
                known = f"client.handle({new.id!r}, workflow) gives a handle of it"
            raise InstanceAlreadyExists(new.id, known)
        return Handle(self, new.id, definition, life=life)

    @raises_native_cancels
    async def signal_with_start(
        self, call: BoundWorkflow[R], signal: Signal[T], value: T
    ) -> Handle[R]:
        """Send a signal to the instance of an id, which is started first if there is none.

        One transaction: either the instance is there and has the signal, or nothing was done. One
        that is running or suspended gets the signal, whatever it was started with; in the place of
        a finished one a new one begins.

        Args:
            call: The instance: ``checkout.options(id="order-7").bind(order)``.
            signal: Which signal.
            value: A value of its type.

        Returns:
            A handle of the instance that has the signal. It never shows another one.

        Raises:
            ArgumentError: The arguments do not fit the signature, or cannot be stored; or ``call``
                is no bound workflow, or has no id.
            ValueMismatch: The value is not of the signal's type.
            PayloadTooLarge: The arguments or the value are too large.
            BackendUnavailable: The store cannot be reached or written.
        """
        new = self._bound(call, "signal_with_start()")
        event = signal_event(self.codec, signal, value)
        reached = await self.backend.create_and_send(new, event)
        return Handle(self, new.id, call.definition, life=reached.life)

    @overload
    async def update_with_start(
        self, call: BoundWorkflow[Any], update: Update[[A], T], value: A
    ) -> T: ...

    @overload
    async def update_with_start(self, call: BoundWorkflow[Any], update: Update[[], T]) -> T: ...

    @raises_native_cancels
    async def update_with_start(
        self, call: BoundWorkflow[Any], update: Any, value: object = NOTHING
    ) -> Any:
        """Ask something of the instance of an id, which is started first if there is none.

        As `signal_with_start`; this returns the answer. An update with an id,
        ``add.options(id="req-1")``, that was made of a finished instance starts no other one: its
        answer is returned again.

        Args:
            call: The instance: ``cart.options(id="ann").bind("ann")``.
            update: Which update.
            value: Its argument, if it has one.

        Raises:
            ArgumentError, ValueMismatch, PayloadTooLarge, BackendUnavailable: As
                `signal_with_start`. Nothing was started, and nothing asked.
            Exception: What `UpdateHandle.result` raises.
        """
        new = self._bound(call, "update_with_start()")
        event, request = update_event(self.codec, update, value, self.fresh_request())
        reached = await self.backend.create_and_send(new, event, request=request)
        key = RequestKey(new.id, reached.life, request)
        return await UpdateHandle[Any](self, key, update).result()

    @overload
    async def run(self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    async def run(self, workflow: str, /, *args: Any, **kwargs: Any) -> Any: ...

    async def run(self, workflow: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Start an instance and wait for its result; errors as `start` and `Handle.result`."""
        handle = await self.start(workflow, *args, **kwargs)
        return await handle.result()

    # --- promises -----------------------------------------------------------------------

    @raises_native_cancels
    async def resolve(self, token: str, value: object = None) -> bool:
        """Give a promise of a workflow its value; only the first call for a token counts.

        Args:
            token: What ``promise.token`` is in the workflow.
            value: Of the promise's type.

        Returns:
            Whether this call has settled it; False if it was settled before.

        Raises:
            ArgumentError: It is no token.
            ValueMismatch: The value cannot be stored.
            PayloadTooLarge: It is too large.
            InstanceNotFound: The instance was removed.
            InstanceFinished: The instance has ended.
        """
        return await self._settle(*settling(self.codec, token, value=value))

    @raises_native_cancels
    async def reject(self, token: str, error: BaseException) -> bool:
        """Say that a promise of a workflow will not be kept: ``receive()`` raises the error.

        Args, result and errors are those of `resolve`; ``error`` travels as activities' errors do.
        """
        return await self._settle(*settling(self.codec, token, error=error))

    async def _settle(self, instance: str, life: str, event: bytes, request: str) -> bool:
        update = await self.backend.send(instance, event, life=life, request=request)
        if update == "not found":
            raise InstanceNotFound(instance)
        if update == "finished":
            raise InstanceFinished(instance)
        return update == "done"

    # --- in a transaction of the caller's -----------------------------------------------

    @overload
    def in_transaction(self, connection: SyncConnection) -> Transaction: ...

    @overload
    def in_transaction(self, connection: AsyncConnection) -> AsyncTransaction: ...

    def in_transaction(self, connection: object) -> Transaction | AsyncTransaction:
        """Return what starts and signals instances when, and only if, your transaction commits.

        On SQLite, PostgreSQL and MySQL, with a connection of your own to the database of the
        store: your tables and trioflow's are written together, or not at all. Workers are woken
        soon after the commit, which is yours to make::

            with psycopg.connect(…) as connection:
                connection.execute("INSERT INTO orders …")
                client.in_transaction(connection).start(ship.options(id="order-7"), order)

        Args:
            connection: A ``sqlite3.Connection``, a ``psycopg.Connection``, a
                ``psycopg.AsyncConnection``, or a connection of PyMySQL's. A transaction must be
                open on it, unless its driver begins one by itself.

        Returns:
            Something with plain methods, or with async ones for an ``AsyncConnection``.

        Raises:
            TransactionRefused: The store cannot do so (memory, Redis), or it is no connection of
                its driver; the message says what to do.
            ClientClosed: The client's block was left.
        """
        given = self.backend.in_transaction(connection)
        plain = Transaction(self, given, Starting(self._definition, self._new, self._bound))
        return AsyncTransaction(plain, given) if given.is_async else plain

    # --- finding ------------------------------------------------------------------------

    @overload
    def handle(self, id: str) -> Handle[Any]: ...

    @overload
    def handle(self, id: str, workflow: Workflow[..., R]) -> Handle[R]: ...

    def handle(self, id: str, workflow: Workflow[..., Any] | None = None) -> Handle[Any]:
        """Return a handle of an instance by its id; whether it exists shows when it is used.

        Each call of the handle means the instance that has the id then. (Once it has finished, the
        id may be used again.)

        Args:
            id: The instance's id.
            workflow: Its workflow, for the type of the result; without it the result is plain JSON
                data.

        Raises:
            TypeError: The id is no string.
            ValueError: The id is empty.
            ArgumentError: The workflow is something else.
        """
        check_workflow(workflow)
        return Handle(self, check_id(id), workflow)

    @raises_native_cancels
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
        where: Where | None = None,
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
            where: Only those with these attributes: ``{"customer": "c7"}``, or for which all of
                some conditions hold: ``[attribute("amount") >= 10, attribute("vip") == True]``.
            limit: How many at most.
            after: The id of the last one of the page before.

        Raises:
            TypeError: A filter is of another type: times are numbers, for example.
            ArgumentError: ``where`` is something else, or no attribute can be so.
            ValueError: There is no such status, or ``limit`` is negative.
            InstanceNotFound: ``after`` has been removed meanwhile.
        """
        wanted = instance_filter(
            status=status,
            workflow=workflow,
            queue=queue,
            parent=parent,
            id_prefix=id_prefix,
            created_after=created_after,
            created_before=created_before,
            where=where,
        )
        page = check_count("limit", limit, 0), None if after is None else check_id(after, "after")
        found = await self.backend.list(wanted, limit=page[0], after=page[1])
        return [describe(record, [], self.codec) for record in found]

    @overload
    async def count(self, *, group_by: None = None, **filters: Unpack[Filters]) -> int: ...

    @overload
    async def count(
        self, *, group_by: Literal["status", "workflow", "queue"], **filters: Unpack[Filters]
    ) -> dict[str, int]: ...

    @overload
    async def count(
        self, *, group_by: NamedAttribute, **filters: Unpack[Filters]
    ) -> dict[AttributeKey, int]: ...

    @raises_native_cancels
    async def count(
        self,
        *,
        group_by: Literal["status", "workflow", "queue"] | NamedAttribute | None = None,
        **filters: Unpack[Filters],
    ) -> int | dict[Any, int]:
        """Return how many instances there are; the filters are those of `list`.

        Args:
            group_by: Count by status, workflow or queue, or by the values of an attribute:
                ``attribute("stage")``. An instance that does not have it is left out, and one that
                has a list of texts counts for each of them.
            **filters: Which ones.

        Returns:
            The number, or the numbers by what the instances share.

        Raises:
            TypeError, ValueError, ArgumentError: As `list`.
            ValueError: ``group_by`` is something else.
        """
        wanted = instance_filter(**filters)
        if group_by is None:
            return await self.backend.count(wanted)
        groups: dict[Any, int] = {}
        if isinstance(group_by, NamedAttribute):
            for name, word, number in await self.backend.count_by(
                wanted, group_by.name, attribute=True
            ):
                value = group_value(name, word)
                groups[value] = groups.get(value, 0) + number
            return groups
        check_group(group_by)
        return {value: number for _, value, number in await self.backend.count_by(wanted, group_by)}

    @raises_native_cancels
    async def stats(self) -> builtins.list[QueueStats]:
        """Return the numbers of each queue that has unfinished instances or activities."""
        return await self.backend.stats()

    @raises_native_cancels
    async def remove(
        self,
        *,
        finished_before: float,
        status: Status | Sequence[Status] = (),
        workflow: Workflow[..., Any] | str | None = None,
        queue: str | None = None,
        id_prefix: str | None = None,
        where: Where | None = None,
        limit: int = 1000,
    ) -> int:
        """Remove finished instances with their histories.

        Args:
            finished_before: Only those that ended before this time, epoch seconds.
            status: Only those of this status, or of these.
            workflow: Only those of this workflow, or of this name.
            queue: Only those of this queue.
            id_prefix: Only those whose id begins so.
            where: Only those with these attributes, as for `list`.
            limit: How many at most; call again while it returns as many.

        Returns:
            How many were removed.

        Raises:
            TypeError, ValueError: As `list`; or a status is one of instances that have not ended.
        """
        wanted = instance_filter(
            status=finished_statuses(status),
            workflow=workflow,
            queue=queue,
            id_prefix=id_prefix,
            finished_before=check_time(finished_before, "finished_before"),
            where=where,
        )
        return await self.backend.remove(wanted, limit=check_count("limit", limit, 0))

    async def wait_change(self, seen: int) -> None:
        """Return when something in the store may have changed since ``changes()`` was ``seen``.

        Raises:
            ClientClosed: The client's block was left.
        """
        backend = self.backend
        await backend.wait_change(seen, _LOOK_EVERY if backend.shared else math.inf)

    # --- inside -------------------------------------------------------------------------

    def _life_here(self, instance: str) -> str | None:
        return None if self._local is None else self._local.life_of(instance)

    async def _create_or_find(self, new: NewInstance, definition: Workflow[..., Any]) -> str | None:
        """Create an instance as its options say.

        Returns:
            The life of the one that its caller gets a handle of, ``None`` if the id is taken.
        """
        replacing = None
        if definition.if_exists == "replace":
            error = InstanceTerminated(new.id, "another one was started in its place")
            replacing = encode_terminated(error, self.codec)
        while True:
            if await self._create(new, reuse=definition.reuses_finished, replacing=replacing):
                return new.life
            if definition.if_exists != "return":
                return None
            there = await self.backend.get(new.id)
            if there is None or (there.status in ENDED and definition.reuses_finished):
                continue  # it was removed, or has ended, in between
            if there.workflow != definition.name:
                other = f"it is one of workflow {there.workflow!r}, not of {definition.name!r}"
                raise InstanceAlreadyExists(new.id, other)
            return there.life

    async def _create(self, new: NewInstance, *, reuse: bool, replacing: bytes | None) -> bool:
        backend, local = self.backend, self._local
        create = partial(_store, backend, new, reuse=reuse, replacing=replacing)
        # A worker cannot tell a finished instance before it has made a turn of the new one.
        here = local is not None and reuse and not new.start_at
        if local is None or not here or not local.accepts(new.workflow, new.queue):
            return await create()
        await anyio.lowlevel.checkpoint_if_cancelled()
        if await local.start(new).wait():
            return True
        # The worker cannot say so if it had stored it and lost the answer, so this must be found
        # out even if the caller is cancelled.
        created = False
        with anyio.CancelScope(shield=True):
            created = await create()
        return created  # noqa: RET504  # to type checkers a scope may swallow what is raised in it

    def _new(
        self, definition: Workflow[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> NewInstance:
        metadata = injected(self.propagators, definition.metadata)
        return NewInstance(
            id=definition.id or self._fresh_id(definition.name),
            workflow=definition.name,
            queue=definition.queue or "default",
            input=definition.signature.encode(self.codec, args, kwargs, definition.name),
            priority=definition.priority or 0,
            life=self._random.new_life(),
            start_at=definition.starts_at(self.backend.now()),
            options=b"" if definition.overrides is None else _encode(definition.overrides),
            metadata=_encode(metadata) if metadata else b"",
            attributes=encode_attributes(definition.attributes),
        )

    def _bound(self, call: object, what: str) -> NewInstance:
        """Return the instance that a bound call stands for, which must have an id of its own."""
        if not isinstance(call, BoundWorkflow):
            raise ArgumentError(
                f"{what} takes a call of a workflow that is not made, not {call!r}: write "
                'workflow.options(id="…").bind(argument, …)'
            )
        bound: BoundWorkflow[Any] = cast("Any", call)
        if bound.definition.id is None:
            raise ArgumentError(
                f"{what} finds the instance by its id, and {bound!r} has none: write "
                f'{bound.definition.name}.options(id="…").bind(…); client.start() gives it one'
            )
        if bound.definition.if_exists != "raise" or not bound.definition.reuses_finished:
            raise ArgumentError(
                f"{what} reaches an instance that has not ended, and begins a new one in place of "
                "a finished one; options(if_exists=…, reuse_finished=…) do not change that"
            )
        return self._new(bound.definition, bound.args, bound.kwargs)

    def _fresh_id(self, name: str) -> str:
        """Return an id that sorts by its time: those of one hour lie together in the store."""
        return f"{name}-{int(self._wall() * 1000):011x}{self._random.hex(7)}"

    def _definition(self, workflow: object) -> Workflow[..., Any]:
        if isinstance(workflow, Workflow):
            return cast("Workflow[..., Any]", workflow)
        if isinstance(workflow, str):
            return self._registry.find_workflow(workflow)
        raise ArgumentError(f"{workflow!r} is not a workflow; decorate the function with @workflow")


async def _store(
    backend: Backend, new: NewInstance, *, reuse: bool, replacing: bytes | None
) -> bool:
    """Create an instance; return whether it is there now, and is this one."""
    if (await backend.create([new], reuse=reuse, replacing=replacing))[0]:
        return True
    # A try before this one may have been stored, and its answer lost.
    there = None
    with anyio.CancelScope(shield=True):
        there = await backend.get(new.id)
    return there is not None and there.life == new.life


def open_client(
    backend: str | Backend,
    *,
    codec: Codec | None = None,
    registry: Registry | None = None,
    propagators: Sequence[Propagator] = (),
) -> AbstractAsyncContextManager[Client]:
    """Open a client on a store, for as long as the block lasts.

    Args:
        backend: A URL, as for `run_worker`, or a backend.
        codec: How values are stored; the same as the workers'.
        registry: Where workflows that are started by name are looked up.
        propagators: What adds metadata to what is started; mostly the same as the workers'.

    Raises:
        BackendUnavailable: The store cannot be reached.
        SchemaError: The store's schema is newer than this code.
    """
    return client_on(
        backend,
        codec=codec or JsonCodec(),
        registry=registry or default_registry,
        propagators=propagators,
    )


@asynccontextmanager
async def client_on(
    backend: str | Backend,
    *,
    codec: Codec,
    registry: Registry,
    random: RandomSource = system_random,
    wall: Callable[[], float] = time.time,
    propagators: Sequence[Propagator] = (),
) -> AsyncGenerator[Client, None]:
    """Do what `open_client` does, with the random bits and the clock that `Client` is given."""
    store = open_backend(backend)
    await store.open()
    error: BaseException | None = None
    left: BaseException | None = None  # what has left the group
    try:
        await raise_native_cancel()
        client = Client(
            store,
            codec=codec,
            registry=registry,
            random=random,
            wall=wall,
            propagators=propagators,
        )
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(client.watch)
                try:
                    yield client
                except (Exception, KeyboardInterrupt, SystemExit) as exc:  # noqa: BLE001
                    error = exc  # raised below, as it is and not in a group
                finally:
                    client.close()
        except BaseException as exc:  # noqa: BLE001  # a mere cancel must not hide the error
            left = exc
        error = joined(error, left)
        if error is not None:
            raise error
    finally:
        del error, left
        if store is not backend:
            with anyio.CancelScope(shield=True):
                await store.aclose()
    await raise_native_cancel()
