"""The caller's own `sqlite3.Connection`, as the store uses it for a call."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from trioflow.backends.sql.borrowed import BorrowedStore, not_begun
from trioflow.backends.sql.connection import Rows
from trioflow.backends.sql.store import SqlStore
from trioflow.backends.sqlite.dialect import COUNT_CHANGE, make_durable
from trioflow.errors import BackendError, TransactionRefused

__all__ = ["BorrowedSqlite", "LentSqlite", "SqliteBorrowedStore", "file_of"]


class BorrowedSqlite:
    """A `trioflow.backends.sql.dialect.Connection` whose rows and texts are plain.

    Args:
        raw: The caller's connection, which may make rows and texts of another kind.
    """

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        try:
            return self.raw.in_transaction
        except sqlite3.ProgrammingError:  # it is closed
            return False

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Rows:
        """Run one statement, and read all its rows."""
        cursor = self.raw.cursor()
        cursor.row_factory = None
        with self._plain_texts():
            cursor.execute(sql, parameters)
            return Rows(cursor.rowcount, cursor.fetchall())

    def close(self) -> None:
        """Do nothing: it is the caller's."""

    @contextlib.contextmanager
    def _plain_texts(self) -> Generator[None]:
        before, self.raw.text_factory = self.raw.text_factory, str
        try:
            yield
        finally:
            self.raw.text_factory = before


class LentSqlite(BorrowedSqlite):
    """A connection that is the store's while that is open, and then as it was before.

    Args:
        raw: The connection.

    Raises:
        BackendError: It cannot be used: by this thread, or because of a transaction.
    """

    def __init__(self, raw: sqlite3.Connection) -> None:
        super().__init__(raw)
        try:
            busy = raw.in_transaction
            file = file_of(raw)
        except sqlite3.ProgrammingError as exc:
            raise BackendError(
                f"{raw!r} cannot be used by the store's thread ({exc}); open it with "
                "sqlite3.connect(…, check_same_thread=False)"
            ) from exc
        if busy or getattr(raw, "autocommit", None) is False:
            raise BackendError(
                f"{raw!r} is in a transaction; commit it first, and do not give it "
                "autocommit=False, which always begins the next"
            )
        self._isolation: Any = raw.isolation_level
        raw.isolation_level = None
        if file:
            make_durable(raw)

    def close(self) -> None:
        """Give it back."""
        self.raw.isolation_level = self._isolation


class SqliteBorrowedStore(BorrowedStore):
    """See `BorrowedStore`.

    Args:
        raw: The caller's connection.
        like: The store that is open.
        file: Its file; ``""`` for none.
    """

    def __init__(self, raw: sqlite3.Connection, like: SqlStore, file: str) -> None:
        super().__init__(BorrowedSqlite(raw), like)
        self._raw = raw
        self._file = file
        self._count_change = like.dialect.query(COUNT_CHANGE)

    def announce(self) -> None:
        """Have the transaction tell others of a change when it is committed."""
        self.execute(self._count_change)

    def begin(self) -> None:
        """See `BorrowedStore.begin`."""
        try:
            file = file_of(self._raw)
        except sqlite3.ProgrammingError as exc:
            raise TransactionRefused(
                f"{self._raw!r} cannot be used here ({exc}); call this in the thread that has "
                "opened it, while it is open, or open it with "
                "sqlite3.connect(…, check_same_thread=False)"
            ) from exc
        if not self._file:
            raise TransactionRefused(
                "the store is in memory, on a connection that it was given, and nobody else can "
                "take part in its transactions; keep it in a file"
            )
        if not _is_same(file, self._file):
            raise TransactionRefused(
                f"the connection given to in_transaction() has the file {file!r} open, but the "
                f"store is {self._file!r}; connect to that one"
            )
        if self._raw.in_transaction:
            return
        if self._raw.isolation_level is None or getattr(self._raw, "autocommit", -1) is True:
            raise not_begun(self._raw, 'connection.execute("BEGIN IMMEDIATE")')
        self._raw.execute("BEGIN IMMEDIATE")


def file_of(raw: sqlite3.Connection) -> str:
    """Return the file of a connection; ``""`` for none."""
    cursor = raw.cursor()
    cursor.row_factory = None
    rows = cursor.execute("PRAGMA database_list").fetchall()
    return next(os.fsdecode(file or "") for _, name, file in rows if os.fsdecode(name) == "main")


def _is_same(one: str, other: str) -> bool:
    if not one or not other:
        return one == other
    try:
        return Path(one).samefile(other)
    except OSError:
        return one == other
