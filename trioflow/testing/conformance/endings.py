"""Conformance: nothing that was accepted is lost at the end of an instance."""

# ruff: noqa: D103 - assertions; a case is described by its name

from __future__ import annotations

from trioflow.backends.commits import Closing, CommitFailure, Message, Unit
from trioflow.testing.conformance.stage import (
    DONE,
    Case,
    Stage,
    events,
    named,
    new,
    result,
    seqs,
    step,
)


async def what_has_not_seen_a_message_does_not_end(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a", "b", "c")
    for id, status in (("a", "completed"), ("b", "failed"), ("c", "cancelled")):
        assert await stage.backend.send(id, b"late") == "done"
        closing = Closing(status, b"{}")  # type: ignore[arg-type]  # they are the three
        for turns in ([b"t"], []):
            commit = step(id, 0, closing=closing, turns=turns)
            assert await stage.commit(commit) == CommitFailure(unseen=[id])
        row = await stage.record(id)
        assert (row.status, row.turns, row.unread, row.worker) == ("running", 0, 1, "w1")
        assert row.finished_at is None
    assert await stage.take("w2") == []
    for taken in await stage.take():
        assert events([taken]) == [b"late"]
        await stage.stored(step(taken.id, 0, closing=DONE, consumed=seqs(taken)))
        assert await stage.backend.send(taken.id, b"too late") == "finished"
    assert [(await stage.record(id)).status for id in "abc"] == ["completed"] * 3


async def what_was_seen_but_not_consumed_is_given_again(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.backend.send("a", b"1")
    (taken,) = await stage.take()
    assert await stage.commit(step("a", 0, closing=DONE)) == CommitFailure(unseen=["a"])
    (again,) = await stage.take()
    assert again.inbox == taken.inbox
    await stage.backend.send("a", b"2")
    commit = step("a", 0, closing=DONE, consumed=seqs(again))
    assert await stage.commit(commit) == CommitFailure(unseen=["a"])
    (again,) = await stage.take()
    assert events([again]) == [b"1", b"2"]
    await stage.stored(step("a", 0, closing=DONE, consumed=seqs(again)))
    assert (await stage.record("a")).unread == 0


async def what_does_not_end_leaves_nothing_of_its_unit(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b", "c", "other")
    await stage.backend.send("a", b"late")
    unit = Unit(
        instances=[
            step("b", 0, messages=[Message("c", b"never")], activities=named("0:0")),
            step("a", 0, closing=DONE, messages=[Message("c", b"never")]),
            step("born", 0, new=new("born")),
        ]
    )
    good = Unit(instances=[step("other", 0, messages=[Message("c", b"hello")])])
    results = await stage.backend.commit("w1", [unit, good])
    assert results == [CommitFailure(unseen=["a"]), None]
    assert await stage.backend.get("born") is None
    assert await stage.backend.activities("b") == []
    assert [(await stage.record(id)).turns for id in ("a", "b", "other")] == [0, 0, 1]
    inboxes = {one.id: [message.event for message in one.inbox] for one in await stage.take()}
    assert inboxes == {"a": [b"late"], "c": [b"hello"]}


async def a_result_that_came_meanwhile_is_unseen(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0")))
    assert await stage.take_commands("w2") == ["0:0"]
    assert await stage.backend.commit("w2", [result("a", "0:0", b"result")]) == [None]
    assert await stage.commit(step("a", 1, closing=DONE)) == CommitFailure(unseen=["a"])
    (taken,) = await stage.take()
    assert events([taken]) == [b"result"]
    await stage.stored(step("a", 1, closing=DONE, consumed=seqs(taken)))


async def who_has_lost_an_instance_hears_nothing_of_messages(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.backend.send("a", b"late")
    for wrong in (step("a", 1, closing=DONE), step("a", 0, life="1" * 32, closing=DONE)):
        assert await stage.commit(wrong) == CommitFailure(lost=["a"])
    assert await stage.commit(step("a", 0, closing=DONE), worker="w2") == CommitFailure(lost=["a"])


async def what_ends_consumes_what_is_there(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    await stage.backend.send("a", b"1")
    (taken,) = await stage.take()
    (seq,) = seqs(taken)
    failure = await stage.commit(step("a", 0, closing=DONE, consumed=[seq + 1000]))
    assert failure is not None
    assert (await stage.record("a")).status == "running"
    gone = step("b", 0, closing=DONE, consumed=[seq])
    assert await stage.commit(gone) == CommitFailure(lost=["b"])
    await stage.stored(step("a", 0, closing=DONE, consumed=[seq]))


async def a_message_after_the_end_fails(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    ends = Unit(instances=[step("b", 0, closing=DONE)])
    says = Unit(instances=[step("a", 0, messages=[Message("b", b"x", failed=b"no")])])
    assert await stage.backend.commit("w1", [says, ends]) == [None, None]
    assert (await stage.record("b")).unread == 0
    assert events(await stage.take()) == [b"no"]


CASES: tuple[Case, ...] = (
    what_has_not_seen_a_message_does_not_end,
    what_was_seen_but_not_consumed_is_given_again,
    what_does_not_end_leaves_nothing_of_its_unit,
    a_result_that_came_meanwhile_is_unseen,
    who_has_lost_an_instance_hears_nothing_of_messages,
    what_ends_consumes_what_is_there,
    a_message_after_the_end_fails,
)
