"""What SQLite does its own way: connections, transactions, and which error means what."""

# ruff: noqa: D102 - what each method promises is said in `Dialect`

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from trioflow.backends.sql.dialect import (
    Connection,
    Fences,
    Insert,
    Write,
    holders_one_by_one,
    keys_one_by_one,
)
from trioflow.backends.sql.fencing import said
from trioflow.backends.sql.names import PLAIN, TableNames
from trioflow.backends.sqlite.chunks import select_among, write_chunked
from trioflow.backends.sqlite.fencing import SqliteFences
from trioflow.errors import (
    BackendError,
    BackendUnavailable,
    CorruptStore,
    DataRefused,
    SchemaError,
    StoreFenced,
    TransactionRefused,
)

__all__ = ["SqliteDialect", "connect", "connect_as", "make_durable"]

C = TypeVar("C", bound=sqlite3.Connection)
T = TypeVar("T")

# How long a statement waits for another process's transaction to end, seconds.
_BUSY_TIMEOUT = 10.0
_BUSY_DELAY = 0.01
# Pages of 4 KiB in the log before they are copied into the file; fewer copies of hot pages.
_CHECKPOINT_PAGES = 4000
_CACHE_KIB = 64 * 1024

_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY: (
        "is locked by another process; end the program that holds a transaction open on it"
    ),
    sqlite3.SQLITE_LOCKED: (
        "is locked by another process; end the program that holds a transaction open on it"
    ),
    sqlite3.SQLITE_READONLY: "cannot be written; check the rights of the file and its directory",
    sqlite3.SQLITE_PERM: "cannot be written; check the rights of the file and its directory",
    sqlite3.SQLITE_IOERR: "cannot be read or written; check the disk",
    sqlite3.SQLITE_FULL: "cannot grow: the disk, or the size allowed for it, is full; make room",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check that its directory exists and is writable",
    sqlite3.SQLITE_NOMEM: "cannot be used: there is not enough memory",
}
_ALLOCATE = """UPDATE counters SET value = value + ?, latest_at = max(latest_at, ?)
    WHERE name = 'inbox' RETURNING value"""


def connect(path: str) -> sqlite3.Connection:
    """Open a file as trioflow needs it.

    Args:
        path: A path, ``":memory:"``, or a URI that begins with ``file:``.
    """
    return connect_as(sqlite3.Connection, path)


def connect_as(kind: type[C], path: str) -> C:
    """Open a file as trioflow needs it, with a connection of this class."""
    connection = sqlite3.connect(
        path,
        timeout=_BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
        factory=kind,
        uri=path.startswith("file:"),
    )
    try:
        make_durable(connection)
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    except BaseException:
        connection.close()
        raise
    return connection


def make_durable(connection: sqlite3.Connection) -> None:
    """Let what is committed survive a power failure, and nobody who reads wait for a writer."""
    _persist(lambda: connection.execute("PRAGMA journal_mode = WAL"))
    connection.execute("PRAGMA synchronous = FULL")


def _persist(action: Callable[[], T]) -> T:
    # Switching to WAL fails at once where another process does the same: the busy timeout is
    # not applied to that lock.
    deadline = time.monotonic() + _BUSY_TIMEOUT
    while True:
        try:
            return action()
        except sqlite3.OperationalError as exc:
            if _code(exc) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(_BUSY_DELAY)


def _code(exc: Exception) -> int:
    # The low byte is the kind of the error, the rest its details.
    return int(getattr(exc, "sqlite_errorcode", 0)) & 0xFF


def _is_refusal(exc: Exception) -> bool:
    """Return whether it is a fence that has refused a change."""
    return getattr(exc, "sqlite_errorcode", 0) == sqlite3.SQLITE_CONSTRAINT_TRIGGER


