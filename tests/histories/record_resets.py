"""Records the golden histories of resets: ``python -m tests.histories.record_resets FOLDER``.

It ran once, on the commit that added it, as `record.py` did on its own; what it wrote stays.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import trio
import trio.testing

from tests.histories import programs as p
from tests.histories import resetting as r
from tests.histories.record import record


async def resets(stage):
    async with stage.worker() as client:
        handle = await client.start(r.was_reset.options(id="was_reset"))
        await trio.sleep(5)
        await handle.signal(p.go, 1)
        await trio.sleep(5)
        await handle.signal(p.word, "fail")
        with contextlib.suppress(ExceptionGroup):
            await handle.result()
        await handle.reset(reason="for the record")
        await trio.sleep(2)
        await handle.reset(turn=1, reason="again")
        await handle.result()
        fork = await client.fork("was_reset", turn=2, new_id="forked")
        await fork.signal(p.go, 2)
        await fork.signal(p.word, "forked")
        await fork.result()


def main() -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(record, resets, Path(sys.argv[1]), 0, clock=clock)


if __name__ == "__main__":
    main()
