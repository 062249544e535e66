"""Conformance: cancels are never forgotten, and end at once what has not begun."""

# ruff: noqa: D103 - assertions; a case is described by its name

from __future__ import annotations

from typing import Any

from trioflow._model.events import CancelRequested, ParentRef, encode_event
from trioflow.backends.commits import (
    ActivityRetry,
    CancelledActivity,
    InstanceCommit,
    Message,
    Unit,
)
from trioflow.backends.records import Heartbeat
from trioflow.testing.conformance.stage import (
    CANCELLED,
    DONE,
    TERMINATED,
    Case,
    Stage,
    child,
    child_cancelled,
    events,
    key,
    named,
    new,
    result,
    step,
)


async def _marked(stage: Stage, *, mine: bool = False) -> None:
    """Let a worker run two activities of what w1 holds, the second of them marked."""
    await stage.workers("w1", "w2", "w9")
    await stage.hold("a")
    holder = "w1" if mine else "w2"
    await stage.stored(step("a", 0, activities=[*named("0:0", priority=1), *named("0:1")]))
    assert await stage.take_commands(holder) == ["0:0", "0:1"]
    await stage.stored(step("a", 1, cancelled=[CancelledActivity("0:1", b"cancelled")]))
    told = Heartbeat(alive=True, cancelled=[key("a", "0:1")], events=[b"cancelled"])
    assert stage.backend.heartbeat(holder) == told


async def _is_told(stage: Stage, worker: str = "w1", **options: Any) -> None:
    """Demand that the instance was told, and that nobody runs the marked activity again."""
    assert events(await stage.take(worker, **options)) == [b"cancelled"]
    commands = [task.key.command for task in await stage.backend.activities("a")]
    assert commands == ["0:0"]
    assert stage.backend.heartbeat("w9") == Heartbeat(alive=True)


async def who_asks_is_told_of_its_own(stage: Stage) -> None:
    await _marked(stage, mine=True)
    assert await stage.take() == []
    assert await stage.take_commands("w9") == []
    assert await stage.backend.commit("w1", [result("a", "0:1", b"all the same")]) == [None]
    assert events(await stage.take()) == [b"all the same"]
    assert stage.backend.heartbeat("w1") == Heartbeat(alive=True)


async def a_result_in_a_turn_ends_the_mark(stage: Stage) -> None:
    await _marked(stage, mine=True)
    await stage.stored(step("a", 2, finished=["0:1"]))
    assert stage.backend.heartbeat("w1") == Heartbeat(alive=True)
    assert await stage.take() == []


async def what_is_marked_ends_with_its_worker(stage: Stage) -> None:
    await _marked(stage)
    await stage.expire("w2", survivors=("w1", "w9"))
    assert await stage.take_commands("w9") == ["0:0"]
    await _is_told(stage)


async def what_is_marked_ends_with_who_holds_all(stage: Stage) -> None:
    await _marked(stage, mine=True)
    await stage.expire("w1", "w2")
    assert await stage.take_commands("w9") == ["0:0"]
    await _is_told(stage, "w9", suspect=True)


async def what_is_marked_ends_when_its_worker_leaves(stage: Stage) -> None:
    await _marked(stage)
    await stage.backend.release_worker("w2")
    assert await stage.take_commands("w9") == ["0:0"]
    await _is_told(stage)


async def what_is_marked_ends_when_its_instance_is_given_back(stage: Stage) -> None:
    await _marked(stage, mine=True)
    assert await stage.backend.release_instances("w1", ["a"]) == ["a"]
    assert stage.backend.heartbeat("w1") == Heartbeat(alive=True)
    assert await stage.take_commands("w9") == ["0:0"]
    await _is_told(stage, "w9")


async def what_is_marked_ends_when_it_is_recalled(stage: Stage) -> None:
    await _marked(stage)
    await stage.backend.recall("w2", [key("a", "0:0")])
    assert stage.backend.heartbeat("w2") == Heartbeat(alive=True)
    assert await stage.take_commands("w9") == []
    await _is_told(stage)


