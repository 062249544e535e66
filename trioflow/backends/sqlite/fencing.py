"""The fence of SQLite: triggers that stand aside in a transaction of a move's."""

# ruff: noqa: D102 - what each method promises is said in `Fences`

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import cast

from trioflow.backends.sql.dialect import Connection, Dialect
from trioflow.backends.sql.fencing import MARK, triggers
from trioflow.backends.sql.names import TableNames

__all__ = ["SqliteFences"]


class SqliteFences:
    """See `Fences`.

    Args:
        dialect: Whose transactions are used.
        names: Those of the tables.
    """

    def __init__(self, dialect: Dialect, names: TableNames) -> None:
        self._dialect = dialect
        self._names = names

    def put_up(self, connection: Connection, text: str) -> None:
        with self._dialect.transaction(connection):
            self._drop(connection)
            self._make(connection, text)

    def take_down(self, connection: Connection) -> None:
        with self._dialect.transaction(connection):
            self._drop(connection)

    @contextmanager
    def passing(self, connection: Connection, text: str) -> Generator[None]:
        self._drop(connection)
        yield  # if it raises, the transaction is rolled back
        self._make(connection, text)

    def _drop(self, connection: Connection) -> None:
        for name, _, _ in triggers():
            connection.execute(self._names.script(f"DROP TRIGGER IF EXISTS {name}"))

    def _make(self, connection: Connection, text: str) -> None:
        # SQLite takes nothing but a literal there.
        literal = cast("str", connection.execute("SELECT quote(?)", (MARK + text,)).fetchone()[0])
        for name, table, event in triggers():
            begin = self._names.script(f"CREATE TRIGGER {name} BEFORE {event} ON {table}")
            connection.execute(f"{begin} BEGIN SELECT RAISE(ABORT, {literal}); END")
