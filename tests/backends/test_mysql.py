"""What is MySQL's own: migrations, values and their limits, URLs."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import trio

pytest.importorskip("pymysql")

import pymysql

from tests.backends.mysql_stage import hold, new, opened, step, turns
from tests.backends.old_rows import OLD_ROWS, old_rows_go_on
from trioflow import open_worker, workflow
from trioflow.backends.commits import Unit
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.mysql import schema as mysql_schema
from trioflow.backends.mysql.backend import MysqlBackend
from trioflow.backends.mysql.values import filled, literal
from trioflow.backends.sql.operations.commit import commit
from trioflow.backends.sql.store import SqlStore
from trioflow.errors import (
    ArgumentError,
    BackendError,
    BackendUnavailable,
    DataRefused,
    SchemaError,
)

# --- migrations --------------------------------------------------------------------------------


def columns(mysql):
    return mysql.admin(
        "SELECT table_name, column_name, column_type, is_nullable, collation_name, column_default,"
        " extra FROM information_schema.columns WHERE table_schema = database()"
        " AND table_name <> 'trioflow_migrations' ORDER BY table_name, ordinal_position"
    )


def indexes(mysql):
    return mysql.admin(
        "SELECT table_name, index_name, non_unique, group_concat(column_name ORDER BY seq_in_index)"
        " FROM information_schema.statistics WHERE table_schema = database()"
        " AND table_name <> 'trioflow_migrations' GROUP BY 1, 2, 3 ORDER BY 1, 2"
    )


def test_the_migrations_together_give_the_schema(mysql):
    trio.run(MysqlBackend(mysql.url).migrate)
    assert indexes(mysql) == [
        ("activities", "activities_retried", 1, "attempt"),
        (
            *("activities", "activities_visible", 1),
            "worker,queue,limit_key,priority,visible_at,scheduled_at",
        ),
        ("activities", "PRIMARY", 0, "instance,execution,command,life"),
        ("admitted", "admitted_workflow", 1, "workflow"),
        ("admitted", "PRIMARY", 0, "instance,life"),
        ("attributes", "attributes_quantity", 1, "name,quantity,seq"),
        ("attributes", "attributes_word", 1, "name,word,seq"),
        ("attributes", "PRIMARY", 0, "seq,name,word"),
        ("executions", "executions_finished", 1, "finished_at"),
        ("executions", "PRIMARY", 0, "instance,execution"),
        ("inbox", "inbox_seq", 1, "seq"),
        ("inbox", "PRIMARY", 0, "instance,seq"),
        ("instances", "instances_ended", 1, "status,finished_at"),
        ("instances", "instances_finished", 1, "finished_at,worker,queue,status,ready_at"),
        ("instances", "instances_id", 0, "id"),
        ("instances", "instances_parent", 1, "parent"),
        ("instances", "instances_ready", 1, "queue,status,level,ready_at"),
        ("instances", "instances_status", 1, "status"),
        ("instances", "instances_workflow", 1, "workflow,status"),
        ("instances", "PRIMARY", 0, "seq"),
        ("kept_slots", "PRIMARY", 0, "worker,id"),
        ("limits", "PRIMARY", 0, "kind,name"),
        ("questions", "PRIMARY", 0, "id"),
        ("requests", "PRIMARY", 0, "instance,life,id"),
        ("shared", "PRIMARY", 0, "name"),
        ("shared_claims", "PRIMARY", 0, "name,number"),
        ("shared_claims", "shared_claims_instance", 1, "instance"),
        ("turns", "PRIMARY", 0, "instance,execution,number"),
        ("waiting", "PRIMARY", 0, "id"),
        ("waiting", "waiting_order", 1, "workflow,queue,negated_priority,ready_at,seq"),
        ("waiting", "waiting_wake", 1, "queue,wake_at"),
        ("workers", "PRIMARY", 0, "id"),
        ("writers", "PRIMARY", 0, "id"),
    ]
    found = columns(mysql)
    short = (
        "limits",
        "admitted",
        "kept_slots",
        "shared_claims",
        "waiting",
    )  # some of theirs are ASCII
    texts = {
        row[1]: row[4] for row in found if row[2].startswith("varchar") and row[0] not in short
    }
    assert texts.pop("limits") == texts.pop("limit_key") == "ascii_bin"
    assert texts.pop("life") == texts.pop("parent_life") == "ascii_bin"
    assert set(texts.values()) == {mysql.collation}
    shape = {(row[0], row[1]): row[2:4] for row in found}
    assert shape[("instances", "id")] == ("varchar(500)", "NO")
    assert shape[("instances", "ready_at")] == ("double", "YES")
    assert shape[("turns", "data")] == ("longblob", "NO")
    counts = {table: sum(row[0] == table for row in found) for table, *_ in found}
    assert counts == {
        "activities": 17, "admitted": 3, "attributes": 4, "executions": 22, "inbox": 5,
        "instances": 33, "kept_slots": 5, "limits": 5, "questions": 7, "requests": 4, "shared": 3,
        "shared_claims": 9, "turns": 4, "waiting": 8, "workers": 9, "writers": 4,
    }  # fmt: skip


async def test_several_may_migrate_at_once(mysql):
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(MysqlBackend(mysql.url).migrate)
    names = [name for (name,) in mysql.admin("SELECT name FROM trioflow_migrations ORDER BY name")]
    assert names == [name for name, _ in mysql_schema._MIGRATIONS]


def test_a_migration_that_broke_off_is_done_again(mysql):
    trio.run(MysqlBackend(mysql.url).migrate)
    whole = columns(mysql), indexes(mysql)
    mysql.admin("DROP TABLE activities")
    mysql.admin("DELETE FROM trioflow_migrations")
    trio.run(MysqlBackend(mysql.url).migrate)
    assert (columns(mysql), indexes(mysql)) == whole


def test_a_migration_that_broke_off_between_two_tables_goes_on(mysql):
    trio.run(MysqlBackend(mysql.url).migrate)
    whole = columns(mysql), indexes(mysql)
    mysql.admin("DELETE FROM trioflow_migrations WHERE name >= '0003_lives'")
    mysql.admin("ALTER TABLE inbox DROP COLUMN arrived_at")
    mysql.admin(
        "ALTER TABLE activities DROP PRIMARY KEY, DROP COLUMN life, DROP COLUMN progress,"
        " DROP COLUMN limit_key,"
        " ADD PRIMARY KEY (instance, execution, command)"
    )
    trio.run(MysqlBackend(mysql.url).migrate)
    assert (columns(mysql), indexes(mysql)) == whole


async def test_what_an_older_schema_holds_has_the_usual_priority(mysql, monkeypatch):
    first = mysql_schema._MIGRATIONS[:1]
    monkeypatch.setattr(mysql_schema, "_MIGRATIONS", first)
    await MysqlBackend(mysql.url).migrate()
    mysql.admin(
        "INSERT INTO instances (id, execution, workflow, queue, status, turns, events, ready_at,"
        " input, metadata, created_at) VALUES ('a', 1, 'w', 'q', 'running', 0, 0, 1, '[]', '', 1)"
    )
    monkeypatch.undo()

    async with opened(mysql.url) as backend:
        await backend.register_worker("w1", "")
        (taken,) = (await backend.take_instances("w1", ("q",), 1)).instances
        assert (taken.id, taken.priority) == ("a", 0)


async def test_what_was_stored_before_lives_goes_on(mysql, monkeypatch):
    monkeypatch.setattr(mysql_schema, "_MIGRATIONS", mysql_schema._MIGRATIONS[:2])
    await MysqlBackend(mysql.url).migrate()
    monkeypatch.undo()
    for statement in OLD_ROWS:
        mysql.admin(statement)

    async with opened(mysql.url) as backend:
        await old_rows_go_on(backend)


async def refused(backend, words):
    with pytest.raises(SchemaError, match=words):
        await backend.open()
    await backend.aclose()


def test_a_newer_schema_is_refused(mysql):
    trio.run(MysqlBackend(mysql.url).migrate)
    mysql.admin("INSERT INTO trioflow_migrations VALUES ('9999_later', now())")
    trio.run(refused, MysqlBackend(mysql.url), "'9999_later'.*upgrade trioflow")


def test_tables_of_others_are_refused(mysql):
    mysql.admin("CREATE TABLE instances (id INT)")
    trio.run(refused, MysqlBackend(mysql.url), "trioflow did not make")


async def test_without_migrating_the_schema_must_be_there(mysql):
    await refused(MysqlBackend(mysql.url, migrate=False), "await migrate")
    await MysqlBackend(mysql.url).migrate()

    async with opened(mysql.url, migrate=False) as backend:
        assert await backend.count(InstanceFilter()) == 0


def test_a_separate_url_may_migrate(mysql):
    mysql.admin("DROP USER IF EXISTS writer")
    mysql.admin("CREATE USER writer IDENTIFIED BY 'pass word'")
    mysql.admin("GRANT SELECT, INSERT, UPDATE, DELETE ON trioflow_test.* TO writer")
    weak = mysql.url.replace("root@", "writer:pass%20word@")

    async def alone():
        with pytest.raises(BackendUnavailable, match="grant"):
            await MysqlBackend(weak).open()

    async def helped():
        async with opened(weak, migration_url=mysql.url) as backend:
            assert await backend.create([new("a")]) == [True]

    trio.run(alone)
    trio.run(helped)


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


async def test_ids_come_back_as_they_are_and_are_different(mysql):
    async with opened(mysql.url) as backend:
        assert await backend.create([new(id) for id in NASTY]) == [True] * len(NASTY)
        for id in NASTY:
            assert (await backend.get(id)).id == id
        assert await backend.count(InstanceFilter(id_prefix="a\\")) == 2


async def test_every_byte_is_stored(mysql):
    data = bytes(range(256)) * 5 + "🦊'".encode()

    async with opened(mysql.url) as backend:
        await hold(backend, "a")
        assert await backend.commit("w1", [Unit(instances=[step("a", 0, turns=[data])])]) == [None]
        assert await turns(backend, "a") == [data]


async def test_ids_that_are_too_long_are_refused(mysql):
    async with opened(mysql.url) as backend:
        with pytest.raises(ArgumentError, match="501 characters.*at most 500"):
            await backend.create([new("é" * 501)])
        assert await backend.create([new("é" * 500)]) == [True]
        with pytest.raises(BackendError, match="so long a name"):
            await backend.create([new("b", queue="q" * 256)])


async def test_a_sub_workflow_whose_id_is_too_long_fails_and_nothing_else_does(mysql):
    @workflow(name="mysql-long-id-child")
    async def child() -> str:
        return "done"

    @workflow(name="mysql-long-id-parent")
    async def parent() -> str:
        try:
            return await child.options(id="x" * 501)()
        except ArgumentError as exc:
            return str(exc)

    async with open_worker(mysql.url) as worker:
        assert "501 characters" in await worker.client.run(parent)
        with pytest.raises(ArgumentError, match="501 characters"):
            await worker.client.start(child.options(id="y" * 501))
        assert await worker.client.run(child) == "done"


async def test_a_batch_larger_than_a_packet_is_sent_in_parts(mysql):
    (before,) = mysql.admin("SELECT @@GLOBAL.max_allowed_packet")[0]
    mysql.admin("SET GLOBAL max_allowed_packet = 1048576")
    try:
        async with opened(mysql.url) as backend:
            ids = [f"i{number}" for number in range(30)]
            await hold(backend, *ids)
            big = [b"x" * 100_000, b"\\" * 100_000]
            units = [Unit(instances=[step(id, 0, turns=big)]) for id in ids]
            assert await backend.commit("w1", units) == [None] * 30
            assert await turns(backend, "i29") == big
    finally:
        mysql.admin(f"SET GLOBAL max_allowed_packet = {before}")


async def test_what_no_packet_has_room_for_is_refused_and_nothing_else_is(mysql):
    ((before,),) = mysql.admin("SELECT @@GLOBAL.max_allowed_packet")
    mysql.admin("SET GLOBAL max_allowed_packet = 1048576")

    try:
        async with opened(mysql.url) as backend:
            await hold(backend, "large", "small")
            session, store = backend._connections.calls, backend._store()

            def store_turn(id, data):
                return commit(store, "w1", [Unit(instances=[step(id, 0, turns=[data])])])

            with pytest.raises(DataRefused, match="max_allowed_packet"):
                session.call(store_turn, "large", b"x" * 1_048_576)
            first, second = session.call_together(
                [lambda: store_turn("small", b"{}"), lambda: store_turn("large", b"x" * 1_048_576)]
            )
            assert first.unwrap() == [None]
            assert isinstance(second.error, DataRefused)
            assert await turns(backend, "small") == [b"{}"]
    finally:
        mysql.admin(f"SET GLOBAL max_allowed_packet = {before}")


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
    for value in ("\udc27", float("inf"), float("nan")):
        with pytest.raises(DataRefused, match="cannot be stored"):
            literal(value)


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


async def test_a_server_that_is_not_there(tmp_path):
    url = f"mysql://me:secret@localhost/x?unix_socket={tmp_path}/none"
    with pytest.raises(BackendUnavailable, match="cannot be reached") as caught:
        await MysqlBackend(url).open()
    assert "secret" not in str(caught.value)


async def test_a_database_that_is_not_there(mysql):
    with pytest.raises(BackendUnavailable, match="CREATE DATABASE"):
        await MysqlBackend(mysql.url_of(mysql.url, "nowhere")).open()


async def test_a_connection_factory(mysql):
    def connect(**given):
        return pymysql.connect(unix_socket=mysql.socket, user="root", database=mysql.name, **given)

    def careless(**given):
        given.pop("client_flag")
        return connect(**given)

    async with opened(connect=connect) as backend:
        assert await backend.create([new("a")]) == [True]
    with pytest.raises(BackendError, match="client_flag"):
        await MysqlBackend(connect=careless).open()
    with pytest.raises(BackendError, match="not both"):
        MysqlBackend("mysql://localhost/x", connect=connect)


def test_the_server_of_the_tests_listens_on_no_port(mysql):
    assert urlsplit(mysql.url).port is None
    assert mysql.admin("SELECT @@skip_networking") == [(1,)]


async def test_a_page_of_a_workflow_is_read_in_the_order_of_its_index(mysql, monkeypatch):
    """Nothing is sorted but what each status gives; the optimizer would intersect two indexes."""
    asked = []
    execute = SqlStore.execute

    def noted(store, sql, *parameters):
        asked.append(filled(sql, parameters))
        return execute(store, sql, *parameters)

    async with opened(mysql.url) as backend:
        await backend.create([new(f"i{number}") for number in range(3)])
        name = (await backend.list(InstanceFilter(), limit=1))[0].workflow
        with monkeypatch.context() as patch:
            patch.setattr(SqlStore, "execute", noted)
            assert len(await backend.list(InstanceFilter(workflow=name), limit=2)) == 2
    (statement,) = asked
    parts = [row for row in mysql.admin(f"EXPLAIN {statement}") if row[2] == "instances"]
    by_status = [row for row in parts if row[1] == "DERIVED"]
    assert len(by_status) == 6
    for row in by_status:
        assert row[4] == row[5] == "instances_workflow"  # no other one is possible
        assert "filesort" not in row[-1]
