"""The dialect of MySQL and MariaDB: locks, statements as text, and what their errors mean."""

# ruff: noqa: D102 - what each method promises is said in `Dialect`

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import pymysql

from trioflow.backends._common.id_limits import ID_LENGTH
from trioflow.backends.mysql.connection import (
    LOST,
    TOO_BIG,
    MysqlConnection,
    ResultUnknown,
    code_of,
)
from trioflow.backends.mysql.fencing import FENCED, MysqlFences
from trioflow.backends.mysql.schema import COMMAND_LENGTH
from trioflow.backends.mysql.values import filled, literal, statements
from trioflow.backends.sql.dialect import Connection, Fences, Insert, Write
from trioflow.backends.sql.fencing import said
from trioflow.backends.sql.names import PLAIN, TableNames
from trioflow.errors import (
    BackendError,
    BackendUnavailable,
    CorruptStore,
    DataRefused,
    SchemaError,
    StoreFenced,
)

__all__ = ["MysqlDialect"]

_MOST_AMONG = 500

_UNAVAILABLE = {
    1021: "has no room on its disk; make some",
    1037: "has not enough memory",
    1038: "has not enough memory",
    1047: "has not joined its cluster yet; wait, or look at it",
    1040: "has too many connections; raise max_connections, or close some",
    1041: "has not enough memory",
    1044: "refuses this user; grant it all rights on the database",
    1045: "refuses this user or password; check the URL",
    1049: "does not exist; create it with CREATE DATABASE",
    1114: "has no room; make some",
    1129: "refuses this host after too many errors; run FLUSH HOSTS on it",
    1130: "refuses this host; grant its user access from here",
    1142: "refuses this user; grant it all rights on the database",
    1203: "has too many connections of this user",
    1205: "is locked by another transaction; end the program that holds it open",
    1213: "had deadlocks again and again; end the program that holds its rows",
    1226: "has too many connections of this user",
    1290: "cannot be written: it is read-only, so it may not be the primary server any more",
    1317: "interrupted the statement",
    1698: "refuses this user; check the URL",
    1792: "cannot be written: it is read-only",
    1836: "cannot be written: it is read-only, so it may not be the primary server any more",
    1969: "ended a statement that took too long (max_statement_time)",
    3024: "ended a statement that took too long (max_execution_time)",
}
# Two transactions stood in each other's way: the other one has gone on, this one tries again.
# 1020 and 1062: a row was changed, or an id taken, between two statements of it.
_CONTENDED = {1020, 1062, 1213}
_MOST_CONTENDED = 8
# A lock was waited for, ten seconds each time.
_LOCKED = 1205
_MOST_LOCKED = 2
_FIRST_DELAY = 0.004
# The first attempt notices that the server was restarted, the second one is with the new one.
_MOST_LOST = 3
# To connect is patient by itself.
_CANNOT_CONNECT = 2003
_TOO_LONG = 1406
# Characters, numbers and rows that cannot be stored.
_REFUSED = {1118, 1264, 1301, 1366, 1367, 1436, 3854, 3988}
_NO_TABLE = {1054, 1146}
_CORRUPT = {1034, 1035, 1194, 1195, 1712}
# What is taken is read in the order of an index; see `mysql.schema`.
_TAKEN = re.compile(r"\bFROM (instances|activities)\b")
_ORDER = {"instances": "instances_ready", "activities": "activities_visible"}


