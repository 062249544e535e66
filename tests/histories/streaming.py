"""Workflows of golden histories: streams. NEVER EDIT A LINE HERE.

As in programs.py: the histories beside this file were made by this code.
"""

from __future__ import annotations

import trio

from tests.histories.programs import flows, go
from trioflow import continue_as_new, emit


@flows.workflow
async def emits(rounds: int) -> str:
    await emit("progress", {"left": rounds, "text": "é"})
    await emit("progress", None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(emit, "beside", [rounds, 1.5])
        nursery.start_soon(emit, "progress", "beside")
        await trio.sleep(3)
    await emit("progress", await go.receive())
    if rounds:
        continue_as_new(rounds - 1)
    return "emitted"