async def what_is_marked_and_kept_stays_marked(stage: Stage) -> None:
    await _marked(stage)
    await stage.backend.recall("w2", [key("a", "0:1")])
    told = Heartbeat(alive=True, cancelled=[key("a", "0:1")], events=[b"cancelled"])
    assert stage.backend.heartbeat("w2") == told
    assert await stage.take() == []
    assert await stage.take_commands("w9") == ["0:0"]


async def what_is_marked_ends_when_it_would_be_retried(stage: Stage) -> None:
    await _marked(stage)
    retry = ActivityRetry(key("a", "0:1"), 2, stage.backend.now())
    assert await stage.backend.commit("w2", [Unit(retries=[retry])]) == [None]
    assert stage.backend.heartbeat("w2") == Heartbeat(alive=True)
    assert await stage.take_commands("w9") == []
    await _is_told(stage)


async def a_second_request_changes_nothing(stage: Stage) -> None:
    await _marked(stage)
    await stage.stored(step("a", 2, cancelled=[CancelledActivity("0:1", b"cancelled")]))
    await stage.backend.release_worker("w2")
    await _is_told(stage)


async def what_was_terminated_says_nothing_when_it_goes(stage: Stage) -> None:
    await _marked(stage)
    assert await stage.backend.terminate("a", TERMINATED) == "done"
    told = stage.backend.heartbeat("w2").cancelled
    assert sorted(one.command for one in told) == ["0:0", "0:1"]
    await stage.expire("w1", "w2")
    row = await stage.record("a")
    assert (row.status, row.unread, row.ready_at) == ("terminated", 0, None)
    assert await stage.take_commands("w9") == []
    assert await stage.backend.stats() == []


# --- what has not begun ---------------------------------------------------------------------------


async def cancelling_ends_what_has_not_begun(stage: Stage) -> None:
    backend = stage.backend
    await stage.create("a", queue="served by nobody")
    await backend.send("a", b"unread")
    assert await backend.cancel("a", b"cancel", CANCELLED) == "done"
    row = await stage.record("a")
    assert (row.status, row.outcome, row.turns) == ("cancelled", CANCELLED, 0)
    assert (row.unread, row.ready_at, row.worker) == (0, None, None)
    assert row.finished_at is not None
    assert await backend.stats() == []
    assert await backend.cancel("a", b"cancel", CANCELLED) == "finished"
    assert await backend.cancel("nobody", b"cancel", CANCELLED) == "not found"
    await stage.workers("w1")
    assert await stage.take(queues=("served by nobody",)) == []
    await stage.create("a")
    assert await stage.take_ids() == ["a"]


