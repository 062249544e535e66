"""What waits for an instance may be more than one turn has room for: then it takes several."""

from __future__ import annotations

import contextlib

import pytest
import trio

from tests.worker.flow import until_parked
from trioflow import Promise, Registry, Signal, open_client, open_worker, set_status
from trioflow._codec.limits import MAX_TURN
from trioflow._model.turns import decode_turn
from trioflow.backends.filters import InstanceFilter

page = Signal("page", str)
MANY = 9
LARGE = 1_900_000

flows = Registry()


@flows.workflow
async def collects(count: int) -> list[str]:
    return [(await page.receive())[:1] for _ in range(count)]


@flows.workflow
async def collects_within(seconds: float) -> str:
    found = ""
    with trio.move_on_after(seconds):
        while True:
            found += (await page.receive())[:1]
    return found


@flows.workflow
async def is_promised(count: int) -> int:
    promises = [Promise("paid", str) for _ in range(count)]
    set_status([promise.token for promise in promises])
    kept = 0
    for promise in promises:
        with contextlib.suppress(RuntimeError):
            kept += bool(await promise.receive())
    return kept


async def stored_turns(backend, id):
    (execution,) = await backend.history(id)
    return [decode_turn(data) for data in execution.turns], [*map(len, execution.turns)]


async def test_large_signals_that_wait_together_take_several_turns(flow):
    async with flow.client(flows) as client:
        handle = await client.start(collects, MANY)
        for number in range(MANY):
            await handle.signal(page, str(number) * LARGE)
        async with flow.worker(flows):
            assert await handle.result() == [str(number) for number in range(MANY)]
        turns, sizes = await stored_turns(client.backend, handle.id)
        assert len(turns) > MANY * LARGE // MAX_TURN
        assert max(sizes) < MAX_TURN + 1_000


@pytest.mark.parametrize("settled", ["resolved", "rejected"])
async def test_so_do_promises_that_were_settled_together(cached, settled):
    size = LARGE if settled == "resolved" else 20_000
    count = MAX_TURN // size + 1
    async with cached.client(flows) as client:
        async with cached.worker(flows):
            handle = await client.start(is_promised, count)
            await until_parked(handle)
        for token in (await handle.describe()).custom_status:
            if settled == "resolved":
                await client.resolve(token, "x" * size)
            else:
                await client.reject(token, RuntimeError("x" * size))
        async with cached.worker(flows):
            assert await handle.result() == (count if settled == "resolved" else 0)
        turns, sizes = await stored_turns(client.backend, handle.id)
        assert len(turns) > 2
        assert max(sizes) < MAX_TURN + 50_000


async def test_small_ones_take_one_turn(cached):
    async with cached.client(flows) as client:
        handle = await client.start(collects, 100)
        for number in range(100):
            await handle.signal(page, str(number))
        async with cached.worker(flows):
            await handle.result()
        turns, _ = await stored_turns(client.backend, handle.id)
        assert len(turns) == 1


async def test_what_an_instance_that_ends_early_was_sent_is_seen_all_the_same(cached):
    async with cached.client(flows) as client:
        handle = await client.start(collects, 1)
        for number in range(4):
            await handle.signal(page, str(number) * LARGE)
        async with cached.worker(flows):
            assert await handle.result() == ["0"]
        turns, _ = await stored_turns(client.backend, handle.id)
        assert sum(len(turn.events) for turn in turns) == 5
        (record,) = await client.backend.list(InstanceFilter(), limit=10)
        assert (record.status, record.unread) == ("completed", 0)


@pytest.mark.parametrize("cache_size", [0, 1000])
async def test_a_deadline_that_has_passed_overtakes_none_that_came_before(backend, cache_size):
    options = {"registry": flows, "drain": 0, "cache_size": cache_size}
    async with open_client(backend, registry=flows) as client:
        handle = await client.start(collects_within, 100.0)
        async with open_worker(backend, **options):
            await until_parked(handle)
        for number in range(MANY):
            await trio.sleep(19)
            await handle.signal(page, str(number) * LARGE)
        await trio.sleep(19)
        async with open_worker(backend, **options):
            assert await handle.result() == "01234"
        turns, _ = await stored_turns(backend, handle.id)
        assert len(turns) > 3
