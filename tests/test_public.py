"""What is public: these names of these modules, and nothing private shines through."""

# mypy: ignore-errors

from __future__ import annotations

import ast
import importlib
import inspect
import pickle  # noqa: TID251 - users may
import subprocess
import sys
import types
import typing
from pathlib import Path

import msgspec
import pydantic
import pytest

import trioflow
import trioflow.backends
from trioflow import ActivityInfo, Info, RetryPolicy, SuspendReport, errors

# A name that goes, or changes its name, breaks programs: change these lists on purpose only.
ERRORS = """
    ActivityTimeout ArgumentError BackendError BackendUnavailable ClientClosed CorruptStore
    DataRefused DefinitionError DeterminismError IncompatibleCode InstanceAlreadyExists
    InstanceCancelled InstanceError InstanceFinished InstanceNotFinished InstanceNotFound
    InstanceSuspended InstanceTerminated LeaseLost NoWorkerAnswered NonRetryable NotInWorkflow
    PayloadTooLarge QueryNotHandled RemoteError Retry SchemaError StoreFenced TrioflowError
    UndecodableValue TransactionRefused UnknownDefinition UnreadSignals ValueMismatch WorkerLost
"""
AUTHORING = """
    activity_connection emit
    start_detached cancel_instance set_attributes
    Attempt Promise Query Saga SharedEvent SharedLock SharedSemaphore Signal Update
    activity activity_by_name activity_info
    continue_as_new deprecate_patch forward_unread heartbeat info is_replaying logger now patched
    random retrying saga send_signal set_status side_effect sleep uuid4 workflow
    workflow_by_name
"""
PUBLIC = {
    "trioflow": f"""
        {AUTHORING} {ERRORS}
        attribute
        Activity ActivityDescription ActivityInfo BoundActivity BoundWorkflow BulkReport
        Call Client Codec Compatibility ContextVars Cron DeadLetter Description
        DeterminismWarning Emitted Every ExecutionDescription ExecutionHistory Handle Info
        Interceptor JsonCodec Limit Misfit MoveProblem MoveReport Proceed Propagator
        Registry RetryPolicy ScheduleDescription ScheduleHandle ScheduledRun StoreMove
        SuspendReport TaskInfo Undecodable UpdateHandle Worker WorkerInfo Workflow WrappedCodec
        check_compatibility default_registry errors open_client open_worker run_worker
        AsyncTransaction Transaction
    """,
    "trioflow.errors": f"{ERRORS} ContinueAsNew Evicted",
    "trioflow.authoring": AUTHORING,
    "trioflow.schedules": "Cron Every",
    "trioflow.observers": """
        AttemptEnded BatchStored ExecutionEnded ExecutionReplayed InstanceCreated
        InstanceSuspended InstanceTaken LeaseWasLost Observation Observer TurnStored
    """,
    "trioflow.backends": """
        ActivityTransaction AttributeCondition CallerTransaction Effect Group IndexRow index_rows
        ENDED ActivityKey ActivityResult ActivityRetry ActivityTask Answer Backend
        CancelledActivity Closing CommitFailure EndedExecution Execution Heartbeat InstanceCommit
        InstanceFilter InstanceRecord
        MemoryBackend Message MysqlBackend NewActivity NewInstance NewQuestion PostgresBackend
        QueueStats Reached RedisBackend RequestKey SchemaState SharedState SqliteBackend Status
        StoredMessage TakenActivities TakenInstance TakenInstances TakenQuestion TakenQuestions Unit
        Trouble WorkerInfo
    """,
    "trioflow.testing": """
        BrokenInvariant Cluster ClusterReport CrashReport CrashRun Fake FakeCall Faults History
        Replay ReplayError Schedule SimulatedFailure SimulatedFinalFailure SimulatedUpdate
        Simulation Stuck Tester UnmetExpectations activity_context check_bundle check_replay
        crash_everywhere explore export_bundle export_history load_bundle load_history open_tester
        save_bundle schedules simulate
    """,
    "trioflow.testing.conformance": "Case Stage conformance_cases",
    "trioflow.testing.lockstep": "OpenBackend run_lockstep",
    "trioflow.web": "Access app",
}
OBJECTS = {
    f"{module}.{name}": getattr(importlib.import_module(module), name)
    for module, names in PUBLIC.items()
    for name in names.split()
}
CLASSES = {name: value for name, value in OBJECTS.items() if inspect.isclass(value)}


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_names_are_these(module):
    exported = getattr(importlib.import_module(module), "__all__", [])
    assert sorted(exported) == sorted(PUBLIC[module].split())


