"""Records golden histories of a backlog: ``python -m tests.histories.record_backlog FOLDER``.

It ran once, with the commit that let a schedule go through a long backlog in several turns; see
record.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio
import trio.testing

from tests.histories import scheduled as s
from tests.histories.record import EPOCH, record
from trioflow import Every


async def backlog(stage):
    async with stage.worker() as client:
        run = s.scheduled_run.bind(5000.0)
        made = await client.schedule("schedule_backlog", Every(minutes=1), run, overlap="skip")
        await trio.sleep(100)
        await made.backfill(EPOCH - 150 * 60, EPOCH, overlap="skip")
        await trio.sleep(100)


def main() -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(record, backlog, Path(sys.argv[1]), 0, clock=clock)


if __name__ == "__main__":
    main()
