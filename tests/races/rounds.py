"""One round: workers race on an empty store while clients do random things; then all is checked."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.races.arenas import Arena, left_over
from tests.races.calls import Calls
from tests.races.checks import History, check, read_log, read_store, story
from tests.races.crews import Crew
from tests.races.flows import registry
from tests.races.plans import Plan
from tests.races.proxy import Proxy
from trioflow import Client, open_client
from trioflow.backends.filters import InstanceFilter

__all__ = ["Report", "run_round"]


@dataclass
class Report:
    """What became of a round; ``stories`` are the histories of what the faults name."""

    plan: Plan
    seconds: float = 0.0
    instances: int = 0
    turns: int = 0
    attempts: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    stories: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        statuses = ", ".join(f"{number} {status}" for status, number in self.statuses.items())
        result = f"{len(self.faults)} FAULTS" if self.faults else "ok"
        return (
            f"{self.plan}: {result} in {self.seconds:.1f} s;"
            f" {self.turns} turns, {self.attempts} attempts; {statuses}"
        )


async def run_round(arena: Arena, plan: Plan) -> Report:
    """Run a round and check what is left of it."""
    report = Report(plan)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="round-", dir=arena.folder) as folder:
        async with trio.open_nursery() as nursery:
            url = arena.store()
            seen_by_workers, proxy = url, None
            if plan.chaos in ("stall", "drop", "half-open"):
                proxy = Proxy(arena.connect)
                await nursery.start(proxy.serve)
                seen_by_workers = arena.through(url, proxy.port)
            async with open_client(url, registry=registry) as client:
                crew = Crew(Path(folder), seen_by_workers, plan, proxy)
                try:
                    await _race(client, crew, plan, report)
                finally:
                    crew.kill()
            nursery.cancel_scope.cancel()
    report.seconds = time.perf_counter() - began
    return report


async def _race(client: Client, crew: Crew, plan: Plan, report: Report) -> None:
    calls = Calls(client, plan)
    await crew.wait_ready()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crew.chaos)
        await calls.run(crew.slowness)
        await trio.sleep(plan.lease * crew.slowness)  # while what they have begun goes on
        nursery.cancel_scope.cancel()
    settled = await _settle(client, crew)
    if settled:
        report.faults += await _idle(client, crew)
    else:
        report.faults.append(f"not all has ended; the workers said:\n{await crew.tails()}")
        report.faults += await _unfinished(client)
    await crew.dismiss()
    report.faults += [*crew.faults, *calls.told.errors]
    histories = await read_store(client.backend)
    log = read_log(crew.log)
    report.faults += check(plan, calls.told, log, histories)
    report.stories = [story(one) for one in histories if _is_blamed(one, report.faults)]
    report.turns = sum(len(history.turns) for history in histories)
    report.attempts = sum(line.what == "start" for line in log)
    ids = {history.record.id: history.record.status for history in histories}
    report.statuses = Counter(ids.values())
    report.faults += await _clean(client, plan)


async def _unfinished(client: Client) -> list[str]:
    """Return what is stored of the activities for which anything that runs may wait."""
    return [
        f"{one.id} waits for {activity}"
        for one in await client.list(status="running", limit=1000)
        for activity in await client.backend.activities(one.id)
    ]


def _is_blamed(history: History, faults: list[str]) -> bool:
    return any(history.record.id in fault for fault in faults)


async def _settle(client: Client, crew: Crew) -> bool:
    """Wait until nothing runs; return whether that came true.

    Every workflow ends by itself within a few seconds; a lease may have to run out first.
    """
    with trio.move_on_after(1.5 * crew.patience):
        while await client.count(status="running"):
            await trio.sleep(0.1)
            crew.check()
        return True
    return False


async def _idle(client: Client, crew: Crew) -> list[str]:
    """Wait until nobody has activities of what has ended; return what is left of them."""
    held: list[str] = []
    with trio.move_on_after(crew.patience):
        while not await client.count(status="suspended"):  # whose activities go on
            held = [
                f"all has ended, and the queue {one.queue} has activities: {one}"
                for one in await client.stats()
                if one.pending_activities or one.running_activities
            ]
            if not held:
                break
            await trio.sleep(0.1)
            crew.check()
        else:
            held.clear()
    if held:
        held.append(f"the workers said:\n{await crew.tails()}")
    return held


async def _clean(client: Client, plan: Plan) -> list[str]:
    """End and remove all, and return what is left over all the same."""
    unsigned = await client.backend.reclaim(0.0)
    faults = [f"worker {id} did not sign off" for id in unsigned if plan.chaos != "kill"]
    faults += [
        f"the queue {one.queue} has activities though nobody runs: {one}"
        for one in await client.stats()
        if one.running_activities
    ]
    for status in ("suspended", "running"):
        for one in await client.list(status=status, limit=1000):
            await client.handle(one.id).terminate("the end of the round")
    while await client.backend.remove(InstanceFilter(), limit=1000):
        pass
    rows = await left_over(client.backend)
    if rows:
        faults.append(f"rows are left over: {rows}")
    return faults
