"""Conformance: whom messages reach, and in which order."""

# ruff: noqa: D103, PLR2004 - assertions; a case is described by its name

from __future__ import annotations

from typing import Any

from trioflow.backends.commits import CommitFailure, Message, Unit
from trioflow.backends.filters import InstanceFilter
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
    seqs,
    step,
)


async def messages_reach_running_and_suspended_targets(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a", "suspended", "closed")
    await stage.create("free", queue="other")
    await stage.stored(step("suspended", 0, suspended=b"{}"))
    await stage.stored(step("closed", 0, closing=DONE))
    targets = ("free", "suspended", "closed", "nobody", "a")
    await stage.stored(step("a", 0, messages=[Message(id, b"to " + id.encode()) for id in targets]))
    assert events(await stage.take("w2", queues=("other",))) == [b"to free"]
    assert events(await stage.take("w1")) == [b"to a"]
    assert (await stage.record("suspended")).unread == 1
    assert (await stage.record("closed")).unread == 0
    assert await stage.backend.resume("suspended") == "done"
    assert events(await stage.take("w1")) == [b"to suspended"]


async def a_message_may_be_meant_for_one_execution(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    messages = [
        Message("b", b"old", execution=0),
        Message("b", b"any"),
        Message("b", b"this", execution=1),
        Message("b", b"next", execution=2),
    ]
    await stage.stored(step("a", 0, messages=messages))
    assert sorted(events(await stage.take())) == [b"any", b"this"]
    assert (await stage.record("b")).unread == 2


async def senders_are_told(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b", "closed")
    await stage.stored(step("closed", 0, closing=DONE))
    messages = [
        Message(id, b"hello", sent=b"sent to " + id.encode(), failed=b"failed " + id.encode())
        for id in ("b", "closed", "nobody")
    ]
    await stage.stored(step("a", 0, messages=messages))
    inboxes = {one.id: [message.event for message in one.inbox] for one in await stage.take()}
    assert inboxes == {
        "a": [b"sent to b", b"failed closed", b"failed nobody"],
        "b": [b"hello"],
    }


async def several_messages_to_one_target_are_counted(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b", "c")
    first = Unit(instances=[step("a", 0, messages=[Message("c", b"1"), Message("c", b"2")])])
    second = Unit(instances=[step("b", 0, messages=[Message("c", b"3")])])
    assert await stage.backend.commit("w1", [first, second]) == [None, None]
    assert (await stage.record("c")).unread == 3
    (taken,) = await stage.take()
    assert [message.event for message in taken.inbox] == [b"1", b"2", b"3"]
    await stage.stored(step("c", 0, consumed=[message.seq for message in taken.inbox]))
    assert await stage.take() == []


async def messages_keep_their_order(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b", "c")
    messages = [
        Message("c", b"1", sent=b"ok"),
        Message("c", b"2"),
        Message("c", b"3", execution=1),
        Message("c", b"4"),
        Message("a", b"me"),
    ]
    second = Unit(instances=[step("b", 0, messages=[Message("a", b"5"), Message("c", b"6")])])
    units = [Unit(instances=[step("a", 0, messages=messages)]), second]
    assert await stage.backend.commit("w1", units) == [None, None]
    inboxes = {one.id: [message.event for message in one.inbox] for one in await stage.take()}
    assert inboxes == {"a": [b"ok", b"me", b"5"], "c": [b"1", b"2", b"3", b"4", b"6"]}


async def messages_reach_what_begins_beside_what_fails(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    message = Message("later", b"early", sent=b"sent", failed=b"failed")
    to_b = Message("b", b"late", failed=b"no b")
    units = [
        Unit(instances=[step("a", 0, messages=[message, to_b])]),
        Unit(instances=[step("nobody", 0)]),
        Unit(instances=[step("b", 0, closing=DONE), step("later", 0, new=new("later"))]),
    ]
    assert await stage.backend.commit("w1", units) == [None, CommitFailure(lost=["nobody"]), None]
    inboxes = {one.id: [message.event for message in one.inbox] for one in await stage.take()}
    assert inboxes == {"a": [b"sent", b"no b"], "later": [b"early"]}


async def a_message_to_nobody_leaves_nothing(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    await stage.stored(step("a", 0, messages=[Message("b", b"1"), Message("later", b"early")]))
    await stage.create("later", queue="other")
    await stage.backend.send("later", b"2")
    assert events(await stage.take(queues=("other",))) == [b"2"]


async def a_message_to_oneself_arrives(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, messages=[Message("a", b"me", sent=b"ok")], leased=False))
    assert events(await stage.take()) == [b"me", b"ok"]


async def a_message_sent_meanwhile_is_not_overlooked(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.create("a")
    await stage.backend.send("a", b"1")
    (taken,) = await stage.take()
    await stage.backend.send("a", b"2")
    parked = step("a", 0, consumed=[taken.inbox[0].seq], leased=False)
    await stage.stored(parked)
    assert events(await stage.take("w2")) == [b"2"]


async def a_message_may_create_an_instance(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("a")
    await stage.create("running", queue="q")
    await stage.hold("over")
    await stage.stored(step("over", 0, closing=DONE))
    replies: dict[str, Any] = {"sent": b"yes", "failed": b"no"}
    fields: dict[str, Any] = {"queue": "q", "life": "2", "attributes": b'{"s":"x"}'}
    mails = [
        Message("one", b"", new=new("one", **fields), **replies),
        Message("running", b"", new=new("running", **fields), **replies),
        Message("over", b"", new=new("over", **fields), reuse=False, **replies),
        Message("one", b"event", failed=b"lost"),
        Message("silent", b"", new=new("silent", **fields)),
    ]
    await stage.stored(step("a", 0, messages=mails))
    (taken,) = await stage.take()
    assert [message.event for message in taken.inbox] == [b"yes", b"no", b"no"]
    row = await stage.record("one")
    assert (row.status, row.life, row.parent, row.unread) == ("running", "2", None, 1)
    assert (await stage.record("running")).life == ""
    assert (await stage.record("over")).status == "completed"
    assert await backend.count(InstanceFilter(queue="q")) == 3
    again = Message("over", b"", new=new("over", **fields), **replies)
    later = fields | {"start_at": backend.now() + 1000}
    after = Message("later", b"", new=new("later", **later))
    await stage.stored(step("a", 1, consumed=seqs(taken), messages=[again, after]))
    assert ((await stage.record("over")).execution, (await stage.record("over")).life) == (2, "2")
    assert sorted(await stage.take_ids(queues=("q",))) == ["one", "over", "running", "silent"]


async def a_message_may_replace_an_instance(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a", "p")
    born = step("c", 0, new=child("c", "p", "0:1"), activities=named("0:0"))
    await stage.stored(step("p", 0), born)
    assert await stage.take_commands("w2") == ["0:0"]
    instead = new("c", life="2", queue="q")
    mail = Message("c", b"", new=instead, replacing=TERMINATED, sent=b"yes", failed=b"no")
    await stage.stored(step("a", 0, messages=[mail]))
    taken = {one.id: one for one in await stage.take()}
    assert [message.event for message in taken["a"].inbox] == [b"yes"]
    assert child_failed([taken["p"]]) == ("0:1", "Terminated")
    row = await stage.record("c")
    assert (row.execution, row.life, row.parent, row.status) == (2, "2", None, "running")
    assert stage.backend.heartbeat("w2").cancelled == [key("c", "0:0")]
    mail = Message("c", b"", new=new("c"), reuse=False, replacing=TERMINATED, failed=b"no")
    await stage.stored(step("a", 1, consumed=seqs(taken["a"]), messages=[mail]))
    assert events([one for one in await stage.take() if one.id == "a"]) == [b"no"]
    assert (await stage.record("c")).status == "terminated"


CASES: tuple[Case, ...] = (
    messages_reach_running_and_suspended_targets,
    a_message_may_be_meant_for_one_execution,
    senders_are_told,
    several_messages_to_one_target_are_counted,
    messages_keep_their_order,
    messages_reach_what_begins_beside_what_fails,
    a_message_to_nobody_leaves_nothing,
    a_message_to_oneself_arrives,
    a_message_sent_meanwhile_is_not_overlooked,
    a_message_may_create_an_instance,
    a_message_may_replace_an_instance,
)
