"""Records the golden histories of patches: ``python -m tests.histories.record_patches FOLDER``.

It ran once, with the commit that added `patched`; see record.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio
import trio.testing

from tests.histories import patches as new
from tests.histories.programs import double, slow
from tests.histories.record import record
from trioflow import Registry, patched

older = Registry()
older.add(double, slow)


@older.workflow
async def changed() -> list[int | str]:
    found: list[int | str] = [await double(1)]
    found += [await slow(f"round {n}", 10) for n in range(3)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_in_a_task, found)
        await trio.sleep(5)
        nursery.start_soon(_in_a_task, found)
    for _ in range(3):
        await trio.sleep(1)
    return found


async def _in_a_task(found: list[int | str]) -> None:
    found.append(await slow("task", 1))


@older.workflow
async def settled() -> list[int | str]:
    found: list[int | str] = []
    for n in range(4):
        if patched("double"):
            found.append(await double(n))
        found.append(await slow(f"round {n}", 10))
    return found


async def deploys(stage):
    """Each instance has come further when the new code is deployed."""
    for name, workflow, seconds in [
        ("patched-new", new.changed, 0),
        ("patched-after-a-round", new.changed, 15),
        ("patched-after-the-rounds", new.changed, 32),
        ("patched-at-the-end", new.changed, 37.5),
        ("patched-never", new.changed, 100),
        ("deprecated-new", new.settled, 0),
        ("deprecated-half-way", new.settled, 15),
        ("deprecated-afterwards", new.settled, 100),
    ]:
        if seconds:
            async with stage.worker(registry=older) as client:
                await client.start(workflow.options(id=name))
                await trio.sleep(seconds)
        async with stage.worker() as client:
            if not seconds:
                await client.start(workflow.options(id=name))
            await client.handle(name).result()


def main() -> None:
    folder = Path(sys.argv[1])
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(record, deploys, folder, 1000, clock=clock)


if __name__ == "__main__":
    main()
