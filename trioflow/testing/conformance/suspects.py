"""Conformance: what a worker held when it died is taken in isolation, until it has gone on."""

# ruff: noqa: D103 - assertions; a case is described by its name

from __future__ import annotations

from typing import Any

import pytest

from trioflow.backends.commits import InstanceCommit, Message
from trioflow.backends.filters import InstanceFilter
from trioflow.errors import LeaseLost
from trioflow.testing.conformance.stage import (
    CANCELLED,
    DONE,
    LEASE,
    TERMINATED,
    Case,
    Stage,
    events,
    named,
    new,
    seqs,
    step,
)


async def _suspects(stage: Stage, *ids: str, **fields: Any) -> None:
    """Create instances that became suspects with w1; w2 and w9 live."""
    await stage.workers("w1", "w2", "w9")
    await stage.hold(*ids, **fields)
    await stage.expire("w1", survivors=("w2", "w9"))


def _nothing(id: str, number: int = 0, **fields: Any) -> InstanceCommit:
    """Return a commit without a turn that gives an instance back."""
    return step(id, number, turns=[], **{"leased": False, "due": True, **fields})


async def what_the_dead_held_is_suspect(stage: Stage) -> None:
    await _suspects(stage, "a", "b")
    await stage.create("free")
    taken = await stage.backend.take_instances("w9", ("default",), 9)
    assert [(one.id, one.deaths) for one in taken.instances] == [("free", 0)]
    assert (taken.next_at, taken.suspects) == (None, True)
    for _ in range(2):
        (one,) = await stage.take("w9", 9, suspect=True)
        assert (one.deaths, one.inbox, one.turns) == (1, [], 0)
        assert (await stage.record(one.id)).worker == "w9"
    taken = await stage.backend.take_instances("w9", ("default",), 9, suspect=True)
    assert (taken.instances, taken.suspects) == ([], False)


async def who_dies_with_one_in_isolation_blames_that(stage: Stage) -> None:
    """What its activities did is not held against them."""
    await _suspects(stage, "a", "b")
    await stage.create("busy", queue="mine")
    (busy,) = await stage.take("w2", queues=("mine",))
    step_of = step(busy.id, 0, activities=named("0:0", leased=True))
    await stage.stored(step_of, worker="w2")
    await stage.take("w2", 9, suspect=True)
    await stage.expire("w2", survivors=("w9",))
    assert (await stage.task("busy", "0:0")).attempt == 1
    (task,) = (await stage.backend.take_activities("w9", ("default",), 9)).activities
    assert task.attempt == 1
    await stage.expire("w9", survivors=())
    assert (await stage.task("busy", "0:0")).attempt > 1


async def who_leaves_as_if_dead_leaves_suspects(stage: Stage) -> None:
    await stage.workers("w1", "w9")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", leased=True)))
    await stage.backend.release_worker("w1", died=True)
    assert await stage.suspects() == [("a", 1)]
    assert (await stage.task("a", "0:0")).attempt == 2  # noqa: PLR2004 - the second


async def only_what_was_held_is_suspect(stage: Stage) -> None:
    await stage.workers("w1", "w9")
    await stage.hold("parked", "ended", "asleep")
    await stage.stored(step("parked", 0, leased=False))
    await stage.stored(step("ended", 0, closing=DONE))
    await stage.stored(step("asleep", 0, suspended=b"{}"))
    await stage.expire("w1")
    assert await stage.backend.resume("asleep") == "done"
    assert await stage.backend.send("parked", b"x") == "done"
    taken = await stage.backend.take_instances("w9", ("default",), 9)
    assert sorted((one.id, one.deaths) for one in taken.instances) == [("asleep", 0), ("parked", 0)]
    assert not taken.suspects


async def leaving_makes_no_suspects(stage: Stage) -> None:
    await stage.workers("w1", "w9")
    await stage.hold("a")
    await stage.backend.release_worker("w1")
    taken = await stage.backend.take_instances("w9", ("default",), 9)
    assert [(one.id, one.deaths) for one in taken.instances] == [("a", 0)]
    assert not taken.suspects


