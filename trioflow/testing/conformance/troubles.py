"""Conformance: which instances are in trouble, how many, and what is tried again."""

# ruff: noqa: D103 - assertions; a case is described by its name

from __future__ import annotations

import msgspec

from trioflow.backends.commits import ActivityRetry, Unit
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import Trouble
from trioflow.testing.conformance.stage import (
    DONE,
    LEASE,
    TERMINATED,
    Case,
    Stage,
    key,
    named,
    step,
)

_LONG = 1000.0


async def _ids(stage: Stage, trouble: Trouble, after: float = _LONG, **fields: object) -> list[str]:
    """Return those that are in a trouble, in the order of a list; count them in every way."""
    backend = stage.backend
    where = InstanceFilter(trouble=trouble, trouble_after=after)
    where = msgspec.structs.replace(where, **fields)
    found = [one.id for one in await backend.list(where, limit=99)]
    assert await backend.count(where) == len(found)
    assert await backend.count(where, most=1) == min(len(found), 1)
    by_queue = await backend.count_by(where, "queue")
    assert sum(one.number for one in by_queue) == len(found)
    if not fields:
        assert (await backend.troubles(after))[trouble] == len(found)
    paged: list[str] = []
    for _ in range(len(found)):
        paged += [
            one.id for one in await backend.list(where, limit=1, after=paged[-1] if paged else None)
        ]
    assert paged == found
    return found


async def _serve(stage: Stage, worker: str, *queues: str, lease: float | None = None) -> None:
    await stage.backend.register_worker(
        worker, worker, queues=queues, activity_queues=queues, lease=lease
    )


async def what_is_well_is_in_no_trouble(stage: Stage) -> None:
    await _serve(stage, "w1", "default")
    await stage.hold("sleeps", "calls", "ends", "works")
    await stage.stored(step("sleeps", 0, wake_at=stage.backend.now() + 1000, leased=False))
    await stage.stored(step("calls", 0, activities=named("0:0", leased=True)))
    await stage.stored(step("ends", 0, closing=DONE, leased=False))
    await stage.create("waits")
    assert set((await stage.backend.troubles(_LONG)).values()) == {0}
    for kind in ("retrying", "unserved", "overdue", "suspended", "held"):
        assert await _ids(stage, kind) == []


async def what_is_tried_again_is_retrying(stage: Stage) -> None:
    await _serve(stage, "w1", "default")
    await stage.hold("waits", "runs", "both", "well", "other", "stops", "ends")
    for id in ("waits", "runs", "both", "well", "other", "stops", "ends"):
        tasks = named("0:0", "0:1", leased=True)
        await stage.stored(step(id, 0, activities=tasks))
    soon, late = stage.backend.now() - 1, stage.backend.now() + 1000
    retries = [
        ActivityRetry(key("waits", "0:1"), 2, late, b"failed"),
        ActivityRetry(key("runs", "0:0"), 5, soon, b"failed"),
        ActivityRetry(key("both", "0:0"), 3, late, b"once"),
        ActivityRetry(key("both", "0:1"), 4, late, b"twice"),
        ActivityRetry(key("stops", "0:0"), 2, late, b"failed"),
        ActivityRetry(key("ends", "0:0"), 2, late, b"failed"),
        ActivityRetry(key("other", "0:0"), 2, late, b"failed"),
    ]
    assert await stage.backend.commit("w1", [Unit(retries=retries)]) == [None]
    assert await stage.take_commands() == ["0:0"]
    await stage.stored(step("stops", 1, suspended=b"{}", leased=False))
    await stage.stored(step("ends", 1, finished=["0:0", "0:1"], closing=DONE, leased=False))
    await stage.stored(step("other", 1, finished=["0:0"]))
    assert await _ids(stage, "retrying") == ["both", "runs", "waits"]
    assert await _ids(stage, "retrying", id_prefix="w") == ["waits"]
    assert await _ids(stage, "retrying", status=("suspended",)) == []
    found = await stage.backend.tried_again(["both", "stops", "runs", "well", "nobody", "ends"])
    told = sorted((one.key.instance, one.attempt, one.failure) for one in found)
    assert told == [("both", 4, b"twice"), ("runs", 5, b"failed")]
    await stage.backend.terminate("both", TERMINATED)
    assert await _ids(stage, "retrying") == ["runs", "waits"]
    assert await stage.backend.tried_again([]) == []


