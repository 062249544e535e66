"""Conformance: when each message came."""

# ruff: noqa: D103 - assertions; a case is described by its name

from __future__ import annotations

from trioflow.backends.records import ActivityResult, CancelledActivity, Message, Unit
from trioflow.testing.conformance.stage import (
    CANCELLED,
    TERMINATED,
    Case,
    Stage,
    child,
    key,
    named,
    seqs,
    step,
)

# A server's clock is known only so well, seconds.
_UNSURE = 0.5


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


CASES: tuple[Case, ...] = (
    a_message_has_the_time_of_its_arrival,
    what_commits_leave_in_an_inbox_has_a_time,
    a_result_may_say_when_it_came,
    what_goes_over_keeps_its_time,
)
