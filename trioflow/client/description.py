"""What a client is told of instances, and how it is read from their rows."""

from __future__ import annotations

from typing import Any

import msgspec

from trioflow.model.events import ParentRef
from trioflow.model.failures import Failure
from trioflow.model.info import SuspendReport
from trioflow.model.records import ENDED, ActivityTask, InstanceRecord, Status
from trioflow.model.turns import Cancelled, Completed, Failed, Outcome, Turn
from trioflow.model.values import Codec, open_text

__all__ = ["Description", "ExecutionHistory", "decode_outcome", "decode_report", "describe"]

decode_outcome = msgspec.json.Decoder(Outcome).decode
decode_report = msgspec.json.Decoder(SuspendReport).decode


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an instance. Payloads are plain JSON data.

    Attributes:
        id: The instance's id.
        execution: The number of its current execution, from 1.
        workflow: The workflow's name.
        queue: Where it runs.
        priority: The larger, the sooner it is taken.
        status: ``"running"``, ``"completed"``, ``"failed"``, ``"cancelled"``, ``"terminated"`` or
            ``"suspended"``.
        parent: Who started it, or ``None``.
        input: Its arguments by name.
        result: What it returned, if it completed.
        failure: Why it failed, or was terminated, or ``None``.
        reason: Why it was cancelled, if somebody said.
        suspension: Why it is suspended, or ``None``.
        custom_status: The last value of ``set_status()``, or ``None``.
        metadata: What propagators put there.
        turns: How many turns its execution has.
        events: Size of the execution's history: events and commands.
        unread: How many messages wait for it.
        worker: The id of the worker that holds it, or ``None``.
        wakes_at: The earliest moment at which it has something to do, epoch seconds, or ``None``.
        created_at: Epoch seconds.
        finished_at: Epoch seconds, or ``None``.
        activities: Its unfinished activities; only from ``handle.describe()``.
    """

    id: str
    execution: int
    workflow: str
    queue: str
    status: Status
    parent: ParentRef | None
    input: Any
    result: Any
    failure: Failure | None
    reason: str | None
    suspension: SuspendReport | None
    custom_status: Any
    metadata: dict[str, str]
    turns: int
    events: int
    unread: int
    worker: str | None
    wakes_at: float | None
    created_at: float
    finished_at: float | None
    priority: int = 0
    activities: list[ActivityTask] = []


class ExecutionHistory(msgspec.Struct, frozen=True):
    """One execution's history: its number and its turns."""

    number: int
    turns: list[Turn]


def describe(record: InstanceRecord, activities: list[ActivityTask], codec: Codec) -> Description:
    """Read an instance's row for people."""
    ended = record.outcome and record.status in ENDED
    outcome = decode_outcome(record.outcome) if ended else None

    def plain(data: bytes) -> Any:
        return codec.decode(data, Any)

    return Description(
        id=record.id,
        execution=record.execution,
        workflow=record.workflow,
        queue=record.queue,
        status=record.status,
        parent=record.parent,
        input=plain(record.input),
        result=plain(bytes(outcome.result)) if isinstance(outcome, Completed) else None,
        failure=outcome.failure.opened(codec) if isinstance(outcome, Failed) else None,
        reason=open_text(codec, outcome.reason) if isinstance(outcome, Cancelled) else None,
        suspension=decode_report(record.outcome) if record.status == "suspended" else None,
        custom_status=plain(record.custom_status) if record.custom_status else None,
        metadata=msgspec.json.decode(record.metadata) if record.metadata else {},
        turns=record.turns,
        events=record.events,
        unread=record.unread,
        worker=record.worker,
        wakes_at=record.ready_at,
        created_at=record.created_at,
        finished_at=record.finished_at,
        priority=record.priority,
        activities=activities,
    )
