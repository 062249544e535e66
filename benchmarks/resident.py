"""What a worker costs while nothing happens: memory of what sleeps, and processor time."""

from __future__ import annotations

import gc
import time
import tracemalloc
from pathlib import Path
from statistics import median

import trio

from benchmarks.flows import sleeper
from benchmarks.measuring import Figure, Sizes, scratch, working
from benchmarks.stores import aims, fresh
from trioflow import Client

__all__ = ["idle", "sleeping"]

_LONG = 1e6  # seconds


async def sleeping(sizes: Sizes) -> list[Figure]:
    """Instances of one sleeping task each: kept in the cache, and evicted from it."""
    count, warm = sizes.of(4000, 60), sizes.of(400, 10)
    per_instance: dict[str, float] = {}
    resident = 0.0
    # First without tracing, since that needs memory of its own.
    everything = count + warm
    for how, cache, trace in (
        ("", everything, False),
        ("kept", everything, True),
        ("evicted", 1, True),
    ):
        with scratch(sizes) as directory:
            async with working(fresh("sqlite", directory), cache_size=cache) as client:
                await _sleep(client, warm)
                gc.collect()
                if trace:
                    tracemalloc.start()
                before, resident_before = _traced(), _resident()
                await _sleep(client, count)
                gc.collect()
                if trace:
                    per_instance[how] = (_traced() - before) / count
                else:
                    resident = (_resident() - resident_before) / count
        tracemalloc.stop()
    kib = 1024
    return [
        Figure("sleeping", f"kept, of {count}", per_instance["kept"] / kib, "KiB each", "< 14"),
        Figure("sleeping", "kept, resident size", resident / kib, "KiB each", "< 14"),
        Figure("sleeping", "evicted", per_instance["evicted"] / kib, "KiB each", "< 0.5"),
    ]


async def _sleep(client: Client, count: int) -> None:
    """Start so many, and wait until none of them is in any worker's hands."""
    for _ in range(0, count, 100):
        async with trio.open_nursery() as nursery:
            for _ in range(min(100, count)):
                nursery.start_soon(client.start, sleeper, _LONG)
    # The store has no event for "nobody holds it".
    while any(i.worker for i in await client.list(status="running", limit=200)):  # noqa: ASYNC110
        await trio.sleep(0.01)


def _traced() -> int:
    return tracemalloc.get_traced_memory()[0]


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * 4096


async def idle(sizes: Sizes) -> list[Figure]:
    """Open and close a worker; then let one do nothing."""
    seconds = 0.3 if sizes.quick else 5.0
    with scratch(sizes) as directory:
        times: list[float] = []
        for _ in range(sizes.of(15, 2)):
            start = time.perf_counter()
            async with working(fresh(sizes.backend, directory)):
                pass
            times.append(time.perf_counter() - start)
        async with working(fresh(sizes.backend, directory)) as client:
            alone = await _share(seconds)
            await _sleep(client, sizes.of(100, 5))
            asleep = await _share(seconds)
            handle = await client.start(sleeper, _LONG)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(handle.result)
                awaited = await _share(seconds)
                nursery.cancel_scope.cancel()
    reach = aims(sizes.backend).idle
    return [
        Figure("idle", "open and close a worker", median(times) * 1e3, "ms"),
        Figure("idle", "processor, nothing stored", alone, "%", reach),
        Figure("idle", "processor, instances asleep", asleep, "%", reach),
        Figure("idle", "processor, a result awaited", awaited, "%"),
    ]


async def _share(seconds: float) -> float:
    await trio.sleep(seconds / 5)  # until what went before has been written
    start, used = time.perf_counter(), time.process_time()
    await trio.sleep(seconds)
    return 100 * (time.process_time() - used) / (time.perf_counter() - start)
