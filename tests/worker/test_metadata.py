"""Metadata on its way: client, workflow, activity, sub-workflow, next execution."""

# mypy: ignore-errors

from __future__ import annotations

from contextvars import ContextVar

import anyio
import pytest
import trio

from tests.worker.flow import serving, until_parked
from trioflow import (
    ArgumentError,
    ContextVars,
    PayloadTooLarge,
    Query,
    Registry,
    RetryPolicy,
    Signal,
    Update,
    activity_info,
    check_compatibility,
    continue_as_new,
    info,
    open_client,
    open_worker,
    start_detached,
)
from trioflow.testing import ReplayError, check_replay, export_history

request_id = ContextVar("request_id")
tenant = ContextVar("tenant", default="nobody")
both = ContextVars(request_id=request_id, tenant=tenant)
go = Signal("go", int)


def flows_that_note(seen):
    """Workflows and activities that note what reaches them."""
    flows = Registry()

    @flows.activity
    async def note(where: str) -> None:
        seen[where] = (activity_info().metadata, request_id.get("none"), tenant.get())

    @flows.activity
    def note_in_a_thread(where: str) -> None:
        seen[where] = (activity_info().metadata, request_id.get("none"), tenant.get())

    @flows.workflow
    async def child() -> None:
        seen["child"] = (info().metadata, request_id.get("none"), tenant.get())
        await note("activity of the child")

    @flows.workflow
    async def parent(executions: int = 1) -> None:
        seen["workflow"] = (info().metadata, request_id.get("none"), tenant.get())
        await note("activity")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note_in_a_thread, "activity in a thread")
            nursery.start_soon(child)
        if executions > 1:
            continue_as_new(executions - 1)

    return flows, parent


EVERYWHERE = {"workflow", "activity", "activity in a thread", "child", "activity of the child"}


async def test_it_reaches_everything(flow):
    seen = {}
    flows, parent = flows_that_note(seen)
    metadata = {"request_id": "r7", "any": "thing ü"}
    async with flow.worker(flows, propagators=[both]) as worker:
        await worker.client.run(parent.options(id="p", metadata=metadata), 2)
        assert (await worker.client.handle("p").describe()).metadata == metadata
        execution = (await worker.client.handle("p").describe()).execution
    assert execution == 2
    assert seen == dict.fromkeys(EVERYWHERE, (metadata, "r7", "nobody"))


async def test_activities_in_another_worker(flow):
    seen = {}
    flows, parent = flows_that_note(seen)
    async with (
        flow.worker(flows, workflows=False, propagators=[both]),
        flow.worker(flows, activities=False, propagators=[both]) as worker,
    ):
        await worker.client.run(parent.options(metadata={"request_id": "r7"}))
    assert seen == dict.fromkeys(EVERYWHERE, ({"request_id": "r7"}, "r7", "nobody"))


async def test_what_a_client_has_in_its_context(backend):
    seen = {}
    flows, parent = flows_that_note(seen)
    async with (
        open_worker(backend, registry=flows, propagators=[both], drain=0),
        open_client(backend, registry=flows, propagators=[both]) as client,
    ):
        request_id.set("from here")
        handle = await client.start(parent.options(metadata={"request_id": "given", "more": "x"}))
        await handle.result()
    found = {"request_id": "from here", "more": "x"}  # a default is no value that was set
    assert seen == dict.fromkeys(EVERYWHERE, (found, "from here", "nobody"))


async def test_a_workflow_changes_what_its_calls_get(flow):
    seen = {}
    flows = Registry()

    @flows.activity
    async def note(where: str) -> None:
        seen[where] = (activity_info().metadata, tenant.get())

    @flows.workflow
    async def child() -> None:
        await note("child")

    async def branch(name: str) -> None:
        tenant.set(name)
        await note(name)

    @flows.workflow
    async def parent() -> None:
        await note("before")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(branch, "a")
            nursery.start_soon(branch, "b")
        tenant.set("c")
        await child()
        await child.options(metadata={"only": "here", "tenant": "overridden"})()
        await note("after")

    async with flow.worker(flows, propagators=[both]) as worker:
        await worker.client.run(parent.options(metadata={"k": "v"}))
    assert tenant.get() == "nobody"
    assert seen == {
        "before": ({"k": "v"}, "nobody"),
        "a": ({"k": "v", "tenant": "a"}, "a"),
        "b": ({"k": "v", "tenant": "b"}, "b"),
        "child": ({"k": "v", "tenant": "c", "only": "here"}, "c"),
        "after": ({"k": "v", "tenant": "c"}, "c"),
    }


async def test_a_replay_sees_the_same(flow):
    """The cache of some of these flows is empty, so that each turn is replayed."""
    flows = Registry()

    @flows.activity
    async def nothing() -> None: ...

    @flows.workflow
    async def waits() -> list[str]:
        before = tenant.get()
        await nothing()
        await go.receive()
        return [before, tenant.get()]

    async with flow.worker(flows, propagators=[both]) as worker:
        handle = await worker.client.start(waits.options(id="w", metadata={"tenant": "t1"}))
        await until_parked(handle, turns=2)
    async with flow.worker(flows, propagators=[both], check="refuse") as worker:
        handle = worker.client.handle("w", waits)
        assert (await check_compatibility(worker.client, flows)).differing == []
        await handle.signal(go, 1)
        assert await handle.result() == ["t1", "t1"]
        history = await export_history(handle)
    check_replay(history, waits, propagators=[both])
    with pytest.raises(ReplayError):
        check_replay(history, waits)


