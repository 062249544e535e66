"""The store in one SQLite file, shared by the processes of one machine."""

# ruff: noqa: D102 - what each method promises is said in `Backend`

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, cast

from outcome import Outcome

from trioflow.backends._common.local_clock import LocalClock
from trioflow.backends._common.watching import Watcher
from trioflow.backends.outbox import ActivityTransaction, CallerTransaction, no_transactions
from trioflow.backends.records import ActivityKey, TakenActivities, TakenInstances
from trioflow.backends.sql.borrowed import SqlCallerTransaction, not_a_connection
from trioflow.backends.sql.dialect import Dialect
from trioflow.backends.sql.lifecycle import SharedSqlBackend
from trioflow.backends.sql.names import TableNames
from trioflow.backends.sql.session import Session
from trioflow.backends.sql.store import SqlStore
from trioflow.backends.sqlite.borrowed import (
    BorrowedSqlite,
    LentSqlite,
    SqliteBorrowedStore,
    file_of,
)
from trioflow.backends.sqlite.damage import (
    is_number,
    is_sound_activity,
    is_sound_instance,
    suspend_damaged,
)
from trioflow.backends.sqlite.dialect import COUNT_CHANGE, SqliteDialect, connect, connect_as
from trioflow.backends.sqlite.place import OpenFile
from trioflow.backends.sqlite.revocable import RevocableConnection
from trioflow.backends.sqlite.schema import SCRIPTS, SqliteMigrations
from trioflow.errors import TransactionRefused

