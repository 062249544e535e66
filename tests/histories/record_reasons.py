"""Records golden histories of reasons: ``python -m tests.histories.record_reasons FOLDER``.

It ran once, with the commit that gave cancels of activities a reason; see record.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio
import trio.testing

from tests.histories.reasons import gives_reasons
from tests.histories.record import record


async def reasons(stage):
    async with stage.worker() as client:
        await client.start(gives_reasons.options(id="gives_reasons"))
        await trio.sleep(50)
        await client.handle("gives_reasons").cancel("by the client")
        await trio.sleep(5)


def main() -> None:
    folder = Path(sys.argv[1])
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(record, reasons, folder, 1000, clock=clock)


if __name__ == "__main__":
    main()
