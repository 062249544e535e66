"""Tables with a prefix: trioflow's live in one database with others of the same names."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.stores import Clock, connection_of, open_store, opened
from trioflow import BackendError, Registry, SchemaError, Signal, open_client, open_worker
from trioflow.backends.sqlite.backend import SqliteBackend
from trioflow.backends.sqlite.dialect import connect
from trioflow.backends.urls import open_backend
from trioflow.testing.conformance import Stage, conformance_cases

number = Signal("number", int)
flows = Registry()


@flows.workflow
async def add(first: int) -> int:
    return first + await number.receive()


TABLES = ("instances", "turns", "inbox", "activities", "workers", "counters", "writers")


def make_tables(connection):
    cursor = connection.cursor()
    for table in TABLES:
        cursor.execute(f"CREATE TABLE {table} (mine INTEGER)")
        cursor.execute(f"INSERT INTO {table} VALUES (7)")
    connection.commit()


def check_tables(connection):
    cursor = connection.cursor()
    for table in TABLES:
        cursor.execute(f"SELECT mine FROM {table}")
        assert [tuple(row) for row in cursor.fetchall()] == [(7,)]


def names_in(path):
    """Return the names of all tables, indexes and triggers that trioflow has made in a file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name FROM sqlite_schema ORDER BY name").fetchall()
    return [name for (name,) in rows if "sqlite" not in name]


def quick(path, **options):
    connection = connect(path, **options)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


async def test_every_case_of_the_contract_with_a_prefix(tmp_path, monkeypatch):
    monkeypatch.setattr("trioflow.backends.sqlite.backend.connect", quick)
    empty = tmp_path / "empty.db"
    with contextlib.closing(sqlite3.connect(empty)) as connection:
        make_tables(connection)
    async with opened(SqliteBackend(empty, prefix="flow_")):
        pass
    for at, case in enumerate(conformance_cases()):
        path = tmp_path / f"{at}.db"
        shutil.copy(empty, path)
        clock = Clock()
        async with opened(SqliteBackend(path, clock=clock, prefix="flow_")) as backend:
            connect = connection_of(backend)
            await case(Stage(backend, clock.advance, connect=connect, callers_overlap=False))
        with contextlib.closing(sqlite3.connect(path)) as connection:
            check_tables(connection)


async def test_all_that_is_made_has_the_prefix(tmp_path):
    plain, prefixed = tmp_path / "plain.db", tmp_path / "prefixed.db"
    async with opened(SqliteBackend(plain)), opened(SqliteBackend(prefixed, prefix="flow_")):
        pass
    made = names_in(plain)
    assert {"instances", "instances_ready", "workers_gone"} <= set(made)
    assert names_in(prefixed) == [f"flow_{name}" for name in made]


async def test_stores_with_other_prefixes_know_nothing_of_each_other(tmp_path):
    url = f"sqlite:///{tmp_path / 'flow.db'}"
    places = [url, f"{url}?prefix=one_", f"{url}?prefix=two_"]
    for place in places:
        async with open_worker(place, registry=flows) as worker:
            handle = await worker.client.start(add.options(id="same"), 1)
            await handle.signal(number, 2)
            assert await handle.result() == 3
            assert await worker.client.count() == 1
    for place in places:  # what was there is found again
        async with open_client(place) as client:
            assert await client.count() == 1


async def test_a_table_of_somebody_else_leads_to_a_prefix(tmp_path):
    path = tmp_path / "flow.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        make_tables(connection)
    with pytest.raises(SchemaError, match=r"'instances' that trioflow did not make.*\?prefix=flow"):
        await SqliteBackend(path).open()


@pytest.mark.parametrize(("there", "given"), [("flow_", "FLOW_"), ("Instances_", "instances_")])
async def test_a_prefix_that_differs_in_capital_letters_only_is_refused(tmp_path, there, given):
    path = tmp_path / "flow.db"
    async with opened(SqliteBackend(path, prefix=there)):
        pass
    before = names_in(path)
    with pytest.raises(SchemaError, match=f"{there}instances.*{given}instances.*capital letters"):
        await SqliteBackend(path, prefix=given).open()
    assert names_in(path) == before
    async with opened(SqliteBackend(path, prefix=there)):
        pass


@pytest.mark.parametrize("prefix", ["1x", "a-b", "a b", "x" * 31, "flöw", "a;"])
def test_a_prefix_that_cannot_be(prefix, tmp_path):
    with pytest.raises(BackendError, match="cannot be a prefix"):
        SqliteBackend(tmp_path / "flow.db", prefix=prefix)


def test_a_url_names_the_prefix():
    assert open_backend("sqlite:///a.db?prefix=flow_")._dialect.names.prefix == "flow_"
    pytest.importorskip("pymysql")
    store = open_backend("mysql://me@host/shop?prefix=flow_&ssl_verify=yes")
    assert store._dialect.query("SELECT id FROM writers") == "SELECT id FROM flow_writers"
    with pytest.raises(BackendError, match="cannot be a prefix"):
        open_backend("mysql://me@host/shop?prefix=flow-")


@pytest.mark.servers
async def test_mariadb_with_a_prefix(tmp_path, servers):
    plain = open_store("mariadb", tmp_path, servers)()
    url = servers.url("mariadb")
    socket = parse_qs(urlsplit(url).query)["unix_socket"][0]
    with contextlib.closing(connection_of(plain)()) as connection:
        make_tables(connection)
        cursor = connection.cursor()
        cursor.execute("SELECT database()")
        ((database,),) = cursor.fetchall()
        place = f"mysql://root@host/{database}?unix_socket={socket}&prefix=flow_"
        async with open_worker(place, registry=flows) as worker:
            client = worker.client
            started = client.in_transaction(connection).start(add, 1)
            connection.commit()
            await started.signal(number, 2)
            assert await started.result() == 3
            assert await client.count() == 1
        check_tables(connection)
