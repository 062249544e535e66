"""Rows for MySQL: many in each statement as the backend writes them, a commit in one packet."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from benchmarks.raw.rows import COUNTS, Rows
from trioflow.backends.mysql.connection import MysqlConnection
from trioflow.backends.mysql.schema import MysqlMigrations
from trioflow.backends.mysql.server import from_url
from trioflow.backends.mysql.values import statements
from trioflow.backends.sql.dialect import Delete, Insert, Update, Write

__all__ = ["MysqlWriter"]

_DATABASE = "trioflow_raw"
_INSTANCE = "id execution workflow queue status parent parent_execution parent_command turns events"
_ACTIVITY = "instance execution command queue activity input options visible_at scheduled_at worker"

# What is written, and a row of `benchmarks.raw.rows` as its values.
_WRITES: dict[str, tuple[Write, Any]] = {
    "instance": (
        Insert("instances", (*_INSTANCE.split(), "worker", "input", "metadata", "created_at")),
        lambda id, workflow, parent, execution, command, data, now: (
            *(id, 1, workflow, "default", "running", parent, execution, command),
            *(1, 3, "w", data, b"", now),
        ),
    ),
    "turn": (
        Insert("turns", ("instance", "execution", "number", "data")),
        lambda id, number, data: (id, 1, number, data),
    ),
    "activity": (
        Insert("activities", tuple(_ACTIVITY.split())),
        lambda id, command, data, visible_at, scheduled_at: (
            *(id, 1, command, "default", "echo", data, b"", visible_at, scheduled_at, "w"),
        ),
    ),
    "message": (
        Insert("inbox", ("instance", "seq", "execution", "event")),
        lambda id, seq, event: (id, seq + 1, 1, event),
    ),
    "notify": (
        Update(
            "instances",
            ("ready_at", "id"),
            set="unread = instances.unread + 2, ready_at = v.ready_at",
            where="instances.id = v.id",
        ),
        lambda ready_at, id: (ready_at, id),
    ),
    "take": (
        Update("instances", ("id",), set="ready_at = NULL", where="instances.id = v.id"),
        lambda id: (id,),
    ),
    "close": (
        Update(
            "instances",
            ("outcome", "finished_at", "id"),
            set="status = 'completed', outcome = v.outcome, finished_at = v.finished_at,"
            " turns = 2, unread = 0, worker = NULL, sticky_worker = NULL",
            where="instances.id = v.id",
        ),
        lambda outcome, finished_at, id: (outcome, finished_at, id),
    ),
    "consumed": (Delete("inbox", ("instance", "seq")), lambda id, seq: (id, seq + 1)),
    "finished": (
        Delete("activities", ("instance", "execution", "command")),
        lambda id, command: (id, 1, command),
    ),
}


class MysqlWriter:
    """Writes into the database ``trioflow_raw`` of the store's server."""

    def __init__(self, url: str) -> None:
        given = MysqlConnection(from_url(url).connect)
        given.open()
        given.execute(f"DROP DATABASE IF EXISTS {_DATABASE}")
        given.execute(f"CREATE DATABASE {_DATABASE}")
        given.close()
        server = from_url(urlunsplit(urlsplit(url)._replace(path=f"/{_DATABASE}")))
        self._connection = MysqlConnection(server.connect)
        self._connection.open()
        MysqlMigrations(server.where).apply(self._connection)

    def commit(self, rows: Rows) -> None:
        """Write the rows of one commit."""
        texts: list[str] = []
        for kind, values in rows.items():
            statement, row_of = _WRITES[kind]
            flat = [value for row in values for value in row_of(*row)]
            texts += statements(statement, flat, self._connection.room)
        self._connection.run(["BEGIN", *texts, "COMMIT"])

    def counts(self) -> tuple[int, int]:
        """Return how many instances have ended, and how many messages and activities are left."""
        ended, left = self._connection.execute(COUNTS).fetchone()
        return ended, left

    def close(self) -> None:
        """Remove the database."""
        self._connection.execute(f"DROP DATABASE {_DATABASE}")
        self._connection.close()
