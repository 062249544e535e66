"""Signals: never lost, never doubled, in order; and whoever waits for one can be cancelled."""

from __future__ import annotations

import contextlib

import anyio
import pytest
import trio

from tests.worker.flow import until_parked
from trioflow import (
    InstanceCancelled,
    InstanceFinished,
    InstanceNotFound,
    InstanceSuspended,
    Registry,
    Signal,
    ValueMismatch,
    send_signal,
)

number = Signal("number", int)
word = Signal("word", str)


async def test_two_hundred_early_signals_come_out_in_their_order(flow):
    flows = Registry()

    @flows.workflow
    async def collect(n: int) -> list[int]:
        return [await number.receive() for _ in range(n)]

    async with flow.client() as client:
        handle = await client.start(collect, 200)
        for i in range(200):
            await handle.signal(number, i)
        assert (await handle.describe()).unread == 200
        async with flow.worker(flows):
            assert await handle.result() == list(range(200))
            assert (await handle.describe()).unread == 0


async def test_signals_while_it_runs_and_while_it_waits(flow):
    flows = Registry()

    @flows.activity
    async def note(n: int) -> int:
        return n

    @flows.workflow
    async def collect(n: int) -> list[int]:
        seen = []
        async for value in number:
            seen.append(await note(value))
            if len(seen) == n:
                return seen

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(collect, 20)
        for i in range(20):
            await handle.signal("number", i)
            if i % 5 == 0:
                await until_parked(handle)
        assert await handle.result() == list(range(20))


async def test_kinds_of_signals_do_not_mix_and_waiting_takes_turns(flow):
    flows = Registry()

    @flows.workflow
    async def work() -> list[str]:
        seen = []

        async def take(name: str) -> None:
            seen.append(f"{name}{await number.receive()}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, "a")
            nursery.start_soon(take, "b")
            with pytest.raises(trio.WouldBlock):
                word.receive_nowait()
        seen.append(await word.receive())
        return seen

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work)
        await handle.signal(word, "last")
        await handle.signal(number, 1)
        await handle.signal(number, 2)
        assert await handle.result() == ["a1", "b2", "last"]


async def test_a_signal_to_a_finished_or_unknown_instance_is_refused(flow):
    flows = Registry()

    @flows.workflow
    async def work() -> int:
        return 1

    async with flow.worker(flows) as worker:
        await worker.client.run(work.options(id="w"))
        handle = worker.client.handle("w")
        with pytest.raises(InstanceFinished, match="'w' has already finished"):
            await handle.signal(number, 1)
        with pytest.raises(InstanceNotFound, match="'nobody'"):
            await worker.client.handle("nobody").signal(number, 1)
        with pytest.raises(ValueMismatch, match="signal 'number'.*int"):
            await handle.signal(number, "x")
        assert (await handle.describe()).unread == 0


async def test_a_value_of_another_type_waits_for_code_that_reads_it(flow):
    old, new = Registry(), Registry()

    @old.workflow(name="work")
    async def work() -> int:
        with contextlib.suppress(Exception):
            return await number.receive()

    @new.workflow(name="work")
    async def mended() -> str:
        return await Signal("number", str).receive()

    async with flow.worker(old) as worker:
        handle = await worker.client.start(work)
        await handle.signal("number", "x")
        with pytest.raises(InstanceSuspended, match="signal 'number'.*int"):
            await handle.result(wait_suspended=False)
        assert (await handle.describe()).suspension.kind == "undecodable"
        id = handle.id
    async with flow.worker(new) as worker:
        handle = worker.client.handle(id, mended)
        await handle.resume()
        assert await handle.result() == "x"


async def test_a_workflow_signals_another_and_learns_if_it_cannot(flow):
    flows = Registry()

    @flows.workflow
    async def target() -> int:
        return await number.receive()

    @flows.workflow
    async def sender(id: str) -> str:
        try:
            await send_signal(id, number, 7)
        except (InstanceNotFound, InstanceFinished) as exc:
            return str(exc)
        return "sent"

    async with flow.worker(flows) as worker:
        client = worker.client
        handle = await client.start(target.options(id="t"))
        assert await client.run(sender, "t") == "sent"
        assert await handle.result() == 7
        assert "'t'" in await client.run(sender, "t")
        assert "'nobody'" in await client.run(sender, "nobody")


async def test_cancel_wakes_whoever_waits_for_anything(flow):
    flows = Registry()

    @flows.workflow
    async def waits_for_signal() -> None:
        await number.receive()

    @flows.workflow
    async def waits_in_nursery() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep, 1e6)

    @flows.workflow
    async def waits_for_channel() -> None:
        send, receive = trio.open_memory_channel[int](0)
        async with send, receive:
            await receive.receive()

    @flows.workflow
    async def waits_for_event() -> None:
        await trio.Event().wait()

    @flows.workflow
    async def waits_with_anyio() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            await anyio.Event().wait()

    async with flow.worker(flows) as worker:
        for definition in flows.workflows.values():
            handle = await worker.client.start(definition)
            await until_parked(handle)
            await handle.cancel("enough")
            with pytest.raises(InstanceCancelled, match="enough") as raised:
                await handle.result()
            assert raised.value.reason == "enough"


async def test_a_cancelled_receive_loses_no_signal(flow):
    flows = Registry()

    @flows.workflow
    async def work() -> list[int]:
        seen = []
        with trio.move_on_after(0.01):
            await number.receive()
        with trio.CancelScope() as scope:
            scope.cancel()
            seen.append(await number.receive())
        await word.receive()
        seen.append(await number.receive())
        return seen

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work)
        await until_parked(handle, turns=2)
        await handle.signal(number, 5)
        await handle.signal(word, "")
        assert await handle.result() == [5]


async def test_signals_that_were_never_received_are_logged_when_the_instance_ends(flow, caplog):
    flows = Registry()

    @flows.workflow
    async def receives_words() -> str:
        return await word.receive()

    async with flow.client() as client:
        handle = await client.start(receives_words.options(id="w-1"))
        for _ in range(2):
            await handle.signal(number, 1)
        await handle.signal(word, "go")
        silent = await client.start(receives_words)
        await silent.signal(word, "go")
        async with flow.worker(flows):
            assert await handle.result() == "go"
            assert await silent.result() == "go"
    [told] = [r.getMessage() for r in caplog.records if "never received" in r.getMessage()]
    assert "instance 'w-1'" in told
    assert "'number' (2)" in told
