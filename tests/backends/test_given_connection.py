"""The SQLite store on a connection that it is given."""

from __future__ import annotations

import contextlib
import sqlite3
import threading

import pytest
import trio

from tests.stores import Clock, opened
from trioflow import BackendError, Registry, Signal, TransactionRefused, open_client, open_worker
from trioflow.backends.sqlite.backend import SqliteBackend
from trioflow.testing.conformance import Stage, conformance_cases

number = Signal("number", int)
flows = Registry()


@flows.activity
async def double(value: int) -> int:
    return 2 * value


@flows.workflow
async def add(first: int) -> int:
    return await double(first) + await number.receive()


@contextlib.contextmanager
def given(path=":memory:", **options):
    connection = sqlite3.connect(path, check_same_thread=False, **options)
    try:
        yield connection
    finally:
        connection.close()


async def test_every_case_of_the_contract_in_its_memory():
    for case in conformance_cases():
        with given() as connection:
            clock = Clock()
            async with opened(SqliteBackend(connection, clock=clock)) as backend:
                await case(Stage(backend, clock.advance))


@pytest.mark.parametrize("place", ["memory", "file"])
async def test_workflows_run_on_it_and_it_is_given_back_as_it_was(place, tmp_path):
    path = ":memory:" if place == "memory" else tmp_path / "shop.db"
    with given(path) as connection:
        connection.row_factory = sqlite3.Row
        connection.text_factory = bytes
        connection.execute("CREATE TABLE orders (name)")
        for first in (1, 2):  # what the first has stored is there for the second
            async with (
                opened(SqliteBackend(connection, prefix="flow_")) as backend,
                open_worker(backend, registry=flows, drain=0) as worker,
            ):
                handle = await worker.client.start(add, first)
                await handle.signal(number, 5)
                assert await handle.result() == 2 * first + 5
                assert await worker.client.count() == first
            assert connection.isolation_level == ""
            connection.execute("INSERT INTO orders VALUES ('tea')")
            assert connection.in_transaction  # as the driver does it by itself
            connection.commit()
            row = connection.execute("SELECT name FROM orders").fetchone()
            assert row["name"] == b"tea"


async def test_others_may_use_its_file_but_not_its_connection(tmp_path):
    path = tmp_path / "shop.db"
    with given(path) as connection, contextlib.closing(sqlite3.connect(path)) as other:
        async with opened(SqliteBackend(connection)) as backend:
            assert backend.shared
            async with open_client(backend, registry=flows) as client:
                with pytest.raises(TransactionRefused, match="the store's own"):
                    client.in_transaction(connection)
                client.in_transaction(other).start(add, 1)
                other.commit()
                assert await client.count() == 1


async def test_memory_takes_part_in_no_transactions():
    with given() as connection, given() as other:
        async with opened(SqliteBackend(connection)) as backend:
            assert not backend.shared
            async with open_client(backend, registry=flows) as client:
                transaction = client.in_transaction(other)
                with pytest.raises(TransactionRefused, match="keep it in a file"):
                    transaction.start(add, 1)


async def test_what_cannot_be_given():
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        backend = SqliteBackend(connection)
        with pytest.raises(BackendError, match="check_same_thread=False"):
            await backend.open()
    with given() as busy:
        busy.execute("CREATE TABLE orders (name)")
        busy.execute("INSERT INTO orders VALUES ('tea')")
        with pytest.raises(BackendError, match="in a transaction; commit it first"):
            await SqliteBackend(busy).open()
        busy.rollback()
        async with opened(SqliteBackend(busy)):
            pass


async def test_a_heartbeat_in_its_memory_waits_for_a_transaction_that_is_open():
    """It has no other connection, and must not become a part of what another thread writes."""
    with given() as connection:
        async with opened(SqliteBackend(connection)) as backend:
            await backend.register_worker("w", "w")
            session = backend._connections.calls
            begun, beaten = threading.Event(), threading.Event()

            def hold():
                with session.store.transaction():
                    begun.set()
                    return beaten.wait(0.3)

            def beat():
                begun.wait(20)
                answer = backend.heartbeat("w")
                beaten.set()
                return answer

            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, beat)
                assert not await trio.to_thread.run_sync(session.call, hold)
            assert beaten.is_set()
