"""What crosses the store contract: rows as they are read, and commits as they are written.

Stores see turns, events, inputs and outcomes as bytes. They look inside only where `Backend` says
so: who asked for a cancel, and what a parent is told of a child that the store itself ends.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from trioflow._model.attributes import AttributeCondition
from trioflow._model.events import ParentRef

__all__ = [
    "ENDED",
    "ActivityKey",
    "ActivityProgress",
    "ActivityResult",
    "ActivityRetry",
    "ActivityTask",
    "Answer",
    "CancelledActivity",
    "Closing",
    "CommitFailure",
    "Comparison",
    "Execution",
    "Group",
    "Heartbeat",
    "InstanceCommit",
    "InstanceFilter",
    "InstanceRecord",
    "KeptSlot",
    "Message",
    "NewActivity",
    "NewInstance",
    "NewQuestion",
    "QueueStats",
    "Reached",
    "RequestKey",
    "Status",
    "StoredMessage",
    "TakenActivities",
    "TakenInstance",
    "TakenInstances",
    "TakenQuestion",
    "TakenQuestions",
    "Unit",
    "Update",
]

Status = Literal["running", "completed", "failed", "cancelled", "terminated", "suspended"]

ENDED: tuple[Status, ...] = ("completed", "failed", "cancelled", "terminated")
"""The statuses of instances that are over."""


class ActivityKey(msgspec.Struct, frozen=True):
    """Names one activity: the instance, its execution, the id of the command, and the life.

    ``life`` is that of the instance (`NewInstance.life`): another instance that took the id later
    has other activities, though execution and command are the same.
    """

    instance: str
    execution: int
    command: str
    life: str = ""


class NewInstance(msgspec.Struct, frozen=True):
    """An instance to be created. ``input`` is one JSON document; so is ``metadata``, or ``b""``.

    ``priority`` is a whole number from -100 to 100; a larger one is taken first. ``life`` is
    128 random bits in hexadecimal, made by whoever creates the instance: it tells this instance
    from every other one that has, had or will have the same id, in any store. It stays the same
    through ``continue_as_new``. Instances of stores that knew no lives have ``""``.

    With ``start_at`` (epoch seconds; 0 for at once) the instance is not ready before that time,
    whatever comes into its inbox; it is not born leased then. ``options`` is the stored form of
    `StartOptions`, or ``b""``; ``attributes`` that of attributes (`trioflow._model.attributes`).
    """

    id: str
    workflow: str
    queue: str
    input: bytes
    parent: ParentRef | None = None
    metadata: bytes = b""
    priority: int = 0
    life: str = ""
    start_at: float = 0.0
    options: bytes = b""
    attributes: bytes = b""


class NewActivity(msgspec.Struct, frozen=True):
    """An activity to be stored. ``leased``: born as the committing worker's own.

    ``options`` is the stored form of `ActivityOptions`, or ``b""``; ``priority`` is as in
    `NewInstance`. ``limit_key`` stands for the value by which activities take turns
    (`Limits.key_of`), ``""`` where they do not.
    """

    command: str
    activity: str
    queue: str
    input: bytes
    options: bytes = b""
    leased: bool = True
    priority: int = 0
    limit_key: str = ""


class Message(msgspec.Struct, frozen=True):
    """An event for another instance's inbox.

    Delivered if the target is running or suspended and, where ``execution`` and ``life`` are
    given, still in that execution and of that life; otherwise dropped. With ``sent`` and
    ``failed`` the sender is told: the one or the other event is put into its own inbox, in the
    same transaction.

    ``unstarted`` is for a cancel: the stored form of a `trioflow._model.turns.Cancelled`. A target
    that is running, has no turns in its first execution, and is held by nobody, is then ended with
    that outcome in place of the delivery, as `Backend.cancel` does and on the same condition.

    With ``new`` there is no event: that instance is created, as `Backend.create` does it with
    ``reuse`` and ``replacing``. ``sent`` says that it was, ``failed`` that its id is taken.
    """

    instance: str
    event: bytes
    execution: int | None = None
    sent: bytes = b""
    failed: bytes = b""
    life: str | None = None
    unstarted: bytes = b""
    new: NewInstance | None = None
    reuse: bool = True
    replacing: bytes | None = None


class CancelledActivity(msgspec.Struct, frozen=True):
    """A request to cancel an activity.

    If no worker runs it, its row is deleted and ``event`` is put into the instance's inbox. If one
    does, the committing one included, the row is marked, and `Heartbeat.cancelled` tells that
    worker; ``event`` is kept for the case that the worker dies or asks for a retry. If it has
    ended, nothing happens.
    """

    command: str
    event: bytes


class RequestKey(msgspec.Struct, frozen=True):
    """Names a request that wants an answer: the instance, its life, and the request's own id."""

    instance: str
    life: str
    id: str


