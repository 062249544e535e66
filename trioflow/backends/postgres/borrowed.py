"""The caller's own connection of psycopg, as the store uses it for a call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg import pq

from trioflow.backends._common.id_limits import IdLimit
from trioflow.backends._common.thread import StorageThread
from trioflow.backends.postgres.connection import PgConnection, state_of
from trioflow.backends.sql.borrowed import (
    BorrowedStore,
    SqlCallerTransaction,
    not_a_connection,
    not_begun,
)
from trioflow.backends.sql.store import SqlStore
from trioflow.errors import TransactionRefused

__all__ = ["PgBorrowedStore", "PgCallerTransaction", "Raw"]

T = TypeVar("T")

_READ_ONLY = "25006"

Raw = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]


class _BorrowedConnection(PgConnection):
    """Runs statements in the caller's transaction, of which all that happens here is a part."""

    part = "trioflow_part"

    def __init__(self, raw: Any) -> None:
        super().__init__(_never, _finish, prepare=False)
        self._raw = raw
        self._depth = 1
        self._sent = True

    def _is_final(self, exc: Exception) -> bool:
        # It may be only this transaction that is read-only, and the connection is not ours.
        return state_of(exc) != _READ_ONLY and super()._is_final(exc)


class PgBorrowedStore(BorrowedStore):
    """See `BorrowedStore`.

    Args:
        raw: The caller's connection.
        like: The store that is open.
        announcement: The statement that wakes others after a commit, and its parameter.
    """

    connection: _BorrowedConnection

    def __init__(self, raw: Raw, like: SqlStore, announcement: tuple[str, str]) -> None:
        super().__init__(_BorrowedConnection(raw), like)
        self._raw = raw
        self._announcement = announcement

    def begin(self) -> None:
        """See `BorrowedStore.begin`."""
        raw = self._raw
        state = _state(raw)
        if state == pq.TransactionStatus.INERROR:
            raise TransactionRefused(
                f"the transaction on {raw!r} has failed; roll it back, and make it again"
            )
        if raw.read_only:
            raise TransactionRefused(f"{raw!r} is read-only; set its read_only to False first")
        if raw.pgconn.pipeline_status:
            raise TransactionRefused(
                f"{raw!r} is in pipeline mode; call sync() and leave its block first"
            )
        if raw.info.encoding != "utf-8":
            raise TransactionRefused(
                f"{raw!r} has the encoding {raw.info.encoding}; set client_encoding to UTF8"
            )
        if state == pq.TransactionStatus.IDLE:
            if raw.autocommit or isinstance(raw, psycopg.AsyncConnection):
                raise _not_begun(raw)
            raw.execute("SELECT 1")  # so that the driver begins one, in its way

    def announce(self) -> None:
        """Have the transaction tell others of a change when it is committed."""
        sql, channel = self._announcement
        self.execute(sql, channel)

    def flush(self) -> None:
        """Send what was put off."""
        self.connection.flush()


class PgCallerTransaction(SqlCallerTransaction):
    """See `trioflow.backends.outbox.CallerTransaction`.

    Args:
        connection: The caller's.
        borrow: Returns the store on a connection.
        ids: What ids of instances may be.

    Raises:
        TransactionRefused: It is no connection of psycopg's.
    """

    def __init__(
        self, connection: object, borrow: Callable[[Raw], PgBorrowedStore], ids: IdLimit | None
    ) -> None:
        if not isinstance(connection, (psycopg.Connection, psycopg.AsyncConnection)):
            wanted = "a psycopg.Connection or psycopg.AsyncConnection"
            raise not_a_connection(connection, "PostgreSQL", wanted)
        self._raw: Raw = connection
        self.is_async = isinstance(connection, psycopg.AsyncConnection)
        super().__init__(partial(borrow, connection), ids)

    async def run(self, fn: Callable[[], T]) -> T:
        """Call a function on a thread, since it blocks, while nobody else uses the connection."""
        raw = self._raw
        if isinstance(raw, psycopg.Connection):
            return fn()
        if _state(raw) == pq.TransactionStatus.IDLE:
            if raw.autocommit:
                raise _not_begun(raw)
            await raw.execute("SELECT 1")
        thread = StorageThread("trioflow transaction")
        async with raw.lock:
            try:
                return await thread.run(fn)
            finally:
                await thread.aclose()


def _state(raw: Raw) -> pq.TransactionStatus:
    return pq.TransactionStatus(raw.pgconn.transaction_status)


def _not_begun(raw: Raw) -> TransactionRefused:
    word = "async with" if isinstance(raw, psycopg.AsyncConnection) else "with"
    return not_begun(raw, f"{word} connection.transaction()")


def _never() -> psycopg.Connection[Any]:
    raise psycopg.OperationalError("the connection of the transaction was lost")


def _finish(raw: psycopg.Connection[Any]) -> None:
    # Called only if it is of no use any more: lost, or with half an answer in it.
    raw.pgconn.finish()
