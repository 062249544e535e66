"""Conformance: schedules hear of the end of their runs, and terminate them in a commit."""

# ruff: noqa: D103 - assertions; a case is described by its name

from __future__ import annotations

import msgspec

from trioflow._model.commands import StartOptions
from trioflow._model.events import CancelRequested, ScheduleRef, encode_event, run_ended
from trioflow.backends.commits import Message, NewInstance
from trioflow.testing.conformance.stage import (
    CANCELLED,
    TERMINATED,
    Case,
    Stage,
    child,
    events,
    new,
    step,
)

_CANCEL = encode_event(CancelRequested("enough"))


def _run(id: str, schedule: NewInstance, *, life: str | None = None) -> NewInstance:
    """Return an instance that a schedule begins; other options are beside what names it."""
    ref = ScheduleRef(schedule.id, schedule.life if life is None else life, 1_700_000_000.5)
    options = msgspec.json.encode(StartOptions(timeout=60.0, schedule=ref))
    return msgspec.structs.replace(new(id), options=options)


def _told(id: str, status: str) -> bytes:
    return encode_event(run_ended(id, status))


async def a_schedule_hears_that_a_run_was_terminated(stage: Stage) -> None:
    await stage.workers("w1")
    schedule = new("daily")
    name = 'daily/"1" \\ é'
    created = [schedule, _run(name, schedule), _run("daily/2", schedule, life="1" * 32)]
    assert await stage.backend.create(created) == [True] * 3
    assert {one.id for one in await stage.take()} == {one.id for one in created}
    # In whatever execution it is: here, in the next.
    await stage.stored(step("daily", 0, continued=b"[]"))
    for id in (name, "daily/2"):
        assert await stage.backend.terminate(id, TERMINATED) == "done"
    (taken,) = await stage.take()
    assert taken.id == "daily"
    (event,) = events([taken])
    assert msgspec.json.decode(event) == msgspec.json.decode(_told(name, "terminated"))


async def a_schedule_hears_that_a_run_was_cancelled_before_it_began(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("daily", "sender")
    runs = [_run(f"daily/{n}", new("daily")) for n in (1, 2)]
    await stage.backend.create(runs)
    assert await stage.backend.cancel("daily/1", _CANCEL, CANCELLED) == "done"
    message = Message("daily/2", _CANCEL, unstarted=CANCELLED)
    await stage.stored(step("sender", 0, messages=[message]))
    assert [(await stage.record(run.id)).status for run in runs] == ["cancelled"] * 2
    (taken,) = await stage.take()
    told = [msgspec.json.decode(event) for event in events([taken])]
    assert told == [msgspec.json.decode(_told(run.id, "cancelled")) for run in runs]


async def a_commit_terminates_another_instance(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("daily", "other")
    await stage.backend.create([_run("daily/1", new("daily"))])
    assert [one.id for one in await stage.take("w2")] == ["daily/1"]
    born = step("below", 0, new=child("below", parent="daily/1"), turns=[], leased=False)
    await stage.stored(step("daily/1", 0), born, worker="w2")
    ends = Message("daily/1", b"", sent=b"done", failed=b"not", terminated=TERMINATED)
    await stage.stored(step("daily", 0, messages=[ends]))
    row = await stage.record("daily/1")
    assert (row.status, row.outcome, row.worker) == ("terminated", TERMINATED, None)
    assert (await stage.record("below")).status == "terminated"
    (taken,) = await stage.take()
    first, second = events([taken])
    assert msgspec.json.decode(first) == msgspec.json.decode(_told("daily/1", "terminated"))
    assert second == b"done"
    nobody = msgspec.structs.replace(ends, instance="nobody")
    await stage.stored(step("other", 0, messages=[ends, nobody]))
    told = {one.id: events([one]) for one in await stage.take()}
    assert told["other"] == [b"not", b"not"]


async def a_terminate_in_a_commit_means_one_life(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("daily", "other")
    wrong = Message("other", b"", sent=b"done", failed=b"not", terminated=TERMINATED, life="2" * 32)
    await stage.stored(step("daily", 0, messages=[wrong]))
    assert (await stage.record("other")).status == "running"
    assert events(await stage.take()) == [b"not"]


CASES: tuple[Case, ...] = (
    a_schedule_hears_that_a_run_was_terminated,
    a_schedule_hears_that_a_run_was_cancelled_before_it_began,
    a_commit_terminates_another_instance,
    a_terminate_in_a_commit_means_one_life,
)
