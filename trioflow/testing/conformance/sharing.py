"""Conformance: what instances share, as commits ask for it."""

# ruff: noqa: D103 - assertions; a case is described by its name

from __future__ import annotations

from typing import Any, Literal

from trioflow.backends.commits import InstanceCommit, Message, SharedClaim
from trioflow.backends.records import SharedState
from trioflow.testing.conformance.stage import DONE, TERMINATED, Case, Stage, events, step


def asking(
    id: str,
    number: int,
    how: Literal["take", "free", "set", "clear"],
    *,
    name: str = "lock",
    size: int = 1,
    command: str = "0:0",
    **fields: Any,
) -> InstanceCommit:
    """Return a commit of a turn that asks for something shared."""
    life = fields.get("life", "")
    execution = fields.get("execution", 1)
    claim = SharedClaim(how, name, command, size)
    event = f"{how} {name}".encode()
    message = Message(id, event, execution=execution, life=life, claim=claim)
    return step(id, number, messages=[message], **fields)


async def _heard(stage: Stage, *ids: str) -> dict[str, list[bytes]]:
    """Return what those have heard that worker 1 holds and that have heard anything."""
    taken = await stage.backend.take_instances("w1", ("default",), 0)
    found = {one.id: [message.event for message in one.inbox] for one in taken.instances}
    return {id: found[id] for id in ids if id in found}


