"""What is written to a store: new instances, and commits.

Turns, events, inputs and outcomes are bytes here, as they are stored. Stores look inside only where
`Backend` says so: who asked for a cancel, and what a parent is told of a child that the store
itself ends.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from trioflow._model.events import ParentRef
from trioflow.backends.records import ActivityKey

__all__ = [
    "ActivityProgress",
    "ActivityResult",
    "ActivityRetry",
    "Answer",
    "CancelledActivity",
    "Closing",
    "CommitFailure",
    "InstanceCommit",
    "KeptSlot",
    "Message",
    "NewActivity",
    "NewInstance",
    "NewQuestion",
    "SharedClaim",
    "Unit",
]


class NewInstance(msgspec.Struct, frozen=True):
    """An instance to be created. ``input`` is one JSON document; so is ``metadata``, or ``b""``.

    ``priority`` is a whole number from -100 to 100; a larger one is taken first. ``life`` is
    128 random bits in hexadecimal, made by whoever creates the instance: it tells this instance
    from every other one that has, had or will have the same id, in any store. It stays the same
    through ``continue_as_new``. Instances of stores that knew no lives have ``""``.

    With ``start_at`` (epoch seconds; 0 for at once) the instance is not ready before that time,
    whatever comes into its inbox; it is not born leased then. ``options`` is the stored form of
    `StartOptions`, or ``b""``; ``attributes`` that of attributes (`trioflow._model.attributes`).

    ``timeout`` is how many seconds it may take, as far as its creator knows; 0 for any. Until it
    has made a turn its ``wake_at`` is the end of that time, counted from its creation or from
    ``start_at``. Then it may be taken though there is no place for it under a limit.
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
    timeout: float = 0.0

    def first_wake_at(self, now: float) -> float | None:
        """Return the ``wake_at`` that it has until its first turn, if it is created ``now``."""
        return max(now, self.start_at) + self.timeout if self.timeout else None


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


class SharedClaim(msgspec.Struct, frozen=True):
    """What an execution asks of something that instances share.

    ``"take"`` waits for one of ``size`` places; with a ``size`` of 0, until it is set. ``"free"``
    gives a place back, or withdraws the wait, of the same ``command`` of the same execution.
    ``"set"`` and ``"clear"`` say whether it is set.

    Attributes:
        how: Which of these.
        name: Of what is shared, its kind included.
        command: Names the claim within the execution.
        size: How many places there are, as this one sees it.
    """

    how: Literal["take", "free", "set", "clear"]
    name: str
    command: str
    size: int = 1


class Message(msgspec.Struct, frozen=True):
    """An event for another instance's inbox.

    Delivered if the target is running or suspended and, where ``execution`` and ``life`` are
    given, still in that execution and of that life; otherwise dropped. With ``sent`` and
    ``failed`` the sender is told: the one or the other event is put into its own inbox, in the
    same transaction.

    ``unstarted`` is for a cancel: the stored form of a `trioflow._model.turns.Cancelled`. A target
    that is running, has no turns in its first execution, and is held by nobody, is then ended with
    that outcome in place of the delivery, as `Backend.cancel` does and on the same condition.

    With ``terminated`` there is no event: the target is ended, as `Backend.terminate` does it with
    that outcome.

    With ``new`` there is no event: that instance is created, as `Backend.create` does it with
    ``reuse`` and ``replacing``. ``sent`` says that it was, ``failed`` that its id is taken.

    With ``claim`` it is for the sender itself: ``event`` is delivered when a ``"take"`` is granted,
    or when a ``"set"`` or ``"clear"`` is done. Places are granted in the order of asking, each when
    fewer than its ``size`` are granted; nobody overtakes. All waits for an event are granted when
    it is set. A claim ends with its execution: when its instance has ended, however, or goes on
    with another execution, its place is free, and a terminate grants it to the next at once.
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
    claim: SharedClaim | None = None
    terminated: bytes = b""


class CancelledActivity(msgspec.Struct, frozen=True):
    """A request to cancel an activity.

    If no worker runs it, its row is deleted and ``event`` is put into the instance's inbox. If one
    does, the committing one included, the row is marked, and `Heartbeat.cancelled` tells that
    worker; ``event`` is kept for the case that the worker dies or asks for a retry. If it has
    ended, nothing happens.
    """

    command: str
    event: bytes


class Answer(msgspec.Struct, frozen=True):
    """The answer of an instance to the request of that id."""

    request: str
    data: bytes


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
        read_along: Whether others may wait for these turns, who read them as they are stored; they
            are told of a change then.
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
    read_along: bool = False


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
