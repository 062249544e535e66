"""Activities that write in the store's own transaction: what they write is there exactly once."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading

import anyio
import pytest

from tests.stores import connection_of, marked, open_store, opened
from trioflow import (
    ActivityTimeout,
    DefinitionError,
    Interceptor,
    NonRetryable,
    Registry,
    RemoteError,
    RetryPolicy,
    TrioflowError,
    activity,
    activity_connection,
    activity_info,
    open_worker,
)
from trioflow.backends.sql.transactions import SqlActivityTransaction
from trioflow.testing import activity_context, open_tester

flows = Registry()
QUICK = RetryPolicy(max_attempts=3, initial_interval=0.01)

SQL = ("sqlite", "postgres", "mariadb")


@pytest.fixture(params=marked(SQL))
def store(request, tmp_path, servers):
    return open_store(request.param, tmp_path, servers)


def write(text):
    activity_connection().cursor().execute(f"INSERT INTO entries VALUES ('{text}')")


def make_table(backend):
    with contextlib.closing(connection_of(backend)()) as connection:
        cursor = connection.cursor()
        cursor.execute("DROP TABLE IF EXISTS entries")
        cursor.execute("CREATE TABLE entries (name VARCHAR(40))")
        connection.commit()


def entries(backend):
    with contextlib.closing(connection_of(backend)()) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT name FROM entries ORDER BY name")
        return [name for (name,) in cursor.fetchall()]


@contextlib.asynccontextmanager
async def working(store, **options):
    async with opened(store()) as backend:
        make_table(backend)
        options = {"registry": flows, "drain": 0, **options}
        async with open_worker(backend, **options) as worker:
            with anyio.fail_after(50):
                yield worker.client, backend


@flows.activity(transactional=True, retry=QUICK)
def book(name: str) -> str:
    write(name)
    return f"booked {name}"


@flows.activity(transactional=True, retry=QUICK)
def fail_twice(name: str) -> int:
    attempt = activity_info().attempt
    write(f"{name} {attempt}")
    if attempt < 3:
        raise ValueError(name)
    return attempt


@flows.activity(transactional=True, retry=RetryPolicy(max_attempts=1))
def refuse(name: str) -> None:
    write(name)
    raise ValueError("no room")


@flows.activity(transactional=True, retry=RetryPolicy(max_attempts=1))
def exhaust(name: str) -> None:
    write(name)
    raise StopIteration


@flows.activity(transactional=True)
def meddle(name: str) -> None:
    write(name)
    activity_connection().rollback()


@flows.activity(transactional=True)
def give_an_object(name: str) -> int:
    write(name)
    return object()


@flows.workflow
async def calling(name: str, *args: str) -> list[object]:
    activity = flows.activities[name]
    return [await activity(arg) for arg in args]


class Around(Interceptor):
    """Goes on or not, and tells something else than what happened."""

    def __init__(self):
        self.gave = []

    async def activity(self, call, proceed):
        if call.args == ("kept out",):
            return "instead"
        self.gave.append(await proceed())
        if call.args == ("then fails",):
            raise ValueError("too late")
        return "something else"


async def test_interceptors_do_not_change_how_its_transaction_ends(tmp_path, caplog):
    around = Around()
    async with working(open_store("sqlite", tmp_path, None), interceptors=[around]) as (
        client,
        backend,
    ):
        assert await client.run(calling, "book", "a", "then fails") == [
            "booked a",
            "booked then fails",
        ]
        assert around.gave == [None, None]
        assert "interceptor failed after the transactional activity 'book'" in caplog.text
        with pytest.raises(NonRetryable, match=r"did not await proceed\(\)"):
            await client.run(calling, "book", "kept out")
        with pytest.raises(RemoteError, match="StopIteration"):
            await client.run(calling, "exhaust", "b")
        assert entries(backend) == ["a", "then fails"]


async def test_what_it_writes_is_stored_with_its_result(store):
    async with working(store) as (client, backend):
        assert await client.run(calling, "book", "a", "b") == ["booked a", "booked b"]
        assert entries(backend) == ["a", "b"]
        assert await client.run(calling, "fail_twice", "c") == [3]
        assert entries(backend) == ["a", "b", "c 3"]


async def test_nothing_is_stored_of_what_fails(store):
    async with working(store) as (client, backend):
        with pytest.raises(ValueError, match="no room"):
            await client.run(calling, "refuse", "a")
        with pytest.raises(NonRetryable, match="leave commit"):
            await client.run(calling, "meddle", "a")
        with pytest.raises(Exception, match="give_an_object.* result"):
            await client.run(calling, "give_an_object", "a")
        assert entries(backend) == []
        assert await client.run(calling, "book", "a") == ["booked a"]


async def test_many_at_once(store):
    async with working(store) as (client, backend):
        names = [f"{number:02}" for number in range(20)]
        starts = [await client.start(calling, "book", name) for name in names]
        for start, name in zip(starts, names, strict=True):
            assert await start.result() == [f"booked {name}"]
        assert entries(backend) == names


@pytest.fixture
def ends(monkeypatch):
    """Is released whenever a transaction has ended."""
    released, leave = threading.Semaphore(0), SqlActivityTransaction.__exit__

    def left(self, *error):
        leave(self, *error)
        released.release()

    monkeypatch.setattr(SqlActivityTransaction, "__exit__", left)
    return released


async def test_one_whose_time_is_over_writes_nothing(store, ends):
    goes_on, own = threading.Event(), Registry()

    @own.activity(transactional=True, timeout=0.5, retry=RetryPolicy(max_attempts=1))
    def late(name: str) -> None:
        goes_on.wait(20)
        write(name)

    @own.workflow
    async def calls_late() -> None:
        await late("a")

    async with working(store, registry=own) as (client, backend):
        try:
            with pytest.raises(ActivityTimeout):
                await client.run(calls_late)
        finally:
            goes_on.set()
        assert await anyio.to_thread.run_sync(lambda: ends.acquire(timeout=20))
        assert entries(backend) == []


async def test_one_that_hangs_keeps_no_lock(store, ends):
    goes_on, own, hung, errors = threading.Event(), Registry(), [], []
    until_one_is_quick = RetryPolicy(max_attempts=None, initial_interval=0.01)

    @own.activity(transactional=True, timeout=0.5, retry=until_one_is_quick)
    def change(name: str) -> int:
        attempt = activity_info().attempt
        change_to = f"UPDATE entries SET name = '{name} {attempt}'"
        activity_connection().cursor().execute(change_to)
        if not hung:
            hung.append(attempt)
            goes_on.wait(30)
            try:
                activity_connection().cursor().execute(change_to)
            except Exception as exc:
                errors.append(exc)
                raise
        return attempt

    @own.workflow
    async def calls_change() -> int:
        return await change("a")

    async with working(store, registry=own) as (client, backend):
        with contextlib.closing(connection_of(backend)()) as connection:
            connection.cursor().execute("INSERT INTO entries VALUES ('old')")
            connection.commit()
        try:
            # A later attempt writes the row that one which still hangs has written.
            done = await client.run(calls_change)
        finally:
            goes_on.set()
        assert done > hung[0]
        while not errors:
            assert await anyio.to_thread.run_sync(lambda: ends.acquire(timeout=20))
        assert entries(backend) == [f"a {done}"]
        assert len(errors) == 1, "the driver must refuse the next statement"


async def test_a_statement_that_never_ends_keeps_no_lock(store, ends):
    own = Registry()

    @own.activity(transactional=True, timeout=0.3, retry=RetryPolicy(max_attempts=1))
    def count_for_ever(endless: str) -> None:
        write("a")
        activity_connection().cursor().execute(endless).fetchall()

    @own.workflow
    async def calls_it(endless: str) -> None:
        await count_for_ever(endless)

    async with working(store, registry=own) as (client, backend):
        if backend.name == "mysql":
            pytest.skip("the server ends a statement first")
        endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT sum(x) FROM n"
        with pytest.raises(ActivityTimeout):
            await client.run(calls_it, endless)
        assert await anyio.to_thread.run_sync(lambda: ends.acquire(timeout=20))
        assert entries(backend) == []


async def test_an_attempt_that_has_lost_its_lease_writes_nothing(store, ends):
    began, goes_on, own = threading.Event(), threading.Event(), Registry()

    @own.activity(transactional=True)
    def twice(name: str) -> int:
        attempt = activity_info().attempt
        if attempt == 1:
            began.set()
            goes_on.wait(20)
        write(f"{name} {attempt}")
        return attempt

    @own.workflow
    async def calls_twice() -> int:
        return await twice("a")

    async with working(store, registry=own) as (client, backend):
        if backend.name == "sqlite":
            pytest.skip("a writer is alone: nobody can take the lease meanwhile")
        handle = await client.start(calls_twice)
        await anyio.to_thread.run_sync(began.wait, 20)
        async with opened(store()) as other:
            reclaimed = await other.reclaim(-1.0)  # as if the worker had been silent for long
            assert reclaimed
            assert await handle.result() == 2
        goes_on.set()
        for _ in range(2):
            assert await anyio.to_thread.run_sync(lambda: ends.acquire(timeout=20))
        assert entries(backend) == ["a 2"]


# --- crashes ----------------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys
import trio
from tests.worker import test_transactional as tests
from trioflow import Registry, activity_info, run_worker
from trioflow.backends.sql.transactions import SqlActivityTransaction
from trioflow.backends.urls import open_backend

def die():
    os.kill(os.getpid(), signal.SIGKILL)

when, finish = sys.argv[1], SqlActivityTransaction.finish

def finish_and_die(self, event):
    if when == "before":
        die()
    finish(self, event)
    die()

SqlActivityTransaction.finish = finish_and_die
trio.run(lambda: run_worker(tests.from_words(sys.argv[2:]), registry=tests.flows, lease=1.0))
"""


