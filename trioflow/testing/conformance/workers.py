"""Conformance: heartbeats, expired leases and what becomes of a reclaimed worker."""

# ruff: noqa: D103 - assertions; a case is described by its name

from __future__ import annotations

import pytest

from trioflow.backends.commits import CancelledActivity, Unit
from trioflow.backends.records import Heartbeat, WorkerInfo
from trioflow.errors import LeaseLost
from trioflow.testing.conformance.stage import (
    DONE,
    LEASE,
    Case,
    Stage,
    events,
    key,
    named,
    new,
    step,
)


async def living_workers_are_not_reclaimed(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    for _ in range(3):
        await stage.pass_time(LEASE * 0.7)
        assert stage.backend.heartbeat("w1") == Heartbeat(alive=True)
        assert await stage.backend.commit("w2", []) == []
        assert await stage.backend.reclaim(LEASE) == []


async def expired_workers_are_reclaimed_once(stage: Stage) -> None:
    await stage.workers("w1", "w2", "w3")
    await stage.pass_time(LEASE * 1.1)
    stage.backend.heartbeat("w2")
    assert sorted(await stage.backend.reclaim(LEASE)) == ["w1", "w3"]
    assert await stage.backend.reclaim(LEASE) == []
    assert stage.backend.heartbeat("w1") == Heartbeat(alive=False)
    assert stage.backend.heartbeat("w1") == Heartbeat(alive=False)
    assert stage.backend.heartbeat("never") == Heartbeat(alive=False)


async def what_the_dead_held_is_free(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a", "b")
    await stage.stored(step("b", 0, wake_at=stage.backend.now() + 1000))
    await stage.stored(step("a", 0, activities=named("0:0", leased=True)))
    await stage.expire("w1", survivors=("w2",))
    found = [await stage.suspects("w2", sticky=1000.0) for _ in range(2)]
    assert sorted(found) == [[("a", 1)], [("b", 1)]]
    (task,) = (await stage.backend.take_activities("w2", ("default",), 9)).activities
    assert (task.key.command, task.attempt) == ("0:0", 2)


async def what_others_hold_stays_theirs(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("theirs", worker="w2")
    await stage.stored(step("theirs", 0, activities=named("0:0", leased=True)), worker="w2")
    await stage.expire("w1", survivors=("w2",))
    assert (await stage.record("theirs")).worker == "w2"
    assert (await stage.task("theirs", "0:0")).attempt == 1
    assert await stage.take_commands("w2") == []


async def reclaimed_workers_write_nothing(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.expire("w1", survivors=("w2",))
    units = [Unit(instances=[step("a", 0)]), Unit(instances=[step("n", 0, new=new("n"))])]
    for batch in (units, units[:1], []):
        with pytest.raises(LeaseLost):
            await stage.backend.commit("w1", batch)
    assert await stage.turns("a") == []
    assert await stage.backend.get("n") is None
    assert await stage.suspects("w2") == [("a", 1)]
    with pytest.raises(LeaseLost):
        await stage.backend.commit("w1", units)
    await stage.stored(step("a", 0), worker="w2")


async def reclaimed_workers_take_nothing(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0")))
    await stage.expire("w1", survivors=("w2",))
    assert await stage.take("w1") == []
    assert await stage.take_commands("w1") == []
    assert (await stage.record("a")).worker is None


async def the_name_of_a_reclaimed_worker_does_not_help(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.expire("w1", survivors=("w2",))
    await backend.register_worker("w1-again", "w1 of the suite")
    assert await backend.commit("w1-again", [Unit(instances=[step("a", 0)])]) != [None]
    with pytest.raises(LeaseLost):
        await stage.commit(step("a", 0))


async def a_cancelled_activity_of_the_dead_is_reported(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a", worker="w2")
    await stage.stored(step("a", 0, activities=named("0:0", "0:1")), worker="w2")
    assert await stage.take_commands("w1", 2) == ["0:0", "0:1"]
    cancelled = [CancelledActivity("0:1", b"cancelled")]
    await stage.stored(step("a", 1, cancelled=cancelled), worker="w2")
    await stage.expire("w1", survivors=("w2",))
    assert await stage.take_commands("w2") == ["0:0"]
    assert events(await stage.take("w2")) == [b"cancelled"]


async def what_is_given_back_is_free_without_blame(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a", "kept")
    await stage.hold("theirs", worker="w2")
    await stage.stored(step("a", 0, activities=named("0:0", leased=True)))
    released = await stage.backend.release_instances("w1", ["a", "theirs", "nobody"])
    assert released == ["a"]
    assert await stage.take_ids("w2", sticky=1000.0) == ["a"]
    (task,) = (await stage.backend.take_activities("w2", ("default",), 9)).activities
    assert (task.key.command, task.attempt) == ("0:0", 1)
    await stage.stored(step("theirs", 0), worker="w2")
    await stage.stored(step("kept", 0))


async def what_is_recalled_comes_again(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a", "b")
    await stage.hold("theirs", worker="w2")
    await stage.stored(step("a", 0, activities=named("0:0", "0:1", leased=True)))
    await stage.stored(step("theirs", 0, activities=named("0:0", leased=True)), worker="w2")
    assert await stage.backend.send("b", b"once") == "done"
    assert events(await stage.take("w1")) == [b"once"]
    assert await stage.take_ids("w1") == []
    await stage.backend.recall("w1", [key("a", "0:1")])
    assert await stage.take_ids("w2") == []
    again = await stage.take("w1")
    assert sorted(taken.id for taken in again) == ["a", "b"]
    assert [message.event for taken in again for message in taken.inbox] == [b"once"]
    (task,) = (await stage.backend.take_activities("w2", ("default",), 9)).activities
    assert (task.key, task.attempt) == (key("a", "0:0"), 1)


async def only_what_runs_is_running(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("runs", "ended", "stopped")
    await stage.stored(step("ended", 0, closing=DONE, leased=False))
    await stage.stored(step("stopped", 0, suspended=b"{}", leased=False))
    asked = ["runs", "ended", "stopped", "nobody"]
    assert sorted(await stage.backend.not_running(asked)) == ["ended", "stopped"]
    assert await stage.backend.not_running([], lives=[]) == []


async def what_is_gone_or_replaced_is_not_running_for_those_who_know_its_life(
    stage: Stage,
) -> None:
    await stage.workers("w1")
    await stage.hold("runs", "ended", "stopped")
    await stage.stored(step("ended", 0, closing=DONE, leased=False))
    await stage.stored(step("stopped", 0, suspended=b"{}", leased=False))
    asked = ["runs", "ended", "stopped", "nobody"]
    rows = [await stage.backend.get(id) for id in asked]
    lives = ["" if row is None else row.life for row in rows]
    found = await stage.backend.not_running(asked, lives=lives)
    assert sorted(found) == ["ended", "nobody", "stopped"]
    found = await stage.backend.not_running(["runs", "runs"], lives=[lives[0], "another"])
    assert found == ["runs"]
    assert await stage.backend.not_running(["runs", "runs"], lives=["x", "y"]) == ["runs", "runs"]


async def leaving_gives_back_without_blame(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", leased=True)))
    await backend.release_worker("w1")
    await backend.release_worker("w1")
    assert backend.heartbeat("w1") == Heartbeat(alive=False)
    assert await stage.take_ids("w2", sticky=1000.0) == ["a"]
    (task,) = (await backend.take_activities("w2", ("default",), 9)).activities
    assert task.attempt == 1
    with pytest.raises(LeaseLost):
        await stage.commit(step("a", 1))


async def workers_are_told_with_what_they_hold(stage: Stage) -> None:
    backend = stage.backend
    begun_at = backend.now()
    queues = {"queues": ["x", "default", "x"], "activity_queues": ["acts"]}
    await backend.register_worker("w1", "second", **queues, lease=1000.0, version="1.2")
    await backend.register_worker("w2", "first")
    await stage.hold("a", "b", "c", "d")
    await stage.create("free")
    tasks = named("0:0", "0:1", leased=True) + named("0:2", queue="acts")
    await stage.stored(step("a", 0, activities=tasks))
    await stage.stored(step("b", 0, closing=DONE, leased=False))
    await stage.stored(step("c", 0, suspended=b"{}", leased=False))
    first, second = await backend.workers()
    assert (first.id, first.name, first.queues, first.activity_queues) == ("w2", "first", [], [])
    assert (first.lease, first.alive, first.version) == (None, True, "")
    assert (first.instances, first.activities) == (0, 0)
    assert second == WorkerInfo(
        id="w1",
        name="second",
        queues=["default", "x"],
        activity_queues=["acts"],
        lease=1000.0,
        heartbeat_at=second.heartbeat_at,
        alive=True,
        instances=2,
        activities=2,
        started_at=second.started_at,
        version="1.2",
    )
    assert second.started_at is not None
    assert begun_at - 1 <= second.started_at <= second.heartbeat_at <= backend.now() + 1


async def a_worker_lives_by_its_own_lease(stage: Stage) -> None:
    backend = stage.backend
    await backend.register_worker("w1", "short", lease=LEASE)
    await backend.register_worker("w2", "long", lease=1000.0)
    await backend.register_worker("w3", "without")
    (long, short, without) = await backend.workers()
    await stage.pass_time(LEASE * 1.1)
    alive = {one.name: one.alive for one in await backend.workers()}
    assert alive == {"long": True, "short": False, "without": True}
    assert backend.heartbeat("w1").alive
    (_, again, _) = await backend.workers()
    assert again.alive
    assert again.heartbeat_at > short.heartbeat_at
    assert again.started_at == short.started_at
    assert (long.alive, without.alive) == (True, True)


async def who_leaves_or_is_reclaimed_is_no_worker_any_more(stage: Stage) -> None:
    await stage.workers("w1", "w2", "w3")
    await stage.backend.release_worker("w1")
    assert [one.id for one in await stage.backend.workers()] == ["w2", "w3"]
    await stage.expire("w2", survivors=("w3",))
    assert [one.id for one in await stage.backend.workers()] == ["w3"]


CASES: tuple[Case, ...] = (
    living_workers_are_not_reclaimed,
    expired_workers_are_reclaimed_once,
    what_the_dead_held_is_free,
    what_others_hold_stays_theirs,
    reclaimed_workers_write_nothing,
    reclaimed_workers_take_nothing,
    the_name_of_a_reclaimed_worker_does_not_help,
    a_cancelled_activity_of_the_dead_is_reported,
    what_is_given_back_is_free_without_blame,
    what_is_recalled_comes_again,
    only_what_runs_is_running,
    what_is_gone_or_replaced_is_not_running_for_those_who_know_its_life,
    leaving_gives_back_without_blame,
    workers_are_told_with_what_they_hold,
    a_worker_lives_by_its_own_lease,
    who_leaves_or_is_reclaimed_is_no_worker_any_more,
)
