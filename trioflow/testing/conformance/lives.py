"""Conformance: each life of an id is one of its own, and none reaches into the next."""

# ruff: noqa: D103 - assertions; a case is described by its name

from __future__ import annotations

from trioflow.backends.commits import (
    ActivityRetry,
    CancelledActivity,
    CommitFailure,
    InstanceCommit,
    Message,
    Unit,
)
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import Heartbeat
from trioflow.testing.conformance.stage import (
    ALL,
    CANCELLED,
    DONE,
    LEASE,
    TERMINATED,
    Case,
    Stage,
    child,
    child_failed,
    events,
    key,
    named,
    new,
    result,
    seqs,
    step,
)

_OLD = "1" * 32
_NEW = "2" * 32


async def _run_by_w2(stage: Stage) -> None:
    """Let w2 run an activity of a first life of ``a``, which w1 holds."""
    await stage.workers("w1", "w2")
    await stage.hold("a", life=_OLD)
    await stage.stored(step("a", 0, life=_OLD, activities=named("0:0")))
    assert await stage.take_commands("w2") == ["0:0"]


async def _left_running(stage: Stage, *, removed: bool = False) -> None:
    """Let w2 run an activity of a first life of ``a``, and w1 hold the second."""
    await _run_by_w2(stage)
    assert await stage.backend.terminate("a", TERMINATED) == "done"
    if removed:
        assert await stage.backend.remove(ALL, limit=9) == 1
    await stage.hold("a", life=_NEW)


