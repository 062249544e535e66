"""Conformance: changes in a transaction of the caller's own, and activities in the store's."""

# ruff: noqa: D103, PLR2004 - assertions; a case is described by its name

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import anyio

from trioflow._model.attributes import encode_attributes
from trioflow._model.events import CancelRequested, encode_event
from trioflow.backends.commits import CancelledActivity
from trioflow.backends.outbox import CallerTransaction
from trioflow.backends.records import ActivityKey
from trioflow.backends.resets import Beginning, Reset
from trioflow.errors import TransactionRefused
from trioflow.testing.conformance.stage import (
    CANCELLED,
    DONE,
    TERMINATED,
    Case,
    Stage,
    events,
    key,
    named,
    new,
    step,
)

# Between a commit and the moment when the store knows of it, seconds; on a busy machine.
_PATIENCE = 20
_CANCEL = encode_event(CancelRequested(None))


@contextmanager
def _caller(stage: Stage) -> Generator[tuple[Any, CallerTransaction]]:
    """Give a connection of the caller's, with a table of theirs, and the store's part in it."""
    assert stage.connect is not None
    connection = stage.connect()
    try:
        cursor = connection.cursor()
        cursor.execute("CREATE TEMPORARY TABLE orders_of_caller (name VARCHAR(50))")
        connection.commit()
        cursor.execute("INSERT INTO orders_of_caller VALUES ('tea')")
        yield connection, stage.backend.in_transaction(connection)
    finally:
        connection.rollback()
        connection.close()


def _orders(connection: Any) -> int:
    cursor = connection.cursor()
    cursor.execute("SELECT name FROM orders_of_caller")
    return len(cursor.fetchall())


def _is_refused(stage: Stage) -> bool:
    """Return whether a store takes no part in transactions; check that it says so then."""
    return stage.connect is None and bool(_refusal(stage))


async def an_instance_is_there_when_the_caller_commits(stage: Stage) -> None:
    if _is_refused(stage):
        return
    await stage.workers("w1")
    seen = stage.backend.changes()
    with _caller(stage) as (connection, transaction):
        row = new("a", attributes=encode_attributes({"customer": "c7"}))
        assert transaction.create([row], replacing=None) == [True]
        found = transaction.get("a")
        assert found is not None
        assert found.status == "running"
        assert await stage.backend.get("a") is None
        connection.commit()
        # Whoever waits for work hears of it.
        with anyio.fail_after(_PATIENCE):
            while not await stage.take_ids():
                await stage.backend.wait_change(seen, _PATIENCE)
                seen = stage.backend.changes()
        assert _orders(connection) == 1


async def nothing_is_there_when_the_caller_rolls_back(stage: Stage) -> None:
    if _is_refused(stage):
        return
    await stage.workers("w1")
    await stage.hold("held")
    await stage.create("free")
    with _caller(stage) as (connection, transaction):
        assert transaction.create([new("a")], replacing=None) == [True]
        assert transaction.send("held", b"hello") == "done"
        assert transaction.cancel("free", _CANCEL, CANCELLED) == "done"
        connection.rollback()
        assert _orders(connection) == 0
    assert await stage.backend.get("a") is None
    assert (await stage.record("free")).status == "running"
    assert (await stage.record("held")).unread == 0
    await stage.stored(step("held", 0, closing=DONE))


async def messages_arrive_when_the_caller_commits(stage: Stage) -> None:
    if _is_refused(stage):
        return
    await stage.workers("w1")
    await stage.hold("a", "closed")
    await stage.stored(step("closed", 0, closing=DONE))
    await stage.stored(step("a", 0))
    assert await stage.take() == []
    with _caller(stage) as (connection, transaction):
        assert transaction.send("a", b"1") == "done"
        assert transaction.send("closed", b"x") == "finished"
        assert transaction.send("nobody", b"x") == "not found"
        assert transaction.send("a", b"x", life="another") == "finished"
        assert transaction.send("a", b"2", request="r") == "done"
        assert transaction.send("a", b"2", request="r") == "unchanged"
        assert transaction.create_and_send(new("b"), b"3").created
        assert not transaction.create_and_send(new("a"), b"4").created
        connection.commit()
    inboxes = {one.id: [message.event for message in one.inbox] for one in await stage.take()}
    assert inboxes == {"a": [b"1", b"2", b"4"], "b": [b"3"]}
    # What is sent afterwards comes after it.
    assert await stage.backend.send("a", b"5") == "done"
    assert events(await stage.take()) == [b"1", b"2", b"4", b"5"]


async def a_taken_id_leaves_the_transaction_of_the_caller_open(stage: Stage) -> None:
    if _is_refused(stage):
        return
    await stage.workers("w1")
    await stage.create("running")
    await stage.hold("closed", queue="other")
    await stage.stored(step("closed", 0, closing=DONE))
    with _caller(stage) as (connection, transaction):
        assert transaction.create([new("running"), new("a")], replacing=None) == [False, True]
        assert transaction.create([new("closed")], reuse=False, replacing=None) == [False]
        assert transaction.create([new("closed")], replacing=None) == [True]
        assert transaction.create([new("running")], replacing=TERMINATED) == [True]
        connection.commit()
        assert _orders(connection) == 1
    assert set(await stage.take_ids()) == {"a", "closed", "running"}
    assert (await stage.record("closed")).execution == 2
    assert (await stage.record("running")).execution == 2


