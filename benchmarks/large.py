"""Single workflows with thousands of activities, sub-workflows, signals or updates: is it flat?

What an item costs must not grow with those that came before it. So the last items of a workflow are
compared with its first ones, by the times of its turns; nothing is measured in between.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import anyio
import trio

from benchmarks.flows import registry
from benchmarks.measuring import Figure, Sizes, scratch, working
from benchmarks.stores import fresh
from trioflow import Client, Handle, Signal, Update
from trioflow._model.events import (
    ActivityCompleted,
    ChildCompleted,
    Event,
    SignalReceived,
    UpdateRequested,
)
from trioflow._model.turns import Turn

__all__ = ["large"]

_AT_ONCE = 100

number = Signal("number", int)
add = Update("add", argument=int, result=int)


@registry.activity
async def echo(n: int) -> int:
    return n


@registry.workflow
async def echoed(n: int) -> int:
    return n


@registry.workflow(max_events=1_000_000)
async def many_activities(count: int) -> int:
    limiter = trio.CapacityLimiter(_AT_ONCE)

    async def limited(n: int) -> int:
        async with limiter:
            return await echo(n)

    return sum(await anyio.amap(limited, range(count)))


@registry.workflow(max_events=1_000_000)
async def many_children(count: int) -> int:
    limiter = trio.CapacityLimiter(_AT_ONCE)

    async def limited(n: int) -> int:
        async with limiter:
            return await echoed(n)

    return sum(await anyio.amap(limited, range(count)))


@registry.workflow(max_events=1_000_000)
async def many_signals(count: int) -> int:
    return sum([await number.receive() for _ in range(count)])


@registry.workflow(max_events=1_000_000)
async def many_updates(count: int) -> int:
    numbers: list[int] = []
    enough = trio.Event()

    @add.handler
    async def _(n: int) -> int:
        numbers.append(n)
        if len(numbers) == count:
            enough.set()
        return n

    await enough.wait()
    return sum(numbers)


async def _nothing(handle: Handle[int], count: int) -> None:
    pass


async def _signal(handle: Handle[int], count: int) -> None:
    await _together(partial(handle.signal, number), count)


async def _update(handle: Handle[int], count: int) -> None:
    await _together(partial(handle.update, add), count)


async def _together(call: Callable[[int], Awaitable[object]], count: int) -> None:
    """Call it with each number, some at once."""
    numbers = iter(range(count))

    async def some() -> None:
        for n in numbers:
            await call(n)

    async with trio.open_nursery() as nursery:
        for _ in range(_AT_ONCE):
            nursery.start_soon(some)


@dataclass(frozen=True)
class _Kind:
    """One way of being large.

    Attributes:
        what: The items, for the table.
        count: How many of them.
        workflow: Takes a number of items; its result is the sum of the numbers below it.
        item: The event of its history that means: one more item.
        drive: What is done from outside while it runs.
    """

    what: str
    count: int
    workflow: str
    item: type[Event]
    drive: Callable[[Handle[int], int], Awaitable[None]] = _nothing


_KINDS = (
    _Kind("activities", 5_000, "many_activities", ActivityCompleted),
    _Kind("sub-workflows", 1_000, "many_children", ChildCompleted),
    _Kind("signals", 10_000, "many_signals", SignalReceived, _signal),
    _Kind("updates", 1_000, "many_updates", UpdateRequested, _update),
)


@dataclass(frozen=True)
class _Run:
    """What one workflow took.

    Attributes:
        seconds: From its start to its result.
        growth: The time of its last items to that of its first.
        peak: The most bytes that were traced until its result, 0 if nothing is traced.
    """

    seconds: float
    growth: float
    peak: int


async def large(sizes: Sizes) -> list[Figure]:
    """One workflow of each kind: its time, its peak of memory, and its last items to its first."""
    figures: list[Figure] = []
    for kind in _KINDS:
        shown = replace(kind, count=sizes.of(kind.count, 50))
        await _measured(sizes, replace(kind, count=_part(shown.count)))  # what is made only once
        rounds = [await _measured(sizes, shown) for _ in range(sizes.rounds)]
        tracemalloc.start()  # not before, since tracing takes time of its own
        before = tracemalloc.get_traced_memory()[0]
        traced = await _measured(sizes, shown)
        tracemalloc.stop()
        what = f"{shown.count} {shown.what}"
        seconds = median(run.seconds for run in rounds)
        growth = median(run.growth for run in rounds)
        figures += [
            Figure("large", what, seconds, "s"),
            Figure("large", f"{what}: each", seconds / shown.count * 1e6, "µs"),
            Figure("large", f"{what}: peak of memory", (traced.peak - before) / 2**20, "MiB"),
            Figure("large", f"{what}: last to first", growth, "", "<= 1.3"),
        ]
    return figures


def _part(count: int) -> int:
    """Return how many items the first ones are, and the last ones."""
    return min(1_000, count // 2)


async def _measured(sizes: Sizes, kind: _Kind) -> _Run:
    """Run one on an empty store."""
    with scratch(sizes) as directory:
        async with working(fresh(sizes.backend, directory)) as client:
            return await _run(client, kind)


async def _run(client: Client, kind: _Kind) -> _Run:
    began = time.perf_counter()
    handle: Handle[int] = await client.start(kind.workflow, kind.count)
    await kind.drive(handle, kind.count)
    if await handle.result() != sum(range(kind.count)):
        raise AssertionError(kind.what)
    seconds = time.perf_counter() - began
    peak = tracemalloc.get_traced_memory()[1]
    (execution,) = await handle.history()
    turns = [turn for turn in execution.turns if isinstance(turn, Turn)]
    times = [turn.now for turn in turns for event in turn.events if isinstance(event, kind.item)]
    part = _part(kind.count)
    first, last = times[part - 1] - times[0], times[-1] - times[-part]
    # Few items are all in one turn, and then there is nothing to compare.
    return _Run(seconds, last / first if first else 1.0, peak)
