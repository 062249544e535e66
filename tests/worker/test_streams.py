"""Streams: what a workflow emits, and those who read along."""

from __future__ import annotations

from dataclasses import dataclass

import anyio
import pytest
import trio

from tests.worker.flow import in_memory, serving, until_parked
from trioflow import (
    ArgumentError,
    InstanceNotFound,
    NotInWorkflow,
    PayloadTooLarge,
    Registry,
    Signal,
    ValueMismatch,
    continue_as_new,
    emit,
)
from trioflow.testing import ReplayError, check_replay, export_history

more = Signal("more", int)


@dataclass
class Step:
    name: str
    number: int


def shop():
    flows = Registry()

    @flows.workflow
    async def works(rounds: int = 1) -> str:
        await emit("progress", Step("begun", rounds))
        await emit("other", rounds)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(emit, "progress", Step("beside", rounds))
        number = await more.receive()
        await emit("progress", Step("more", number))
        if rounds > 1:
            continue_as_new(rounds - 1)
        return "done"

    return flows, works


async def read(handle, *args, **options):
    return [item.value async for item in handle.stream(*args, **options)]


async def test_others_read_along_through_all_executions(flow):
    """Each value once, though there is no cache on some; as soon as it is stored."""
    flows, works = shop()
    got = []

    async def follow(handle):
        async for item in handle.stream("progress", Step):
            got.append(item)  # noqa: PERF401 - as it comes

    async def until_got(number):
        with anyio.fail_after(30):
            while len(got) < number:
                await anyio.sleep(0.002)

    async with flow.worker(flows) as worker, flow.client(flows) as outside:
        handle = await worker.client.start(works.options(id="x"), 2)
        async with anyio.create_task_group() as group:
            group.start_soon(follow, outside.handle("x"))
            await until_got(2)
            await handle.signal(more, 7)
            await until_got(5)
            assert (await handle.describe()).execution == 2
            await handle.signal(more, 8)
        expected = [
            *(Step("begun", 2), Step("beside", 2), Step("more", 7)),
            *(Step("begun", 1), Step("beside", 1), Step("more", 8)),
        ]
        assert [item.value for item in got] == expected
        assert await handle.result() == "done"
        again = [item async for item in handle.stream("progress", Step)]
        assert again == got
        for number, item in enumerate(got, 1):
            rest = await read(outside.handle("x"), "progress", Step, after=item.place)
            assert rest == expected[number:]
        assert await read(handle, "other") == [2, 1]
        assert await read(handle, "none") == []
        assert (await read(handle, "progress"))[0] == {"name": "begun", "number": 2}


async def test_readers_are_told_while_an_activity_runs(clock):
    """The worker keeps the instance, and its turn is of interest to nobody else."""
    flows = Registry()

    @flows.activity
    async def slow() -> None:
        await trio.sleep(1000)

    @flows.workflow
    async def works() -> None:
        await emit("progress", 1)
        await slow()
        await emit("progress", 2)
        await slow()

    async with serving(in_memory(clock), flows) as client:
        handle = await client.start(works)
        stream = handle.stream("progress")
        assert (await anext(stream)).value == 1
        assert (await anext(stream)).value == 2
        assert trio.current_time() < 1001
        await stream.aclose()


async def test_a_reader_sees_no_other_life(clock):
    flows, works = shop()
    async with serving(in_memory(clock), flows) as client:
        first = await client.start(works.options(id="x"))
        stream = client.handle("x").stream("other")
        assert (await anext(stream)).value == 1
        await first.terminate()
        second = await client.start(works.options(id="x"), 3)
        await until_parked(second)
        assert [item.value async for item in stream] == []
        assert await read(first, "other") == [1]
        await second.terminate()
        assert await read(second, "other") == await read(client.handle("x"), "other") == [3]
        third = await client.start(works.options(id="x"), 4)
        stream = third.stream("other")
        assert (await anext(stream)).value == 4
        await third.terminate()
        await third.remove()
        with pytest.raises(InstanceNotFound):
            await anext(stream)


async def test_a_change_of_what_is_emitted_is_a_divergence(clock):
    flows, works = shop()

    @Registry().workflow(name=works.name)
    async def changed(rounds: int = 1) -> str:
        await emit("other", rounds)
        return "done"

    @Registry().workflow(name=works.name)
    async def other_values(rounds: int = 1) -> str:
        await emit("progress", "else")
        await emit("other", rounds + 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(emit, "progress", None)
        await more.receive()

    async with serving(in_memory(clock), flows) as client:
        handle = await client.start(works)
        await until_parked(handle)
        history = await export_history(handle)
    check_replay(history, works)
    with pytest.raises(ReplayError, match="'progress' .* carries"):  # which a worker allows
        check_replay(history, other_values)
    with pytest.raises(ReplayError, match="value for stream 'progress'"):
        check_replay(history, changed)


async def test_mistakes_are_said_at_the_call(clock):
    flows = Registry()
    seen = []

    @flows.workflow
    async def wrong() -> int:
        for args in (("", 1), ("x", object()), ("x", "y" * 3_000_000)):
            try:
                await emit(*args)
            except Exception as exc:
                seen.append(type(exc))
        with trio.CancelScope() as scope:
            scope.cancel()
            await emit("x", "never")
        await emit("x", 1)
        return 1

    @flows.workflow
    async def forgets() -> None:
        emit("x", 1)

    with pytest.raises(NotInWorkflow):
        emit("x", 1)
    async with serving(in_memory(clock), flows) as client:
        handle = await client.start(wrong)
        assert await handle.result() == 1
        assert seen == [ArgumentError, ValueMismatch, PayloadTooLarge]
        assert await read(handle, "x", int) == [1]
        with pytest.raises(ValueMismatch, match="a value of stream 'x' of instance"):
            await read(handle, "x", str)
        with pytest.raises(ArgumentError, match="the `place` of a value"):
            handle.stream("x", after="7")
        with pytest.raises(ArgumentError, match="name of a stream cannot be empty"):
            handle.stream("")
        with pytest.raises(InstanceNotFound):
            await read(client.handle("nobody"), "x")
        with pytest.raises(Exception, match=r"emit\(\) to 'x'"):
            await client.run(forgets)
