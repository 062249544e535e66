"""Records the golden histories of updates: ``python -m tests.histories.record_updates FOLDER``.

It ran once, on the commit that added it, as `record.py` did on its own; what it wrote stays.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio
import trio.testing

from tests.histories import programs as p
from tests.histories import updating as u
from tests.histories.record import record


async def updates(stage):
    async with stage.worker() as client:
        handle = await client.start(u.updated.options(id="updated"), [1])
        for number in (2, 3, -4):
            await handle.start_update(u.add.options(id=f"add {number}"), number)
        await handle.start_update(u.add.options(id="add x"), 5)
        await handle.start_update(u.late.options(id="late"), "done")
        await trio.sleep(5)
        await handle.start_update("add", "no number")
        await handle.start_update(u.shows)
        await trio.sleep(5)
    async with stage.worker() as client:
        handle = client.handle("updated")
        await handle.signal(p.word, "again")
        await trio.sleep(1)
        await handle.start_update(u.shows.options(id="shows again"))
        await trio.sleep(1)
        await handle.signal(p.word, "return")
        await handle.result()


def ends(how):
    async def end(stage):
        async with stage.worker() as client:
            handle = await client.start(
                u.updated_at_its_end.options(id=f"updated_at_its_end.{how}"), how
            )
            await handle.start_update(u.add.options(id="long"), 60)
            await handle.start_update(u.add.options(id="short"), 3)
            await trio.sleep(10)
            if how == "cancel":
                await handle.cancel("for the record")
            await handle.signal(p.go, 1)
            await trio.sleep(100)

    return end


def main() -> None:
    folder = Path(sys.argv[1])
    for number, fn in enumerate((updates, *map(ends, ("return", "raise", "cancel")))):
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(record, fn, folder, 1000 if number % 2 else 0, clock=clock)


if __name__ == "__main__":
    main()
