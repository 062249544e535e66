"""The store in a MySQL or MariaDB database, shared by the processes of many machines."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, TypeVar, TypeVarTuple, cast

import pymysql
from outcome import Error, Outcome, Value, capture
from pymysql.connections import Connection as RawConnection

from trioflow.backends._common.id_limits import ID_LENGTH, storable
from trioflow.backends._common.server_clock import ServerClock
from trioflow.backends._common.thread import StorageThread
from trioflow.backends._common.watching import Watcher
from trioflow.backends.mysql.connection import LOST, MysqlConnection, ResultUnknown, code_of
from trioflow.backends.mysql.dialect import MysqlDialect
from trioflow.backends.mysql.schema import SCHEMA_VERSION, check, migrate
from trioflow.backends.mysql.server import Server, from_url
from trioflow.backends.records import CommitFailure, Heartbeat, NewInstance, Unit
from trioflow.backends.sql.backend import SqlBackend
from trioflow.backends.sql.leases import heartbeat
from trioflow.backends.sql.store import SqlStore
from trioflow.errors import ArgumentError, BackendError, BackendUnavailable, SchemaError

__all__ = ["MysqlBackend"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Two transactions stood in each other's way: the other one has gone on, this one tries again.
# 1020 and 1062: a row was changed, or an id taken, between two statements of it.
_CONTENDED = {1020, 1062, 1213}
_MOST_CONTENDED = 8
# A lock was waited for, ten seconds each time.
_LOCKED = 1205
_MOST_LOCKED = 2
_PAUSE = 0.004
# The first attempt notices that the server was restarted, the second one is with the new one.
_MOST_LOST = 3
_CANNOT_CONNECT = 2003
# After so many seconds of silence a writer's row is not needed for waking others.
_FORGOTTEN = 60
# Between two looks for the changes of others, when there have been none: a query has its price.
_SELDOM = 0.25


class _MysqlStore(SqlStore):
    """Also tries again what came to nothing, and tells other processes of changes."""

    clock: ServerClock

    def __init__(
        self, connection: MysqlConnection, dialect: MysqlDialect, clock: ServerClock
    ) -> None:
        super().__init__(connection, dialect, clock)
        self._mysql = connection
        self._seen: set[Any] = set()

    # --- trying again -----------------------------------------------------------------------

    def call(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        for attempt in count(1):
            try:
                return fn(*args)
            except pymysql.Error as exc:
                if not _passing(exc, attempt):
                    raise self.dialect.error(exc) from exc
            time.sleep(_PAUSE * 2**attempt * random.random())  # noqa: S311 - no secret
        raise AssertionError

    def call_together(self, calls: Sequence[Callable[[], Any]]) -> list[Outcome[Any]]:
        if len(calls) == 1:
            return [capture(self.call, calls[0])]
        try:
            return self.call(self._together, calls)
        except BackendUnavailable as exc:
            return self._all_failed(Error(exc), len(calls))
        except BackendError:
            # Nothing is stored, and an error may have come later than what it is about.
            return [capture(self.call, call) for call in calls]

    def _together(self, calls: Sequence[Callable[[], Any]]) -> list[Outcome[Any]]:
        with self._mysql.transaction():
            return [self._one(call) for call in calls]

    def _one(self, call: Callable[[], Any]) -> Outcome[Any]:
        try:
            return Value(call())
        except pymysql.Error as exc:
            # The whole transaction is no more, or must not go on.
            if _passing(exc, 1) or not self._mysql.in_transaction:
                raise
            return Error(self.dialect.error(exc))
        except Exception as exc:  # noqa: BLE001 - whoever made the call gets it
            return Error(exc)

    # --- telling others ---------------------------------------------------------------------

    def announce(self) -> None:
        """Have the next transaction count a change in this writer's row."""
        self._mysql.announce()

    def changed_by_others(self) -> bool:
        """Return whether another backend has announced something since it was asked last."""
        if self.clock.due():
            self.measure_clock()
        query = "SELECT id, changes FROM writers WHERE id <> ?"
        before = self._seen
        self._seen = set(self.execute(query, self._mysql.writer).fetchall())
        return self._seen != before

    def forget_writers(self) -> None:
        """Delete the rows of those that have been silent for long, and be sure of writing."""
        with self._mysql.transaction():
            rows = self.execute(
                f"SELECT id FROM writers WHERE seen_at < unix_timestamp() - {_FORGOTTEN} "  # noqa: S608
                "FOR UPDATE SKIP LOCKED"
            ).fetchall()
            for row in rows:
                self.execute("DELETE FROM writers WHERE id = ?", *row)

    def measure_clock(self) -> None:
        """Compare the clocks."""
        self._mysql.ensure()  # to connect would count as the way to the server
        self.clock.measure(self._server_time)

    def _server_time(self) -> float:
        (now,) = self.execute("SELECT unix_timestamp(now(6))").fetchone()
        return float(now)


