"""Start and signal instances inside a transaction of the caller's own database connection."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from trioflow._client.arguments import check_id
from trioflow._client.events import cancel_event, check_effect, settling
from trioflow._client.handle import Handle, encode_terminated, signal_event
from trioflow._client.starting import Starter
from trioflow._model.bound import BoundWorkflow
from trioflow._model.signals import Signal
from trioflow._model.workflows import Workflow
from trioflow.backends.outbox import CallerTransaction
from trioflow.backends.records import ENDED
from trioflow.errors import (
    InstanceAlreadyExists,
    InstanceTerminated,
)

if TYPE_CHECKING:
    from trioflow._client.client import Client

__all__ = ["AsyncConnection", "AsyncTransaction", "SyncConnection", "Transaction"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class SyncConnection(Protocol):
    """A driver's connection with plain methods: of sqlite3, psycopg or PyMySQL."""

    def commit(self) -> None:
        """Commit."""


class AsyncConnection(Protocol):
    """A driver's connection with async methods: ``psycopg.AsyncConnection``."""

    def commit(self) -> Coroutine[Any, Any, None]:
        """Commit."""
        ...


class Transaction:
    """What happens when, and only if, a transaction of yours is committed.

    ``client.in_transaction(connection)`` gives one, for a connection with plain methods. Its
    methods are plain functions as well: they block for a round trip or two, and any thread that may
    use the connection may call them. Each is all or nothing: one that raises has changed nothing,
    and your transaction goes on.

    Rows of instances that exist stay locked until your transaction ends, and a worker that has
    something to store of one waits for it. So do this last, and commit soon.

    Args:
        client: Whose it is.
        given: What the store does in the transaction.
        starter: How the client makes instances.
    """

    def __init__(self, client: Client, given: CallerTransaction, starter: Starter) -> None:
        self._client = client
        self._given = given
        self._starter = starter

    @overload
    def start(
        self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Handle[R]: ...

    @overload
    def start(self, workflow: str, /, *args: Any, **kwargs: Any) -> Handle[Any]: ...

    def start(self, workflow: Any, /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Start an instance when the transaction commits; a worker takes it soon afterwards.

        Args:
            workflow: The workflow, a variant of it with options, or the name of a registered one.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            A handle of the new instance. Until the transaction is committed, and if it never is,
            its methods raise `InstanceNotFound`.

        Raises:
            Exception: What `Client.start` raises.
            TransactionRefused: The transaction is not open, or of another database.
        """
        definition = self._starter.definition(workflow)
        new = self._starter.new(self._client.backend, definition, args, kwargs)
        replacing = None
        if definition.if_exists == "replace":
            error = InstanceTerminated(new.id, "another one was started in its place")
            replacing = encode_terminated(error, self._client.codec)
        reuse = definition.reuses_finished
        while not self._given.create([new], reuse=reuse, replacing=replacing)[0]:
            if definition.if_exists != "return":
                raise InstanceAlreadyExists(new.id)
            there = self._given.get(new.id)
            if there is None or (there.status in ENDED and reuse):
                continue  # it was removed, or has ended, in between
            if there.workflow != definition.name:
                other = f"it is one of workflow {there.workflow!r}, not of {definition.name!r}"
                raise InstanceAlreadyExists(new.id, other)
            return Handle(self._client, new.id, definition, life=there.life)
        return Handle(self._client, new.id, definition, life=new.life)

    def signal_with_start(self, call: BoundWorkflow[R], signal: Signal[T], value: T) -> Handle[R]:
        """Send a signal to the instance of an id, started first if there is none.

        Args, result and errors are those of `Client.signal_with_start`.
        """
        new = self._starter.bound(self._client.backend, call, "signal_with_start()")
        event = signal_event(self._client.codec, signal, value)
        reached = self._given.create_and_send(new, event)
        return Handle(self._client, new.id, call.definition, life=reached.life)

    @overload
    def signal(self, instance: Handle[Any] | str, signal: Signal[T], value: T) -> None: ...

    @overload
    def signal(self, instance: Handle[Any] | str, signal: str, value: object) -> None: ...

    def signal(self, instance: Handle[Any] | str, signal: Any, value: object) -> None:
        """Send a signal when the transaction commits.

        Args:
            instance: A handle of the instance, or its id.
            signal: Which signal, or its name.
            value: A value of its type.

        Raises:
            Exception: What `Handle.signal` raises.
            TransactionRefused: The transaction is not open, or of another database.
        """
        _ = self._client.backend
        id, life = _meant(instance)
        event = signal_event(self._client.codec, signal, value)
        check_effect(id, self._given.send(id, event, life=life))

    def cancel(self, instance: Handle[Any] | str, reason: str | None = None) -> None:
        """Ask an instance to end when the transaction commits; as `Handle.cancel`."""
        _ = self._client.backend
        id, life = _meant(instance)
        event, outcome = cancel_event(self._client.codec, reason)
        check_effect(id, self._given.cancel(id, event, outcome, life=life))

    def resolve(self, token: str, value: object = None) -> bool:
        """Give a promise of a workflow its value when the transaction commits.

        Args, result and errors are those of `Client.resolve`.
        """
        return self._settle(*settling(self._client.codec, token, value=value))

    def reject(self, token: str, error: BaseException) -> bool:
        """Say that a promise will not be kept when the transaction commits; as `Client.reject`."""
        return self._settle(*settling(self._client.codec, token, error=error))

    def _settle(self, id: str, life: str, event: bytes, request: str) -> bool:
        _ = self._client.backend
        effect = self._given.send(id, event, life=life, request=request)
        check_effect(id, effect)
        return effect == "done"


class AsyncTransaction:
    """A `Transaction` on a connection with async methods; they do the same, and do not block.

    The connection must not be used by another task meanwhile; if it is, that waits.

    Args:
        plain: Does it.
        given: What the store does in the transaction.
    """

    def __init__(self, plain: Transaction, given: CallerTransaction) -> None:
        self._plain = plain
        self._given = given

    @overload
    async def start(
        self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Handle[R]: ...

    @overload
    async def start(self, workflow: str, /, *args: Any, **kwargs: Any) -> Handle[Any]: ...

    async def start(self, workflow: Any, /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """See `Transaction.start`."""
        return await self._given.run(partial(self._plain.start, workflow, *args, **kwargs))

    async def signal_with_start(
        self, call: BoundWorkflow[R], signal: Signal[T], value: T
    ) -> Handle[R]:
        """See `Transaction.signal_with_start`."""
        return await self._given.run(partial(self._plain.signal_with_start, call, signal, value))

    @overload
    async def signal(self, instance: Handle[Any] | str, signal: Signal[T], value: T) -> None: ...

    @overload
    async def signal(self, instance: Handle[Any] | str, signal: str, value: object) -> None: ...

    async def signal(self, instance: Handle[Any] | str, signal: Any, value: object) -> None:
        """See `Transaction.signal`."""
        await self._given.run(partial(self._plain.signal, instance, signal, value))

    async def cancel(self, instance: Handle[Any] | str, reason: str | None = None) -> None:
        """See `Transaction.cancel`."""
        await self._given.run(partial(self._plain.cancel, instance, reason))

    async def resolve(self, token: str, value: object = None) -> bool:
        """See `Transaction.resolve`."""
        return await self._given.run(partial(self._plain.resolve, token, value))

    async def reject(self, token: str, error: BaseException) -> bool:
        """See `Transaction.reject`."""
        return await self._given.run(partial(self._plain.reject, token, error))


def _meant(instance: Handle[Any] | str) -> tuple[str, str | None]:
    """Return the id and the life of an instance that a handle, or an id, means."""
    if isinstance(instance, Handle):
        return instance.id, instance.life
    return check_id(instance), None
