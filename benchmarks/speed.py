"""Workflows per second, and how long one of them takes."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from statistics import median

import trio

from benchmarks.flows import root, two
from benchmarks.measuring import CountingSqlite, Figure, Sizes, alternate, scratch, working
from benchmarks.raw_writer import raw_sqlite
from benchmarks.stores import fresh
from trioflow import Client

__all__ = ["memory", "one", "tree", "two_activities"]


async def trees_per_second(client: Client, sizes: Sizes, runs: int) -> float:
    """Run so many roots at once; return workflows per second."""
    start = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(runs):
            nursery.start_soon(client.run, root, *sizes.tree)
    return runs * sizes.workflows / (time.perf_counter() - start)


async def tree(sizes: Sizes) -> list[Figure]:
    """The bench tree, and what a writer of the same rows without an engine reaches."""
    with scratch(sizes) as directory:
        written = 0

        async def raw() -> float:
            nonlocal written
            written += 1
            path = str(directory / f"raw-{written}.db")
            result = await trio.to_thread.run_sync(raw_sqlite, path, sizes.runs)
            return result["workflows_per_second"]

        async with working(fresh(sizes.backend, directory)) as client:
            await trees_per_second(client, sizes, max(1, sizes.runs // 10))
            run = partial(trees_per_second, client, sizes, sizes.runs)
            usual = sizes.tree == Sizes().tree and sizes.backend == "sqlite"
            if not usual:  # the raw writer knows the usual tree only, and SQLite
                (speed,) = await alternate(sizes.rounds, run)
                return [
                    Figure("tree", f"{sizes.runs} roots, {sizes.backend}", speed, "workflows/s")
                ]
            speed, limit = await alternate(sizes.rounds, run, raw)
    return [
        Figure("tree", f"{sizes.runs} roots, SQLite file", speed, "workflows/s", ">= 1900"),
        Figure("tree", "raw writer of the same rows", limit, "workflows/s"),
        Figure("tree", "share of the raw writer", speed / limit, "", ">= 0.35"),
    ]


async def one(sizes: Sizes) -> list[Figure]:
    """One root with nothing beside it."""
    with scratch(sizes) as directory:
        async with working(fresh(sizes.backend, directory)) as client:
            await client.run(root, *sizes.tree)
            times: list[float] = []
            for _ in range(sizes.of(31, 3)):
                start = time.perf_counter()
                await client.run(root, *sizes.tree)
                times.append(time.perf_counter() - start)
    return [Figure("one", f"one root alone, {sizes.backend}", median(times) * 1e3, "ms", "< 25")]


async def two_activities(sizes: Sizes) -> list[Figure]:
    """The smallest workflow of use: two activities, one after the other."""
    with scratch(sizes) as directory:
        store = CountingSqlite(directory / "bench.db")
        async with working(store) as client:
            await client.run(two, sizes.resultsize)
            times: list[float] = []
            commits: list[int] = []
            for _ in range(sizes.of(300, 5)):
                before = store.commits
                start = time.perf_counter()
                await client.run(two, sizes.resultsize)
                times.append(time.perf_counter() - start)
                commits.append(store.commits - before)
            many = sizes.of(2000, 20)
            speeds = [await _together(client, sizes, many) for _ in range(sizes.rounds)]
    return [
        Figure("two", "start to result, one at a time", median(times) * 1e3, "ms", "< 6"),
        Figure("two", "commits of one", median(commits), "", "<= 4"),
        Figure("two", f"{many} at once", median(speeds), "workflows/s"),
    ]


async def _together(client: Client, sizes: Sizes, count: int) -> float:
    start = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(client.run, two, sizes.resultsize)
    return count / (time.perf_counter() - start)


async def memory(sizes: Sizes) -> list[Figure]:
    """The tree in memory and in a file, in turns."""
    with scratch(sizes) as directory:
        async with AsyncExitStack() as stack:
            in_memory, in_file = [
                await stack.enter_async_context(working(fresh(kind, Path(directory))))
                for kind in ("memory", "sqlite")
            ]
            for client in (in_memory, in_file):
                await trees_per_second(client, sizes, max(1, sizes.runs // 10))
            fast, durable = await alternate(
                sizes.rounds,
                partial(trees_per_second, in_memory, sizes, sizes.runs),
                partial(trees_per_second, in_file, sizes, sizes.runs),
            )
    return [
        Figure("memory", f"{sizes.runs} roots, memory", fast, "workflows/s"),
        Figure("memory", "the same on a SQLite file", durable, "workflows/s"),
        Figure("memory", "memory to SQLite", fast / durable, "", ">= 1.3"),
    ]
