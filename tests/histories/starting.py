"""Workflows of golden histories: times to start, timeouts, limits. NEVER EDIT A LINE HERE.

As in programs.py: the histories beside this file were made by this code.
"""

from __future__ import annotations

import trio

from tests.histories.programs import flows
from trioflow import continue_as_new, info


@flows.workflow(timeout=100)
async def over_all_executions(rounds: int) -> int:
    await trio.sleep(30)
    if rounds:
        continue_as_new(rounds - 1)
    return info().max_events


@flows.workflow
async def starts_a_later_one() -> int:
    later = over_all_executions.options(delay=50, timeout=200, max_events=500)
    return await later.options(id="starts_later")(1)
