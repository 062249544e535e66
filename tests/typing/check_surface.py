"""What type checkers know of the public calls that the other pages do not show. Never run.

`tests/test_public.py` demands that every public call is somewhere in these files.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import random as stdlib_random
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, assert_type

import trioflow
from trioflow import (
    Activity,
    ActivityInfo,
    Attempt,
    Client,
    Codec,
    ContextVars,
    Description,
    ExecutionHistory,
    Handle,
    Info,
    Interceptor,
    JsonCodec,
    Propagator,
    Query,
    Registry,
    RetryPolicy,
    Saga,
    Signal,
    Update,
    Worker,
    Workflow,
    WrappedCodec,
    activity,
    backends,
    continue_as_new,
    heartbeat,
    is_replaying,
    open_client,
    open_worker,
    run_worker,
    set_attributes,
    set_status,
    workflow,
)
from trioflow.backends import (
    InstanceFilter,
    MemoryBackend,
    MysqlBackend,
    PostgresBackend,
    QueueStats,
    RedisBackend,
    SqliteBackend,
    Trouble,
    WorkerInfo,
)
from trioflow.backends.abc import Backend
from trioflow.testing import (
    CrashReport,
    Fake,
    FakeCall,
    History,
    Replay,
    Schedule,
    SimulatedUpdate,
    Simulation,
    Tester,
    check_replay,
    crash_everywhere,
    explore,
    export_history,
    load_history,
    open_tester,
    schedules,
    simulate,
)
from trioflow.testing.conformance import Case, Stage, conformance_cases
from trioflow.testing.lockstep import OpenBackend, run_lockstep

go = Signal("go", int)
add = Update("add", argument=int, result=str)
known = Query("known", result=int)


@activity
async def charge(order: str) -> int:
    return len(order)


@workflow
async def checkout(order: str) -> int:
    return await charge(order)


async def inside() -> None:
    assert_type(is_replaying(), bool)
    assert_type(trioflow.random(), stdlib_random.Random)
    assert_type(set_status({"any": "thing"}), None)
    assert_type(set_attributes(stage="paid"), None)
    assert_type(heartbeat(), None)
    assert_type(heartbeat(["any", "thing"]), None)
    trioflow.random().randint(1, "6")  # type: ignore[arg-type]


async def never_returns(left: int) -> str:
    continue_as_new(left - 1)


def what_is_told(info: Info, about: ActivityInfo, attempt: Attempt) -> None:
    assert_type(info.should_continue_as_new, bool)
    assert_type(info.metadata, dict[str, str])
    assert_type(about.idempotency_key, str)
    assert_type(attempt.number, int)


async def undoing(saga: Saga) -> None:
    assert_type(saga.add_undo(lambda: charge("tea")), None)
    saga.add_undo(charge("tea"))  # type: ignore[arg-type]


def handlers() -> None:
    def answer(argument: int) -> str:
        return str(argument)

    def look() -> int:
        return 3

    def any_query(name: str, value: Any) -> str:
        return name

    assert_type(add.handler(answer)(1), str)
    assert_type(known.handler(look)(), int)
    assert_type(Query.any_handler(any_query)("x", 1), str)
    assert_type(Update.any_handler(any_query)("x", 1), str)


async def handle_calls(handle: Handle[int]) -> None:
    described = await handle.describe()
    assert_type(described, Description)
    assert_type(described.turns, int)
    assert_type(await handle.history(), list[ExecutionHistory])
    assert_type(await handle.signal(go, 1), None)
    assert_type(await handle.cancel("why"), None)
    assert_type(await handle.terminate(), None)
    assert_type(await handle.resume(), bool)
    assert_type(await handle.remove(), None)
    assert_type(handle.id, str)
    assert_type(handle.life, str | None)
    assert_type(handle.client, Client)
    assert_type(handle.life, str | None)
    await handle.cancel(7)  # type: ignore[arg-type]
    await handle.terminate(reason=7)  # type: ignore[arg-type]


async def client_calls(client: Client) -> None:
    assert_type(await client.stats(), list[QueueStats])
    assert_type(await client.workers(), list[WorkerInfo])
    assert_type(await client.troubles(), dict[Trouble, int])
    assert_type(await client.list(trouble="held", trouble_after=5), list[Description])
    assert_type(await client.count(trouble="overdue", at_most=100), int)
    assert_type(await client.count(status="failed", finished_after=0.0), int)
    await client.list(trouble="late")  # type: ignore[arg-type]
    assert_type([one.queues for one in await client.workers()], list[list[str] | None])
    assert_type(await client.remove(finished_before=0.0, workflow=checkout, limit=10), int)
    assert_type(await client.remove(finished_before=0.0, status=("failed",)), int)
    assert_type(await client.remove(where={"customer": "c7"}), int)
    await client.remove(finished_before=None)  # type: ignore[arg-type]
    await client.remove(finished_before="yesterday")  # type: ignore[arg-type]
    assert_type(client.backend, Backend)


async def limits(client: Client) -> None:
    limit = client.set_limit(activity=charge, concurrency=3, rate=5, per=60, key="order")
    assert_type(await limit, None)
    assert_type(await client.remove_limit(queue="emails"), bool)
    assert_type([one.concurrency for one in await client.limits()], list[int | None])
    await client.set_limit(queue=7)  # type: ignore[arg-type]
    await client.remove_limit(activity=checkout)  # type: ignore[arg-type]


async def registries(registry: Registry, client: Client) -> None:
    assert_type(registry.workflows, Mapping[str, Workflow[..., Any]])
    assert_type(registry.activities, Mapping[str, Activity[..., Any]])
    assert_type(registry.find_workflow("checkout"), Workflow[..., Any])
    assert_type(registry.add(checkout, charge, object()), None)
    assert_type(registry.check(JsonCodec()), None)
    assert_type(checkout.where, str)


async def workers(worker: Worker) -> None:
    assert_type(await worker.drain(), None)
    assert_type(await run_worker("memory://"), None)
    await run_worker(7)  # type: ignore[arg-type]
    async with open_worker(MemoryBackend(), queues=["a"], lease=3) as opened:
        assert_type(opened, Worker)
    async with open_client(SqliteBackend("flow.db"), registry=Registry()) as client:
        assert_type(client, Client)
    open_client(3)  # type: ignore[arg-type]


def codecs(codec: Codec, policy: RetryPolicy) -> None:
    assert_type(codec.encode(1), bytes)
    assert_type(codec.decode(b"1", int), object)
    wrapped = WrappedCodec(JsonCodec(enc_hook=str), bytes.upper, bytes.lower)
    given: list[Codec] = [JsonCodec(), wrapped]
    assert_type(JsonCodec().encode(1), bytes)
    assert_type(wrapped.decode(b"1", int), object)
    assert_type(policy.delay(1, "key"), float)
    WrappedCodec(JsonCodec(), str.upper, bytes.lower)  # type: ignore[arg-type]
    del given


def propagators(variable: ContextVar[str], one: Propagator) -> None:
    both: list[Propagator] = [ContextVars(request=variable), one]
    for each in both:
        assert_type(each.inject({}), None)
        assert_type(each.extract({}), None)


def stores() -> None:
    def connect() -> Any: ...

    given: list[Backend] = [
        MemoryBackend(),
        SqliteBackend("flow.db", migrate=False),
        PostgresBackend("postgresql://host/shop", schema="flow", pooled=True),
        MysqlBackend("mysql://host/shop", migration_url="mysql://root@host/shop"),
        MysqlBackend(connect=connect),
        RedisBackend("redis://host", prefix="flow", keep_finished=3600),
    ]
    SqliteBackend(7)  # type: ignore[arg-type]
    RedisBackend(prefix=7)  # type: ignore[arg-type]
    assert_type(backends.index_rows(b"{}"), list[backends.IndexRow])
    assert_type(InstanceFilter().status, tuple[backends.Status, ...])
    del given


# --- trioflow.testing ----------------------------------------------------------------------


async def testing(tester: Tester) -> None:
    assert_type(tester.now, float)
    assert_type(tester.elapsed, float)
    assert_type(tester.client, Client)
    assert_type(await tester.sleep(60), None)
    assert_type(tester.at(timedelta(hours=1), lambda: None), None)
    assert_type(tester.on_start("checkout", lambda handle: handle.id), None)
    tester.at("noon", lambda: None)  # type: ignore[arg-type]
    fake = tester.fake(charge, lambda order: 1, times=2)
    assert_type(fake.calls, list[FakeCall])
    _: Fake[[str], int] = fake
    async with open_tester(start_time=0.0, timeout=60) as opened:
        assert_type(opened, Tester)


async def replaying(handle: Handle[int]) -> None:
    history = await export_history(handle)
    assert_type(history, History)
    assert_type(history.save("order-7.json"), None)
    assert_type(load_history("order-7.json"), History)
    assert_type(check_replay(history, checkout), None)
    with Replay(history, checkout) as replay:
        assert_type(replay.show(), str)
        assert_type(replay.step().now, float)
        assert_type([task.waits_for for task in replay.tasks()], list[str])
        replay.debug(turn=3, task="0.1")
        assert_type(replay.close(), None)
    check_replay(7, checkout)  # type: ignore[arg-type]


async def simulating(schedule: Schedule, one: Propagator, around: Interceptor) -> None:
    update: SimulatedUpdate = (add, 3)
    simulate(checkout, "tea", interceptors=[around], propagators=[one])
    simulate(checkout, "tea", propagators=[around])  # type: ignore[list-item]
    await crash_everywhere(checkout, "tea", interceptors=[around], propagators=[one])
    await explore(checkout, "tea", interceptors=[around], propagators=[one])
    found = simulate(checkout, "tea", schedule=schedule, updates=[update], signals=[(go, 1)])
    assert_type(found, Simulation[int])
    assert_type(found.result(), int)
    assert_type(found.status, str)
    assert_type(found.elapsed, float)
    assert_type(found.answers, dict[int, Any])
    assert_type(found.repeated(), dict[str, int])
    assert_type(found.called(charge), list[FakeCall])
    assert_type(found.history(), History)
    assert_type(found.told(), str)
    assert_type(found.trace, list[str])
    report = await crash_everywhere(checkout, "tea")
    assert_type(report, CrashReport[int])
    assert_type(report.repeated, dict[str, int])
    assert_type(report.results, dict[str, int])
    assert_type(await explore(checkout, "tea", examples=3), None)
    schedules(max_steps="40")  # type: ignore[arg-type]


# --- for those who write a store -----------------------------------------------------------


async def own_store(stage: Stage, open_store: OpenBackend) -> None:
    assert_type(conformance_cases(), list[Case])
    for case in conformance_cases():
        await case(stage)
    assert_type(run_lockstep(mine=open_store), None)
    run_lockstep(mine=3)  # type: ignore[arg-type]
