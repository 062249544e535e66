"""Conformance: executions that begin with a part of another one's history."""

# ruff: noqa: D103 - assertions; a case is described by its name

from __future__ import annotations

from typing import Any

from trioflow._model.events import ParentRef
from trioflow.backends.commits import (
    ActivityRetry,
    Closing,
    CommitFailure,
    Message,
    NewActivity,
    Unit,
)
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import Heartbeat
from trioflow.backends.resets import Beginning, Reset, Returned
from trioflow.testing.conformance.sharing import asking
from trioflow.testing.conformance.stage import (
    DONE,
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

_LIFE = "1" * 32
_ENDING = b'{"ending":1}'
_FAILED = Closing("failed", b'{"outcome":"failed"}')


def _reset(id: str, turns: int, inbox: list[int] | None = None, **fields: Any) -> Reset:
    """Return a reset of the first execution of an instance."""
    values: dict[str, Any] = {
        "life": "",
        "execution": 1,
        "ending": _ENDING,
        "beginning": Beginning(),
        "outcome": TERMINATED,
    }
    return Reset(id=id, turns=turns, inbox=inbox or [], **{**values, **fields})


async def a_new_execution_begins_with_the_first_turns(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, status=b'"busy"', wake_at=9.0), worker="w1")
    await stage.stored(step("a", 1, closing=DONE))
    begin = Beginning(
        turns=[b'{"turn":0}'], events=2, carried=b"[]", attributes=b'{"n":1}', wake_at=7.0
    )
    assert await stage.backend.reset(_reset("a", 2, beginning=begin)) == "done"
    row = await stage.record("a")
    assert (row.status, row.execution, row.turns, row.events) == ("running", 2, 1, 2)
    assert (row.outcome, row.custom_status, row.finished_at) == (b"", b"", None)
    assert (row.worker, row.unread, row.attributes) == (None, 0, b'{"n":1}')
    history = {one.number: one.turns for one in await stage.backend.history("a")}
    assert history == {
        1: [b'{"turn":0}', b'{"turn":1}', _ENDING],
        2: [b'{"turn":0}'],
    }
    (taken,) = await stage.take()
    assert (taken.execution, taken.turns, taken.events) == (2, 1, 2)
    assert (taken.carried, taken.wake_at, taken.input) == (b"[]", 7.0, b"[]")
    await stage.stored(step("a", 1, execution=2, closing=DONE))
    where = InstanceFilter(status=("completed",))
    assert [one.id for one in await stage.backend.list(where, limit=9)] == ["a"]


async def who_held_it_writes_nothing_more(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0))
    begin = Beginning(turns=[b'{"turn":0}'], events=2)
    assert await stage.backend.reset(_reset("a", 1, beginning=begin)) == "done"
    assert await stage.commit(step("a", 1)) == CommitFailure(lost=["a"])
    assert [one.execution for one in await stage.take()] == [2]
    assert await stage.commit(step("a", 1)) == CommitFailure(lost=["a"])
    await stage.stored(step("a", 1, execution=2))


