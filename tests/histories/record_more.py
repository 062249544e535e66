"""Records golden histories of one module: ``python -m tests.histories.record_more NAME FOLDER``.

As record.py: each scenario ran once, when the module of its name was written, and need not run
again. What it writes has no path of the machine on which it ran.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import trio
import trio.testing

from tests.histories import starting as s
from tests.histories.record import Stage, record

HERE = str(Path(__file__).parents[2])


async def starting(stage: Stage) -> None:
    async with stage.worker() as client:
        for workflow, id, args in (
            (s.over_all_executions, "over_all_executions", (9,)),
            (s.over_all_executions.options(max_events=300), "in_time", (1,)),
            (s.starts_a_later_one, "starts_a_later_one", ()),
        ):
            handle = await client.start(workflow.options(id=id), *args)
            with contextlib.suppress(TimeoutError):
                await handle.result()


SCENARIOS = {each.__name__: each for each in (starting,)}


def main(name: str, folder: Path) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(record, SCENARIOS[name], folder, 0, clock=clock)
    for path in folder.glob("*.json"):
        path.write_text(path.read_text("utf-8").replace(HERE, "/srv/trioflow"), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
