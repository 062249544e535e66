"""Workflows of golden histories: timers with names. NEVER EDIT A LINE HERE.

As in programs.py: the histories beside this file were made by this code.
"""

from __future__ import annotations

import trio

from tests.histories.programs import flows
from trioflow import now, sleep


@flows.workflow
async def names_timers() -> list[float]:
    began = now()
    await sleep(0, name="at once")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: sleep(3, name="the short one"))
        with trio.move_on_after(1):
            await sleep(10, name="é, cut short")
        nursery.start_soon(trio.sleep, 2)
    await sleep(3600.5, name="the long one")
    return [now() - began]
