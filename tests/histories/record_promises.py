"""Records the golden histories of promises: ``python -m tests.histories.record_promises FOLDER``.

It ran once, on the commit that added it, as `record.py` did on its own; what it wrote stays.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio
import trio.testing

from tests.histories import programs as p
from tests.histories import promising as q
from tests.histories.record import record
from trioflow._model.commands import RunActivity
from trioflow._model.turns import decode_turn


async def tokens(stage):
    """The tokens that the last execution has passed to its activities."""
    turns = (await stage.backend.history("promised"))[-1].turns
    commands = [command for turn in turns for command in decode_turn(turn).commands]
    return [bytes(c.input).split(b'"')[3].decode() for c in commands if isinstance(c, RunActivity)]


async def promises(stage):
    async with stage.worker() as client:
        await client.start(q.promised.options(id="promised"), again=True)
        await trio.sleep(5)
        of_the_first = await tokens(stage)
    async with stage.worker(workflows=False) as client:
        await client.handle("promised").signal(p.word, "go on")
        assert await client.resolve(of_the_first[0], "of the first")
    async with stage.worker() as client:
        await trio.sleep(3)
        paid, signed = await tokens(stage)
        assert await client.reject(signed, ValueError("not like this"))
        assert await client.resolve(paid, {"euros": 7})
        await client.handle("promised").result()


def main() -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(record, promises, Path(sys.argv[1]), 0, clock=clock)


if __name__ == "__main__":
    main()
