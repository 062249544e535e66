"""A connection of SQLite that is taken from the thread that uses it."""

from __future__ import annotations

import contextlib
import sqlite3
import threading

import pytest

from trioflow.backends.sqlite.dialect import connect_as
from trioflow.backends.sqlite.revocable import RevocableConnection


@pytest.fixture
def raw(tmp_path):
    with contextlib.closing(connect_as(RevocableConnection, str(tmp_path / "a.db"))) as connection:
        connection.execute("CREATE TABLE entries (number)")
        connection.isolation_level = "IMMEDIATE"
        yield connection


def test_nothing_is_written_of_many_rows_that_are_on_their_way(raw, tmp_path):
    taker = threading.Thread(target=raw.revoke)

    def rows():
        for number in range(100):
            if number == 50:
                taker.start()
                while not raw._revoked:
                    pass
            yield (number,)

    with contextlib.suppress(sqlite3.OperationalError):
        raw.executemany("INSERT INTO entries VALUES (?)", rows())
    taker.join(20)
    for refused in (
        lambda: raw.execute("INSERT INTO entries VALUES (1)"),
        lambda: raw.cursor().executemany("INSERT INTO entries VALUES (?)", [(1,)]),
        lambda: raw.executescript("INSERT INTO entries VALUES (1)"),
        raw.commit,
    ):
        with pytest.raises(sqlite3.OperationalError, match="was given up"):
            refused()
    assert not raw.in_transaction
    path = tmp_path / "a.db"
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM entries").fetchall() == [(0,)]
