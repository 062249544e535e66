"""What is read from a store: rows, what a worker has taken, and numbers.

Turns, events, inputs and outcomes are bytes here, as they are stored. What is written is in
`trioflow.backends.commits`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from trioflow._model.events import ParentRef

__all__ = [
    "COUNTED",
    "ENDED",
    "ActivityKey",
    "ActivityTask",
    "Effect",
    "EndedExecution",
    "Execution",
    "Heartbeat",
    "InstanceRecord",
    "QueueStats",
    "Reached",
    "RequestKey",
    "SchemaState",
    "SharedState",
    "Status",
    "StoredMessage",
    "TakenActivities",
    "TakenInstance",
    "TakenInstances",
    "TakenQuestion",
    "TakenQuestions",
    "Trouble",
    "WorkerInfo",
]

Status = Literal["running", "completed", "failed", "cancelled", "terminated", "suspended"]

ENDED: tuple[Status, ...] = ("completed", "failed", "cancelled", "terminated")
"""The statuses of instances that are over."""


Trouble = Literal["retrying", "unserved", "overdue", "suspended", "held"]
"""What may be wrong with an instance that has not ended; see `InstanceFilter`."""

COUNTED = 10_000
"""What a look at a whole store counts is counted so far: more are as many as these."""


class ActivityKey(msgspec.Struct, frozen=True):
    """Names one activity: the instance, its execution, the id of the command, and the life.

    ``life`` is that of the instance (`NewInstance.life`): another instance that took the id later
    has other activities, though execution and command are the same.
    """

    instance: str
    execution: int
    command: str
    life: str = ""


class RequestKey(msgspec.Struct, frozen=True):
    """Names a request that wants an answer: the instance, its life, and the request's own id."""

    instance: str
    life: str
    id: str


class SharedState(msgspec.Struct, frozen=True):
    """Who uses a lock, a semaphore or an event that instances share.

    Attributes:
        holders: The ids of the instances that hold a place, in the order of asking; one that holds
            several occurs as often.
        waiting: The ids of those that wait, in the order in which they get a place.
        is_set: Whether it is set, if it is an event.
    """

    holders: list[str]
    waiting: list[str]
    is_set: bool = False


class Reached(msgspec.Struct, frozen=True):
    """Which instance `Backend.create_and_send` has reached.

    Attributes:
        life: Its life.
        created: Whether it is the new one.
        repeated: Whether the request had been made before, so that nothing was delivered.
    """

    life: str
    created: bool = False
    repeated: bool = False


class TakenQuestion(msgspec.Struct, frozen=True):
    """A question that a worker is to answer, and of which execution.

    ``turns`` are those that are stored, and ``worker`` is who holds the instance, or ``None``.
    """

    id: str
    question: bytes
    instance: str
    life: str
    execution: int
    workflow: str
    queue: str
    priority: int
    turns: int
    worker: str | None


class TakenQuestions(msgspec.Struct, frozen=True):
    """What `take_questions` gives.

    ``waiting``: whether there is a question that nobody can answer yet, or that another worker has
    to: then it is worth to ask again soon, though no change is told.
    """

    questions: list[TakenQuestion]
    waiting: bool = False


class StoredMessage(msgspec.Struct, frozen=True):
    """One inbox row. ``at`` is when it came, by the store's clock; 0 in rows of older versions."""

    seq: int
    event: bytes
    at: float = 0.0


class TakenInstance(msgspec.Struct, frozen=True):
    """An instance leased to the taking worker, with everything unread.

    ``deaths`` is 0 for all but suspects (see `Backend.reclaim`); of a suspect it is the number of
    workers that died while they had taken it in isolation, this time included.
    """

    id: str
    execution: int
    workflow: str
    queue: str
    input: bytes
    parent: ParentRef | None
    metadata: bytes
    carried: bytes
    turns: int
    events: int
    ready_at: float
    wake_at: float | None
    inbox: list[StoredMessage]
    priority: int = 0
    life: str = ""
    deaths: int = 0
    created_at: float = 0.0
    start_at: float = 0.0
    options: bytes = b""
    attributes: bytes = b""


class TakenInstances(msgspec.Struct, frozen=True):
    """What `take_instances` gives.

    ``next_at``: when it is worth asking again, or ``None``. ``suspects``: whether a suspect is
    ready and free now, which `take_instances` gives only when it is asked for one.
    """

    instances: list[TakenInstance]
    next_at: float | None
    suspects: bool = False


class ActivityTask(msgspec.Struct, frozen=True):
    """An activity leased to a worker. ``attempt`` counts from 1.

    ``failure`` is what `ActivityRetry` gave with the last attempt, or ``b""``; ``progress`` is what
    `ActivityProgress` gave last, in whatever attempt, or ``b""``. ``next_at`` is known to those who
    look at what is unfinished: since when, or from when on, it may begin; ``None`` if a worker
    holds it, or if this was leased.
    """

    key: ActivityKey
    activity: str
    queue: str
    input: bytes
    options: bytes
    attempt: int
    scheduled_at: float
    failure: bytes = b""
    priority: int = 0
    progress: bytes = b""
    limit_key: str = ""
    next_at: float | None = None


