"""Conformance: what clients ask for."""

# ruff: noqa: D103, PLR2004 - assertions; a case is described by its name

from __future__ import annotations

from functools import partial

import msgspec
import pytest

from trioflow.backends.abc import Backend
from trioflow.backends.commits import ActivityRetry, CommitFailure, Message, Unit
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import Heartbeat, QueueStats
from trioflow.errors import InstanceNotFound
from trioflow.testing.conformance.stage import (
    ALL,
    DONE,
    LEASE,
    TERMINATED,
    Case,
    Stage,
    child,
    child_failed,
    events,
    key,
    named,
    new,
    result,
    seqs,
    step,
)

_NO_AGES = {"oldest_instance_at": None, "oldest_activity_at": None}


async def terminating_ends_an_instance(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", "0:1"), wake_at=backend.now()))
    await backend.send("a", b"unread")
    assert await stage.take_commands("w2", 1) == ["0:0"]
    assert await backend.terminate("nobody", TERMINATED) == "not found"
    assert await backend.terminate("a", TERMINATED) == "done"
    assert await backend.terminate("a", TERMINATED) == "finished"
    row = await stage.record("a")
    assert (row.status, row.outcome, row.worker) == ("terminated", TERMINATED, None)
    assert (row.unread, row.ready_at) == (0, None)
    assert row.finished_at is not None
    assert await stage.commit(step("a", 1)) == CommitFailure(lost=["a"])
    assert await stage.take("w1") == []
    assert await stage.take_commands("w1") == []
    told = Heartbeat(alive=True, cancelled=[key("a", "0:0")], events=[b""])
    assert backend.heartbeat("w2") == told


async def terminating_takes_the_descendants_along(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("top")
    born = [
        step("mid", 0, new=child("mid", "top", "0:1")),
        step("low", 0, new=child("low", "mid"), activities=named("0:0")),
        step("over", 0, new=child("over", "mid", "0:1"), closing=DONE),
        step("side", 0, new=child("side", "top", "0:2")),
    ]
    await stage.stored(step("top", 0), *born)
    assert await backend.terminate("mid", TERMINATED) == "done"
    statuses = {row.id: row.status for row in await backend.list(ALL, limit=9)}
    assert statuses == {
        "top": "running",
        "mid": "terminated",
        "low": "terminated",
        "over": "completed",
        "side": "running",
    }
    assert await stage.take_commands() == []
    assert child_failed(await stage.take()) == ("0:1", "Terminated")
    assert await backend.terminate("top", TERMINATED) == "done"
    assert (await stage.record("side")).status == "terminated"


async def a_finished_id_may_be_kept_from_use(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("a")
    assert await backend.create([new("a"), new("b")], reuse=False) == [False, True]
    await stage.stored(step("a", 0, closing=DONE))
    assert await backend.create([new("a", life="2")], reuse=False) == [False]
    row = await stage.record("a")
    assert (row.status, row.execution, row.life) == ("completed", 1, "")
    assert await backend.create([new("a", life="3")]) == [True]
    assert (await stage.record("a")).execution == 2


async def a_new_instance_may_replace_an_unfinished_one(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1", "w2")
    await stage.hold("top")
    await stage.stored(step("top", 0), step("a", 0, new=child("a", "top", "0:1")))
    born = step("kid", 0, new=child("kid", "a"))
    await stage.stored(step("a", 1, activities=named("0:0", "0:1")), born)
    assert await stage.take_commands("w2", 1) == ["0:0"]
    anew = [new("a", life="2", queue="q"), new("b", life="3", queue="q")]
    assert await backend.create(anew, replacing=TERMINATED) == [True, True]
    assert await stage.commit(step("a", 2)) == CommitFailure(lost=["a"])
    assert child_failed(await stage.take()) == ("0:1", "Terminated")
    assert (await stage.record("kid")).status == "terminated"
    told = Heartbeat(alive=True, cancelled=[key("a", "0:0")], events=[b""])
    assert backend.heartbeat("w2") == told
    row = await stage.record("a")
    assert (row.status, row.execution, row.life, row.parent) == ("running", 2, "2", None)
    assert await stage.take_commands("w1") == []
    assert sorted(await stage.take_ids("w2", queues=("q",))) == ["a", "b"]
    # What was replaced counts as finished: so its id is free only if those may be used again.
    again = [new("a", life="4"), new("c")]
    created = await backend.create(again, replacing=TERMINATED, reuse=False)
    assert created == [False, True]
    assert (await stage.record("a")).status == "terminated"


async def a_parent_in_a_later_execution_is_not_told(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("p")
    await stage.stored(step("p", 0), step("c", 0, new=child("c", "p")))
    await stage.stored(step("p", 1, continued=b"[]"))
    assert await stage.backend.terminate("c", TERMINATED) == "done"
    assert await stage.take() == []


async def terminating_reaches_the_suspended(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, suspended=b"{}"))
    assert await stage.backend.terminate("a", TERMINATED) == "done"
    assert await stage.backend.resume("a") == "finished"


async def resuming_needs_a_suspended_instance(stage: Stage) -> None:
    await stage.create("a")
    assert await stage.backend.resume("a") == "unchanged"
    assert await stage.backend.resume("nobody") == "not found"


async def an_instance_is_suspended_whoever_holds_it(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1", "w2")
    await stage.hold("held", "over", life="1")
    await stage.create("free", life="1")
    await stage.stored(step("over", 0, life="1", closing=DONE))
    await stage.stored(step("held", 0, life="1", activities=named("0:0"), wake_at=5e9))
    assert await stage.take_commands("w2") == ["0:0"]
    for id in ("held", "free"):
        assert await backend.suspend(id, b'{"why":1}', life="2") == "finished"
        assert await backend.suspend(id, b'{"why":1}', life="1") == "done"
        assert await backend.suspend(id, b'{"why":2}') == "unchanged"
        row = await stage.record(id)
        assert (row.status, row.outcome, row.worker) == ("suspended", b'{"why":1}', None)
        assert row.ready_at is None
    assert await backend.suspend("over", b"{}") == "finished"
    assert await backend.suspend("nobody", b"{}") == "not found"
    assert await stage.commit(step("held", 1, life="1")) == CommitFailure(lost=["held"])
    assert await backend.release_instances("w1", ["held"]) == []
    await backend.recall("w1", [])
    # Its activity goes on, and what comes is kept.
    assert await backend.commit("w2", [result("held", "0:0", b"done", life="1")]) == [None]
    assert await backend.send("free", b"later") == "done"
    assert await stage.take() == []
    assert await backend.resume("held") == "done"
    (taken,) = await stage.take()
    assert [message.event for message in taken.inbox] == [b"done"]
    await stage.stored(step("held", 1, life="1", consumed=seqs(taken)))
    assert await backend.resume("free") == "done"
    assert events(await stage.take()) == [b"later"]


async def a_suspect_may_be_suspended(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1", "w9")
    await stage.hold("a", "b")
    await stage.expire("w1")
    assert [died for _, died in await stage.suspects()] == [1]
    (taken,) = [row.id for row in await backend.list(ALL, limit=9) if row.worker is not None]
    for id in ("a", "b"):
        assert await backend.suspend(id, b"{}") == "done"
    assert await stage.suspects() == []
    assert await backend.resume(taken) == "done"
    assert await stage.take("w9") == []
    assert await stage.suspects() == [(taken, 1)]


async def lists_are_paged_newest_first(stage: Stage) -> None:
    backend = stage.backend
    ids = ["m", "a", "z", "b", "y"]
    await stage.create(*ids)
    seen: list[str] = []
    after: str | None = None
    while page := await backend.list(ALL, limit=2, after=after):
        seen += [row.id for row in page]
        after = seen[-1]
    assert seen == ids[::-1]
    with pytest.raises(InstanceNotFound):
        await backend.list(ALL, limit=2, after="nobody")


async def lists_and_counts_can_be_filtered(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("order-1", "order-2", "order%3", "Order-4")
    await stage.create("other", queue="q", workflow="w")
    await stage.pass_time(0.01)
    await stage.stored(step("order-1", 0), step("kid", 0, new=child("kid", "order-1")))
    await stage.stored(step("order-2", 0, closing=DONE))
    await stage.stored(step("order%3", 0, suspended=b"{}"))
    other = await stage.record("other")
    finished_at = (await stage.record("order-2")).finished_at
    assert finished_at is not None
    for where, expected in (
        (ALL, "kid other Order-4 order%3 order-2 order-1"),
        (InstanceFilter(status=("running",)), "kid other Order-4 order-1"),
        (InstanceFilter(status=("completed", "suspended")), "order%3 order-2"),
        (InstanceFilter(status=("failed",)), ""),
        (InstanceFilter(workflow="w"), "other"),
        (InstanceFilter(queue="q"), "other"),
        (InstanceFilter(workflow="w", queue="default"), ""),
        (InstanceFilter(parent="order-1"), "kid"),
        (InstanceFilter(parent="", id_prefix="o"), "other order%3 order-2 order-1"),
        (InstanceFilter(id_prefix="order-"), "order-2 order-1"),
        (InstanceFilter(id_prefix="order%"), "order%3"),
        (InstanceFilter(id_prefix="Order"), "Order-4"),
        (InstanceFilter(created_before=other.created_at), "Order-4 order%3 order-2 order-1"),
        (InstanceFilter(created_after=other.created_at), "kid"),
        (InstanceFilter(finished_before=finished_at), ""),
        (InstanceFilter(finished_before=finished_at + 1), "order-2"),
    ):
        assert [row.id for row in await backend.list(where, limit=99)] == expected.split(), where
        assert await backend.count(where) == len(expected.split()), where


async def stats_count_by_queue(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("a", "b", "c", "d")
    await stage.create("free", "free-too", queue="x")
    await stage.stored(step("a", 0, activities=named("0:0", "0:1", "0:2", queue="acts")))
    await stage.stored(step("b", 0, suspended=b"{}"))
    await stage.stored(step("c", 0, closing=DONE))
    await stage.stored(step("d", 0, leased=False, wake_at=backend.now() + 1000))
    await stage.take_commands(limit=1, queues=("acts",))
    found = await backend.stats()
    oldest = [(one.oldest_instance_at, one.oldest_activity_at) for one in found]
    assert [msgspec.structs.replace(one, **_NO_AGES) for one in found] == [
        QueueStats(queue="acts", pending_activities=2, running_activities=1),
        QueueStats(queue="default", running=2, suspended=1),
        QueueStats(queue="x", running=2, pending_instances=2),
    ]
    (_, activity_at), default, (instance_at, _) = oldest
    assert default == (None, None)
    assert instance_at == (await stage.record("free")).ready_at
    assert activity_at == (await stage.task("a", "0:1")).scheduled_at


async def what_waits_for_its_time_is_not_old(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", leased=True)))
    later = stage.backend.now() + 1000
    retry = ActivityRetry(key("a", "0:0"), 2, later, b"failed")
    assert await stage.backend.commit("w1", [Unit(retries=[retry])]) == [None]
    await stage.create("b", start_at=later)
    (queue,) = await stage.backend.stats()
    assert (queue.pending_instances, queue.pending_activities) == (0, 1)
    assert (queue.oldest_instance_at, queue.oldest_activity_at) == (None, None)


async def stats_count_who_serves_a_queue(stage: Stage) -> None:
    backend = stage.backend
    register = partial(backend.register_worker, name="one of some")
    queues = ["default", "default", "empty"]
    await register("w1", queues=queues, activity_queues=["acts"])
    queues = ["default", "acts", "acts"]
    await register("w2", queues=["default"], activity_queues=queues)
    await register("w3")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", queue="acts")))
    await stage.create("free", queue="Default")
    assert await _serving(backend) == {"acts": (0, 2), "default": (2, 1), "Default": (0, 0)}
    await backend.release_worker("w2")
    assert await _serving(backend) == {"acts": (0, 1), "default": (1, 0), "Default": (0, 0)}
    await stage.expire("w1", "w3", survivors=())
    assert await _serving(backend) == {"acts": (0, 0), "default": (0, 0), "Default": (0, 0)}


async def stats_count_those_whose_heartbeat_holds(stage: Stage) -> None:
    backend = stage.backend
    await stage.create("a")
    queues = ("default",)
    register = partial(backend.register_worker, queues=queues, activity_queues=queues)
    await register("w1", "whose lease ends", lease=LEASE)
    await register("w2", "whose lease is long", lease=LEASE * 100)
    await register("w3", "without a lease")
    assert await _serving(backend) == {"default": (3, 3)}
    await stage.pass_time(LEASE * 1.1)
    assert await _serving(backend) == {"default": (2, 2)}
    assert backend.heartbeat("w1").alive
    assert await _serving(backend) == {"default": (3, 3)}


async def _serving(backend: Backend) -> dict[str, tuple[int, int]]:
    return {one.queue: (one.workers, one.activity_workers) for one in await backend.stats()}


async def only_finished_instances_are_removed(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("a", "b", "c", "d")
    for id in ("a", "b", "c"):
        await stage.stored(step(id, 0, closing=DONE, activities=named("0:0")))
        await stage.pass_time(0.01)
    assert await backend.remove(ALL, ids=["d", "nobody"], limit=9) == 0
    assert await backend.remove(ALL, ids=[], limit=9) == 0
    cut = (await stage.record("b")).finished_at
    assert await backend.remove(InstanceFilter(finished_before=cut), limit=9) == 1
    assert await backend.get("a") is None
    assert await backend.history("a") == []
    assert await stage.turns("a") == []
    assert await backend.remove(ALL, ids=["c", "d"], limit=9) == 1
    assert [row.id for row in await backend.list(ALL, limit=9)] == ["d", "b"]
    assert (await stage.record("b")).turns == 1
    assert await backend.remove(ALL, limit=9) == 1
    assert await backend.create([]) == []
    await stage.create("a")
    assert (await stage.record("a")).execution == 1


async def removing_is_limited(stage: Stage) -> None:
    await stage.workers("w1")
    ids = [f"{number}" for number in range(5)]
    await stage.hold(*ids)
    for id in ids:
        await stage.stored(step(id, 0, closing=DONE))
    assert await stage.backend.remove(ALL, limit=2) == 2
    assert [row.id for row in await stage.backend.list(ALL, limit=9)] == ["4", "3", "2"]
    strangers = [f"stranger-{number}" for number in range(1200)]
    wanted = ["2", *strangers, "3", "4"]
    assert await stage.backend.remove(ALL, ids=wanted, limit=2) == 2
    assert await stage.backend.count(ALL) == 1


async def removed_instances_get_no_messages(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    await stage.stored(step("b", 0, closing=DONE))
    assert await stage.backend.remove(ALL, limit=9) == 1
    await stage.stored(step("a", 0, messages=[Message("b", b"x", failed=b"no")]))
    assert events(await stage.take()) == [b"no"]


async def an_unknown_history_is_empty(stage: Stage) -> None:
    await stage.create("a")
    assert await stage.backend.history("nobody") == []
    assert await stage.backend.activities("nobody") == []
    (execution,) = await stage.backend.history("a")
    assert (execution.number, execution.turns) == (1, [])


CASES: tuple[Case, ...] = (
    terminating_ends_an_instance,
    terminating_takes_the_descendants_along,
    a_finished_id_may_be_kept_from_use,
    a_new_instance_may_replace_an_unfinished_one,
    a_parent_in_a_later_execution_is_not_told,
    terminating_reaches_the_suspended,
    resuming_needs_a_suspended_instance,
    an_instance_is_suspended_whoever_holds_it,
    a_suspect_may_be_suspended,
    lists_are_paged_newest_first,
    lists_and_counts_can_be_filtered,
    stats_count_by_queue,
    what_waits_for_its_time_is_not_old,
    stats_count_who_serves_a_queue,
    stats_count_those_whose_heartbeat_holds,
    only_finished_instances_are_removed,
    removing_is_limited,
    removed_instances_get_no_messages,
    an_unknown_history_is_empty,
)
