"""Durable workflows as plain trio code. The public names, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trioflow import errors
from trioflow._client import (
    ActivityDescription,
    AsyncTransaction,
    Client,
    DeadLetter,
    Description,
    ExecutionHistory,
    Handle,
    ScheduleDescription,
    ScheduledRun,
    ScheduleHandle,
    Transaction,
    Undecodable,
    UpdateHandle,
    open_client,
)
from trioflow._codec.values import Codec, JsonCodec, WrappedCodec
from trioflow._engine.guard import DeterminismWarning
from trioflow._metadata import fixup_module_metadata
from trioflow._model.activities import Activity
from trioflow._model.attributes import attribute
from trioflow._model.bound import BoundActivity, BoundWorkflow
from trioflow._model.info import ActivityInfo, Info, SuspendReport, TaskInfo
from trioflow._model.limits import Limit
from trioflow._model.propagation import ContextVars, Propagator
from trioflow._model.retry import RetryPolicy
from trioflow._model.workflows import Workflow
from trioflow._registry import Registry, default_registry
from trioflow._worker import (
    Compatibility,
    Misfit,
    Worker,
    check_compatibility,
    open_worker,
    run_worker,
)
from trioflow.authoring import (
    Attempt,
    Promise,
    Query,
    Saga,
    Signal,
    Update,
    activity,
    activity_by_name,
    activity_connection,
    activity_info,
    cancel_instance,
    continue_as_new,
    deprecate_patch,
    forward_unread,
    heartbeat,
    info,
    is_replaying,
    logger,
    now,
    patched,
    random,
    retrying,
    saga,
    send_signal,
    set_attributes,
    set_status,
    side_effect,
    start_detached,
    uuid4,
    workflow,
    workflow_by_name,
)
from trioflow.errors import (
    ActivityTimeout,
    ArgumentError,
    BackendError,
    BackendUnavailable,
    ClientClosed,
    CorruptStore,
    DataRefused,
    DefinitionError,
    DeterminismError,
    IncompatibleCode,
    InstanceAlreadyExists,
    InstanceCancelled,
    InstanceError,
    InstanceFinished,
    InstanceNotFinished,
    InstanceNotFound,
    InstanceSuspended,
    InstanceTerminated,
    LeaseLost,
    NonRetryable,
    NotInWorkflow,
    NoWorkerAnswered,
    PayloadTooLarge,
    QueryNotHandled,
    RemoteError,
    Retry,
    SchemaError,
    TransactionRefused,
    TrioflowError,
    UndecodableValue,
    UnknownDefinition,
    UnreadSignals,
    ValueMismatch,
    WorkerLost,
)
from trioflow.schedules import Cron, Every

__all__ = [
    "Activity",
    "ActivityDescription",
    "ActivityInfo",
    "ActivityTimeout",
    "ArgumentError",
    "AsyncTransaction",
    "Attempt",
    "BackendError",
    "BackendUnavailable",
    "BoundActivity",
    "BoundWorkflow",
    "Client",
    "ClientClosed",
    "Codec",
    "Compatibility",
    "ContextVars",
    "CorruptStore",
    "Cron",
    "DataRefused",
    "DeadLetter",
    "DefinitionError",
    "Description",
    "DeterminismError",
    "DeterminismWarning",
    "Every",
    "ExecutionHistory",
    "Handle",
    "IncompatibleCode",
    "Info",
    "InstanceAlreadyExists",
    "InstanceCancelled",
    "InstanceError",
    "InstanceFinished",
    "InstanceNotFinished",
    "InstanceNotFound",
    "InstanceSuspended",
    "InstanceTerminated",
    "JsonCodec",
    "LeaseLost",
    "Limit",
    "Misfit",
    "NoWorkerAnswered",
    "NonRetryable",
    "NotInWorkflow",
    "PayloadTooLarge",
    "Promise",
    "Propagator",
    "Query",
    "QueryNotHandled",
    "Registry",
    "RemoteError",
    "Retry",
    "RetryPolicy",
    "Saga",
    "ScheduleDescription",
    "ScheduleHandle",
    "ScheduledRun",
    "SchemaError",
    "Signal",
    "SuspendReport",
    "TaskInfo",
    "Transaction",
    "TransactionRefused",
    "TrioflowError",
    "Undecodable",
    "UndecodableValue",
    "UnknownDefinition",
    "UnreadSignals",
    "Update",
    "UpdateHandle",
    "ValueMismatch",
    "Worker",
    "WorkerLost",
    "Workflow",
    "WrappedCodec",
    "activity",
    "activity_by_name",
    "activity_connection",
    "activity_info",
    "attribute",
    "cancel_instance",
    "check_compatibility",
    "continue_as_new",
    "default_registry",
    "deprecate_patch",
    "errors",
    "forward_unread",
    "heartbeat",
    "info",
    "is_replaying",
    "logger",
    "now",
    "open_client",
    "open_worker",
    "patched",
    "random",
    "retrying",
    "run_worker",
    "saga",
    "send_signal",
    "set_attributes",
    "set_status",
    "side_effect",
    "start_detached",
    "uuid4",
    "workflow",
    "workflow_by_name",
]

fixup_module_metadata(__name__, {name: globals()[name] for name in __all__})
del fixup_module_metadata


__version__: str

if not TYPE_CHECKING:  # type checkers would take any name for one that is there

    def __getattr__(name: str) -> str:
        if name == "__version__":
            # Here, because few ask for it, and reading metadata takes a while.
            from importlib.metadata import version  # noqa: PLC0415

            return version("trioflow")
        raise AttributeError(f"module 'trioflow' has no attribute {name!r}")
