"""Workflows per second, and how long one of them takes."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from statistics import median

import trio

from benchmarks.flows import root, two
from benchmarks.measuring import Commits, Figure, Sizes, alternate, scratch, working
from benchmarks.raw import has_writer, raw_speed
from benchmarks.stores import aims, fresh, url_of
from trioflow import Client
from trioflow.backends.urls import open_backend

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
    usual = sizes.tree == Sizes().tree  # the raw writers know no other
    with scratch(sizes) as directory:
        url = url_of(sizes.backend, directory)
        async with working(open_backend(url)) as client:
            await trees_per_second(client, sizes, max(1, sizes.runs // 10))
            run = partial(trees_per_second, client, sizes, sizes.runs)
            what = f"{sizes.runs} roots"
            if not usual or not has_writer(url):
                (speed,) = await alternate(sizes.rounds, run)
                return [Figure("tree", what, speed, "workflows/s")]
            raw = partial(trio.to_thread.run_sync, raw_speed, url, sizes.runs)
            speed, limit = await alternate(sizes.rounds, run, raw)
    return [
        Figure("tree", what, speed, "workflows/s", aims(url).tree),
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
    return [Figure("one", "one root alone", median(times) * 1e3, "ms", aims(sizes.backend).one)]


async def two_activities(sizes: Sizes) -> list[Figure]:
    """The smallest workflow of use: two activities, one after the other."""
    with scratch(sizes) as directory:
        backend = fresh(sizes.backend, directory)
        counted = Commits(backend)
        async with working(backend) as client:
            await client.run(two, sizes.resultsize)
            times: list[float] = []
            commits: list[int] = []
            for _ in range(sizes.of(300, 5)):
                before = counted.made
                start = time.perf_counter()
                await client.run(two, sizes.resultsize)
                times.append(time.perf_counter() - start)
                commits.append(counted.made - before)
            many = sizes.of(2000, 20)
            speeds = [await _together(client, sizes, many) for _ in range(sizes.rounds)]
    alone, reach = median(times) * 1e3, aims(sizes.backend).two
    return [
        Figure("two", "start to result, one at a time", alone, "ms", reach),
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
