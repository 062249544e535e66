"""The client: starts instances and finds them again, from anywhere that reaches the store."""

from __future__ import annotations

import asyncio
import builtins
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, ParamSpec, TypeVar, Unpack, overload

import anyio

from trioflow._client import listing
from trioflow._client.answers import AnswerWaiter
from trioflow._client.arguments import (
    TROUBLE_AFTER,
    Filters,
    check_group,
    check_id,
    check_trouble_after,
    check_workflow,
    finished_statuses,
    instance_filter,
)
from trioflow._client.bulk import BulkCalls
from trioflow._client.description import Description, describe
from trioflow._client.events import check_effect, settling
from trioflow._client.fences import FenceLooks
from trioflow._client.handle import Handle, signal_event
from trioflow._client.limits import LimitCalls
from trioflow._client.native_cancel import raise_native_cancel, raises_native_cancels
from trioflow._client.outbox import (
    AsyncConnection,
    AsyncTransaction,
    SyncConnection,
    Transaction,
)
from trioflow._client.resets import fork_instance
from trioflow._client.scheduling import ScheduleCalls
from trioflow._client.starting import LocalWorker, Starter
from trioflow._client.updates import NOTHING, UpdateHandle, update_event
from trioflow._client.waiting import ResultWaiter
from trioflow._codec.values import Codec
from trioflow._model.attributes import AttributeKey, NamedAttribute, Where, group_value
from trioflow._model.bound import BoundWorkflow
from trioflow._model.interceptors import Interceptor, those_around
from trioflow._model.options import check_count, check_time
from trioflow._model.propagation import Propagator
from trioflow._model.randomness import RandomSource, system_random
from trioflow._model.signals import Signal
from trioflow._model.updates import Update
from trioflow._model.workflows import Workflow
from trioflow._observe import Observers
from trioflow._registry import Registry
from trioflow.backends.abc import Backend
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import (
    ActivityTask,
    QueueStats,
    RequestKey,
    Status,
    Trouble,
    WorkerInfo,
)
from trioflow.errors import ArgumentError, ClientClosed, InstanceAlreadyExists

__all__ = ["Client"]

_LOOK_EVERY = 1.0
"""Seconds at most between two looks at an instance: not every change of it is told."""

_WHENEVER = float("inf")  # not `math.inf`, which somebody has to say

P = ParamSpec("P")
A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")