@pytest.mark.parametrize("name", [*OBJECTS])
def test_what_is_public_says_that_it_comes_from_a_public_module(name):
    module = getattr(OBJECTS[name], "__module__", "")
    assert not [part for part in module.split(".") if part.startswith("_")]


def test_what_users_see_first_has_the_first_name():
    assert trioflow.Client.__module__ == trioflow.run_worker.__module__ == "trioflow"
    assert trioflow.Client.start.__module__ == "trioflow"
    assert repr(trioflow.Signal) == "<class 'trioflow.Signal'>"


def test_the_names_of_errors_stay_as_they_are_stored():
    assert {getattr(errors, name).__module__ for name in errors.__all__} == {"trioflow.errors"}


@pytest.mark.parametrize("name", [*CLASSES])
def test_public_classes_are_pickled_by_their_public_names(name):
    assert pickle.loads(pickle.dumps(CLASSES[name])) is CLASSES[name]


@pytest.mark.parametrize("name", [*CLASSES])
def test_annotations_of_public_classes_can_be_resolved(name):
    hints = typing.get_type_hints(CLASSES[name])
    assert not [hint for hint in hints.values() if isinstance(hint, str)]


INFO = Info(
    id="a",
    execution=1,
    workflow="w",
    queue="q",
    parent=None,
    metadata={},
    started_at=0.0,
    turns=1,
    events=2,
    max_events=3,
)
VALUES = [INFO, RetryPolicy(non_retryable=(KeyError,)), SuspendReport(kind="k", message="m")]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_public_values_are_pickled_encoded_and_decoded(value):
    assert pickle.loads(pickle.dumps(value)) == value
    assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value


def test_a_users_class_may_be_made_of_public_ones():
    class More(ActivityInfo, frozen=True, kw_only=True):
        policy: RetryPolicy

    class Model(pydantic.BaseModel, arbitrary_types_allowed=True):
        info: Info

    assert {"attempt", "policy"} <= typing.get_type_hints(More, localns=locals()).keys()
    assert Model(info=INFO).info is INFO


def test_no_database_driver_is_imported_before_its_store_is_asked_for():
    program = (
        "import sys, trioflow, trioflow.backends as backends\n"
        "drivers = ('psycopg', 'pymysql', 'redis')\n"
        "print([name for name in drivers if name in sys.modules])\n"
        "print(backends.RedisBackend.__name__, 'redis' in sys.modules)\n"
    )
    given = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert given.stdout.decode().splitlines() == ["[]", "RedisBackend True"]


def test_a_store_that_there_is_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'OracleBackend'"):
        _ = trioflow.backends.OracleBackend


# Public because others of ours call them, not because users do.
OURS = """
    Activity.call_plain Client.fresh_request Client.wait_change Fake.call_activity
    Fake.call_workflow JsonCodec.encode_verified JsonCodec.prepare RetryPolicy.next_delay
    Schedule.begin Schedule.more Schedule.pick Worker.register Workflow.reuses_finished
    Workflow.starts_at WrappedCodec.seal
"""


def calls_of_users():
    """Yield the public functions, and the methods and properties of public classes."""
    for module in ("trioflow", "trioflow.testing"):
        for name in PUBLIC[module].split():
            value = OBJECTS[f"{module}.{name}"]
            if not inspect.isclass(value):
                if callable(value):
                    yield name
            elif not issubclass(value, BaseException):
                ours = [base for base in value.__mro__ if base.__module__.startswith("trioflow")]
                kinds = (property, staticmethod, classmethod, types.FunctionType)
                for member, what in [pair for base in ours for pair in vars(base).items()]:
                    if isinstance(what, kinds) and not member.startswith("_"):
                        yield f"{name}.{member}"


def test_type_checkers_are_asked_about_every_public_call():
    pages = Path(__file__).parent.joinpath("typing").glob("check_*.py")
    nodes = [node for page in pages for node in ast.walk(ast.parse(page.read_text("utf-8")))]
    shown = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    shown |= {node.id for node in nodes if isinstance(node, ast.Name)}
    missing = {call for call in calls_of_users() if call.rpartition(".")[2] not in shown}
    assert sorted(missing - {*OURS.split()}) == [], "add them to tests/typing"