class SqliteDialect:
    """See `Dialect`.

    Args:
        path: Of the file, for messages.
        names: Those of the tables.
    """

    # The driver lets Python's own errors through where a value cannot be what a column needs.
    errors: tuple[type[Exception], ...] = (sqlite3.Error, UnicodeError, OverflowError)
    conflict: tuple[type[Exception], ...] = (sqlite3.IntegrityError,)
    for_update = ""
    skip_locked = ""
    unless_there = "ON CONFLICT DO NOTHING"
    has_ready_at = "ready_at IS NOT NULL"
    number = "?"
    unindexed = "+"

    def __init__(self, path: str, names: TableNames = PLAIN) -> None:
        self._path = path
        self.names = names
        self._allocate = names.query(_ALLOCATE)
        self.fences: Fences = SqliteFences(self, names)

    def holders(self, table: str, null: str = "") -> str:
        return holders_one_by_one(table, null)

    def by_index(self, index: str) -> str:
        return ""

    def keys_after(self) -> str:
        return keys_one_by_one()

    def query(self, sql: str) -> str:
        return self.names.query(sql)

    def write(self, connection: Connection, statement: Write, values: list[Any]) -> int:
        return write_chunked(connection, self._named(statement), values)

    def write_all(
        self, connection: Connection, writes: Sequence[tuple[Write, list[Any]]]
    ) -> list[int]:
        return [write_chunked(connection, self._named(one), values) for one, values in writes]

    def append(self, connection: Connection, statement: Insert, values: list[Any]) -> None:
        write_chunked(connection, self._named(statement), values)

    def _named(self, statement: Write) -> Write:
        return self.names.statement(statement) if self.names.prefix else statement

    def among(self, connection: Connection, sql: str, values: Sequence[str]) -> list[Any]:
        return select_among(connection, sql, values)

    def each(
        self, connection: Connection, sql: str, parameters: Sequence[Sequence[Any]]
    ) -> list[list[Any]]:
        return [connection.execute(sql, values).fetchall() for values in parameters]

    @contextmanager
    def transaction(self, connection: Connection) -> Generator[None]:
        raw = cast("sqlite3.Connection", connection)
        begin, commit, rollback = "BEGIN IMMEDIATE", "COMMIT", ["ROLLBACK"]
        if raw.in_transaction:
            begin, commit = "SAVEPOINT part", "RELEASE part"
            rollback = ["ROLLBACK TO part", "RELEASE part"]
        raw.execute(begin)
        try:
            yield
            raw.execute(commit)
        except BaseException as exc:
            # A full disk, for one, has already ended it.
            if raw.in_transaction:
                for statement in rollback:
                    raw.execute(statement)
            if isinstance(exc, sqlite3.Error) and _is_refusal(exc):
                # To the driver it is one more violated constraint, as is a `conflict`.
                raise self.error(exc) from exc
            raise

    def in_transaction(self, connection: Connection) -> bool:
        return cast("sqlite3.Connection", connection).in_transaction

    def allocate(self, connection: Connection, count: int, now: float) -> int:
        row = connection.execute(self._allocate, (count, now)).fetchall()[0]
        return int(row[0]) - count + 1

    def server_time(self, connection: Connection) -> float:
        raise NotImplementedError  # it has no server

    def delay(self, exc: Exception, attempt: int) -> float | None:
        return None  # SQLite itself waits for other processes

    def error(self, exc: Exception) -> Exception:  # noqa: PLR0911 - a table of errors
        code, path = _code(exc), self._path
        if _is_refusal(exc):
            return StoreFenced(f"{path}: {said(str(exc)) or exc}")
        if code in _CORRUPT:
            return CorruptStore(
                f"{path} is damaged, or is no SQLite database ({exc}); restore it from a backup, "
                "or use another file"
            )
        if getattr(exc, "sqlite_errorcode", 0) == sqlite3.SQLITE_BUSY_SNAPSHOT:
            return TransactionRefused(
                f"{path}: the transaction began with a read, and somebody has written since, so it "
                "cannot write any more; roll it back, and begin it with "
                f'connection.execute("BEGIN IMMEDIATE") ({exc})'
            )
        if code in _UNAVAILABLE:
            parent = Path(path).parent
            if code == sqlite3.SQLITE_CANTOPEN and "file:" not in path and not parent.is_dir():
                return BackendUnavailable(f"{path}: there is no directory {parent}; create it")
            return BackendUnavailable(f"{path} {_UNAVAILABLE[code]} ({exc})")
        if code == sqlite3.SQLITE_TOOBIG or not isinstance(exc, sqlite3.Error):
            return DataRefused(f"{path} cannot take these data: {exc}")
        kind: type[BackendError] = BackendError
        text = f"{path}: {exc}"
        if str(exc).startswith(("no such table", "no such column")):
            kind, text = SchemaError, f"{path} does not have trioflow's schema ({exc})"
            text += "; migrate it first"
        elif isinstance(exc, sqlite3.ProgrammingError):
            kind, text = BackendUnavailable, f"{path} is not open ({exc})"
        return kind(text)
