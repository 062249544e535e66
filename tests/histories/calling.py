"""Workflows of golden histories: anyio, values, effects, options. NEVER EDIT A LINE HERE.

As in programs.py: the histories beside this file were made by this code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import anyio
import msgspec
import trio

from tests.histories.programs import ONCE, adding, broken, double, flows, slow
from trioflow import (
    RetryPolicy,
    activity_by_name,
    info,
    is_replaying,
    logger,
    now,
    random,
    set_status,
    side_effect,
    uuid4,
)

# --- anyio's constructs ---------------------------------------------------------------------


@flows.workflow
async def groups() -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with anyio.create_task_group() as group:
        handle = group.start_soon(double, 1)
        group.start_soon(slow, "second", 2)
        found["handle"] = await handle
    found["gather"] = list(await anyio.gather(double(2), slow("g", 1), double(3)))
    async with anyio.as_completed(slow("late", 3), slow("soon", 1), slow("between", 2)) as results:
        found["as_completed"] = [await each async for each in results]
    async with anyio.create_task_group() as group:
        send, receive = anyio.create_memory_object_stream[int](0)
        event, limit = anyio.Event(), anyio.Semaphore(1)

        async def limited(n: int) -> None:
            async with limit:
                await send.send(await double(n))

        for n in range(3):
            group.start_soon(limited, n)
        found["stream"] = [await receive.receive() for _ in range(3)]
        event.set()
        await event.wait()
        send.close()
        receive.close()
    with anyio.move_on_after(2) as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(slow, "cancelled", 50)
            group.start_soon(anyio.sleep, 50)
    found["moved on"] = scope.cancelled_caught
    try:
        with anyio.fail_after(1):
            await anyio.sleep_forever()
    except TimeoutError:
        found["failed after"] = now() - info().started_at
    async with anyio.create_task_group() as group:
        group.start_soon(slow, "x", 9)
        await anyio.sleep(1)
        group.cancel_scope.cancel()
    try:
        await anyio.gather(broken("in gather"), slow("other", 20))
    except ExceptionGroup as error:
        found["gather failed"] = [str(each) for each in error.exceptions]
    except ValueError as error:
        found["gather failed"] = [str(error)]
    return found


# --- values, effects, options ---------------------------------------------------------------


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Line:
    name: str
    price: Decimal
    tags: set[str] = field(default_factory=set)


class Order(msgspec.Struct):
    id: UUID
    lines: list[Line]
    at: datetime
    colour: Colour = Colour.RED
    note: bytes = b""
    pair: tuple[int, float] = (1, 0.5)
    later: timedelta = timedelta(hours=1)


@flows.activity
async def price(order: Order, *, rate: Decimal = Decimal(1)) -> dict[str, Decimal]:
    return {line.name: line.price * rate for line in order.lines}


@flows.workflow
async def values(order: Order, colours: dict[str, Colour], maybe: int | None = None) -> Order:
    prices = await price(order, rate=Decimal("1.10"))
    lines = [Line(name, value, {"priced"}) for name, value in prices.items()]
    return Order(order.id, lines, order.at + order.later, colours["new"], b"\x00\xff", (2, 1e100))


@flows.workflow
async def effects() -> dict[str, Any]:
    found: dict[str, Any] = {"plain": side_effect(lambda: {"a": [1, 2.5, None, "ü"]})}

    def price() -> Decimal:
        return Decimal("9.99")

    def fails() -> int:
        raise OSError(2, "No such file", "settings.toml")

    found["typed"] = str(side_effect(price))
    found["given"] = str(side_effect(lambda: datetime(2026, 1, 2, tzinfo=UTC), datetime))
    try:
        side_effect(fails)
    except OSError as error:
        found["failed"] = [error.errno, error.strerror, error.filename]
    found["draws"] = [random().random(), random().getrandbits(40)]
    found["uuids"] = [str(uuid4()), str(uuid4())]

    async def draws(name: str) -> None:
        await trio.sleep(random().random())
        found[name] = [str(uuid4()), side_effect(lambda: name)]
        await double(random().getrandbits(4))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(draws, "left")
        nursery.start_soon(draws, "right")
    set_status({"found": len(found)})
    logger.info("found %d", len(found))
    found["replaying at the end"] = is_replaying() and not is_replaying()
    return found


@flows.workflow
async def knows_itself() -> dict[str, Any]:
    await double(1)
    me = info()
    return {
        "id": me.id,
        "execution": me.execution,
        "workflow": me.workflow,
        "queue": me.queue,
        "priority": me.priority,
        "parent": None if me.parent is None else me.parent.instance,
        "metadata": me.metadata,
        "turns": me.turns,
        "events": me.events,
        "child": await knows_itself() if me.parent is None else None,
    }


@flows.workflow
async def options() -> list[Any]:
    retry = RetryPolicy(max_attempts=4, initial_interval=3, backoff=1.5, non_retryable=(KeyError,))
    seen: list[Any] = [
        await double.options(retry=retry, timeout=30, schedule_timeout=300)(1),
        await double.options(queue="other", priority=-5)(2),
        await double.options(timeout=1.5, on_cancel="abandon")(3),
        await activity_by_name("double", result=int, timeout=12)(n=4),
        await activity_by_name("double")(n=5),
        await adding.options(queue="other", priority=50, id=f"{info().id}-child")(6),
    ]
    for kind in ("attempt", "schedule"):
        limits = {"timeout": 2.0} if kind == "attempt" else {"schedule_timeout": 2.0}
        try:
            await slow.options(retry=ONCE, **limits)("x", 60)
        except TimeoutError as error:
            seen.append(f"{kind}: {error}")
    return seen


@flows.workflow(timeout=20)
async def takes_too_long() -> str:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow, "x", 100)
        await trio.sleep(100)
    return "not reached"


@flows.workflow(max_events=100)
async def grows() -> int:
    for n in range(200):
        await anyio.gather(*(double(n) for _ in range(5)))
    return 200
