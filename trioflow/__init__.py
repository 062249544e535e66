"""Durable workflows as plain trio code. The public names, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trioflow import errors
from trioflow._client import (
    ActivityDescription,
    Client,
    Description,
    ExecutionHistory,
    Handle,
    Undecodable,
    open_client,
)
from trioflow._codec.values import Codec, JsonCodec, WrappedCodec
from trioflow._engine.guard import DeterminismWarning
from trioflow._metadata import fixup_module_metadata
from trioflow._model.attributes import attribute
from trioflow._model.definitions import Activity, Workflow
from trioflow._model.info import ActivityInfo, Info, SuspendReport
from trioflow._model.retry import RetryPolicy
from trioflow._registry import Registry, default_registry
from trioflow._worker import Worker, open_worker, run_worker
from trioflow.authoring import (
    Signal,
    activity,
    activity_by_name,
    activity_info,
    cancel_instance,
    continue_as_new,
    info,
    is_replaying,
    logger,
    now,
    random,
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
    PayloadTooLarge,
    RemoteError,
    Retry,
    SchemaError,
    TrioflowError,
    UndecodableValue,
    UnknownDefinition,
    ValueMismatch,
    WorkerLost,
)

__all__ = [
    "Activity",
    "ActivityDescription",
    "ActivityInfo",
    "ActivityTimeout",
    "ArgumentError",
    "BackendError",
    "BackendUnavailable",
    "Client",
    "ClientClosed",
    "Codec",
    "CorruptStore",
    "DataRefused",
    "DefinitionError",
    "Description",
    "DeterminismError",
    "DeterminismWarning",
    "ExecutionHistory",
    "Handle",
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
    "NonRetryable",
    "NotInWorkflow",
    "PayloadTooLarge",
    "Registry",
    "RemoteError",
    "Retry",
    "RetryPolicy",
    "SchemaError",
    "Signal",
    "SuspendReport",
    "TrioflowError",
    "Undecodable",
    "UndecodableValue",
    "UnknownDefinition",
    "ValueMismatch",
    "Worker",
    "WorkerLost",
    "Workflow",
    "WrappedCodec",
    "activity",
    "activity_by_name",
    "activity_info",
    "attribute",
    "cancel_instance",
    "continue_as_new",
    "default_registry",
    "errors",
    "info",
    "is_replaying",
    "logger",
    "now",
    "open_client",
    "open_worker",
    "random",
    "run_worker",
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
