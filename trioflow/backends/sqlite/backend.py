"""The store in one SQLite file, shared by the processes of one machine."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from trioflow.backends._common.local_clock import LocalClock
from trioflow.backends._common.thread import StorageThread
from trioflow.backends._common.watching import Watcher
from trioflow.backends.records import Heartbeat
from trioflow.backends.sql.backend import SqlBackend
from trioflow.backends.sql.leases import heartbeat
from trioflow.backends.sql.store import SqlStore
from trioflow.backends.sqlite.dialect import SqliteDialect, connect
from trioflow.backends.sqlite.schema import SCHEMA_VERSION, check, migrate
from trioflow.errors import BackendUnavailable, SchemaError

__all__ = ["SqliteBackend"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


# All else was stored by a worker, in a transaction that renewed its row, or with one of these.
_LATEST = """SELECT max(at) FROM (SELECT latest_at AS at FROM counters
    UNION ALL SELECT max(heartbeat_at) FROM workers
    UNION ALL SELECT max(finished_at) FROM instances
    UNION ALL SELECT * FROM (SELECT created_at FROM instances ORDER BY seq DESC LIMIT 1))"""


class _SqliteStore(SqlStore):
    """Also knows whether other connections have written."""

    _version: int | None = None

    def latest_time(self) -> float:
        """Return the greatest time that is stored, but for those that lie ahead."""
        return float(self.execute(_LATEST).fetchone()[0])

    def changed_by_others(self) -> bool:
        row = self.execute("PRAGMA data_version").fetchone()
        before, self._version = self._version, row[0]
        return bool(before != row[0])


class SqliteBackend(SqlBackend[_SqliteStore]):
    """A file in WAL mode with ``synchronous=FULL``: what was committed survives a power failure.

    Args:
        path: The file; it is made if it does not exist. Also a URI that begins with ``file:``.
        clock: The store's clock, epoch seconds. All processes that use the file must agree on it.
            ``None`` for this machine's, which then never goes back, nor behind what is stored.
        migrate: Whether `open` brings the schema up to date. If not, `migrate` does.
    """

    name = "sqlite"
    shared = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], float] | None = None,
        migrate: bool = True,
    ) -> None:
        super().__init__()
        self.path = os.fspath(path)
        self._clock = LocalClock() if clock is None else clock
        self._migrate = migrate
        self._dialect = SqliteDialect(self.path)
        self._thread: StorageThread | None = None
        self._opened: _SqliteStore | None = None
        self._watcher = Watcher(self._look)
        # The heartbeat's own connection, used by whichever thread holds the lock.
        self._beat_lock = threading.Lock()
        self._beat_store: SqlStore | None = None

    # --- life ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the file and bring its schema up to date. Idempotent.

        Raises:
            BackendUnavailable: It cannot be opened or written.
            SchemaError: The schema is newer than this code, or not ours; or it is old and
                ``migrate`` was false.
            CorruptStore: It is no SQLite database, or damaged.
        """
        if self._opened is not None:
            return
        thread = StorageThread(f"trioflow storage {self.path}")
        try:
            self._opened = await thread.run(self._connect)
        except BaseException:
            await thread.aclose()
            raise
        self._thread = thread

    async def migrate(self) -> None:
        """Bring the schema of the file up to date, without opening the store; errors as `open`."""
        thread = StorageThread(f"trioflow migration {self.path}")
        try:
            store = await thread.run(self._migrated)
            await thread.run(store.close)
        finally:
            await thread.aclose()

    def _connect(self) -> _SqliteStore:
        return self._prepared(migrate if self._migrate else self._demand_schema)

    def _migrated(self) -> _SqliteStore:
        return self._prepared(migrate)

    def _prepared(self, bring: Callable[[sqlite3.Connection, str], None]) -> _SqliteStore:
        try:
            connection = connect(self.path)
            try:
                bring(connection, self.path)
                # Fails now, not at the first commit, if the file cannot be written.
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("UPDATE counters SET value = value WHERE name = 'inbox'")
                connection.execute("ROLLBACK")
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as exc:
            raise self._dialect.error(exc) from exc
        store = _SqliteStore(connection, self._dialect, self._clock)
        if isinstance(self._clock, LocalClock):
            self._clock.not_before(store.call(store.latest_time))
        store.changed_by_others()
        return store

    @staticmethod
    def _demand_schema(connection: sqlite3.Connection, path: str) -> None:
        if not check(connection, path):
            raise SchemaError(
                f"{path} does not have schema {SCHEMA_VERSION!r} yet; open it with migrate=True, "
                "or await migrate() once"
            )

    async def aclose(self) -> None:
        """Close the file and end the thread. Idempotent, also after a failed `open`."""
        thread, store = self._thread, self._opened
        self._thread = self._opened = None
        if thread is None or store is None:
            return
        try:
            await thread.run(self._close_all, store)
        finally:
            await thread.aclose()

    def _close_all(self, store: SqlStore) -> None:
        with self._beat_lock:
            if self._beat_store is not None:
                self._beat_store.close()
                self._beat_store = None
        store.close()

    def now(self) -> float:
        """Return what the clock says."""
        return self._clock()

    # --- calls --------------------------------------------------------------------------

    def heartbeat(self, worker: str) -> Heartbeat:
        """Renew the worker's row on a connection of its own; any thread may call it.

        Raises:
            BackendUnavailable: The file was locked for ten seconds, or is not open.
        """
        with self._beat_lock:
            self._store()
            if self._beat_store is None:
                self._beat_store = self._open_beat_store()
            store = self._beat_store
            return store.call(heartbeat, store, worker)

    def _open_beat_store(self) -> SqlStore:
        try:
            connection = connect(self.path)
            # A heartbeat need not survive a power failure, and must not wait for the disk.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
        except sqlite3.Error as exc:
            raise self._dialect.error(exc) from exc
        return SqlStore(connection, self._dialect, self._clock)

    async def _look(self) -> bool:
        store = self._opened
        thread = self._thread
        if store is None or thread is None:
            return False
        return await thread.run(store.call, store.changed_by_others)

    def _store(self) -> _SqliteStore:
        if self._opened is None:
            raise self._not_open()
        return self._opened

    def _not_open(self) -> BackendUnavailable:
        return BackendUnavailable(f"{self.path} is not open; await the backend's open() first")

    async def _run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        thread = self._thread
        if thread is None:
            raise self._not_open()
        return await thread.run_together(self._store().call_together, fn, *args)