class Answer(msgspec.Struct, frozen=True):
    """The answer of an instance to the request of that id."""

    request: str
    data: bytes


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


class NewQuestion(msgspec.Struct, frozen=True):
    """What a client wants to know of an instance, and that is no part of its history.

    Attributes:
        id: A fresh random id.
        instance: The instance.
        life: Its life.
        question: For the worker that answers.
        expires_at: When nobody waits for the answer any more, by the store's clock.
    """

    id: str
    instance: str
    life: str
    question: bytes
    expires_at: float


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


class Closing(msgspec.Struct, frozen=True):
    """The end of an instance: its status and the stored form of its outcome."""

    status: Literal["completed", "failed", "cancelled"]
    outcome: bytes


class InstanceCommit(msgspec.Struct, kw_only=True):
    """All that one unit says of one instance.

    Attributes:
        id: The instance.
        execution: Which must be its current one.
        life: Which must be its life; with ``new``, that of ``new``.
        new: Set if this commit creates the instance; then ``number`` is 0.
        number: How many turns must be stored of this execution before.
        turns: The turns to append, in their stored form; may be empty.
        events: The size of the execution's history after them (events and commands); ignored
            if there are no ``turns``.
        consumed: ``seq`` of the inbox rows that they consumed.
        finished: Commands whose activities' rows are to be deleted: their results are in the
            turns.
        activities: Activities to be stored.
        cancelled: Activities to be cancelled.
        messages: Events for other instances.
        leased: Whether the committing worker keeps the instance. If not, it is free for all,
            with the committing worker as its ``sticky_worker``.
        wake_at: When the instance has something to do though no event comes, or ``None``.
        due: The instance has something to do at once (given up unfinished, or created for others).
            An execution without turns that is not kept (``new`` or ``continued``) always has.
        status: A new custom status (one JSON document), or ``None`` to leave it.
        closing: Set if the instance ends. Then ``consumed`` must be all of its inbox: a turn that
            ends an instance and has not seen a message is not stored.
        continued: Set to the next execution's input (one JSON document) if this execution ends
            and the next begins. ``turns`` and ``events`` of the row start again at 0.
        carried: With ``continued``: signals that go over into it, stored form (a JSON array), or
            ``b""``.
        suspended: Set to the stored report if the instance is to be suspended.
        attributes: Set to all attributes that the instance has from now on, in their stored form,
            if they changed.
        answers: Answers to requests that were made of its life. A request has one answer, the
            first; what was not requested is not answered.
    """

    id: str
    execution: int
    number: int
    new: NewInstance | None = None
    turns: list[bytes] = []
    events: int = 0
    consumed: list[int] = []
    finished: list[str] = []
    activities: list[NewActivity] = []
    cancelled: list[CancelledActivity] = []
    messages: list[Message] = []
    leased: bool = True
    wake_at: float | None = None
    due: bool = False
    status: bytes | None = None
    closing: Closing | None = None
    continued: bytes | None = None
    carried: bytes = b""
    suspended: bytes | None = None
    life: str = ""
    attributes: bytes | None = None
    answers: list[Answer] = []


class ActivityProgress(msgspec.Struct, frozen=True):
    """How far an activity is: kept in its row for clients and for the next attempt.

    ``progress`` is the stored form of a `trioflow._model.progress.Progress`.
    """

    key: ActivityKey
    progress: bytes


class ActivityResult(msgspec.Struct, frozen=True):
    """The end of an activity whose instance is not at hand: its event goes to the inbox.

    ``at`` is when its worker had it, by the store's clock; ``None`` for now.
    """

    key: ActivityKey
    event: bytes
    at: float | None = None


class ActivityRetry(msgspec.Struct, frozen=True):
    """An activity given back: to be attempted (again) from ``visible_at`` on, by anyone.

    ``failure`` is the stored form of the last attempt's failure, or ``b""``.
    """

    key: ActivityKey
    attempt: int
    visible_at: float
    failure: bytes = b""