async def cancelling_reaches_what_has_begun(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("held", "parked", "suspended", "goes on")
    await stage.stored(step("parked", 0, leased=False))
    await stage.stored(step("suspended", 0, suspended=b"{}", turns=[]))
    await stage.stored(step("goes on", 0, continued=b"[]", leased=False))
    for id in ("held", "parked", "suspended", "goes on"):
        assert await stage.backend.cancel(id, b"cancel", CANCELLED) == "done"
        assert (await stage.record(id)).unread == 1
    taken = await stage.take()
    assert sorted(one.id for one in taken) == ["goes on", "held", "parked"]
    assert [message.event for one in taken for message in one.inbox] == [b"cancel"] * 3
    assert (await stage.record("suspended")).status == "suspended"
    assert await stage.backend.resume("suspended") == "done"
    assert events(await stage.take()) == [b"cancel"]


async def the_parent_of_what_had_not_begun_is_told(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("p", life="1" * 32)
    born = child("c", "p", "0:7", parent_life="1" * 32, queue="served by nobody")
    unstarted = InstanceCommit(id="c", execution=1, number=0, new=born, leased=False)
    await stage.stored(step("p", 0, life="1" * 32), unstarted)
    assert await stage.backend.cancel("c", b"cancel", CANCELLED) == "done"
    assert child_cancelled(await stage.take()) == ("0:7", "enough")


async def another_parent_of_what_had_not_begun_is_not_told(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("p", life="1" * 32)
    old = child("c", "p", parent_life="2" * 32).parent
    await stage.create("c", parent=old, queue="other")
    assert await stage.backend.cancel("c", b"cancel", CANCELLED) == "done"
    late = child("d", "p", parent_life="1" * 32).parent
    await stage.create("d", parent=late, queue="other")
    await stage.stored(step("p", 0, life="1" * 32, continued=b"[]", due=True))
    assert [one.execution for one in await stage.take()] == [2]
    assert await stage.backend.cancel("d", b"cancel", CANCELLED) == "done"
    assert await stage.take() == []


async def a_message_may_end_what_has_not_begun(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "held", "parked")
    await stage.stored(step("parked", 0, leased=False))
    await stage.create("free", "mistaken", queue="served by nobody", life="1" * 32)
    targets = ("free", "held", "parked", "nobody")
    messages = [Message(id, b"cancel", unstarted=CANCELLED, failed=b"no") for id in targets]
    stray = Message("mistaken", b"cancel", unstarted=CANCELLED, life="2" * 32, failed=b"no")
    await stage.stored(step("a", 0, messages=[*messages, stray]))
    row = await stage.record("free")
    assert (row.status, row.outcome, row.unread) == ("cancelled", CANCELLED, 0)
    assert row.ready_at is None
    row = await stage.record("mistaken")
    assert (row.status, row.unread) == ("running", 0)
    inboxes = {one.id: [message.event for message in one.inbox] for one in await stage.take()}
    assert inboxes == {"a": [b"no", b"no"], "held": [b"cancel"], "parked": [b"cancel"]}


async def a_parents_cancel_ends_a_child_that_has_not_begun(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("p")
    born = child("c", "p", "0:7", queue="served by nobody")
    unstarted = InstanceCommit(id="c", execution=1, number=0, new=born, leased=False)
    await stage.stored(step("p", 0), unstarted)
    asked = Message("c", b"cancel", execution=1, unstarted=CANCELLED)
    await stage.stored(step("p", 1, messages=[asked]))
    assert (await stage.record("c")).status == "cancelled"
    assert child_cancelled(await stage.take()) == ("0:7", "enough")


async def a_parent_ends_no_child_of_another(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("p", "q")
    asked = encode_event(CancelRequested("enough", by=ParentRef("q", 1, "0:0")))
    for id, parent in (("hers", "p"), ("his", "q")):
        await stage.create(id, parent=ParentRef(parent, 1, "0:0"), queue="served by nobody")
    messages = [Message(id, asked, unstarted=CANCELLED) for id in ("hers", "his")]
    await stage.stored(step("q", 0, messages=messages))
    row = await stage.record("hers")
    assert (row.status, row.unread) == ("running", 1)
    assert (await stage.record("his")).status == "cancelled"
    (told,) = await stage.take()
    assert (told.id, child_cancelled([told])) == ("q", ("0:0", "enough"))


async def what_was_ended_unbegun_can_be_used_again(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("a", "b")
    assert await stage.backend.cancel("a", b"cancel", CANCELLED) == "done"
    assert await stage.backend.create([new("a"), new("b")]) == [True, False]
    assert sorted(await stage.take_ids()) == ["a", "b"]
    await stage.stored(step("b", 0, closing=DONE))


CASES: tuple[Case, ...] = (
    who_asks_is_told_of_its_own,
    a_result_in_a_turn_ends_the_mark,
    what_is_marked_ends_with_its_worker,
    what_is_marked_ends_with_who_holds_all,
    what_is_marked_ends_when_its_worker_leaves,
    what_is_marked_ends_when_its_instance_is_given_back,
    what_is_marked_ends_when_it_is_recalled,
    what_is_marked_and_kept_stays_marked,
    what_is_marked_ends_when_it_would_be_retried,
    a_second_request_changes_nothing,
    what_was_terminated_says_nothing_when_it_goes,
    cancelling_ends_what_has_not_begun,
    cancelling_reaches_what_has_begun,
    the_parent_of_what_had_not_begun_is_told,
    another_parent_of_what_had_not_begun_is_not_told,
    a_message_may_end_what_has_not_begun,
    a_parents_cancel_ends_a_child_that_has_not_begun,
    a_parent_ends_no_child_of_another,
    what_was_ended_unbegun_can_be_used_again,
)