async def nothing_is_done_if_it_has_changed(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("a", life=_LIFE)
    await stage.stored(step("a", 0, life=_LIFE))
    assert await backend.send("a", b"1") == "done"
    ((seq,),) = ([one.seq for one in await backend.inbox("a")],)
    for wrong in (
        _reset("a", 1, [], life=_LIFE),
        _reset("a", 1, [seq, seq + 1], life=_LIFE),
        _reset("a", 1, [seq + 1], life=_LIFE),
        _reset("a", 2, [seq], life=_LIFE),
        _reset("a", 1, [seq], life=_LIFE, execution=2),
        _reset("a", 1, [seq], life=_LIFE, adopted=["nobody"]),
    ):
        assert await backend.reset(wrong) == "changed"
    assert await backend.reset(_reset("a", 1, [seq])) == "finished"
    assert await backend.reset(_reset("b", 1)) == "not found"
    row = await stage.record("a")
    assert (row.execution, row.turns, row.unread, row.worker) == (1, 1, 1, "w1")
    assert await stage.turns("a") == [b'{"turn":0}']


async def the_inbox_is_what_it_begins_with(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.create("a", life=_LIFE)
    assert await backend.send("a", b"old") == "done"
    (old,) = await backend.inbox("a")
    assert old.event == b"old"
    assert old.at > 0
    inbox = [Returned(b"1", 5.0, own=True), Returned(b"2", 4.0), Returned(b"3", 6.0, own=True)]
    begin = Beginning(inbox=inbox)
    reset = _reset("a", 0, [old.seq], life=_LIFE, beginning=begin)
    assert await backend.reset(reset) == "done"
    assert await backend.send("a", b"4") == "done"
    (taken,) = await stage.take()
    assert events([taken]) == [b"1", b"2", b"3", b"4"]
    assert [message.at for message in taken.inbox[:3]] == [5.0, 4.0, 6.0]
    assert (await stage.record("a")).unread == len(taken.inbox)
    # What is its own goes with it, the others stay.
    await stage.stored(step("a", 0, life=_LIFE, execution=2, continued=b"[]", leased=False))
    assert events(await stage.take()) == [b"2", b"4"]


async def what_was_carried_over_stays_if_nothing_else_is_said(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, continued=b"[2]", carried=b'["old"]', leased=False))
    for turn, (given, left) in enumerate(((None, b'["old"]'), (b"", b""))):
        begin = Beginning(carried=given)
        reset = _reset("a", 0, execution=2 + turn, beginning=begin)
        assert await stage.backend.reset(reset) == "done"
        (taken,) = await stage.take()
        assert (taken.carried, taken.input) == (left, b"[2]")


async def messages_for_the_old_execution_are_dropped(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    assert await stage.backend.reset(_reset("a", 0)) == "done"
    late = [Message("a", b"late", execution=1), Message("a", b"any")]
    await stage.stored(step("b", 0, messages=late))
    (taken,) = await stage.take()
    assert events([taken]) == [b"any"]


async def activities_go_on_with_their_attempts(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", "0:1", "0:2")))
    assert await stage.take_commands("w2", 1) == ["0:0"]
    retry = ActivityRetry(key("a", "0:0"), 3, backend.now(), b'{"type":"E","message":""}')
    assert await backend.commit("w2", [Unit(retries=[retry])]) == [None]
    before = await stage.task("a", "0:0")
    assert sorted(await stage.take_commands("w2")) == ["0:0", "0:1", "0:2"]
    options = b'{"execution":1}'
    kept = [
        NewActivity("0:0", "act", "default", b"[1]", options),
        NewActivity("9:9", "act", "default", b"[9]", priority=1),
    ]
    begin = Beginning(turns=[b'{"turn":0}'], events=2, activities=kept)
    assert await backend.reset(_reset("a", 1, beginning=begin)) == "done"
    tasks = {task.key: task for task in await backend.activities("a")}
    assert sorted(one.command for one in tasks) == ["0:0", "9:9"]
    after = tasks[key("a", "0:0", 2)]
    assert (after.attempt, after.failure, after.options) == (3, before.failure, options)
    assert after.scheduled_at == before.scheduled_at
    assert tasks[key("a", "9:9", 2)].attempt == 1
    # Who runs the old ones is told, and what it gives is not taken.
    beat = backend.heartbeat("w2")
    assert beat.marks() == dict.fromkeys((key("a", f"0:{n}") for n in range(3)), b"")
    assert await backend.commit("w2", [result("a", "0:0", b"late")]) == [None]
    assert key("a", "0:0") not in backend.heartbeat("w2").marks()
    assert (await stage.record("a")).unread == 0
    assert await stage.take_commands("w1") == ["9:9", "0:0"]
    assert backend.heartbeat("w1") == Heartbeat(alive=True)


async def what_waits_is_dropped(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0")))
    assert await stage.backend.reset(_reset("a", 1)) == "done"
    assert await stage.backend.activities("a") == []
    assert await stage.take_commands() == []
    (stats,) = await stage.backend.stats()
    assert (stats.running, stats.pending_activities, stats.running_activities) == (1, 0, 0)


async def children_are_adopted_or_terminated(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1", "w2")
    await stage.hold("p", life=_LIFE)
    for id, command in (("kept", "0:0"), ("free", "0:1"), ("dropped", "0:2")):
        parent = child(id, "p", command, parent_life=_LIFE).parent
        await stage.create(id, parent=parent, queue="other" if id == "free" else "default")
    await stage.create("grandchild", parent=ParentRef("dropped", 1, "0:0"), queue="other")
    taken = await stage.take_ids("w2")
    assert taken == ["kept", "dropped"]
    reset = _reset("p", 0, life=_LIFE, adopted=["kept", "free"])
    assert await backend.reset(reset) == "done"
    for id in ("kept", "free"):
        row = await stage.record(id)
        assert row.parent is not None
        assert (row.status, row.worker, row.parent.execution) == ("running", None, 2)
    for id in ("dropped", "grandchild"):
        assert (await stage.record(id)).status == "terminated"
    assert [one.id for one in await backend.list(InstanceFilter(parent="p"), limit=9)] == [
        *("dropped", "free", "kept"),
    ]
    # Whoever held it writes nothing more, and gets it again with the new address.
    assert await stage.commit(step("kept", 0), worker="w2") == CommitFailure(lost=["kept"])
    (again,) = [one for one in await stage.take("w2") if one.id == "kept"]
    assert again.parent == ParentRef("p", 2, "0:0", _LIFE)
    assert await backend.terminate("kept", TERMINATED) == "done"
    told = await stage.take("w2", exclude_ids=("free",))
    assert child_failed(told) == ("0:0", "Terminated")


async def an_adopted_child_must_be_one(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("p")
    await stage.create("other", parent=ParentRef("p", 2, "0:0"))
    await stage.create("stray", parent=ParentRef("p", 1, "0:0", _LIFE))
    await stage.create("ended", parent=ParentRef("p", 1, "0:0"))
    assert await stage.backend.terminate("ended", TERMINATED) == "done"
    inbox = [one.seq for one in await stage.backend.inbox("p")]
    for id in ("other", "stray", "ended"):
        assert await stage.backend.reset(_reset("p", 0, inbox, adopted=[id])) == "changed"
    assert await stage.backend.reset(_reset("p", 0, inbox)) == "done"
    assert [(await stage.record(id)).status for id in ("other", "stray")] == ["running"] * 2


async def children_begin_with_it(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("p", "taken")
    mine = [new(id, parent=ParentRef("p", 2, f"0:{n}")) for n, id in enumerate(("c", "taken"))]
    assert await stage.backend.reset(_reset("p", 0, beginning=Beginning(children=mine))) == "done"
    taken = {one.id: one for one in await stage.take()}
    assert taken["c"].parent == mine[0].parent
    assert child_failed([taken["p"]]) == ("0:1", "trioflow.errors.InstanceAlreadyExists")


async def what_had_ended_has_no_parent_any_more(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("p")
    born = child("c", "p")
    await stage.stored(step("p", 0), step("c", 0, new=born, turns=[], leased=True))
    told = Message("p", b"told", execution=1)
    await stage.stored(step("c", 0, closing=DONE, messages=[told]))
    assert await backend.reset(_reset("c", 1)) == "done"
    row = await stage.record("c")
    assert (row.status, row.parent) == ("running", None)
    assert await backend.list(InstanceFilter(parent="p"), limit=9) == []
    assert await backend.terminate("c", TERMINATED) == "done"
    (parent,) = await stage.take()
    assert events([parent]) == [b"told"]
    # One that goes on keeps it.
    await stage.create("d", parent=ParentRef("p", 1, "0:1"))
    assert await backend.reset(_reset("d", 0)) == "done"
    assert (await stage.record("d")).parent == ParentRef("p", 1, "0:1")


async def what_had_ended_may_keep_its_parent(stage: Stage) -> None:
    """Its next end tells the old execution, which has ended, but a reset of that adopts it."""
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("p")
    parent = child("c", "p").parent
    await stage.stored(step("p", 0), step("c", 0, new=child("c", "p"), turns=[], leased=True))
    told = Message("p", b"told", execution=1)
    await stage.stored(step("c", 0, closing=_FAILED, messages=[told]))
    (taken,) = await stage.take()
    await stage.stored(step("p", 1, consumed=seqs(taken), closing=_FAILED))
    assert await backend.reset(_reset("c", 1, keeps_parent=True)) == "done"
    assert (await stage.record("c")).parent == parent
    assert [one.id for one in await backend.list(InstanceFilter(parent="p"), limit=9)] == ["c"]
    assert await backend.reset(_reset("p", 2, adopted=["c"])) == "done"
    assert (await stage.record("c")).parent == ParentRef("p", 2, "0:0")
    assert await backend.terminate("c", TERMINATED) == "done"
    (taken,) = await stage.take()
    assert (taken.id, child_failed([taken])) == ("p", ("0:0", "Terminated"))


async def a_suspended_one_runs_again(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, suspended=b"{}"))
    assert await backend.reset(_reset("a", 1)) == "done"
    row = await stage.record("a")
    assert (row.status, row.outcome) == ("running", b"")
    (stats,) = await backend.stats()
    assert (stats.running, stats.suspended) == (1, 0)
    assert await stage.take_ids() == ["a"]


async def one_that_killed_its_worker_is_no_suspect_any_more(stage: Stage) -> None:
    await stage.workers("w1", "w9")
    await stage.hold("a")
    await stage.expire("w1")
    assert await stage.backend.reset(_reset("a", 0)) == "done"
    assert await stage.suspects() == []
    assert await stage.take_ids("w9") == ["a"]


async def its_time_to_start_holds(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("a", start_at=stage.backend.now() + 1000)
    assert await stage.backend.reset(_reset("a", 0)) == "done"
    assert await stage.take() == []
    assert ((await stage.record("a")).ready_at or 0) > stage.backend.now() + 900


async def requests_stay_answered(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("a")
    assert await backend.send("a", b"ask", request="r") == "done"
    (taken,) = await stage.take()
    await stage.stored(step("a", 0, consumed=seqs(taken)))
    assert await backend.reset(_reset("a", 1)) == "done"
    assert await backend.send("a", b"ask", request="r") == "unchanged"


async def attributes_are_those_that_it_begins_with(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("a", attributes=b'{"n":1}')
    begin = Beginning(attributes=b'{"s":"x"}')
    assert await stage.backend.reset(_reset("a", 0, beginning=begin)) == "done"
    groups = await stage.backend.count_by(InstanceFilter(), "s", attribute=True)
    assert [(one.value, one.number) for one in groups] == [("x", 1)]
    assert await stage.backend.count_by(InstanceFilter(), "n", attribute=True) == []


async def status_and_attributes_can_be_told_without_a_turn(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0))
    begin = Beginning(turns=[b'{"turn":0}'], events=2)
    assert await stage.backend.reset(_reset("a", 1, beginning=begin)) == "done"
    assert await stage.take_ids() == ["a"]
    told: dict[str, Any] = {"status": b'"red"', "attributes": b'{"n":1}', "wake_at": 9.0}
    for leased in (True, False):
        await stage.stored(step("a", 1, execution=2, turns=[], leased=leased, **told))
        row = await stage.record("a")
        assert (row.turns, row.events, row.worker) == (1, 2, "w1" if leased else None)
        assert (row.custom_status, row.attributes) == (b'"red"', b'{"n":1}')
    groups = await stage.backend.count_by(InstanceFilter(), "n", attribute=True)
    assert [one.number for one in groups] == [1]


async def what_is_shared_goes_to_the_next(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    for id in ("a", "b"):
        await stage.stored(asking(id, 0, "take"))
    inbox = [one.seq for one in await stage.backend.inbox("a")]
    assert len(inbox) == 1
    assert await stage.backend.inbox("b") == []
    assert await stage.backend.reset(_reset("a", 1, inbox)) == "done"
    assert [one.event for one in await stage.backend.inbox("b")] == [b"take lock"]
    assert await stage.backend.inbox("a") == []


async def a_fork_has_a_history(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    begin = Beginning(
        turns=[b'{"turn":0}', b'{"turn":1}'],
        events=4,
        inbox=[Returned(b"1", 5.0, own=True)],
        activities=[NewActivity("0:0", "act", "default", b"[1]")],
        children=[new("c", parent=ParentRef("f", 1, "0:1"))],
        carried=b"[]",
        wake_at=7.0,
    )
    made = new("f", life=_LIFE, attributes=b'{"n":1}', options=b'{"timeout":5.0}')
    assert await backend.fork(made, begin) is True
    taken = {one.id: one for one in await stage.take()}
    fork = taken["f"]
    assert (fork.execution, fork.turns, fork.events, fork.life) == (1, 2, 4, _LIFE)
    assert (fork.carried, fork.wake_at, fork.options) == (b"[]", 7.0, made.options)
    assert events([fork]) == [b"1"]
    assert await stage.turns("f") == begin.turns
    assert taken["c"].parent == ParentRef("f", 1, "0:1")
    assert (await stage.task("f", "0:0")).key == key("f", "0:0", life=_LIFE)
    assert await stage.take_commands() == ["0:0"]
    assert [one.value for one in await backend.count_by(InstanceFilter(), "n", attribute=True)]


async def a_fork_takes_no_id_that_was_used(stage: Stage) -> None:
    await stage.create("a", "b")
    assert await stage.backend.terminate("b", TERMINATED) == "done"
    for id in ("a", "b"):
        assert await stage.backend.fork(new(id), Beginning(turns=[b"{}"])) is False
    assert await stage.turns("a") == []


CASES: list[Case] = [
    a_new_execution_begins_with_the_first_turns,
    who_held_it_writes_nothing_more,
    nothing_is_done_if_it_has_changed,
    the_inbox_is_what_it_begins_with,
    what_was_carried_over_stays_if_nothing_else_is_said,
    messages_for_the_old_execution_are_dropped,
    activities_go_on_with_their_attempts,
    what_waits_is_dropped,
    children_are_adopted_or_terminated,
    an_adopted_child_must_be_one,
    children_begin_with_it,
    what_had_ended_has_no_parent_any_more,
    what_had_ended_may_keep_its_parent,
    a_suspended_one_runs_again,
    one_that_killed_its_worker_is_no_suspect_any_more,
    its_time_to_start_holds,
    requests_stay_answered,
    attributes_are_those_that_it_begins_with,
    status_and_attributes_can_be_told_without_a_turn,
    what_is_shared_goes_to_the_next,
    a_fork_has_a_history,
    a_fork_takes_no_id_that_was_used,
]
