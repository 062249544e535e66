"""What the model stores, and how it is read: one class for each kind of row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from trioflow.backends.commits import NewActivity, NewInstance, NewQuestion
from trioflow.backends.records import (
    ActivityKey,
    ActivityTask,
    InstanceRecord,
    Status,
    StoredMessage,
    TakenInstance,
    TakenQuestion,
)

__all__ = ["Activity", "Instance", "Mail", "Question", "Worker"]


@dataclass
class Worker:
    """A worker's row."""

    name: str
    started_at: float
    heartbeat_at: float
    queues: Sequence[str]
    activity_queues: Sequence[str]
    lease: float | None
    version: str

    def alive(self, now: float) -> bool:
        """Return whether its lease is not over."""
        return self.lease is None or self.heartbeat_at + self.lease >= now


@dataclass
class Mail:
    """An inbox row. ``execution``: the only one that it is meant for, if there is one."""

    event: bytes
    execution: int | None
    at: float


@dataclass
class Instance:
    """An instance's row.

    A suspect is one that must be taken in isolation once it is free. So one that is held has been,
    and its ``deaths`` count the taking in advance.
    """

    new: NewInstance
    execution: int
    first_execution: int
    created_at: float
    input: bytes
    ready_at: float | None = None
    wake_at: float | None = None
    worker: str | None = None
    sticky_worker: str | None = None
    status: Status = "running"
    turns: int = 0
    events: int = 0
    carried: bytes = b""
    outcome: bytes = b""
    custom_status: bytes = b""
    finished_at: float | None = None
    inbox: dict[int, Mail] = field(default_factory=dict[int, Mail])
    suspect: bool = False
    deaths: int = 0
    attributes: bytes = b""
    held_at: float | None = None

    def ready(self, now: float) -> bool:
        """Return whether it is ready."""
        return self.ready_at is not None and self.ready_at <= now

    def first_ready(self, now: float) -> float:
        """Return when it is ready if it has something to do: not before its time to start."""
        return max(now, self.new.start_at)

    def ready_by(self, now: float) -> None:
        """Make it ready, if it has not been for longer."""
        if not self.ready(now):
            self.ready_at = now

    def give_back(self) -> None:
        """Free it without a turn."""
        self.worker = self.sticky_worker = None
        if self.suspect:
            self.deaths -= 1

    def end(self, status: Status, outcome: bytes, now: float) -> None:
        """End it; what it has not read is dropped."""
        self.status, self.outcome, self.finished_at = status, outcome, now
        self.ready_at = self.wake_at = self.worker = self.sticky_worker = None
        self.inbox.clear()

    def key(self, command: str) -> ActivityKey:
        """Return the key of an activity of the present execution."""
        return ActivityKey(self.new.id, self.execution, command, self.new.life)

    def record(self) -> InstanceRecord:
        """Return what clients see."""
        new = self.new
        return InstanceRecord(
            id=new.id,
            execution=self.execution,
            workflow=new.workflow,
            queue=new.queue,
            status=self.status,
            parent=new.parent,
            turns=self.turns,
            events=self.events,
            unread=len(self.inbox),
            ready_at=self.ready_at,
            worker=self.worker,
            input=self.input,
            metadata=new.metadata,
            outcome=self.outcome,
            custom_status=self.custom_status,
            created_at=self.created_at,
            finished_at=self.finished_at,
            priority=new.priority,
            life=new.life,
            start_at=new.start_at,
            attributes=self.attributes,
        )

    def take(self, worker: str, now: float) -> TakenInstance:
        """Lease it to a worker, which must be allowed; return what that worker is given."""
        if self.suspect and self.worker is None:
            self.deaths += 1
        new = self.new
        taken = TakenInstance(
            id=new.id,
            execution=self.execution,
            workflow=new.workflow,
            queue=new.queue,
            input=self.input,
            parent=new.parent,
            metadata=new.metadata,
            carried=self.carried,
            turns=self.turns,
            events=self.events,
            ready_at=self.ready_at or 0.0,
            wake_at=self.wake_at,
            inbox=[StoredMessage(seq, mail.event, mail.at) for seq, mail in self.inbox.items()],
            priority=new.priority,
            life=new.life,
            deaths=self.deaths,
            created_at=self.created_at,
            start_at=new.start_at,
            options=new.options,
            attributes=self.attributes,
        )
        self.worker, self.ready_at, self.held_at = worker, None, now
        return taken


@dataclass
class Question:
    """A question of a client: whether it was given to a worker, and the answer."""

    new: NewQuestion
    given: bool = False
    answer: bytes | None = None

    def taken(self, row: Instance) -> TakenQuestion:
        """Return what a worker is given."""
        return TakenQuestion(
            id=self.new.id,
            question=self.new.question,
            instance=row.new.id,
            life=row.new.life,
            execution=row.execution,
            workflow=row.new.workflow,
            queue=row.new.queue,
            priority=row.new.priority,
            turns=row.turns,
            worker=row.worker,
        )


@dataclass
class Activity:
    """An activity's row. ``cancel``: the event that says it was cancelled, once that was asked."""

    new: NewActivity
    scheduled_at: float
    visible_at: float
    worker: str | None
    attempt: int = 1
    failure: bytes = b""
    progress: bytes = b""
    cancel: bytes | None = None

    def task(self, key: ActivityKey) -> ActivityTask:
        """Return what a worker is given."""
        new = self.new
        return ActivityTask(
            key=key,
            activity=new.activity,
            queue=new.queue,
            input=new.input,
            options=new.options,
            attempt=self.attempt,
            scheduled_at=self.scheduled_at,
            failure=self.failure,
            priority=new.priority,
            progress=self.progress,
            limit_key=new.limit_key,
        )

    def unfinished(self, key: ActivityKey) -> ActivityTask:
        """Return what those see who look at what is unfinished."""
        next_at = self.visible_at if self.worker is None else None
        return msgspec.structs.replace(self.task(key), next_at=next_at)
