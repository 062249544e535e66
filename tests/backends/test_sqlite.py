"""What only the SQLite file store has: its schema, its files, its thread, its waking."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
import trio
import trio.testing
from outcome import Value

from tests.backends.old_rows import OLD_BYTES, OLD_ROWS, old_rows_go_on
from trioflow._model.limits import NO_LIMITS
from trioflow.backends.commits import Closing, InstanceCommit, NewInstance, Unit
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.moves import Fence
from trioflow.backends.records import Execution, Heartbeat
from trioflow.backends.sql.operations import changes, leases, moves, reads
from trioflow.backends.sql.store import SqlStore
from trioflow.backends.sqlite import dialect as sqlite_dialect
from trioflow.backends.sqlite import schema as sqlite_schema
from trioflow.backends.sqlite.backend import SqliteBackend
from trioflow.errors import (
    BackendUnavailable,
    CorruptStore,
    LeaseLost,
    SchemaError,
    StoreFenced,
)
from trioflow.testing.conformance.stage import step

SCHEMA = Path(__file__).with_name("sqlite_schema.sql")


def new(id, input=b"[]"):
    return NewInstance(id, "flow", "default", input)


async def opened(path, **options):
    backend = SqliteBackend(path, **options)
    await backend.open()
    return backend


async def open_and_close(path, **options):
    await (await opened(path, **options)).aclose()


# --- changes of others --------------------------------------------------------------------------


async def test_others_hear_of_changes_and_not_of_heartbeats(tmp_path):
    path = tmp_path / "flow.db"
    one, other = await opened(path), await opened(path)

    async def hears():
        return await one._look(type(one._store()).changed_by_others)

    await other.register_worker("w", "w")
    assert not await hears()
    assert other.heartbeat("w").alive
    assert not await hears()
    await other.create([new("a")])
    assert await hears()
    assert not await hears()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN")
        other.in_transaction(connection).create([new("b")], replacing=None)
        assert not await hears()
        connection.commit()
    assert await hears()
    assert (await one.take_instances("w", ("default",), 9)).instances
    assert not await hears()
    await one.aclose()
    await other.aclose()


# --- schema ------------------------------------------------------------------------------------


def test_all_migrations_together_equal_the_schema(tmp_path):
    path = tmp_path / "flow.db"
    trio.run(open_and_close, path)
    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE '%sqlite%' "
            "ORDER BY type DESC, name"
        ).fetchall()
    connection.close()
    assert "\n".join(row[0] + ";" for row in rows) + "\n" == SCHEMA.read_text()


async def test_opening_again_changes_nothing(tmp_path):
    path = tmp_path / "flow.db"

    for number in range(3):
        backend = await opened(path)
        assert await backend.create([new(f"a{number}")]) == [True]
        await backend.open()
        await backend.aclose()
        await backend.aclose()
    backend = await opened(path)
    assert await backend.count(InstanceFilter()) == 3
    await backend.aclose()


async def test_processes_may_open_a_new_file_at_once(tmp_path):
    program = (
        "import sys, trio\n"
        "from trioflow.backends.sqlite.backend import SqliteBackend\n"
        "from trioflow.backends.commits import NewInstance\n"
        "async def main():\n"
        "    backend = SqliteBackend(sys.argv[1])\n"
        "    sys.stdin.readline()\n"
        "    await backend.open()\n"
        "    assert await backend.create([NewInstance(sys.argv[2], 'w', 'q', b'')]) == [True]\n"
        "    await backend.aclose()\n"
        "trio.run(main)\n"
    )
    path = str(tmp_path / "flow.db")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, path, str(number)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=50)
        assert (process.returncode, errors) == (0, "")

    backend = await opened(path)
    assert await backend.count(InstanceFilter()) == 4
    await backend.aclose()


def test_a_newer_schema_is_refused_and_named(tmp_path):
    path = tmp_path / "flow.db"
    trio.run(open_and_close, path)
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
            "VALUES ('trioflow', '0999_future', '')"
        )
    connection.close()
    known = sqlite_schema._MIGRATIONS[-1][0]
    for migrate in (True, False):
        with pytest.raises(SchemaError, match=rf"flow\.db.*'0999_future'.*'{known}'"):
            trio.run(partial(open_and_close, path, migrate=migrate))


def test_tables_of_others_are_refused(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE instances (id)")
    connection.close()
    with pytest.raises(SchemaError, match=r"other\.db has a table 'instances'"):
        trio.run(open_and_close, path)


async def test_migrating_can_be_left_to_a_call(tmp_path):
    path = tmp_path / "flow.db"

    backend = SqliteBackend(path, migrate=False)
    with pytest.raises(SchemaError, match="migrate"):
        await backend.open()
    await backend.migrate()
    await backend.open()
    assert await backend.create([new("a")]) == [True]
    await backend.aclose()


def test_a_failing_migration_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "flow.db"
    good = sqlite_schema._MIGRATIONS
    bad = (*good, ("0002_bad", "CREATE TABLE fine (id);\nCREATE TABLE fine (id);\n"))
    monkeypatch.setattr(sqlite_schema, "_MIGRATIONS", bad)
    with pytest.raises(Exception, match="already exists"):
        trio.run(open_and_close, path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    connection.close()
    monkeypatch.setattr(sqlite_schema, "_MIGRATIONS", good)
    trio.run(open_and_close, path)


async def test_what_was_stored_before_lives_goes_on(tmp_path, monkeypatch):
    path = tmp_path / "flow.db"
    now = sqlite_schema._MIGRATIONS
    monkeypatch.setattr(sqlite_schema, "_MIGRATIONS", now[:2])
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        sqlite_schema.SqliteMigrations("old").apply(connection)
        for statement in OLD_ROWS:
            connection.execute(statement)
        for table, column in OLD_BYTES:
            connection.execute(f"UPDATE {table} SET {column} = CAST({column} AS BLOB)")
        connection.execute("UPDATE counters SET value = 1")
    monkeypatch.setattr(sqlite_schema, "_MIGRATIONS", now)

    backend = await opened(path)
    await old_rows_go_on(backend)
    await backend.aclose()


# --- files that are not as they should be ------------------------------------------------------


def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a database at all, " * 100)
    with pytest.raises(CorruptStore, match=r"notes\.txt"):
        trio.run(open_and_close, path)


async def test_a_damaged_file(tmp_path):
    path = tmp_path / "flow.db"

    backend = await opened(path)
    await backend.create([new(f"{number}", b"[" + b"1" * 9000 + b"]") for number in range(50)])
    await backend.aclose()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(CorruptStore, match=r"flow\.db is damaged"):
        await open_and_close(path)


def test_a_missing_directory(tmp_path):
    with pytest.raises(BackendUnavailable, match=r"no directory .*nowhere; create it"):
        trio.run(open_and_close, tmp_path / "nowhere" / "flow.db")


def test_a_read_only_file(tmp_path):
    path = tmp_path / "flow.db"
    trio.run(open_and_close, path)
    with pytest.raises(BackendUnavailable, match=r"flow\.db.* cannot be written"):
        trio.run(open_and_close, f"file:{path}?mode=ro")


async def test_a_full_disk_stores_nothing_and_passes(tmp_path):
    backend = await opened(tmp_path / "flow.db")
    connection = backend._store().connection
    await backend.create([new("before")])
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    big = b"[" + b"1" * 100_000 + b"]"
    with pytest.raises(BackendUnavailable, match=r"flow\.db cannot grow.*make room"):
        await backend.create([new("small"), new("big", big)])
    assert await backend.get("small") is None
    connection.execute("PRAGMA max_page_count = 1000000")
    assert await backend.create([new("small"), new("big", big)]) == [True, True]
    await backend.aclose()


async def test_calls_that_wait_share_a_transaction_but_not_their_failures(tmp_path):
    backend = await opened(tmp_path / "flow.db")
    await backend.register_worker("w1", "w")
    connection = backend._store().connection
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    go = threading.Event()
    results = {}

    async def start(id):
        results[id] = await backend.create([new(id)])

    async def commit_nothing(worker):
        try:
            results[worker] = await backend.commit(worker, [])
        except LeaseLost:
            results[worker] = "lost"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(backend._connections.thread.run, go.wait, 30)
        await trio.testing.wait_all_tasks_blocked()
        for id in "abca":
            nursery.start_soon(start, id)
        nursery.start_soon(commit_nothing, "w1")
        nursery.start_soon(commit_nothing, "w2")
        await trio.testing.wait_all_tasks_blocked()
        go.set()
    assert sorted(results) == ["a", "b", "c", "w1", "w2"]
    assert results["b"] == results["c"] == [True]
    assert (results["w1"], results["w2"]) == ([], "lost")
    assert statements.count("COMMIT") == 1
    connection.set_trace_callback(None)
    assert await backend.count(InstanceFilter()) == 3
    await backend.aclose()


async def test_a_full_disk_fails_all_that_shared_the_transaction(tmp_path):
    backend = await opened(tmp_path / "flow.db")
    store = backend._store()
    pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
    store.connection.execute(f"PRAGMA max_page_count = {pages}")
    big = new("big", b"[" + b"1" * 100_000 + b"]")
    calls = [
        lambda: changes.create(store, [new("before")]),
        lambda: changes.create(store, [big]),
        lambda: reads.count(store, InstanceFilter()),
        lambda: changes.create(store, [new("after")]),
    ]
    connections = backend._connections
    outcomes = await connections.thread.run(connections.calls.call_together, calls)
    stored = [await backend.get(id) is not None for id in ("before", "big", "after")]
    for index, found in zip((0, 1, 3), stored, strict=True):
        assert isinstance(outcomes[index], Value) is found
    assert not stored[1]
    with pytest.raises(BackendUnavailable, match="cannot grow"):
        outcomes[1].unwrap()
    await backend.aclose()


async def test_a_lost_transaction_fails_what_was_in_it_and_nothing_else(tmp_path):
    backend = await opened(tmp_path / "flow.db")
    store = backend._store()

    def lose():
        store.connection.execute("ROLLBACK")
        raise BackendUnavailable("the disk is gone")

    calls = [
        lambda: changes.create(store, [new("before")]),
        lose,
        lambda: changes.create(store, [new("after")]),
    ]
    connections = backend._connections
    outcomes = await connections.thread.run(connections.calls.call_together, calls)
    for index in (0, 1):
        with pytest.raises(BackendUnavailable, match="the disk is gone"):
            outcomes[index].unwrap()
    assert outcomes[2].unwrap() == [True]
    assert await backend.get("before") is None
    assert await backend.get("after") is not None
    await backend.aclose()


async def test_a_worker_is_kept_out_when_a_move_broke_off_before_it_ended_the_workers(
    tmp_path, monkeypatch
):
    backend, mover = await opened(tmp_path / "flow.db"), await opened(tmp_path / "flow.db")
    await backend.register_worker("w1", "w")
    await backend.create([new("a")])
    assert (await backend.take_instances("w1", ("default",), 1)).instances

    def die(store):
        raise BackendUnavailable("the disk is gone")

    monkeypatch.setattr(moves, "end_workers", die)
    with pytest.raises(BackendUnavailable):
        await mover.fence(Fence(move="m", role="source", other="elsewhere", at=0.0))
    with pytest.raises(StoreFenced, match="moved to elsewhere"):
        await backend.commit("w1", [Unit(instances=[step("a", 0)])])
    with pytest.raises(StoreFenced, match="moved to elsewhere"):
        await backend.create([new("b")])
    await mover.aclose()
    await backend.aclose()


async def test_a_destination_is_cleared_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(moves, "_CLEARED_AT_ONCE", 2)
    backend = await opened(tmp_path / "flow.db")
    fence = Fence(move="m", role="destination", other="elsewhere", at=0.0)
    await backend.create([new(f"n{number}") for number in range(5)])
    assert await backend.fence(fence) is None
    connection = backend._store().connection
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    assert await backend.clear("m")
    connection.set_trace_callback(None)
    # Three parts, what is left, and the news of it.
    assert sum(statement.startswith("BEGIN") for statement in statements) == 3 + 1 + 1
    assert await backend.count(InstanceFilter()) == 0
    assert connection.execute("SELECT count(*) FROM turns").fetchone() == (0,)
    with pytest.raises(StoreFenced):
        await backend.create([new("late")])
    await backend.aclose()


async def test_a_locked_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_dialect, "_BUSY_TIMEOUT", 0.01)

    path = tmp_path / "flow.db"
    backend = await opened(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BackendUnavailable, match=r"flow\.db is locked by another process"):
        await backend.create([new("a")])
    with pytest.raises(BackendUnavailable, match="is locked"):
        backend.heartbeat("w1")
    other.execute("ROLLBACK")
    other.close()
    assert await backend.create([new("a")]) == [True]
    await backend.aclose()


async def test_a_store_that_is_not_open(tmp_path):
    backend = SqliteBackend(tmp_path / "flow.db")
    with pytest.raises(BackendUnavailable, match="not open"):
        await backend.get("a")
    with pytest.raises(BackendUnavailable, match="not open"):
        backend.heartbeat("w1")
    await backend.aclose()


async def test_what_is_committed_survives_without_closing(tmp_path):
    path = tmp_path / "flow.db"
    program = (
        "import os, sys, trio\n"
        "from trioflow.backends.sqlite.backend import SqliteBackend\n"
        "from trioflow.backends.commits import NewInstance\n"
        "async def main():\n"
        "    backend = SqliteBackend(sys.argv[1])\n"
        "    await backend.open()\n"
        "    await backend.create([NewInstance('a', 'w', 'q', b'')])\n"
        "    os._exit(0)\n"
        "trio.run(main)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=50)

    backend = await opened(path)
    assert await backend.get("a") is not None
    mode = backend._store().connection.execute("PRAGMA journal_mode").fetchone()
    assert mode == ("wal",)
    assert backend._store().connection.execute("PRAGMA synchronous").fetchone() == (2,)
    await backend.aclose()


async def test_the_finished_leave_nothing_in_the_tables_of_the_living(tmp_path):
    backend = await opened(tmp_path / "flow.db")
    await backend.register_worker("w1", "w")
    await backend.create([new("closed"), new("terminated")])
    await backend.take_instances("w1", ("default",), 9)
    for id in ("closed", "terminated"):
        assert await backend.send(id, b"unread") == "done"
    taken = (await backend.take_instances("w1", ("default",), 9)).instances
    (read,) = [one.inbox[0].seq for one in taken if one.id == "closed"]
    closing = InstanceCommit(
        id="closed",
        execution=1,
        number=0,
        consumed=[read],
        closing=Closing("completed", b""),
    )
    assert await backend.commit("w1", [Unit(instances=[closing])]) == [None]
    outcome = b'{"failure":{"type":"T","message":"m"}}'
    assert await backend.terminate("terminated", outcome) == "done"
    for table in ("inbox", "activities"):
        rows = backend._store().connection.execute(f"SELECT count(*) FROM {table}")
        assert rows.fetchone() == (0,)
    await backend.aclose()


async def test_a_prefix_means_all_ids_that_begin_so_whatever_their_characters(tmp_path):
    top = chr(sys.maxunicode)
    ids = [
        "a",
        "a\0",
        "a\0b",
        "a\1",
        "b\ud7ff",
        "b\ud7ffx",
        "b\ue000",
        f"c{top}",
        f"c{top}x",
        "d",
        top,
    ]

    backend = await opened(tmp_path / "flow.db")
    await backend.create([new(id) for id in ids])
    for prefix in {id[:length] for id in ids for length in range(len(id) + 1)}:
        found = await backend.list(InstanceFilter(id_prefix=prefix), limit=99)
        assert [one.id for one in reversed(found)] == [id for id in ids if id.startswith(prefix)]
    await backend.aclose()


async def test_who_holds_something_is_found_without_reading_all_of_it(tmp_path):
    backend = await opened(tmp_path / "flow.db")
    store = backend._store()
    for query in (store.queries.instances_without_row, store.queries.activities_without_row):
        plan = [row[3] for row in store.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()]
        held = [step for step in plan if "instances" in step or "activities" in step]
        assert len(held) == 2
        assert all("SEARCH" in step and "worker>?" in step for step in held), plan
    await backend.aclose()


# --- waking and beating ------------------------------------------------------------------------


@pytest.mark.usefixtures("host")
async def test_a_change_through_another_connection_wakes(tmp_path):
    path = tmp_path / "flow.db"
    one, two = await opened(path), await opened(path)
    with anyio.fail_after(30):
        # Before the wait, but after the number was read: not to be missed.
        seen = one.changes()
        await two.create([new("a")])
        await one.wait_change(seen, 1000.0)
        assert one.changes() > seen
        seen = one.changes()
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(one.wait_change, seen, 1000.0)
            await anyio.lowlevel.checkpoint()
            await two.create([new("b")])
    await one.aclose()
    await two.aclose()


@pytest.mark.usefixtures("host")
async def test_changes_that_share_a_transaction_wake_others(tmp_path):
    path = tmp_path / "flow.db"
    one, two = await opened(path), await opened(path)
    busy, go_on = threading.Event(), threading.Event()

    def keep_busy():
        busy.set()
        go_on.wait()

    with anyio.fail_after(30):
        seen = one.changes()
        async with anyio.create_task_group() as group:
            group.start_soon(two._connections.thread.run, keep_busy)
            while not busy.is_set():
                await anyio.lowlevel.checkpoint()
            for id in "abc":
                group.start_soon(two.create, [new(id)])
            while two._connections.thread._jobs.qsize() < 3:
                await anyio.lowlevel.checkpoint()
            go_on.set()
        await one.wait_change(seen, 1000.0)
        assert one.changes() > seen
    await one.aclose()
    await two.aclose()


async def test_each_worker_that_is_reclaimed_wakes_others(tmp_path):
    path = tmp_path / "flow.db"
    one, two = await opened(path), await opened(path)
    for worker in ("w1", "w2"):
        await two.register_worker(worker, worker)
    look = one._store()
    deleted = []

    def reclaimed():
        store = two._store()
        freed = store.transaction

        @contextlib.contextmanager
        def transaction():
            with freed():
                yield
            deleted.append(look.changed_by_others())

        store.transaction = transaction
        return leases.reclaim(store, -1.0)

    look.changed_by_others()
    two._store().announce()
    assert reclaimed() == ["w1", "w2"]
    assert deleted == [True, True]
    await one.aclose()
    await two.aclose()


async def test_who_looks_for_changes_can_leave(tmp_path):
    path = tmp_path / "flow.db"
    one, two = await opened(path), await opened(path)
    with trio.fail_after(30):
        seen = one.changes()
        async with trio.open_nursery() as nursery:
            leader = trio.CancelScope()

            async def lead():
                with leader:
                    await one.wait_change(seen, 1000.0)

            nursery.start_soon(lead)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(one.wait_change, seen, 1000.0)
            await trio.testing.wait_all_tasks_blocked()
            leader.cancel()
            await two.create([new("a")])
    await one.aclose()
    await two.aclose()


async def test_heartbeats_come_from_a_thread(tmp_path):
    backend = await opened(tmp_path / "flow.db")
    await backend.register_worker("w1", "w")
    answers: list[Heartbeat] = []

    def beat():
        answers.extend(backend.heartbeat(worker) for worker in ("w1", "w2") * 20)

    threads = [threading.Thread(target=beat) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(50):
        await backend.create([new(f"{number}")])
    for thread in threads:
        await trio.to_thread.run_sync(thread.join)
    assert answers.count(Heartbeat(alive=True)) == 40
    assert answers.count(Heartbeat(alive=False)) == 40
    await backend.aclose()


async def test_reads_do_not_wait_for_who_writes(tmp_path, monkeypatch):
    """Neither for another program's transaction nor for a write of this one that waits for it."""
    monkeypatch.setattr(sqlite_dialect, "_BUSY_TIMEOUT", 40.0)
    path = tmp_path / "flow.db"
    backend = await opened(path)
    try:
        await backend.create([new("a")])
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(backend.create, [new("b")])
                await trio.testing.wait_all_tasks_blocked()
                with trio.fail_after(30):
                    record = await backend.get("a")
                    assert record is not None
                    assert [stats.running for stats in await backend.stats()] == [1]
                    assert await backend.history("a") == [Execution(1, [])]
                    assert await backend.limits() == NO_LIMITS
                    assert await backend.get("b") is None
                other.execute("ROLLBACK")
        assert await backend.get("b") is not None, "what this process has written is read by it"
    finally:
        await backend.aclose()


# --- lists ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["running", "suspended"])
@pytest.mark.parametrize(
    "where",
    [
        InstanceFilter(status=("running", "suspended")),
        InstanceFilter(workflow="flow"),
    ],
)
async def test_a_list_by_statuses_is_of_one_moment(tmp_path, monkeypatch, before, where):
    """Each is listed once, though one is paused or resumed behind each statement of the list."""
    path = tmp_path / "flow.db"
    backend = await opened(path)
    await backend.create([new(id) for id in "abc"])
    execute = SqlStore.execute
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    change = "UPDATE instances SET status = ? WHERE id = 'b'"

    def and_change(store, sql, *parameters):
        cursor = execute(store, sql, *parameters)
        rows = cursor.fetchall()
        other.execute(change, (next(statuses),))
        return SimpleNamespace(fetchall=lambda: rows, fetchone=lambda: rows[0])

    other.execute(change, (before,))
    statuses = itertools.cycle(["suspended" if before == "running" else "running", before])
    with monkeypatch.context() as patch:
        patch.setattr(SqlStore, "execute", and_change)
        listed = await backend.list(where, limit=10)
    other.close()
    await backend.aclose()
    assert [record.id for record in listed] == ["c", "b", "a"]
