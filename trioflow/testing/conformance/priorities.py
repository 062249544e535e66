"""Conformance: what comes first."""

# ruff: noqa: D103, PLR2004 - assertions; a case is described by its name

from __future__ import annotations

from trioflow.backends.commits import ActivityResult, ActivityRetry, InstanceCommit, Unit
from trioflow.testing.conformance.stage import (
    LEASE,
    TERMINATED,
    Case,
    Stage,
    key,
    named,
    new,
    step,
)


async def a_priority_is_kept(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("a", priority=7)
    await stage.create("b")
    assert [(await stage.record(id)).priority for id in ("a", "b")] == [7, 0]
    assert [taken.priority for taken in await stage.take()] == [7, 0]
    await stage.stored(step("a", 0, activities=named("0:0", priority=-3)))
    assert (await stage.task("a", "0:0")).priority == -3
    (task,) = (await stage.backend.take_activities("w1", ("default",), 9)).activities
    assert task.priority == -3


async def higher_priorities_are_taken_first(stage: Stage) -> None:
    await stage.workers("w1")
    for id, priority in (("low", -1), ("usual", 0), ("high", 5), ("high too", 5), ("top", 100)):
        await stage.create(id, priority=priority)
    taken = await stage.backend.take_instances("w1", ("default",), 2)
    assert [one.id for one in taken.instances] == ["top", "high"]
    assert taken.next_at is not None
    assert taken.next_at <= stage.backend.now()
    assert await stage.take_ids() == ["high too", "usual", "low"]


async def priorities_hold_across_queues(stage: Stage) -> None:
    await stage.workers("w1")
    for id, queue, priority in (("1", "x", 0), ("2", "y", 1), ("3", "x", 1), ("4", "y", 2)):
        await stage.create(id, queue=queue, priority=priority)
    assert await stage.take_ids(queues=("x", "y"), limit=3) == ["4", "2", "3"]
    assert await stage.take_ids(queues=("x", "y")) == ["1"]


async def a_priority_is_no_reason_to_be_ready(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("later", priority=9)
    wake_at = stage.backend.now() + 0.5
    await stage.stored(step("later", 0, leased=False, wake_at=wake_at))
    await stage.create("now")
    taken = await stage.backend.take_instances("w1", ("default",), 9)
    assert [one.id for one in taken.instances] == ["now"]
    assert taken.next_at == wake_at
    await stage.create("also now", priority=-9)
    await stage.pass_time(0.6)
    assert await stage.take_ids() == ["later", "also now"]


async def the_next_time_is_the_earliest_of_all_priorities(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", priority=9)
    await stage.hold("b", priority=-9)
    now = stage.backend.now()
    await stage.stored(step("a", 0, leased=False, wake_at=now + 200))
    await stage.stored(step("b", 0, leased=False, wake_at=now + 100))
    taken = await stage.backend.take_instances("w1", ("default",), 9)
    assert (taken.instances, taken.next_at) == ([], now + 100)


async def what_is_left_to_another_does_not_hide_the_rest(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a", priority=9)
    await stage.stored(step("a", 0, leased=False, due=True))
    await stage.create("b")
    assert await stage.take_ids("w2", sticky=LEASE) == ["b"]
    assert await stage.take_ids("w1", sticky=LEASE) == ["a"]


async def excluded_workflows_of_high_priority_are_passed_over(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("a", priority=9, workflow="unknown")
    await stage.create("b")
    assert await stage.take_ids(exclude=("unknown",)) == ["b"]


async def children_have_priorities(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("p")
    children = [
        InstanceCommit(id=id, execution=1, number=0, new=new(id, priority=priority), leased=False)
        for id, priority in (("one", 1), ("two", 2))
    ]
    await stage.stored(step("p", 0), *children)
    assert await stage.take_ids() == ["two", "one"]


async def a_priority_outlives_an_execution(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", priority=3)
    await stage.stored(step("a", 0, continued=b"[2]", leased=False))
    await stage.create("b")
    (a, b) = await stage.take()
    assert (a.id, a.execution, a.priority, b.id) == ("a", 2, 3, "b")


async def an_id_used_again_has_its_new_priority(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("a", priority=3)
    assert await stage.backend.terminate("a", TERMINATED) == "done"
    await stage.create("a")
    await stage.create("b", priority=1)
    assert await stage.take_ids() == ["b", "a"]


async def activities_of_higher_priority_are_taken_first(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    for number, priority in enumerate((0, -2, 4, 0, 4)):
        activities = named(f"0:{number}", priority=priority, queue="xy"[number % 2])
        await stage.stored(step("a", number, activities=activities))
        await stage.pass_time(0.01)
    taken = await stage.backend.take_activities("w1", ("x", "y"), 2)
    assert [task.key.command for task in taken.activities] == ["0:2", "0:4"]
    assert taken.next_at is not None
    assert taken.next_at <= stage.backend.now()
    assert await stage.take_commands(queues=("y", "x")) == ["0:0", "0:3", "0:1"]


async def a_retried_activity_keeps_its_priority(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", priority=4)))
    await stage.stored(step("a", 1, activities=named("0:1")))
    assert await stage.take_commands(limit=1) == ["0:0"]
    at = stage.backend.now() + 0.5
    retry = ActivityRetry(key("a", "0:0"), 2, at)
    assert await stage.backend.commit("w1", [Unit(retries=[retry])]) == [None]
    taken = await stage.backend.take_activities("w1", ("default",), 9, exclude=("act",))
    assert taken.activities == []
    await stage.pass_time(0.6)
    assert await stage.take_commands() == ["0:0", "0:1"]


async def priorities_survive_a_worker(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a", priority=-1)
    await stage.hold("b", priority=1)
    await stage.stored(step("a", 0, activities=named("0:0", priority=-1)))
    await stage.stored(step("b", 0, activities=named("0:0", priority=1)))
    assert len(await stage.take_commands()) == 2
    await stage.backend.release_worker("w1")
    taken = await stage.backend.take_activities("w2", ("default",), 9)
    assert [task.key.instance for task in taken.activities] == ["b", "a"]
    assert await stage.take_ids("w2") == ["b", "a"]


async def activities_of_every_priority_are_counted(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    for number, priority in enumerate((0, 3, -3)):
        await stage.stored(step("a", number, activities=named(f"0:{number}", priority=priority)))
    await stage.create("b", "c", priority=2)
    (stats,) = await stage.backend.stats()
    assert (stats.pending_instances, stats.pending_activities) == (2, 3)
    assert await stage.take_commands(limit=1) == ["0:1"]
    done = Unit(results=[ActivityResult(key("a", "0:1"), b"x")])
    assert await stage.backend.commit("w1", [done]) == [None]
    (stats,) = await stage.backend.stats()
    assert (stats.pending_activities, stats.running_activities) == (2, 0)


CASES: tuple[Case, ...] = (
    a_priority_is_kept,
    higher_priorities_are_taken_first,
    priorities_hold_across_queues,
    a_priority_is_no_reason_to_be_ready,
    the_next_time_is_the_earliest_of_all_priorities,
    what_is_left_to_another_does_not_hide_the_rest,
    excluded_workflows_of_high_priority_are_passed_over,
    children_have_priorities,
    a_priority_outlives_an_execution,
    an_id_used_again_has_its_new_priority,
    activities_of_higher_priority_are_taken_first,
    a_retried_activity_keeps_its_priority,
    priorities_survive_a_worker,
    activities_of_every_priority_are_counted,
)
