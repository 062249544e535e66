"""What type checkers must know of user code. Never run: mypy and pyright read it, both strict.

Each `type: ignore` is a mistake that has to be found: were it not, the ignore would be reported as
unused (`warn_unused_ignores`, `reportUnnecessaryTypeIgnoreComment`).
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, assert_type
from uuid import UUID

import anyio
import trio

import trioflow
from trioflow import (
    Activity,
    ActivityInfo,
    Attempt,
    BoundActivity,
    BoundWorkflow,
    BulkReport,
    Call,
    Client,
    Compatibility,
    ContextVars,
    Description,
    Emitted,
    ExecutionDescription,
    Handle,
    Info,
    Interceptor,
    Misfit,
    Proceed,
    Propagator,
    Registry,
    RetryPolicy,
    Saga,
    Signal,
    Worker,
    Workflow,
    activity,
    activity_by_name,
    activity_info,
    attribute,
    backends,
    cancel_instance,
    check_compatibility,
    continue_as_new,
    deprecate_patch,
    emit,
    info,
    now,
    open_client,
    open_worker,
    patched,
    retrying,
    run_worker,
    saga,
    send_signal,
    set_attributes,
    side_effect,
    sleep,
    start_detached,
    uuid4,
    workflow,
    workflow_by_name,
)
from trioflow.backends.sqlite import SqliteBackend


@dataclass
class Order:
    id: str


@dataclass
class Receipt:
    text: str


class Audit(Interceptor):
    async def activity(self, call: Call, proceed: Proceed) -> object:
        assert_type(call.args, tuple[Any, ...])
        assert_type(call.instance, str | None)
        return await proceed()


approved = Signal("approved", bool)
lines = Signal("lines", list[str])
registry = Registry()


@activity
async def charge(order: Order, amount: int = 1) -> Receipt:
    return Receipt(order.id * amount)


@activity(retry=RetryPolicy(max_attempts=2, non_retryable=(KeyError, "shop.Declined")), timeout=3)
async def refund(order: Order) -> Receipt:
    return Receipt(order.id)


@activity
def render(order: Order) -> str:
    return order.id


@activity(name="store", queue="files", priority=-3, schedule_timeout=10.0, on_cancel="abandon")
def store(text: str, *, path: str) -> None:
    del text, path


@workflow
async def ship(order: Order) -> str:
    return order.id


@workflow(name="checkout", max_events=1000, priority=2, timeout=60.0)
async def checkout(order: Order, *, express: bool = False) -> Receipt:
    del express
    return await charge(order)


@registry.workflow
async def registered(n: int) -> int:
    return n


@registry.activity(queue="cpu")
def counted(n: int) -> int:
    return n


class Shop:
    @activity
    async def buy(self, item: str) -> int:
        return len(item)

    @activity(timeout=1)
    def sell(self, item: str) -> bool:
        return bool(item)


async def definitions() -> None:
    order = Order("1")
    called: Coroutine[Any, Any, Receipt] = charge(order)
    assert_type(await called, Receipt)
    assert_type(await charge(order, amount=2), Receipt)
    assert_type(await refund(order), Receipt)
    assert_type(await render(order), str)
    assert_type(await store("x", path="y"), None)
    assert_type(await ship(order), str)
    assert_type(await checkout(order, express=True), Receipt)
    assert_type(await registered(1), int)
    assert_type(await counted(1), int)
    assert_type(await Shop().buy("x"), int)
    assert_type(await Shop().sell("x"), bool)

    await charge("1")  # type: ignore[arg-type]
    await charge(order, amount="2")  # type: ignore[arg-type]
    await charge()  # type: ignore[call-arg]
    await refund(order, 1)  # type: ignore[call-arg]
    await render(1)  # type: ignore[arg-type]
    await store("x", "y")  # type: ignore[call-arg]
    await checkout(order, True)  # type: ignore[call-arg]
    await counted("1")  # type: ignore[arg-type]
    await Shop().buy(1)  # type: ignore[arg-type]
    await Shop().sell()  # type: ignore[call-arg]


async def options() -> None:
    order = Order("1")
    assert_type(await charge.options(queue="eu", priority=7, timeout=5)(order), Receipt)
    assert_type(await render.options(retry=RetryPolicy(max_attempts=None))(order), str)
    assert_type(await ship.options(id="x", queue="eu", priority=7)(order), str)
    assert_type(await ship.options(if_exists="replace", reuse_finished=False)(order), str)
    assert_type(await ship.options(start_at=1.5, timeout=60, max_events=500)(order), str)
    assert_type(await ship.options(delay=60)(order), str)
    at = datetime.now(UTC)
    found = ship.options(attributes={"who": "c7", "at": at, "of": ["a"], "n": 1.5, "vip": True})
    assert_type(await found(order), str)
    ship.options(attributes={"a": [1]})  # type: ignore[list-item]
    ship.options(start_at="noon")  # type: ignore[arg-type]
    ship.options(if_exists="nothing")  # type: ignore[arg-type]

    await charge.options(timeout=5)("1")  # type: ignore[arg-type]
    await ship.options(id="x")(1)  # type: ignore[arg-type]
    charge.options(timeout="5")  # type: ignore[arg-type]
    charge.options(id="x")  # type: ignore[call-arg]
    ship.options(id=7)  # type: ignore[arg-type]
    RetryPolicy(max_attempts="3")  # type: ignore[arg-type]
    RetryPolicy(3)  # type: ignore[call-arg]


async def wrong_decorations() -> None:
    @workflow  # type: ignore[arg-type]
    def not_async(n: int) -> int:
        return n

    @activity(runtime="fork")  # type: ignore[call-overload, untyped-decorator]
    def wrong_runtime(n: int) -> int:
        return n

    del not_async, wrong_runtime


@workflow(suspend_on=(KeyError, ValueError))
async def careful(n: int) -> int:
    return n


@workflow(suspend_on=5)  # type: ignore[call-overload, untyped-decorator]
async def careless(n: int) -> int:
    return n


async def with_trio_and_anyio() -> None:
    order = Order("1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(charge, order)
        nursery.start_soon(ship, order)
        nursery.start_soon(charge, "1")  # type: ignore[arg-type]
        nursery.start_soon(ship)  # type: ignore[arg-type]
    async with anyio.create_task_group() as group:
        group.start_soon(render, order)
        group.start_soon(render, 1)  # type: ignore[arg-type]
    assert_type(await anyio.gather(charge(order), ship(order)), tuple[Receipt, str])
    assert_type(await anyio.gather(*[ship(order) for _ in range(3)]), tuple[str, ...])


async def signals() -> None:
    assert_type(approved, Signal[bool])
    assert_type(await approved.receive(), bool)
    assert_type(approved.receive_nowait(), bool)
    assert_type(await lines.receive(), list[str])
    async for line in lines:
        assert_type(line, list[str])
    await send_signal("x", approved, True)
    await send_signal("x", approved, "yes")  # type: ignore[misc]


async def inside() -> None:
    assert_type(now(), float)
    assert_type(uuid4(), UUID)
    assert_type(patched("fraud-check"), bool)
    deprecate_patch("fraud-check")
    async for attempt in retrying(RetryPolicy(max_attempts=5)):
        assert_type(attempt, Attempt)
        with attempt as entered:
            assert_type(entered.number, int)
    async with saga(undo_timeout=60) as s:
        assert_type(s, Saga)
        assert_type(
            await s.do(partial(charge, Order("1")), undo=partial(ship, Order("1"))), Receipt
        )
        s.add_undo(lambda: ship(Order("1")))
        await s.do(charge(Order("1")))  # type: ignore[arg-type]
    retrying(3)  # type: ignore[arg-type]
    patched(7)  # type: ignore[arg-type]
    assert_type(info(), Info)
    assert_type(activity_info(), ActivityInfo)
    order = Order("1")
    assert_type(await start_detached(ship.options(id="x", if_exists="return"), order), str)
    await start_detached(ship)  # type: ignore[call-arg]
    await start_detached(ship, "1")  # type: ignore[arg-type]
    assert_type(await cancel_instance("x", "why"), None)
    assert_type(await ship.options(on_cancel="abandon")(order), str)
    set_attributes(stage="paid", amount=None, tags=["a"])
    set_attributes(stage=b"paid")  # type: ignore[arg-type]
    assert_type(side_effect(lambda: 1), int)
    assert_type(side_effect(list[str]), list[str])
    side_effect(lambda n: n)  # type: ignore[misc, arg-type]


async def never_returns() -> int:
    continue_as_new(1)


async def by_name() -> None:
    assert_type(await activity_by_name("charge", Receipt)(order="1"), Receipt)
    assert_type(await workflow_by_name("checkout", Receipt)(order="1"), Receipt)
    assert_type(activity_by_name("render", str), Activity[..., str])
    assert_type(activity_by_name("lines", list[str], queue="q"), Activity[..., list[str]])
    assert_type(activity_by_name("pay", timeout=3), Activity[..., Any])
    assert_type(workflow_by_name("shop"), Workflow[..., Any])
    activity_by_name("pay", timeout="3")  # type: ignore[call-overload]
    workflow_by_name("shop", id="x")  # type: ignore[call-overload]
    assert_type(workflow_by_name("ship", str), Workflow[..., str])


async def streams(handle: Handle[str]) -> None:
    assert_type(await emit("progress", Order("1")), None)
    assert_type(await sleep(60, name="reminder"), None)
    await sleep(60)  # type: ignore[call-arg]
    async for item in handle.stream("progress", Order, after="1.0.1"):
        assert_type(item, Emitted[Order])
        assert_type(item.value, Order)
    async for plain in handle.stream("progress"):
        assert_type(plain.value, Any)
    assert_type(await handle.retry_now(charge), bool)
    handle.stream(Order)  # type: ignore[call-overload]


async def many_are_reset(client: Client) -> None:
    assert_type(await client.reset(workflow=ship, reason="why", limit=5), BulkReport)
    assert_type(await client.handle("x").resume(without="go"), bool)
    await client.reset(status="broken")  # type: ignore[arg-type]


async def client_calls(client: Client) -> None:
    order = Order("1")
    handle = await client.start(checkout, order, express=True)
    assert_type(handle, Handle[Receipt])
    assert_type(await handle.result(), Receipt)
    assert_type(await client.start(ship.options(id="x"), order), Handle[str])
    once = ship.options(id="x", if_exists="return", reuse_finished=True)
    assert_type(await client.start(once, order), Handle[str])
    assert_type(await client.run(ship, order), str)
    assert_type(await handle.pause("why"), None)
    assert_type(await handle.reset(2, reason="why", execution=3), None)
    await handle.reset(reason=3)  # type: ignore[arg-type]
    assert_type(await client.fork("x", turn=1, new_id="y"), Handle[Any])
    assert_type(await handle.wait(status=("failed", "suspended")), Description)
    await handle.wait(status="done")  # type: ignore[arg-type]
    async for description in handle.watch():
        assert_type(description, Description)
    assert_type(await client.list(where={"a": 1, "b": "c"}), list[Description])
    assert_type(await client.list(where=attribute("a") == 1, limit=5), list[Description])
    some = [attribute("a") >= 1, attribute("b") < datetime.now(UTC)]
    assert_type(await client.count(where=some, status="running"), int)
    assert_type(await client.count(group_by="status", where=some), dict[str, int])
    of_attribute = await client.count(group_by=attribute("stage"))
    assert_type(of_attribute, dict[str | int | float | bool | datetime, int])
    assert_type(await client.remove_executions(ended_before=1.0), int)
    assert_type((await handle.describe()).earlier, list[ExecutionDescription])
    await client.count(group_by="stage")  # type: ignore[call-overload]
    await client.list(where="a")  # type: ignore[arg-type]
    await client.count(where=attribute("a") > "b")  # type: ignore[operator]
    call = checkout.options(id="x").bind(order, express=True)
    assert_type(call, BoundWorkflow[Receipt])
    assert_type(charge.bind(order), BoundActivity[Receipt])
    assert_type(await charge.bind(order)(), Receipt)
    assert_type(await client.signal_with_start(call, approved, True), Handle[Receipt])
    await client.signal_with_start(call, approved, "yes")  # type: ignore[misc]
    await client.signal_with_start(charge.bind(order), approved, True)  # type: ignore[arg-type]
    checkout.bind("1")  # type: ignore[arg-type]
    assert_type(client.handle("x", checkout), Handle[Receipt])
    assert_type(client.handle("x"), Handle[Any])
    assert_type(await client.start("ship", order), Handle[Any])
    assert_type(await client.start(workflow_by_name("ship", str), order=1), Handle[str])
    await handle.signal(approved, True)
    await handle.signal("approved", "by name, anything goes")

    await client.start(checkout, "1")  # type: ignore[call-overload]
    await client.start(checkout)  # type: ignore[call-overload]
    await client.run(ship, order, 1)  # type: ignore[call-overload]
    await client.start(charge, order)  # type: ignore[call-overload]
    await handle.signal(approved, "yes")  # type: ignore[misc]


async def calls_for_many(client: Client) -> None:
    some = [attribute("a") >= 1]
    assert_type(await client.cancel(where=some, reason="over"), BulkReport)
    assert_type(await client.terminate(where=some, reason="over", after=None), BulkReport)
    assert_type(await client.pause(where=some, reason="for now"), BulkReport)
    assert_type(await client.resume(where=some), BulkReport)
    assert_type(await client.retry_now(activity="charge", where=some), BulkReport)
    assert_type(await client.reset(status="failed", reason="mended"), BulkReport)
    assert_type(await client.signal(approved, True, id="a", status="running"), BulkReport)
    await client.signal(approved, "1", status="running")  # type: ignore[misc]
    await client.terminate(stage="paid")  # type: ignore[call-arg]


async def opening() -> None:
    async with open_worker("memory://") as worker:
        assert_type(worker, Worker)
        assert_type(worker.client, Client)
    async with open_client("memory://") as client:
        assert_type(client, Client)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_worker, "memory://")
        await nursery.start(run_worker, "memory://")
    async with open_worker("memory://", check="leave"):
        pass
    open_worker("memory://", check="often")  # type: ignore[arg-type]
    numbers: ContextVar[int] = ContextVar("numbers")
    request_id: ContextVar[str] = ContextVar("request_id")
    carried: list[Propagator] = [ContextVars(request_id=request_id)]
    ContextVars(numbers=numbers)  # type: ignore[arg-type]
    async with open_client("memory://", propagators=carried) as client:
        await client.start(checkout.options(metadata={"tenant": "t1"}), Order("1"))
    open_worker("memory://", propagators=carried)
    open_worker("memory://", propagators=[numbers])  # type: ignore[list-item]
    open_worker("memory://", interceptors=[Audit()])
    async with open_client("memory://", interceptors=[Audit()]) as client:
        assert_type(await client.run(ship, Order("a")), str)
    open_worker("memory://", interceptors=[Audit])  # type: ignore[list-item]
    checkout.options(metadata={"tenant": 1})  # type: ignore[dict-item]
    found = await check_compatibility(client, Registry(), sample=10, suspended=True)
    assert_type(found, Compatibility)
    assert_type(found.diverging, list[Misfit])
    assert_type(found.ok, bool)


def names() -> None:
    assert_type(trioflow.__version__, str)
    assert_type(backends.SqliteBackend, type[SqliteBackend])
    _ = trioflow.no_such_name  # type: ignore[attr-defined]
    _ = backends.NoSuchBackend  # type: ignore[attr-defined]
