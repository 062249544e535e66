"""Transactions in which activities write, and their ends are stored.

Theory. The function of an activity is given a connection of its own, in a transaction. When it has
returned, the same transaction delivers its result to the instance and deletes the activity's row.
That deletion is the fence: it demands the lease and the attempt, so of two attempts, in whatever
workers, one commits at most. And the result must reach the execution that called: the row of an
attempt that runs is only marked when that is reset, terminated, or replaced. Until then nothing of
trioflow's is locked but on SQLite, where a writer is alone.

If nobody knows whether a COMMIT was carried out, the row does: the worker goes on as after a failed
attempt, which ends or begins again only what still has its row.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import msgspec

from trioflow.backends.commits import Message
from trioflow.backends.records import ActivityKey
from trioflow.backends.sql.borrowed import BorrowedStore
from trioflow.backends.sql.operations.delivery import deliver
from trioflow.errors import TransactionRefused

__all__ = ["IdleConnections", "SqlActivityTransaction"]

_MOST_IDLE = 4
# Gone if whoever has the connection has ended the transaction.
_SAVEPOINT = "trioflow_activity"


class _LostLease(Exception):
    """The activity is not this worker's any more, or nobody waits for it."""


class IdleConnections:
    """Connections for activities that nobody uses at the moment; any thread may ask for one.

    Args:
        connect: Returns a new one of the driver, not in autocommit mode.
        close: Closes one, or gives it back.
        revoke: Ends the transaction of one that another thread uses, and lets it do no more.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        close: Callable[[Any], object],
        revoke: Callable[[Any], object],
    ) -> None:
        self.revoke = revoke
        self._connect = connect
        self._close = close
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        self._most = _MOST_IDLE

    def take(self) -> tuple[Any, bool]:
        """Return a connection, and whether it was used before."""
        with self._lock:
            if self._idle:
                return self._idle.pop(), True
        return self._connect(), False

    def fresh(self) -> Any:
        """Return a new connection."""
        return self._connect()

    def keep(self, raw: Any) -> None:
        """Take back one that is as good as new."""
        with self._lock:
            if len(self._idle) < self._most:
                self._idle.append(raw)
                return
        self._close(raw)

    def drop(self, raw: Any) -> None:
        """Take back one that is perhaps not."""
        self._close(raw)

    def open(self) -> None:
        """Keep what is given back, from now on."""
        self._most = _MOST_IDLE

    def close(self) -> None:
        """Close them all, and those that are still in use when they are given back."""
        with self._lock:
            self._most, idle, self._idle = 0, self._idle, []
        for raw in idle:
            self._close(raw)


class SqlActivityTransaction:
    """See `trioflow.backends.outbox.ActivityTransaction`.

    Args:
        connections: Where the connection comes from.
        borrow: Returns a store on such a connection.
        worker: Who has the lease.
        key: Which activity.
        attempt: Which attempt.
    """

    def __init__(
        self,
        connections: IdleConnections,
        borrow: Callable[[Any], BorrowedStore],
        worker: str,
        key: ActivityKey,
        attempt: int,
    ) -> None:
        self._connections = connections
        self._borrow = borrow
        self._fence = (*msgspec.structs.astuple(key), worker, attempt)
        self._key = key
        self._ended = False
        self._leaving = threading.Lock()
        self._left = self._revoked = False
        self.connection: Any = None
        self._store: BorrowedStore

    def __enter__(self) -> Self:
        raw, used = self._connections.take()
        try:
            self._begin(raw)
        except BaseException:
            self._connections.drop(raw)
            if not used:
                raise
            # It was idle, perhaps for long; the server may have closed it, and the others too.
            raw = self._connections.fresh()
            try:
                self._begin(raw)
            except BaseException:
                self._connections.drop(raw)
                raise
        self.connection = raw
        return self

    def _begin(self, raw: Any) -> None:
        self._store = store = self._borrow(raw)
        try:
            store.begin()
            store.execute(f"SAVEPOINT {_SAVEPOINT}")
        except store.dialect.errors as exc:
            raise store.dialect.error(exc) from exc

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        raw = self.connection
        with self._leaving:
            self._left = True
        if self._ended and error is None and not self._revoked:
            self._connections.keep(raw)
            return
        with contextlib.suppress(*self._store.dialect.errors):
            raw.rollback()
        self._connections.drop(raw)

    def abandon(self) -> None:
        """See `ActivityTransaction.abandon`."""
        # In a thread: servers are asked over the network, and SQLite is waited for.
        name = f"trioflow gives up {self._key.instance} {self._key.command}"
        threading.Thread(target=self._revoke, name=name, daemon=True).start()

    def _revoke(self) -> None:
        with self._leaving:
            if self._left:
                return
            self._revoked = True
            with contextlib.suppress(*self._store.dialect.errors, OSError):
                self._connections.revoke(self.connection)

    def finish(self, event: bytes) -> bool:
        """See `ActivityTransaction.finish`."""
        store = self._store
        try:
            store.execute(f"RELEASE SAVEPOINT {_SAVEPOINT}")
        except store.dialect.errors as exc:
            raise TransactionRefused(
                "the transaction of activity_connection() was ended, or broken, within the "
                "activity; leave commit() and rollback() to trioflow, and let errors of the "
                f"database out ({exc})"
            ) from exc
        try:
            with store.transaction():
                self._write(event)
                store.announce()
            store.flush()
            self.connection.commit()
        except _LostLease:
            return False
        except store.dialect.errors as exc:
            raise store.dialect.error(exc) from exc
        self._ended = True
        return True

    def _write(self, event: bytes) -> None:
        store, key = self._store, self._key
        now = store.clock()
        # The instance is locked before the activity, as commits do it.
        message = Message(key.instance, event, execution=key.execution, life=key.life)
        if not deliver(store, message, now):
            raise _LostLease  # it was reset, terminated, or replaced
        if not store.execute(store.queries.finish_attempt, *self._fence).rowcount:
            raise _LostLease
