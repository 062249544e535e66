"""Instances that are started, signalled and cancelled in a transaction of the caller's own."""

from __future__ import annotations

import contextlib
import sqlite3

import anyio
import pytest

from tests.stores import ALL, connection_of, marked, open_store, opened
from trioflow import (
    ArgumentError,
    BackendUnavailable,
    ClientClosed,
    InstanceAlreadyExists,
    InstanceCancelled,
    InstanceFinished,
    InstanceNotFound,
    Promise,
    Registry,
    Signal,
    TransactionRefused,
    ValueMismatch,
    open_client,
    open_worker,
    set_status,
)

number = Signal("number", int)
flows = Registry()


@flows.workflow
async def add(first: int) -> int:
    return first + await number.receive()


@flows.workflow
async def pay() -> str:
    promise = Promise("paid", str)
    set_status(promise.token)
    return await promise.receive()


@contextlib.contextmanager
def connected(make):
    connection = make()
    try:
        yield connection
    finally:
        connection.rollback()
        connection.close()


@pytest.fixture(params=marked([each for each in ALL if each not in ("memory", "redis")]))
def store(request, tmp_path, servers):
    return open_store(request.param, tmp_path, servers)


async def test_it_happens_if_the_transaction_commits(store):
    async with (
        opened(store()) as shared,
        opened(store()) as mine,
        open_worker(shared, registry=flows),
        open_client(mine, registry=flows) as client,
    ):
        with connected(connection_of(shared)) as connection:
            connection.cursor().execute("CREATE TEMPORARY TABLE orders (id VARCHAR(20))")
            connection.commit()
            transaction = client.in_transaction(connection)
            connection.cursor().execute("INSERT INTO orders VALUES ('tea')")
            kept = transaction.start(add.options(id="kept"), 1)
            transaction.signal(kept, number, 2)
            with pytest.raises(InstanceNotFound):
                await kept.describe()
            connection.commit()
            with anyio.fail_after(30):
                assert await kept.result() == 3

            connection.cursor().execute("INSERT INTO orders VALUES ('milk')")
            dropped = transaction.start("add", 1)
            transaction.cancel(dropped)
            transaction.start(add.options(id="kept"), 5)
            connection.rollback()
            with pytest.raises(InstanceNotFound):
                await dropped.result()
            assert await kept.result() == 3
            cursor = connection.cursor()
            cursor.execute("SELECT id FROM orders")
            assert len(cursor.fetchall()) == 1


async def test_what_else_fits_into_a_transaction(store):
    async with opened(store()) as backend, open_worker(backend, registry=flows) as worker:
        client = worker.client
        payment = await client.start(pay)
        while not (token := (await payment.describe()).custom_status):
            await anyio.sleep(0.01)
        with connected(connection_of(backend)) as connection:
            transaction = client.in_transaction(connection)
            reached = transaction.signal_with_start(add.options(id="s").bind(1), number, 1)
            again = transaction.start(add.options(id="s", if_exists="return"), 7)
            assert again.life == reached.life
            assert transaction.resolve(token, "cash") is True
            assert transaction.resolve(token, "card") is False
            begun = transaction.start(add.options(id="c", delay=3600), 1)
            transaction.cancel("c", "not needed")
            connection.commit()
        with anyio.fail_after(30):
            assert await reached.result() == 2
            assert await payment.result() == "cash"
            with pytest.raises(InstanceCancelled, match="not needed"):
                await begun.result()


async def test_what_is_refused_changes_nothing_and_leaves_the_transaction(store):
    async with opened(store()) as backend, open_client(backend, registry=flows) as client:
        there = await client.start(add.options(id="there"), 1)
        over = await client.start(add.options(id="over", delay=60), 1)
        await over.cancel()
        with connected(connection_of(backend)) as connection:
            transaction = client.in_transaction(connection)
            kept = transaction.start(add, 1)
            with pytest.raises(InstanceAlreadyExists):
                transaction.start(add.options(id="there"), 1)
            with pytest.raises(InstanceAlreadyExists, match="not of 'pay'"):
                transaction.start(pay.options(id="there", if_exists="return"))
            with pytest.raises(InstanceNotFound):
                transaction.signal("nobody", number, 1)
            with pytest.raises(InstanceFinished):
                transaction.signal(over, number, 1)
            with pytest.raises(ValueMismatch):
                transaction.signal(there, number, "one")
            with pytest.raises(ArgumentError):
                transaction.start(add)
            connection.commit()
        assert (await kept.describe()).status == "running"
        assert (await there.describe()).unread == 0
        assert await client.count() == 3
    with pytest.raises(ClientClosed):
        transaction.start(add, 1)


# --- SQLite -----------------------------------------------------------------------------------


