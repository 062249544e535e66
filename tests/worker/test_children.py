"""Sub-workflows: results, ids, failures, cancellation, queues, signals."""

from __future__ import annotations

import anyio
import pytest
import trio

from tests.worker.flow import kinds, until, until_parked
from trioflow import (
    InstanceAlreadyExists,
    InstanceCancelled,
    InstanceNotFound,
    InstanceTerminated,
    Registry,
    RetryPolicy,
    Signal,
    info,
    send_signal,
)

number = Signal("number", int)


class Broken(Exception):
    pass


def family():
    flows = Registry()

    @flows.workflow
    async def child(n: int) -> int:
        return n * 10

    @flows.workflow
    async def waiting() -> int:
        return await number.receive()

    @flows.workflow
    async def parent(n: int) -> list[int]:
        return list(await anyio.gather(*[child(i) for i in range(n)]))

    return flows, parent, child, waiting


async def test_children_run_and_their_results_come_back_in_order(flow):
    flows, parent, _, _ = family()

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(parent.options(id="p"), 30)
        assert await handle.result() == [i * 10 for i in range(30)]
        children = await worker.client.list(parent="p")
        assert len(children) == 30
        assert {c.status for c in children} == {"completed"}
        assert {c.parent.instance for c in children} == {"p"}
        assert all(c.id.startswith("p/") for c in children)


async def test_the_number_of_turns_of_a_parent_is_recorded_with_its_children(flow):
    flows, parent, _, _ = family()

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(parent.options(id="p"), 1)
        await handle.result()
        (execution,) = await handle.history()
        assert kinds(execution.turns) == [
            (["Started"], ["StartChild"]),
            (["ChildCompleted"], []),
        ]


async def test_a_child_whose_id_is_running_fails_and_the_other_is_untouched(flow):
    flows, _, _, waiting = family()

    @flows.workflow
    async def taker() -> str:
        try:
            await waiting.options(id="only-one")()
        except InstanceAlreadyExists as exc:
            return str(exc)

    async with flow.worker(flows) as worker:
        first = await worker.client.start(waiting.options(id="only-one"))
        assert "'only-one'" in await worker.client.run(taker)
        await until_parked(first)
        assert "'only-one'" in await worker.client.run(taker)
        await first.signal(number, 4)
        assert await first.result() == 4


async def test_a_cancelled_parent_does_not_cancel_the_instance_that_has_the_id(flow):
    flows, _, _, waiting = family()

    @flows.activity
    async def fail() -> None:
        raise Broken

    @flows.workflow
    async def taker() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.options(id="only-one"))
            nursery.start_soon(fail.options(retry=RetryPolicy(max_attempts=1)))

    async with flow.worker(flows) as worker:
        first = await worker.client.start(waiting.options(id="only-one"))
        await until_parked(first)
        for _ in range(5):
            with pytest.raises(ExceptionGroup):
                await worker.client.run(taker)
        await first.signal(number, 4)
        assert await first.result() == 4


async def test_nor_does_one_that_is_cancelled_before_it_knows_that_the_id_is_taken(flow):
    flows, _, _, waiting = family()

    @flows.workflow
    async def quick() -> None:
        raise Broken

    @flows.workflow
    async def taker() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.options(id="only-one", queue="far"))
            nursery.start_soon(quick)

    async with flow.worker(flows) as worker, flow.worker(flows, queues=["far"]):
        first = await worker.client.start(waiting.options(id="only-one", queue="far"))
        await until_parked(first)
        with pytest.raises(ExceptionGroup):
            await worker.client.run(taker)
        await first.signal(number, 4)
        assert await first.result() == 4


async def test_a_finished_id_may_be_used_again(flow):
    flows, _, child, _ = family()

    @flows.workflow
    async def twice() -> list[int]:
        again = child.options(id="again")
        return [await again(1), await again(2)]

    async with flow.worker(flows) as worker:
        assert await worker.client.run(child.options(id="again"), 0) == 0
        assert await worker.client.run(twice) == [10, 20]
        described = await worker.client.handle("again").describe()
        assert described.execution == 3
        assert described.result == 20


async def test_a_childs_failure_is_raised_with_its_instance_named(flow):
    flows = Registry()

    @flows.workflow
    async def child() -> None:
        raise Broken("pipe")

    @flows.workflow
    async def parent() -> list[str]:
        try:
            await child.options(id="c")()
        except Broken as exc:
            return [str(exc), *exc.__notes__]

    async with flow.worker(flows) as worker:
        said = await worker.client.run(parent)
        assert said[0] == "pipe"
        assert any("'c'" in note for note in said[1:])


