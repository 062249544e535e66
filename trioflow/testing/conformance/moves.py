"""Conformance: the fence of a move, and what is read for it and added by it.

A store that is no `MovableBackend` passes all of these.
"""

# ruff: noqa: D103 - assertions; a case is described by its name

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, cast

import msgspec

from trioflow._model.limits import Limit
from trioflow.backends.commits import (
    ActivityProgress,
    ActivityRetry,
    Answer,
    CancelledActivity,
    Message,
    NewQuestion,
    SharedClaim,
    Unit,
)
from trioflow.backends.moves import Fence, MovableBackend, MovedInstance
from trioflow.backends.records import RequestKey
from trioflow.backends.resets import Beginning
from trioflow.errors import LeaseLost, StoreFenced
from trioflow.testing.conformance.stage import (
    ALL,
    DONE,
    LEASE,
    TERMINATED,
    Case,
    Stage,
    child,
    key,
    named,
    new,
    step,
)

_LIFE = "1" * 32
_MOVE = "5" * 32


def _fence(role: Literal["source", "destination"] = "source", move: str = _MOVE) -> Fence:
    return Fence(move=move, role=role, other="the other store", at=1.0)


def _movable(stage: Stage) -> MovableBackend | None:
    backend: Any = stage.backend
    return cast("MovableBackend", backend) if hasattr(backend, "import_instances") else None


async def _export(backend: MovableBackend) -> list[MovedInstance]:
    """Return all instances, in pages of two."""
    found: list[MovedInstance] = []
    while page := await backend.export(limit=2, after=found[-1].id if found else None):
        found += page
    return found


async def _empty(backend: MovableBackend) -> None:
    """Remove all that a closed destination holds, and let it be filled anew."""
    assert await backend.clear(_MOVE)
    assert await backend.lift_fence(_MOVE, forget=True)
    assert await backend.fence(_fence("destination")) is None


async def _make_busy(stage: Stage) -> None:
    """Store an instance with all that can belong to one."""
    backend = stage.backend
    await stage.hold(
        "busy", life=_LIFE, priority=5, options=b"{}", attributes=b'{"n":1,"tags":["a","b"]}'
    )
    acts = named("0:0", "0:1", "0:2", leased=True, options=b"{}", priority=7)
    kid = child("kid", "busy", parent_life=_LIFE)
    await stage.stored(
        step("busy", 0, life=_LIFE, activities=acts, status=b'"at it"'),
        step("kid", 0, new=kid, turns=[], leased=False),
    )
    keys = [key("busy", command, life=_LIFE) for command in ("0:0", "0:1")]
    retry = ActivityRetry(keys[0], 3, 5e9, b'{"failure":1}')
    unit = Unit(retries=[retry], progress=[ActivityProgress(keys[1], b"[1]")])
    assert await backend.commit("w1", [unit]) == [None]
    assert await backend.send("busy", b"first", life=_LIFE, request="r1") == "done"
    (row,) = await stage.take(limit=0)
    consumed = [message.seq for message in row.inbox]
    answers = [Answer("r1", b"\xff answered")]
    await stage.stored(step("busy", 1, life=_LIFE, consumed=consumed, answers=answers))
    assert await backend.send("busy", b"second", life=_LIFE, request="r2") == "done"
    own = Message("busy", b"own", execution=1, life=_LIFE)
    await stage.stored(step("busy", 2, life=_LIFE, messages=[own], wake_at=5e9))


async def _fill(stage: Stage) -> None:
    """Store instances in all states."""
    backend = stage.backend
    await stage.workers("w1")
    await stage.create("later", start_at=4e9, priority=-3, options=b'{"o":1}', metadata=b"{}")
    await _make_busy(stage)
    await stage.hold("over", queue="q")
    await stage.stored(step("over", 0, closing=DONE))
    await stage.hold("over", queue="q")
    await stage.stored(step("over", 0, execution=2, continued=b"[2]", carried=b"[3]"))
    await stage.stored(step("over", 0, execution=3, turns=[b"\xfe", b"2"]))
    await stage.hold("done", queue="q")
    await stage.stored(step("done", 0, closing=DONE))
    await stage.hold("paused", queue="q")
    await stage.stored(step("paused", 0, suspended=b'{"kind":"paused"}'))
    await stage.create("ended")
    assert await backend.terminate("ended", TERMINATED) == "done"
    fork = Beginning(turns=[b"0"], events=2, wake_at=1.0, carried=b"[]")
    assert await backend.fork(new("forked"), fork)


