"""Workflows of golden histories: what schedules run. NEVER EDIT.

As in programs.py: the histories beside this file were made by this code. Those of the schedules
themselves were made by `trioflow.schedules`.
"""

from __future__ import annotations

import trio

from tests.histories.programs import flows
from trioflow import continue_as_new, info


@flows.workflow
async def scheduled_run(seconds: float, executions: int = 2) -> list[float | None]:
    await trio.sleep(seconds)
    if executions > 1:
        continue_as_new(seconds, executions - 1)
    return [info().scheduled_at]
