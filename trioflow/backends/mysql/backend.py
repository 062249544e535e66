"""The store in a MySQL or MariaDB database, shared by the processes of many machines."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

import pymysql
from pymysql.connections import Connection as RawConnection

from trioflow.backends._common.id_limits import IdLimit
from trioflow.backends._common.server_clock import ServerClock
from trioflow.backends._common.sockets import break_off
from trioflow.backends._common.watching import Watcher
from trioflow.backends.mysql.borrowed import MysqlBorrowedStore, checked
from trioflow.backends.mysql.connection import MysqlConnection
from trioflow.backends.mysql.dialect import MysqlDialect
from trioflow.backends.mysql.schema import SCRIPTS, MysqlMigrations
from trioflow.backends.mysql.server import Server, from_url
from trioflow.backends.outbox import CallerTransaction
from trioflow.backends.sql.borrowed import SqlCallerTransaction
from trioflow.backends.sql.dialect import Dialect
from trioflow.backends.sql.lifecycle import SharedSqlBackend
from trioflow.backends.sql.names import TableNames
from trioflow.backends.sql.session import Session
from trioflow.backends.sql.store import SqlStore
from trioflow.errors import BackendError

__all__ = ["MysqlBackend"]

# After so many seconds of silence a writer's row is not needed for waking others.
_FORGOTTEN = 60
# Between two looks for the changes of others, when there have been none: a query has its price.
_SELDOM = 0.25


class _MysqlStore(SqlStore):
    """Also tells other processes of changes."""

    connection: MysqlConnection

    def __init__(
        self, connection: MysqlConnection, dialect: Dialect, clock: Callable[[], float]
    ) -> None:
        super().__init__(connection, dialect, clock)
        self._seen: set[Any] = set()

    def announce(self) -> None:
        self.connection.announce()

    def changed_by_others(self) -> bool:
        """Return whether another backend has announced something since it was asked last."""
        query = self.dialect.query("SELECT id, changes FROM writers WHERE id <> ?")
        before = self._seen
        self._seen = set(self.execute(query, self.connection.writer).fetchall())
        return self._seen != before

    def database(self) -> str:
        """Return the name of the database."""
        return str(self.execute("SELECT database()").fetchone()[0])

    def forget_writers(self) -> None:
        """Delete the rows of those that have been silent for long, and be sure of writing."""
        with self.connection.transaction():
            silent = self.dialect.query(
                f"SELECT id FROM writers WHERE seen_at < unix_timestamp() - {_FORGOTTEN} "  # noqa: S608
                "FOR UPDATE SKIP LOCKED"
            )
            forget = self.dialect.query("DELETE FROM writers WHERE id = ?")
            for row in self.execute(silent).fetchall():
                self.execute(forget, *row)


class MysqlBackend(SharedSqlBackend[_MysqlStore]):
    """A database of MySQL 8.0.17 or MariaDB 10.6, or newer, on InnoDB.

    The server's clock judges leases and visibility. Ids of instances have at most 500 characters.

    Args:
        url: ``mysql://user:password@host:3306/database``, see the documentation for its options.
        connect: Instead of a URL: returns a connection of PyMySQL's. It is called, from threads,
            with keyword arguments that it has to pass on to ``pymysql.connect``.
        migrate: Whether `open` brings the schema up to date. If not, `migrate` does.
        migration_url: Another URL for the same database, whose user may create tables.
        prefix: What the names of all tables begin with, so that they can be in a database with
            others: ``"flow_"``.

    Raises:
        BackendError: The URL is incomplete, or there can be no such prefix.
    """

    name = "mysql"
    ids = IdLimit("MySQL")

    def __init__(
        self,
        url: str | None = None,
        *,
        connect: Callable[..., RawConnection[Any]] | None = None,
        migrate: bool = True,
        migration_url: str | None = None,
        prefix: str = "",
    ) -> None:
        if (url is None) == (connect is None):
            raise BackendError("MysqlBackend needs a URL or a connection factory, and not both")
        self._server = (
            from_url(url) if url is not None else Server(cast("Any", connect), "the MySQL database")
        )
        self._migrator = self._server if migration_url is None else from_url(migration_url)
        where = self._server.where
        names = TableNames(prefix, SCRIPTS)
        self._writers = names.table("writers")
        super().__init__(
            MysqlDialect(where, names),
            ServerClock(),
            MysqlMigrations(self._migrator.where, names),
            place=where,
            migrate=migrate,
        )
        self._database = ""
        self._watcher = Watcher(partial(self._look, _MysqlStore.changed_by_others), seldom=_SELDOM)

    def _connect(self) -> _MysqlStore:
        return self._on(
            MysqlConnection(self._server.connect, uuid.uuid4().hex, writers=self._writers)
        )

    def _connect_for_heartbeats(self) -> _MysqlStore:
        return self._on(MysqlConnection(self._server.connect))

    def _connect_to_migrate(self) -> _MysqlStore:
        return self._on(MysqlConnection(lambda: self._migrator.connect(None)))

    def _on(self, connection: MysqlConnection) -> _MysqlStore:
        connection.open()
        return _MysqlStore(connection, self._dialect, self._clock)

    def _prepare(self, session: Session[_MysqlStore]) -> None:
        session.call(session.store.forget_writers)
        self._database = session.call(session.store.database)
        session.call(session.store.changed_by_others)

    def in_transaction(self, connection: object) -> CallerTransaction:
        """See `Backend`."""
        self._store()  # is it open?
        return SqlCallerTransaction(partial(self._borrow, checked(connection)), self.ids)

    def _borrow(self, raw: RawConnection[Any]) -> MysqlBorrowedStore:
        return MysqlBorrowedStore(raw, self._store(), self._database)

    def _new_plain(self) -> RawConnection[Any]:
        return self._server.connect_plain()

    def _close_plain(self, raw: RawConnection[Any]) -> None:
        with suppress(pymysql.Error):
            raw.close()

    def _revoke_plain(self, raw: RawConnection[Any]) -> None:
        there: socket.socket | None = getattr(raw, "_sock", None)
        if there is not None:
            break_off(there.fileno())