async def only_suspects_are_given_to_who_asks_for_one(stage: Stage) -> None:
    await _suspects(stage, "a")
    await stage.hold("mine", worker="w9")
    await stage.backend.send("mine", b"x")
    await stage.create("free")
    assert await stage.suspects(limit=9) == [("a", 1)]
    assert await stage.suspects(limit=9) == []
    assert sorted(await stage.take_ids("w9")) == ["free", "mine"]


async def suspects_are_taken_by_queue_and_name(stage: Stage) -> None:
    await _suspects(stage, "a", workflow="unknown")
    backend = stage.backend
    for queues, exclude in ((("other",), ()), (("default", "other"), ("unknown",))):
        assert await stage.suspects(queues=queues, exclude=exclude) == []
        taken = await backend.take_instances("w9", queues, 9, exclude=exclude)
        assert (taken.instances, taken.next_at, taken.suspects) == ([], None, False)
    assert await stage.suspects(queues=("default", "other"), exclude_ids=("a",)) == []
    taken = await backend.take_instances("w9", ("default", "other"), 9, exclude_ids=("a",))
    assert (taken.instances, taken.suspects) == ([], False)
    taken = await backend.take_instances("w9", ("other", "default"), 9, exclude=("x",))
    assert (taken.instances, taken.suspects) == ([], True)
    assert await stage.suspects(queues=("other", "default"), exclude=("x",)) == [("a", 1)]


async def suspects_come_by_priority_and_time(stage: Stage) -> None:
    await stage.workers("w1", "w2", "w9")
    await stage.create("a", "b")
    await stage.create("high", priority=5)
    assert sorted(await stage.take_ids("w1")) == ["a", "b", "high"]
    await stage.expire("w1", survivors=("w2", "w9"))
    assert await stage.suspects("w2") == [("high", 1)]
    ((first, _),) = await stage.suspects("w2")
    ((second, _),) = await stage.suspects("w2")
    assert {first, second} == {"a", "b"}
    for id in ("high", second, first):
        await stage.pass_time(0.01)
        assert await stage.backend.release_instances("w2", [id]) == [id]
    assert [await stage.suspects() for _ in range(3)] == [
        [("high", 1)],
        [(second, 1)],
        [(first, 1)],
    ]


async def a_suspect_has_its_inbox_and_its_time(stage: Stage) -> None:
    await _suspects(stage, "a")
    await stage.backend.send("a", b"1")
    await stage.backend.send("a", b"2")
    assert await stage.take("w9") == []
    (taken,) = await stage.take("w9", suspect=True)
    assert (events([taken]), taken.deaths) == ([b"1", b"2"], 1)
    await stage.stored(step("a", 0, consumed=seqs(taken)), worker="w9")


async def a_turn_makes_a_suspect_ordinary(stage: Stage) -> None:
    await _suspects(stage, "given", "kept", "goes on")
    for _ in range(3):
        assert len(await stage.suspects()) == 1
    await stage.stored(step("given", 0, leased=False, due=True), worker="w9")
    await stage.stored(step("kept", 0, due=True), worker="w9")
    await stage.stored(step("goes on", 0, continued=b"[]", leased=False), worker="w9")
    taken = await stage.backend.take_instances("w9", ("default",), 9)
    ids = sorted((one.id, one.deaths) for one in taken.instances)
    assert ids == [("given", 0), ("goes on", 0), ("kept", 0)]
    assert not taken.suspects


async def what_was_ordinary_again_is_counted_anew(stage: Stage) -> None:
    await _suspects(stage, "a")
    assert await stage.suspects("w2") == [("a", 1)]
    await stage.stored(step("a", 0), worker="w2")
    await stage.expire("w2")
    assert await stage.suspects() == [("a", 1)]


async def deaths_in_isolation_are_counted(stage: Stage) -> None:
    await _suspects(stage, "a")
    assert await stage.suspects("w2") == [("a", 1)]
    await stage.expire("w2")
    await stage.workers("w3")
    assert await stage.suspects("w3") == [("a", 2)]
    await stage.expire("w3")
    assert await stage.suspects() == [("a", 3)]