def to_words(backend):
    """Return what `from_words` makes such a backend of, in another process."""
    if backend.name == "sqlite":
        return ["sqlite", str(backend.path)]
    if backend.name == "postgres":
        return ["postgres", backend._get.keywords["host"], backend.schema]
    return ["mysql", backend.place.removeprefix("mysql://")]


def from_words(words):
    from trioflow.backends import MysqlBackend, PostgresBackend, SqliteBackend  # noqa: PLC0415

    kind, place, *rest = words
    if kind == "sqlite":
        return SqliteBackend(place)
    if kind == "postgres":
        url = f"host={place} user=trioflow dbname=postgres"
        return PostgresBackend(url, schema=rest[0])
    socket, _, database = place.rpartition("/")
    return MysqlBackend(f"mysql://root@localhost/{database}?unix_socket={socket}")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_worker_that_is_killed_at_the_commit_writes_once(store, when):
    async with opened(store()) as backend:
        make_table(backend)
        async with open_worker(backend, registry=flows, activities=False, lease=1.0) as worker:
            handle = await worker.client.start(calling, "book", "a", "b")
            command = [sys.executable, "-c", PROGRAM, when, *to_words(backend)]
            process = await anyio.run_process(command, check=False, stderr=subprocess.PIPE)
            assert process.returncode == -signal.SIGKILL, process.stderr.decode()
            assert entries(backend) == ([] if when == "before" else ["a"])
        async with open_worker(backend, registry=flows, lease=1.0):
            with anyio.fail_after(30):
                async with opened(store()) as other, open_worker(other, registry=flows) as worker:
                    handle = worker.client.handle(handle.id, calling)
                    assert await handle.result() == ["booked a", "booked b"]
        assert entries(backend) == ["a", "b"]


