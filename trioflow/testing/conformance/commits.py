"""Conformance: what a commit demands and what it leaves behind."""

# ruff: noqa: D103 - assertions; a case is described by its name

from __future__ import annotations

import msgspec

from trioflow.backends.commits import (
    ActivityResult,
    Closing,
    CommitFailure,
    InstanceCommit,
    Message,
    Unit,
)
from trioflow.backends.records import Execution
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
    step,
)


async def turns_are_appended(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, turns=[b"t0", b"t1"], events=5))
    await stage.stored(step("a", 2, turns=[b"t2"], events=9, status=b'"busy"'))
    assert await stage.turns("a") == [b"t0", b"t1", b"t2"]
    row = await stage.record("a")
    assert (row.turns, row.events, row.custom_status, row.worker) == (3, 9, b'"busy"', "w1")
    await stage.stored(InstanceCommit(id="a", execution=1, number=3))
    row = await stage.record("a")
    assert (row.turns, row.events, row.custom_status) == (3, 9, b'"busy"')
    assert await stage.backend.load([("a", 2), ("a", 1), ("x", 1)]) == [
        [],
        [b"t0", b"t1", b"t2"],
        [],
    ]


async def many_rows_are_written_at_once(stage: Stage) -> None:
    await stage.workers("w1")
    ids = [f"many-{number:04}" for number in range(333)]
    units = [
        Unit(instances=[step(id, 0, new=new(id), activities=named("0:0", "0:1", leased=True))])
        for id in ids
    ]
    assert await stage.backend.commit("w1", units) == [None] * len(ids)
    for id in ids:
        assert await stage.backend.send(id, b"x") == "done"
    taken = {one.id: one for one in await stage.take(limit=1000)}
    assert sorted(taken) == ids
    units = [
        Unit(
            instances=[
                step(
                    id,
                    1,
                    finished=["0:0"],
                    consumed=[message.seq for message in taken[id].inbox],
                    messages=[Message(ids[number - 1], b"%d" % number)],
                )
            ]
        )
        for number, id in enumerate(ids)
    ]
    assert await stage.backend.commit("w1", units) == [None] * len(ids)
    for number in (0, 63, 64, 331):
        row = await stage.record(ids[number])
        assert (row.turns, row.unread) == (2, 1)
        assert [task.key.command for task in await stage.backend.activities(row.id)] == ["0:1"]
    given = {
        one.id: [message.event for message in one.inbox] for one in await stage.take(limit=1000)
    }
    assert given == {id: [b"%d" % ((number + 1) % 333)] for number, id in enumerate(ids)}


async def a_commit_needs_the_lease(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.create("free")
    await stage.create("theirs", queue="other")
    await stage.take("w2", queues=("other",))
    for id in ("free", "theirs", "nobody"):
        assert await stage.commit(step(id, 0)) == CommitFailure(lost=[id])
        assert await stage.turns(id) == []


async def a_commit_needs_the_number_of_turns(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0))
    for wrong in (0, 2):
        assert await stage.commit(step("a", wrong)) == CommitFailure(lost=["a"])
        assert await stage.commit(step("a", wrong, closing=DONE)) == CommitFailure(lost=["a"])
        assert await stage.commit(step("a", wrong, suspended=b"{}")) == CommitFailure(lost=["a"])
        assert await stage.commit(step("a", wrong, continued=b"[]")) == CommitFailure(lost=["a"])
    row = await stage.record("a")
    assert (row.status, row.turns, row.execution) == ("running", 1, 1)


async def a_commit_needs_the_execution(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    assert await stage.commit(step("a", 0, execution=2)) == CommitFailure(lost=["a"])


async def finished_instances_take_no_commit(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, closing=DONE))
    assert await stage.commit(step("a", 1)) == CommitFailure(lost=["a"])