async def _share(stage: Stage) -> None:
    """Let instances share things, and set limits."""
    backend = stage.backend
    await stage.workers("w2")
    await stage.hold("l1", "l2", "l3", worker="w2", queue="shared")
    claims = [
        ("l1", SharedClaim("take", "lock", "0:0")),
        ("l2", SharedClaim("take", "lock", "0:0")),
        ("l3", SharedClaim("set", "flag", "0:0")),
        ("l3", SharedClaim("take", "none", "0:1", size=0)),
    ]
    for number, (id, claim) in enumerate(claims):
        turns = (await stage.record(id)).turns
        message = Message(id, b"granted %d" % number, execution=1, life="", claim=claim)
        await stage.stored(step(id, turns, messages=[message]), worker="w2")
    await backend.set_limit(Limit(kind="activity", name="act", rate=5, per=60.0))
    await backend.set_limit(Limit(kind="queue", name="keyed", concurrency=3, key="k"))
    await backend.set_limit(Limit(kind="workflow", name="flow", concurrency=20))
    acts = named("0:5", "0:6", queue="slow")
    await stage.stored(step("l1", 1, activities=acts), worker="w2")
    assert len(await stage.take_commands("w2", 1, queues=("slow",))) == 1


async def a_closed_store_takes_no_work(stage: Stage) -> None:
    backend = _movable(stage)
    if backend is None:
        return
    await stage.workers("w1")
    await stage.hold("a", life=_LIFE)
    await stage.stored(step("a", 0, life=_LIFE, activities=named("0:0", leased=True)))
    await stage.create("b")
    await stage.hold("c", queue="q")
    await stage.stored(step("c", 0, closing=DONE))
    assert await backend.fenced() is None
    assert await backend.fence(_fence()) is None
    assert await backend.fenced() == _fence()
    event = b"event"
    refused: list[Callable[[], Awaitable[object]]] = [
        lambda: backend.register_worker("w2", "late"),
        lambda: backend.create([new("n")]),
        lambda: backend.send("a", event),
        lambda: backend.send("a", event, request="r"),
        lambda: backend.create_and_send(new("a"), event),
        lambda: backend.create_and_send(new("n"), event),
        lambda: backend.cancel("a", event, b"{}"),
        lambda: backend.terminate("a", TERMINATED),
        lambda: backend.suspend("a", b"{}"),
        lambda: backend.fork(new("f"), Beginning()),
        lambda: backend.remove(ALL, limit=9),
        lambda: backend.set_limit(Limit(kind="queue", name="q", concurrency=1)),
        lambda: backend.ask(NewQuestion("q", "a", _LIFE, b"?", 9e9)),
    ]
    for number, call in enumerate(refused):
        try:
            await call()
        except StoreFenced as exc:
            assert "the other store" in str(exc)  # noqa: PT017 - this is no test of pytest's
        else:
            raise AssertionError(f"call {number} was not refused")
    row = await stage.record("a")
    assert (row.status, row.worker, row.unread, row.turns) == ("running", None, 0, 1)
    assert await backend.get("n") is None
    assert await backend.get("c") is not None
    assert not (await backend.limits()).limits


async def the_workers_of_a_closed_store_are_at_their_end(stage: Stage) -> None:
    backend = _movable(stage)
    if backend is None:
        return
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", leased=True)))
    assert await backend.fence(_fence()) is None
    assert not backend.heartbeat("w1").alive
    try:
        await stage.stored(step("a", 1))
    except LeaseLost:
        pass
    else:
        raise AssertionError("it has committed")
    assert await stage.take() == []
    assert await stage.take_commands() == []
    await backend.release_worker("w1")
    assert await backend.reclaim(LEASE) == []
    (task,) = await backend.activities("a")
    assert task.attempt == 1 + 1
    (moved,) = await _export(backend)
    assert moved.deaths is None
    assert moved.record.ready_at is not None
    assert [one.attempt for one in moved.activities] == [2]


