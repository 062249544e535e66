"""Signals that a workflow has not received when it ends: what follows, and where they are seen."""

from __future__ import annotations

import pytest

from tests.worker.flow import until_status
from trioflow import (
    DeadLetter,
    DefinitionError,
    InstanceCancelled,
    InstanceFinished,
    InstanceNotFound,
    Registry,
    Signal,
    UnreadSignals,
    forward_unread,
)

number, word, go = Signal("number", int), Signal("word", str), Signal("go", str)
flows = Registry()


async def wait() -> str:
    how = await go.receive()
    if how == "raise":
        raise ValueError("enough")
    return how


warns = flows.workflow(name="warns")(wait)
ignores = flows.workflow(name="ignores", unread="ignore")(wait)
fails = flows.workflow(name="fails", unread="fail")(wait)


@flows.workflow
async def hands_on(to: str) -> int:
    await go.receive()
    return await forward_unread(to)


@flows.workflow(unread="fail")
async def collects(wanted: int) -> list[object]:
    return [list(await Signal.any().receive()) for _ in range(wanted)]


LETTERS = [DeadLetter("number", 1), DeadLetter("word", "x"), DeadLetter("number", 2)]


async def send(handle, end):
    await handle.signal(number, 1)
    await handle.signal(word, "x")
    await handle.signal(number, 2)
    if end == "cancel":
        await handle.cancel("enough")
    else:
        await handle.signal(go, end)


async def test_the_policy_says_what_follows(flow, caplog):
    async with flow.client(flows) as client:
        handles = [await client.start(workflow) for workflow in (warns, ignores, fails)]
        for handle in handles:
            await send(handle, "done")
        async with flow.worker(flows):
            assert await handles[0].result() == await handles[1].result() == "done"
            with pytest.raises(UnreadSignals, match=r"receiving signals: 'number' \(2\), 'word'"):
                await handles[2].result()
        for handle in handles:
            assert (await handle.describe()).dead_letters == LETTERS
        assert (await handles[2].describe()).status == "failed"
        logged = [r.getMessage() for r in caplog.records if "never received" in r.getMessage()]
        (told,) = logged
        assert handles[0].id in told
        assert "'number' (2), 'word' (1)" in told


@pytest.mark.parametrize("end", ["raise", "cancel"])
async def test_only_a_return_is_judged_and_all_are_dead_letters(flow, end):
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(fails)
        await send(handle, end)
        with pytest.raises(InstanceCancelled if end == "cancel" else ValueError, match="enough"):
            await handle.result()
        assert (await handle.describe()).dead_letters == LETTERS


async def test_what_was_received_is_no_dead_letter(flow):
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(collects, 2)
        await handle.signal(number, 1)
        await handle.signal(word, "x")
        assert await handle.result() == [["number", 1], ["word", "x"]]
        description = await handle.describe()
        assert (description.dead_letters, description.more_dead_letters) == ([], 0)


async def test_too_many_are_counted(flow):
    async with flow.client(flows) as client:
        handle = await client.start(ignores)
        for _ in range(5):
            await handle.signal(word, "x" * 600_000)
        await handle.signal(go, "done")
        async with flow.worker(flows):
            assert await handle.result() == "done"
        description = await handle.describe()
        assert len(description.dead_letters) == 3
        assert description.more_dead_letters == 2


async def test_they_are_handed_on_in_their_order(flow):
    async with flow.client(flows) as client:
        target = await client.start(collects.options(id="target"), 3)
        handle = await client.start(hands_on, "target")
        await send(handle, "")
        async with flow.worker(flows):
            assert await handle.result() == 3
            assert await target.result() == [["number", 1], ["word", "x"], ["number", 2]]
        assert (await handle.describe()).dead_letters == []


@pytest.mark.parametrize("there", [True, False])
async def test_what_cannot_be_handed_on_stays(flow, there):
    async with flow.client(flows) as client, flow.worker(flows) as worker:
        if there:
            await worker.client.run(collects.options(id="target"), 0)
        handle = await client.start(hands_on, "target")
        await send(handle, "")
        await until_status(handle, "failed")
        with pytest.raises((InstanceNotFound, InstanceFinished), match="'target'"):
            await handle.result()
        assert (await handle.describe()).dead_letters == LETTERS


async def test_a_history_keeps_the_policy_by_which_it_ended(flow):
    """A query replays it, also if the policy is another one by now."""
    later = Registry()
    later.workflow(name="warns", unread="fail")(wait)
    later.workflow(name="fails")(wait)
    async with flow.worker(flows) as worker:
        handles = [await worker.client.start(workflow) for workflow in (warns, fails)]
        for handle in handles:
            await send(handle, "done")
        await until_status(handles[0], "completed")
        await until_status(handles[1], "failed")
    async with flow.worker(later) as worker:
        for handle in handles:
            with pytest.raises(LookupError, match="it has no handler at all"):
                await worker.client.handle(handle.id).query("any")


def test_a_policy_that_is_none_is_refused():
    with pytest.raises(DefinitionError, match="unread is 'ignore', 'warn' or 'fail'.*'warn'"):
        Registry().workflow(name="x", unread="warm")(wait)
