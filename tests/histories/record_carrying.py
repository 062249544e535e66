"""Records golden histories of metadata: ``python -m tests.histories.record_carrying FOLDER``.

It ran once, with the commit that gave calls metadata; see record.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio
import trio.testing

from tests.histories.carrying import carries, tenant
from tests.histories.record import record
from trioflow import ContextVars


async def metadata(stage):
    async with stage.worker(propagators=[ContextVars(tenant=tenant)]) as client:
        await client.run(carries.options(id="carries", metadata={"from": "the client"}))


def main() -> None:
    folder = Path(sys.argv[1])
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(record, metadata, folder, 1000, clock=clock)


if __name__ == "__main__":
    main()