async def what_was_not_in_the_inbox_cannot_be_consumed(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    await stage.backend.send("b", b"x")
    (taken,) = await stage.take()
    foreign = taken.inbox[0].seq
    for wrong in ([foreign], [foreign + 1000]):
        commits = step("a", 0, consumed=wrong), step("b", 0), step("n", 0, new=new("n"))
        assert await stage.commit(*commits) == CommitFailure(lost=["a"])
    twice = step("b", 0, consumed=[foreign, foreign])
    assert await stage.commit(twice) == CommitFailure(lost=["b"])
    assert (await stage.record("b")).unread == 1


async def a_failing_unit_fails_alone_and_whole(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("good", "half", "target")
    half = Unit(
        instances=[
            step(
                "half",
                0,
                activities=named("0:0"),
                messages=[Message("target", b"never")],
                status=b"1",
            ),
            step("lost", 0),
            step("born", 0, new=new("born")),
        ]
    )
    good = Unit(instances=[step("good", 0, messages=[Message("target", b"hello")])])
    results = await stage.backend.commit("w1", [half, good])
    assert results == [CommitFailure(lost=["lost"]), None]
    assert await stage.turns("half") == []
    assert await stage.backend.activities("half") == []
    assert await stage.backend.get("born") is None
    assert (await stage.record("half")).custom_status == b""
    assert await stage.turns("good") == [b'{"turn":0}']
    assert events(await stage.take()) == [b"hello"]


async def closing_ends_an_instance(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a", "b", "c")
    for id, status in (("a", "completed"), ("b", "failed"), ("c", "cancelled")):
        closing = Closing(status, status.encode())  # type: ignore[arg-type]  # they are the three
        await stage.stored(step(id, 0, closing=closing, wake_at=stage.backend.now()))
        row = await stage.record(id)
        assert (row.status, row.outcome, row.worker) == (status, status.encode(), None)
        assert (row.turns, row.events, row.unread, row.ready_at) == (1, 2, 0, None)
        assert row.finished_at is not None
    assert await stage.take("w1") == await stage.take("w2") == []


async def instances_are_born_with_their_parents_turn(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("p")
    kept = step("kept", 0, new=child("kept", "p"), turns=[b"first"])
    other = step("other", 0, new=child("other", "p", "0:1"), turns=[], leased=False, due=True)
    await stage.stored(step("p", 0), kept, other)
    row = await stage.record("kept")
    assert (row.turns, row.events, row.worker, row.ready_at) == (1, 2, "w1", None)
    (taken,) = await stage.take("w2")
    assert (taken.id, taken.turns, taken.parent) == ("other", 0, child("other", "p", "0:1").parent)
    await stage.stored(step("kept", 1))


async def a_free_instance_without_turns_is_always_ready(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.stored(step("a", 0, new=new("a"), turns=[], leased=False))
    assert await stage.take_ids("w2") == ["a"]


async def an_instance_may_live_within_one_commit(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("p")
    message = Message("p", b"done", execution=1)
    quick = step("quick", 0, new=child("quick", "p"), closing=DONE, messages=[message], status=b"1")
    await stage.stored(step("p", 0), quick)
    row = await stage.record("quick")
    assert (row.status, row.turns, row.events, row.outcome) == ("completed", 1, 2, DONE.outcome)
    assert (row.custom_status, row.worker) == (b"1", None)
    assert events(await stage.take()) == [b"done"]


async def a_taken_id_fails_the_unit(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("p")
    await stage.create("x", "y")
    commits = [
        step("p", 0),
        step("x", 0, new=child("x", "p")),
        step("y", 0, new=new("y"), turns=[]),
    ]
    assert await stage.commit(*commits) == CommitFailure(taken_ids=["x", "y"])
    assert (await stage.record("p")).turns == 0


async def a_child_without_turns_reports_its_taken_id(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("p")
    await stage.create("x", queue="other")
    unstarted = step("x", 0, new=child("x", "p", "0:7"), turns=[], leased=False, due=True)
    await stage.stored(step("p", 0), unstarted)
    assert child_failed(await stage.take())[0] == "0:7"
    assert (await stage.record("x")).parent is None


async def each_parent_is_told_of_an_id_that_is_taken(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("p", "q")
    await stage.create("x", queue="other")

    def unit(parent: str, *commands: str) -> Unit:
        made = [
            step("x", 0, new=child("x", parent, command), turns=[], leased=False, due=True)
            for command in commands
        ]
        return Unit(instances=[step(parent, 0), *made])

    units = [unit("p", "0:1", "0:2"), unit("q", "0:3")]
    assert await stage.backend.commit("w1", units) == [None, None]
    taken = await stage.take()
    told = {one.id: [msgspec.json.decode(each.event)["id"] for each in one.inbox] for one in taken}
    assert told == {"p": ["0:1", "0:2"], "q": ["0:3"]}


async def a_child_is_refused_for_its_own_id(stage: Stage) -> None:
    """What one call started twice is refused where its id is taken, and born where it is not."""
    await stage.workers("w1")
    await stage.hold("p")
    await stage.create("taken", queue="other")
    for number, ids in enumerate((("taken", "b"), ("c", "taken"))):
        born = [
            step(id, 0, new=child(id, "p", "0:7"), turns=[], leased=False, due=True) for id in ids
        ]
        units = [Unit(instances=[step("p", number), born[0]]), Unit(instances=born[1:])]
        assert await stage.backend.commit("w1", units) == [None, None]
    assert {one.id: len(one.inbox) for one in await stage.take()} == {"p": 2, "b": 0, "c": 0}


async def of_children_with_one_id_the_first_is_born(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("p")

    def unborn(command: str) -> InstanceCommit:
        new = child("x", "p", command, queue="other")
        return step("x", 0, new=new, turns=[], leased=False, due=True)

    await stage.stored(step("p", 0), unborn("0:1"), unborn("0:2"))
    assert child_failed(await stage.take())[0] == "0:2"
    (taken,) = await stage.take(queues=("other",))
    assert taken.parent == child("x", "p", "0:1").parent
    (stats,) = [one for one in await stage.backend.stats() if one.queue == "other"]
    assert stats.running == 1
    ended = step("x", 0, closing=DONE)
    assert await stage.commit(step("p", 1), ended, unborn("0:3")) == CommitFailure(taken_ids=["x"])
    await stage.stored(step("p", 1), ended)
    await stage.stored(step("p", 2), unborn("0:3"))
    (taken,) = await stage.take(queues=("other",))
    assert (taken.execution, taken.parent) == (2, child("x", "p", "0:3").parent)


async def a_finished_id_is_used_again(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("a", input=b"[1]")
    await stage.stored(step("a", 0, turns=[b"old"], closing=DONE, activities=named("0:0")))
    assert await backend.create([new("a", input=b"[2]", workflow="again")]) == [True]
    row = await stage.record("a")
    assert (row.execution, row.workflow, row.input, row.status) == (2, "again", b"[2]", "running")
    assert (row.turns, row.events, row.outcome, row.finished_at) == (0, 0, b"", None)
    assert await backend.activities("a") == []
    assert await stage.take_commands() == []
    (taken,) = await stage.take()
    await stage.stored(step("a", 0, execution=taken.execution, turns=[b"new"]))
    assert await backend.history("a") == [Execution(1, [b"old"]), Execution(2, [b"new"])]


async def a_finished_id_is_used_again_by_a_commit(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("p", "x")
    await stage.stored(step("x", 0, closing=DONE))
    born = step("x", 0, new=child("x", "p"))
    assert await stage.commit(step("p", 0), born) == CommitFailure(taken_ids=["x"])
    unstarted = step("x", 0, new=child("x", "p"), turns=[], leased=False, due=True)
    await stage.stored(step("p", 0), unstarted)
    (taken,) = await stage.take("w2")
    assert (taken.id, taken.execution, taken.turns) == ("x", 2, 0)


async def results_of_what_an_id_meant_before_are_dropped(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("x")
    await stage.stored(step("x", 0, activities=named("0:0", leased=True)))
    assert await stage.backend.terminate("x", TERMINATED) == "done"
    again = InstanceCommit(id="x", execution=1, number=0, new=new("x"), leased=False)
    unit = Unit(instances=[again], results=[ActivityResult(key("x", "0:0"), b"late")])
    assert await stage.backend.commit("w1", [unit]) == [None]
    (taken,) = await stage.take()
    assert (taken.id, taken.execution, taken.inbox) == ("x", 2, [])


async def continuing_begins_the_next_execution(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.create("a", input=b"[1]")
    await stage.backend.send("a", b"read")
    (taken,) = await stage.take()
    await stage.hold("b")
    stale = [Message("a", b"stale", execution=1), Message("a", b"signal")]
    await stage.stored(step("b", 0, messages=stale))
    commit = step("a", 0, turns=[b"one"], continued=b"[2]", carried=b"[3]", status=b"1")
    await stage.stored(msgspec.structs.replace(commit, consumed=[taken.inbox[0].seq]))
    row = await stage.record("a")
    assert (row.execution, row.turns, row.events, row.input) == (2, 0, 0, b"[2]")
    assert (row.worker, row.custom_status, row.unread) == ("w1", b"1", 1)
    (taken,) = await stage.take("w1")
    assert (taken.execution, taken.carried, taken.turns) == (2, b"[3]", 0)
    assert [message.event for message in taken.inbox] == [b"signal"]
    assert await stage.backend.history("a") == [Execution(1, [b"one"]), Execution(2, [])]
    assert await stage.commit(step("a", 1)) == CommitFailure(lost=["a"])
    await stage.stored(step("a", 0, execution=2, turns=[b"two"]))
    assert await stage.backend.history("a") == [Execution(1, [b"one"]), Execution(2, [b"two"])]


async def continuing_without_the_lease_is_ready_for_all(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.stored(step("a", 0, continued=b"[2]", leased=False))
    (taken,) = await stage.take("w2")
    assert (taken.execution, taken.input) == (2, b"[2]")


async def suspending_stops_until_resumed(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.backend.send("a", b"1")
    (taken,) = await stage.take()
    wake_at = stage.backend.now()
    seqs = [message.seq for message in taken.inbox]
    await stage.stored(step("a", 0, consumed=seqs, suspended=b"report", wake_at=wake_at))
    row = await stage.record("a")
    assert (row.status, row.outcome, row.turns) == ("suspended", b"report", 1)
    assert (row.worker, row.unread, row.ready_at, row.finished_at) == (None, 0, None, None)
    assert await stage.backend.send("a", b"2") == "done"
    assert await stage.take("w1") == []
    assert await stage.commit(step("a", 1)) == CommitFailure(lost=["a"])
    assert await stage.backend.resume("a") == "done"
    assert await stage.backend.resume("a") == "unchanged"
    row = await stage.record("a")
    assert (row.status, row.outcome) == ("running", b"")
    assert events(await stage.take("w2")) == [b"2"]


CASES: tuple[Case, ...] = (
    turns_are_appended,
    many_rows_are_written_at_once,
    a_commit_needs_the_lease,
    a_commit_needs_the_number_of_turns,
    a_commit_needs_the_execution,
    finished_instances_take_no_commit,
    what_was_not_in_the_inbox_cannot_be_consumed,
    a_failing_unit_fails_alone_and_whole,
    closing_ends_an_instance,
    instances_are_born_with_their_parents_turn,
    a_free_instance_without_turns_is_always_ready,
    an_instance_may_live_within_one_commit,
    a_taken_id_fails_the_unit,
    a_child_without_turns_reports_its_taken_id,
    each_parent_is_told_of_an_id_that_is_taken,
    a_child_is_refused_for_its_own_id,
    of_children_with_one_id_the_first_is_born,
    a_finished_id_is_used_again,
    a_finished_id_is_used_again_by_a_commit,
    results_of_what_an_id_meant_before_are_dropped,
    continuing_begins_the_next_execution,
    continuing_without_the_lease_is_ready_for_all,
    suspending_stops_until_resumed,
)