async def what_was_to_be_cancelled_ends_with_its_worker(stage: Stage) -> None:
    backend = _movable(stage)
    if backend is None:
        return
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", leased=True)))
    cancel = [CancelledActivity("0:0", b"it was cancelled")]
    await stage.stored(step("a", 1, cancelled=cancel))
    assert await backend.fence(_fence()) is None
    (moved,) = await _export(backend)
    assert moved.activities == []
    assert [(one.event, one.execution) for one in moved.inbox] == [(b"it was cancelled", 1)]


async def a_store_is_in_one_move_at_a_time(stage: Stage) -> None:
    backend = _movable(stage)
    if backend is None:
        return
    assert await backend.fence(_fence()) is None
    assert await backend.fence(_fence()) is None
    assert await backend.fence(_fence("destination")) == _fence()
    assert await backend.fence(_fence(move="other")) == _fence()
    assert not await backend.lift_fence("other")
    assert await backend.lift_fence(_MOVE)
    assert await backend.lift_fence(_MOVE)
    known = await backend.fenced()
    assert known is not None
    assert (known.closed, known.completed) == (False, False)
    await stage.create("a")
    assert await backend.fence(_fence(move="other")) is None
    assert await backend.lift_fence("other", forget=True)
    assert await backend.fenced() is None
    await stage.create("b")


async def a_destination_knows_that_it_was_open(stage: Stage) -> None:
    backend = _movable(stage)
    if backend is None:
        return
    assert await backend.fence(_fence("destination")) is None
    assert await backend.lift_fence(_MOVE)
    known = await backend.fenced()
    assert known is not None
    assert (known.closed, known.completed) == (False, True)
    assert await backend.fence(_fence("destination")) == known  # it may be in use
    await stage.create("a")
    assert await backend.fence(msgspec.structs.replace(known, closed=True)) is None
    known = await backend.fenced()
    assert known is not None
    assert (known.closed, known.completed) == (True, True)
    assert await backend.fence(_fence("destination")) == known
    assert await backend.lift_fence(_MOVE)


async def what_is_being_cleared_takes_nothing_and_is_not_opened(stage: Stage) -> None:
    backend = _movable(stage)
    if backend is None:
        return
    await stage.create("a")
    await stage.create("b")
    assert await backend.fence(_fence("destination")) is None
    rows, common = await _export(backend), await backend.export_common()
    assert await backend.lift_fence(_MOVE)
    known = await backend.fenced()
    assert known is not None
    assert await backend.fence(msgspec.structs.replace(known, closed=True)) is None
    assert await backend.clear(_MOVE)
    known = await backend.fenced()
    assert known is not None
    assert (known.closed, known.completed, known.clearing) == (True, False, True)
    assert not await backend.import_instances(_MOVE, rows)
    assert not await backend.import_common(_MOVE, common)
    assert not await backend.lift_fence(_MOVE)
    assert await backend.fence(_fence("destination")) is None  # it stays what it is
    assert await backend.fenced() == known
    assert await backend.clear(_MOVE)
    assert await backend.count(ALL) == 0
    assert await backend.lift_fence(_MOVE, forget=True)
    assert await backend.fenced() is None
    await stage.create("a")


async def what_is_added_is_what_was_read(stage: Stage) -> None:
    backend = _movable(stage)
    if backend is None:
        return
    await _fill(stage)
    await _share(stage)
    assert await backend.fence(_fence("destination")) is None
    before, common = await _export(backend), await backend.export_common()
    listed = [one.id for one in await backend.list(ALL, limit=99)]
    assert [one.id for one in before] == listed[::-1]
    assert [(one.name, len(one.claims)) for one in common.shared] == [
        ("flag", 0),
        ("lock", 2),
        ("none", 1),
    ]
    assert [sum(number for _, number in one.begun) for one in common.limits] == [1, 0, 0]
    await _empty(backend)
    assert await backend.count(ALL) == 0
    assert not (await backend.limits()).limits
    assert await backend.import_instances(_MOVE, before)
    assert await backend.import_common(_MOVE, common)
    assert await _export(backend) == before
    assert await backend.export_common() == common
    assert [one.id for one in await backend.list(ALL, limit=99)] == listed
    assert await backend.import_instances(_MOVE, before)  # again: they are there
    assert await backend.import_common(_MOVE, common)
    assert await _export(backend) == before
    assert await backend.export_common() == common


