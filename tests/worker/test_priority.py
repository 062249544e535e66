"""What has a higher priority is begun first; who is called inherits it."""

from __future__ import annotations

import anyio
import pytest

from tests.worker.flow import Gate, until
from trioflow import Registry, activity_by_name, info, workflow_by_name


async def test_calls_inherit_the_priority_or_have_their_own(sqlite):
    flows = Registry()

    @flows.activity
    async def usual() -> None: ...

    @flows.activity(priority=-7)
    async def background() -> None: ...

    @flows.workflow
    async def child() -> int:
        return info().priority

    @flows.workflow(priority=3)
    async def parent() -> list[int]:
        own = child.options(priority=50)
        named = workflow_by_name("test_child", int, priority=0)
        priorities = [info().priority, await child(), await own(), await named()]
        async with anyio.create_task_group() as group:
            group.start_soon(usual)
            group.start_soon(background)
            group.start_soon(usual.options(priority=9))
            group.start_soon(activity_by_name("usual", priority=-1))
        return priorities

    flows.workflow(name="test_child")(child.fn)

    async with sqlite.worker(flows, activities=False) as worker:
        handle = await worker.client.start(parent)

        async def called():
            return len((await handle.describe()).activities) == 4

        await until(called)
        described = await handle.describe()
        assert described.priority == 3
        assert [task.priority for task in described.activities] == [3, -7, 9, -1]
        other = await worker.client.start(parent.options(priority=-100))
        assert (await other.describe()).priority == -100
    async with sqlite.worker(flows) as worker:
        assert await worker.client.handle(handle.id, parent).result() == [3, 3, 50, 0]


async def test_the_highest_priority_is_taken_first(cached):
    """By a worker that comes when all of it is there, and can run one at a time."""
    flows = Registry()
    begun = []
    gates = []

    @flows.activity
    async def note(name: str) -> None:
        begun.append(name)
        await gates[0].wait()

    @flows.workflow
    async def work(name: str) -> None:
        await note(name)

    gates.append(Gate())
    async with cached.client(flows) as client:
        async with cached.worker(flows, activities=False):
            handles = [
                await client.start(work.options(priority=priority), f"{priority}")
                for priority in (0, -5, 7, 1, 100, -100)
            ]

            async def all_called():
                (stats,) = await client.stats()
                return stats.pending_activities == len(handles)

            await until(all_called)
        async with cached.worker(flows, workflows=False, max_activities=1):
            await gates[0].until_entered()
            late = await client.start(work.options(priority=2), "2")
            async with cached.worker(flows, activities=False):

                async def called():
                    return (await late.describe()).activities

                await until(called)
                gates[0].open()
                for handle in [*handles, late]:
                    await handle.result()
    assert begun == ["100", "7", "2", "1", "0", "-5", "-100"]


@pytest.mark.parametrize("value", [101, -101, 10**30])
def test_a_priority_out_of_range_is_refused(value):
    flows = Registry()

    @flows.workflow
    async def work() -> None: ...

    @flows.activity
    async def act() -> None: ...

    for refused in (
        lambda: flows.workflow(priority=value),
        lambda: flows.activity(priority=value),
    ):
        with pytest.raises(ValueError, match="from -100 to 100"):
            refused()(work.fn)
    for definition in (work, act):
        with pytest.raises(ValueError, match="from -100 to 100"):
            definition.options(priority=value)


@pytest.mark.parametrize("value", ["high", 1.0, True])
def test_a_priority_is_a_whole_number(value):
    @Registry().workflow
    async def work() -> None: ...

    with pytest.raises(TypeError, match="whole number"):
        work.options(priority=value)
