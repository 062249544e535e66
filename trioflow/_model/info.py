"""What workflows, activities and operators are told: info, and reports of suspensions."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import msgspec

from trioflow._model.events import ParentRef

__all__ = [
    "ActivityInfo",
    "Identity",
    "Info",
    "SuspendReport",
    "TaskInfo",
    "current_activity",
    "current_connection",
    "current_heartbeat",
]


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """The running workflow's ids, queue and size of history, as ``info()`` returns them.

    Attributes:
        id: The instance's id.
        execution: Counts from 1; ``continue_as_new`` begins the next.
        workflow: The workflow's name.
        queue: Where the instance runs.
        priority: The larger, the sooner it is taken; its activities and sub-workflows inherit it.
        parent: Who started it, or ``None``.
        metadata: What the client's and the parent's propagators put there.
        started_at: The first turn's time, epoch seconds.
        turns: Turns before this one.
        events: Size of the history before this turn: events and commands.
        max_events: Size at which the instance is suspended.
        scheduled_at: The time for which it was due, epoch seconds, if a schedule has begun it: that
            of its calendar, without jitter, or the moment of a ``trigger()``.
    """

    id: str
    execution: int
    workflow: str
    queue: str
    parent: ParentRef | None
    metadata: dict[str, str]
    started_at: float
    turns: int
    events: int
    max_events: int
    priority: int = 0
    scheduled_at: float | None = None

    @property
    def should_continue_as_new(self) -> bool:
        """True once the history has reached 80 % of its limit."""
        return self.events >= self.max_events * 0.8


class ActivityInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The running activity's call and attempt, as ``activity_info()`` returns them.

    Attributes:
        activity: The activity's name.
        instance: The id of the instance that called it.
        execution: The instance's execution.
        command: The id of the call, ``"0.2:3"``.
        attempt: Counts from 1.
        scheduled_at: When it was called, epoch seconds.
        queue: Where it runs.
        life: What tells the instance from others that had or will have its id; ``""`` for one that
            was begun by a version that knew no lives.
        metadata: What came with the call: that of the instance, and what propagators added.
        heartbeat: What an earlier attempt last gave to ``heartbeat()``, as plain JSON data;
            ``None`` if none gave anything.
    """

    activity: str
    instance: str
    execution: int
    command: str
    attempt: int
    scheduled_at: float
    queue: str
    life: str = ""
    metadata: dict[str, str] = {}
    heartbeat: Any = None

    @property
    def idempotency_key(self) -> str:
        """A key that is the same for every attempt of this call, and differs for every other call.

        It cannot be guessed from the instance's id.
        """
        return f"{self.life or self.instance}/{self.execution}/{self.command}"


class Identity:
    """Names an execution of an instance, with what does not change while it lasts."""

    __slots__ = ("execution", "id", "life", "priority", "queue")

    def __init__(
        self, id: str, execution: int, queue: str, priority: int = 0, life: str = ""
    ) -> None:
        self.id = id
        self.life = life
        self.execution = execution
        self.queue = queue
        self.priority = priority


current_activity: ContextVar[ActivityInfo | None] = ContextVar("trioflow_activity", default=None)

current_heartbeat: ContextVar[Callable[[object], None] | None] = ContextVar(
    "trioflow_heartbeat", default=None
)
"""Takes what the running activity gives to ``heartbeat()``, in whatever thread."""

current_connection: ContextVar[Any] = ContextVar("trioflow_connection", default=None)
"""What `activity_connection` returns: a driver's connection, in the store's transaction."""


class TaskInfo(msgspec.Struct, frozen=True):
    """A task of a workflow between two turns.

    Attributes:
        path: Its place in the tree: ``"0"`` for the workflow's own task, ``"0.2"`` for the third
            task that this one spawned.
        parent: The path of the task that spawned it, ``None`` for the first.
        name: Its name, mostly that of its function.
        waits_for: What it waits for, in words: an activity, a sub-workflow, a signal, the time, its
            nursery's tasks, or the call of trio or anyio in which it waits.
        line: ``file:line`` of the user's code at which it waits, ``""`` if there is none.
        until: The earliest deadline of the scopes around it, epoch seconds; ``None`` for none.
        since: The time of the turn in which it ran last, epoch seconds: so long it has waited
            there. ``None`` if a worker of an older version has answered.
    """

    path: str
    parent: str | None
    name: str
    waits_for: str
    line: str
    until: float | None = None
    since: float | None = None


class SuspendReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an instance was suspended, and what to do.

    Attributes:
        kind: ``"diverged"``: the code gave other commands than the history. ``"history limit"``:
            the history has reached ``max_events``. ``"unreadable history"``: stored turns or
            messages cannot be read, are missing, or do not fit what is counted.
            ``"unreadable row"``: the instance's row is damaged. ``"undecodable"``: a stored
            argument, result or signal does not fit the present code or codec.
            ``"does not wait"``: a turn made more task steps than it may.
            ``"crashes its worker"``: workers died one after the other while they stepped it and
            nothing else. ``"refused by the store"``: the store does not take what a turn gives.
            ``"newer rules"``: a newer trioflow began it. ``"engine"``: trioflow itself failed on
            it. ``"paused"``: somebody asked for it. ``"raised"``: the workflow raised one of its
            ``suspend_on``.
        message: All of it, for people.
        turn: The number of the turn, from 0.
        task: The path of the task, ``"0.2"``.
        recorded: What the history has there: kind, name and id, or ``""`` for nothing.
        current: What the code gave instead, or ``""`` for nothing.
        line: ``file:line`` of the workflow's code, where it could be found.
        reason: What whoever paused it said.
        patch: Where the code gave other commands: a name for the patch that would let this history
            go on (``if patched("…"):``), or that of the patch whose call is missing; ``""`` where
            no patch would help.
        failed: Where the workflow raised the failure of an activity or a sub-workflow: the ids of
            those calls. A resume lets them be tried again.
        began: Where the workflow raised something that had happened in an earlier turn, and has
            cancelled others since, as a nursery does: the number of that turn. A reset goes back to
            before it.
    """

    kind: str
    message: str
    turn: int = 0
    task: str = ""
    recorded: str = ""
    current: str = ""
    line: str = ""
    reason: str | None = None
    patch: str = ""
    failed: tuple[str, ...] = ()
    began: int | None = None
