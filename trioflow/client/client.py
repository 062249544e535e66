"""The client: starts instances and finds them again, from anywhere that reaches the store."""

from __future__ import annotations

import builtins
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

import anyio
import msgspec

from trioflow.backends.base import Backend
from trioflow.backends.urls import open_backend
from trioflow.client.description import Description, describe
from trioflow.client.endings import Endings
from trioflow.client.handle import Handle
from trioflow.errors import ArgumentError, InstanceAlreadyExists
from trioflow.model.definitions import Workflow
from trioflow.model.limits import check_characters
from trioflow.model.records import InstanceFilter, NewInstance, QueueStats, Status
from trioflow.model.values import Codec, JsonCodec
from trioflow.registry import Registry, default_registry

__all__ = ["Client", "open_client"]

P = ParamSpec("P")
R = TypeVar("R")


class _Start(Protocol):
    async def wait(self) -> bool: ...


class _LocalWorker(Protocol):
    """What a client asks of a worker in the same process."""

    def accepts(self, workflow: str, queue: str) -> bool: ...

    def holds(self, instance: str) -> bool: ...

    def start(self, new: NewInstance) -> _Start: ...


class Client:
    """Starts instances and finds them again. `open_client` makes one; a worker has one.

    Attributes:
        backend: The store.
        codec: How values are stored.
        endings: Who waits for an instance's end.
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
        self.endings = Endings(backend, self._holds)

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
            priority=definition.priority or 0,
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

        Raises:
            ArgumentError: A text has characters that no store takes.
        """
        where = _filter(status, workflow, queue, parent, id_prefix, created_after, created_before)
        if after is not None:
            check_characters(after, "an instance's id")
        return [
            describe(record, [], self.codec)
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

    # --- inside -------------------------------------------------------------------------

    def _holds(self, instance: str) -> bool:
        return self._local is not None and self._local.holds(instance)

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


def _filter(  # noqa: PLR0917  # the keywords of list() and count()
    status: Status | Sequence[Status],
    workflow: Workflow[..., Any] | str | None,
    queue: str | None,
    parent: str | None,
    id_prefix: str | None,
    created_after: float | None,
    created_before: float | None,
) -> InstanceFilter:
    for text, what in (
        (workflow, "the name of a workflow"),
        (queue, "the name of a queue"),
        (parent, "an instance's id"),
        (id_prefix, "the beginning of an instance's id"),
    ):
        if isinstance(text, str):
            check_characters(text, what)
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
            group.start_soon(client.endings.watch)
            try:
                yield client
            except (Exception, KeyboardInterrupt, SystemExit) as exc:  # noqa: BLE001
                error = exc  # raised below, as it is and not in a group
            finally:
                client.endings.close()
        if error is not None:
            raise error
    finally:
        del error
        if store is not backend:
            with anyio.CancelScope(shield=True):
                await store.aclose()
