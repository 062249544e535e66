"""What conformance cases share: the backend under test, its clock, and helpers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._model.events import ChildCancelled, ChildFailed, ParentRef, decode_event
from trioflow._model.turns import Cancelled, Failed
from trioflow.backends.abc import Backend
from trioflow.backends.commits import (
    ActivityResult,
    Closing,
    CommitFailure,
    InstanceCommit,
    NewActivity,
    NewInstance,
    Unit,
)
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import ActivityKey, ActivityTask, InstanceRecord, TakenInstance

__all__ = [
    "ALL",
    "CANCELLED",
    "DONE",
    "LEASE",
    "TERMINATED",
    "Case",
    "Stage",
    "child",
    "child_cancelled",
    "child_failed",
    "events",
    "key",
    "named",
    "new",
    "result",
    "seqs",
    "step",
]

# Short enough to be waited for where the store's clock cannot be set, seconds.
LEASE = 0.8

ALL = InstanceFilter()
CANCELLED = msgspec.json.encode(Cancelled("enough"))
DONE = Closing("completed", b'{"outcome":"completed","result":null}')
TERMINATED = msgspec.json.encode(Failed(Failure(type="Terminated", message="enough")))


class Stage:
    """One case's world.

    Args:
        backend: Open and empty.
        pass_time: Lets this many seconds pass on the store's clock.
        forget_worker: Deletes a worker's row and nothing else, past the contract; ``None`` if that
            cannot be done. Then nothing is shown of what belongs to no row.
        connect: Returns a new connection of the driver to the store's database, not in autocommit
            mode; ``None`` if the store takes no part in transactions of others.
        callers_overlap: Whether two transactions can write at the same time.
    """

    def __init__(
        self,
        backend: Backend,
        pass_time: Callable[[float], Awaitable[None]],
        *,
        forget_worker: Callable[[str], Awaitable[None]] | None = None,
        connect: Callable[[], Any] | None = None,
        callers_overlap: bool = True,
    ) -> None:
        self.backend = backend
        self.pass_time = pass_time
        self.forget_worker = forget_worker
        self.connect = connect
        self.callers_overlap = callers_overlap

    async def workers(self, *ids: str) -> None:
        """Register workers."""
        for id in ids:
            await self.backend.register_worker(id, f"{id} of the suite")

    async def create(self, *ids: str, **fields: Any) -> None:
        """Create instances; each becomes ready a little later than the one before."""
        for id in ids:
            assert await self.backend.create([new(id, **fields)]) == [True]
            await self.pass_time(0.01)

    async def take(
        self, worker: str = "w1", limit: int = 100, **options: Any
    ) -> list[TakenInstance]:
        """Take instances of the default queue."""
        queues = options.pop("queues", ("default",))
        return (await self.backend.take_instances(worker, queues, limit, **options)).instances

    async def take_ids(self, worker: str = "w1", limit: int = 100, **options: Any) -> list[str]:
        """Take instances; return their ids."""
        return [taken.id for taken in await self.take(worker, limit, **options)]

    async def hold(self, *ids: str, worker: str = "w1", **fields: Any) -> None:
        """Create instances that a worker has taken."""
        queues = (fields.get("queue", "default"),)
        await self.create(*ids, **fields)
        assert await self.take_ids(worker, queues=queues) == list(ids)

    async def take_commands(
        self, worker: str = "w1", limit: int = 100, **options: Any
    ) -> list[str]:
        """Take activities of the default queue; return the ids of their commands."""
        queues = options.pop("queues", ("default",))
        taken = await self.backend.take_activities(worker, queues, limit, **options)
        return [task.key.command for task in taken.activities]

    async def commit(self, *commits: InstanceCommit, worker: str = "w1") -> CommitFailure | None:
        """Commit one unit."""
        return (await self.backend.commit(worker, [Unit(instances=list(commits))]))[0]

    async def expire(self, *dead: str, survivors: Sequence[str] = ("w9",)) -> None:
        """Let the leases of all workers but the survivors expire, and reclaim what they held."""
        await self.pass_time(LEASE * 1.1)
        for worker in survivors:
            assert self.backend.heartbeat(worker).alive
        assert sorted(await self.backend.reclaim(LEASE)) == sorted(dead)

    async def suspects(self, worker: str = "w9", **options: Any) -> list[tuple[str, int]]:
        """Take a suspect of the default queue, if there is one; return its id and its deaths."""
        taken = await self.take(worker, suspect=True, **options)
        return [(one.id, one.deaths) for one in taken]

    async def stored(self, *commits: InstanceCommit, worker: str = "w1") -> None:
        """Commit one unit that must succeed."""
        assert await self.commit(*commits, worker=worker) is None

    async def record(self, instance: str) -> InstanceRecord:
        """Return the row of an instance that must be there."""
        found = await self.backend.get(instance)
        assert found is not None, f"{instance} is not stored"
        return found

    async def turns(self, instance: str, execution: int = 1) -> list[bytes]:
        """Return the stored turns of one execution."""
        return (await self.backend.load([(instance, execution)]))[0]

    async def task(self, instance: str, command: str) -> ActivityTask:
        """Return an unfinished activity."""
        tasks = await self.backend.activities(instance)
        return next(task for task in tasks if task.key.command == command)


Case = Callable[[Stage], Awaitable[None]]


def new(id: str, **fields: Any) -> NewInstance:
    """Return an instance to be created."""
    values: dict[str, Any] = {"workflow": "flow", "queue": "default", "input": b"[]"}
    return NewInstance(id, **{**values, **fields})


def step(id: str, number: int, **fields: Any) -> InstanceCommit:
    """Return a commit of one more turn of the first execution."""
    values: dict[str, Any] = {
        "execution": 1,
        "turns": [b'{"turn":%d}' % number],
        "events": 2 * (number + 1),
    }
    return InstanceCommit(id=id, number=number, **{**values, **fields})


def named(*commands: str, leased: bool = False, **fields: Any) -> list[NewActivity]:
    """Return activities to be stored."""
    values: dict[str, Any] = {"queue": "default", "input": b"[1]"}
    return [
        NewActivity(command, "act", leased=leased, **{**values, **fields}) for command in commands
    ]


def key(instance: str, command: str, execution: int = 1, life: str = "") -> ActivityKey:
    """Return the name of an activity."""
    return ActivityKey(instance, execution, command, life)


def result(
    instance: str, command: str, event: bytes, *, life: str = "", at: float | None = None
) -> Unit:
    """Return a unit with the end of an activity of a first execution."""
    return Unit(results=[ActivityResult(key(instance, command, life=life), event, at)])


def seqs(taken: TakenInstance) -> list[int]:
    """Return the numbers of all that is in the inbox of a taken instance."""
    return [message.seq for message in taken.inbox]


def events(taken: Sequence[TakenInstance]) -> list[bytes]:
    """Return the events in the inbox of the one instance that was taken."""
    (one,) = taken
    return [message.event for message in one.inbox]


def child_cancelled(taken: Sequence[TakenInstance]) -> tuple[str, str | None]:
    """Return which command's child was cancelled, and why, as the parent reads it."""
    (event,) = map(decode_event, events(taken))
    assert isinstance(event, ChildCancelled)
    return event.id, event.reason


def child_failed(taken: Sequence[TakenInstance]) -> tuple[str, str]:
    """Return which command's child failed, and the type of its failure, as the parent reads it."""
    (event,) = map(decode_event, events(taken))
    assert isinstance(event, ChildFailed)
    return event.id, event.failure.type


def child(
    id: str, parent: str, command: str = "0:0", *, parent_life: str = "", **fields: Any
) -> NewInstance:
    """Return a sub-workflow of a parent's first execution."""
    return new(id, parent=ParentRef(parent, 1, command, parent_life), **fields)
