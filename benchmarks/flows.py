"""The workflows that are measured, and their activities."""

from __future__ import annotations

import os
import time

import anyio
import trio

from trioflow import Registry, Signal

__all__ = [
    "burned",
    "go",
    "marks",
    "mid",
    "registry",
    "root",
    "single",
    "sleeper",
    "spin",
    "spin_in_thread",
    "spin_together",
    "stepper",
    "two",
    "wide",
]

registry = Registry()
go = Signal("go", int)

marks: list[float] = []
"""When each ``tick`` ran (``time.perf_counter()``)."""


@registry.activity
async def text(size: int) -> str:
    return "x" * size


@registry.activity
async def tick() -> None:
    marks.append(time.perf_counter())


@registry.workflow
async def leaf(activities: int, size: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(activities):
            nursery.start_soon(text, size)


@registry.workflow
async def mid(depth: int, fanout: int, leaffanout: int, activities: int, size: int) -> None:
    async with trio.open_nursery() as nursery:
        if depth == 0:
            for _ in range(leaffanout):
                nursery.start_soon(leaf, activities, size)
        else:
            for _ in range(fanout):
                nursery.start_soon(mid, depth - 1, fanout, leaffanout, activities, size)


@registry.workflow
async def root(depth: int, fanout: int, leaffanout: int, activities: int, size: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(fanout):
            nursery.start_soon(mid, depth - 1, fanout, leaffanout, activities, size)


@registry.workflow
async def single(size: int) -> str:
    return await text(size)


@registry.workflow
async def two(size: int) -> int:
    first = await text(size)
    second = await text(size)
    return len(first) + len(second)


@registry.workflow(max_events=1_000_000)
async def stepper() -> int:
    """Run as many activities one after the other as each signal says, until that is 0."""
    done = 0
    while count := await go.receive():
        for _ in range(count):
            await tick()
        done += count
    return done


@registry.workflow(max_events=1_000_000)
async def wide(count: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(tick)


@registry.workflow
async def sleeper(seconds: float) -> None:
    await trio.sleep(seconds)


def burned(seconds: float) -> tuple[int, float, float]:
    """Use so much processor time; return in which process, and when it began and ended."""
    began, used = time.perf_counter(), time.thread_time()
    while time.thread_time() - used < seconds:
        sum(range(1000))
    return os.getpid(), began, time.perf_counter()


@registry.activity
async def burn(seconds: float) -> tuple[int, float, float]:
    return burned(seconds)


@registry.activity
def burn_in_thread(seconds: float) -> tuple[int, float, float]:
    return burned(seconds)


@registry.workflow
async def spin(seconds: float) -> tuple[int, float, float]:
    return await burn(seconds)


@registry.workflow
async def spin_together(count: int, seconds: float) -> list[tuple[int, float, float]]:
    return list(await anyio.gather(*[burn(seconds) for _ in range(count)]))


@registry.workflow
async def spin_in_thread(seconds: float) -> tuple[int, float, float]:
    return await burn_in_thread(seconds)