class Client(BulkCalls, ScheduleCalls, LimitCalls):
    """Starts instances and finds them again. `open_client` makes one; a worker has one.

    Args:
        backend: The store.
        codec: How values are stored.
        registry: Where workflows that are started by name are looked up.
        local: The worker in this process that begins instances at once.
        random: For ids and lives.
        wall: The clock of ids, epoch seconds.
        propagators: What adds metadata to what is started.
        interceptors: What is around its calls; those that are around something else are kept for
            whoever needs them.
        observers: Who is told of what is started, ``None`` for nobody.

    Attributes:
        codec: How values are stored.
        propagators: What was given.
        interceptors: What was given.
        around_calls: Those of them that are for calls of clients.
        waiter: Waits for the results of instances.
        answers: Waits for their answers to requests.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        codec: Codec,
        registry: Registry,
        local: LocalWorker | None = None,
        random: RandomSource = system_random,
        wall: Callable[[], float] = time.time,
        propagators: Sequence[Propagator] = (),
        interceptors: Sequence[Interceptor] = (),
        observers: Observers | None = None,
    ) -> None:
        self.codec = codec
        self.propagators = propagators
        self.interceptors = interceptors
        self.around_calls = those_around(interceptors, "client")
        self._backend = backend
        self._local = local
        self._random = random
        self._starter = Starter(
            codec=codec,
            registry=registry,
            local=local,
            random=random,
            wall=wall,
            propagators=propagators,
            observers=observers,
        )
        self._fence_looks = FenceLooks(backend)
        self.waiter = ResultWaiter(backend, self._life_here)
        self.answers = AnswerWaiter(backend)
        self._waits_for_change: set[anyio.CancelScope] = set()

    @property
    def backend(self) -> Backend:
        """The store.

        Raises:
            ClientClosed: The client's block was left.
        """
        if self.waiter.closed:
            raise ClientClosed
        return self._backend

    @property
    def random(self) -> RandomSource:
        """Where lives come from."""
        return self._random

    def close(self) -> None:
        """Refuse further calls, and end those that wait with `ClientClosed`."""
        self.waiter.close()
        self.answers.close()
        for scope in self._waits_for_change:
            scope.cancel()

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
        definition = self._starter.definition(workflow)
        new = self._starter.new(self.backend, definition, args, kwargs)
        life = await self._starter.create_or_find(self.backend, new, definition)
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
        new = self._starter.bound(self.backend, call, "signal_with_start()")
        event = signal_event(self.codec, signal, value)
        reached = await self.backend.create_and_send(new, event)
        self._starter.tell_created(self.backend, new, reached.life)
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
        new = self._starter.bound(self.backend, call, "update_with_start()")
        event, request = update_event(self.codec, update, value, self.fresh_request())
        reached = await self.backend.create_and_send(new, event, request=request)
        self._starter.tell_created(self.backend, new, reached.life)
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
        effect = await self.backend.send(instance, event, life=life, request=request)
        check_effect(instance, effect)
        return effect == "done"

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
        plain = Transaction(self, given, self._starter)
        return AsyncTransaction(plain, given) if given.is_async else plain

    # --- finding ------------------------------------------------------------------------

    @raises_native_cancels
    async def fork(
        self, id: str, *, turn: int | None = None, new_id: str | None = None
    ) -> Handle[Any]:
        """Start an instance that has the first turns of another one; that one is left alone.

        It goes on from there by itself. Results that the other one has for what these turns asked
        for are copied. What has no result is done anew: activities, and sub-workflows, these under
        ids that are derived from that of the new instance. Messages to the other one that came
        later are not copied. Code of those turns sees the other one's id in ``info()``.
        Options of the start are those of the other one, if that has begun.

        Args:
            id: The other one.
            turn: The number, from 0, of the first turn that is not taken over; without it as for
                `Handle.reset`.
            new_id: The id of the new instance, which must never have been used; without it a
                fresh one.

        Raises:
            InstanceNotFound: There is no such instance.
            InstanceAlreadyExists: There is an instance with the id ``new_id``, perhaps a finished
                one.
            ArgumentError: As for `Handle.reset`; or the id is too long, or has characters that a
                store does not take.
            CorruptStore: The history cannot be read.
        """
        if new_id is not None:
            check_id(new_id)
        new = await fork_instance(self, id, turn, new_id or self._starter.fresh_id("fork"))
        return Handle(self, new.id, None, life=new.life)

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
        finished_after: float | None = None,
        finished_before: float | None = None,
        trouble: Trouble | None = None,
        trouble_after: float = TROUBLE_AFTER,
        where: Where | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> builtins.list[Description]:
        """Return instances, newest first; schedules only with their workflow's name, or in trouble.

        Args:
            status: Only those of this status, or of these.
            workflow: Only those of this workflow, or of this name.
            queue: Only those of this queue.
            parent: Only the sub-workflows of this instance; ``""`` for those that have no parent.
            id_prefix: Only those whose id begins so.
            created_after: Epoch seconds.
            created_before: Epoch seconds.
            finished_after: Only those that have ended, after this time, epoch seconds.
            finished_before: Only those that have ended, before this time.
            trouble: Only those in this trouble:

                - ``"retrying"``: an activity is tried again, or waits for that. The one with the
                  most attempts is in ``activities`` of the description.
                - ``"unserved"``: it, or an activity of it, waits in a queue that no living worker
                  serves.
                - ``"overdue"``: it, or an activity of it, could be taken for ``trouble_after``
                  seconds, and no worker has taken it.
                - ``"suspended"``: it waits for a person.
                - ``"held"``: it is held by a worker that has sent no heartbeat for longer than its
                  lease; or by one that has stored nothing of it for ``trouble_after`` seconds,
                  though there is something to do.
            trouble_after: Seconds.
            where: Only those with these attributes: ``{"customer": "c7"}``, or for which all of
                some conditions hold: ``[attribute("amount") >= 10, attribute("vip") == True]``.
            limit: How many at most.
            after: The id of the last one of the page before.

        Raises:
            TypeError: A filter is of another type: times are numbers, for example.
            ArgumentError: ``where`` is something else, or no attribute can be so.
            ValueError: There is no such status or trouble, or ``limit`` is negative.
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
            finished_after=finished_after,
            finished_before=finished_before,
            trouble=trouble,
            trouble_after=trouble_after,
            where=where,
        )
        page = check_count("limit", limit, 0), None if after is None else check_id(after, "after")
        found = await listing.list_records(self.backend, wanted, *page)
        tried: dict[str, builtins.list[ActivityTask]] = {}
        if trouble == "retrying":
            again = await self.backend.tried_again([record.id for record in found])
            tried = {task.key.instance: [task] for task in again}
        return [describe(record, tried.get(record.id, []), self.codec) for record in found]

    @overload
    async def count(
        self, *, group_by: None = None, at_most: int | None = None, **filters: Unpack[Filters]
    ) -> int: ...

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
        at_most: int | None = None,
        **filters: Unpack[Filters],
    ) -> int | dict[Any, int]:
        """Return how many instances there are; the filters are those of `list`.

        Args:
            group_by: Count by status, workflow or queue, or by the values of an attribute:
                ``attribute("stage")``. An instance that does not have it is left out, and one that
                has a list of texts counts for each of them.
            at_most: Count no further than this, so that it costs no more; ``None`` for all.
            **filters: Which ones.

        Returns:
            The number, or the numbers by what the instances share.

        Raises:
            TypeError, ValueError, ArgumentError: As `list`.
            ValueError: ``group_by`` is something else, or given together with ``at_most``; or that
                is negative.
        """
        wanted = instance_filter(**filters)
        most = None if at_most is None else check_count("at_most", at_most, 0)
        if group_by is None:
            return await listing.count(self.backend, wanted, most)
        if most is not None:
            raise ValueError("at_most: groups are counted as a whole; leave out one of both")
        groups: dict[Any, int] = {}
        if isinstance(group_by, NamedAttribute):
            for name, word, number in await listing.count_by(
                self.backend, wanted, group_by.name, attribute=True
            ):
                value = group_value(name, word)
                groups[value] = groups.get(value, 0) + number
            return groups
        check_group(group_by)
        counted = await listing.count_by(self.backend, wanted, group_by)
        return {value: number for _, value, number in counted}

    @raises_native_cancels
    async def stats(self) -> builtins.list[QueueStats]:
        """Return the numbers of each queue that has unfinished instances or activities."""
        return await self.backend.stats()

    @raises_native_cancels
    async def troubles(self, *, trouble_after: float = TROUBLE_AFTER) -> dict[Trouble, int]:
        """Return how many instances are in each kind of trouble: see `list`.

        Each is counted up to 1,000: so many stand for as many or more. One instance can be in
        several.

        Args:
            trouble_after: Seconds, as for `list`.

        Raises:
            TypeError, ValueError: It is no number, or less than 0.
        """
        return await self.backend.troubles(check_trouble_after(trouble_after))

    @raises_native_cancels
    async def workers(self) -> builtins.list[WorkerInfo]:
        """Return all workers that have a row in the store, by name.

        One that has died is among them until another one takes over what it held: see
        `WorkerInfo.alive`.
        """
        return await self.backend.workers()

    @raises_native_cancels
    async def remove(
        self,
        *,
        finished_before: float = _WHENEVER,
        status: Status | Sequence[Status] = (),
        workflow: Workflow[..., Any] | str | None = None,
        queue: str | None = None,
        parent: str | None = None,
        id_prefix: str | None = None,
        created_after: float | None = None,
        created_before: float | None = None,
        finished_after: float | None = None,
        where: Where | None = None,
        limit: int = 1000,
    ) -> int:
        """Remove finished instances with their histories; at least one filter must be given.

        Args:
            finished_before: Only those that ended before this time, epoch seconds.
            status: Only those of this status, or of these.
            workflow: Only those of this workflow, or of this name.
            queue: Only those of this queue.
            parent: Only the sub-workflows of this instance; ``""`` for those that have no parent.
            id_prefix: Only those whose id begins so.
            created_after: Only those that started after this time.
            created_before: Only those that started before it.
            finished_after: Only those that ended after this time.
            where: Only those with these attributes, as for `list`.
            limit: How many at most; call again while it returns as many.

        Returns:
            How many were removed.

        Raises:
            ArgumentError: There is no filter at all. ``finished_before=math.inf`` means all that
                have finished.
            TypeError, ValueError: As `list`; or a status is one of instances that have not ended.
        """
        wanted = instance_filter(
            status=finished_statuses(status),
            workflow=workflow,
            queue=queue,
            parent=parent,
            id_prefix=id_prefix,
            created_after=created_after,
            created_before=created_before,
            finished_after=finished_after,
            finished_before=None
            if finished_before is _WHENEVER
            else check_time(finished_before, "finished_before"),
            where=where,
        )
        if wanted == InstanceFilter():
            raise ArgumentError(
                "remove() without a filter would mean every finished instance of the store; give "
                "one, finished_before=time.time() - 30 * 86400 for those that ended a month ago"
            )
        return await self.backend.remove(wanted, limit=check_count("limit", limit, 0))

    @raises_native_cancels
    async def remove_executions(self, *, ended_before: float, limit: int = 1000) -> int:
        """Remove executions that ended and were followed by others, also of living instances.

        With them go their turns, and what `Handle.describe` shows of them. The last execution of
        an instance is never removed by this.

        Args:
            ended_before: Only those that ended before this time, epoch seconds.
            limit: How many at most; call again while it returns as many.

        Returns:
            How many were removed.

        Raises:
            TypeError, ValueError: The time is no number, or the limit is negative.
        """
        before = check_time(ended_before, "ended_before")
        return await self.backend.remove_executions(before, limit=check_count("limit", limit, 0))

    async def wait_change(self, seen: int) -> None:
        """Return when something in the store may have changed since ``changes()`` was ``seen``.

        Raises:
            ClientClosed: The client's block was left, perhaps while this waited.
            StoreFenced: The store is closed: nothing will change any more.
        """
        backend = self.backend
        with anyio.CancelScope() as scope:
            self._waits_for_change.add(scope)
            try:
                await backend.wait_change(seen, _LOOK_EVERY if backend.shared else math.inf)
            finally:
                self._waits_for_change.discard(scope)
        if self.waiter.closed:
            raise ClientClosed
        await self._fence_looks.demand_open()

    # --- inside -------------------------------------------------------------------------

    def _life_here(self, instance: str) -> str | None:
        return None if self._local is None else self._local.life_of(instance)
