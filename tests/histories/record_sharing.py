"""Records the golden histories of what is shared: ``python -m tests.histories.record_sharing DIR``.

It ran once, on the commit that added it, as `record.py` did on its own; what it wrote stays.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio
import trio.testing

from tests.histories import sharing as s
from tests.histories.record import record


async def shared(stage):
    async with stage.worker() as client:
        handles = [
            await client.start(s.shares.options(id="shares"), "first", 60),
            await client.start(s.shares.options(id="shares_not"), "second", 2),
            await client.start(s.opens.options(id="opens"), 20),
        ]
        for handle in handles:
            await handle.result()


def main() -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(record, shared, Path(sys.argv[1]), 0, clock=clock)


if __name__ == "__main__":
    main()