async def a_life_is_kept(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("a", life=_OLD)
    await stage.create("b")
    assert [(await stage.record(id)).life for id in ("a", "b")] == [_OLD, ""]
    assert [taken.life for taken in await stage.take()] == [_OLD, ""]
    await stage.stored(step("a", 0, life=_OLD, activities=named("0:0")))
    assert (await stage.task("a", "0:0")).key == key("a", "0:0", life=_OLD)
    (task,) = (await stage.backend.take_activities("w1", ("default",), 9)).activities
    assert task.key == key("a", "0:0", life=_OLD)
    (row,) = await stage.backend.list(InstanceFilter(id_prefix="a"), limit=9)
    assert row.life == _OLD


async def a_life_outlives_an_execution(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", life=_OLD)
    await stage.stored(step("a", 0, life=_OLD, continued=b"[2]", leased=False))
    (taken,) = await stage.take()
    assert (taken.execution, taken.life) == (2, _OLD)
    await stage.stored(step("a", 0, life=_OLD, execution=2, activities=named("0:0")))
    assert (await stage.task("a", "0:0")).key == key("a", "0:0", 2, _OLD)


async def a_child_knows_the_life_of_its_parent(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("p", life=_OLD)
    born = child("c", "p", parent_life=_OLD, life=_NEW)
    commit = step("c", 0, new=born, life=_NEW, turns=[], leased=False)
    await stage.stored(step("p", 0, life=_OLD), commit)
    (taken,) = await stage.take()
    assert (taken.life, taken.parent) == (_NEW, born.parent)
    row = await stage.record("c")
    assert (row.life, row.parent) == (_NEW, born.parent)


async def a_commit_needs_the_life(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", life=_NEW)
    for wrong in (_OLD, ""):
        for fields in ({}, {"closing": DONE}, {"suspended": b"{}"}, {"continued": b"[]"}):
            commit = step("a", 0, life=wrong, **fields)
            assert await stage.commit(commit) == CommitFailure(lost=["a"])
    row = await stage.record("a")
    assert (row.status, row.turns, row.execution) == ("running", 0, 1)
    await stage.stored(step("a", 0, life=_NEW))


async def a_worker_of_the_old_life_writes_nothing(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", life=_OLD)
    assert await stage.backend.terminate("a", TERMINATED) == "done"
    assert await stage.backend.remove(ALL, limit=9) == 1
    await stage.hold("a", life=_NEW)
    assert await stage.commit(step("a", 0, life=_OLD)) == CommitFailure(lost=["a"])
    assert await stage.turns("a") == []
    await stage.stored(step("a", 0, life=_NEW))


async def a_finished_id_gets_the_life_of_the_new_one(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("p", "a", "b", life=_OLD)
    for id in ("a", "b"):
        await stage.stored(step(id, 0, life=_OLD, closing=DONE))
    await stage.create("a", life=_NEW)
    born = child("b", "p", parent_life=_OLD, life=_NEW)
    unstarted = InstanceCommit(id="b", execution=1, number=0, new=born, life=_NEW, leased=False)
    await stage.stored(step("p", 0, life=_OLD), unstarted)
    taken = {one.id: one for one in await stage.take()}
    assert [(taken[id].life, taken[id].execution) for id in ("a", "b")] == [(_NEW, 2), (_NEW, 2)]


async def clients_may_mean_one_life(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("a", life=_NEW)
    assert await backend.send("a", b"x", life=_OLD) == "finished"
    assert await backend.cancel("a", b"x", CANCELLED, life=_OLD) == "finished"
    assert await backend.terminate("a", TERMINATED, life=_OLD) == "finished"
    assert await backend.resume("a", life=_OLD) == "finished"
    assert await backend.send("nobody", b"x", life=_OLD) == "not found"
    assert await backend.cancel("nobody", b"x", CANCELLED, life=_OLD) == "not found"
    assert await backend.terminate("nobody", TERMINATED, life=_OLD) == "not found"
    assert await backend.resume("nobody", life=_OLD) == "not found"
    row = await stage.record("a")
    assert (row.status, row.unread) == ("running", 0)
    assert await backend.send("a", b"1", life=_NEW) == "done"
    assert await backend.cancel("a", b"2", CANCELLED, life=_NEW) == "done"
    (taken,) = await stage.take()
    assert events([taken]) == [b"1", b"2"]
    suspended = step("a", 0, life=_NEW, consumed=seqs(taken), suspended=b"{}")
    await stage.stored(suspended)
    assert await backend.resume("a", life=_OLD) == "finished"
    assert (await stage.record("a")).status == "suspended"
    assert await backend.resume("a", life=_NEW) == "done"
    assert await backend.terminate("a", TERMINATED, life=_NEW) == "done"


async def a_message_may_be_meant_for_one_life(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b", life=_NEW)
    messages = [
        Message("b", b"old", life=_OLD, failed=b"no old"),
        Message("b", b"none", life="", failed=b"no none"),
        Message("b", b"any", sent=b"any sent"),
        Message("b", b"this", life=_NEW, execution=1, sent=b"this sent"),
        Message("b", b"next", life=_NEW, execution=2),
    ]
    await stage.stored(step("a", 0, life=_NEW, messages=messages))
    inboxes = {one.id: [message.event for message in one.inbox] for one in await stage.take()}
    assert inboxes == {
        "a": [b"no old", b"no none", b"any sent", b"this sent"],
        "b": [b"any", b"this"],
    }


async def a_message_may_be_meant_for_instances_without_one(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    await stage.stored(step("a", 0, messages=[Message("b", b"x", life=""), Message("b", b"y")]))
    assert events(await stage.take()) == [b"x", b"y"]


async def a_parent_of_another_life_is_not_told(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("p", life=_NEW)
    await stage.create("c", parent=child("c", "p", parent_life=_OLD).parent, queue="other")
    await stage.create("d", parent=child("d", "p", parent_life=_NEW).parent, queue="other")
    assert await stage.backend.terminate("c", TERMINATED) == "done"
    assert await stage.take() == []
    assert await stage.backend.terminate("d", TERMINATED) == "done"
    assert child_failed(await stage.take()) == ("0:0", "Terminated")


async def what_another_life_has_started_is_not_terminated(stage: Stage) -> None:
    await stage.create("p", life=_NEW)
    await stage.create("old", parent=child("old", "p", parent_life=_OLD).parent)
    await stage.create("mine", parent=child("mine", "p", parent_life=_NEW).parent)
    await stage.create("old too", parent=child("old too", "mine", parent_life=_OLD).parent)
    assert await stage.backend.terminate("p", TERMINATED) == "done"
    statuses = [(await stage.record(id)).status for id in ("p", "mine", "old", "old too")]
    assert statuses == ["terminated", "terminated", "running", "running"]


async def _only_its_worker_is_told(stage: Stage) -> None:
    told = Heartbeat(alive=True, cancelled=[key("a", "0:0", life=_OLD)], events=[b""])
    assert stage.backend.heartbeat("w2") == told
    assert stage.backend.heartbeat("w1") == Heartbeat(alive=True)
    assert await stage.backend.activities("a") == []
    for worker in ("w1", "w2"):
        assert await stage.take_commands(worker) == []


async def who_runs_the_old_life_is_told(stage: Stage) -> None:
    await _left_running(stage)
    await _only_its_worker_is_told(stage)


async def who_runs_what_was_removed_is_told(stage: Stage) -> None:
    await _left_running(stage, removed=True)
    await _only_its_worker_is_told(stage)


async def _ended_with_an_activity(stage: Stage) -> None:
    await _run_by_w2(stage)
    await stage.stored(step("a", 1, life=_OLD, closing=DONE))


async def who_runs_what_has_ended_is_told_when_its_id_is_used(stage: Stage) -> None:
    await _ended_with_an_activity(stage)
    await stage.create("a", life=_NEW)
    await _only_its_worker_is_told(stage)


async def who_runs_what_has_ended_is_told_when_a_commit_uses_its_id(stage: Stage) -> None:
    await _ended_with_an_activity(stage)
    again = InstanceCommit(
        id="a", execution=1, number=0, new=new("a", life=_NEW), life=_NEW, leased=False
    )
    await stage.stored(again)
    await _only_its_worker_is_told(stage)


async def who_runs_what_has_ended_is_told_when_it_is_removed(stage: Stage) -> None:
    await _ended_with_an_activity(stage)
    assert await stage.backend.remove(ALL, limit=9) == 1
    await _only_its_worker_is_told(stage)


async def a_result_of_the_old_life_is_dropped(stage: Stage) -> None:
    await _left_running(stage)
    late = result("a", "0:0", b"late", life=_OLD)
    assert await stage.backend.commit("w2", [late]) == [None]
    assert stage.backend.heartbeat("w2") == Heartbeat(alive=True)
    assert await stage.take() == []
    assert (await stage.record("a")).unread == 0
    (stats,) = await stage.backend.stats()
    assert stats.running_activities == 0


async def a_retry_of_the_old_life_ends_it(stage: Stage) -> None:
    await _left_running(stage, removed=True)
    retry = ActivityRetry(key("a", "0:0", life=_OLD), 2, stage.backend.now())
    assert await stage.backend.commit("w2", [Unit(retries=[retry])]) == [None]
    assert stage.backend.heartbeat("w2") == Heartbeat(alive=True)
    assert await stage.take_commands("w2") == []
    assert await stage.take() == []
    (stats,) = await stage.backend.stats()
    assert (stats.pending_activities, stats.running_activities) == (0, 0)


async def _nothing_came_of_it(stage: Stage) -> None:
    assert await stage.take_commands() == []
    assert await stage.take() == []
    row = await stage.record("a")
    assert (row.worker, row.unread) == ("w1", 0)
    (stats,) = await stage.backend.stats()
    assert (stats.pending_activities, stats.running_activities) == (0, 0)


async def the_old_life_of_a_dead_worker_goes_without_a_word(stage: Stage) -> None:
    await _left_running(stage, removed=True)
    await stage.expire("w2", survivors=("w1",))
    await _nothing_came_of_it(stage)


async def the_old_life_of_a_worker_that_leaves_goes_without_a_word(stage: Stage) -> None:
    await _left_running(stage)
    await stage.backend.release_worker("w2")
    await _nothing_came_of_it(stage)


async def the_old_life_is_not_recalled(stage: Stage) -> None:
    await _left_running(stage, removed=True)
    await stage.backend.recall("w2", [key("a", "0:0", life=_NEW)])
    assert stage.backend.heartbeat("w2") == Heartbeat(alive=True)
    await _nothing_came_of_it(stage)


async def two_lives_have_activities_of_their_own(stage: Stage) -> None:
    backend = stage.backend
    await _left_running(stage, removed=True)
    activities = [*named("0:0", input=b"[2]", priority=1), *named("0:1", input=b"[3]")]
    await stage.stored(step("a", 0, life=_NEW, activities=activities))
    assert [task.key.life for task in await backend.activities("a")] == [_NEW, _NEW]
    tasks = (await backend.take_activities("w1", ("default",), 1)).activities
    assert [(task.key, task.input) for task in tasks] == [(key("a", "0:0", life=_NEW), b"[2]")]
    old = Heartbeat(alive=True, cancelled=[key("a", "0:0", life=_OLD)], events=[b""])
    assert backend.heartbeat("w2") == old
    assert backend.heartbeat("w1") == Heartbeat(alive=True)
    assert await backend.commit("w2", [result("a", "0:0", b"x", life=_NEW)]) == [None]
    assert await stage.take() == []
    asked = [CancelledActivity("0:0", b"cancelled"), CancelledActivity("0:1", b"at once")]
    await stage.stored(step("a", 1, life=_NEW, cancelled=asked))
    mine = Heartbeat(alive=True, cancelled=[key("a", "0:0", life=_NEW)], events=[b"cancelled"])
    assert (backend.heartbeat("w1"), backend.heartbeat("w2")) == (mine, old)
    (taken,) = await stage.take()
    assert events([taken]) == [b"at once"]
    await stage.stored(step("a", 2, life=_NEW, consumed=seqs(taken), finished=["0:0"]))
    assert await backend.activities("a") == []
    assert (backend.heartbeat("w1"), backend.heartbeat("w2")) == (Heartbeat(alive=True), old)


async def a_result_finds_its_own_life(stage: Stage) -> None:
    await _left_running(stage, removed=True)
    await stage.stored(step("a", 0, life=_NEW, activities=named("0:0")))
    assert await stage.take_commands("w2") == ["0:0"]
    units = [result("a", "0:0", b"old", life=_OLD), result("a", "0:0", b"new", life=_NEW)]
    assert await stage.backend.commit("w2", units) == [None, None]
    assert events(await stage.take()) == [b"new"]
    assert await stage.backend.activities("a") == []
    assert stage.backend.heartbeat("w2") == Heartbeat(alive=True)


async def a_result_beside_the_new_life_ends_the_old_one(stage: Stage) -> None:
    await _ended_with_an_activity(stage)
    again = InstanceCommit(
        id="a", execution=1, number=0, new=new("a", life=_NEW), life=_NEW, leased=False
    )
    unit = result("a", "0:0", b"late", life=_OLD)
    unit.instances = [again]
    assert await stage.backend.commit("w2", [unit]) == [None]
    assert stage.backend.heartbeat("w2") == Heartbeat(alive=True)
    (taken,) = await stage.take()
    assert (taken.life, taken.inbox) == (_NEW, [])
    assert [one.running_activities for one in await stage.backend.stats()] == [0]


async def a_new_life_runs_at_once(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a", life=_OLD)
    await stage.stored(step("a", 0, life=_OLD, activities=named("0:0", leased=True)))
    assert await stage.backend.terminate("a", TERMINATED) == "done"
    await stage.create("a", life=_NEW)
    (taken,) = await stage.take("w2", sticky=LEASE)
    assert (taken.id, taken.life, taken.turns, taken.inbox) == ("a", _NEW, 0, [])
    assert taken.ready_at is not None
    await stage.stored(step("a", 0, life=_NEW, execution=taken.execution), worker="w2")


async def a_removed_id_gets_no_messages_of_its_past(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b", life=_OLD)
    assert await stage.backend.terminate("b", TERMINATED) == "done"
    assert await stage.backend.remove(ALL, limit=9) == 1
    again = step("b", 0, new=new("b", life=_NEW), life=_NEW)
    message = Message("b", b"for the old one", execution=1, life=_OLD, failed=b"no")
    await stage.stored(step("a", 0, life=_OLD, messages=[message]), again)
    assert events(await stage.take()) == [b"no"]
    assert (await stage.record("b")).unread == 0


CASES: tuple[Case, ...] = (
    a_life_is_kept,
    a_life_outlives_an_execution,
    a_child_knows_the_life_of_its_parent,
    a_commit_needs_the_life,
    a_worker_of_the_old_life_writes_nothing,
    a_finished_id_gets_the_life_of_the_new_one,
    clients_may_mean_one_life,
    a_message_may_be_meant_for_one_life,
    a_message_may_be_meant_for_instances_without_one,
    a_parent_of_another_life_is_not_told,
    what_another_life_has_started_is_not_terminated,
    who_runs_the_old_life_is_told,
    who_runs_what_was_removed_is_told,
    who_runs_what_has_ended_is_told_when_its_id_is_used,
    who_runs_what_has_ended_is_told_when_a_commit_uses_its_id,
    who_runs_what_has_ended_is_told_when_it_is_removed,
    a_result_of_the_old_life_is_dropped,
    a_retry_of_the_old_life_ends_it,
    the_old_life_of_a_dead_worker_goes_without_a_word,
    the_old_life_of_a_worker_that_leaves_goes_without_a_word,
    the_old_life_is_not_recalled,
    two_lives_have_activities_of_their_own,
    a_result_finds_its_own_life,
    a_result_beside_the_new_life_ends_the_old_one,
    a_new_life_runs_at_once,
    a_removed_id_gets_no_messages_of_its_past,
)
