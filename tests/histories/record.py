"""Records the golden histories: ``python -m tests.histories.record FOLDER``.

It ran once, on the commit "Start and stop private servers, and count raw rows, in one place", and
need not run on a later one: what it wrote stays as it is. Whoever adds histories, for a new event,
command or outcome, writes a module of workflows and such a script of their own.

Each scenario has a store in memory and a clock that jumps; every instance of it becomes a file.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import msgspec
import trio
import trio.testing

from tests.histories import calling as c
from tests.histories import failing as f
from tests.histories import programs as p
from trioflow import open_client, open_worker
from trioflow.backends.commits import NewInstance
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.memory import MemoryBackend

EPOCH = 1_780_000_000.0
SCENARIOS: list[Callable[..., Awaitable[None]]] = []


class Stage:
    def __init__(self, backend, cache_size):
        self.backend = backend
        self.cache_size = cache_size

    @asynccontextmanager
    async def worker(self, seconds=0.0, registry=p.flows, **options):
        """Run a worker, and go on in the block after some seconds."""
        options = {"cache_size": self.cache_size, "drain": 0.0, "name": "recorder", **options}
        async with open_worker(self.backend, registry=registry, **options) as worker:
            await trio.sleep(seconds)
            yield worker.client

    async def run(self, workflow, *args, **kwargs):
        async with self.worker() as client:
            handle = await client.start(workflow, *args, **kwargs)
            with contextlib.suppress(Exception):
                await handle.result()

    async def files(self):
        for record in await self.backend.list(InstanceFilter(), limit=10_000):
            executions = await self.backend.history(record.id)
            yield {
                "id": record.id,
                "workflow": record.workflow,
                "queue": record.queue,
                "priority": record.priority,
                "status": record.status,
                "executions": [
                    {"number": each.number, "turns": [_readable(turn) for turn in each.turns]}
                    for each in executions
                ],
            }


def _readable(turn: bytes):
    # Only blanks are added for reading; without them the bytes are those that were stored.
    assert msgspec.json.format(msgspec.json.format(turn, indent=1), indent=-1) == turn
    return msgspec.Raw(turn)


def scenario(fn):
    SCENARIOS.append(fn)
    return fn


# --- scenarios that need no hand ------------------------------------------------------------


@scenario
async def simple(stage):
    calls = [
        (p.nurseries, (2, 2)),
        (p.started_tasks, ()),
        (p.deadlines, ()),
        (p.failed_sibling, ()),
        (p.cancels_in_the_same_turn, ()),
        (p.completed_all_the_same, ()),
        (p.abandons, ()),
        (p.uses_generators, ()),
        (c.groups, ()),
        (c.effects, ()),
        (c.takes_too_long, ()),
        (f.a_group_of_children, ()),
        (f.of_the_library, ()),
        (f.bad_argument, ()),
        (f.uses_threads, ()),
    ]
    for workflow, args in calls:
        await stage.run(workflow.options(id=workflow.name), *args)
    order = c.Order(UUID(int=3), [c.Line("tea", Decimal("3.20"))], datetime(2026, 1, 2, tzinfo=UTC))
    await stage.run(c.values.options(id="values"), order, {"new": c.Colour.BLUE})


@scenario
async def failures(stage):
    kinds = list(f.KINDS)
    await stage.run(f.catches.options(id="catches"), kinds)
    await stage.run(f.catches_a_childs.options(id="catches_a_childs"), kinds)


@scenario
async def options(stage):
    async with stage.worker(queues=("default", "other")) as client:
        await (await client.start(c.options.options(id="options", priority=9))).result()
        knows = NewInstance("knows_itself", "knows_itself", "other", b"{}", None, b'{"a":"b"}', 3)
        await stage.backend.create([knows])
        await client.handle("knows_itself").result()


# --- scenarios with signals, cancels and downtime -------------------------------------------


@scenario
async def deadlines_while_nobody_works(stage):
    async with stage.worker() as client:
        await client.start(p.many_deadlines.options(id="many_deadlines"))
        await client.start(p.lost_race.options(id="lost_race"))
        await client.start(p.lost_race.options(id="won_race"))
        await client.start(p.lost_race.options(id="sent_late"))
        await trio.sleep(5)
        await client.handle("won_race").signal(p.go, 1)
        await trio.sleep(1)
    async with open_client(stage.backend, registry=p.flows) as client:
        await client.handle("lost_race").signal(p.go, 2)  # before the deadline, not seen
        await trio.sleep(30)
        await client.handle("sent_late").signal(p.go, 3)
        await client.handle("many_deadlines").signal(p.go, 4)
    async with stage.worker(100):
        pass


@scenario
async def signals(stage):
    async with open_client(stage.backend, registry=p.flows) as client:
        handle = await client.start(p.signals.options(id="signals"))
        await handle.signal(p.word, "buffered")
        await handle.signal(p.go, 1)
        await handle.signal(p.go, 2)
    async with stage.worker(1):
        await handle.signal(p.word, "more")
        await handle.signal(p.word, "stop")
        await trio.sleep(6)
        await handle.signal(p.go, 3)
        await trio.sleep(1)
        await handle.signal(p.go, 4)
        await trio.sleep(1)
    await handle.signal(p.go, 5)
    await handle.signal(p.word, "the end")
    async with stage.worker(10):
        pass


@scenario
async def continued(stage):
    async with stage.worker() as client:
        handle = await client.start(p.continues.options(id="continues"), [], rounds=3)
        for n in range(4):
            await handle.signal(p.go, n)
        for text in ("on", "and on", "and on"):
            await trio.sleep(1)
            await handle.signal(p.word, text)
        await handle.result()
        # The same id again: its executions go on counting.
        await (await client.start(p.adding.options(id="continues"), 4)).result()


@scenario
async def sent(stage):
    async with stage.worker() as client:
        target = await client.start(p.receives.options(id="target"), 3)
        await client.run(p.adding.options(id="finished"), 1)
        await client.run(p.sends.options(id="sends"), "target", "finished")
        await trio.sleep(1)
        await target.terminate("enough seen")


@scenario
async def cancels(stage):
    async with open_client(stage.backend, registry=p.flows) as client:
        unbegun = await client.start(p.adding.options(id="cancelled_before_it_began"), 1)
        await unbegun.cancel("changed my mind")
    async with stage.worker() as client:
        for workflow in (p.cleans_up, p.swallows_its_cancel, p.waiting):
            await client.start(workflow.options(id=workflow.name))
        await trio.sleep(3)
        await client.handle("cleans_up").cancel("no longer needed")
        await client.handle("swallows_its_cancel").cancel()
        await client.handle("waiting").cancel()
        await trio.sleep(50)


@scenario
async def families(stage):
    async with stage.worker() as client:
        taken = await client.start(p.waiting.options(id="taken"))
        handle = await client.start(p.parents.options(id="parents"))
        await trio.sleep(100)
        async with stage.worker(5, queues=("served later",)):
            await handle.result()
        await taken.signal(p.go, 1)
        handle = await client.start(p.ends_with_its_parent.options(id="children_end"), "child")
        await trio.sleep(1)
        await client.handle("child-cancelled").cancel("by somebody")
        await trio.sleep(1)
        await client.handle("child-terminated").terminate("by somebody")
        await trio.sleep(1)
        child = client.handle("child-continued")
        for _ in range(2):
            await child.signal(p.go, 1)
            await child.signal(p.word, "on")
        await child.signal(p.go, 1)
        await handle.result()


@scenario
async def ended_from_outside(stage):
    async with stage.worker() as client:
        parent = await client.start(p.cleans_up.options(id="terminated"))
        await client.start(c.grows.options(id="grows"))
        await trio.sleep(5)
        await parent.terminate("for the record")
        await trio.sleep(5)


@scenario
async def many_events_in_one_turn(stage):
    """Activities, children and signals end while no worker runs the workflow."""
    async with stage.worker(activities=False) as client:
        await client.start(p.started_tasks.options(id="slow_started_tasks"))
        await client.start(c.groups.options(id="slow_groups"))
        await client.start(p.cleans_up.options(id="slow_cleans_up"))
        await trio.sleep(1)
    for _ in range(25):
        async with stage.worker(3, workflows=False):
            pass
        if _ == 3:
            await client.handle("slow_cleans_up").cancel("slowly")
        async with stage.worker(0.5, activities=False):
            pass


async def record(fn, folder: Path, cache_size: int) -> None:
    backend = MemoryBackend(clock=lambda: EPOCH + trio.current_time())
    await backend.open()
    with trio.fail_after(1e6):
        stage = Stage(backend, cache_size)
        await fn(stage)
    async for found in stage.files():
        path = folder / (
            found["id"].replace("/", ".").replace(":", "-").replace(" ", "_") + ".json"
        )
        assert not path.exists(), path
        path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    await backend.aclose()


def main() -> None:
    folder = Path(sys.argv[1])
    for number, fn in enumerate(SCENARIOS):
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(record, fn, folder, 1000 if number % 2 else 0, clock=clock)


if __name__ == "__main__":
    main()
