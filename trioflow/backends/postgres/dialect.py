"""PostgreSQL's dialect: columns as arrays, locks, inbox numbers, and what its errors mean."""

# ruff: noqa: D102 - what each method promises is said in `Dialect`

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, cast

import psycopg

from trioflow.backends.postgres.connection import (
    FINAL,
    PgConnection,
    ResultUnknown,
    Statement,
    state_of,
)
from trioflow.backends.postgres.fencing import FENCED, PostgresFences
from trioflow.backends.postgres.values import array, array_type, encoded
from trioflow.backends.sql.dialect import (
    Connection,
    Delete,
    Fences,
    Insert,
    Lock,
    Update,
    Write,
    holders_one_by_one,
    keys_one_by_one,
)
from trioflow.backends.sql.fencing import said
from trioflow.errors import (
    BackendError,
    BackendUnavailable,
    CorruptStore,
    DataRefused,
    SchemaError,
    StoreFenced,
)

__all__ = ["PostgresDialect", "qualified"]

_TABLES = (
    "workers|instances|turns|inbox|activities|requests|questions|attributes|limits|admitted|"
    "kept_slots|shared|shared_claims|executions"
)
_NAMED = re.compile(rf"\b(FROM|INTO|UPDATE|JOIN) ({_TABLES})\b")
# Every message of one delivery has a number of its own below this.
_SPAN = 1 << 20

# The beginnings of SQLSTATEs of what is never stored: characters, numbers, sizes. And those of what
# may pass, with what to do about it; the first that fits counts.
_REFUSED = ("22", "54")
_UNAVAILABLE = {
    "08": "the connection was lost; look at the server and the network",
    "57014": "a statement took longer than statement_timeout, or somebody cancelled it",
    "57P": "the server ended the connection; it is stopping, starting, or was told to",
    "53300": "it has no connection left; raise max_connections, or use a pooler",
    "53": "it lacks memory or disk space; make room",
    "25P": "it ended the session after a transaction had been left open for too long",
    "25006": "it accepts no writes; connect to the primary (target_session_attrs=read-write)",
    "40001": "another transaction was in the way; try again",
    "40P01": "another transaction was in the way; try again",
    "55P03": "a lock was not to be had in time; look for a transaction that is left open",
    "28": "it refuses the login; check the user, the password and pg_hba.conf",
    "3D000": "it has no such database; create it",
    "42501": "the user may not do this; grant it the rights, or let another one migrate",
}

# Two transactions stood in each other's way: the other one has gone on, this one tries again.
_CROSSED = ("40001", "40P01")
_MOST_CROSSED = 5
_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"


def qualified(schema: str) -> str:
    """Quote a schema's name."""
    return '"' + schema.replace('"', '""') + '"'


