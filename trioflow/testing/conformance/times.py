"""Conformance: when each message came, and when an instance starts."""

# ruff: noqa: D103 - assertions; a case is described by its name

from __future__ import annotations

from trioflow.backends.commits import ActivityResult, CancelledActivity, Message, Unit
from trioflow.testing.conformance.stage import (
    CANCELLED,
    TERMINATED,
    Case,
    Stage,
    child,
    key,
    named,
    new,
    seqs,
    step,
)

# A server's clock is known only so well, seconds.
_UNSURE = 0.5
# Long enough for a busy server to do what is to happen before, seconds.
_LATER = 2.0


def _about(at: float, expected: float) -> bool:
    return abs(at - expected) <= _UNSURE


async def a_message_has_the_time_of_its_arrival(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    first = stage.backend.now()
    await stage.backend.send("a", b"1")
    await stage.pass_time(2 * _UNSURE + 0.2)
    second = stage.backend.now()
    await stage.backend.cancel("a", b"2", CANCELLED)
    (taken,) = await stage.take()
    one, two = (message.at for message in taken.inbox)
    assert _about(one, first)
    assert _about(two, second)
    assert one < two
    await stage.pass_time(0.1)
    await stage.stored(step("a", 0, consumed=seqs(taken)[:1]))
    await stage.backend.recall("w1", [])
    (again,) = await stage.take()
    assert again.inbox == taken.inbox[1:]


async def what_commits_leave_in_an_inbox_has_a_time(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("a", "b")
    await stage.stored(
        step("a", 0, activities=named("0:0")), step("c", 0, new=child("c", "a", "0:1"))
    )
    now = backend.now()
    asked = [CancelledActivity("0:0", b"cancelled")]
    said = [Message("b", b"hello", sent=b"sent")]
    await stage.stored(step("a", 1, cancelled=asked, messages=said))
    assert await backend.terminate("c", TERMINATED) == "done"
    taken = {one.id: one for one in await stage.take()}
    assert [len(taken[id].inbox) for id in ("a", "b")] == [3, 1]
    for one in taken.values():
        assert all(_about(message.at, now) for message in one.inbox)


async def a_result_may_say_when_it_came(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", "0:1")))
    assert sorted(await stage.take_commands("w2")) == ["0:0", "0:1"]
    now = backend.now()
    await backend.send("a", b"before")
    results = [
        ActivityResult(key("a", "0:0"), b"earlier", at=now - 100.25),
        ActivityResult(key("a", "0:1"), b"now"),
    ]
    assert await backend.commit("w2", [Unit(results=results)]) == [None]
    (taken,) = await stage.take()
    assert [message.event for message in taken.inbox] == [b"before", b"earlier", b"now"]
    before, earlier, later = (message.at for message in taken.inbox)
    assert earlier == now - 100.25
    assert _about(before, now)
    assert _about(later, now)
    assert seqs(taken) == sorted(seqs(taken))


async def what_goes_over_keeps_its_time(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.backend.send("a", b"x")
    (taken,) = await stage.take()
    await stage.stored(step("a", 0, continued=b"[]"))
    (again,) = await stage.take()
    assert (again.execution, again.inbox) == (2, taken.inbox)


async def an_instance_waits_for_its_time_to_start(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1", "w2")
    options = b'{"timeout":60.0}'
    start_at = backend.now() + _LATER
    later = [new(id, start_at=start_at, options=options) for id in ("a", "b", "c", "d")]
    assert await backend.create([*later, new("now", start_at=1.0)]) == [True] * 5
    await stage.hold("p", queue="q", worker="w2")
    born = step("kid", 0, new=child("kid", "p", start_at=start_at), turns=[], leased=False)
    await stage.stored(step("p", 0), born, worker="w2")
    record = await stage.record("a")
    assert (record.start_at, record.ready_at) == (start_at, start_at)
    assert (await stage.record("now")).start_at == 1.0
    # What comes before is kept for it.
    assert await backend.send("a", b"early") == "done"
    mail = [Message("b", b"one", sent=b"yes"), Message("b", b"two"), Message("kid", b"three")]
    await stage.stored(step("p", 1, messages=mail), worker="w2")
    assert await backend.cancel("c", b'{"event":"cancel requested"}', CANCELLED) == "done"
    assert await backend.terminate("d", TERMINATED) == "done"
    assert [(await stage.record(id)).status for id in "cd"] == ["cancelled", "terminated"]
    assert await stage.take_ids() == ["now"]
    asked = await backend.take_instances("w1", ("default",), 9)
    assert (asked.instances, asked.next_at) == ([], start_at)
    assert (await stage.record("b")).ready_at == start_at
    await stage.pass_time(_LATER * 1.1)
    taken = {one.id: one for one in await stage.take()}
    assert sorted(taken) == ["a", "b", "kid"]
    assert [len(taken[id].inbox) for id in ("a", "b", "kid")] == [1, 2, 1]
    assert taken["a"].options == options
    assert taken["kid"].options == b""
    for one in taken.values():
        assert one.start_at == start_at
        assert one.created_at == (await stage.record(one.id)).created_at
    await stage.stored(step("a", 0, consumed=seqs(taken["a"]), continued=b"[2]", leased=False))
    (again,) = await stage.take()
    assert (again.execution, again.start_at, again.options) == (2, start_at, options)
    assert again.created_at == taken["a"].created_at


CASES: tuple[Case, ...] = (
    a_message_has_the_time_of_its_arrival,
    what_commits_leave_in_an_inbox_has_a_time,
    a_result_may_say_when_it_came,
    what_goes_over_keeps_its_time,
    an_instance_waits_for_its_time_to_start,
)
