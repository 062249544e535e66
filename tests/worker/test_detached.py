"""Instances that a workflow starts and does not wait for, and those that it cancels."""

from __future__ import annotations

import gc

import pytest
import trio

from tests.worker.flow import EPOCH, in_memory, serving, until, until_parked
from trioflow import (
    ArgumentError,
    DefinitionError,
    InstanceAlreadyExists,
    InstanceCancelled,
    InstanceNotFound,
    InstanceTerminated,
    NotInWorkflow,
    Registry,
    Signal,
    cancel_instance,
    continue_as_new,
    info,
    start_detached,
)
from trioflow.testing import simulate

go = Signal("go", int)
flows = Registry()


@flows.workflow
async def waits(n: int = 0) -> int:
    return n + await go.receive()


@flows.workflow
async def quick(n: int) -> int:
    return n


@flows.workflow
async def knows() -> tuple[str | None, int, float]:
    me = info()
    return me.parent and me.parent.instance, me.priority, me.started_at


@flows.workflow
async def starts(id: str | None = None) -> str:
    return await start_detached(waits.options(id=id), 1)


@flows.workflow
async def starts_many(if_exists: str, reuse: bool | None) -> list[str]:
    done = []
    for id in ("free", "running", "over"):
        options = {"id": id, "if_exists": if_exists, "reuse_finished": reuse}
        try:
            done.append(await start_detached(waits.options(**options)))
        except InstanceAlreadyExists as exc:
            done.append(f"{exc.instance} exists")
    return done


@flows.workflow
async def cancels(*ids: str) -> list[str]:
    done = []
    for id in ids:
        try:
            await cancel_instance(id, f"not {id}")
            done.append("asked")
        except InstanceNotFound as exc:
            done.append(exc.instance)
    return done


async def test_it_outlives_who_started_it(flow):
    async with flow.worker(flows) as worker, flow.client(flows) as client:
        one = await worker.client.start(starts)
        id = await one.result()
        detached = client.handle(id, waits)
        assert id.startswith(f"{one.id}/")
        found = await detached.describe()
        assert (found.status, found.parent) == ("running", None)
        await detached.signal(go, 5)
        assert await detached.result() == 6
        # A terminate does not take it along either.
        two = await worker.client.start(starts.options(id="two"), "named")
        await two.result()
        with pytest.raises(InstanceAlreadyExists, match="'named'"):
            await client.run(starts, "named")
        await client.handle("named").terminate()


async def test_it_inherits_and_has_options(clock):
    local = Registry()
    local.add(knows)

    @local.workflow
    async def starter() -> list[str]:
        later = knows.options(delay=60, attributes={"kind": "later"})
        return [await start_detached(each) for each in (knows, later)]

    async with serving(in_memory(clock), local) as client:
        ids = await client.run(starter.options(priority=3))
        results = [await client.handle(id, knows).result() for id in ids]
        assert results[0] == (None, 3, pytest.approx(EPOCH, abs=1))
        assert results[1] == (None, 3, pytest.approx(EPOCH + 60, abs=1))
        assert await client.count(where={"kind": "later"}) == 1


@pytest.mark.parametrize(
    ("if_exists", "reuse", "expected", "lives"),
    [
        ("raise", None, ["free", "running exists", "over"], ("old", "new")),
        ("raise", False, ["free", "running exists", "over exists"], ("old", "old")),
        ("return", None, ["free", "running", "over"], ("old", "old")),
        ("return", True, ["free", "running", "over"], ("old", "new")),
        ("replace", None, ["free", "running", "over"], ("new", "new")),
        ("replace", False, ["free", "running exists", "over exists"], ("over", "old")),
    ],
)
async def test_what_happens_if_the_id_is_taken(clock, if_exists, reuse, expected, lives):
    async with serving(in_memory(clock), flows) as client:
        running = await client.start(waits.options(id="running"), 0)
        assert await client.run(quick.options(id="over"), 7) == 7
        assert await client.run(starts_many, if_exists, reuse) == expected
        executions = {"old": (1, "running"), "new": (2, "running"), "over": (1, "terminated")}
        for id, life in zip(("running", "over"), lives, strict=True):
            found = await client.handle(id).describe()
            if id == "over" and life == "old":
                assert (found.execution, found.status) == (1, "completed")
            else:
                assert (found.execution, found.status) == executions[life]
        if lives[0] != "old":
            with pytest.raises((InstanceTerminated, InstanceNotFound)):
                await running.result()


async def test_a_workflow_cancels_any_instance(flow):
    async with flow.worker(flows) as worker, flow.client() as client:
        begun = await worker.client.start(waits.options(id="begun"))
        await until_parked(begun)
        unbegun = await client.start(waits.options(id="unbegun", queue="nobody's"))
        await worker.client.run(quick.options(id="over"), 1)
        said = await worker.client.run(cancels, "begun", "unbegun", "over", "nobody")
        assert said == ["asked", "asked", "over", "nobody"]
        for handle in (begun, unbegun):
            with pytest.raises(InstanceCancelled, match=f"not {handle.id}"):
                await handle.result()