def _passing(exc: pymysql.Error, attempt: int) -> bool:
    """Return whether it is worth trying again after an error."""
    if isinstance(exc, ResultUnknown):
        return False
    code = code_of(exc)
    if code == _LOCKED:
        return attempt < _MOST_LOCKED
    if code in _CONTENDED:
        return attempt < _MOST_CONTENDED
    return code in LOST and code != _CANNOT_CONNECT and attempt < _MOST_LOST


class MysqlBackend(SqlBackend[_MysqlStore]):
    """A database of MySQL 8.0.17 or MariaDB 10.6, or newer, on InnoDB.

    The server's clock judges leases and visibility. Ids of instances have at most 500 characters.

    Args:
        url: ``mysql://user:password@host:3306/database``, see the documentation for its options.
        connect: Instead of a URL: returns a connection of PyMySQL's. It is called, from threads,
            with keyword arguments that it has to pass on to ``pymysql.connect``.
        migrate: Whether `open` brings the schema up to date. If not, `migrate` does.
        migration_url: Another URL for the same database, whose user may create tables.

    Raises:
        BackendError: The URL is incomplete.
    """

    name = "mysql"
    shared = True

    def __init__(
        self,
        url: str | None = None,
        *,
        connect: Callable[..., RawConnection[Any]] | None = None,
        migrate: bool = True,
        migration_url: str | None = None,
    ) -> None:
        super().__init__()
        if (url is None) == (connect is None):
            raise BackendError("MysqlBackend needs a URL or a connection factory, and not both")
        self._server = (
            from_url(url) if url is not None else Server(cast("Any", connect), "the MySQL database")
        )
        self._migrator = self._server if migration_url is None else from_url(migration_url)
        self._migrate = migrate
        self._dialect = MysqlDialect(self._server.where)
        self._clock = ServerClock()
        self._thread: StorageThread | None = None
        self._opened: _MysqlStore | None = None
        self._watcher = Watcher(self._look, seldom=_SELDOM)
        # The heartbeat's own connection, used by whichever thread holds the lock.
        self._beat_lock = threading.Lock()
        self._beat_store: _MysqlStore | None = None

    # --- life ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and bring the schema up to date. Idempotent.

        Raises:
            BackendUnavailable: The server cannot be reached, or refuses.
            SchemaError: The schema is newer than this code, or not ours; or it is old and
                ``migrate`` was false.
            BackendError: The server is too old.
        """
        if self._opened is not None:
            return
        thread = StorageThread(f"trioflow storage {self._server.where}")
        try:
            self._opened = await thread.run(self._prepared)
        except BaseException:
            await thread.aclose()
            raise
        self._thread = thread

    async def migrate(self) -> None:
        """Bring the schema up to date, without opening the store; errors as `open`."""
        thread = StorageThread(f"trioflow migration {self._migrator.where}")
        try:
            await thread.run(self._bring_schema)
        finally:
            await thread.aclose()

    def _prepared(self) -> _MysqlStore:
        if self._migrate:
            self._bring_schema()
        writer = uuid.uuid4().hex
        store = self._new_store(MysqlConnection(self._server.connect, writer))
        try:
            if not self._migrate:
                store.call(self._demand_schema, store)
            store.call(store.forget_writers)
            store.call(store.measure_clock)
            store.call(store.changed_by_others)
        except BaseException:
            store.close()
            raise
        return store

    def _new_store(self, connection: MysqlConnection) -> _MysqlStore:
        try:
            connection.open()
        except pymysql.Error as exc:
            raise self._dialect.error(exc) from exc
        return _MysqlStore(connection, self._dialect, self._clock)

    def _bring_schema(self) -> None:
        server = self._migrator
        store = self._new_store(MysqlConnection(lambda: server.connect(None)))
        try:
            store.call(migrate, store.connection, server.where, server.collation)
        finally:
            store.close()

    def _demand_schema(self, store: _MysqlStore) -> None:
        if not check(store.connection, self._server.where):
            raise SchemaError(
                f"{self._server.where} does not have schema {SCHEMA_VERSION!r} yet; open it with "
                "migrate=True, or await migrate() once"
            )

    async def aclose(self) -> None:
        """Close the connections and end the thread. Idempotent, also after a failed `open`."""
        thread, store = self._thread, self._opened
        self._thread = self._opened = None
        if thread is None or store is None:
            return
        try:
            await thread.run(self._close_all, store)
        finally:
            await thread.aclose()

    def _close_all(self, store: _MysqlStore) -> None:
        with self._beat_lock:
            if self._beat_store is not None:
                self._beat_store.close()
                self._beat_store = None
        store.close()

    def now(self) -> float:
        """Return what the server's clock says, as far as it is known here.

        Raises:
            BackendUnavailable: It has never been asked.
        """
        with suppress(RuntimeError):
            return self._clock()
        raise self._not_open()

    # --- calls --------------------------------------------------------------------------

    async def create(self, instances: Sequence[NewInstance]) -> list[bool]:
        """See `Backend`.

        Raises:
            ArgumentError: An id is longer than 500 characters.
        """
        for new in instances:
            if len(new.id) > ID_LENGTH:
                raise ArgumentError(
                    f"the id {new.id[:40]!r}… has {len(new.id)} characters; MySQL stores ids of at "
                    f"most {ID_LENGTH}"
                )
        return await super().create(instances)

    async def commit(self, worker: str, units: Sequence[Unit]) -> list[CommitFailure | None]:
        """See `Backend`."""
        written, failures = storable(units)
        results = await super().commit(worker, written)
        return [failures.get(at, result) for at, result in enumerate(results)]

    def heartbeat(self, worker: str) -> Heartbeat:
        """Renew the worker's row on a connection of its own; any thread may call it.

        Raises:
            BackendUnavailable: The server cannot be reached, or the store is not open.
        """
        with self._beat_lock:
            self._store()
            if self._beat_store is None:
                self._beat_store = self._new_store(MysqlConnection(self._server.connect))
            store = self._beat_store
            if self._clock.due():
                store.call(store.measure_clock)
            return store.call(heartbeat, store, worker)

    async def _look(self) -> bool:
        store = self._opened
        thread = self._thread
        if store is None or thread is None:
            return False
        # Whoever needs the store next is told that it is away.
        with suppress(BackendUnavailable):
            return await thread.run(store.call, store.changed_by_others)
        return False

    def _store(self) -> _MysqlStore:
        if self._opened is None:
            raise self._not_open()
        return self._opened

    def _not_open(self) -> BackendUnavailable:
        where = self._server.where
        return BackendUnavailable(f"{where} is not open; await the backend's open() first")

    async def _run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        thread = self._thread
        if thread is None:
            raise self._not_open()
        return await thread.run_together(self._store().call_together, fn, *args)
