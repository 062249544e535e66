"""Rows that cannot be read, or do not fit each other: that instance is suspended, others go on."""

from __future__ import annotations

import sqlite3

import pytest
import trio

from tests.worker.flow import until, until_parked, until_status
from trioflow import Registry, RetryPolicy, Signal, activity_info
from trioflow.backends.commits import NewInstance

number = Signal("number", int)

flows = Registry()


@flows.activity
async def note(n: int) -> int:
    return n


@flows.workflow
async def adding(n: int) -> int:
    total = n
    for _ in range(2):
        total += await note(await number.receive())
    return total


def change(file, *statements):
    with sqlite3.connect(file) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount == 1
    connection.close()


GARBAGE = "x'7b2278'"
BROKEN = {
    "the last turn is gone": ("DELETE FROM turns WHERE number = 2",),
    "a turn in between is gone": ("DELETE FROM turns WHERE number = 1",),
    "a count too high": ("UPDATE instances SET turns = 9",),
    "a count of none": ("UPDATE instances SET turns = 0",),
    "a turn": (f"UPDATE turns SET data = {GARBAGE} WHERE number = 1",),
    "metadata": (
        f"UPDATE instances SET metadata = {GARBAGE}, turns = 0",
        "DELETE FROM turns WHERE number = 0",
        "DELETE FROM turns WHERE number = 1",
        "DELETE FROM turns WHERE number = 2",
    ),
    "a message": (
        "INSERT INTO inbox (instance, seq, event) VALUES ('one', 100000, x'7b2278')",
        "UPDATE instances SET unread = unread + 1, ready_at = 0",
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_store_that_was_damaged(sqlite, broken):
    async with sqlite.client(flows) as client:
        handle = await client.start(adding.options(id="one"), 1)
        async with sqlite.worker(flows):
            await until_parked(handle)
            await handle.signal(number, 10)
            await until_parked(handle, turns=3)
        change(sqlite.file, *BROKEN[broken])
        async with sqlite.worker(flows) as worker:
            await handle.signal(number, 100)
            await until_status(handle, "suspended")
            described = await handle.describe()
            assert described.suspension.kind == "unreadable history" or broken == "metadata"
            assert "'one'" in described.suspension.message
            assert described.worker is None
            other = await worker.client.start(adding.options(id="other"), 1)
            await other.signal(number, 1)
            await other.signal(number, 1)
            assert await other.result() == 3
            assert len(await client.list()) == 2


async def test_a_repaired_message_is_read(sqlite):
    async with sqlite.client(flows) as client:
        handle = await client.start(adding.options(id="one"), 1)
        async with sqlite.worker(flows):
            await until_parked(handle)
        await handle.signal(number, 10)
        await handle.signal(number, 100)
        with sqlite3.connect(sqlite.file) as connection:
            (good,) = connection.execute("SELECT event FROM inbox ORDER BY seq").fetchone()
        connection.close()
        change(
            sqlite.file,
            f"UPDATE inbox SET event = {GARBAGE} WHERE seq IN (SELECT min(seq) FROM inbox)",
        )
        async with sqlite.worker(flows):
            await until_status(handle, "suspended")
            with sqlite3.connect(sqlite.file) as connection:
                connection.execute(
                    "UPDATE inbox SET event = ? WHERE seq IN (SELECT min(seq) FROM inbox)",
                    (good,),
                )
            connection.close()
            await handle.resume()
            assert await handle.result() == 111


@flows.activity(retry=RetryPolicy(initial_interval=0.001, jitter=0))
async def fails_once(n: int) -> int:
    if activity_info().attempt == 1:
        raise ValueError("not yet")
    return n


@flows.workflow
async def waits_for_both(n: int) -> int:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails_once.options(queue="later"), n)
        return await number.receive() + n


WRONG = [
    *(("activities", column, "'x'") for column in ("attempt", "visible_at", "scheduled_at")),
    *(("activities", column, "'x'") for column in ("priority", "execution")),
    *(("activities", column, "7") for column in ("options", "failure")),
    ("activities", "input", "'x'"),
    *(("inbox", "event", value) for value in ("7", "'x'")),
    ("inbox", "arrived_at", "'x'"),
    *(("instances", column, "'x'") for column in ("execution", "turns", "events", "priority")),
    *(("instances", column, "'x'") for column in ("wake_at", "ready_at", "deaths", "level")),
    *(("instances", column, "1.5") for column in ("turns", "deaths")),
    *(("instances", column, "'x'") for column in ("input", "metadata", "carried", "options")),
    *(("instances", column, "'x'") for column in ("created_at", "start_at")),
    *(("instances", column, "x'ff'") for column in ("workflow", "life")),
]


@pytest.mark.parametrize(("table", "column", "value"), WRONG)
async def test_what_is_of_another_type_than_its_column(sqlite, table, column, value):
    async with sqlite.client(flows) as client:
        handle = client.handle("one")
        async with sqlite.worker(flows, activity_queues=["nobody's"]) as worker:
            await worker.client.start(waits_for_both.options(id="one"), 1)

            async def waits():
                described = await handle.describe()
                return described.turns == 1 and described.worker is None

            await until(waits)
        await handle.signal("number", 1)
        with sqlite3.connect(sqlite.file) as connection:
            (before,) = connection.execute(f"SELECT {column} FROM {table}").fetchone()
        connection.close()
        change(sqlite.file, f"UPDATE {table} SET {column} = {value}")
        looked_at = "later" if table == "activities" else "default"
        async with sqlite.worker(flows, activity_queues=["default", looked_at]) as worker:
            await until_status(handle, "suspended")
            report = (await handle.describe()).suspension
            assert report.kind == "unreadable row"
            assert f"instance 'one' cannot be read: column {column!r} of " in report.message
            assert f"table {table!r}" in report.message
            other = await worker.client.start(adding, 1)
            await other.signal(number, 1)
            await other.signal(number, 1)
            assert await other.result() == 3
        assert (await handle.describe()).status == "suspended"
        replaced = "it was replaced" in report.message
        if not replaced:
            with sqlite3.connect(sqlite.file) as connection:
                where = "WHERE id = 'one'" if table == "instances" else ""
                connection.execute(f"UPDATE {table} SET {column} = ? {where}", (before,))
            connection.close()
        if column in ("options", "input", "failure") and replaced:
            return  # it is bytes by now, but none that can be read: it waits, as others do
        async with sqlite.worker(flows, activity_queues=["default", "later"]):
            await handle.resume()
            assert await handle.result() == 2


@pytest.mark.parametrize("value", ["7", "'x'", "x'ff'", "'{\"at\":1}'"])
async def test_a_heartbeat_that_cannot_be_read_keeps_nothing_up(sqlite, value, caplog):
    async with sqlite.client(flows) as client:
        handle = client.handle("one")
        async with sqlite.worker(flows, activity_queues=["nobody's"]) as worker:
            await worker.client.start(waits_for_both.options(id="one"), 1)

            async def waits():
                return (await handle.describe()).activities

            await until(waits)
        change(sqlite.file, f"UPDATE activities SET progress = {value}")
        (described,) = (await handle.describe()).activities
        assert described.heartbeat is None
        assert "heartbeat" in described.undecodable
        await handle.signal("number", 1)
        async with sqlite.worker(flows, activity_queues=["default", "later"]):
            assert await handle.result() == 2
    assert "gave to heartbeat() cannot be read" in caplog.text


async def test_what_another_worker_holds_is_left_to_it(sqlite):
    backend = await sqlite.backend()
    for worker in ("mine", "another's"):
        await backend.register_worker(worker, worker)
    await backend.create([NewInstance("one", "adding", "default", b"{}")])
    (taken,) = (await backend.take_instances("another's", ["default"], 10)).instances
    change(sqlite.file, "UPDATE instances SET level = 'x'")
    await backend.create([NewInstance("two", "adding", "default", b"{}")])
    (other,) = (await backend.take_instances("mine", ["default"], 10)).instances
    assert (taken.id, other.id) == ("one", "two")
    record = await backend.get("one")
    assert (record.status, record.worker) == ("running", "another's")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE workers SET heartbeat_at = 'x'",
        "UPDATE instances SET created_at = 'x'",
        "UPDATE instances SET finished_at = 'x'",
    ],
)
async def test_a_time_that_is_none_does_not_keep_a_store_from_opening(sqlite, statement):
    backend = await sqlite.backend()
    await backend.register_worker("w", "w")
    await backend.create([NewInstance("one", "adding", "default", b"{}")])
    change(sqlite.file, statement)
    another = await sqlite.backend()
    assert (await another.get("one")).status == "running"
    assert another.now() > 0
