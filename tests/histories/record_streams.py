"""Records golden histories of streams: ``python -m tests.histories.record_streams FOLDER``.

It ran once, with the commit that let workflows emit values; see record.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio
import trio.testing

from tests.histories.programs import go
from tests.histories.record import record
from tests.histories.streaming import emits


async def streams(stage):
    async with stage.worker() as client:
        handle = await client.start(emits.options(id="emits"), 1)
        for seconds in (1, 10):
            await trio.sleep(seconds)
            await handle.signal(go, seconds)
        await handle.result()


def main() -> None:
    folder = Path(sys.argv[1])
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(record, streams, folder, 1000, clock=clock)


if __name__ == "__main__":
    main()