async def what_was_added_goes_on(stage: Stage) -> None:
    backend = _movable(stage)
    if backend is None:
        return
    await _fill(stage)
    assert await backend.fence(_fence("destination")) is None
    before = await _export(backend)
    await _empty(backend)
    assert await backend.import_instances(_MOVE, before)
    assert await backend.lift_fence(_MOVE)
    await stage.workers("w3")
    taken = {one.id: one for one in await stage.take("w3", queues=("default", "q"))}
    assert sorted(taken) == ["busy", "forked", "kid", "over"]
    busy = taken["busy"]
    assert [message.event for message in busy.inbox] == [b"second", b"own"]
    assert (busy.turns, busy.wake_at, busy.life) == (3, 5e9, _LIFE)
    assert await stage.take_commands("w3") == ["0:1", "0:2"]
    task = await stage.task("busy", "0:1")
    assert (task.attempt, task.progress, task.priority) == (2, b"[1]", 7)
    task = await stage.task("busy", "0:0")
    assert (task.attempt, task.failure) == (3, b'{"failure":1}')
    answers = await backend.answers([RequestKey("busy", _LIFE, id) for id in ("r1", "r2", "r3")])
    assert answers == [b"\xff answered", None, None]
    assert await backend.send("busy", b"again", request="r2") == "unchanged"
    consumed = [message.seq for message in busy.inbox]
    commit = step("busy", 3, life=_LIFE, consumed=consumed, finished=["0:0", "0:1", "0:2"])
    await stage.stored(commit, worker="w3")
    kept = [(one.record.execution, one.how) for one in await backend.executions("over")]
    assert kept == [(1, "ended"), (2, "continued")]
    assert await stage.turns("over", 3) == [b"\xfe", b"2"]
    assert taken["over"].carried == b"[3]"
    assert await backend.resume("paused") == "done"
    assert await backend.terminate("busy", TERMINATED, life=_LIFE) == "done"
    assert (await stage.record("kid")).status == "terminated"
    stats = [(one.queue, one.running, one.suspended) for one in await backend.stats()]
    assert stats == [("default", 2, 0), ("q", 2, 0)]
    assert await backend.remove(ALL, limit=9) == len(("busy", "kid", "done", "ended"))


async def locks_and_limits_hold_after_a_move(stage: Stage) -> None:
    backend = _movable(stage)
    if backend is None:
        return
    await _share(stage)
    assert await backend.fence(_fence("destination")) is None
    before, common = await _export(backend), await backend.export_common()
    await _empty(backend)
    assert await backend.import_instances(_MOVE, before)
    assert await backend.import_common(_MOVE, common)
    assert await backend.lift_fence(_MOVE)
    await stage.workers("w3")
    assert (await backend.limits()).limits == {
        (one.limit.kind, one.limit.name): one.limit for one in common.limits
    }
    taken = {one.id: one for one in await stage.take("w3", queues=("shared",))}
    assert [one.event for one in taken["l1"].inbox] == [b"granted 0"]
    assert taken["l2"].inbox == []
    consumed = [one.seq for one in taken["l1"].inbox]
    free = Message("l1", b"", execution=1, life="", claim=SharedClaim("free", "lock", "0:0"))
    await stage.stored(step("l1", 2, messages=[free], consumed=consumed), worker="w3")
    (granted,) = await stage.take("w3", limit=0)
    assert granted.id == "l2"
    assert [one.event for one in granted.inbox] == [b"granted 1"]