# --- elsewhere --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", marked(["memory", "redis"]))
async def test_a_store_without_transactions_says_so(kind, tmp_path, servers):
    async with (
        opened(open_store(kind, tmp_path, servers)()) as backend,
        open_worker(backend, registry=flows, drain=0) as worker,
    ):
        with pytest.raises(NonRetryable, match=r"'book' is transactional: a .* store has no"):
            await worker.client.run(calling, "book", "a")


async def test_in_a_test_it_is_the_function_that_it_is():
    with pytest.raises(TrioflowError, match="connection=…"):
        await book("a")
    said = []

    class Connection:
        def cursor(self):
            return self

        def execute(self, sql):
            said.append(sql)

    with activity_context(connection=Connection()):
        assert await book("a") == "booked a"
    assert said == ["INSERT INTO entries VALUES ('a')"]
    async with open_tester(registry=flows) as tester:
        tester.fake(book, lambda name: f"faked {name}")
        assert await tester.run(calling, "book", "a") == ["faked a"]


def test_it_is_a_plain_function_in_a_thread():
    with pytest.raises(DefinitionError, match="plain function"):

        @activity(transactional=True)
        async def wrong() -> None: ...

    with pytest.raises(DefinitionError, match="plain function"):

        @activity(transactional=True, runtime="process")
        def also_wrong() -> None: ...

    with pytest.raises(TypeError, match="transactional"):

        @activity(transactional="yes")
        def wrong_too() -> None: ...
