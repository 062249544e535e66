"""What a start does if an instance has the id: raise, return that one, or replace it."""

from __future__ import annotations

import pytest

from tests.client.shop import number, shop
from tests.worker.flow import in_memory, serving, until_parked
from trioflow import (
    ArgumentError,
    DefinitionError,
    InstanceAlreadyExists,
    InstanceTerminated,
)


def asking():
    """Return the shop, and a workflow that calls its first one, whoever has started that."""
    flows, quick, waiting = shop()

    @flows.workflow
    async def asks(n: int) -> int:
        return await quick.options(if_exists="return")(n)

    return flows, quick, waiting, asks


async def test_a_repeated_start_returns_the_one_that_is_there(flow):
    flows, _, waiting, _ = asking()
    once = waiting.options(id="x", if_exists="return")
    async with flow.worker(flows) as worker, flow.client(flows) as elsewhere:
        first = await worker.client.start(once, 1)
        second = await elsewhere.start(once, 2)
        await second.signal(number, 10)
        assert await first.result() == await second.result() == 11
        assert await worker.client.run(once, 3) == 11
        assert await elsewhere.run(once, 3) == 11
        assert await worker.client.count() == 1


async def test_a_returned_handle_is_bound_to_its_life(clock):
    flows, _, waiting, _ = asking()
    async with serving(in_memory(clock), flows) as client:
        await client.start(waiting.options(id="x"), 1)
        found = await client.start(waiting.options(id="x", if_exists="return"), 2)
        await found.terminate("enough")
        await client.start(waiting.options(id="x"), 3)
        assert (await found.describe()).status == "terminated"


async def test_another_workflow_is_not_returned(clock):
    flows, quick, waiting, _ = asking()
    async with serving(in_memory(clock), flows) as client:
        await client.start(waiting.options(id="x"), 1)
        with pytest.raises(InstanceAlreadyExists, match=r"of workflow .*waiting', not of .*quick'"):
            await client.start(quick.options(id="x", if_exists="return"), 2)


async def test_a_finished_one_may_be_started_again(clock):
    flows, quick, waiting, _ = asking()
    again = waiting.options(id="x", if_exists="return", reuse_finished=True)
    async with serving(in_memory(clock), flows) as client:
        assert await client.run(quick.options(id="x"), 1) == 1
        first = await client.start(again, 2)
        second = await client.start(again, 3)
        await second.signal(number, 10)
        assert await first.result() == await second.result() == 12


async def test_a_finished_one_may_count_as_existing(flow):
    flows, quick, waiting, _ = asking()
    unique = quick.options(id="x", reuse_finished=False)
    async with flow.worker(flows) as worker:
        client = worker.client
        assert await client.run(unique, 1) == 1
        with pytest.raises(InstanceAlreadyExists, match=r"already an instance 'x': client.handle"):
            await client.start(unique, 2)
        assert await client.handle("x", quick).result() == 1
        await client.start(waiting.options(id="y"))
        with pytest.raises(InstanceAlreadyExists, match="'y'"):
            await client.start(unique.options(id="y"), 2)
        assert await client.run(quick.options(id="x"), 2) == 2


async def test_an_unfinished_one_may_be_replaced(flow):
    flows, quick, waiting, _ = asking()
    instead = waiting.options(id="x", if_exists="replace")
    async with flow.worker(flows) as worker, flow.client(flows) as elsewhere:
        for client in (worker.client, elsewhere):
            old = await worker.client.start(waiting.options(id="x", if_exists="replace"), 1)
            await until_parked(old)
            new = await client.start(instead, 2)
            with pytest.raises((InstanceTerminated, LookupError)):
                await old.result()
            await new.signal(number, 10)
            assert await new.result() == 12
        # What has finished already is not touched.
        assert await worker.client.run(quick.options(id="x", if_exists="replace"), 5) == 5


async def test_what_was_replaced_was_terminated(clock):
    flows, _, waiting, _ = asking()

    @flows.workflow
    async def parent() -> str:
        try:
            await waiting.options(id="child")()
        except InstanceTerminated as exc:
            return str(exc)
        return "nothing"

    async with serving(in_memory(clock), flows) as client:
        handle = await client.start(parent)
        await until_parked(client.handle("child"))
        await client.start(waiting.options(id="child", if_exists="replace"))
        assert await handle.result() == (
            "instance 'child' was terminated: another one was started in its place"
        )


async def test_they_are_no_options_of_a_sub_workflow(clock):
    flows, _, _, asks = asking()
    async with serving(in_memory(clock), flows) as client:
        with pytest.raises(ArgumentError, match="options of a start"):
            await client.run(asks, 1)


def test_bad_options_are_refused():
    _, quick, _, _ = asking()
    with pytest.raises(DefinitionError, match=r"did you mean 'replace'\?"):
        quick.options(if_exists="replaced")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="reuse_finished is True or False"):
        quick.options(reuse_finished=1)  # type: ignore[arg-type]
