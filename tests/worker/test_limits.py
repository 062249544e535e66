"""What a workflow or a client gives is checked at that line, the same on every store."""

from __future__ import annotations

import anyio
import pytest
import trio

from tests.worker.flow import serving
from trioflow import (
    ArgumentError,
    InstanceCancelled,
    PayloadTooLarge,
    Registry,
    Signal,
    open_worker,
    send_signal,
)
from trioflow._codec import limits

word = Signal("word", str)


def definitions():
    flows = Registry()

    @flows.activity
    async def act(text: str) -> int:
        return len(text)

    @flows.workflow
    async def leaf(n: int) -> int:
        return n

    @flows.workflow
    async def wait() -> None:
        await trio.sleep_forever()

    return flows, act, leaf, wait


async def test_a_workflow_gets_the_error_at_its_line_and_goes_on(backend):
    flows, act, leaf, _ = definitions()

    @flows.workflow
    async def poison() -> list[str]:
        said = []
        for call in (
            lambda: leaf.options(id="order-\0"),
            lambda: leaf.options(id="order-\ud800"),
            lambda: act.options(queue="q" * 6000),
        ):
            try:
                call()
            except ArgumentError as error:
                said.append(str(error))
        try:
            await send_signal("x\ud800", word, "x")
        except ArgumentError as error:
            said.append(str(error))
        await act("still here")
        return said

    async with serving(backend, flows, cache_size=0) as client:
        said = await client.run(poison)
    assert [text.split(",")[0] for text in said] == [
        "an instance's id",
        "an instance's id",
        "the name of a queue",
        "an instance's id",
    ]


@pytest.mark.parametrize(("depth", "fine"), [(100, True), (150, False)])
async def test_nurseries_may_be_nested_as_deeply_as_every_store_takes(depth, fine, backend):
    flows, act, _, _ = definitions()

    @flows.workflow
    async def deep() -> str:
        async def nest(k: int) -> None:
            if k == 0:
                await act("x")
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(nest, k - 1)

        try:
            await nest(depth)
        except BaseExceptionGroup as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                (error,) = error.exceptions
            await act("it goes on")
            return f"{type(error).__name__}: {error}"
        return "fine"

    async with serving(backend, flows, cache_size=0) as client:
        said = await client.run(deep)
    assert (said == "fine") is fine
    assert fine or "cannot be started as a task: it would be nested too deeply" in said


async def test_the_size_of_a_turn_is_limited_the_same_on_replay(backend):
    flows, act, _, _ = definitions()
    text = "x" * 1_500_000

    @flows.workflow
    async def large() -> list[str]:
        said = []

        async def call(number: int) -> None:
            try:
                await act(text)
            except PayloadTooLarge as error:
                said.append(f"{number}: {error}")

        for _ in range(2):
            async with anyio.create_task_group() as group:
                for number in range(4):
                    group.start_soon(call, number)
        return said

    async with serving(backend, flows, cache_size=0) as client:
        said = await client.run(large)
    assert [text.partition(" with")[0] for text in said] == [
        f"{number}: act() arguments:" for number in (2, 3, 2, 3)
    ]


async def test_a_client_is_told_at_once(backend):
    flows, _, leaf, wait = definitions()

    async with serving(backend, flows, cache_size=0) as client:
        handle = await client.start(wait.options(id="w"))
        for reason in ("a\0", "\ud800", "x" * (limits.REASON_LENGTH + 1), 7):
            with pytest.raises(ArgumentError, match="^a reason"):
                await handle.cancel(reason)
            with pytest.raises(ArgumentError, match="^a reason"):
                await handle.terminate(reason)
        with pytest.raises(ArgumentError, match="^the name of a signal"):
            await handle.signal("\0", 1)
        for id in ("a\0", "\ud800", 7):
            with pytest.raises(ArgumentError, match="^id[, ]"):
                client.handle(id)
        for wrong in ("\0", "\ud800"):
            for name in ("workflow", "queue", "parent", "id_prefix", "after"):
                with pytest.raises(ArgumentError, match="holds"):
                    await client.list(**{name: wrong})
        assert (await handle.describe()).status == "running"
        await handle.cancel("x" * limits.REASON_LENGTH)
        with pytest.raises(InstanceCancelled):
            await handle.result()
        assert await client.run(leaf.options(id="😀" * limits.ID_LENGTH), 3) == 3


async def test_a_worker_checks_the_names_of_its_queues():
    with pytest.raises(ArgumentError, match="^the name of a queue"):
        async with open_worker("memory://", registry=Registry(), queues=["q\0"]):
            pass