async def test_a_connection_of_sqlite_may_make_rows_of_its_own(tmp_path):
    path = tmp_path / "flow.db"
    async with open_client(f"sqlite:///{path}", registry=flows) as client:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.row_factory = lambda cursor, row: {"first": row[0]}
            connection.text_factory = bytes
            transaction = client.in_transaction(connection)
            with pytest.raises(TransactionRefused, match="BEGIN IMMEDIATE"):
                transaction.start(add, 1)
            assert await client.count() == 0
            connection.execute("BEGIN IMMEDIATE")
            transaction.start(add.options(id="a"), 1)
            found = transaction.start(add.options(id="a", if_exists="return"), 1)
            connection.execute("COMMIT")
            assert connection.execute("SELECT 'x'").fetchone() == {"first": b"x"}
            assert (await found.describe()).id == "a"


async def test_a_connection_to_another_file_is_refused(tmp_path):
    async with open_client(f"sqlite:///{tmp_path / 'flow.db'}", registry=flows) as client:
        for place in (tmp_path / "other.db", ":memory:"):
            with contextlib.closing(sqlite3.connect(place)) as connection:
                transaction = client.in_transaction(connection)
                with pytest.raises(TransactionRefused, match="connect to that one"):
                    transaction.start(add, 1)
        with pytest.raises(TransactionRefused, match=r"takes a sqlite3\.Connection"):
            client.in_transaction(object())


async def test_a_thread_may_use_its_own_connection(tmp_path):
    path = tmp_path / "flow.db"

    def order():
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE orders (id)")
            connection.execute("INSERT INTO orders VALUES (1)")
            return client.in_transaction(connection).start(add, 1)

    async with open_client(f"sqlite:///{path}", registry=flows) as client:
        started = await anyio.to_thread.run_sync(order)
        assert (await started.describe()).status == "running"


async def test_the_thread_of_another_may_not(tmp_path):
    path = tmp_path / "flow.db"
    async with open_client(f"sqlite:///{path}", registry=flows) as client:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE orders (id)")
            connection.execute("INSERT INTO orders VALUES (1)")
            transaction = client.in_transaction(connection)
            with pytest.raises(TransactionRefused, match="in the thread that has opened it"):
                await anyio.to_thread.run_sync(transaction.start, add, 1)
            assert connection.in_transaction
            connection.rollback()
        with pytest.raises(TransactionRefused, match="while it is open"):
            transaction.start(add, 1)


async def test_a_transaction_of_sqlite_that_cannot_write(tmp_path):
    path = tmp_path / "flow.db"
    async with open_client(f"sqlite:///{path}", registry=flows) as client:
        with (
            contextlib.closing(sqlite3.connect(path, timeout=0)) as connection,
            contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other,
        ):
            transaction = client.in_transaction(connection)
            connection.execute("BEGIN")
            connection.execute("SELECT * FROM instances").fetchall()
            await client.start(add, 1)
            with pytest.raises(TransactionRefused, match="began with a read.*BEGIN IMMEDIATE"):
                transaction.start(add, 1)
            assert connection.in_transaction
            connection.rollback()
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(BackendUnavailable, match="locked by another") as raised:
                transaction.start(add, 1)
            assert "rolled back" not in str(raised.value), "nothing was open"
            other.execute("ROLLBACK")
        assert await client.count() == 1


async def test_memory_says_that_it_cannot():
    async with open_client("memory://", registry=flows) as client:
        with pytest.raises(TransactionRefused, match="memory store.*commit first"):
            client.in_transaction(object())


# --- servers ----------------------------------------------------------------------------------


@pytest.mark.servers
async def test_redis_says_that_it_cannot(tmp_path, servers):
    store = open_store("redis", tmp_path, servers)
    async with opened(store()) as backend, open_client(backend, registry=flows) as client:
        with pytest.raises(TransactionRefused, match="Redis store.*commit first"):
            client.in_transaction(object())
        assert await client.count() == 0


@pytest.mark.servers
@pytest.mark.host("asyncio")
async def test_an_async_connection_of_psycopg(tmp_path, servers):
    import psycopg  # noqa: PLC0415

    store = open_store("postgres", tmp_path, servers)
    async with opened(store()) as backend, open_worker(backend, registry=flows) as worker:
        client = worker.client
        async with await psycopg.AsyncConnection.connect(servers.url("postgres")) as connection:
            transaction = client.in_transaction(connection)
            started = await transaction.start(add.options(id="a"), 1)
            await transaction.signal(started, number, 2)
            await connection.execute("SELECT 1")
            await connection.commit()
            with anyio.fail_after(30):
                assert await started.result() == 3
            with pytest.raises(InstanceFinished):
                await transaction.signal(started, number, 2)
            await connection.rollback()
            dropped = await transaction.start(add, 1)
            await connection.rollback()
            with pytest.raises(InstanceNotFound):
                await dropped.describe()
            await connection.set_autocommit(True)
            with pytest.raises(TransactionRefused, match="async with connection.transaction"):
                await transaction.start(add, 1)
            async with connection.transaction():
                kept = await transaction.signal_with_start(add.options(id="b").bind(1), number, 1)
            with anyio.fail_after(30):
                assert await kept.result() == 2