class TakenActivities(msgspec.Struct, frozen=True):
    """What `take_activities` gives. ``next_at``: when it is worth asking again, or ``None``.

    ``limited``: whether something waits until one ends elsewhere, which nobody tells; it is worth
    asking again after a while. ``limits`` is the version of the limits that were applied.
    """

    activities: list[ActivityTask]
    next_at: float | None
    limited: bool = False
    limits: str = ""


class Heartbeat(msgspec.Struct, frozen=True):
    """The answer to a heartbeat.

    Attributes:
        alive: False if the worker's row is gone: what it held belongs to others.
        cancelled: Activities leased to this worker whose cancellation was asked for.
        events: For each of them the event that it was asked for with (`CancelledActivity`), ``b""``
            if its instance is no more. May be empty, from a store that does not tell.
    """

    alive: bool
    cancelled: list[ActivityKey] = []
    events: list[bytes] = []

    def marks(self) -> dict[ActivityKey, bytes]:
        """Return the activities that are to be cancelled, each with its event."""
        events = self.events or [b""] * len(self.cancelled)
        return dict(zip(self.cancelled, events, strict=True))


class Execution(msgspec.Struct, frozen=True):
    """One execution's history: its number and its turns in their stored form."""

    number: int
    turns: list[bytes]


class InstanceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An instance's row.

    Attributes:
        outcome: The stored form of the outcome; of the report while suspended; ``b""`` while
            running.
        custom_status: The value last given to ``set_status``, one JSON document, or ``b""``.
        worker: The id of the worker that holds it, or ``None``.
    """

    id: str
    execution: int
    workflow: str
    queue: str
    status: Status
    parent: ParentRef | None
    turns: int
    events: int
    unread: int
    ready_at: float | None
    worker: str | None
    input: bytes
    metadata: bytes
    outcome: bytes
    custom_status: bytes
    created_at: float
    finished_at: float | None
    priority: int = 0
    life: str = ""
    start_at: float = 0.0
    attributes: bytes = b""


class EndedExecution(msgspec.Struct, frozen=True):
    """An execution that has ended, and whose instance's row says something newer by now.

    Attributes:
        how: ``"continued"`` if the next execution of the same life follows it, ``"reset"`` if that
            has taken its place by `Backend.reset`, ``"ended"`` if its life ended with it and
            another one has taken the id.
        record: The instance's row when it ended, without what was to be done then. ``finished_at``
            is when it ended, or was left by a reset. ``input`` and ``metadata`` are kept only of
            one that ended.
    """

    how: Literal["continued", "reset", "ended"]
    record: InstanceRecord


class QueueStats(msgspec.Struct, frozen=True, kw_only=True):
    """One queue's numbers.

    Attributes:
        running: Instances that have not finished (suspended ones not counted).
        pending_instances: Those of them that are ready and not held by a worker.
        pending_activities: Activities that wait for a worker, retries included.
        running_activities: Activities that a worker holds.
        workers: Living workers that take the queue's instances.
        activity_workers: Living workers that take the queue's activities.
        oldest_instance_at: Since when the longest ready one of ``pending_instances`` is ready,
            epoch seconds by the store's clock; ``None`` if there is none.
        oldest_activity_at: Since when the longest visible one of ``pending_activities`` is visible;
            ``None`` if none is visible yet.
    """

    queue: str
    running: int = 0
    suspended: int = 0
    pending_instances: int = 0
    pending_activities: int = 0
    running_activities: int = 0
    workers: int = 0
    activity_workers: int = 0
    oldest_instance_at: float | None = None
    oldest_activity_at: float | None = None


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that has a row in the store.

    Attributes:
        id: A random one, fresh at each start.
        name: What it is called, for people.
        queues: Whose instances it takes, by name; ``None`` if it does not say, as an older
            trioflow, and then it may be any.
        activity_queues: Whose activities it takes, likewise.
        lease: For how many seconds a heartbeat shows that it lives; ``None`` for as long as its row
            is there.
        heartbeat_at: When the last one came, by the store's clock, epoch seconds.
        alive: Whether that is not longer ago than the lease. What another one holds is soon taken
            over, if any worker runs.
        instances: How many instances it holds, counted up to 10,000.
        activities: How many activities, likewise.
        started_at: When its row was stored, epoch seconds; ``None`` if an older trioflow did it.
        version: Its trioflow's version; ``""`` likewise.
    """

    id: str
    name: str
    queues: list[str] | None
    activity_queues: list[str] | None
    lease: float | None
    heartbeat_at: float
    alive: bool
    instances: int = 0
    activities: int = 0
    started_at: float | None = None
    version: str = ""


class SchemaState(msgspec.Struct, frozen=True):
    """Which version of its schema a store has.

    Attributes:
        stored: That one; ``None`` if the store has not been made yet.
        latest: What this trioflow needs.
    """

    stored: str | None
    latest: str

    @property
    def is_latest(self) -> bool:
        """Whether there is nothing to migrate."""
        return self.stored == self.latest


Effect = Literal["done", "not found", "finished", "unchanged"]
