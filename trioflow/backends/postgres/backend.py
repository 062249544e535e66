"""The store in a PostgreSQL database, shared by processes on any number of machines."""

# ruff: noqa: D102 - what each method promises is said in `Backend`

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import psycopg
from psycopg.conninfo import conninfo_to_dict

from trioflow.backends._common.id_limits import IdLimit
from trioflow.backends._common.loop import call_soon_here
from trioflow.backends._common.server_clock import ServerClock
from trioflow.backends._common.sockets import break_off
from trioflow.backends._common.url_text import shown
from trioflow.backends._common.watching import EVERYTHING, Watcher
from trioflow.backends.abc import Concern
from trioflow.backends.outbox import CallerTransaction
from trioflow.backends.postgres.borrowed import PgBorrowedStore, PgCallerTransaction, Raw
from trioflow.backends.postgres.connection import PgConnection
from trioflow.backends.postgres.dialect import PostgresDialect
from trioflow.backends.postgres.notifier import Notifier, announcement
from trioflow.backends.postgres.schema import PostgresMigrations
from trioflow.backends.sql.lifecycle import SharedSqlBackend
from trioflow.backends.sql.session import Session
from trioflow.backends.sql.store import SqlStore
from trioflow.errors import BackendError

__all__ = ["Pool", "PostgresBackend"]

# Used where the URL does not say otherwise: a server that is gone is noticed in half a minute.
_DEFAULTS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "trioflow",
}
_CANCEL_WITHIN = 5.0  # seconds
# Tables grow from nothing, faster than statistics: every query of ours has an index to use. A
# process that was stopped in a transaction must not hold its locks for long. Nor may one wait long
# for a row that somebody else's transaction has locked: the worker's own is locked meanwhile.
_SETTINGS = (
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; "
    "SET jit = off; SET idle_in_transaction_session_timeout = '10s'; SET lock_timeout = '10s'"
)


class Pool(Protocol):
    """The part of `psycopg_pool.ConnectionPool` that the store uses."""

    def getconn(self) -> psycopg.Connection[Any]:
        """Give a connection."""
        ...

    def putconn(self, conn: psycopg.Connection[Any]) -> None:
        """Take it back, also when it is broken."""


class _PgStore(SqlStore):
    connection: PgConnection


class _NotifyingWatcher(Watcher):
    """Tells other processes what was changed here."""

    def __init__(self, notify_others: Callable[[], None]) -> None:
        super().__init__()
        self._notify_others = notify_others

    def notify(self, about: Collection[Concern] = EVERYTHING, by: str = "") -> None:
        super().notify(about, by)
        self._notify_others()

    def hear(self) -> None:
        """Count a change by another process and wake everybody."""
        super().notify()


class PostgresBackend(SharedSqlBackend[_PgStore]):
    """A schema of a PostgreSQL database, version 13 or later.

    Ids of instances have at most 500 characters.
    It uses up to three connections: for its calls, for the heartbeat, and for hearing of changes.
    All times are the server's; this machine's clock does not matter.

    Args:
        server: A URL (``postgresql://…``) or connection string; or a pool; or a function that
            returns new connections of psycopg. Connections are used in autocommit mode.
        schema: The schema with trioflow's tables, and nothing else. It is made if there is none.
        pooled: The connections go through a pooler that gives each transaction another session,
            such as PgBouncer in transaction mode. Then nothing is prepared, and changes by other
            processes are asked for, up to a few times a second.
        migrate: Whether `open` brings the schema up to date. If not, `migrate` does.
        clock: Replaces the server's clock in tests, epoch seconds.
    """

    name = "postgres"
    ids = IdLimit("PostgreSQL", zeros=False)

    def __init__(
        self,
        server: str | Pool | Callable[[], psycopg.Connection[Any]],
        *,
        schema: str = "trioflow",
        pooled: bool = False,
        migrate: bool = True,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._get, self._put, place = _source(server)
        super().__init__(
            PostgresDialect(schema, place),
            ServerClock() if clock is None else clock,
            PostgresMigrations(schema, place),
            place=place,
            migrate=migrate,
        )
        self.schema = schema
        self._pooled = pooled
        self._notifier: Notifier | None = None
        self._notifying = _NotifyingWatcher(self._notify)
        self._watcher = self._notifying

    # --- life ---------------------------------------------------------------------------

    async def _open(self) -> None:
        await super()._open()
        heard = partial(call_soon_here(), self._notifying.hear)
        connection = self._new_connection()
        self._notifier = Notifier(connection, self.schema, listen=not self._pooled, heard=heard)

    def _connect(self) -> _PgStore:
        return _PgStore(self._new_connection(), self._dialect, self._clock)

    def _new_connection(self) -> PgConnection:
        return PgConnection(self._new_raw, self._put, prepare=not self._pooled)

    def _new_raw(self) -> psycopg.Connection[Any]:
        raw = self._get()
        try:
            raw.autocommit = True
            raw.prepare_threshold = None  # if anybody prepares, we do
            if not self._pooled:
                raw.execute(_SETTINGS)
        except BaseException:
            self._put(raw)
            raise
        return raw

    def _close_session(self, session: Session[_PgStore]) -> None:
        notifier, self._notifier = self._notifier, None
        if notifier is not None:
            notifier.stop()
        super()._close_session(session)

    def in_transaction(self, connection: object) -> CallerTransaction:
        self._store()  # is it open?
        return PgCallerTransaction(connection, self._borrow, self.ids)

    def _borrow(self, raw: Raw) -> PgBorrowedStore:
        return PgBorrowedStore(raw, self._store(), announcement(self.schema))

    def _new_plain(self) -> psycopg.Connection[Any]:
        raw = self._get()
        raw.autocommit = False
        return raw

    def _close_plain(self, raw: psycopg.Connection[Any]) -> None:
        self._put(raw)

    def _revoke_plain(self, raw: psycopg.Connection[Any]) -> None:
        with suppress(psycopg.Error):  # the server notices a broken connection between statements
            raw.cancel_safe(timeout=_CANCEL_WITHIN)
        break_off(raw.fileno())

    # --- waking -------------------------------------------------------------------------

    async def wait_change(self, seen: int, timeout: float) -> None:
        if self._notifier is not None:
            self._notifier.start()
        await self._watcher.wait(seen, timeout)

    def _notify(self) -> None:
        if self._notifier is not None:
            self._notifier.notify()


def _source(
    server: str | Pool | Callable[[], psycopg.Connection[Any]],
) -> tuple[Callable[[], psycopg.Connection[Any]], Callable[[psycopg.Connection[Any]], object], str]:
    """Return how to get a connection, how to give it back, and the server's name for messages."""
    if isinstance(server, str):
        try:
            given = conninfo_to_dict(server)
        except psycopg.Error as exc:
            raise BackendError(
                f"{shown(server)} is no address of a PostgreSQL server: {exc}"
            ) from exc
        options = {**_DEFAULTS, **given}
        host, port = options.get("host", "the local socket"), options.get("port", "")
        place = f"PostgreSQL at {host}{f':{port}' if port else ''}/{options.get('dbname', '')}"
        return partial(psycopg.connect, **options), _close, place
    if callable(server):
        return server, _close, "PostgreSQL"
    return server.getconn, server.putconn, "PostgreSQL"


def _close(connection: psycopg.Connection[Any]) -> None:
    connection.close()
