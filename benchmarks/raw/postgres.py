"""Rows for PostgreSQL: each statement's columns as arrays, packed and sent as the backend does."""

from __future__ import annotations

from typing import Any

import psycopg

from benchmarks.raw.rows import Rows
from trioflow.backends.postgres.connection import PgConnection, Statement
from trioflow.backends.postgres.schema import PostgresMigrations
from trioflow.backends.postgres.values import array, array_type

__all__ = ["PostgresWriter"]

_SCHEMA = "trioflow_raw"
# Columns, and what is done with a row `v` of them.
_WRITES = {
    "instance": (
        "id workflow parent parent_execution parent_command input created_at",
        (
            "INSERT INTO {s}.instances (id, execution, workflow, queue, status, parent,"
            " parent_execution, parent_command, turns, events, worker, input, metadata, created_at)"
            " SELECT id, 1, workflow, 'default', 'running', parent, parent_execution,"
            " parent_command, 1, 3, 'w', input, '', created_at FROM {v}"
        ),
    ),
    "turn": ("id number data", "INSERT INTO {s}.turns SELECT id, 1, number, data FROM {v}"),
    "activity": (
        "id command input visible_at scheduled_at",
        (
            "INSERT INTO {s}.activities (instance, execution, command, queue, activity, input,"
            " options, visible_at, scheduled_at, worker)"
            " SELECT id, 1, command, 'default', 'echo', input, '', visible_at, scheduled_at, 'w'"
            " FROM {v}"
        ),
    ),
    "message": (
        "id seq event",
        (
            "INSERT INTO {s}.inbox (instance, seq, execution, event)"
            " SELECT id, seq, 1, event FROM {v}"
        ),
    ),
    "notify": (
        "ready_at id",
        (
            "UPDATE {s}.instances SET unread = unread + 2, ready_at = v.ready_at FROM {v}"
            " WHERE instances.id = v.id"
        ),
    ),
    "take": (
        "id",
        ("UPDATE {s}.instances SET ready_at = NULL FROM {v} WHERE instances.id = v.id"),
    ),
    "close": (
        "outcome finished_at id",
        (
            "UPDATE {s}.instances SET status = 'completed', outcome = v.outcome,"
            " finished_at = v.finished_at, turns = 2, unread = 0, worker = NULL,"
            " sticky_worker = NULL FROM {v} WHERE instances.id = v.id"
        ),
    ),
    "consumed": (
        "id seq",
        ("DELETE FROM {s}.inbox USING {v} WHERE inbox.instance = v.id AND inbox.seq = v.seq"),
    ),
    "finished": (
        "id command",
        (
            "DELETE FROM {s}.activities USING {v} WHERE activities.instance = v.id"
            " AND activities.execution = 1 AND activities.command = v.command"
        ),
    ),
}


def _prepared(kind: str) -> tuple[list[str], str]:
    names, text = _WRITES[kind]
    columns = names.split()
    arrays = ", ".join(f"?::{array_type(column)}" for column in columns)
    source = f"unnest({arrays}) AS v ({', '.join(columns)})"
    return columns, text.replace("{s}", _SCHEMA).replace("{v}", source)


class PostgresWriter:
    """Writes into the schema ``trioflow_raw`` of the store's database."""

    def __init__(self, url: str) -> None:
        self._writes = {kind: _prepared(kind) for kind in _WRITES}
        self._connection = PgConnection(
            lambda: _connect(url), psycopg.Connection.close, prepare=True
        )
        self._connection.execute(f"DROP SCHEMA IF EXISTS {_SCHEMA} CASCADE")
        PostgresMigrations(_SCHEMA, "the database").apply(self._connection)

    def commit(self, rows: Rows) -> None:
        """Write the rows of one commit, in one go."""
        make = self._connection.statement
        statements: list[Statement] = []
        for kind, values in rows.items():
            columns, text = self._writes[kind]
            given = zip(columns, zip(*values, strict=True), strict=True)
            arrays = [array(column, list(rest)) for column, rest in given]
            statements.append(make(text, arrays))
        self._connection.run([make("BEGIN", ()), *statements, make("COMMIT", ())])

    def counts(self) -> tuple[int, int]:
        """Return how many instances have ended, and how many messages and activities are left."""
        ended, left = self._connection.execute(
            f"SELECT (SELECT count(*) FROM {_SCHEMA}.instances WHERE finished_at IS NOT NULL),"
            f" (SELECT count(*) FROM {_SCHEMA}.inbox)"
            f" + (SELECT count(*) FROM {_SCHEMA}.activities)"
        ).fetchone()
        return ended, left

    def close(self) -> None:
        """Remove the schema."""
        self._connection.execute(f"DROP SCHEMA {_SCHEMA} CASCADE")
        self._connection.close()


def _connect(url: str) -> psycopg.Connection[Any]:
    connection = psycopg.connect(url, autocommit=True)
    # As the backend does: the tables have no statistics yet.
    connection.execute(
        "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"
    )
    return connection
