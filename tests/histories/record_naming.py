"""Records golden histories of named timers: ``python -m tests.histories.record_naming FOLDER``.

It ran once, with the commit that let workflows name their timers; see record.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio
import trio.testing

from tests.histories.naming import names_timers
from tests.histories.record import record


async def names(stage):
    await stage.run(names_timers.options(id="names_timers"))


def main() -> None:
    folder = Path(sys.argv[1])
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(record, names, folder, 1000, clock=clock)


if __name__ == "__main__":
    main()