@pytest.mark.servers
async def test_connections_of_psycopg_in_which_nothing_can_be_done(tmp_path, servers):
    import psycopg  # noqa: PLC0415

    url = servers.url("postgres")
    store = open_store("postgres", tmp_path, servers)
    async with opened(store()) as backend, open_client(backend, registry=flows) as client:
        with psycopg.connect(url, autocommit=True) as connection:
            transaction = client.in_transaction(connection)
            with pytest.raises(TransactionRefused, match="begin one first"):
                transaction.start(add, 1)
            with connection.transaction():
                kept = transaction.start(add, 1)
                with connection.pipeline(), pytest.raises(TransactionRefused, match="pipeline"):
                    transaction.start(add, 1)
        with psycopg.connect(url) as connection:
            transaction = client.in_transaction(connection)
            with pytest.raises(psycopg.errors.UndefinedTable):
                connection.execute("SELECT * FROM nothing_of_the_kind")
            with pytest.raises(TransactionRefused, match="has failed; roll it back"):
                transaction.start(add, 1)
            connection.rollback()
            connection.execute("SET client_encoding TO LATIN1")
            with pytest.raises(TransactionRefused, match="UTF8"):
                transaction.start(add, 1)
            connection.rollback()
        with psycopg.connect(url) as connection:
            transaction = client.in_transaction(connection)
            connection.read_only = True
            with pytest.raises(TransactionRefused, match="read-only; set its read_only"):
                transaction.start(add, 1)
            connection.read_only = None
            connection.execute("SET TRANSACTION READ ONLY")
            with pytest.raises(BackendUnavailable, match="accepts no writes"):
                transaction.start(add, 1)
            connection.execute("SELECT 1")
        with psycopg.connect(url, dbname="template1") as connection:
            transaction = client.in_transaction(connection)
            with pytest.raises(TransactionRefused, match="database of the store"):
                transaction.start(add, 1)
        assert await client.count() == 1
        assert (await kept.describe()).status == "running"


@pytest.mark.servers
async def test_connections_of_pymysql_in_which_nothing_can_be_done(tmp_path, servers):
    store = open_store("mariadb", tmp_path, servers)
    async with opened(store()) as backend, open_client(backend, registry=flows) as client:
        with connected(connection_of(backend)) as connection:
            connection.autocommit(True)
            transaction = client.in_transaction(connection)
            with pytest.raises(TransactionRefused, match="begin one first"):
                transaction.start(add, 1)
            connection.begin()
            kept = transaction.start(add, 1)
            connection.commit()
            connection.begin()
            connection.cursor().execute("SET NAMES latin1")
            with pytest.raises(TransactionRefused, match="utf8mb4"):
                transaction.start(add, 1)
            connection.cursor().execute("SET NAMES utf8mb4")
            connection.cursor().execute("SET sql_mode = 'NO_BACKSLASH_ESCAPES'")
            with pytest.raises(TransactionRefused, match="sql_mode"):
                transaction.start(add, 1)
            connection.select_db("mysql")
            with pytest.raises(TransactionRefused, match="connect to that one"):
                transaction.start(add, 1)
        assert (await kept.describe()).status == "running"
        assert await client.count() == 1


@pytest.mark.servers
@pytest.mark.parametrize("pooled", [False, True])
async def test_workers_behind_a_pooler_are_woken_by_the_commit(servers, pooled, monkeypatch):
    import psycopg  # noqa: PLC0415

    from trioflow.backends.postgres import notifier  # noqa: PLC0415
    from trioflow.backends.postgres.backend import PostgresBackend  # noqa: PLC0415

    monkeypatch.setattr(notifier, "_SAFETY", 60.0)
    url, schema = servers.url("postgres"), f"outbox_{pooled}"
    made = PostgresBackend(url, schema=schema, pooled=pooled)
    async with opened(made) as backend, open_client(backend, registry=flows) as client:
        await backend.wait_change(backend.changes(), 1)
        with psycopg.connect(url) as connection:
            client.in_transaction(connection).start(add, 1)
            await backend.wait_change(backend.changes(), 1)  # it may hear of it too early…
            seen = backend.changes()
            connection.commit()
            with anyio.fail_after(30):  # …but must hear of it afterwards, and not by chance
                while backend.changes() == seen:
                    await backend.wait_change(seen, 60)
