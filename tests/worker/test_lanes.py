"""Activities in a worker's hands: whose turn it is, and what becomes of those given back."""

from __future__ import annotations

import trio

from tests.worker.flow import Gate
from trioflow import Registry


def test_what_needs_a_thread_has_its_turn_with_the_others(sqlite):
    flows = Registry()
    begun = []
    gates = []

    @flows.activity
    async def quick() -> None: ...

    @flows.activity
    async def hold() -> None:
        await gates[0].wait()

    @flows.activity
    async def note(name: str) -> None:
        begun.append(name)

    @flows.activity(priority=5)
    def urgent(name: str) -> None:
        begun.append(name)

    @flows.activity
    def plain(name: str) -> None:
        begun.append(name)

    @flows.workflow
    async def work() -> None:
        for _ in range(30):
            await quick()  # so that more are held than may run
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold)
            nursery.start_soon(note, "1")
            nursery.start_soon(plain, "2")
            nursery.start_soon(note, "3")
            nursery.start_soon(urgent, "0")

    async def main():
        gates.append(Gate())
        async with sqlite.worker(flows, max_activities=1) as worker:
            handle = await worker.client.start(work)
            await gates[0].until_entered()
            (stats,) = await worker.client.stats()
            assert stats.running_activities == 5
            gates[0].open()
            await handle.result()

    sqlite.run(main)
    assert begun == ["0", "1", "2", "3"]
