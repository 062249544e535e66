"""The caller's own connection of PyMySQL, as the store uses it for a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pymysql
from pymysql.connections import Connection as RawConnection
from pymysql.constants import SERVER_STATUS
from pymysql.cursors import Cursor

from trioflow.backends.mysql.connection import MysqlConnection
from trioflow.backends.sql.borrowed import BorrowedStore, not_a_connection, not_begun
from trioflow.backends.sql.connection import Rows
from trioflow.backends.sql.store import SqlStore
from trioflow.errors import TransactionRefused

__all__ = ["MysqlBorrowedStore", "checked"]

# A row for each session of the server, since a transaction keeps the lock of its row.
_ANNOUNCE = """INSERT INTO writers (id, token, changes, seen_at)
    VALUES (concat('caller ', connection_id()), 0, 1, unix_timestamp())
    ON DUPLICATE KEY UPDATE changes = changes + 1, seen_at = unix_timestamp()"""


class _BorrowedConnection(MysqlConnection):
    """Runs statements in the caller's transaction, of which all that happens here is a part."""

    part = "trioflow_part"

    def __init__(self, raw: RawConnection[Any]) -> None:
        super().__init__(_never)
        self._raw = raw
        self._depth = 1
        self._sent = True

    def _exchange(
        self, raw: RawConnection[Any], statements: Sequence[str], answers: list[Rows]
    ) -> None:
        # One by one: the caller's session need not take several. And with rows as tuples.
        for statement in statements:
            cursor: Any = raw.cursor(Cursor)
            cursor.execute(self._fitting(statement.encode("utf-8", "surrogateescape")))
            answers.append(Rows(cursor.rowcount, cursor.fetchall()))


class MysqlBorrowedStore(BorrowedStore):
    """See `BorrowedStore`.

    Args:
        raw: The caller's connection.
        like: The store that is open.
        database: The name of its database.
    """

    connection: _BorrowedConnection

    def __init__(self, raw: RawConnection[Any], like: SqlStore, database: str) -> None:
        super().__init__(_BorrowedConnection(raw), like)
        self._raw = raw
        self._database = database
        self._announcement = like.dialect.query(_ANNOUNCE)

    def begin(self) -> None:
        """See `BorrowedStore.begin`."""
        raw = self._raw
        with raw.cursor(Cursor) as cursor:
            cursor.execute("SELECT @@max_allowed_packet, database(), @@character_set_client")
            ((allowed, database, charset),) = cursor.fetchall()
        if database != self._database:
            raise TransactionRefused(
                f"the connection given to in_transaction() uses the database {database!r}, but the "
                f"store is in {self._database!r}; connect to that one"
            )
        if charset not in ("utf8mb4", "utf8mb3", "utf8") or raw.encoding != "utf8":
            raise TransactionRefused(
                f"{raw!r} has the character set {charset}; connect with charset='utf8mb4'"
            )
        status: int = getattr(raw, "server_status", 0)
        if status & SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES:
            raise TransactionRefused(
                f"{raw!r} has NO_BACKSLASH_ESCAPES in its sql_mode; take that out of it"
            )
        if raw.get_autocommit() and not status & SERVER_STATUS.SERVER_STATUS_IN_TRANS:
            raise not_begun(raw, "connection.begin()")
        self.connection.set_room(allowed)

    def announce(self) -> None:
        """Have the transaction tell others of a change when it is committed."""
        self.execute(self._announcement)

    def flush(self) -> None:
        """Send what was put off."""
        self.connection.flush()


def checked(connection: object) -> RawConnection[Any]:
    """Return a connection of PyMySQL's as it is.

    Raises:
        TransactionRefused: It is something else.
    """
    if not issubclass(type(connection), RawConnection):  # narrows nothing to an unknown type
        raise not_a_connection(connection, "MySQL", "a connection of PyMySQL")
    return cast("RawConnection[Any]", connection)


def _never() -> RawConnection[Any]:
    raise pymysql.OperationalError(2013, "the connection of the transaction was lost")
