"""The client's side: starting instances, speaking with them, waiting for their end."""

from __future__ import annotations

from trioflow._client.bulk import BulkReport
from trioflow._client.client import Client
from trioflow._client.description import (
    ActivityDescription,
    DeadLetter,
    Description,
    ExecutionDescription,
    Undecodable,
)
from trioflow._client.handle import Handle
from trioflow._client.history import ExecutionHistory
from trioflow._client.moving import MoveProblem, MoveReport, StoreMove
from trioflow._client.opening import open_client
from trioflow._client.outbox import AsyncTransaction, Transaction
from trioflow._client.schedules import ScheduleDescription, ScheduledRun, ScheduleHandle
from trioflow._client.streams import Emitted
from trioflow._client.updates import UpdateHandle

__all__ = [
    "ActivityDescription",
    "AsyncTransaction",
    "BulkReport",
    "Client",
    "DeadLetter",
    "Description",
    "Emitted",
    "ExecutionDescription",
    "ExecutionHistory",
    "Handle",
    "MoveProblem",
    "MoveReport",
    "ScheduleDescription",
    "ScheduleHandle",
    "ScheduledRun",
    "StoreMove",
    "Transaction",
    "Undecodable",
    "UpdateHandle",
    "open_client",
]