class KeptSlot(msgspec.Struct, frozen=True):
    """A place under the limits of a queue and an activity, though no activity is leased for it.

    An attempt that was given up keeps its place until its code has ended, or its worker: its row
    may be gone, or be somebody else's next attempt. ``id`` is random.
    """

    id: str
    queue: str
    activity: str
    limit_key: str = ""


class Unit(msgspec.Struct, kw_only=True):
    """Things that stand or fall together within a batch.

    ``kept`` are places that the worker keeps from now on, ``freed`` the ids of those that it gives
    back.
    """

    instances: list[InstanceCommit] = []
    results: list[ActivityResult] = []
    retries: list[ActivityRetry] = []
    progress: list[ActivityProgress] = []
    kept: list[KeptSlot] = []
    freed: list[str] = []


class CommitFailure(msgspec.Struct, frozen=True):
    """Why a unit was not committed. Nothing of it was stored.

    Attributes:
        taken_ids: Ids of ``new`` instances that are already running.
        lost: Ids of instances that are not what the commit expected: another worker's, another
            turn or life, finished, terminated or removed.
        unseen: Ids of instances that would have ended with a message in their inbox that they had
            not consumed. They are still the worker's, and ready: `Backend.take_instances` gives
            them again with all of their inbox.
        limited: Ids of instances that ask for what a limit does not allow, which the worker perhaps
            did not know of: an activity that is born leased, or with the wrong kind of key, or a
            new instance that is more than free.
    """

    taken_ids: list[str] = []
    lost: list[str] = []
    unseen: list[str] = []
    limited: list[str] = []


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
    `ActivityProgress` gave last, in whatever attempt, or ``b""``.
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


class Comparison(NamedTuple):
    """What a filter demands of one column of an instance's row."""

    column: str
    how: Literal["=", "<", ">"]
    value: str | float


class InstanceFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which instances are meant; every field given must hold.

    A field that is added here needs a column of its name in every store, and nothing else: stores
    apply what `comparisons` returns. (``attributes`` they look up in an index of their own.)

    Attributes:
        id_prefix: Ids that begin so.
        parent: Ids of the parent; ``""`` for those that have none.
        finished_before: Finished, and before that time.
        attributes: What must hold of the attributes.
    """

    status: tuple[Status, ...] = ()
    workflow: str | None = None
    queue: str | None = None
    parent: str | None = None
    id_prefix: str | None = None
    created_before: float | None = None
    created_after: float | None = None
    finished_before: float | None = None
    attributes: tuple[AttributeCondition, ...] = ()

    def comparisons(self) -> list[Comparison]:
        """Return what the fields demand; ``status``, ``id_prefix`` and ``attributes`` left out.

        The empty ``parent`` is equal to one that is missing.
        """
        given = [(name, getattr(self, name)) for name in _COMPARED_FIELDS]
        return [
            Comparison(*_COMPARED.get(name, (name, "=")), value)
            for name, value in given
            if value is not None
        ]


# Times; whatever else is given must equal the column of its name.
_COMPARED: dict[str, tuple[str, Literal["<", ">"]]] = {
    "created_before": ("created_at", "<"),
    "created_after": ("created_at", ">"),
    "finished_before": ("finished_at", "<"),
}
_COMPARED_FIELDS = [
    name
    for name in InstanceFilter.__struct_fields__
    if name not in {"status", "id_prefix", "attributes"}
]


class Group(NamedTuple):
    """How many instances have a value: that of a column, or of an attribute.

    For an attribute ``name`` is that of its rows in the index, which tells the kind of the value,
    otherwise it is empty; see `trioflow._model.attributes`.
    """

    name: str
    value: str
    number: int


class QueueStats(msgspec.Struct, frozen=True, kw_only=True):
    """One queue's numbers.

    Attributes:
        running: Instances that have not finished (suspended ones not counted).
        pending_instances: Those of them that are ready and not held by a worker.
        pending_activities: Activities that wait for a worker, retries included.
        running_activities: Activities that a worker holds.
        workers: Living workers that take the queue's instances.
        activity_workers: Living workers that take the queue's activities.
    """

    queue: str
    running: int = 0
    suspended: int = 0
    pending_instances: int = 0
    pending_activities: int = 0
    running_activities: int = 0
    workers: int = 0
    activity_workers: int = 0


Update = Literal["done", "not found", "finished", "unchanged"]
