"""What crosses the store contract when all that a store holds moves to another one.

A store that can take part is a `MovableBackend`. The source and the destination of a move are
*fenced*: they refuse all work, whoever asks for it, and say where to look instead. So what is read
from the source cannot change any more, and nothing begins at the destination before all is there.
`trioflow._client.moving` says in which order that is done.

Rows cross as they are: turns, events, inputs and outcomes as bytes, times as seconds since the
epoch. What belongs to one store alone is left out: numbers of rows, leases, questions, and workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from trioflow._model.limits import Limit
from trioflow.backends.abc import Backend
from trioflow.backends.records import EndedExecution, Execution, InstanceRecord

__all__ = [
    "Fence",
    "MovableBackend",
    "MovedActivity",
    "MovedClaim",
    "MovedCommon",
    "MovedInstance",
    "MovedLimit",
    "MovedMessage",
    "MovedRequest",
    "MovedShared",
    "Refusal",
    "closed_again",
    "fence_text",
    "opened",
]


class Fence(msgspec.Struct, frozen=True, kw_only=True):
    """What a store knows of the last move that it took part in.

    Attributes:
        move: A random id, the same at both ends.
        role: Which end this store is.
        other: The store at the other end, for people; without a password.
        at: When it was fenced, by its own clock.
        unfinished_only: Whether the move leaves finished instances behind.
        closed: Whether it refuses all work.
        completed: Of a destination, whether all was there once and it was open to work. Then it may
            hold what did not come from the move.
        clearing: Of a destination, whether what the move has put there is being removed. Then it
            takes nothing of the move any more, and opens only when the move is forgotten.
    """

    move: str
    role: Literal["source", "destination"]
    other: str
    at: float
    unfinished_only: bool = False
    closed: bool = True
    completed: bool = False
    clearing: bool = False


def fence_text(fence: Fence) -> str:
    """Return what a closed store says to those who want something of it."""
    if fence.role == "source":
        return (
            f"the store is closed: what it held is moved to {fence.other}; give workers and "
            "clients that one"
        )
    return (
        f"the store is not open yet: it is being filled by a move from {fence.other}; try again "
        "when 'trioflow move' has ended"
    )


def closed_again(before: Fence | None, wanted: Fence) -> Fence | None:
    """Return what a store is to know when it is fenced; ``None`` if it is not to be closed.

    That is so if another move has closed it; and if that move is complete, which the fence that is
    wanted does not know. So a slow call does not close again what is in use.

    Args:
        before: What it knows.
        wanted: The fence that it is given.
    """
    if before is None:
        return wanted
    if (before.move, before.role) == (wanted.move, wanted.role):
        if before.completed and not wanted.completed:
            return None
        return before if before.closed else msgspec.structs.replace(before, closed=True)
    return None if before.closed else wanted


def opened(before: Fence) -> Fence:
    """Return what a store is to know when its fence is lifted."""
    completed = before.completed or before.role == "destination"
    return msgspec.structs.replace(before, closed=False, completed=completed)


class MovedMessage(msgspec.Struct, frozen=True):
    """One row of an inbox. ``execution`` is the one that it was sent for, ``None`` for any."""

    event: bytes
    at: float
    execution: int | None = None


class MovedActivity(msgspec.Struct, frozen=True, kw_only=True):
    """The row of an activity that no worker runs."""

    execution: int
    command: str
    life: str
    activity: str
    queue: str
    input: bytes
    options: bytes
    attempt: int
    visible_at: float
    scheduled_at: float
    failure: bytes = b""
    priority: int = 0
    progress: bytes = b""
    limit_key: str = ""


class MovedRequest(msgspec.Struct, frozen=True):
    """A request that was made of a life of an instance; ``answer`` is ``None`` until it has one."""

    life: str
    id: str
    answer: bytes | None = None


class MovedInstance(msgspec.Struct, frozen=True, kw_only=True):
    """An instance with all that belongs to it.

    Attributes:
        record: Its row. Nobody holds it, and ``unread`` is the size of the inbox.
        wake_at: See `InstanceCommit.wake_at`.
        carried: See `InstanceCommit.carried`.
        first_execution: The execution with which its life began.
        options: See `NewInstance`.
        deaths: Of a suspect, how many workers died with it (see `Backend.reclaim`); ``None`` of
            any other.
        executions: The turns of all its executions, in order, without those that have none.
        inbox: In the order of arrival.
        activities: By execution and command.
        ended: Its ended executions, in order.
        requests: Of all its lives, by life and id.
    """

    record: InstanceRecord
    wake_at: float | None = None
    carried: bytes = b""
    first_execution: int = 1
    options: bytes = b""
    deaths: int | None = None
    executions: list[Execution] = []
    inbox: list[MovedMessage] = []
    activities: list[MovedActivity] = []
    ended: list[EndedExecution] = []
    requests: list[MovedRequest] = []

    @property
    def id(self) -> str:
        """Its id."""
        return self.record.id


class MovedClaim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim of an execution on something that instances share; see `SharedClaim`."""

    instance: str
    life: str
    execution: int
    command: str
    size: int
    granted: bool
    event: bytes


