"""Conformance: requests that want an answer, and instances that are created with a message."""

# ruff: noqa: D103 - assertions; a case is described by its name

from __future__ import annotations

from trioflow.backends.commits import Answer
from trioflow.backends.records import Reached, RequestKey
from trioflow.testing.conformance.stage import (
    ALL,
    DONE,
    TERMINATED,
    Case,
    Stage,
    events,
    new,
    seqs,
    step,
)


async def _answers(stage: Stage, *requests: str, life: str = "l1") -> list[bytes | None]:
    return await stage.backend.answers([RequestKey("a", life, request) for request in requests])


async def a_request_is_delivered_once(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("a", life="l1")
    assert await stage.backend.send("a", b"1", request="r") == "done"
    assert await stage.backend.send("a", b"2", request="r") == "unchanged"
    assert await stage.backend.send("a", b"3", request="r", life="l1") == "unchanged"
    assert await stage.backend.send("a", b"4", request="R", life="l1") == "done"
    assert await stage.backend.send("a", b"5", request="r ", life="l1") == "done"
    assert events(await stage.take()) == [b"1", b"4", b"5"]


async def a_request_needs_an_instance_of_its_life(stage: Stage) -> None:
    await stage.create("a", life="l1")
    assert await stage.backend.send("nobody", b"1", request="r") == "not found"
    assert await stage.backend.send("a", b"1", request="r", life="l2") == "finished"
    assert (await stage.record("a")).unread == 0
    assert await stage.backend.send("a", b"1", request="r") == "done"
    assert await stage.backend.send("a", b"1", request="r", life="l2") == "finished"


async def a_request_has_the_first_answer(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("a", life="l1")
    for request in ("r1", "r2"):
        await stage.backend.send("a", b"event", request=request)
    (taken,) = await stage.take()
    assert await _answers(stage, "r1", "r2", "r3") == [None, None, None]
    first = [Answer("r1", b"\x00 one"), Answer("unknown", b"nothing")]
    consumed = seqs(taken)
    await stage.stored(step("a", 0, life="l1", consumed=consumed, answers=first))
    assert await _answers(stage, "r2", "r1", "unknown") == [None, b"\x00 one", None]
    again = [Answer("r1", b"other"), Answer("r2", b"")]
    await stage.stored(step("a", 1, life="l1", answers=again))
    assert await _answers(stage, "r1", "r2") == [b"\x00 one", b""]
    assert await _answers(stage, "r1", life="l2") == [None]
    assert await stage.backend.answers([]) == []


async def an_answer_is_no_ones_unless_its_commit_is_stored(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("a", life="l1")
    await stage.backend.send("a", b"event", request="r")
    await stage.take()
    late = step("a", 3, life="l1", answers=[Answer("r", b"wrong")])
    failure = await stage.commit(late)
    assert failure is not None
    assert failure.lost == ["a"]
    assert await _answers(stage, "r") == [None]


async def whoever_closes_answers_with_it(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("a", life="l1")
    await stage.backend.send("a", b"event", request="r")
    (taken,) = await stage.take()
    answers = [Answer("r", b"last")]
    closing = step("a", 0, life="l1", consumed=seqs(taken), closing=DONE, answers=answers)
    await stage.stored(closing)
    assert await _answers(stage, "r") == [b"last"]
    assert await stage.backend.send("a", b"again", request="r") == "unchanged"
    assert await stage.backend.send("a", b"new", request="other") == "finished"


async def requests_go_on_with_the_next_execution(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("a", life="l1")
    await stage.take()
    await stage.backend.send("a", b"event", request="r")
    await stage.stored(step("a", 0, life="l1", continued=b"{}"))
    assert await stage.backend.send("a", b"event", request="r") == "unchanged"
    (taken,) = await stage.take()
    assert (taken.execution, [message.event for message in taken.inbox]) == (2, [b"event"])
    answers = [Answer("r", b"answer")]
    await stage.stored(step("a", 0, execution=2, life="l1", consumed=seqs(taken), answers=answers))
    assert await _answers(stage, "r") == [b"answer"]


async def answers_outlast_their_life_until_the_instance_is_removed(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("a", life="l1")
    await stage.backend.send("a", b"event", request="r")
    (taken,) = await stage.take()
    answers = [Answer("r", b"of the first")]
    closing = step("a", 0, life="l1", consumed=seqs(taken), closing=DONE, answers=answers)
    await stage.stored(closing)
    await stage.create("a", life="l2")
    assert await stage.backend.send("a", b"event", request="r") == "done"
    assert await _answers(stage, "r") == [b"of the first"]
    assert await _answers(stage, "r", life="l2") == [None]
    assert await stage.backend.terminate("a", TERMINATED) == "done"
    assert await _answers(stage, "r") == [b"of the first"]
    assert await stage.backend.remove(ALL, limit=10) == 1
    assert await _answers(stage, "r") == [None]
    await stage.create("a", life="l1")
    assert await stage.backend.send("a", b"event", request="r") == "done"


async def a_message_creates_what_it_is_for(stage: Stage) -> None:
    await stage.workers("w1")
    reached = await stage.backend.create_and_send(new("a", life="l1"), b"first")
    assert reached == Reached("l1", created=True)
    assert events(await stage.take()) == [b"first"]


async def a_message_reaches_what_is_there(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("a", life="l1")
    other = new("a", life="other", workflow="another", priority=7)
    assert await stage.backend.create_and_send(other, b"1") == Reached("l1")
    (taken,) = await stage.take()
    assert (taken.workflow, taken.life) == ("flow", "l1")
    await stage.stored(step("a", 0, life="l1", consumed=seqs(taken), suspended=b"{}"))
    assert await stage.backend.create_and_send(other, b"2") == Reached("l1")
    assert (await stage.record("a")).status == "suspended"
    assert await stage.backend.resume("a") == "done"
    assert events(await stage.take()) == [b"2"]


async def a_message_follows_what_has_finished(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", life="l1")
    await stage.stored(step("a", 0, life="l1", closing=DONE))
    reached = await stage.backend.create_and_send(new("a", life="l2"), b"1")
    assert reached == Reached("l2", created=True)
    (taken,) = await stage.take()
    assert (taken.execution, taken.life, taken.turns) == (2, "l2", 0)
    assert [message.event for message in taken.inbox] == [b"1"]


async def what_starts_later_gets_its_message_then(stage: Stage) -> None:
    await stage.workers("w1")
    later = new("a", life="l1", start_at=stage.backend.now() + 0.5)
    assert await stage.backend.create_and_send(later, b"1") == Reached("l1", created=True)
    assert await stage.take() == []
    await stage.pass_time(0.6)
    assert events(await stage.take()) == [b"1"]


async def a_request_that_creates_is_made_once(stage: Stage) -> None:
    await stage.workers("w1")
    backend = stage.backend
    first = await backend.create_and_send(new("a", life="l1"), b"1", request="r")
    assert first == Reached("l1", created=True)
    again = await backend.create_and_send(new("a", life="l2"), b"2", request="r")
    assert again == Reached("l1", repeated=True)
    (taken,) = await stage.take()
    assert [message.event for message in taken.inbox] == [b"1"]
    answers = [Answer("r", b"answer")]
    closing = step("a", 0, life="l1", consumed=seqs(taken), closing=DONE, answers=answers)
    await stage.stored(closing)
    late = await backend.create_and_send(new("a", life="l3"), b"3", request="r")
    assert late == Reached("l1", repeated=True)
    assert await _answers(stage, "r") == [b"answer"]
    other = await backend.create_and_send(new("a", life="l4"), b"4", request="other")
    assert other == Reached("l4", created=True)


CASES: tuple[Case, ...] = (
    a_request_is_delivered_once,
    a_request_needs_an_instance_of_its_life,
    a_request_has_the_first_answer,
    an_answer_is_no_ones_unless_its_commit_is_stored,
    whoever_closes_answers_with_it,
    requests_go_on_with_the_next_execution,
    answers_outlast_their_life_until_the_instance_is_removed,
    a_message_creates_what_it_is_for,
    a_message_reaches_what_is_there,
    a_message_follows_what_has_finished,
    what_starts_later_gets_its_message_then,
    a_request_that_creates_is_made_once,
)
