"""Reasons of cancelled scopes, on their way through stores and workers."""

from __future__ import annotations

import trio

from tests.worker.flow import Gate
from trioflow import JsonCodec, Registry, Signal, WrappedCodec
from trioflow._model.events import CancelRequested

go = Signal("go", int)


def flows_with(said):
    """An activity that notes with which reason it is cancelled, and workflows that cancel it."""
    flows = Registry()
    gate = Gate()

    @flows.activity
    async def work() -> None:
        try:
            await gate.wait()
        except trio.Cancelled as exc:
            said.append(exc.reason)
            raise
        except BaseException as exc:  # asyncio's, which has it in its text
            said.append(str(exc).partition("reason: ")[2])
            raise

    @flows.workflow
    async def child() -> None:
        await work()

    @flows.workflow
    async def parent(below: bool = False) -> str:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child.options(id="child") if below else work)
                await go.receive()
                scope.cancel("sold out")
        return "went on"

    return flows, parent, gate


async def test_an_activity_in_the_same_worker(flow):
    said = []
    flows, parent, gate = flows_with(said)
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(parent.options(id="p"))
        await gate.until_entered()
        await handle.signal(go, 1)
        assert await handle.result() == "went on"
    assert said == ["sold out"]


async def test_an_activity_in_another_worker(flow):
    said = []
    flows, parent, gate = flows_with(said)
    async with (
        flow.worker(flows, workflows=False),
        flow.worker(flows, activities=False) as worker,
    ):
        handle = await worker.client.start(parent.options(id="p"))
        await gate.until_entered()
        await handle.signal(go, 1)
        assert await handle.result() == "went on"
        (execution,) = await handle.history()
        found = [
            getattr(fact, "reason", None)
            for turn in execution.turns
            for fact in (*turn.events, *turn.commands)
            if "Cancel" in type(fact).__name__
        ]
        assert found == ["sold out"] * 2  # the command, and the event that answers it
    assert said == ["sold out"]


async def test_an_activity_of_a_sub_workflow(flow):
    said = []
    flows, parent, gate = flows_with(said)
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(parent.options(id="p"), True)
        await gate.until_entered()
        await handle.signal(go, 1)
        assert await handle.result() == "went on"
        below = worker.client.handle("child")
        assert (await below.describe()).reason == "sold out"
        (execution,) = await below.history()
        asked = [e for turn in execution.turns for e in turn.events if type(e) is CancelRequested]
        assert [each.reason for each in asked] == ["sold out"]
    assert said == ["sold out"]


async def test_a_codec_hides_it_in_the_store_and_nowhere_else(sqlite):
    said = []
    flows, parent, gate = flows_with(said)
    codec = WrappedCodec(JsonCodec(), lambda data: data[::-1], lambda data: data[::-1])
    async with (
        sqlite.worker(flows, workflows=False, codec=codec),
        sqlite.worker(flows, activities=False, codec=codec) as worker,
    ):
        handle = await worker.client.start(parent.options(id="p"))
        await gate.until_entered()
        await handle.signal(go, 1)
        assert await handle.result() == "went on"
        stored = b"".join(
            turn for each in await worker.client.backend.history("p") for turn in each.turns
        )
        assert b"sold out" not in stored
        assert "sold out" in str(await handle.history())
    assert said == ["sold out"]