async def test_a_child_is_tried_again_as_its_policy_says(flow):
    flows = Registry()
    runs = []

    @flows.workflow
    async def child() -> int:
        runs.append(info().id)
        if len(set(runs)) < 3:
            raise Broken
        return len(set(runs))

    @flows.workflow
    async def parent() -> int:
        policy = RetryPolicy(max_attempts=3, initial_interval=0.005, jitter=0)
        return await child.options(retry=policy)()

    async with flow.worker(flows) as worker:
        assert await worker.client.run(parent) == 3


async def test_cancelling_the_parent_cancels_the_children_and_waits_for_them(flow):
    flows = Registry()
    order = []

    @flows.activity
    async def tidy(name: str) -> None:
        order.append(name)

    @flows.workflow
    async def child(n: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await tidy(f"child {n}")

    @flows.workflow
    async def parent() -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child.options(id="c1"), 1)
                nursery.start_soon(child.options(id="c2"), 2)
        finally:
            with trio.CancelScope(shield=True):
                await tidy("parent")

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(parent.options(id="p"))
        await until_parked(worker.client.handle("c1"))
        await until_parked(worker.client.handle("c2"))
        await handle.cancel("closing")
        with pytest.raises(InstanceCancelled, match="closing"):
            await handle.result()
        for id in ("c1", "c2"):
            described = await worker.client.handle(id).describe()
            assert (described.status, described.reason) == ("cancelled", "closing")
        assert order[-1] == "parent"
        assert sorted(order) == ["child 1", "child 2", "parent"]


async def test_a_child_cancelled_before_it_started_never_runs(flow):
    flows, others = Registry(), Registry()
    runs = []

    @others.workflow
    async def child() -> None:
        runs.append(1)

    @others.workflow(queue="elsewhere")
    async def other() -> int:
        return 1

    @flows.workflow
    async def parent() -> str:
        with trio.move_on_after(0.01):
            await child.options(id="c", queue="elsewhere")()
        return "given up"

    async with flow.worker(flows) as worker:
        # Nobody serves the child's queue, so the store ends it.
        handle = await worker.client.start(parent)
        assert await handle.result() == "given up"
        assert (await worker.client.handle("c").describe()).status == "cancelled"
        async with flow.worker(others, queues=["elsewhere"]) as elsewhere:
            assert await elsewhere.client.run(other) == 1
        assert not runs


async def test_a_child_that_is_cancelled_by_itself_fails_its_parent(flow):
    flows, _, _, waiting = family()

    @flows.workflow
    async def watcher() -> str:
        try:
            await waiting.options(id="c")()
        except InstanceCancelled as exc:
            return f"cancelled: {exc.reason}"
        except InstanceTerminated as exc:
            return f"terminated: {exc.reason}"

    async def until_parked_soon(child):
        async def there():
            try:
                return (await child.describe()).status == "running"
            except InstanceNotFound:
                return False

        await until(there)
        await until_parked(child)

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(watcher)
        child = worker.client.handle("c")
        await until_parked_soon(child)
        await child.cancel("mine")
        assert await handle.result() == "cancelled: mine"
        handle = await worker.client.start(watcher)
        await until_parked_soon(child)
        await child.terminate("now")
        assert await handle.result() == "terminated: now"


async def test_a_parent_signals_its_child_even_before_it_began(flow):
    flows, others = Registry(), Registry()

    @others.workflow
    async def child() -> int:
        return await number.receive()

    @flows.workflow
    async def parent(queue: str) -> list[int]:
        got = []

        async def run() -> None:
            got.append(await child.options(id="c", queue=queue)())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await trio.sleep(0.01)
            await send_signal("c", number, 42)
        return got

    flows.add(child)

    async with flow.worker(flows) as worker:
        assert await worker.client.run(parent, "default") == [42]
        handle = await worker.client.start(parent, "elsewhere")
        await until_parked(handle, turns=3)
        async with flow.worker(others, queues=["elsewhere"]):
            assert await handle.result() == [42]


async def test_terminating_a_parent_ends_its_descendants(flow):
    flows = Registry()

    @flows.workflow
    async def tree(depth: int) -> None:
        if depth:
            async with trio.open_nursery() as nursery:
                for side in "lr":
                    nursery.start_soon(tree.options(id=f"{info().id}{side}"), depth - 1)
        else:
            await trio.sleep_forever()

    async with flow.worker(flows) as worker:
        client = worker.client
        handle = await client.start(tree.options(id="t"), 2)

        async def all_there():
            return await client.count() == 7

        await until(all_there)
        await until_parked(client.handle("trr"))
        await handle.terminate("fire")
        with pytest.raises(InstanceTerminated, match="'t' was terminated: fire") as raised:
            await handle.result()
        assert raised.value.reason == "fire"
        assert await client.count(status="terminated") == 7
        with pytest.raises(InstanceTerminated):
            await client.handle("trr").result()