async def what_is_free_is_granted_at_once(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(asking("a", 0, "take"))
    assert await _heard(stage, "a") == {"a": [b"take lock"]}


async def places_are_granted_in_the_order_of_asking(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b", "c", "d")
    for id in ("b", "a", "d", "c"):
        await stage.stored(asking(id, 0, "take", size=2))
    assert sorted(await _heard(stage, "a", "b", "c", "d")) == ["a", "b"]
    await stage.stored(asking("b", 1, "free"))
    assert sorted(await _heard(stage, "c", "d")) == ["d"]
    await stage.stored(asking("a", 1, "free"))
    assert sorted(await _heard(stage, "c", "d")) == ["c"]


async def names_have_nothing_to_do_with_each_other(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    await stage.stored(asking("a", 0, "take"), asking("b", 0, "take", name="other"))
    assert sorted(await _heard(stage, "a", "b")) == ["a", "b"]


async def nobody_overtakes_who_asked_before(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b", "c")
    await stage.stored(asking("a", 0, "take", size=1))
    await stage.stored(asking("b", 0, "take", size=1))
    await stage.stored(asking("c", 0, "take", size=5))
    assert sorted(await _heard(stage, "a", "b", "c")) == ["a"]
    await stage.stored(asking("a", 1, "free"))
    assert sorted(await _heard(stage, "b", "c")) == ["b", "c"]


async def who_waits_no_more_is_passed_over(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b", "c")
    for id in ("a", "b", "c"):
        await stage.stored(asking(id, 0, "take"))
    await stage.stored(asking("b", 1, "free"))
    assert sorted(await _heard(stage, "a", "b", "c")) == ["a"]
    await stage.stored(asking("a", 1, "free"))
    assert sorted(await _heard(stage, "b", "c")) == ["c"]


async def freeing_what_was_granted_meanwhile_gives_it_to_the_next(stage: Stage) -> None:
    """As when a wait is cancelled while its grant is on the way."""
    await stage.workers("w1")
    await stage.hold("a", "b")
    await stage.stored(asking("a", 0, "take"))
    await stage.stored(asking("b", 0, "take"))
    await stage.stored(asking("a", 1, "free"))
    await stage.stored(asking("a", 2, "free"))  # twice is once
    assert sorted(await _heard(stage, "b")) == ["b"]


async def one_execution_may_have_several(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    await stage.stored(asking("a", 0, "take", size=2, command="0:0"))
    await stage.stored(asking("a", 1, "take", size=2, command="0:1"))
    await stage.stored(asking("b", 0, "take", size=2))
    assert await _heard(stage, "a", "b") == {"a": [b"take lock", b"take lock"]}
    await stage.stored(asking("a", 2, "free", command="0:1"))
    assert await _heard(stage, "b") == {"b": [b"take lock"]}


async def a_terminate_gives_to_the_next(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    await stage.stored(asking("a", 0, "take"))
    await stage.stored(asking("b", 0, "take"))
    assert await stage.backend.terminate("a", TERMINATED) == "done"
    assert events(await stage.take()) == [b"take lock"]


async def what_has_ended_in_any_way_holds_nothing(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b", "c")
    await stage.stored(asking("a", 0, "take"))
    taken = await stage.take()
    consumed = [message.seq for message in taken[0].inbox]
    await stage.stored(step("a", 1, consumed=consumed, closing=DONE))
    await stage.stored(asking("b", 0, "take"))
    assert sorted(await _heard(stage, "b")) == ["b"]


async def the_next_execution_holds_nothing(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    await stage.stored(asking("a", 0, "take"))
    await stage.stored(step("a", 1, continued=b"[2]", carried=b"[]"))
    await stage.stored(asking("b", 0, "take"))
    assert await _heard(stage, "b") == {"b": [b"take lock"]}


async def a_suspended_instance_and_one_of_a_dead_worker_hold_what_they_have(stage: Stage) -> None:
    await stage.workers("w1", "w2", "w9")
    await stage.hold("a", worker="w1")
    await stage.hold("b", worker="w2")
    await stage.hold("c", worker="w1")
    await stage.stored(asking("a", 0, "take"))
    await stage.stored(asking("b", 0, "take", name="other"), worker="w2")
    await stage.stored(asking("c", 0, "take"))
    assert await stage.backend.suspend("a", b"{}") == "done"
    await stage.expire("w2", survivors=("w1", "w9"))
    await stage.stored(asking("c", 1, "take", name="other", command="0:1"))
    assert await _heard(stage, "c") == {}
    assert await stage.backend.resume("a") == "done"
    assert "a" in await stage.take_ids("w9")


async def an_event_lets_all_go_on_until_it_is_cleared(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b", "c", "d")
    for id in ("a", "b"):
        await stage.stored(asking(id, 0, "take", size=0))
    assert await _heard(stage, "a", "b") == {}
    await stage.stored(asking("c", 0, "set"))
    heard = await _heard(stage, "a", "b", "c")
    assert heard == {"a": [b"take lock"], "b": [b"take lock"], "c": [b"set lock"]}
    await stage.stored(asking("a", 1, "take", size=0, command="0:1"))
    assert (await _heard(stage, "a"))["a"] == [b"take lock", b"take lock"]
    await stage.stored(asking("c", 1, "clear", command="0:1"))
    assert (await _heard(stage, "c"))["c"] == [b"set lock", b"clear lock"]
    await stage.stored(asking("d", 0, "take", size=0))
    assert await _heard(stage, "d") == {}


async def who_holds_and_who_waits_is_seen(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b", "c", "d")
    see = stage.backend.shared_state
    assert await see("lock") == SharedState([], [])
    for id in ("b", "a", "d", "c"):
        await stage.stored(asking(id, 0, "take", size=2))
    await stage.stored(asking("a", 1, "take", size=2, command="0:1"))
    assert await see("lock") == SharedState(["b", "a"], ["d", "c", "a"])
    (told,) = [one for one in await stage.take("w1", 0) if one.id == "b"]
    end = step("b", 1, consumed=[message.seq for message in told.inbox], closing=DONE)
    await stage.stored(end)  # which gives nothing back by itself
    assert await stage.backend.terminate("c", TERMINATED) == "done"
    assert await see("lock") == SharedState(["a", "d"], ["a"])
    await stage.stored(asking("d", 1, "take", size=0, name="event", command="0:1"))
    assert await see("event") == SharedState([], ["d"])
    await stage.stored(asking("a", 2, "set", name="event", command="0:2"))
    assert await see("event") == SharedState([], [], is_set=True)


async def of_a_unit_that_fails_nothing_is_asked(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    assert await stage.commit(asking("a", 5, "take")) is not None
    await stage.stored(asking("b", 0, "take"))
    assert sorted(await _heard(stage, "a", "b")) == ["b"]


CASES: tuple[Case, ...] = (
    what_is_free_is_granted_at_once,
    places_are_granted_in_the_order_of_asking,
    names_have_nothing_to_do_with_each_other,
    nobody_overtakes_who_asked_before,
    who_waits_no_more_is_passed_over,
    freeing_what_was_granted_meanwhile_gives_it_to_the_next,
    one_execution_may_have_several,
    a_terminate_gives_to_the_next,
    what_has_ended_in_any_way_holds_nothing,
    the_next_execution_holds_nothing,
    a_suspended_instance_and_one_of_a_dead_worker_hold_what_they_have,
    an_event_lets_all_go_on_until_it_is_cleared,
    who_holds_and_who_waits_is_seen,
    of_a_unit_that_fails_nothing_is_asked,
)
