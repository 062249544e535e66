"""`Backend` on top of a synchronous `SqlStore`: where its calls run, and who is told of changes."""

# ruff: noqa: D102 - what each method promises is said in `Backend`

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, TypeVarTuple

from trioflow.backends._common.watching import Watcher, concerns_others
from trioflow.backends.records import (
    ActivityKey,
    ActivityTask,
    CommitFailure,
    Execution,
    Heartbeat,
    InstanceFilter,
    InstanceRecord,
    NewInstance,
    QueueStats,
    TakenActivities,
    TakenInstances,
    Unit,
    Update,
)
from trioflow.backends.sql.store import SqlStore

__all__ = ["SqlBackend"]

S = TypeVar("S", bound=SqlStore)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SqlBackend(abc.ABC, Generic[S]):
    """A `Backend` whose store is SQL. Subclasses say how to open it and where its calls run."""

    name: str
    shared: bool

    def __init__(self) -> None:
        self._watcher = Watcher()

    # --- what a subclass gives ------------------------------------------------------------

    @abc.abstractmethod
    async def open(self) -> None:
        """Connect, and bring the schema up to date. Idempotent."""

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Release everything. Idempotent, also after a failed `open`."""

    @abc.abstractmethod
    def now(self) -> float:
        """Return the store's clock, epoch seconds."""

    @abc.abstractmethod
    def heartbeat(self, worker: str) -> Heartbeat:
        """Renew the worker's row. Called from a thread of the worker's own; may block."""

    @abc.abstractmethod
    def _store(self) -> S:
        """Return the open store.

        Raises:
            BackendUnavailable: It is not open.
        """

    @abc.abstractmethod
    async def _run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run a method of the store where it may block; raise only errors of trioflow's."""

    # --- workers ------------------------------------------------------------------------

    async def register_worker(
        self,
        worker: str,
        name: str,
        *,
        queues: Sequence[str] = (),
        activity_queues: Sequence[str] = (),
        lease: float | None = None,
    ) -> None:
        served = (tuple(queues), tuple(activity_queues))
        await self._run(self._store().register_worker, worker, name, *served, lease)

    async def reclaim(self, lease: float) -> list[str]:
        buried = await self._run(self._store().reclaim, lease)
        if buried:
            self._watcher.notify()
        return buried

    async def release_worker(self, worker: str, *, died: bool = False) -> None:
        await self._run(self._store().release_worker, worker, died)
        self._watcher.notify()

    # --- work ---------------------------------------------------------------------------

    async def take_instances(
        self,
        worker: str,
        queues: Sequence[str],
        limit: int,
        *,
        exclude: Sequence[str] = (),
        sticky: float = 0.0,
        suspect: bool = False,
    ) -> TakenInstances:
        store = self._store()
        if suspect:
            return await self._run(store.take_suspect, worker, tuple(queues), tuple(exclude))
        take = store.take_instances
        return await self._run(take, worker, tuple(queues), limit, tuple(exclude), sticky)

    async def take_activities(
        self, worker: str, queues: Sequence[str], limit: int, *, exclude: Sequence[str] = ()
    ) -> TakenActivities:
        take = self._store().take_activities
        return await self._run(take, worker, tuple(queues), limit, tuple(exclude))

    async def commit(self, worker: str, units: Sequence[Unit]) -> list[CommitFailure | None]:
        results = await self._run(self._store().commit, worker, units)
        if any(map(concerns_others, units)):
            self._watcher.notify()
        return results

    async def release_instances(self, worker: str, instances: Sequence[str]) -> list[str]:
        released = await self._run(self._store().release_instances, worker, instances)
        if released:
            self._watcher.notify()
        return released

    async def recall(self, worker: str, keep: Sequence[ActivityKey]) -> None:
        await self._run(self._store().recall, worker, keep)
        self._watcher.notify()

    async def load(self, ids: Sequence[tuple[str, int]]) -> list[list[bytes]]:
        return await self._run(self._store().load, ids)

    # --- what clients ask for -----------------------------------------------------------

    async def create(self, instances: Sequence[NewInstance]) -> list[bool]:
        created = await self._run(self._store().create, instances)
        if any(created):
            self._watcher.notify()
        return created

    async def send(self, instance: str, event: bytes, *, life: str | None = None) -> Update:
        return self._told(await self._run(self._store().send, instance, event, life))

    async def cancel(
        self, instance: str, event: bytes, outcome: bytes, *, life: str | None = None
    ) -> Update:
        return self._told(await self._run(self._store().cancel, instance, event, outcome, life))

    async def terminate(self, instance: str, outcome: bytes, *, life: str | None = None) -> Update:
        return self._told(await self._run(self._store().terminate, instance, outcome, life))

    async def resume(self, instance: str, *, life: str | None = None) -> Update:
        return self._told(await self._run(self._store().resume, instance, life))

    def _told(self, update: Update) -> Update:
        if update == "done":
            self._watcher.notify()
        return update

    async def get(self, instance: str) -> InstanceRecord | None:
        return await self._run(self._store().get, instance)

    async def not_running(
        self, instances: Sequence[str], *, lives: Sequence[str] | None = None
    ) -> list[str]:
        return await self._run(self._store().not_running, instances, lives)

    async def history(self, instance: str) -> list[Execution]:
        return await self._run(self._store().history, instance)

    async def activities(self, instance: str) -> list[ActivityTask]:
        return await self._run(self._store().activities, instance)

    async def count(self, where: InstanceFilter) -> int:
        return await self._run(self._store().count, where)

    async def stats(self) -> list[QueueStats]:
        return await self._run(self._store().stats)

    async def remove(
        self, where: InstanceFilter, *, ids: Sequence[str] | None = None, limit: int
    ) -> int:
        removed = await self._run(self._store().remove, where, ids, limit)
        if removed:  # somebody may wait for one of them
            self._watcher.notify()
        return removed

    # --- waking -------------------------------------------------------------------------

    def changes(self) -> int:
        return self._watcher.number

    async def wait_change(self, seen: int, timeout: float) -> None:
        await self._watcher.wait(seen, timeout)

    # Last, since its name hides the built-in type in what follows it.
    async def list(
        self, where: InstanceFilter, *, limit: int, after: str | None = None
    ) -> list[InstanceRecord]:
        return await self._run(self._store().list, where, limit, after)
