"""Conformance: questions that clients ask and workers answer."""

# ruff: noqa: D103 - assertions; a case is described by its name

from __future__ import annotations

from typing import Any

from trioflow.backends.commits import Answer, NewQuestion
from trioflow.backends.records import TakenQuestions
from trioflow.testing.conformance.stage import ALL, DONE, TERMINATED, Case, Stage, new, step


async def _ask(stage: Stage, id: str, instance: str = "a", **fields: Any) -> None:
    asked: dict[str, Any] = {"life": "l1", "question": b'{"name":"x"}'}
    asked["expires_at"] = stage.backend.now() + 60
    assert await stage.backend.ask(NewQuestion(id, instance, **{**asked, **fields})) == "done"


async def _take(
    stage: Stage,
    worker: str = "w1",
    queues: tuple[str, ...] = ("default",),
    workflows: tuple[str, ...] = ("flow",),
    limit: int = 10,
    **options: Any,
) -> TakenQuestions:
    return await stage.backend.take_questions(worker, queues, workflows, limit, **options)


async def _ids(stage: Stage, worker: str = "w1", **options: Any) -> tuple[list[str], bool]:
    taken = await _take(stage, worker, **options)
    return [one.id for one in taken.questions], taken.waiting


async def _begun(stage: Stage, *ids: str, worker: str = "w1", **fields: Any) -> None:
    """Have instances that have made a turn and are free."""
    await stage.hold(*ids, worker=worker, life="l1")
    for id in ids:
        await stage.stored(step(id, 0, life="l1", leased=False, **fields), worker=worker)


async def a_question_is_given_once_and_answered(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await _begun(stage, "a")
    await _ask(stage, "q1")
    taken = await _take(stage)
    (one,) = taken.questions
    assert (one.id, one.question, one.instance, one.life) == ("q1", b'{"name":"x"}', "a", "l1")
    assert (one.execution, one.turns, one.workflow, one.queue) == (1, 1, "flow", "default")
    assert (one.worker, one.priority, taken.waiting) == (None, 0, False)
    assert await _ids(stage, "w2") == ([], False)
    assert await stage.backend.replies(["q1", "unknown"]) == [None, None]
    answers = [Answer("q1", b"\x00 it is so"), Answer("unknown", b"nobody asked")]
    await stage.backend.answer_questions(answers)
    assert await stage.backend.replies(["unknown", "q1"]) == [None, b"\x00 it is so"]
    await stage.backend.withdraw(["q1", "unknown"])
    assert await stage.backend.replies(["q1"]) == [None]
    assert await stage.backend.replies([]) == []


async def only_the_life_that_is_meant_is_asked(stage: Stage) -> None:
    await stage.create("a", life="l1")
    asked = NewQuestion("q", "a", "l2", b"{}", stage.backend.now() + 60)
    assert await stage.backend.ask(asked) == "not found"
    nobody = NewQuestion("q", "nobody", "l1", b"{}", stage.backend.now() + 60)
    assert await stage.backend.ask(nobody) == "not found"


async def a_question_waits_for_the_first_turn(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("a", life="l1")
    await _ask(stage, "q")
    assert await _ids(stage) == ([], True)
    await stage.take()
    assert await _ids(stage) == ([], True)
    await stage.stored(step("a", 0, life="l1", continued=b"{}"))
    assert await _ids(stage) == ([], True)
    await stage.stored(step("a", 0, execution=2, life="l1"))
    (one,) = (await _take(stage)).questions
    assert (one.execution, one.turns, one.worker) == (2, 1, "w1")


async def a_question_is_for_the_worker_that_holds_the_instance(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a", "b", life="l1")
    for id in ("a", "b"):
        await stage.stored(step(id, 0, life="l1"))
        await _ask(stage, f"q{id}", id)
    assert await _ids(stage, "w2") == ([], True)
    assert await _ids(stage, "w1", workflows=("other",)) == ([], True)
    assert await _ids(stage, "w1", queues=(), limit=1) == (["qa"], True)
    await stage.backend.release_worker("w1")
    assert await _ids(stage, "w1") == ([], False)
    assert await _ids(stage, "w2") == (["qb"], False)


async def a_question_needs_the_queue_and_the_workflow(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await _begun(stage, "a")
    await _ask(stage, "q")
    assert await _ids(stage, "w2", queues=("other",)) == ([], False)
    assert await _ids(stage, "w2", workflows=("other",)) == ([], False)
    assert await _ids(stage, "w2", queues=("x", "default"), workflows=("y", "flow")) == (
        ["q"],
        False,
    )


async def a_question_about_what_is_left_to_others_is_theirs(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await _begun(stage, "a", "b")
    for id in ("a", "b"):
        await _ask(stage, f"q{id}", id)
    assert await _ids(stage, exclude_ids=("a", "nobody")) == (["qb"], False)
    assert await _ids(stage, exclude_ids=("a",)) == ([], False)
    assert await _ids(stage, "w2", exclude_ids=("b",)) == (["qa"], False)
    await stage.hold("c", life="l1")
    await stage.stored(step("c", 0, life="l1"))
    await _ask(stage, "qc", "c")
    assert await _ids(stage, exclude_ids=("c",)) == (["qc"], False)  # it is its own already


async def what_is_suspended_or_has_ended_is_asked_too(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("suspended", "closed", life="l1")
    await stage.create("never", life="l1")
    await stage.stored(step("suspended", 0, life="l1", suspended=b"{}"))
    await stage.stored(step("closed", 0, life="l1", closing=DONE))
    assert await stage.backend.terminate("never", TERMINATED) == "done"
    for id in ("suspended", "closed", "never"):
        await _ask(stage, id, id)
    taken = (await _take(stage)).questions
    assert sorted((one.id, one.turns) for one in taken) == [
        ("closed", 1),
        ("never", 0),
        ("suspended", 1),
    ]


async def a_question_of_another_life_or_of_what_is_gone_is_nobodys(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b", life="l1")
    for id in ("a", "b"):
        await stage.stored(step(id, 0, life="l1", closing=DONE))
        await _ask(stage, f"q{id}", id)
    assert await stage.backend.remove(ALL, ids=["a"], limit=1) == 1
    assert await stage.backend.create([new("b", life="l2")]) == [True]
    assert await _ids(stage) == ([], False)


async def an_expired_question_is_forgotten(stage: Stage) -> None:
    await stage.workers("w1")
    await _begun(stage, "a")
    await _ask(stage, "q", expires_at=stage.backend.now() + 0.2)
    await stage.pass_time(0.3)
    assert await _ids(stage) == ([], False)
    await _ask(stage, "later")
    assert await _ids(stage) == (["later"], False)


CASES: tuple[Case, ...] = (
    a_question_is_given_once_and_answered,
    only_the_life_that_is_meant_is_asked,
    a_question_waits_for_the_first_turn,
    a_question_is_for_the_worker_that_holds_the_instance,
    a_question_needs_the_queue_and_the_workflow,
    a_question_about_what_is_left_to_others_is_theirs,
    what_is_suspended_or_has_ended_is_asked_too,
    a_question_of_another_life_or_of_what_is_gone_is_nobodys,
    an_expired_question_is_forgotten,
)
