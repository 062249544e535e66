"""Workflows of golden histories: executions that began by a reset, and forks. NEVER EDIT.

As in programs.py: the histories beside this file were made by this code.
"""

from __future__ import annotations

import trio

from tests.histories.programs import flows, go, word
from trioflow import info, random, set_status, side_effect


@flows.activity
async def notes(what: str) -> str:
    return what


@flows.workflow
async def sleeps_for_ever() -> None:
    await trio.sleep_forever()


@flows.workflow
async def was_reset() -> list[object]:
    mine = info()
    found: list[object] = [mine.id, mine.execution, side_effect(lambda: "once")]
    set_status(mine.execution)
    if mine.execution == 1 and mine.id == "was_reset":
        found.append(await notes("in the first execution of the first instance"))
    found += [random().random(), await go.receive()]
    with trio.move_on_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleeps_for_ever.options(id=f"sleeper of {info().id}"))
            found.append(await word.receive())
            if info().execution == 1 and info().id == "was_reset":
                raise ValueError("only in the first execution")
    return [*found, info().id, info().execution, random().random()]