async def test_a_workflow_may_cancel_itself(clock):
    local = Registry()

    @local.workflow
    async def suicidal() -> None:
        await cancel_instance(info().id, "enough")
        await trio.sleep_forever()

    async with serving(in_memory(clock), local) as client:
        with pytest.raises(InstanceCancelled, match="enough"):
            await client.run(suicidal)


async def test_bad_arguments_start_nothing(clock):
    local = Registry()
    local.add(quick)

    @local.workflow
    async def wrong(how: str) -> str:
        try:
            if how == "arguments":
                await start_detached(quick, "x")  # type: ignore[arg-type]
            else:
                await cancel_instance("a", "x" * 5000)
        except ArgumentError as exc:
            return str(exc)
        return "nothing"

    async with serving(in_memory(clock), local) as client:
        assert "argument 'n'" in await client.run(wrong, "arguments")
        assert "at most 4,000" in await client.run(wrong, "reason")
        assert await client.count() == 2


async def test_a_call_without_await_is_found(clock):
    local = Registry()
    local.add(quick)

    @local.workflow
    async def forgets() -> None:
        start_detached(quick, 1)
        await trio.sleep(1)

    async with serving(in_memory(clock), local) as client:
        with pytest.raises(Exception, match=r"start_detached\(\) of .*await"):
            await client.run(forgets)


def test_outside_of_a_workflow_they_say_what_to_use():
    with pytest.raises(NotInWorkflow, match=r"start_detached\(\)"):
        start_detached(quick, 1)
    with pytest.raises(NotInWorkflow, match=r"cancel_instance\(\)"):
        cancel_instance("x")
    gc.collect()


# --- sub-workflows that are abandoned ---------------------------------------------------------


@flows.workflow
async def leaves(seconds: float) -> str:
    left = waits.options(id="left", on_cancel="abandon")
    with trio.move_on_after(seconds):
        return f"got {await left(1)}"
    return "left"


@flows.workflow
async def leaves_and_waits() -> int:
    with trio.move_on_after(1):
        await waits.options(id="left", on_cancel="abandon")(1)
    return await go.receive()


@flows.workflow
async def leaves_and_goes_on(rounds: int) -> int:
    if not rounds:
        return await go.receive()
    with trio.move_on_after(1):
        await waits.options(id="left", on_cancel="abandon")(1)
    continue_as_new(0)


@pytest.mark.parametrize("cache_size", [1000, 0])
async def test_an_abandoned_one_goes_on(clock, cache_size):
    async with serving(in_memory(clock), flows, cache_size=cache_size) as client:
        handle = await client.start(leaves, 5)
        left = client.handle("left", waits)
        assert await handle.result() == "left"
        assert (await left.describe()).status == "running"
        await left.signal(go, 2)
        assert await left.result() == 3
        # One that is in time is waited for as ever.
        handle = await client.start(leaves, 5)
        await until(lambda: client.count(id_prefix="left", status="running"))
        await left.signal(go, 4)
        assert await handle.result() == "got 5"


async def test_the_end_of_an_abandoned_one_does_not_matter(clock):
    async with serving(in_memory(clock), flows) as client:
        for workflow, args in ((leaves_and_waits, ()), (leaves_and_goes_on, (1,))):
            handle = await client.start(workflow, *args)
            await trio.sleep(2)
            left = client.handle("left", waits)
            await left.signal(go, 2)
            assert await left.result() == 3
            await handle.signal(go, 9)
            assert await handle.result() == 9


async def test_a_cancel_leaves_it_and_a_terminate_takes_it_along(clock):
    async with serving(in_memory(clock), flows) as client:
        left = client.handle("left")
        cancelled = await client.start(leaves, 50)
        await trio.sleep(1)
        await cancelled.cancel()
        with pytest.raises(InstanceCancelled):
            await cancelled.result()
        assert (await left.describe()).status == "running"
        await left.terminate()
        handle = await client.start(leaves_and_waits)
        await trio.sleep(2)
        await handle.terminate()
        assert (await left.describe()).status == "terminated"


def test_there_is_no_other_way():
    with pytest.raises(DefinitionError, match="'wait' or 'abandon'"):
        waits.options(on_cancel="forget")  # type: ignore[arg-type]


# --- in a simulation ----------------------------------------------------------------------------


def test_a_simulation_runs_what_is_detached():
    local = Registry()
    seen = []

    @local.workflow
    async def later(n: int) -> int:
        await trio.sleep(5)
        seen.append(n)
        return n

    @local.workflow
    async def starter() -> list[str]:
        one = await start_detached(later.options(id="one", delay=1000), 1)
        same = await start_detached(later.options(id="one", if_exists="return"), 2)
        await start_detached(later.options(id="two"), 3)
        await cancel_instance("two", "no")
        try:
            await start_detached(later.options(id="one"), 4)
        except InstanceAlreadyExists:
            await trio.sleep(5000)
            return [one, same]
        return []

    simulation = simulate(starter, registry=local)
    assert simulation.result() == ["one", "one"]
    assert set(seen) == {1}
