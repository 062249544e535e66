"""Conformance: activities, from being stored to having ended."""

# ruff: noqa: D103 - assertions; a case is described by its name

from __future__ import annotations

from trioflow.backends.commits import (
    ActivityProgress,
    ActivityResult,
    ActivityRetry,
    CancelledActivity,
    NewActivity,
    Unit,
)
from trioflow.backends.records import Heartbeat
from trioflow.testing.conformance.stage import (
    DONE,
    LEASE,
    TERMINATED,
    Case,
    Stage,
    events,
    key,
    named,
    step,
)


async def no_activities_give_nothing(stage: Stage) -> None:
    await stage.workers("w1")
    taken = await stage.backend.take_activities("w1", ("default",), 10)
    assert taken.activities == []
    assert taken.next_at is None


async def taking_an_activity_gives_all_that_is_needed(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", input=b"[7]", options=b"{}")))
    taken = await stage.backend.take_activities("w2", ("default",), 10)
    (task,) = taken.activities
    assert (task.key, task.activity, task.queue) == (key("a", "0:0"), "act", "default")
    assert (task.input, task.options, task.attempt) == (b"[7]", b"{}", 1)
    assert task.failure == b""
    assert task.scheduled_at <= stage.backend.now()
    assert await stage.take_commands("w1") == []
    assert await stage.backend.activities("a") == [task]


async def activities_are_taken_by_queue_order_and_name(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    for number, (command, queue) in enumerate((("0:3", "x"), ("0:1", "y"), ("0:2", "x"))):
        await stage.stored(step("a", number, activities=named(command, queue=queue)))
        await stage.pass_time(0.01)
    await stage.stored(step("a", 3, activities=named("0:4", queue="z")))
    assert await stage.take_commands(queues=("x", "y"), exclude=("act",)) == []
    taken = await stage.backend.take_activities("w1", ("y", "x"), 2)
    assert [task.key.command for task in taken.activities] == ["0:3", "0:1"]
    assert taken.next_at is not None
    assert taken.next_at <= stage.backend.now()
    assert await stage.take_commands(queues=("x", "y"), exclude=("other",)) == ["0:2"]


async def an_activity_may_be_born_leased(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", leased=True)))
    assert await stage.take_commands("w2") == []
    await stage.stored(step("a", 1, finished=["0:0"]))
    assert await stage.backend.activities("a") == []


async def a_result_reaches_the_inbox(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a", "b")
    for id in ("a", "b"):
        await stage.stored(step(id, 0, activities=named("0:0", "0:1"), leased=False))
    assert sorted(await stage.take_commands("w2")) == ["0:0", "0:0", "0:1", "0:1"]
    unit = Unit(results=[ActivityResult(key("a", "0:0"), b"result")])
    assert await stage.backend.commit("w2", [unit]) == [None]
    assert events(await stage.take("w1")) == [b"result"]
    assert [task.key.command for task in await stage.backend.activities("a")] == ["0:1"]


async def a_result_of_what_is_not_held_is_dropped(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a", "b")
    await stage.stored(step("a", 0, activities=named("0:0", "0:1", "0:2"), leased=False))
    assert await stage.take_commands("w2", 2) == ["0:0", "0:1"]
    foreign = [ActivityResult(key("a", f"0:{number}"), b"w1") for number in range(4)]
    mine = [ActivityResult(key("a", "0:1"), b"w2"), ActivityResult(key("a", "0:9"), b"never")]
    both = Unit(instances=[step("b", 0)], results=foreign)
    assert await stage.backend.commit("w1", [both]) == [None]
    assert (await stage.record("b")).turns == 1
    assert await stage.backend.commit("w2", [Unit(results=mine)]) == [None]
    assert events(await stage.take()) == [b"w2"]
    commands = [task.key.command for task in await stage.backend.activities("a")]
    assert commands == ["0:0", "0:2"]


async def a_result_for_a_finished_instance_is_dropped(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", leased=True)))
    await stage.stored(step("a", 1, closing=DONE))
    unit = Unit(results=[ActivityResult(key("a", "0:0"), b"late")])
    assert await stage.backend.commit("w1", [unit]) == [None]
    assert (await stage.record("a")).unread == 0
    assert await stage.backend.stats() == []


async def a_retry_is_invisible_until_its_time(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", "0:1"), leased=False))
    assert await stage.take_commands("w1", 1) == ["0:0"]
    scheduled_at = (await stage.task("a", "0:0")).scheduled_at
    visible_at = stage.backend.now() + LEASE
    retry = ActivityRetry(key("a", "0:0"), 2, visible_at, failure=b'{"f":1}')
    assert (await stage.task("a", "0:0")).next_at is None
    assert await stage.backend.commit("w1", [Unit(retries=[retry])]) == [None]
    assert (await stage.task("a", "0:0")).next_at == visible_at
    assert ((await stage.task("a", "0:1")).next_at or visible_at) < visible_at
    assert [each.next_at for each in await stage.backend.tried_again(["a"])] == [visible_at]
    taken = await stage.backend.take_activities("w2", ("default",), 10)
    assert [task.key.command for task in taken.activities] == ["0:1"]
    assert taken.next_at == visible_at
    await stage.pass_time(LEASE * 1.1)
    (again,) = (await stage.backend.take_activities("w2", ("default",), 10)).activities
    assert (again.attempt, again.failure) == (2, b'{"f":1}')
    assert again.scheduled_at == scheduled_at


async def a_retry_comes_after_what_was_visible_before(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0")))
    assert await stage.take_commands() == ["0:0"]
    await stage.pass_time(0.01)
    await stage.stored(step("a", 1, activities=named("0:1")))
    await stage.pass_time(0.01)
    retry = ActivityRetry(key("a", "0:0"), 2, stage.backend.now())
    await stage.backend.commit("w1", [Unit(retries=[retry])])
    await stage.pass_time(0.01)
    assert await stage.take_commands() == ["0:1", "0:0"]


async def a_retry_of_what_is_not_held_is_dropped(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", "0:1")))
    assert await stage.take_commands("w2", 1) == ["0:0"]
    later = stage.backend.now() + 1000
    retries = [ActivityRetry(key("a", f"0:{n}"), 9, later) for n in range(3)]
    assert await stage.backend.commit("w1", [Unit(retries=retries)]) == [None]
    assert await stage.take_commands("w1") == ["0:1"]
    assert (await stage.task("a", "0:0")).attempt == 1


async def progress_is_kept_until_the_activity_ends(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", "0:1")))
    assert (await stage.task("a", "0:0")).progress == b""
    assert await stage.take_commands("w2", 1) == ["0:0"]
    first = Unit(progress=[ActivityProgress(key("a", "0:0"), b'{"done":1}')])
    assert await backend.commit("w2", [first]) == [None]
    assert (await stage.task("a", "0:0")).progress == b'{"done":1}'
    assert (await stage.task("a", "0:1")).progress == b""
    await backend.release_worker("w2", died=True)
    taken = (await backend.take_activities("w1", ("default",), 10)).activities
    found = {task.key.command: (task.attempt, task.progress) for task in taken}
    assert found == {"0:0": (2, b'{"done":1}'), "0:1": (1, b"")}


async def progress_comes_before_the_end_of_an_attempt(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", "0:1", "0:2", leased=True)))
    units = [
        Unit(retries=[ActivityRetry(key("a", "0:0"), 2, backend.now())]),
        Unit(results=[ActivityResult(key("a", "0:1"), b"result")]),
        Unit(progress=[ActivityProgress(key("a", f"0:{n}"), b"%d" % n) for n in (0, 1, 2, 9)]),
        Unit(progress=[ActivityProgress(key("a", "0:2"), b"later")]),
    ]
    assert await backend.commit("w1", units) == [None] * 4
    found = {task.key.command: task.progress for task in await backend.activities("a")}
    assert found == {"0:0": b"0", "0:2": b"later"}
    (again,) = (await backend.take_activities("w1", ("default",), 10)).activities
    assert (again.attempt, again.progress) == (2, b"0")


async def progress_of_what_is_not_held_is_dropped(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1", "w2")
    await stage.hold("a", life="l1")
    await stage.stored(step("a", 0, life="l1", activities=named("0:0", "0:1", leased=True)))
    units = [
        Unit(progress=[ActivityProgress(key("a", "0:0", life="l1"), b"w2")]),
        Unit(results=[ActivityResult(key("a", "0:1", life="l1"), b"w2")]),
    ]
    assert await backend.commit("w2", units) == [None, None]
    other = Unit(progress=[ActivityProgress(key("a", "0:0", life="l2"), b"another life")])
    assert await backend.commit("w1", [other]) == [None]
    assert [task.progress for task in await backend.activities("a")] == [b"", b""]


async def progress_of_a_unit_that_fails_is_not_stored(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", "0:1", leased=True)))
    failing = Unit(instances=[step("a", 7)], progress=[ActivityProgress(key("a", "0:0"), b"never")])
    storing = Unit(progress=[ActivityProgress(key("a", "0:1"), b"stored")])
    failed, stored = await stage.backend.commit("w1", [failing, storing])
    assert failed is not None
    assert stored is None
    assert [task.progress for task in await stage.backend.activities("a")] == [b"", b"stored"]


async def cancelling_a_waiting_activity_ends_it(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", "0:1")))
    await stage.stored(step("a", 1, cancelled=[CancelledActivity("0:0", b"cancelled")]))
    assert events(await stage.take()) == [b"cancelled"]
    assert await stage.take_commands() == ["0:1"]


async def cancelling_a_running_activity_tells_its_worker(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", "0:1")))
    assert await stage.take_commands("w2", 1) == ["0:0"]
    assert backend.heartbeat("w2") == Heartbeat(alive=True)
    await stage.stored(step("a", 1, cancelled=[CancelledActivity("0:0", b"cancelled")]))
    assert await stage.take() == []
    told = Heartbeat(alive=True, cancelled=[key("a", "0:0")], events=[b"cancelled"])
    assert backend.heartbeat("w2") == told
    assert backend.heartbeat("w1") == Heartbeat(alive=True)
    await backend.commit("w2", [Unit(results=[ActivityResult(key("a", "0:0"), b"all the same")])])
    assert events(await stage.take()) == [b"all the same"]
    assert backend.heartbeat("w2") == Heartbeat(alive=True)


async def a_cancelled_activity_is_not_tried_again(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0")))
    assert await stage.take_commands("w2") == ["0:0"]
    await stage.stored(step("a", 1, cancelled=[CancelledActivity("0:0", b"cancelled")]))
    retry = ActivityRetry(key("a", "0:0"), 2, stage.backend.now())
    assert await stage.backend.commit("w2", [Unit(retries=[retry])]) == [None]
    assert await stage.take_commands("w2") == []
    assert events(await stage.take()) == [b"cancelled"]


async def cancelling_what_has_ended_does_nothing(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", leased=True)))
    await stage.backend.commit("w1", [Unit(results=[ActivityResult(key("a", "0:0"), b"result")])])
    await stage.stored(step("a", 1, cancelled=[CancelledActivity("0:0", b"cancelled")]))
    assert events(await stage.take()) == [b"result"]


async def activities_of_an_ended_execution_say_nothing(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", leased=True)))
    await stage.stored(step("a", 1, continued=b"[]"))
    assert await stage.backend.activities("a") == []
    await stage.backend.commit("w1", [Unit(results=[ActivityResult(key("a", "0:0"), b"old")])])
    assert await stage.take() == []
    assert (await stage.record("a")).unread == 0


async def waiting_activities_may_be_tried_at_once(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1", "w2")
    await stage.hold("a", "b", life="1" * 32)
    for id in ("a", "b"):
        other = NewActivity("0:2", "other", "default", b"[1]", leased=False)
        activities = [*named("0:0", "0:1"), other, *named("0:3", leased=True)]
        await stage.stored(step(id, 0, life="1" * 32, activities=activities))
    assert sorted(await stage.take_commands("w2")) == sorted(("0:0", "0:1", "0:2") * 2)
    later = backend.now() + 1000
    retries = [
        ActivityRetry(key(id, f"0:{n}", life="1" * 32), 2, later, failure=b"f")
        for id in ("a", "b")
        for n in range(3)
    ]
    assert await backend.commit("w2", [Unit(retries=retries)]) == [None]
    assert await stage.take_commands("w2") == []
    assert await backend.retry_now("a", activity="nothing") == "unchanged"
    assert await backend.retry_now("a", life="2" * 32) == "finished"
    assert await backend.retry_now("nobody") == "not found"
    assert await stage.take_commands("w2") == []
    seen = backend.changes()
    assert await backend.retry_now("a", activity="other") == "done"
    assert backend.changes() > seen
    (again,) = (await backend.take_activities("w2", ("default",), 9)).activities
    assert (again.key.instance, again.key.command) == ("a", "0:2")
    assert (again.attempt, again.failure) == (2, b"f")
    assert await backend.retry_now("a", life="1" * 32) == "done"
    taken = (await backend.take_activities("w2", ("default",), 9)).activities
    assert [(one.key.instance, one.key.command) for one in taken] == [("a", "0:0"), ("a", "0:1")]
    assert await backend.retry_now("a") == "unchanged"
    assert await backend.terminate("b", TERMINATED) == "done"
    assert await backend.retry_now("b") == "finished"


CASES: tuple[Case, ...] = (
    no_activities_give_nothing,
    taking_an_activity_gives_all_that_is_needed,
    activities_are_taken_by_queue_order_and_name,
    an_activity_may_be_born_leased,
    a_result_reaches_the_inbox,
    a_result_of_what_is_not_held_is_dropped,
    a_result_for_a_finished_instance_is_dropped,
    a_retry_is_invisible_until_its_time,
    a_retry_comes_after_what_was_visible_before,
    a_retry_of_what_is_not_held_is_dropped,
    progress_is_kept_until_the_activity_ends,
    progress_comes_before_the_end_of_an_attempt,
    progress_of_what_is_not_held_is_dropped,
    progress_of_a_unit_that_fails_is_not_stored,
    cancelling_a_waiting_activity_ends_it,
    cancelling_a_running_activity_tells_its_worker,
    a_cancelled_activity_is_not_tried_again,
    cancelling_what_has_ended_does_nothing,
    activities_of_an_ended_execution_say_nothing,
    waiting_activities_may_be_tried_at_once,
)
