"""Deploys: instances go on with code that has a patch, on every store."""

from __future__ import annotations

from tests.worker.flow import until_parked
from trioflow import Registry, Signal, patched, workflow_by_name

more = Signal("more", int)
shop = workflow_by_name("shop")


def versions():
    """The registries of the old code, and of the new one."""
    old, new = Registry(), Registry()
    for registry in (old, new):

        @registry.activity
        async def pay() -> str:
            return "paid"

        @registry.activity
        async def check() -> str:
            return "checked"

        @registry.workflow(name="shop")
        async def work(*, changed=registry is new, pay=pay, check=check) -> list[str]:
            done = []
            for _ in range(2):
                if changed and patched("check"):
                    done.append(await check())
                done.append(await pay())
                await more.receive()
            return done

    return old, new


async def test_instances_under_way_and_new_ones(flow):
    old, new = versions()
    async with flow.worker(old) as worker:
        begun = await worker.client.start(shop.options(id="begun"))
        await until_parked(begun, turns=2)
    async with flow.client() as client:
        await client.start(shop.options(id="waits"))
    async with flow.worker(new) as worker:
        await worker.client.start(shop.options(id="new"))
        both = ["0:0!check", "0:2!check"]
        for id, came, recorded in [
            ("begun", ["paid", "checked", "paid"], ["0:1!check"]),
            ("waits", ["checked", "paid"] * 2, both),
            ("new", ["checked", "paid"] * 2, both),
        ]:
            handle = worker.client.handle(id)
            for n in range(2):
                await handle.signal(more, n)
            assert await handle.result() == came
            history = await handle.history()
            markers = [c.id for turn in history[-1].turns for c in turn.commands if "!" in c.id]
            assert markers == recorded