class PostgresDialect:
    """See `Dialect`.

    Args:
        schema: Where the tables are.
        place: The server and the database, for messages.
    """

    # Values are encoded here, not in the driver.
    errors: tuple[type[Exception], ...] = (psycopg.Error, UnicodeError, struct.error)
    conflict: tuple[type[Exception], ...] = (psycopg.IntegrityError,)
    for_update = "FOR UPDATE"
    skip_locked = "FOR UPDATE SKIP LOCKED"
    unless_there = "ON CONFLICT DO NOTHING"
    has_ready_at = "ready_at IS NOT NULL"
    unindexed = ""

    def __init__(self, schema: str, place: str) -> None:
        self._schema = qualified(schema)
        self._place = place
        self.fences: Fences = PostgresFences(self, self._schema)
        base = f"(SELECT nextval('{self._schema.replace(chr(39), chr(39) * 2)}.inbox_numbers')"
        self.number = f"{base} * {_SPAN}) + ?"

    def holders(self, table: str, null: str = "") -> str:
        return holders_one_by_one(table, null)

    def by_index(self, index: str) -> str:
        return ""

    def keys_after(self) -> str:
        return keys_one_by_one()

    def query(self, sql: str) -> str:
        return _in_full(sql, self._schema)

    def write(self, connection: Connection, statement: Write, values: list[Any]) -> int:
        return self.write_all(connection, [(statement, values)])[0]

    def write_all(
        self, connection: Connection, writes: Sequence[tuple[Write, list[Any]]]
    ) -> list[int]:
        statements = [self._statement(*each) for each in writes]
        return [rows.rowcount for rows in _raw(connection).run(statements)]

    def append(self, connection: Connection, statement: Insert, values: list[Any]) -> None:
        _raw(connection).defer(self._statement(statement, values))

    def among(self, connection: Connection, sql: str, values: Sequence[str]) -> list[Any]:
        if not values:
            return []
        text = sql.replace("{among}", "= ANY(?::text[])")
        return connection.execute(text, (array("id", values),)).fetchall()

    def each(
        self, connection: Connection, sql: str, parameters: Sequence[Sequence[Any]]
    ) -> list[list[Any]]:
        if not parameters:
            return []
        raw = _raw(connection)
        answers = raw.run([raw.statement(sql, values) for values in parameters])
        return [rows.fetchall() for rows in answers]

    def transaction(self, connection: Connection) -> AbstractContextManager[None]:
        return _raw(connection).transaction()

    def in_transaction(self, connection: Connection) -> bool:
        return _raw(connection).in_transaction

    def allocate(self, connection: Connection, count: int, now: float) -> int:
        return 0  # the statement that delivers adds a number of its sequence

    def _statement(self, statement: Write, values: list[Any]) -> Statement:
        columns = statement.columns
        width = len(columns)
        arrays = [array(column, values[n::width]) for n, column in enumerate(columns)]
        return (_text(statement, self._schema, self.number), *encoded(arrays))

    def server_time(self, connection: Connection) -> float:
        (now,) = connection.execute(_CLOCK).fetchone()
        return float(now)

    def delay(self, exc: Exception, attempt: int) -> float | None:
        state = state_of(exc) or ""
        if state in _CROSSED:
            return 0.0 if attempt < _MOST_CROSSED else None
        # A connection that was idle may have been dead for long.
        died = isinstance(exc, psycopg.OperationalError) and (not state or state.startswith(FINAL))
        known = not isinstance(exc, ResultUnknown)
        return 0.0 if died and known and attempt == 1 else None

    def error(self, exc: Exception) -> Exception:
        state = state_of(exc) or ""
        if state == FENCED:
            return StoreFenced(f"{self._place}: {said(str(exc))}")
        kind, meaning = _meaning(exc, state)
        if state in ("42P01", "42703", "3F000"):
            kind = SchemaError
            meaning = f" does not have trioflow's schema in {self._schema}; migrate it first"
        text = " ".join(str(exc).split())
        return kind(f"{self._place}{meaning} ({text})" if meaning else f"{self._place}: {text}")


def _meaning(exc: Exception, state: str) -> tuple[type[BackendError], str]:
    """Return the class of trioflow's error for one of the driver's, and what it means.

    The latter follows the name of the server.
    """
    if not isinstance(exc, psycopg.Error) or state.startswith(_REFUSED):
        return DataRefused, " cannot take these data"
    if not state and isinstance(exc, psycopg.OperationalError):
        return BackendUnavailable, (
            " cannot be reached; check that the server runs and that the address is right"
        )
    if state.startswith("XX"):
        return CorruptStore, " is damaged; restore it from a backup"
    for beginning, advice in _UNAVAILABLE.items():
        if state.startswith(beginning):
            return BackendUnavailable, f": {advice}"
    return BackendError, ""


def _raw(connection: Connection) -> PgConnection:
    return cast("PgConnection", connection)


def _in_full(sql: str, schema: str) -> str:
    # Names are written in full, since a pooler forgets a search path.
    return _NAMED.sub(rf"\1 {schema}.\2", sql)


@lru_cache(maxsize=256)
def _text(statement: Write, schema: str, number: str) -> str:
    names = ", ".join(statement.columns)
    arrays = ", ".join(f"?::{array_type(column)}" for column in statement.columns)
    table = f"{schema}.{statement.table}"
    source = f"unnest({arrays}) AS v ({names})"
    match statement:
        case Insert():
            numbered = number.replace("?", f"v.{statement.numbered}")
            given = [f"v.{name}" for name in statement.columns]
            if statement.numbered:
                given[statement.columns.index(statement.numbered)] = numbered
            text = f"INSERT INTO {table} ({names}) SELECT {', '.join(given)} FROM {source}"  # noqa: S608 - our names
        case Update(_, _, set, where):
            these = _in_full(where, schema)
            text = f"UPDATE {table} SET {set} FROM {source} WHERE {these}"  # noqa: S608
        case Delete(_, _, only):
            same = " AND ".join(f"{statement.table}.{n} = v.{n}" for n in statement.columns)
            text = f"DELETE FROM {table} USING {source} WHERE {same}"  # noqa: S608
            text += f" AND {only}" if only else ""
        case Lock(_, (column,)):
            wanted = f"{column} = ANY({arrays})"
            text = f"SELECT 1 FROM {table} WHERE {wanted} ORDER BY {column} FOR NO KEY UPDATE"  # noqa: S608
    return text