class MovedShared(msgspec.Struct, frozen=True):
    """Something that instances share: its claims in the order of asking, and whether it is set."""

    name: str
    is_set: bool
    claims: list[MovedClaim]


class MovedLimit(msgspec.Struct, frozen=True):
    """A limit, what began in each part of time, and the key that was given to last, by queue."""

    limit: Limit
    begun: list[tuple[int, int]]
    turns: dict[str, str]


class MovedCommon(msgspec.Struct, frozen=True):
    """What belongs to no instance: what they share, by name, and limits, by kind and name."""

    shared: list[MovedShared]
    limits: list[MovedLimit]


class Refusal(msgspec.Struct, frozen=True):
    """Why a store would not take an instance."""

    instance: str
    why: str


class MovableBackend(Backend, Protocol):
    """A store that can be the source or the destination of a move."""

    async def fence(self, fence: Fence) -> Fence | None:
        """Close the store to all work, and end all workers, in one step.

        From then on no worker is registered, and nothing is created, sent, answered, changed or
        removed: who tries gets `StoreFenced`. Calls that are under way are either done before or
        get the same. Reads go on, and those who wait for changes are woken.

        The rows of workers are deleted, so that a worker that runs cannot commit or take anything
        (`LeaseLost`). What they held is freed as `release_worker` does it, but ``attempt`` of their
        activities is one higher: they may have begun.

        Returns:
            ``None`` if it is done, also if it was before, for the same move and role (``completed``
            and ``clearing`` stay as they were). Otherwise what the store knows, and nothing is
            done: the closed fence of another one, or that this move is ``completed`` while the
            fence that is given is not.

        Raises:
            BackendUnavailable: It cannot be done now; or the user may not do it.
            BackendError: There are workers that would not be kept out, of an older trioflow.
                Nothing is done.
        """
        ...

    async def lift_fence(self, move: str, *, forget: bool = False) -> bool:
        """Open the store again; False if it is not closed for that move, or is being cleared.

        The fence stays known, as one that is not ``closed``, and ``completed`` if this is the
        destination. With ``forget`` it does not; and then one that is being cleared is opened, too.
        """
        ...

    async def fenced(self) -> Fence | None:
        """Return the fence of the last move, closed or not."""
        ...

    async def export(
        self, *, limit: int, after: str | None = None, unfinished_only: bool = False
    ) -> list[MovedInstance]:
        """Return up to ``limit`` instances, oldest first; fewer if they are large.

        Args:
            limit: How many at most.
            after: The last id of the page before.
            unfinished_only: Whether finished ones are left out.

        Raises:
            InstanceNotFound: ``after`` is not there.
            CorruptStore: One of them cannot be read; the message names it.
        """
        ...

    async def export_common(self) -> MovedCommon:
        """Return what belongs to no instance; of claims those that can still be used."""
        ...

    async def import_instances(self, move: str, instances: Sequence[MovedInstance]) -> bool:
        """Add instances in their order; those of which the id is there are left as they are.

        Returns:
            False if the store is not the closed destination of that move, or is being cleared; then
            nothing is done.

        Raises:
            DataRefused: The store does not take one of them. Those before it may have been added.
        """
        ...

    async def check_import(self, instances: Sequence[MovedInstance]) -> list[Refusal]:
        """Return which instances `import_instances` would not add, and why; add nothing."""
        ...

    async def import_common(self, move: str, common: MovedCommon) -> bool:
        """Put in place what belongs to no instance, when all instances are there.

        It takes the place of whatever is shared there; limits of other names are left alone. False
        as with `import_instances`.
        """
        ...

    async def clear(self, move: str) -> bool:
        """Remove everything from a store that is the closed destination of that move; else False.

        Limits are removed, too. Before anything else its fence is made one that is ``clearing``,
        and not ``completed``, so that it is known what was being done if that breaks off.
        """
        ...
