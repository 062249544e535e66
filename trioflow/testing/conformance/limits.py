"""Conformance: limits across workers, of activities and of instances."""

# ruff: noqa: D103, PLR2004 - assertions; a case is described by its name

from __future__ import annotations

from typing import Any

from trioflow._model.limits import Limit
from trioflow.backends.commits import (
    ActivityRetry,
    CancelledActivity,
    CommitFailure,
    KeptSlot,
    NewActivity,
    Unit,
)
from trioflow.testing.conformance.stage import (
    Case,
    Stage,
    named,
    result,
    step,
)


async def _limit(stage: Stage, **fields: Any) -> None:
    values: dict[str, Any] = {"kind": "queue", "name": "default"}
    await stage.backend.set_limit(Limit(**{**values, **fields}))


async def _store(stage: Stage, *commands: str, **fields: Any) -> None:
    """Store activities of a new instance, which `w1` holds."""
    owner = f"of {commands[0]}"
    await stage.hold(owner)
    await stage.stored(step(owner, 0, activities=named(*commands, **fields)))


async def limits_are_listed_and_replaced(stage: Stage) -> None:
    backend = stage.backend
    assert (await backend.limits()).version == ""
    assert await backend.remove_limit("queue", "q") is False
    await _limit(stage, kind="workflow", name="flow", concurrency=1)
    first = await backend.limits()
    await _limit(stage, name="q", rate=3, per=0.5, key="tenant", key_concurrency=2)
    await _limit(stage, name="q", concurrency=7)
    second = await backend.limits()
    assert len({"", first.version, second.version}) == 3
    assert list(second.limits.values()) == [
        Limit(kind="queue", name="q", concurrency=7),
        Limit(kind="workflow", name="flow", concurrency=1),
    ]
    assert await backend.remove_limit("queue", "q") is True
    assert list((await backend.limits()).limits) == [("workflow", "flow")]


