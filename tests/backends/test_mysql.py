"""What is MySQL's own: migrations, lost answers, deadlocks, clocks, limits, other backends."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import types
from urllib.parse import urlsplit

import pytest
import trio

pytest.importorskip("pymysql")

import pymysql

from tests.servers import mariadb
from trioflow import activity, open_worker, workflow
from trioflow.backends import mysql_connection, mysql_schema, mysql_server, postgres_clock
from trioflow.backends.mysql import MysqlBackend
from trioflow.backends.mysql_dialect import MysqlDialect
from trioflow.backends.mysql_values import filled, literal
from trioflow.backends.sql.queries import Queries
from trioflow.errors import (
    ArgumentError,
    BackendError,
    BackendUnavailable,
    SchemaError,
)
from trioflow.model.records import (
    Closing,
    InstanceCommit,
    InstanceFilter,
    NewInstance,
    Unit,
)

DONE = Closing("completed", b"{}")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    missing = mariadb.available()
    if missing is not None:
        assert os.environ.get("CI") != "true", missing
        pytest.skip(missing)
    with contextlib.closing(mariadb.Server(tmp_path_factory.mktemp("mariadb"))) as running:
        running.start()
        yield running


@pytest.fixture
def database(server):
    name = "trioflow_test"
    server.drop_database(name)
    server.create_database(name)
    return name


@pytest.fixture
def url(server, database):
    return server.url(database)


@pytest.fixture
def admin(server, database):
    with contextlib.closing(server.connect(database=database)) as connection:
        yield lambda sql, *values: _rows(connection, sql, values)


def _rows(connection, sql, values):
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return list(cursor.fetchall())


@contextlib.asynccontextmanager
async def opened(*args, **options):
    backend = MysqlBackend(*args, **options)
    await backend.open()
    try:
        yield backend
    finally:
        await backend.aclose()


def new(id, **fields):
    return NewInstance(id, **{"workflow": "flow", "queue": "default", "input": b"[]", **fields})


def step(id, number, **fields):
    values = {"execution": 1, "turns": [b"turn %d" % number], "events": number, **fields}
    return InstanceCommit(id=id, number=number, **values)


async def hold(backend, *ids, worker="w1"):
    await backend.register_worker(worker, worker)
    assert await backend.create([new(id) for id in ids]) == [True] * len(ids)
    taken = await backend.take_instances(worker, ["default"], len(ids))
    assert sorted(each.id for each in taken.instances) == sorted(ids)


async def turns(backend, id):
    return (await backend.load([(id, 1)]))[0]


# --- migrations --------------------------------------------------------------------------------


def columns(admin):
    return admin(
        "SELECT table_name, column_name, column_type, is_nullable, collation_name, column_default,"
        " extra FROM information_schema.columns WHERE table_schema = database()"
        " AND table_name <> 'trioflow_migrations' ORDER BY table_name, ordinal_position"
    )


def indexes(admin):
    return admin(
        "SELECT table_name, index_name, non_unique, group_concat(column_name ORDER BY seq_in_index)"
        " FROM information_schema.statistics WHERE table_schema = database()"
        " AND table_name <> 'trioflow_migrations' GROUP BY 1, 2, 3 ORDER BY 1, 2"
    )


def test_the_migrations_together_give_the_schema(url, admin):
    trio.run(MysqlBackend(url).migrate)
    assert indexes(admin) == [
        ("activities", "activities_visible", 1, "worker,queue,visible_at,scheduled_at"),
        ("activities", "PRIMARY", 0, "instance,execution,command"),
        ("inbox", "inbox_seq", 1, "seq"),
        ("inbox", "PRIMARY", 0, "instance,seq"),
        ("instances", "instances_finished", 1, "finished_at,worker"),
        ("instances", "instances_id", 0, "id"),
        ("instances", "instances_parent", 1, "parent"),
        ("instances", "instances_ready", 1, "queue,status,ready_at"),
        ("instances", "PRIMARY", 0, "seq"),
        ("turns", "PRIMARY", 0, "instance,execution,number"),
        ("workers", "PRIMARY", 0, "id"),
        ("writers", "PRIMARY", 0, "id"),
    ]
    found = columns(admin)
    texts = {row[4] for row in found if row[2].startswith("varchar")}
    assert texts == {"utf8mb4_nopad_bin"}
    shape = {(row[0], row[1]): row[2:4] for row in found}
    assert shape[("instances", "id")] == ("varchar(500)", "NO")
    assert shape[("instances", "ready_at")] == ("double", "YES")
    assert shape[("turns", "data")] == ("longblob", "NO")
    counts = {table: sum(row[0] == table for row in found) for table, *_ in found}
    assert counts == {
        "activities": 13, "inbox": 4, "instances": 23, "turns": 4, "workers": 3, "writers": 4,
    }  # fmt: skip


def test_several_may_migrate_at_once(url, admin):
    async def main():
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(MysqlBackend(url).migrate)

    trio.run(main)
    assert admin("SELECT name FROM trioflow_migrations") == [(mysql_schema.SCHEMA_VERSION,)]


def test_a_migration_that_broke_off_is_done_again(url, admin):
    trio.run(MysqlBackend(url).migrate)
    whole = columns(admin), indexes(admin)
    admin("DROP TABLE activities")
    admin("DELETE FROM trioflow_migrations")
    trio.run(MysqlBackend(url).migrate)
    assert (columns(admin), indexes(admin)) == whole


async def refused(backend, words):
    with pytest.raises(SchemaError, match=words):
        await backend.open()
    await backend.aclose()


def test_a_newer_schema_is_refused(url, admin):
    trio.run(MysqlBackend(url).migrate)
    admin("INSERT INTO trioflow_migrations VALUES ('9999_later', now())")
    trio.run(refused, MysqlBackend(url), "'9999_later'.*upgrade trioflow")


def test_tables_of_others_are_refused(url, admin):
    admin("CREATE TABLE instances (id INT)")
    trio.run(refused, MysqlBackend(url), "trioflow did not make")


def test_without_migrating_the_schema_must_be_there(url):
    trio.run(refused, MysqlBackend(url, migrate=False), "await migrate")
    trio.run(MysqlBackend(url).migrate)

    async def main():
        async with opened(url, migrate=False) as backend:
            assert await backend.count(InstanceFilter()) == 0

    trio.run(main)


def test_a_separate_url_may_migrate(url, admin):
    admin("CREATE OR REPLACE USER writer IDENTIFIED BY 'pass word'")
    admin("GRANT SELECT, INSERT, UPDATE, DELETE ON trioflow_test.* TO writer")
    weak = url.replace("root@", "writer:pass%20word@")

    async def alone():
        with pytest.raises(BackendUnavailable, match="grant"):
            await MysqlBackend(weak).open()

    async def helped():
        async with opened(weak, migration_url=url) as backend:
            assert await backend.create([new("a")]) == [True]

    trio.run(alone)
    trio.run(helped)


# --- answers that are lost ---------------------------------------------------------------------


def saboteur(monkeypatch, admin, when, times=1):
    """Kill the connection just before or after it sends a COMMIT; return how often it happened."""
    send = mysql_connection.MysqlConnection.send
    killed = []

    def sabotaged(self, statements):
        if list(statements)[-1:] == ["COMMIT"] and self.writer and len(killed) < times:
            killed.append(self._raw.thread_id())
            if when == "after":
                send(self, statements)
            admin(f"KILL {killed[-1]}")
        return send(self, statements)

    monkeypatch.setattr(mysql_connection.MysqlConnection, "send", sabotaged)
    return killed


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_whose_answer_is_lost_is_stored_once(url, admin, monkeypatch, when):
    async def main():
        async with opened(url) as backend:
            await hold(backend, "a", "b")
            killed = saboteur(monkeypatch, admin, when, times=2)
            units = [Unit(instances=[step("a", 0)]), Unit(instances=[step("b", 0)])]
            assert await backend.commit("w1", units) == [None, None]
            assert await backend.send("a", b"event") == "done"
            assert killed
            assert await turns(backend, "a") == await turns(backend, "b") == [b"turn 0"]
            (taken,) = (await backend.take_instances("w1", ["default"], 5)).instances
            assert [message.event for message in taken.inbox] == [b"event"]

    trio.run(main)


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_was_taken_when_the_answer_was_lost_is_given(url, admin, monkeypatch, when):
    async def main():
        async with opened(url) as backend:
            await backend.register_worker("w1", "")
            await backend.create([new("a")])
            saboteur(monkeypatch, admin, when)
            taken = await backend.take_instances("w1", ["default"], 5)
            assert [each.id for each in taken.instances] == ["a"]

    trio.run(main)


def test_a_connection_killed_while_idle_is_made_again(url, admin):
    async def main():
        async with opened(url) as backend:
            await hold(backend, "a")
            backend.heartbeat("w1")
            for (id,) in admin("SELECT id FROM information_schema.processlist WHERE db = database()"
                               " AND id <> connection_id()"):  # fmt: skip
                admin(f"KILL {id}")
            assert await backend.commit("w1", [Unit(instances=[step("a", 0)])]) == [None]
            assert backend.heartbeat("w1").alive

    trio.run(main)


def test_a_result_that_cannot_be_found_out_is_not_tried_again(url, admin, monkeypatch):
    async def main():
        async with opened(url) as backend:
            await backend.create([new("a")])
            saboteur(monkeypatch, admin, "after")

            def gone(self):
                raise pymysql.OperationalError(2003, "nobody there")

            with monkeypatch.context() as patch:
                patch.setattr(mysql_connection.MysqlConnection, "_again", gone)
                with pytest.raises(BackendUnavailable):
                    await backend.send("a", b"event")
            record = await backend.get("a")
            assert record.unread == 1

    trio.run(main)


def test_workflows_survive_a_server_that_is_killed(tmp_path):
    if (missing := mariadb.available()) is not None:
        assert os.environ.get("CI") != "true", missing
        pytest.skip(missing)
    attempts = []

    @activity(name="mysql-restart-count")
    async def count(number: int) -> int:
        attempts.append(number)
        return number

    @workflow(name="mysql-restart-total")
    async def total(number: int) -> int:
        return sum([await count(number * 10 + part) for part in range(10)])

    async def main(server):
        async with open_worker(server.url("shop")) as worker, trio.open_nursery() as nursery:
            results = {}

            async def run(number):
                results[number] = await worker.client.run(total, number)

            for number in range(40):
                nursery.start_soon(run, number)
            while len(attempts) < 60:
                await trio.sleep(0.001)
            await trio.to_thread.run_sync(server.kill)
            await trio.to_thread.run_sync(server.start)
        assert results == {number: number * 100 + 45 for number in range(40)}
        assert set(attempts) == set(range(400))

    with contextlib.closing(mariadb.Server(tmp_path)) as server:
        server.start()
        server.create_database("shop")
        trio.run(main, server)


# --- others at the same time -------------------------------------------------------------------


def test_a_deadlock_is_tried_again(url, server, admin):
    def status(name):
        return int(admin(f"SHOW GLOBAL STATUS LIKE 'Innodb_{name}'")[0][1])

    def other(connection):
        with contextlib.closing(connection), connection.cursor() as cursor:
            deadline = time.monotonic() + 20
            while not status("row_lock_current_waits") and time.monotonic() < deadline:
                time.sleep(0.002)
            cursor.execute("UPDATE instances SET events = 7 WHERE id = 'a'")
            connection.commit()

    async def main():
        async with opened(url) as backend:
            await hold(backend, "a", "b")
            connection = server.connect(database="trioflow_test")
            connection.autocommit(False)
            with connection.cursor() as cursor:
                # It has done much, so the server chooses the store's transaction to give way.
                rows = ", ".join(f"('x{number}', 0, 0, 0)" for number in range(500))
                cursor.execute(f"INSERT INTO writers VALUES {rows}")
                cursor.execute("UPDATE instances SET events = 7 WHERE id = 'b'")
            before = status("deadlocks")
            thread = threading.Thread(target=other, args=(connection,))
            thread.start()
            units = [Unit(instances=[step(id, 0)]) for id in "ab"]
            assert await backend.commit("w1", units) == [None, None]
            thread.join()
            assert status("deadlocks") > before
            assert await turns(backend, "a") == await turns(backend, "b") == [b"turn 0"]

    trio.run(main)


def test_a_lock_that_is_held_for_long_is_reported(url, server, monkeypatch):
    monkeypatch.setattr(mysql_server, "_LOCK_WAIT", 0)

    async def main():
        async with opened(url) as backend:
            await hold(backend, "a")
            with contextlib.closing(server.connect(database="trioflow_test")) as connection:
                connection.begin()
                connection.cursor().execute("SELECT * FROM instances FOR UPDATE")
                with pytest.raises(BackendUnavailable, match="locked by another transaction"):
                    await backend.send("a", b"event")
            assert await backend.send("a", b"event") == "done"

    trio.run(main)


def test_two_backends_share_what_there_is(url):
    async def main():
        async with opened(url) as one, opened(url) as two:
            await one.register_worker("w1", "")
            await two.register_worker("w2", "")
            await one.create([new(f"i{number}") for number in range(60)])
            taken = []

            async def take(backend, worker):
                while (found := await backend.take_instances(worker, ["default"], 7)).instances:
                    taken.extend((each.id, worker) for each in found.instances)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(take, one, "w1")
                nursery.start_soon(take, two, "w2")
            ids = [id for id, _ in taken]
            assert len(ids) == len(set(ids)) == 60
            assert {worker for _, worker in taken} == {"w1", "w2"}

    trio.run(main)


def test_what_is_taken_is_read_in_the_order_of_an_index(url, admin):
    """Whatever is read to be sorted would be locked, and kept from other workers."""
    queries = Queries(MysqlDialect("here"))
    ready = queries.ready_instances.replace("{exclude}", "")
    visible = queries.visible_activities.replace("{exclude}", "")

    async def main():
        async with opened(url) as backend:
            await backend.create([new(f"i{number}") for number in range(500)])

    trio.run(main)
    admin("SET NAMES utf8mb4 COLLATE utf8mb4_nopad_bin")
    admin(
        "INSERT INTO activities (instance, execution, command, queue, activity, input, options,"
        " visible_at, scheduled_at) SELECT id, 1, '0', 'default', 'a', '', '', 1, 1 FROM instances"
    )
    for query, values in (
        (ready, ("default", 9e9, "w", "w", 9e9, 10)),
        (visible, ("default", 9e9, 10)),
    ):
        plan = str(admin(f"EXPLAIN {filled(query, values)}"))
        assert "_ready" in plan or "_visible" in plan
        assert "filesort" not in plan


def test_changes_of_another_backend_wake(url):
    async def main():
        async with opened(url) as one, opened(url) as two:
            await hold(one, "a")
            await two.wait_change(two.changes(), 0.05)
            seen = two.changes()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(two.wait_change, seen, 30)
                await trio.testing.wait_all_tasks_blocked()
                started = trio.current_time()
                closing = step("a", 0, closing=DONE, leased=False)
                assert await one.commit("w1", [Unit(instances=[closing])]) == [None]
            assert trio.current_time() - started < 10
            assert two.changes() != seen

    trio.run(main)


def test_an_id_that_two_create_at_once_is_created_once(url):
    async def main():
        async with opened(url) as one, opened(url) as two:
            created = []

            async def create(backend, id):
                created.append((id, await backend.create([new(id)])))

            for number in range(20):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(create, one, f"i{number}")
                    nursery.start_soon(create, two, f"i{number}")
            assert sorted(created) == sorted(
                (f"i{number}", [done]) for number in range(20) for done in (True, False)
            )

    trio.run(main)


# --- clocks ------------------------------------------------------------------------------------


def test_a_process_whose_clocks_are_an_hour_off_judges_by_the_server(url, monkeypatch):
    real = time.time()
    wrong = types.SimpleNamespace(
        time=lambda: time.time() + 3600, monotonic=lambda: time.monotonic() + 3600, sleep=time.sleep
    )

    async def main():
        async with opened(url) as right:
            await right.register_worker("w1", "")
            with monkeypatch.context() as patch:
                patch.setattr(postgres_clock, "time", wrong)
                async with opened(url) as off:
                    assert abs(off.now() - real) < 30
                    assert await off.reclaim(15) == []
                    await off.create([new("a")])
                    record = await off.get("a")
            assert abs(record.created_at - right.now()) < 30
            assert right.heartbeat("w1").alive

    trio.run(main)


def test_the_clock_is_unknown_before_the_server_was_asked(url):
    with pytest.raises(BackendUnavailable, match=r"await the backend's open\(\)"):
        MysqlBackend(url).now()


# --- values and limits -------------------------------------------------------------------------

NASTY = [
    "a'b",
    'a"b',
    "a\\",
    "a\\'",
    "%s ? ; -- x",
    "naïve 🦊",
    "line\nline\r\x00\x1a",
    "A",
    "a",
    "a ",
]


def test_ids_come_back_as_they_are_and_are_different(url):
    async def main():
        async with opened(url) as backend:
            assert await backend.create([new(id) for id in NASTY]) == [True] * len(NASTY)
            for id in NASTY:
                assert (await backend.get(id)).id == id
            assert await backend.count(InstanceFilter(id_prefix="a\\")) == 2

    trio.run(main)


def test_every_byte_is_stored(url):
    data = bytes(range(256)) * 5 + "🦊'".encode()

    async def main():
        async with opened(url) as backend:
            await hold(backend, "a")
            assert await backend.commit("w1", [Unit(instances=[step("a", 0, turns=[data])])]) == [
                None
            ]
            assert await turns(backend, "a") == [data]

    trio.run(main)


def test_ids_that_are_too_long_are_refused(url):
    async def main():
        async with opened(url) as backend:
            with pytest.raises(ArgumentError, match="501 characters.*at most 500"):
                await backend.create([new("é" * 501)])
            assert await backend.create([new("é" * 500)]) == [True]
            with pytest.raises(BackendError, match="so long a name"):
                await backend.create([new("b", queue="q" * 256)])

    trio.run(main)


def test_a_batch_larger_than_a_packet_is_sent_in_parts(url, admin):
    (before,) = admin("SELECT @@GLOBAL.max_allowed_packet")[0]
    admin("SET GLOBAL max_allowed_packet = 1048576")
    try:

        async def main():
            async with opened(url) as backend:
                ids = [f"i{number}" for number in range(30)]
                await hold(backend, *ids)
                big = [b"x" * 100_000, b"\\" * 100_000]
                units = [Unit(instances=[step(id, 0, turns=big)]) for id in ids]
                assert await backend.commit("w1", units) == [None] * 30
                assert await turns(backend, "i29") == big

        trio.run(main)
    finally:
        admin(f"SET GLOBAL max_allowed_packet = {before}")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "NULL"),
        (True, "1"),
        (-3, "-3"),
        (1.5, "1.5e0"),
        (1e300, "1e+300"),
        ("it's", "'it\\'s'"),
        (b"\xff'", "_binary'\udcff\\''"),
    ],
)
def test_literals(value, text):
    assert literal(value) == text


def test_a_text_that_is_no_text_is_refused():
    with pytest.raises(ArgumentError, match="cannot be stored"):
        literal("\udc27")


def test_parameters_with_question_marks_stay_what_they_are():
    assert filled("SELECT ?, ?", ("?", 1)) == "SELECT '?', 1"


# --- URLs and factories --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://localhost", "names no database"),
        ("mysql://localhost:port/x", "port"),
        ("mysql://localhost/x?sslca=y", "unknown option 'sslca'"),
        ("mysql://localhost/x?connect_timeout=0", "connect_timeout"),
        ("mysql://localhost/x?ssl_verify=maybe", "yes or no"),
    ],
)
def test_urls_that_cannot_be(url, words):
    with pytest.raises(BackendError, match=words):
        MysqlBackend(url)


def test_a_server_that_is_not_there(tmp_path):
    async def main():
        url = f"mysql://me:secret@localhost/x?unix_socket={tmp_path}/none"
        with pytest.raises(BackendUnavailable, match="cannot be reached") as caught:
            await MysqlBackend(url).open()
        assert "secret" not in str(caught.value)

    trio.run(main)


def test_a_database_that_is_not_there(server):
    async def main():
        with pytest.raises(BackendUnavailable, match="CREATE DATABASE"):
            await MysqlBackend(server.url("nowhere")).open()

    trio.run(main)


def test_a_connection_factory(server, database):
    def connect(**given):
        return pymysql.connect(
            unix_socket=str(server.socket), user="root", database=database, **given
        )

    def careless(**given):
        given.pop("client_flag")
        return connect(**given)

    async def main():
        async with opened(connect=connect) as backend:
            assert await backend.create([new("a")]) == [True]
        with pytest.raises(BackendError, match="client_flag"):
            await MysqlBackend(connect=careless).open()
        with pytest.raises(BackendError, match="not both"):
            MysqlBackend("mysql://localhost/x", connect=connect)

    trio.run(main)


def test_the_server_of_the_tests_listens_on_no_port(server, database):
    assert urlsplit(server.url(database)).port is None
    with contextlib.closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@skip_networking")
        assert cursor.fetchall() == ((1,),)
