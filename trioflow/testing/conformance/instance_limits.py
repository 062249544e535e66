"""Conformance: limits across workers, of the instances of a workflow."""

# ruff: noqa: D103, PLR2004 - assertions; a case is described by its name

from __future__ import annotations

from typing import Any

from trioflow._model.limits import Limit
from trioflow.backends.commits import CommitFailure
from trioflow.backends.resets import Beginning, Reset
from trioflow.testing.conformance.stage import DONE, TERMINATED, Case, Stage, new, step


async def _limit(stage: Stage, **fields: Any) -> None:
    fields = {"kind": "workflow", "name": "flow", **fields}
    await stage.backend.set_limit(Limit(**fields))


async def what_is_overdue_waits_for_no_place(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await _limit(stage, concurrency=1)
    await stage.create("a")
    assert await stage.take_ids("w1") == ["a"]
    before = stage.backend.now()
    await stage.create("later", timeout=1000.0)
    await stage.create("b")
    after = stage.backend.now()
    taken = await stage.backend.take_instances("w1", ("default",), 10)
    assert taken.instances == []
    assert taken.next_at is not None
    assert before + 999 <= taken.next_at <= after + 1001
    await stage.create("late", timeout=0.001, priority=5)
    taken = await stage.backend.take_instances("w1", ("default",), 10)
    assert [one.id for one in taken.instances] == ["late"]
    assert taken.next_at is not None
    assert before + 999 <= taken.next_at <= after + 1001
    # From then on it counts, and is taken for what it still has to do.
    await stage.stored(step("late", 0, leased=False, due=True))
    assert await stage.take_ids("w2") == ["late"]
    await stage.stored(step("a", 0, closing=DONE))
    assert await stage.take_ids("w1") == []
    await stage.stored(step("late", 1, closing=DONE), worker="w2")
    assert await stage.take_ids("w1") == ["later"]


async def no_more_instances_begin_than_their_workflow_allows(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await _limit(stage, concurrency=2)
    await stage.create("a", "b", "c", "d", "e")
    await stage.create("x", workflow="other")
    assert await stage.take_ids("w1", 1) == ["a"]
    taken = await stage.backend.take_instances("w2", ("default",), 10)
    assert [one.id for one in taken.instances] == ["b", "x"]
    assert taken.next_at is None
    assert await stage.take_ids("w1") == []
    await stage.stored(step("a", 0, leased=False, due=True))
    assert await stage.take_ids("w1") == ["a"]  # which has begun
    await stage.stored(step("a", 1, closing=DONE))
    assert await stage.take_ids("w1") == ["c"]
    assert await stage.backend.suspend("b", b"{}") == "done"
    assert await stage.take_ids("w1") == []  # it still counts
    assert await stage.backend.terminate("b", TERMINATED) == "done"
    assert await stage.take_ids("w2", 1) == ["d"]
    await stage.backend.release_worker("w2")
    assert await stage.take_ids("w1") == ["d", "x"]  # its place was kept
    assert await stage.backend.remove_limit("workflow", "flow")
    assert await stage.take_ids("w1") == ["e"]


async def instances_that_have_begun_count(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    await stage.stored(step("a", 0, leased=False, wake_at=stage.backend.now() + 1000))
    await stage.create("c", "d")
    await _limit(stage, concurrency=3)
    assert await stage.take_ids() == ["c"]
    assert await stage.backend.send("a", b"message") == "done"
    assert await stage.take_ids() == ["a"]


async def instances_wait_in_their_order(stage: Stage) -> None:
    await stage.workers("w1")
    await _limit(stage, concurrency=1)
    await stage.create("a", "b", "c")
    await stage.create("d", priority=1)
    assert await stage.backend.send("c", b"message") == "done"
    begun: list[str] = []
    for _ in range(4):
        (id,) = await stage.take_ids()
        begun.append(id)
        assert await stage.backend.terminate(id, TERMINATED) == "done"
    assert begun == ["d", "a", "b", "c"]


async def no_limited_instance_is_born_begun(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", workflow="parent")
    await _limit(stage, concurrency=5)
    begun = step("n", 0, new=new("n"))
    assert await stage.commit(begun) == CommitFailure(limited=["n"])
    held = step("n", 0, turns=[], new=new("n"))
    assert await stage.commit(held) == CommitFailure(limited=["n"])
    free = step("n", 0, turns=[], new=new("n"), leased=False, due=True)
    await stage.stored(step("a", 0), free)
    assert await stage.take_ids() == ["n"]


async def an_id_that_is_used_again_waits_again(stage: Stage) -> None:
    await stage.workers("w1")
    await _limit(stage, concurrency=1)
    await stage.create("a", life="first")
    assert await stage.take_ids() == ["a"]
    await stage.stored(step("a", 0, life="first", closing=DONE))
    await stage.create("b", life="first")
    await stage.create("a", life="second")
    assert await stage.take_ids() == ["b"]
    await stage.stored(step("b", 0, life="first", closing=DONE))
    assert await stage.take_ids() == ["a"]


async def what_waits_hides_nothing(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await _limit(stage, concurrency=1)
    names = [f"n{number:03}" for number in range(600)]
    await stage.create(*names)
    await stage.create("x", workflow="other")
    assert await _all_that_can_be_taken(stage) == ["n000", "x"]
    (stats,) = await stage.backend.stats()
    assert (stats.running, stats.pending_instances) == (601, 599)
    await stage.create("first", priority=1)
    assert await _all_that_can_be_taken(stage) == []
    assert await stage.backend.terminate("n000", TERMINATED) == "done"
    assert await _all_that_can_be_taken(stage) == ["first"]
    assert await stage.backend.terminate("first", TERMINATED) == "done"
    assert await _all_that_can_be_taken(stage) == ["n001"]
    await _limit(stage, concurrency=3)
    assert await _all_that_can_be_taken(stage) == ["n002", "n003"]
    assert await stage.backend.remove_limit("workflow", "flow")
    assert await _all_that_can_be_taken(stage) == names[4:]


async def _all_that_can_be_taken(stage: Stage) -> list[str]:
    ids: list[str] = []
    while True:
        taken = await stage.backend.take_instances("w1", ("default",), 10)
        ids += [one.id for one in taken.instances]
        if taken.next_at is None:
            return ids


async def what_waits_can_be_changed(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await _limit(stage, concurrency=1)
    await stage.create("a", "b", "c", "d", "e")
    assert await stage.take_ids() == ["a"]
    assert await stage.take_ids("w2") == []
    ready_at = (await stage.record("b")).ready_at
    assert ready_at is not None
    assert ready_at <= stage.backend.now()
    assert await stage.backend.suspend("b", b"{}") == "done"
    assert await stage.backend.terminate("c", TERMINATED) == "done"
    (stats,) = await stage.backend.stats()
    assert (stats.running, stats.suspended, stats.pending_instances) == (3, 1, 2)
    assert await stage.backend.resume("b") == "done"
    assert await stage.backend.send("e", b"message") == "done"
    await stage.create("c", life="second")
    assert await stage.take_ids("w2") == []
    begun: list[str] = []
    last = "a"
    while len(begun) < 4:
        assert await stage.backend.terminate(last, TERMINATED) == "done"
        taken = await stage.backend.take_instances("w1", ("default",), 10)
        (one,) = taken.instances
        assert len(one.inbox) == int(one.id == "e")
        last = one.id
        begun.append(last)
    assert begun == ["d", "e", "b", "c"]


async def another_life_waits_in_its_own_place(stage: Stage) -> None:
    await stage.workers("w1")
    await _limit(stage, concurrency=1)
    await stage.create("a")
    await stage.create("b", "c", "d", priority=3)
    assert await stage.take_ids() == ["b"]
    assert await stage.take_ids() == []
    assert await stage.backend.terminate("c", TERMINATED) == "done"
    await stage.create("c", life="second")
    assert await stage.take_ids() == []
    assert await stage.backend.terminate("b", TERMINATED) == "done"
    assert await stage.take_ids() == ["d"]
    await _limit(stage, concurrency=9)
    assert await stage.take_ids() == ["a", "c"]  # each of them once


async def what_begins_with_turns_needs_a_place_too(stage: Stage) -> None:
    await stage.workers("w1")
    await _limit(stage, concurrency=1)
    for id in "abcz":
        await stage.create(id)
        assert await stage.take_ids() == [id]
        await stage.stored(step(id, 0))
        await stage.stored(step(id, 1, closing=DONE))
    # A timer of theirs is over, which is no timeout.
    begin = Beginning(turns=[b"{}"], events=1, carried=b"[]", wake_at=stage.backend.now() - 1)
    values: dict[str, Any] = {"turns": 2, "inbox": [], "life": "", "execution": 1}
    for id in "abc":
        reset = Reset(id=id, ending=b"{}", beginning=begin, outcome=TERMINATED, **values)
        assert await stage.backend.reset(reset) == "done"
        await stage.pass_time(0.01)
    for id in "de":
        assert await stage.backend.fork(new(id), begin)
        await stage.pass_time(0.01)
    await _limit(stage, concurrency=1)  # nobody has begun, though they have turns
    assert await stage.take_ids() == ["a"]
    assert await stage.take_ids() == []
    await stage.stored(step("a", 1, execution=2, leased=False, due=True))
    assert await stage.take_ids() == ["a"]
    assert await stage.backend.terminate("a", TERMINATED) == "done"
    assert await stage.take_ids() == ["b"]
    await _limit(stage, concurrency=2)  # those that wait are not counted
    assert await stage.take_ids() == ["c"]
    await stage.stored(step("b", 1, execution=2, closing=DONE))
    assert await stage.take_ids() == ["d"]
    assert await stage.backend.remove_limit("workflow", "flow")
    assert await stage.take_ids() == ["e"]


async def what_waits_in_queues_of_others_stays_there(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await _limit(stage, concurrency=1)
    await stage.create("a", "b")
    await stage.create("c", queue="other")
    assert await stage.take_ids() == ["a"]
    assert (await stage.backend.take_instances("w2", ("other",), 10)).instances == []
    assert await stage.take_ids() == []
    assert await stage.backend.terminate("a", TERMINATED) == "done"
    taken = await stage.backend.take_instances("w2", ("other",), 10)
    assert [one.id for one in taken.instances] == ["c"]
    assert await stage.backend.terminate("c", TERMINATED) == "done"
    assert await stage.take_ids(exclude=("flow",)) == []
    assert await stage.take_ids(exclude_ids=("b",)) == []
    assert await stage.take_ids() == ["b"]


CASES: tuple[Case, ...] = (
    what_is_overdue_waits_for_no_place,
    no_more_instances_begin_than_their_workflow_allows,
    instances_that_have_begun_count,
    instances_wait_in_their_order,
    no_limited_instance_is_born_begun,
    an_id_that_is_used_again_waits_again,
    what_waits_hides_nothing,
    what_waits_can_be_changed,
    another_life_waits_in_its_own_place,
    what_begins_with_turns_needs_a_place_too,
    what_waits_in_queues_of_others_stays_there,
)