async def an_activity_of_a_worker_that_died_is_retrying(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a", worker="w2")
    await stage.stored(step("a", 0, activities=named("0:0")), worker="w2")
    assert await stage.take_commands("w1") == ["0:0"]
    await stage.backend.release_worker("w1", died=True)
    assert await _ids(stage, "retrying") == ["a"]


async def what_nobody_serves_is_unserved(stage: Stage) -> None:
    backend = stage.backend
    await _serve(stage, "w1", "default", "left")
    await stage.create("ready", queue="nobody")
    await stage.create("later", queue="nobody", start_at=backend.now() + 1000)
    await stage.create("served")
    await stage.hold("calls", "waits", "left", queue="left")
    await stage.stored(step("calls", 0, activities=named("0:0", queue="no acts"), leased=False))
    await stage.stored(step("waits", 0, activities=named("0:0", leased=True, queue="no acts")))
    retry = ActivityRetry(key("waits", "0:0"), 2, backend.now() + 1000, b"failed")
    assert await backend.commit("w1", [Unit(retries=[retry])]) == [None]
    assert await _ids(stage, "unserved") == ["calls", "ready"]
    assert await _ids(stage, "unserved", queue="nobody") == ["ready"]
    await _serve(stage, "w2", "nobody", lease=LEASE)
    assert await _ids(stage, "unserved") == ["calls"]
    await stage.pass_time(LEASE * 1.1)
    assert await _ids(stage, "unserved") == ["calls", "ready"]  # that worker is dead
    await backend.release_worker("w1")
    await backend.release_worker("w2")
    assert await _ids(stage, "unserved") == ["left", "waits", "calls", "served", "ready"]


async def what_nobody_has_taken_is_overdue(stage: Stage) -> None:
    backend = stage.backend
    await _serve(stage, "w1", "default")
    await stage.hold("calls", "sent", "held")
    await stage.stored(step("calls", 0, activities=named("0:0"), leased=False))
    await stage.stored(step("sent", 0, leased=False))
    await stage.stored(step("held", 0, activities=named("0:0", leased=True)))
    assert await backend.send("sent", b"event") == "done"
    await stage.create("waits")
    await stage.create("later", start_at=backend.now() + 1000)
    await stage.pass_time(LEASE)
    await stage.create("fresh")
    assert await _ids(stage, "overdue", LEASE * 0.8) == ["waits", "sent", "calls"]
    assert await stage.take_ids() == ["sent", "waits", "fresh"]
    assert await _ids(stage, "overdue", LEASE * 0.8) == ["calls"]
    assert await stage.take_commands() == ["0:0"]
    assert await _ids(stage, "overdue", 0.0) == []


async def what_is_suspended_is_in_trouble(stage: Stage) -> None:
    await _serve(stage, "w1", "default")
    await stage.hold("diverged", "runs", "paused", "ended")
    await stage.stored(step("diverged", 0, suspended=b"{}", leased=False))
    await stage.backend.suspend("paused", b"{}")
    await stage.backend.suspend("ended", b"{}")
    await stage.backend.terminate("ended", TERMINATED)
    assert await _ids(stage, "suspended") == ["paused", "diverged"]
    assert await _ids(stage, "suspended", status=("running", "completed")) == []
    await stage.backend.resume("paused")
    assert await _ids(stage, "suspended") == ["diverged"]


async def what_a_worker_holds_and_does_not_work_on_is_held(stage: Stage) -> None:
    backend = stage.backend
    await _serve(stage, "w1", "default")
    await stage.hold("begins", "sleeps", "calls", "sent", "wakes", "works")
    await stage.stored(step("sleeps", 0, wake_at=backend.now() + 1000))
    await stage.stored(step("calls", 0, activities=named("0:0", leased=True)))
    await stage.stored(step("sent", 0))
    await stage.stored(step("wakes", 0, wake_at=backend.now() - 1))
    await stage.stored(step("works", 0))
    assert await backend.send("sent", b"event") == "done"
    assert await backend.send("works", b"event") == "done"
    taken = {one.id: one.inbox for one in await stage.take(limit=0)}
    assert sorted(taken) == ["sent", "wakes", "works"]
    await stage.pass_time(LEASE)
    await stage.stored(step("works", 1, consumed=[mail.seq for mail in taken["works"]]))
    assert await _ids(stage, "held", LEASE * 0.8) == ["wakes", "sent", "begins"]
    assert await _ids(stage, "held") == []
    await stage.stored(step("begins", 0))
    assert await _ids(stage, "held", LEASE * 0.8) == ["wakes", "sent"]
    assert await backend.release_instances("w1", ["sent"]) == ["sent"]
    assert await _ids(stage, "held", LEASE * 0.8) == ["wakes"]


async def what_has_just_got_a_message_is_not_held_for_long(stage: Stage) -> None:
    backend = stage.backend
    await _serve(stage, "w1", "default")
    await stage.hold("idle", "read", "unread")
    for id in ("idle", "read", "unread"):
        await stage.stored(step(id, 0, wake_at=backend.now() + 1000))
    assert await backend.send("read", b"event") == "done"
    assert await backend.send("unread", b"event") == "done"
    (mail,) = next(one.inbox for one in await stage.take(limit=0) if one.id == "read")
    await stage.stored(step("read", 1, consumed=[mail.seq], wake_at=backend.now() + 1000))
    await stage.pass_time(LEASE)
    assert await _ids(stage, "held", LEASE * 0.8) == ["unread"]
    assert await backend.send("idle", b"event") == "done"
    assert await backend.send("read", b"event") == "done"
    assert await _ids(stage, "held", LEASE * 0.8) == ["unread"]
    await stage.pass_time(LEASE)
    assert await _ids(stage, "held", LEASE * 0.8) == ["unread", "read", "idle"]


async def what_the_dead_hold_is_held(stage: Stage) -> None:
    await _serve(stage, "w1", "default", lease=LEASE)
    await _serve(stage, "w2", "default")
    await stage.hold("theirs", "calls", worker="w2")
    await stage.hold("mine")
    await stage.stored(step("mine", 0, wake_at=stage.backend.now() + 1000))
    await stage.stored(step("calls", 0, activities=named("0:0"), leased=False), worker="w2")
    assert await stage.take_commands() == ["0:0"]
    assert await _ids(stage, "held") == []
    await stage.pass_time(LEASE * 1.1)
    assert await _ids(stage, "held") == ["mine", "calls"]
    assert stage.backend.heartbeat("w1").alive
    assert await _ids(stage, "held") == []


async def what_ended_lately_is_found(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("early", "late", "runs")
    await stage.stored(step("early", 0, closing=DONE, leased=False))
    await stage.pass_time(0.01)
    await stage.stored(step("late", 0, closing=DONE, leased=False))
    early = await stage.record("early")
    where = InstanceFilter(finished_after=early.finished_at)
    assert [one.id for one in await backend.list(where, limit=9)] == ["late"]
    assert await backend.count(msgspec.structs.replace(where, status=("completed",))) == 1
    assert await backend.count(msgspec.structs.replace(where, status=("failed",))) == 0
    since = InstanceFilter(finished_after=(early.finished_at or 0.0) - 1)
    assert [one.id for one in await backend.list(since, limit=9)] == ["late", "early"]


async def pages_of_a_workflow_and_of_statuses_are_in_the_order_of_all(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    names = [f"i{number}" for number in range(6)]
    for number, id in enumerate(names):
        await stage.hold(id, workflow="even" if number % 2 == 0 else "odd")
    await stage.stored(step("i1", 0, closing=DONE, leased=False))
    await stage.stored(step("i4", 0, closing=DONE, leased=False))
    await stage.stored(step("i5", 0, suspended=b"{}", leased=False))
    for where, expected in (
        (InstanceFilter(workflow="odd"), "i5 i3 i1"),
        (InstanceFilter(workflow="odd", status=("completed", "suspended")), "i5 i1"),
        (InstanceFilter(status=("running", "completed")), "i4 i3 i2 i1 i0"),
        (InstanceFilter(status=("completed", "completed")), "i4 i1"),
        (InstanceFilter(workflow="even", queue="default"), "i4 i2 i0"),
    ):
        found: list[str] = []
        while page := await backend.list(where, limit=2, after=found[-1] if found else None):
            found += [one.id for one in page]
        assert found == expected.split(), where


CASES: tuple[Case, ...] = (
    what_is_well_is_in_no_trouble,
    what_is_tried_again_is_retrying,
    an_activity_of_a_worker_that_died_is_retrying,
    what_nobody_serves_is_unserved,
    what_nobody_has_taken_is_overdue,
    what_is_suspended_is_in_trouble,
    what_a_worker_holds_and_does_not_work_on_is_held,
    what_has_just_got_a_message_is_not_held_for_long,
    what_the_dead_hold_is_held,
    what_ended_lately_is_found,
    pages_of_a_workflow_and_of_statuses_are_in_the_order_of_all,
)
