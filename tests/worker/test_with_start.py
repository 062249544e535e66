"""Bound calls, and messages that start the instance that they are for."""

from __future__ import annotations

import anyio
import pytest

from tests.worker.flow import until_parked, until_status
from trioflow import (
    ArgumentError,
    InstanceFinished,
    Registry,
    Signal,
    Update,
    ValueMismatch,
)

number = Signal("number", int)
flows = Registry()


@flows.activity
async def add(a: int, b: int = 0) -> int:
    return a + b


@flows.workflow
async def collect(wanted: int, *, start: int = 0) -> list[int]:
    first = add.bind(start, b=1)
    return [await first(), await first(), *[await number.receive() for _ in range(wanted)]]


async def test_a_bound_call_is_made_when_it_is_called(flow):
    assert repr(add.bind(1, b=2)) == "<call add(1, b=2)>"
    assert await add.bind(1, b=2)() == 3
    async with flow.worker(flows) as worker:
        assert await worker.client.run(collect, 0, start=5) == [6, 6]


async def test_a_signal_starts_what_is_not_there(flow):
    async with flow.client() as client:
        call = collect.options(id="c").bind(2, start=1)
        first = await client.signal_with_start(call, number, 7)
        again = await client.signal_with_start(collect.options(id="c").bind(9), number, 8)
        assert await client.count() == 1
        assert (await first.describe()).unread == 2
        async with flow.worker(flows):
            assert await first.result() == await again.result() == [2, 2, 7, 8]
            later = await client.signal_with_start(collect.options(id="c").bind(1), number, 1)
            assert await later.result() == [1, 1, 1]
            assert (await later.describe()).execution == 2


async def test_a_signal_reaches_what_runs_and_what_is_suspended(flow):
    old = Registry()

    @old.workflow(name="collect")
    async def other(wanted: int, *, start: int = 0) -> int:
        return await number.receive() if wanted > 5 else len(await Signal("word", str).receive())

    call = collect.options(id="c").bind(1)
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(collect.options(id="c"), 2)
        await until_parked(handle)
        await worker.client.signal_with_start(call, number, 1)
        await until_parked(handle)
    async with flow.worker(old) as worker:
        handle = worker.client.handle("c", collect)
        await worker.client.signal_with_start(call, Signal("other", int), 0)
        await until_status(handle, "suspended")
        await worker.client.signal_with_start(call, number, 2)
        assert (await handle.describe()).status == "suspended"
    async with flow.worker(flows) as worker:
        handle = worker.client.handle("c", collect)
        await handle.resume()
        assert await handle.result() == [1, 1, 1, 2]


async def test_many_clients_at_once_start_one_instance(flow):
    async with flow.client() as one, flow.client() as other, flow.worker(flows) as worker:
        clients = [one, other, worker.client] * 7

        async def send(client, value):
            call = collect.options(id="c").bind(len(clients))
            await client.signal_with_start(call, number, value)

        async with anyio.create_task_group() as group:
            for value, client in enumerate(clients):
                group.start_soon(send, client, value)
        result = await worker.client.handle("c", collect).result()
        assert sorted(result[2:]) == list(range(len(clients)))
        assert await one.count() == 1


async def test_bad_input_starts_nothing(flow):
    call = collect.options(id="c")
    async with flow.client() as client:
        with pytest.raises(ValueMismatch, match="signal 'number'.*int"):
            await client.signal_with_start(call.bind(1), number, "x")
        with pytest.raises(ArgumentError, match="collect.* 'wanted'"):
            await client.signal_with_start(call.bind(), number, 1)
        with pytest.raises(ArgumentError, match="by its id.*collect"):
            await client.signal_with_start(collect.bind(1), number, 1)
        for options in ({"if_exists": "replace"}, {"reuse_finished": False}):
            with pytest.raises(ArgumentError, match="do not change that"):
                await client.signal_with_start(call.options(**options).bind(1), number, 1)
        for wrong in (call, add.bind(1), "collect"):
            with pytest.raises(ArgumentError, match=r"workflow\.options\(id=.*\)\.bind"):
                await client.signal_with_start(wrong, number, 1)
        assert await client.count() == 0


put = Update("put", argument=str, result=int)
pay = Update("pay", result=list[str])


@flows.workflow
async def cart(user: str) -> list[str]:
    items: list[str] = []
    paid = anyio.Event()

    @put.handler
    async def _(item: str) -> int:
        items.append(item)
        return len(items)

    @pay.handler
    def _() -> list[str]:
        paid.set()
        return items

    await paid.wait()
    return [user, *items]


async def test_an_update_starts_what_is_not_there(flow):
    call = cart.options(id="ann").bind("ann")
    async with flow.client() as client, flow.worker(flows) as worker:
        assert await client.update_with_start(call, put, "tea") == 1
        assert await worker.client.update_with_start(call, put, "milk") == 2
        asked = put.options(id="third")
        answers = [await client.update_with_start(call, asked, "jam") for _ in range(3)]
        assert answers == [3, 3, 3]
        handle = client.handle("ann", cart)
        assert await handle.update(pay) == ["tea", "milk", "jam"]
        assert await handle.result() == ["ann", "tea", "milk", "jam"]
        # It was made of that one, and starts no other.
        assert await client.update_with_start(call, asked, "jam") == 3
        assert (await handle.describe()).execution == 1
        assert await client.update_with_start(call, put, "rice") == 1
        assert (await handle.describe()).execution == 2


async def test_many_updates_at_once_start_one_instance(flow):
    answers = []
    call = cart.options(id="ann").bind("ann")
    async with flow.client() as one, flow.client() as other, flow.worker(flows) as worker:

        async def ask(client, number):
            answers.append(await client.update_with_start(call, put, f"{number}"))

        async with anyio.create_task_group() as group:
            for number, client in enumerate([one, other, worker.client] * 5):
                group.start_soon(ask, client, number)
        assert sorted(answers) == list(range(1, 16))
        assert await one.count() == 1


async def test_an_update_with_start_of_bad_input_starts_nothing(flow):
    call = cart.options(id="ann")
    async with flow.client() as client:
        with pytest.raises(ValueMismatch, match="argument of update 'put'"):
            await client.update_with_start(call.bind("ann"), put, 3)
        with pytest.raises(ArgumentError, match="'pay' has no argument"):
            await client.update_with_start(call.bind("ann"), pay, "x")
        with pytest.raises(ArgumentError, match=r"update_with_start\(\) finds the instance by"):
            await client.update_with_start(cart.bind("ann"), pay)
        assert await client.count() == 0


async def test_an_update_with_start_hears_of_the_end(flow):
    ending = Registry()

    @ending.workflow(name="cart")
    async def ends(user: str) -> str:
        return user

    async with flow.client() as client, flow.worker(ending):
        with pytest.raises(InstanceFinished, match="has not answered update 'put'"):
            await client.update_with_start(cart.options(id="ann").bind("ann"), put, "tea")