class MysqlDialect:
    """See `Dialect`.

    Args:
        where: The database, for messages; without its password.
        names: Those of the tables.
    """

    errors: tuple[type[Exception], ...] = (pymysql.Error,)
    conflict: tuple[type[Exception], ...] = (pymysql.IntegrityError,)
    for_update = "FOR UPDATE"
    skip_locked = "FOR UPDATE SKIP LOCKED"
    # Not IGNORE, which leaves a shared lock: two that have one wait for each other.
    unless_there = "ON DUPLICATE KEY UPDATE latest = latest"
    has_ready_at = "TRUE"  # its indexes list everything
    unindexed = ""
    # The table counts by itself where a row says 0.
    number = "0 * ?"

    def __init__(self, where: str, names: TableNames = PLAIN) -> None:
        self._where = where
        self._names = names
        self.fences: Fences = MysqlFences(names)

    def holders(self, table: str, null: str = "") -> str:
        # An index is read by groups only if all its columns until there are grouped.
        listed, grouped = (f"{null} IS NULL AND", f"{null},") if null else ("", "")
        where = f"WHERE {listed} worker > ''"
        return f"SELECT worker FROM {table} {where} GROUP BY {grouped} worker"  # noqa: S608

    def by_index(self, index: str) -> str:
        return f"FORCE INDEX ({index})"

    def keys_after(self) -> str:
        return """SELECT limit_key FROM activities
            WHERE worker IS NULL AND queue = ? AND limit_key > ? AND queue = ?
            GROUP BY limit_key ORDER BY limit_key LIMIT ?"""

    def query(self, sql: str) -> str:
        # An index ends with the primary key, so its order is this one; but that key is too long
        # for the optimizer to know, and it would read, and lock, everything in order to sort it.
        sql = sql.replace(", instance, execution, command LIMIT", " LIMIT")
        if self.skip_locked in sql and " LIMIT " in sql:
            # The same would happen while the statistics of a table are behind its growth.
            sql = _TAKEN.sub(lambda found: f"{found[0]} FORCE INDEX ({_ORDER[found[1]]})", sql, 1)
        return self._names.query(sql)

    def write(self, connection: Connection, statement: Write, values: list[Any]) -> int:
        return self.write_all(connection, [(statement, values)])[0]

    def write_all(
        self, connection: Connection, writes: Sequence[tuple[Write, list[Any]]]
    ) -> list[int]:
        mysql = cast("MysqlConnection", connection)
        texts = [list(self._texts(mysql, *each)) for each in writes]
        answers = iter(mysql.run([text for part in texts for text in part]))
        return [sum(next(answers).rowcount for _ in part) for part in texts]

    def append(self, connection: Connection, statement: Insert, values: list[Any]) -> None:
        mysql = cast("MysqlConnection", connection)
        for text in self._texts(mysql, statement, values):
            mysql.defer(text)

    def _texts(self, mysql: MysqlConnection, statement: Write, values: list[Any]) -> Iterable[str]:
        if self._names.prefix:
            statement = self._names.statement(statement)
        return statements(statement, values, mysql.room)

    def among(self, connection: Connection, sql: str, values: Sequence[str]) -> list[Any]:
        mysql = cast("MysqlConnection", connection)
        texts: list[str] = []
        for at in range(0, len(values), _MOST_AMONG):
            listed = ", ".join(map(literal, values[at : at + _MOST_AMONG]))
            texts.append(sql.replace("{among}", f"IN ({listed})"))
        answers = mysql.run(texts) if texts else []
        return [row for answer in answers for row in answer.fetchall()]

    def each(
        self, connection: Connection, sql: str, parameters: Sequence[Sequence[Any]]
    ) -> list[list[Any]]:
        mysql = cast("MysqlConnection", connection)
        answers = mysql.run([filled(sql, values) for values in parameters]) if parameters else []
        return [answer.fetchall() for answer in answers]

    def transaction(self, connection: Connection) -> AbstractContextManager[None]:
        return cast("MysqlConnection", connection).transaction()

    def in_transaction(self, connection: Connection) -> bool:
        return cast("MysqlConnection", connection).in_transaction

    def allocate(self, connection: Connection, count: int, now: float) -> int:
        return 0

    def server_time(self, connection: Connection) -> float:
        (now,) = connection.execute("SELECT unix_timestamp(now(6))").fetchone()
        return float(now)

    def delay(self, exc: Exception, attempt: int) -> float | None:
        code, most = code_of(exc), 0
        if isinstance(exc, ResultUnknown):
            return None
        if code == _LOCKED:
            most = _MOST_LOCKED
        elif code in _CONTENDED:
            most = _MOST_CONTENDED
        elif code in LOST and code != _CANNOT_CONNECT:
            most = _MOST_LOST
        again = attempt < most
        return _FIRST_DELAY * 2**attempt * random.random() if again else None  # noqa: S311 - no secret

    def error(self, exc: Exception) -> Exception:
        code, where = code_of(exc), self._where
        kind: type[BackendError] = BackendError
        if code == FENCED and (text := said(str(exc.args[-1]))):
            return StoreFenced(f"{where}: {text}")
        if code in LOST:
            kind, text = BackendUnavailable, "cannot be reached; check the server and the URL"
        elif code in _UNAVAILABLE:
            kind, text = BackendUnavailable, _UNAVAILABLE[code]
        elif code in _NO_TABLE:
            kind, text = SchemaError, "does not have trioflow's schema; migrate it first"
        elif code in _CORRUPT:
            kind, text = CorruptStore, "is damaged; restore it from a backup"
        elif code == _TOO_LONG:
            kind = DataRefused
            text = (
                "cannot take so long a name: ids of instances have at most "
                f"{ID_LENGTH} characters, those of commands {COMMAND_LENGTH}, other names 255"
            )
        elif code == TOO_BIG:
            kind = DataRefused
            text = "cannot take so large a value; raise max_allowed_packet on the server"
        elif code in _REFUSED or isinstance(exc, pymysql.DataError):
            kind, text = DataRefused, "cannot take these data"
        else:
            return BackendError(f"{where}: {exc}")
        return kind(f"{where} {text} ({exc})")
