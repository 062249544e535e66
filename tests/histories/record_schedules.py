"""Records the golden histories of schedules: ``python -m tests.histories.record_schedules FOLDER``.

It ran once, on the commit that added it, as `record.py` did on its own; what it wrote stays.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio
import trio.testing

from tests.histories import scheduled as s
from tests.histories.record import EPOCH, record
from trioflow import Cron, Every

OVERLAPS = ("skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow")


async def schedules(stage):
    async with stage.worker() as client:
        for overlap in OVERLAPS:
            cron = Cron("*/10 * * * *", tz="Europe/Madrid")
            made = await client.schedule(
                f"schedule_{overlap}", cron, s.scheduled_run.bind(500.0), overlap=overlap, jitter=9
            )
            await trio.sleep(3600)
            await made.pause("noon")
        made = await client.schedule("schedule_changed", Every(minutes=5), s.scheduled_run.bind(9))
        await trio.sleep(700)
        await made.pause()
        run = await made.trigger()
        await run.result()
        await made.backfill(EPOCH - 3000, EPOCH - 1000)
        await trio.sleep(100)
        await made.resume()
    await trio.sleep(7 * 86400)
    async with stage.worker() as client:
        made = client.schedule_handle("schedule_changed")
        await trio.sleep(100)
        await made.replace(Every(hours=1), s.scheduled_run.bind(100), overlap="terminate_other")
        await trio.sleep(20_000)


def main() -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(record, schedules, Path(sys.argv[1]), 0, clock=clock)


if __name__ == "__main__":
    main()