__all__ = ["SqliteBackend"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# All else was stored by a worker, in a transaction that renewed its row, or with one of these.
_LATEST = """SELECT max(at) FROM (SELECT latest_at AS at FROM counters
    UNION ALL SELECT max(heartbeat_at) FROM workers
    UNION ALL SELECT max(finished_at) FROM instances
    UNION ALL SELECT * FROM (SELECT created_at FROM instances ORDER BY seq DESC LIMIT 1))
    WHERE typeof(at) IN ('real', 'integer')"""


class _SqliteStore(SqlStore):
    """Also tells other processes of changes, and knows whether they have told of any."""

    def __init__(
        self,
        connection: sqlite3.Connection | BorrowedSqlite,
        dialect: Dialect,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(connection, dialect, clock)
        self._count_change = dialect.query(COUNT_CHANGE)
        self._changes = dialect.query("SELECT value FROM counters WHERE name = 'changes'")
        self._announced = False
        self._seen: tuple[int | None, int | None] = (None, None)

    def announce(self) -> None:
        self._announced = True

    @contextmanager
    def transaction(self) -> Generator[None]:
        """See `SqlStore.transaction`; one in which anything was announced is counted."""
        outermost = not self.dialect.in_transaction(self.connection)
        with super().transaction():
            yield
            if outermost and self._announced:  # perhaps by a call that shares this transaction
                self.execute(self._count_change)
        if outermost:
            self._announced = False

    def try_to_write(self) -> None:
        """Fail now, not at the first commit, if the file cannot be written."""
        self.execute("BEGIN IMMEDIATE")
        self.execute(self.dialect.query("UPDATE counters SET value = value WHERE name = 'inbox'"))
        self.execute("ROLLBACK")

    def latest_time(self) -> float:
        """Return the greatest time that is stored, but for those that lie ahead."""
        return float(self.execute(self.dialect.query(_LATEST)).fetchone()[0] or 0)

    def changed_by_others(self) -> bool:
        """Return whether another connection has announced something since it was asked last."""
        version, changes = self._seen
        (now,) = self.execute("PRAGMA data_version").fetchone()
        if now == version:  # which costs next to nothing
            return False
        (number,) = self.execute(self._changes).fetchone()
        self._seen = now, number
        return bool(number != changes)


class _FileSession(Session[_SqliteStore]):
    """A session that makes no call when its file is not there any more.

    Args:
        store: The store on a connection.
        demand: Raises if it is not.
    """

    def __init__(self, store: _SqliteStore, demand: Callable[[], None]) -> None:
        super().__init__(store)
        self._demand = demand

    def call(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        self._demand()
        return super().call(fn, *args)


class _SharedSession(Session[_SqliteStore]):
    """A session on a connection that another one uses too, in another thread.

    Args:
        store: The store on that connection.
        turn: Held from the beginning of a transaction to its end, by both.
    """

    def __init__(self, store: _SqliteStore, turn: AbstractContextManager[object]) -> None:
        super().__init__(store)
        self._turn = turn

    def call(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        with self._turn:
            return super().call(fn, *args)

    def call_together(self, calls: Sequence[Callable[[], Any]]) -> list[Outcome[Any]]:
        with self._turn:
            return super().call_together(calls)


class SqliteBackend(SharedSqlBackend[_SqliteStore]):
    """A file in WAL mode with ``synchronous=FULL``: what was committed survives a power failure.

    Args:
        path: The file; it is made if it does not exist. Also a URI that begins with ``file:``. Or a
            connection that was opened with ``check_same_thread=False``: then its file is used, or
            its memory. While the store is open nobody else may use it; then it is as it was before.
        clock: The store's clock, epoch seconds. All processes that use the file must agree on it.
            ``None`` for this machine's, which then never goes back, nor behind what is stored.
        migrate: Whether `open` brings the schema up to date. If not, `migrate` does.
        prefix: What the names of all tables and indexes begin with, so that they can be in a file
            with others: ``"flow_"``.
    """

    name = "sqlite"

    def __init__(
        self,
        path: str | os.PathLike[str] | sqlite3.Connection,
        *,
        clock: Callable[[], float] | None = None,
        migrate: bool = True,
        prefix: str = "",
    ) -> None:
        self._given = path if isinstance(path, sqlite3.Connection) else None
        self._turn = threading.RLock()
        if isinstance(path, sqlite3.Connection):
            self.path = file_of(path) or ":memory:"
            self.shared = self.path != ":memory:"
        else:
            self.path = os.fspath(path)
        names = TableNames(prefix, SCRIPTS)
        super().__init__(
            SqliteDialect(self.path, names),
            LocalClock() if clock is None else clock,
            SqliteMigrations(self.path, names),
            place=self.path,
            migrate=migrate,
        )
        self._file = self.path if self._given is not None and self.shared else ""
        self._opened: OpenFile | None = None
        self._watcher = Watcher(partial(self._look, _SqliteStore.changed_by_others))

    def _connect(self) -> _SqliteStore:
        if self._given is not None:
            return self._on(LentSqlite(self._given))
        return self._on(connect(self._path()))

    def _path(self) -> str:
        """Return what to connect to; once the store is open, always the same file."""
        self._demand_file()
        return self.path if self._opened is None else self._opened.path

    def _demand_file(self) -> None:
        if self._opened is not None:
            self._opened.demand()

    def _open_session(self) -> Session[_SqliteStore]:
        self._opened = None  # it may be another file by now
        return super()._open_session()

    def _session(self, connect: Callable[[], _SqliteStore]) -> Session[_SqliteStore]:
        session = super()._session(connect)
        if self._given is None or self.shared:
            return _FileSession(session.store, self._demand_file)
        return _SharedSession(session.store, self._turn)  # heartbeats have no other connection

    def _connect_to_migrate(self) -> _SqliteStore:
        return self._connect() if self._given is None else self._on(BorrowedSqlite(self._given))

    def _on(self, connection: sqlite3.Connection | BorrowedSqlite) -> _SqliteStore:
        return _SqliteStore(connection, self._dialect, self._clock)

    def _connect_for_heartbeats(self) -> _SqliteStore:
        if self._given is not None and not self.shared:
            return self._on(BorrowedSqlite(self._given))
        # A heartbeat need not survive a power failure, and must not wait for the disk.
        return self._on(connect(self._path(), durable=False))

    def _prepare(self, session: Session[_SqliteStore]) -> None:
        store = session.store
        session.call(store.try_to_write)
        if isinstance(self._clock, LocalClock):
            self._clock.not_before(session.call(store.latest_time))
        session.call(store.changed_by_others)
        if self._given is None:
            self._file = session.call(file_of, cast("sqlite3.Connection", store.connection))
        self._opened = OpenFile(self._file, self.path)

    async def _read(self, fn: Callable[[SqlStore, *Ts], T], *args: *Ts) -> T:
        """Read beside what writes: that may be waiting for a transaction of another program.

        A store in memory, or on a connection that was given, has no other connection to read on.
        """
        if self._given is not None or not self._file:
            return await super()._read(fn, *args)
        return await self._connections.read(
            lambda reads: reads.call(partial(fn, reads.store, *args))
        )

    async def _look_at(self, fn: Callable[[SqlStore, *Ts], T], *args: *Ts) -> T:
        if self._given is not None or not self._file:
            return await super()._look_at(fn, *args)
        return await self._read(fn, *args)

    # --- transactions of others -----------------------------------------------------------

    def in_transaction(self, connection: object) -> CallerTransaction:
        self._store()  # is it open?
        if not isinstance(connection, sqlite3.Connection):
            raise not_a_connection(connection, "SQLite", "a sqlite3.Connection")
        if connection is self._given:
            raise TransactionRefused(
                f"{connection!r} is the store's own while that is open; open another one"
            )
        return SqlCallerTransaction(partial(self._borrow, connection), self.ids)

    def activity_transaction(
        self, worker: str, key: ActivityKey, attempt: int
    ) -> ActivityTransaction:
        if not self.shared:
            raise no_transactions("memory")
        return super().activity_transaction(worker, key, attempt)

    def _borrow(self, raw: sqlite3.Connection) -> SqliteBorrowedStore:
        self._demand_file()
        return SqliteBorrowedStore(raw, self._store(), self._file)

    def _new_plain(self) -> RevocableConnection:
        raw = connect_as(RevocableConnection, self._path())
        raw.isolation_level = "IMMEDIATE"
        return raw

    def _close_plain(self, raw: RevocableConnection) -> None:
        raw.close()

    def _revoke_plain(self, raw: RevocableConnection) -> None:
        raw.revoke()

    # --- work ---------------------------------------------------------------------------

    async def take_instances(
        self,
        worker: str,
        queues: Sequence[str],
        limit: int,
        *,
        exclude: Sequence[str] = (),
        exclude_ids: Sequence[str] = (),
        sticky: float = 0.0,
        suspect: bool = False,
    ) -> TakenInstances:
        ask = partial(
            super().take_instances,
            worker,
            queues,
            limit,
            exclude=exclude,
            exclude_ids=exclude_ids,
            sticky=sticky,
            suspect=suspect,
        )
        taken = await self._taken(worker, ask)
        sound = [row for row in taken.instances if is_sound_instance(row)]
        if len(sound) == len(taken.instances) and is_number(taken.next_at):
            return taken
        await self._write(suspend_damaged, worker)
        return TakenInstances(sound, self.now(), taken.suspects)

    async def take_activities(
        self, worker: str, queues: Sequence[str], limit: int, *, exclude: Sequence[str] = ()
    ) -> TakenActivities:
        ask = partial(super().take_activities, worker, queues, limit)
        taken = await self._taken(worker, lambda: ask(exclude=exclude))
        sound = [row for row in taken.activities if is_sound_activity(row)]
        if len(sound) == len(taken.activities) and is_number(taken.next_at):
            return taken
        damaged = [row.key for row in taken.activities if not is_sound_activity(row)]
        await self._write(suspend_damaged, worker, damaged)
        return TakenActivities(sound, self.now())

    async def _taken(self, worker: str, take: Callable[[], Awaitable[T]]) -> T:
        """Take; what cannot be put in order, since it is damaged, is suspended first."""
        try:
            return await take()
        except TypeError:
            await self._write(suspend_damaged, worker)
            return await take()
