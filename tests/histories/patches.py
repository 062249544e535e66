"""Workflows of golden histories: patches. NEVER EDIT A LINE HERE.

As in programs.py: the histories beside this file were made by this code, or begun by what
record_patches.py has as its older version.
"""

from __future__ import annotations

import trio

from tests.histories.programs import double, flows, slow
from trioflow import deprecate_patch, patched


@flows.workflow
async def changed() -> list[int | str]:
    """Passed by executions of the old code before, in and after its patches."""
    found: list[int | str] = [await double(1)]
    for n in range(3):
        if patched("double first"):
            found.append(await double(n))
        found.append(await slow(f"round {n}", 10))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_in_a_task, found)
        await trio.sleep(5)
        nursery.start_soon(_in_a_task, found)
    new_end = patched("new end")
    for _ in range(3):
        await trio.sleep(1)
        if patched("count"):
            found.append(f"{new_end}")
    return found


async def _in_a_task(found: list[int | str]) -> None:
    if patched("0.1:2!in tasks"):
        found.append(await double(100))
    found.append(await slow("task", 1))


@flows.workflow
async def settled() -> list[int | str]:
    """Begun when the patch was not deprecated yet."""
    found: list[int | str] = []
    for n in range(4):
        deprecate_patch("double")
        found.append(await double(n))
        found.append(await slow(f"round {n}", 10))
    return found
