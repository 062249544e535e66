"""Records golden histories of one module: ``python -m tests.histories.record_more NAME FOLDER``.

As record.py: each scenario ran once, when the module of its name was written, and need not run
again. What it writes has no path of the machine on which it ran.
"""

from __future__ import annotations

import contextlib
import sys
from datetime import UTC, datetime
from pathlib import Path

import trio
import trio.testing

from tests.histories import attributes as a
from tests.histories import detached as d
from tests.histories import starting as s
from tests.histories.programs import go
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


async def attributes(stage: Stage) -> None:
    given = {"gone": 1, "when": datetime(2026, 1, 2, 3, tzinfo=UTC), "empty": []}
    async with stage.worker() as client:
        start = a.has_attributes.options(id="has_attributes", attributes=given)
        await client.run(start, 2)
        await client.run(a.gives_attributes.options(id="gives_attributes"))


async def detached(stage: Stage) -> None:
    async with stage.worker() as client:
        await client.run(d.detaches.options(id="detaches"))
        await trio.sleep(1)
        for id in ("detaches/0:0", "abandoned"):
            await client.handle(id).signal(go, 7)
            await client.handle(id).result()


SCENARIOS = {each.__name__: each for each in (starting, attributes, detached)}


def main(name: str, folder: Path) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(record, SCENARIOS[name], folder, 0, clock=clock)
    for path in folder.glob("*.json"):
        path.write_text(path.read_text("utf-8").replace(HERE, "/srv/trioflow"), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
