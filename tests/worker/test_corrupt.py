"""Rows that cannot be read, or do not fit each other: that instance is suspended, others go on."""

from __future__ import annotations

import sqlite3

import pytest

from tests.worker.flow import until_parked, until_status
from trioflow import Registry, Signal

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