async def no_more_of_a_queue_are_leased_than_its_limit(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await _store(stage, "0:0", "0:1", "0:2", "0:3")
    await _limit(stage, concurrency=2)
    first = await stage.backend.take_activities("w1", ("default",), 1)
    assert not first.limited
    taken = await stage.backend.take_activities("w2", ("default",), 10)
    assert [len(first.activities), len(taken.activities)] == [1, 1]
    assert taken.limited
    assert taken.next_at is None
    assert taken.limits == (await stage.backend.limits()).version
    assert await stage.take_commands("w1") == []
    (task,) = taken.activities
    unit = result(task.key.instance, task.key.command, b"end")
    assert await stage.backend.commit("w2", [unit]) == [None]
    assert len(await stage.take_commands("w1")) == 1
    (task,) = first.activities
    later = stage.backend.now() + 60
    retry = Unit(retries=[ActivityRetry(task.key, 2, later)])
    assert await stage.backend.commit("w1", [retry]) == [None]
    assert len(await stage.take_commands("w2")) == 1
    assert await stage.take_commands("w1") == []


async def other_queues_are_not_limited(stage: Stage) -> None:
    await stage.workers("w1")
    await _store(stage, "0:0", "0:1")
    await _store(stage, "1:0", "1:1", queue="other")
    await _limit(stage, concurrency=1)
    taken = await stage.take_commands(queues=("default", "other"))
    assert sorted(taken)[1:] == ["1:0", "1:1"]
    assert len(taken) == 3


async def a_limit_of_an_activity_holds_in_all_queues(stage: Stage) -> None:
    await stage.workers("w1")
    await _store(stage, "0:0", "0:1")
    await _store(stage, "1:0", queue="other")
    await stage.hold("b")
    others = [named("2:0")[0], named("2:1", queue="other")[0]]
    others = [type(one)(one.command, "bake", one.queue, one.input, b"", False) for one in others]  # noqa: FBT003 - not leased
    await stage.stored(step("b", 0, activities=others))
    await _limit(stage, kind="activity", name="act", concurrency=1)
    taken = await stage.backend.take_activities("w1", ("default", "other"), 10)
    assert sorted(task.activity for task in taken.activities) == ["act", "bake", "bake"]
    assert taken.limited


async def what_is_leased_already_counts(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await _store(stage, "0:0", "0:1", "0:2")
    assert len(await stage.take_commands("w1", 2)) == 2
    await _limit(stage, concurrency=2)
    assert await stage.take_commands("w2") == []
    await _limit(stage, concurrency=3)
    assert len(await stage.take_commands("w2")) == 1


async def what_a_dead_worker_held_comes_back(stage: Stage) -> None:
    await stage.workers("w1", "w2", "w9")
    await _store(stage, "0:0", "0:1", "0:2")
    await _limit(stage, concurrency=2)
    assert len(await stage.take_commands("w2")) == 2
    assert await stage.take_commands("w9") == []
    await stage.expire("w2", survivors=("w1", "w9"))
    assert len(await stage.take_commands("w9")) == 2
    await stage.backend.release_worker("w9")
    assert len(await stage.take_commands("w1")) == 2


async def a_cancelled_or_removed_activity_gives_its_place_back(stage: Stage) -> None:
    await stage.workers("w1")
    await _store(stage, "0:0", "0:1", "0:2")
    await _limit(stage, concurrency=1)
    (first,) = await stage.take_commands()
    marks = [CancelledActivity(first, b"cancelled")]
    await stage.stored(step("of 0:0", 1, cancelled=marks))
    assert await stage.take_commands() == []  # its worker still runs it
    assert await stage.backend.commit("w1", [result("of 0:0", first, b"end")]) == [None]
    assert len(await stage.take_commands()) == 1


async def nothing_that_is_limited_is_born_leased(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    await _limit(stage, concurrency=5)
    leased = step("a", 0, activities=named("0:0", leased=True))
    free = step("b", 0, activities=named("0:0"))
    found = await stage.backend.commit("w1", [Unit(instances=[leased]), Unit(instances=[free])])
    assert found == [CommitFailure(limited=["a"]), None]
    assert await stage.turns("a") == []
    await stage.stored(step("a", 0, activities=named("0:0")))
    await stage.workers("w2")  # which has never seen the limits
    await stage.hold("c", worker="w2")
    leased = step("c", 0, activities=named("0:0", leased=True))
    assert await stage.commit(leased, worker="w2") == CommitFailure(limited=["c"])
    assert await stage.backend.remove_limit("queue", "default")
    await stage.stored(leased, worker="w2")


async def a_rate_holds_within_any_time_of_its_length(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await _store(stage, *(f"0:{number}" for number in range(8)))
    await _limit(stage, rate=3, per=0.5)
    began = stage.backend.now()
    assert len(await stage.take_commands("w1", 2)) == 2
    await stage.pass_time(0.3)
    taken = await stage.backend.take_activities("w2", ("default",), 10)
    if stage.backend.now() < began + 0.5:  # a server's clock cannot be stopped
        assert len(taken.activities) == 1
        assert not taken.limited
        assert taken.next_at is not None
        assert began + 0.5 <= taken.next_at <= stage.backend.now() + 0.5
    await stage.pass_time(0.25)
    taken = await stage.backend.take_activities("w2", ("default",), 10)
    assert len(taken.activities) <= 2
    await stage.pass_time(0.55)
    assert len(await stage.take_commands("w1")) == 3


async def a_rate_counts_what_has_ended(stage: Stage) -> None:
    await stage.workers("w1")
    await _store(stage, "0:0", "0:1", "0:2")
    await _limit(stage, rate=2, per=60.0)
    taken = await stage.backend.take_activities("w1", ("default",), 10)
    units = [result(task.key.instance, task.key.command, b"end") for task in taken.activities]
    assert await stage.backend.commit("w1", units) == [None, None]
    assert await stage.take_commands() == []
    await _limit(stage, rate=3, per=60.0)  # another limit of the same time still counts them
    assert len(await stage.take_commands()) == 1


async def a_full_activity_hides_nothing(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    names = [f"0:{number:03}" for number in range(600)]
    urgent = named("1:0", priority=1)
    free = [
        NewActivity(command, "other", "default", b"[]", leased=False) for command in ("1:1", "1:2")
    ]
    await stage.stored(step("a", 0, activities=[*named(*names), *free, *urgent]))
    await _limit(stage, kind="activity", name="act", concurrency=2)
    first, *others = await _commands(stage)
    assert (first, sorted(others)) == ("1:0", ["0:000", "1:1", "1:2"])
    (stats,) = await stage.backend.stats()
    assert (stats.pending_activities, stats.running_activities) == (599, 4)
    assert (await stage.task("a", "0:000")).limit_key == ""
    assert (await stage.task("a", "0:003")).limit_key == ""
    ended = result("a", "0:000", b"done")
    assert await stage.backend.commit("w1", [ended]) == [None]
    assert await _commands(stage) == ["0:001"]
    await stage.expire("w1", survivors=("w2",))
    first, *others = await _commands(stage, "w2")
    assert (first, sorted(others)) == ("1:0", ["0:002", "1:1", "1:2"])
    again = await stage.backend.take_activities("w2", ("default",), 1, exclude=("act",))
    assert (again.activities, again.limited) == ([], False)
    assert await stage.backend.remove_limit("activity", "act")
    left = await _commands(stage, "w2")
    assert len(left) == 598
    assert "0:001" in left


async def _commands(stage: Stage, worker: str = "w1") -> list[str]:
    """Return the commands of all activities that can be taken now."""
    commands: list[str] = []
    while True:
        taken = await stage.backend.take_activities(worker, ("default",), 100)
        commands += [task.key.command for task in taken.activities]
        if taken.next_at is None:
            return commands


async def the_keys_of_a_queue_take_turns(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await _limit(stage, concurrency=100, key="tenant")
    await _store(stage, *(f"0:{number}" for number in range(5)), limit_key="aa")
    await _store(stage, "1:0", "1:1", limit_key="bb")
    await _store(stage, "2:0", limit_key="cc")
    given: list[list[str]] = []
    for worker in ("w1", "w2", "w1", "w2", "w1"):
        taken = await stage.backend.take_activities(worker, ("default",), 2)
        given.append([task.limit_key for task in taken.activities])
    assert given == [["aa", "bb"], ["cc", "aa"], ["bb", "aa"], ["aa", "aa"], []]


async def within_a_key_the_highest_priority_goes_first(stage: Stage) -> None:
    await stage.workers("w1")
    await _limit(stage, concurrency=100, key="tenant")
    await _store(stage, "0:0", limit_key="aa", priority=-1)
    await _store(stage, "1:0", limit_key="aa", priority=5)
    await _store(stage, "2:0", limit_key="aa")
    assert await stage.take_commands(limit=2) == ["1:0", "2:0"]
    assert await stage.take_commands(limit=2) == ["0:0"]


async def no_more_of_a_key_are_leased_than_its_limit(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await _limit(stage, key="tenant", key_concurrency=2)
    await _store(stage, *(f"0:{number}" for number in range(4)), limit_key="aa")
    await _store(stage, "1:0", limit_key="bb")
    taken = await stage.backend.take_activities("w1", ("default",), 10)
    assert sorted(task.limit_key for task in taken.activities) == ["aa", "aa", "bb"]
    assert taken.limited
    assert await stage.take_commands("w2") == []
    (first, *_) = [task for task in taken.activities if task.limit_key == "aa"]
    assert await stage.backend.commit("w1", [result(first.key.instance, first.key.command, b"e")])
    assert len(await stage.take_commands("w2")) == 1


async def an_activitys_own_keys_take_turns(stage: Stage) -> None:
    await stage.workers("w1")
    await _limit(stage, kind="activity", name="act", concurrency=3, key="tenant", key_concurrency=1)
    await _store(stage, "0:0", "0:1", limit_key="aa")
    await _store(stage, "1:0", limit_key="bb", queue="other")
    taken = await stage.backend.take_activities("w1", ("default", "other"), 10)
    assert sorted(task.limit_key for task in taken.activities) == ["aa", "bb"]
    assert taken.limited


async def an_activity_has_a_key_if_and_only_if_its_limit_has(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    keyed, plain = named("0:0", limit_key="aa"), named("0:0")
    assert await stage.commit(step("a", 0, activities=keyed)) == CommitFailure(limited=["a"])
    await _limit(stage, concurrency=5, key="tenant")
    assert await stage.commit(step("b", 0, activities=plain)) == CommitFailure(limited=["b"])
    await stage.stored(step("a", 0, activities=keyed))


async def keys_are_forgotten_with_their_limit(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await _limit(stage, concurrency=5, key="tenant")
    await _store(stage, "0:0", "0:1", "0:2", limit_key="aa")
    assert len(await stage.take_commands("w1", 1)) == 1
    assert await stage.backend.remove_limit("queue", "default")
    assert len(await stage.take_commands("w2", 1)) == 1
    await stage.backend.release_worker("w2")
    assert len(await stage.take_commands("w1")) == 2


async def an_activitys_own_keys_outlive_a_limit_of_its_queue(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await _limit(stage, kind="activity", name="act", key="tenant", key_concurrency=1)
    await _limit(stage, concurrency=100)
    await _store(stage, "0:0", "0:1", "0:2", limit_key="aa")
    assert len(await stage.take_commands("w1", 10)) == 1
    await _limit(stage, concurrency=90)
    await _limit(stage, concurrency=100, key="tenant")
    await stage.hold("b")
    bake = NewActivity("1:0", "bake", "default", b"in", b"", leased=False, limit_key="bb")
    await stage.stored(step("b", 0, activities=[bake]))
    await _limit(stage, concurrency=90)  # which has no key again: that of `bake` means nothing now
    assert await stage.take_commands("w2") == ["1:0"]
    await _limit(stage, concurrency=90, key="tenant")
    assert await stage.backend.remove_limit("queue", "default")
    assert await stage.take_commands("w2") == []
    assert await stage.backend.remove_limit("activity", "act")
    assert len(await stage.take_commands("w2")) == 2


async def a_key_is_found_behind_many_that_are_full(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await _limit(stage, concurrency=1000, key="tenant", key_concurrency=1)
    for number in range(130):
        key = f"{number:03}"
        await _store(stage, f"{key}:0", f"{key}:1", limit_key=key)
    assert len(await stage.take_commands("w2", 200)) == 130
    await _store(stage, "a:0", limit_key="0645")
    assert await stage.take_commands("w1", 5) == ["a:0"]


async def what_was_stored_before_the_limit_has_a_turn_of_its_own(stage: Stage) -> None:
    await stage.workers("w1")
    await _store(stage, "0:0", "0:1")
    await _limit(stage, concurrency=5, key="tenant", key_concurrency=1)
    await _store(stage, "1:0", "1:1", limit_key="aa")
    taken = await stage.backend.take_activities("w1", ("default",), 2)
    assert sorted(task.limit_key for task in taken.activities) == ["", "aa"]
    assert await stage.take_commands() == ["0:1"]


async def what_was_given_up_keeps_its_place(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await _store(stage, "0:0", "0:1", "0:2")
    await _limit(stage, concurrency=1)
    (first,) = await stage.take_commands("w1")
    kept = Unit(kept=[KeptSlot("one", "default", "act")])
    gone = result("of 0:0", first, b"given up")
    assert await stage.backend.commit("w1", [kept, gone]) == [None, None]
    assert await stage.take_commands("w2") == []
    assert await stage.backend.commit("w1", [Unit(freed=["one"])]) == [None]
    (second,) = await stage.take_commands("w2")
    kept = Unit(kept=[KeptSlot("two", "default", "act")])
    gone = result("of 0:0", second, b"given up")
    assert await stage.backend.commit("w2", [kept, gone]) == [None, None]
    assert await stage.take_commands("w1") == []
    await stage.backend.release_worker("w2", died=True)
    assert len(await stage.take_commands("w1")) == 1


async def places_change_beside_a_unit_that_is_refused(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await _store(stage, "0:0", "0:1", "0:2")
    await _limit(stage, concurrency=1)
    (first,) = await stage.take_commands("w1")
    gone = result("of 0:0", first, b"given up")
    kept = Unit(kept=[KeptSlot("one", "default", "act")])
    lost = Unit(instances=[step("nobody", 0)])
    stored, more, refused = await stage.backend.commit("w1", [kept, gone, lost])
    assert (stored, more) == (None, None)
    assert refused is not None
    assert await stage.take_commands("w2") == []
    freed = Unit(freed=["one"])
    assert (await stage.backend.commit("w1", [freed, lost]))[0] is None
    assert len(await stage.take_commands("w2")) == 1


async def limits_of_other_kinds_may_have_the_same_name(stage: Stage) -> None:
    await stage.workers("w1")
    await _limit(stage, kind="workflow", name="flow", concurrency=1)
    await stage.create("a", "b")
    assert await stage.take_ids() == ["a"]
    for kind in ("activity", "queue"):
        await _limit(stage, kind=kind, name="flow", concurrency=5)
        assert await stage.backend.remove_limit(kind, "flow")
        assert await stage.take_ids() == []
    assert list((await stage.backend.limits()).limits) == [("workflow", "flow")]


CASES: tuple[Case, ...] = (
    limits_are_listed_and_replaced,
    no_more_of_a_queue_are_leased_than_its_limit,
    other_queues_are_not_limited,
    a_limit_of_an_activity_holds_in_all_queues,
    what_is_leased_already_counts,
    what_a_dead_worker_held_comes_back,
    a_cancelled_or_removed_activity_gives_its_place_back,
    nothing_that_is_limited_is_born_leased,
    a_rate_holds_within_any_time_of_its_length,
    a_rate_counts_what_has_ended,
    a_full_activity_hides_nothing,
    the_keys_of_a_queue_take_turns,
    within_a_key_the_highest_priority_goes_first,
    no_more_of_a_key_are_leased_than_its_limit,
    an_activitys_own_keys_take_turns,
    an_activity_has_a_key_if_and_only_if_its_limit_has,
    keys_are_forgotten_with_their_limit,
    an_activitys_own_keys_outlive_a_limit_of_its_queue,
    a_key_is_found_behind_many_that_are_full,
    what_was_stored_before_the_limit_has_a_turn_of_its_own,
    what_was_given_up_keeps_its_place,
    places_change_beside_a_unit_that_is_refused,
    limits_of_other_kinds_may_have_the_same_name,
)
