"""The store in this process's memory, for tests and for what need not outlive the process."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import weakref
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import anyio.lowlevel

from trioflow.backends._common.local_clock import LocalClock
from trioflow.backends.records import Heartbeat
from trioflow.backends.sql.backend import SqlBackend
from trioflow.backends.sql.operations.leases import heartbeat
from trioflow.backends.sql.session import Session
from trioflow.backends.sql.store import SqlStore
from trioflow.backends.sqlite.dialect import SqliteDialect, connect
from trioflow.backends.sqlite.schema import SqliteMigrations
from trioflow.errors import BackendUnavailable

__all__ = ["MemoryBackend"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


_schema: list[bytes] = []  # an empty store, once there has been one


def _copy_schema(connection: sqlite3.Connection) -> None:
    """Make the tables; after the first time as a copy, since tests open a store each."""
    if not _schema:
        SqliteMigrations(":memory:").apply(connection)
        _schema.append(connection.serialize())
        return
    with contextlib.closing(sqlite3.connect(":memory:")) as empty:
        empty.deserialize(_schema[0])
        # A database that was deserialized itself could not grow beyond a GiB.
        empty.backup(connection)


class MemoryBackend(SqlBackend[SqlStore]):
    """The SQLite store on ``:memory:``, run inline: no thread, no file, no real time.

    What it holds is gone after `aclose`, or when the object is gone. Several workers and clients of
    one process, and of one event loop, may use one object.

    Args:
        clock: The store's clock, epoch seconds; ``None`` for this machine's, which then never goes
            back.
    """

    name = "memory"
    shared = False

    def __init__(self, *, clock: Callable[[], float] | None = None) -> None:
        super().__init__()
        self._clock = LocalClock() if clock is None else clock
        self._opened: Session[SqlStore] | None = None
        # Only a heartbeat comes from another thread.
        self._lock = threading.Lock()

    async def open(self) -> None:
        """Make the empty store. Idempotent."""
        await anyio.lowlevel.checkpoint()
        if self._opened is None:
            connection = connect(":memory:")
            # Whoever lets go of the store without closing it loses nothing that should be kept.
            weakref.finalize(self, connection.close)
            _copy_schema(connection)
            store = SqlStore(connection, SqliteDialect(":memory:"), self._clock)
            self._opened = Session(store)

    async def aclose(self) -> None:
        """Drop what is stored. Idempotent."""
        if self._opened is not None:
            with self._lock:
                self._opened.close()
            self._opened = None

    def now(self) -> float:
        """Return what the clock says."""
        return self._clock()

    def heartbeat(self, worker: str) -> Heartbeat:
        """Renew the worker's row. It does not block for long, so any thread may call it."""
        with self._lock:
            session = self._session()
            return session.call(heartbeat, session.store, worker)

    def _session(self) -> Session[SqlStore]:
        if self._opened is None:
            raise BackendUnavailable("the memory store is not open; await its open() first")
        return self._opened

    def _store(self) -> SqlStore:
        return self._session().store

    async def _run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        # Before, so that a cancelled caller knows that nothing was stored.
        await anyio.lowlevel.checkpoint()
        with self._lock:
            return self._session().call(fn, *args)