async def what_waits_for_a_limit_goes_along(stage: Stage) -> None:
    backend = _movable(stage)
    if backend is None:
        return
    await stage.workers("w1")
    await backend.set_limit(Limit(kind="workflow", name="flow", concurrency=1))
    await backend.set_limit(Limit(kind="activity", name="act", concurrency=1))
    await stage.create("a", "b", "c")
    assert await stage.take_ids() == ["a"]
    await stage.stored(step("a", 0, activities=named("0:0", "0:1", "0:2")))
    assert await stage.take_commands() == ["0:0"]
    assert await stage.take_ids() == await stage.take_commands() == []
    assert await backend.fence(_fence("destination")) is None
    before, common = await _export(backend), await backend.export_common()
    assert [one.deaths for one in before] == [None] * 3
    assert all(one.record.ready_at is not None for one in before[1:])
    assert {each.limit_key for each in before[0].activities} == {""}
    await _empty(backend)
    assert await backend.import_instances(_MOVE, before)
    assert await backend.import_common(_MOVE, common)
    assert await _export(backend) == before
    assert await backend.lift_fence(_MOVE)
    await stage.workers("w3")
    assert await stage.take_ids("w3") == ["a"]
    assert len(await stage.take_commands("w3")) == 1
    assert await backend.terminate("a", TERMINATED) == "done"
    assert await stage.take_ids("w3") == ["b"]


async def suspects_stay_suspects(stage: Stage) -> None:
    backend = _movable(stage)
    if backend is None:
        return
    await stage.workers("w1", "w9")
    await stage.hold("a")
    await stage.expire("w1")
    assert await backend.fence(_fence("destination")) is None
    before = await _export(backend)
    assert [one.deaths for one in before] == [0]
    await _empty(backend)
    assert await backend.import_instances(_MOVE, before)
    assert await _export(backend) == before
    assert await backend.lift_fence(_MOVE)
    await stage.workers("w3")
    assert await stage.take("w3") == []
    assert await stage.suspects("w3") == [("a", 1)]


async def only_the_closed_destination_of_a_move_is_changed_by_it(stage: Stage) -> None:
    backend = _movable(stage)
    if backend is None:
        return
    await stage.create("a", "b")
    rows, common = await _export(backend), await backend.export_common()
    for fence in (None, _fence(), _fence("destination", "other")):
        if fence is not None:
            assert await backend.fence(fence) is None
        assert not await backend.import_instances(_MOVE, rows)
        assert not await backend.import_common(_MOVE, common)
        assert not await backend.clear(_MOVE)
        if fence is not None:
            assert await backend.lift_fence(fence.move)
    assert [one.id for one in await backend.list(ALL, limit=9)] == ["b", "a"]


async def unfinished_ones_can_be_read_alone(stage: Stage) -> None:
    backend = _movable(stage)
    if backend is None:
        return
    await stage.create("a", "b", "c")
    assert await backend.terminate("b", TERMINATED) == "done"
    found = await backend.export(limit=1, unfinished_only=True)
    assert [one.id for one in found] == ["a"]
    found = await backend.export(limit=9, after="a", unfinished_only=True)
    assert [one.id for one in found] == ["c"]


async def what_would_be_refused_is_told_before(stage: Stage) -> None:
    backend = _movable(stage)
    if backend is None:
        return
    await stage.create("a", "b")
    rows = await _export(backend)
    refused = await backend.check_import(rows)
    assert [one.instance for one in refused] == ["a", "b"]
    assert await backend.terminate("b", TERMINATED) == "done"
    assert await backend.remove(ALL, limit=9) == 1
    assert [one.instance for one in await backend.check_import(rows)] == ["a"]
    assert await backend.count(ALL) == 1


CASES: tuple[Case, ...] = (
    a_closed_store_takes_no_work,
    the_workers_of_a_closed_store_are_at_their_end,
    what_was_to_be_cancelled_ends_with_its_worker,
    a_store_is_in_one_move_at_a_time,
    a_destination_knows_that_it_was_open,
    what_is_being_cleared_takes_nothing_and_is_not_opened,
    what_is_added_is_what_was_read,
    what_was_added_goes_on,
    locks_and_limits_hold_after_a_move,
    what_waits_for_a_limit_goes_along,
    suspects_stay_suspects,
    only_the_closed_destination_of_a_move_is_changed_by_it,
    unfinished_ones_can_be_read_alone,
    what_would_be_refused_is_told_before,
)
