"""Stores: the contract that they fulfil, the records that cross it, and those that there are.

The classes of stores are imported when they are asked for: each needs its driver.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from trioflow._metadata import fixup_module_metadata
from trioflow._model.attributes import AttributeCondition, IndexRow, index_rows
from trioflow.backends.abc import Backend
from trioflow.backends.commits import (
    ActivityResult,
    ActivityRetry,
    Answer,
    CancelledActivity,
    Closing,
    CommitFailure,
    InstanceCommit,
    Message,
    NewActivity,
    NewInstance,
    NewQuestion,
    Unit,
)
from trioflow.backends.filters import Group, InstanceFilter
from trioflow.backends.outbox import ActivityTransaction, CallerTransaction
from trioflow.backends.records import (
    ENDED,
    ActivityKey,
    ActivityTask,
    Effect,
    EndedExecution,
    Execution,
    Heartbeat,
    InstanceRecord,
    QueueStats,
    Reached,
    RequestKey,
    SchemaState,
    SharedState,
    Status,
    StoredMessage,
    TakenActivities,
    TakenInstance,
    TakenInstances,
    TakenQuestion,
    TakenQuestions,
    Trouble,
    WorkerInfo,
)

if TYPE_CHECKING:
    from trioflow.backends.memory import MemoryBackend
    from trioflow.backends.mysql import MysqlBackend
    from trioflow.backends.postgres import PostgresBackend
    from trioflow.backends.redis.backend import RedisBackend
    from trioflow.backends.sqlite import SqliteBackend

__all__ = [
    "ENDED",
    "ActivityKey",
    "ActivityResult",
    "ActivityRetry",
    "ActivityTask",
    "ActivityTransaction",
    "Answer",
    "AttributeCondition",
    "Backend",
    "CallerTransaction",
    "CancelledActivity",
    "Closing",
    "CommitFailure",
    "Effect",
    "EndedExecution",
    "Execution",
    "Group",
    "Heartbeat",
    "IndexRow",
    "InstanceCommit",
    "InstanceFilter",
    "InstanceRecord",
    "MemoryBackend",
    "Message",
    "MysqlBackend",
    "NewActivity",
    "NewInstance",
    "NewQuestion",
    "PostgresBackend",
    "QueueStats",
    "Reached",
    "RedisBackend",
    "RequestKey",
    "SchemaState",
    "SharedState",
    "SqliteBackend",
    "Status",
    "StoredMessage",
    "TakenActivities",
    "TakenInstance",
    "TakenInstances",
    "TakenQuestion",
    "TakenQuestions",
    "Trouble",
    "Unit",
    "WorkerInfo",
    "index_rows",
]

fixup_module_metadata(
    __name__, {each.__name__: each for each in (AttributeCondition, IndexRow, index_rows)}
)
del fixup_module_metadata

_STORES = {
    "MemoryBackend": "trioflow.backends.memory",
    "MysqlBackend": "trioflow.backends.mysql",
    "PostgresBackend": "trioflow.backends.postgres",
    "RedisBackend": "trioflow.backends.redis.backend",
    "SqliteBackend": "trioflow.backends.sqlite",
}


if not TYPE_CHECKING:  # type checkers would take any name for one that is there

    def __getattr__(name: str) -> object:
        if name not in _STORES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        store = getattr(import_module(_STORES[name]), name)
        globals()[name] = store
        return store