async def test_handlers_see_what_the_workflow_began_with(flow):
    flows = Registry()

    @flows.workflow
    async def answers() -> None:
        async def after_a_while() -> str:
            await trio.sleep(0.001)
            return tenant.get()

        def sets() -> str:
            before = tenant.get()
            tenant.set("changed")
            return before

        Query("asked").handler(sets)
        Update("wanted").handler(tenant.get)
        Update("slow").handler(after_a_while)
        await go.receive()

    async with flow.worker(flows, propagators=[both]) as worker:
        handle = await worker.client.start(answers.options(id="a", metadata={"tenant": "t1"}))
        await until_parked(handle)
        assert await handle.query("asked") == await handle.query("asked") == "t1"
        assert await handle.update("wanted") == await handle.update("slow") == "t1"
        await handle.signal(go, 1)
        await handle.result()
        history = await export_history(handle)
    check_replay(history, answers, propagators=[both])


async def test_a_replay_for_a_query_sees_the_same(flow):
    flows = Registry()

    @flows.activity
    async def nothing() -> None: ...

    @flows.workflow
    async def asked() -> None:
        Query("whose").handler(tenant.get)
        if tenant.get() == "t1":
            await nothing()

    async with flow.worker(flows, propagators=[both]) as worker:
        await worker.client.run(asked.options(id="a", metadata={"tenant": "t1"}))
    async with flow.worker(flows, propagators=[both]) as worker:
        assert await worker.client.handle("a").query("whose") == "t1"


async def test_without_metadata_and_propagators_nothing_is_stored(backend):
    seen = {}
    flows, parent = flows_that_note(seen)
    async with serving(backend, flows) as client:
        await client.run(parent.options(id="p"))
        (execution,) = await backend.history("p")
    assert b"metadata" not in b"".join(execution.turns)
    assert seen == dict.fromkeys(EVERYWHERE, ({}, "none", "nobody"))


async def test_a_propagator_that_fails_at_an_activity_fails_the_attempt(backend):
    class Strict:
        def inject(self, metadata):
            metadata["k"] = "v"

        def extract(self, metadata):
            if not info_is_there():
                raise LookupError("no such tenant")

    def info_is_there():
        try:
            info()
        except Exception:
            return False
        return True

    flows = Registry()

    @flows.activity(retry=RetryPolicy(max_attempts=2))
    async def work() -> None:
        pytest.fail("it ran")

    @flows.workflow
    async def calls() -> None:
        await work()

    async with serving(backend, flows, propagators=[Strict()]) as client:
        with pytest.raises(LookupError, match="no such tenant"):
            await client.run(calls)


@pytest.mark.parametrize("found", [7, None, "\ud800"])
async def test_a_propagator_that_injects_no_strings(backend, found):
    class Wrong:
        def inject(self, metadata):
            metadata["k"] = found

        def extract(self, metadata): ...

    flows, parent = flows_that_note({})
    async with open_client(backend, registry=flows, propagators=[Wrong()]) as client:
        with pytest.raises(ArgumentError, match="metadata 'k'"):
            await client.start(parent)
        assert await client.count() == 0


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"k": 7}, ArgumentError),
        ({7: "v"}, ArgumentError),
        ("text", ArgumentError),
        ([("k", "v")], ArgumentError),
        ({"k": "a\0b"}, ArgumentError),
        ({"k": "x" * 20_000}, PayloadTooLarge),
    ],
)
def test_what_is_no_metadata(given, error):
    _, parent = flows_that_note({})
    with pytest.raises(error, match="metadata"):
        parent.options(metadata=given)


def test_a_variant_has_a_copy():
    _, parent = flows_that_note({})
    given = {"k": "v"}
    variant = parent.options(metadata=given)
    given["k"] = "changed"
    assert variant.metadata == {"k": "v"}
    assert variant.options(id="x").metadata == {"k": "v"}
    assert parent.metadata == {}


def test_context_vars_show_their_names():
    assert repr(both) == "ContextVars(request_id, tenant)"


async def test_contexts_of_callers_are_their_own(backend):
    """What extract sets in one attempt is not seen by another."""
    seen = []
    flows = Registry()

    @flows.activity
    async def look() -> None:
        seen.append(tenant.get())

    @flows.workflow
    async def calls() -> None:
        await look()

    async with (
        serving(backend, flows, propagators=[both]) as client,
        anyio.create_task_group() as group,
    ):
        for name in ("a", "b", None, "c"):
            metadata = {} if name is None else {"tenant": name}
            group.start_soon(client.run, calls.options(metadata=metadata))
    assert sorted(seen) == ["a", "b", "c", "nobody"]


async def test_instances_that_are_started_detached(backend):
    seen = {}
    flows, parent = flows_that_note(seen)

    @flows.workflow
    async def starts() -> None:
        tenant.set("t1")
        await start_detached(parent.options(id="p", metadata={"more": "x"}))

    async with serving(backend, flows, propagators=[both]) as client:
        await client.run(starts.options(metadata={"k": "v"}))
        await client.handle("p").result()
    found = {"k": "v", "more": "x", "tenant": "t1"}
    assert seen == dict.fromkeys(EVERYWHERE, (found, "none", "t1"))


elsewhere = Registry()


@elsewhere.activity(runtime="process")
def look_elsewhere() -> dict[str, str]:
    return activity_info().metadata


async def test_an_activity_in_another_process(sqlite):
    @elsewhere.workflow
    async def asks() -> dict[str, str]:
        return await look_elsewhere()

    async with sqlite.worker(elsewhere) as worker:
        assert await worker.client.run(asks.options(metadata={"k": "v"})) == {"k": "v"}
