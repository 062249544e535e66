"""Conformance: what is kept of executions that have ended, and for how long."""

# ruff: noqa: D103 - assertions; a case is described by its name

from __future__ import annotations

from typing import Any

from trioflow.backends.commits import InstanceCommit
from trioflow.backends.records import EndedExecution
from trioflow.backends.resets import Beginning, Reset
from trioflow.testing.conformance.stage import (
    ALL,
    DONE,
    TERMINATED,
    Case,
    Stage,
    child,
    step,
)

_OLD = "1" * 32
_NEW = "2" * 32
_FUTURE = 4e9


def _shown(kept: list[EndedExecution]) -> list[tuple[Any, ...]]:
    return [
        (one.how, one.record.execution, one.record.status, one.record.life, one.record.turns)
        for one in kept
    ]


async def _continue(stage: Stage, execution: int, **fields: Any) -> None:
    commit = step("a", 0, execution=execution, life=_OLD, continued=b"[2]", **fields)
    await stage.stored(commit)


async def a_continued_execution_is_kept(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("a", life=_OLD, metadata=b'{"m":"1"}', priority=3)
    before = await stage.record("a")
    await _continue(stage, 1, events=7, status=b'"half"', attributes=b"")
    await stage.pass_time(0.01)
    await _continue(stage, 2, events=9, leased=False)
    first, second = await backend.executions("a")
    assert _shown([first, second]) == [
        ("continued", 1, "running", _OLD, 1),
        ("continued", 2, "running", _OLD, 1),
    ]
    row = first.record
    assert (row.id, row.workflow, row.queue, row.priority) == ("a", "flow", "default", 3)
    assert (row.events, row.custom_status, row.outcome) == (7, b'"half"', b"")
    assert (row.input, row.metadata, row.unread, row.worker) == (b"", b"", 0, None)
    assert row.created_at == before.created_at
    assert row.finished_at is not None
    assert second.record.finished_at is not None
    assert before.created_at <= row.finished_at < second.record.finished_at <= backend.now()
    present = await stage.record("a")
    assert (present.execution, present.finished_at) == (3, None)
    assert await backend.executions("nobody") == []


async def an_execution_that_is_reset_is_kept(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("a", life=_OLD, metadata=b'{"m":"1"}', priority=3)
    await stage.stored(step("a", 0, life=_OLD, events=5, status=b'"half"', closing=DONE))
    ended = await stage.record("a")
    await stage.pass_time(0.01)
    for execution, turns in ((1, 1), (2, 0)):
        reset = Reset(
            id="a",
            life=_OLD,
            execution=execution,
            turns=turns,
            inbox=[],
            ending=b"{}",
            beginning=Beginning(),
            outcome=TERMINATED,
        )
        assert await backend.reset(reset) == "done"
        assert await backend.reset(reset) == "changed"
    first, second = await backend.executions("a")
    assert _shown([first, second]) == [
        ("reset", 1, "completed", _OLD, 1),
        ("reset", 2, "running", _OLD, 0),
    ]
    row = first.record
    assert (row.priority, row.events, row.custom_status) == (3, 5, b'"half"')
    assert (row.input, row.metadata, row.outcome) == (b"", b"", DONE.outcome)
    assert row.finished_at is not None
    assert ended.finished_at is not None
    assert ended.finished_at < row.finished_at <= backend.now()
    assert await backend.remove_executions(_FUTURE, limit=9) == len([first, second])
    assert await backend.executions("a") == []
    assert [(one.number, one.turns) for one in await backend.history("a")] == [(3, [])]


async def the_row_of_a_life_is_kept_when_another_takes_its_id(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("p", life=_OLD)
    born = child("a", "p", parent_life=_OLD, life=_OLD)
    await stage.stored(
        step("p", 0, life=_OLD),
        step("a", 0, life=_OLD, new=born, status=b'"done"', events=4, closing=DONE),
    )
    ended = await stage.record("a")
    assert await backend.executions("a") == []
    await stage.create("a", life=_NEW)
    (kept,) = await backend.executions("a")
    assert kept == EndedExecution("ended", ended)
    assert (kept.record.parent, kept.record.outcome) == (born.parent, DONE.outcome)


async def whoever_takes_an_id_keeps_the_row_of_the_life_before(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("p")
    await stage.create("a", life=_OLD)
    assert await backend.terminate("a", TERMINATED) == "done"
    unstarted = InstanceCommit(
        id="a", execution=1, number=0, new=child("a", "p", life=_NEW), life=_NEW, leased=False
    )
    await stage.stored(step("p", 0), unstarted)
    assert _shown(await backend.executions("a")) == [("ended", 1, "terminated", _OLD, 0)]
    assert await backend.terminate("a", TERMINATED) == "done"
    from_outside = child("a", "nobody", life=_OLD)
    assert (await backend.create_and_send(from_outside, b"x")).created
    assert [row[:4] for row in _shown(await backend.executions("a"))] == [
        ("ended", 1, "terminated", _OLD),
        ("ended", 2, "terminated", _NEW),
    ]
    assert await backend.create([child("a", "p", life=_NEW)], replacing=TERMINATED) == [True]
    assert [row[:4] for row in _shown(await backend.executions("a"))][2:] == [
        ("ended", 3, "terminated", _OLD)
    ]


async def a_commit_that_is_refused_keeps_no_execution(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b", life=_OLD)
    await _continue(stage, 1)
    for stale in (
        step("a", 0, life=_OLD, continued=b"[3]"),
        step("b", 3, life=_OLD, continued=b"[3]"),
        step("b", 0, life=_NEW, continued=b"[3]"),
        step("nobody", 0, life=_OLD, continued=b"[3]"),
    ):
        failure = await stage.commit(stale)
        assert failure is not None
        assert failure.lost == [stale.id]
    assert [row[:2] for row in _shown(await stage.backend.executions("a"))] == [("continued", 1)]
    assert await stage.backend.executions("b") == []


async def old_executions_are_removed_with_their_turns(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("a", life=_OLD)
    ends: list[float] = []
    for execution in range(1, 5):
        await _continue(stage, execution, turns=[b"%d" % execution])
        await stage.pass_time(0.01)
        ends.append(backend.now())
        await stage.pass_time(0.01)
    await stage.stored(step("a", 0, execution=5, life=_OLD, turns=[b"5"]))
    assert await backend.remove_executions(ends[1], limit=1) == 1
    assert await backend.remove_executions(ends[1], limit=9) == 1
    assert await backend.remove_executions(ends[1], limit=9) == 0
    assert [one.record.execution for one in await backend.executions("a")] == [3, 4]
    assert [(one.number, one.turns) for one in await backend.history("a")] == [
        (3, [b"3"]),
        (4, [b"4"]),
        (5, [b"5"]),
    ]
    kept = await backend.executions("a")
    assert await backend.remove_executions(_FUTURE, limit=9) == len(kept)
    assert await backend.executions("a") == []
    # The last one stays, and goes on; so does one that has ended.
    await stage.stored(step("a", 1, execution=5, life=_OLD, turns=[b"6"], closing=DONE))
    assert await backend.remove_executions(_FUTURE, limit=9) == 0
    assert [(one.number, one.turns) for one in await backend.history("a")] == [(5, [b"5", b"6"])]


async def removing_an_instance_removes_its_executions(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("a", life=_OLD)
    await _continue(stage, 1)
    await stage.stored(step("a", 0, execution=2, life=_OLD, closing=DONE))
    await stage.create("a", life=_NEW)
    assert await backend.terminate("a", TERMINATED) == "done"
    assert [one.how for one in await backend.executions("a")] == ["continued", "ended"]
    assert await backend.remove(ALL, limit=9) == 1
    assert await backend.executions("a") == []
    # What takes the id now counts from 1 again, and loses nothing to what was there before.
    await stage.hold("a", life=_NEW)
    await stage.stored(step("a", 0, life=_NEW, turns=[b"new"]))
    assert await backend.remove_executions(_FUTURE, limit=9) == 0
    assert [one.turns for one in await backend.history("a")] == [[b"new"]]


CASES: tuple[Case, ...] = (
    a_continued_execution_is_kept,
    an_execution_that_is_reset_is_kept,
    the_row_of_a_life_is_kept_when_another_takes_its_id,
    whoever_takes_an_id_keeps_the_row_of_the_life_before,
    a_commit_that_is_refused_keeps_no_execution,
    old_executions_are_removed_with_their_turns,
    removing_an_instance_removes_its_executions,
)