async def what_is_given_back_without_a_turn_stays_suspect(stage: Stage) -> None:
    await _suspects(stage, "a")
    backend = stage.backend
    assert await stage.suspects("w2") == [("a", 1)]
    assert await backend.release_instances("w2", ["a"]) == ["a"]
    assert await stage.take("w9") == []
    assert await stage.suspects("w2") == [("a", 1)]
    await stage.stored(_nothing("a"), worker="w2")
    assert await stage.take("w2") == []
    assert await stage.suspects("w2") == [("a", 1)]
    await backend.release_worker("w2")
    assert await stage.take("w9") == []
    assert await stage.suspects("w9") == [("a", 1)]


async def what_is_kept_without_a_turn_may_still_have_killed(stage: Stage) -> None:
    await _suspects(stage, "a")
    assert await stage.suspects("w2") == [("a", 1)]
    await stage.stored(_nothing("a", leased=True), worker="w2")
    (taken,) = await stage.take("w2")
    assert taken.deaths == 1
    await stage.expire("w2")
    assert await stage.suspects() == [("a", 2)]


async def a_held_suspect_is_given_again_like_any_other(stage: Stage) -> None:
    await _suspects(stage, "a")
    backend = stage.backend
    assert await stage.suspects() == [("a", 1)]
    for limit in (9, 0):
        await backend.send("a", b"%d" % limit)
        assert await stage.suspects() == []
        (taken,) = await stage.take("w9", limit)
        assert (taken.id, taken.deaths) == ("a", 1)
    await backend.recall("w9", [])
    (taken,) = await stage.take("w9")
    assert (taken.deaths, events([taken])) == (1, [b"9", b"0"])
    assert not (await backend.take_instances("w9", ("default",), 9)).suspects