async def two_callers_start_instances_side_by_side(stage: Stage) -> None:
    if _is_refused(stage) or not stage.callers_overlap:
        return
    with _caller(stage) as (one, first), _caller(stage) as (other, second):
        assert first.create([new("a")], replacing=None) == [True]
        assert second.create([new("b")], replacing=None) == [True]
        assert first.create([new("c")], replacing=None) == [True]
        other.rollback()
        one.commit()
    assert await stage.backend.get("b") is None
    assert (await stage.record("a")).status == (await stage.record("c")).status == "running"


async def only_a_connection_of_its_driver_is_taken(stage: Stage) -> None:
    if _is_refused(stage):
        return
    assert "object object" in _refusal(stage), "the error must say what was given"


async def _attempt(stage: Stage) -> ActivityKey:
    """Have w1 hold an instance with an activity, and w2 that activity."""
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", "0:1")))
    assert await stage.take_commands("w2", 1) == ["0:0"]
    return key("a", "0:0")


async def an_activity_ends_with_its_transaction(stage: Stage) -> None:
    if _has_no_transactions(stage):
        return
    leased = await _attempt(stage)
    seen = stage.backend.changes()
    with stage.backend.activity_transaction("w2", leased, 1) as transaction:
        transaction.connection.cursor().execute("CREATE TEMPORARY TABLE left_there (x INTEGER)")
        transaction.connection.cursor().execute("INSERT INTO left_there VALUES (1)")
        assert len(await stage.backend.activities("a")) == 2
        assert transaction.finish(b"done")
    assert [each.key.command for each in await stage.backend.activities("a")] == ["0:1"]
    with anyio.fail_after(_PATIENCE):
        while not (taken := await stage.take()):
            await stage.backend.wait_change(seen, _PATIENCE)
            seen = stage.backend.changes()
    assert events(taken) == [b"done"]
    # Another attempt of it, in whatever worker, comes too late.
    with stage.backend.activity_transaction("w2", leased, 1) as transaction:
        assert not transaction.finish(b"again")
    assert await stage.take() == []


async def a_transaction_without_its_lease_stores_nothing(stage: Stage) -> None:
    if _has_no_transactions(stage):
        return
    leased = await _attempt(stage)
    for worker, activity, attempt in (
        ("w1", leased, 1),
        ("w2", leased, 2),
        ("w2", key("a", "0:1"), 1),
        ("w2", key("a", "0:0", execution=2), 1),
        ("w2", key("a", "0:0", life="another"), 1),
    ):
        with stage.backend.activity_transaction(worker, activity, attempt) as transaction:
            assert not transaction.finish(b"stolen")
    with stage.backend.activity_transaction("w2", leased, 1):
        pass  # its function has failed
    assert len(await stage.backend.activities("a")) == 2
    assert (await stage.record("a")).unread == 0


async def a_cancel_does_not_undo_what_an_activity_commits(stage: Stage) -> None:
    if _has_no_transactions(stage):
        return
    leased = await _attempt(stage)
    cancelled = [CancelledActivity("0:0", b"cancelled")]
    await stage.stored(step("a", 1, cancelled=cancelled))
    with stage.backend.activity_transaction("w2", leased, 1) as transaction:
        assert transaction.finish(b"done")
    assert stage.backend.heartbeat("w2").cancelled == []
    assert events(await stage.take()) == [b"done"]


async def an_activity_that_nobody_waits_for_commits_nothing(stage: Stage) -> None:
    if _has_no_transactions(stage):
        return
    backend = stage.backend
    await stage.workers("w1", "w2")

    async def terminate(id: str) -> None:
        assert await backend.terminate(id, TERMINATED) == "done"

    async def reset(id: str) -> None:
        to = Reset(
            id=id,
            life="",
            execution=1,
            turns=1,
            inbox=[],
            ending=b"{}",
            beginning=Beginning(),
            outcome=TERMINATED,
        )
        assert await backend.reset(to) == "done"

    async def replace(id: str) -> None:
        assert await backend.create([new(id)], replacing=TERMINATED) == [True]

    for change in (terminate, reset, replace):
        id = change.__name__
        await stage.hold(id)
        await stage.stored(step(id, 0, activities=named("0:0")))
        assert await stage.take_commands("w2") == ["0:0"]
        if not stage.callers_overlap:  # nobody could change it while the transaction is open
            await change(id)
        with backend.activity_transaction("w2", key(id, "0:0"), 1) as transaction:
            if stage.callers_overlap:
                await change(id)
            assert not transaction.finish(b"late"), f"{id}: it was committed"
        assert await backend.inbox(id) == []
        await stage.take()


def _has_no_transactions(stage: Stage) -> bool:
    if stage.connect is not None:
        return False
    try:
        with stage.backend.activity_transaction("w", key("a", "0:0"), 1):
            return True  # it needs no connection of the stage's
    except TransactionRefused:
        return True


def _refusal(stage: Stage) -> str:
    try:
        stage.backend.in_transaction(object())
    except TransactionRefused as exc:
        return str(exc)
    raise AssertionError("something that is no connection was taken")


CASES: tuple[Case, ...] = (
    an_instance_is_there_when_the_caller_commits,
    nothing_is_there_when_the_caller_rolls_back,
    messages_arrive_when_the_caller_commits,
    a_taken_id_leaves_the_transaction_of_the_caller_open,
    two_callers_start_instances_side_by_side,
    only_a_connection_of_its_driver_is_taken,
    an_activity_ends_with_its_transaction,
    a_transaction_without_its_lease_stores_nothing,
    a_cancel_does_not_undo_what_an_activity_commits,
    an_activity_that_nobody_waits_for_commits_nothing,
)
