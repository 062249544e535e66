"""What gets slower as histories and stores grow: replay, steps, and workflows beside old ones."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import trio

from benchmarks.flows import go, marks, stepper, two, wide
from benchmarks.measuring import Figure, Sizes, alternate, scratch, working
from benchmarks.stores import fresh
from trioflow import Client, Handle, JsonCodec, Workflow
from trioflow._engine.calls import Caller
from trioflow._engine.execution import Execution, Identity
from trioflow._model.turns import decode_turn
from trioflow.backends.sqlite.dialect import connect

__all__ = ["finished", "history", "replay"]


# --- replay --------------------------------------------------------------------------------


async def replay(sizes: Sizes) -> list[Figure]:
    """Fold stored turns from their bytes, as after a restart."""
    steps = sizes.of(5000, 50)
    with scratch(sizes) as directory:
        async with working(fresh("memory", directory)) as client:
            handle = await client.start(stepper)
            await handle.signal(go, steps)
            await handle.signal(go, 0)
            await handle.result()
            sequential = (await client.backend.load([(handle.id, 1)]))[0]
            handle_wide = await client.start(wide, steps)
            await handle_wide.result()
            spread = (await client.backend.load([(handle_wide.id, 1)]))[0]
    figures: list[Figure] = []
    kinds: list[tuple[str, Workflow[..., Any], list[bytes]]] = [
        ("sequential", stepper, sequential),
        ("wide", wide, spread),
    ]
    for name, definition, turns in kinds:
        events, seconds = await _replayed(definition, turns, sizes)
        size = f"{name}, {events} events in {len(turns)} turns"
        figures.append(Figure("replay", size, events / seconds, "events/s", ">= 100000"))
        figures.append(Figure("replay", name, len(turns) / seconds, "turns/s"))
    return figures


async def _replayed(
    definition: Workflow[..., Any], turns: list[bytes], sizes: Sizes
) -> tuple[int, float]:
    codec, identity, events = JsonCodec(), Identity("bench", 1, "default"), 0

    async def once() -> float:
        nonlocal events
        await trio.lowlevel.checkpoint()
        start = time.perf_counter()
        execution = Execution(definition, identity, codec, Caller)
        execution.replay([decode_turn(turn) for turn in turns])
        seconds = time.perf_counter() - start
        events = execution.events
        execution.evict()
        return seconds

    (seconds,) = await alternate(sizes.of(9, 1), once)
    return events, seconds


# --- a long history ------------------------------------------------------------------------


async def history(sizes: Sizes) -> list[Figure]:
    """A step of an execution that has made thousands, and of one that has made few, in turns."""
    few, many, at_once = 40, sizes.of(4900, 100), sizes.of(20, 5)
    figures: list[Figure] = []
    for kind in ("memory", "sqlite"):
        with scratch(sizes) as directory:
            async with working(fresh(kind, directory)) as client:
                old = await _stepped(client, many)
                old_times: list[float] = []
                new_times: list[float] = []
                for _ in range(sizes.of(25, 2)):
                    new = await _stepped(client, few)
                    new_times += await _steps(new, at_once)
                    old_times += await _steps(old, at_once)
                    await new.signal(go, 0)
                    await new.result()
                events = (await old.describe()).events
                await old.signal(go, 0)
                await old.result()
        before, after = median(new_times), median(old_times)
        what = f"{kind}: at {events}"
        figures += [
            Figure("history", f"{kind}: a step at 100 events", before * 1e6, "µs"),
            Figure("history", f"{what} events", after * 1e6, "µs"),
            Figure("history", f"{what} to 100 events", after / before, "", "<= 1.2"),
        ]
    return figures


async def _stepped(client: Client, steps: int) -> Handle[int]:
    handle = await client.start(stepper)
    await _steps(handle, steps)
    return handle


async def _steps(handle: Handle[int], count: int) -> list[float]:
    """Let it make so many steps; return the seconds from each to the next."""
    marks.clear()
    await handle.signal(go, count)
    # Looked at now and then: an event to wait for would be part of what is measured.
    while len(marks) < count:  # noqa: ASYNC110 - see above
        await trio.sleep(0.0005 * (count - len(marks)))
    return [later - earlier for earlier, later in pairwise(marks)]


# --- many finished instances -----------------------------------------------------------------


async def finished(sizes: Sizes) -> list[Figure]:
    """Workflows in a file that holds many finished ones, and in one that holds few, in turns."""
    few, many = sizes.of(1000, 100), sizes.of(200_000, 1000)
    at_once, alone = sizes.of(1000, 20), sizes.of(40, 3)
    with scratch(sizes) as directory:
        async with AsyncExitStack() as stack:
            small = await stack.enter_async_context(_filled(directory, few))
            large = await stack.enter_async_context(_filled(directory, many))
            costs: list[float] = []
            for count in (at_once, alone):
                run = [partial(_cost, client, count) for client in (small, large)]
                await alternate(1, *run)
                costs += await alternate(sizes.of(11, 1), *run)
    figures: list[Figure] = []
    for how, count, (before, after) in (
        ("at once", at_once, costs[:2]),
        ("few at a time", alone, costs[2:]),
    ):
        figures += [
            Figure("finished", f"{count} {how}, {few} finished", before * 1e6, "µs each"),
            Figure("finished", f"{count} {how}, {many} finished", after * 1e6, "µs each"),
            Figure("finished", f"{how}: {many} to {few}", after / before, "", "<= 1.2"),
        ]
    return figures


async def _cost(client: Client, count: int) -> float:
    start = time.perf_counter()
    limiter = trio.CapacityLimiter(count if count >= 100 else 4)

    async def run() -> None:
        async with limiter:
            await client.run(two, 100)

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(run)
    return (time.perf_counter() - start) / count


@asynccontextmanager
async def _filled(directory: Path, count: int) -> AsyncIterator[Client]:
    """Run a worker on a file that holds so many finished instances."""
    name = f"finished-{count}.db"
    async with working(fresh("sqlite", directory, name)) as client:
        handle = await client.start(two, 100)
        await handle.result()
    copy_instance(directory / name, handle.id, count - 1)
    async with working(fresh("sqlite", directory, name)) as client:
        found = await client.count()
        if found != count:
            raise AssertionError(f"{found} instances in the file, not {count}")
        yield client


def copy_instance(path: Path, id: str, count: int) -> None:
    """Store so many copies of a finished instance and its history, under random ids."""
    connection = connect(str(path))
    try:
        # Ids as the client makes them: spread over the whole index.
        connection.execute("CREATE TEMP TABLE copies (id TEXT NOT NULL)")
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO copies SELECT 'two-' || lower(hex(randomblob(10))) FROM n",
            (count,),
        )
        connection.execute("BEGIN IMMEDIATE")
        for table, key, ordering in (("instances", "id", ""), ("turns", "instance", "ORDER BY 1")):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            columns = [column for column in columns if column != "seq"]
            given = ", ".join("copies.id" if c == key else f"one.{c}" for c in columns)
            connection.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {given}"
                f" FROM copies, {table} AS one WHERE one.{key} = ? {ordering}",
                (id,),
            )
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