async def a_suspect_may_wait_for_its_time(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1", "w9")
    await stage.hold("a")
    await stage.stored(step("a", 0))
    await stage.expire("w1")
    assert await stage.suspects() == [("a", 1)]
    due = backend.now() + LEASE
    await stage.stored(_nothing("a", 1, due=False, wake_at=due), worker="w9")
    taken = await backend.take_instances("w9", ("default",), 9)
    assert (taken.instances, taken.next_at, taken.suspects) == ([], due, False)
    assert await stage.suspects() == []
    await stage.pass_time(LEASE * 1.1)
    taken = await backend.take_instances("w9", ("default",), 9)
    assert (taken.instances, taken.next_at, taken.suspects) == ([], None, True)
    (one,) = await stage.take("w9", suspect=True)
    assert (one.deaths, one.ready_at, one.wake_at) == (1, due, due)


async def a_suspension_keeps_a_suspect_and_forgets_its_deaths(stage: Stage) -> None:
    await _suspects(stage, "a")
    assert await stage.suspects("w2") == [("a", 1)]
    await stage.expire("w2")
    assert await stage.suspects() == [("a", 2)]
    await stage.stored(_nothing("a", suspended=b"{}", due=False), worker="w9")
    taken = await stage.backend.take_instances("w9", ("default",), 9)
    assert (taken.instances, taken.next_at, taken.suspects) == ([], None, False)
    assert await stage.suspects() == []
    assert await stage.backend.resume("a") == "done"
    taken = await stage.backend.take_instances("w9", ("default",), 9)
    assert (taken.instances, taken.suspects) == ([], True)
    assert await stage.suspects() == [("a", 1)]


async def suspects_are_counted_as_pending(stage: Stage) -> None:
    await _suspects(stage, "a", "b")
    (stats,) = await stage.backend.stats()
    assert (stats.running, stats.pending_instances) == (2, 2)
    assert len(await stage.suspects()) == 1
    (stats,) = await stage.backend.stats()
    assert (stats.running, stats.pending_instances) == (2, 1)


async def a_suspect_can_be_ended(stage: Stage) -> None:
    await _suspects(stage, "a", "b", "c")
    backend = stage.backend
    await stage.hold("sender", worker="w9")
    assert await backend.terminate("a", TERMINATED) == "done"
    assert await backend.cancel("b", b"cancel", CANCELLED) == "done"
    await stage.stored(
        step("sender", 0, messages=[Message("c", b"cancel", unstarted=CANCELLED)]), worker="w9"
    )
    statuses = [(await stage.record(id)).status for id in "abc"]
    assert statuses == ["terminated", "cancelled", "cancelled"]
    taken = await backend.take_instances("w9", ("default",), 9)
    assert (taken.instances, taken.next_at, taken.suspects) == ([], None, False)


async def a_used_id_is_not_suspect(stage: Stage) -> None:
    await _suspects(stage, "a", "b", "c")
    backend = stage.backend
    for id in "abc":
        assert await backend.terminate(id, TERMINATED) == "done"
    assert await backend.remove(InstanceFilter(id_prefix="a"), limit=9) == 1
    assert await backend.create([new("a"), new("b")]) == [True, True]
    again = InstanceCommit(id="c", execution=1, number=0, new=new("c"), leased=False)
    await stage.stored(again, worker="w2")
    taken = await backend.take_instances("w9", ("default",), 9)
    assert sorted((one.id, one.deaths) for one in taken.instances) == [
        ("a", 0),
        ("b", 0),
        ("c", 0),
    ]
    assert not taken.suspects


async def reclaimed_workers_get_no_suspects(stage: Stage) -> None:
    await _suspects(stage, "a")
    backend = stage.backend
    assert await stage.suspects("w2") == [("a", 1)]
    await backend.send("a", b"x")
    await stage.expire("w2")
    for limit, suspect in ((9, True), (9, False), (0, False)):
        assert await stage.take("w2", limit, suspect=suspect) == []
        assert await stage.take("never", limit, suspect=suspect) == []
    assert await backend.release_instances("w2", ["a"]) == []
    await backend.recall("w2", [])
    with pytest.raises(LeaseLost):
        await stage.commit(step("a", 0), worker="w2")
    assert (await stage.record("a")).worker is None
    assert await stage.suspects() == [("a", 2)]
    await backend.send("a", b"y")
    for limit, suspect in ((9, True), (9, False), (0, False)):
        assert await stage.take("w2", limit, suspect=suspect) == []
    assert (await stage.record("a")).worker == "w9"


async def what_belongs_to_no_row_is_freed(stage: Stage) -> None:
    if stage.forget_worker is None:
        return
    await stage.workers("w1", "w9")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", leased=True)))
    await stage.forget_worker("w1")
    assert await stage.take("w1", 0) == []
    await stage.backend.reclaim(LEASE)
    assert (await stage.record("a")).worker is None
    (task,) = (await stage.backend.take_activities("w9", ("default",), 9)).activities
    assert (task.key.command, task.attempt) == ("0:0", 2)
    assert await stage.suspects() == [("a", 1)]
    await stage.stored(step("a", 1), worker="w9")


CASES: tuple[Case, ...] = (
    what_the_dead_held_is_suspect,
    who_dies_with_one_in_isolation_blames_that,
    who_leaves_as_if_dead_leaves_suspects,
    only_what_was_held_is_suspect,
    leaving_makes_no_suspects,
    only_suspects_are_given_to_who_asks_for_one,
    suspects_are_taken_by_queue_and_name,
    suspects_come_by_priority_and_time,
    a_suspect_has_its_inbox_and_its_time,
    a_turn_makes_a_suspect_ordinary,
    what_was_ordinary_again_is_counted_anew,
    deaths_in_isolation_are_counted,
    what_is_given_back_without_a_turn_stays_suspect,
    what_is_kept_without_a_turn_may_still_have_killed,
    a_held_suspect_is_given_again_like_any_other,
    a_suspect_may_wait_for_its_time,
    a_suspension_keeps_a_suspect_and_forgets_its_deaths,
    suspects_are_counted_as_pending,
    a_suspect_can_be_ended,
    a_used_id_is_not_suspect,
    reclaimed_workers_get_no_suspects,
    what_belongs_to_no_row_is_freed,
)
