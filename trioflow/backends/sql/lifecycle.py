"""The life of an SQL store: opening, migrating, closing, and the checks of ids."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

from trioflow.backends._common.connections import Connections
from trioflow.backends._common.id_limits import IdLimit, storable
from trioflow.backends._common.thread import StorageThread
from trioflow.backends.commits import CommitFailure, NewInstance, Unit
from trioflow.backends.outbox import ActivityTransaction
from trioflow.backends.records import ActivityKey, Heartbeat, SchemaState
from trioflow.backends.sql.backend import SqlBackend
from trioflow.backends.sql.borrowed import BorrowedStore
from trioflow.backends.sql.dialect import Dialect
from trioflow.backends.sql.migrations import Migrations
from trioflow.backends.sql.operations.leases import heartbeat
from trioflow.backends.sql.session import Session
from trioflow.backends.sql.store import SqlStore
from trioflow.backends.sql.transactions import IdleConnections, SqlActivityTransaction
from trioflow.errors import BackendUnavailable

__all__ = ["SharedSqlBackend"]

S = TypeVar("S", bound=SqlStore)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SharedSqlBackend(SqlBackend[S]):
    """A `Backend` on a database that other processes use too. Subclasses say how to connect.

    Args:
        dialect: The ways of the database.
        clock: The store's clock, epoch seconds.
        migrations: What brings the schema up to date.
        place: The database, for messages; without a password.
        migrate: Whether `open` brings the schema up to date.
    """

    shared = True
    #: What ids of instances may be; ``None`` for any.
    ids: IdLimit | None = None

    def __init__(
        self,
        dialect: Dialect,
        clock: Callable[[], float],
        migrations: Migrations[Any, Any],
        *,
        place: str,
        migrate: bool,
    ) -> None:
        super().__init__()
        self.place = place
        self._dialect = dialect
        self._clock = clock
        self._migrations = migrations
        self._migrates = migrate
        self._connections = Connections(
            place,
            connect=self._open_session,
            connect_for_heartbeats=partial(self._session, self._connect_for_heartbeats),
        )
        self._idle = IdleConnections(self._connect_plain, self._close_plain, self._revoke_plain)

    # --- what a subclass gives --------------------------------------------------------------

    @abc.abstractmethod
    def _connect(self) -> S:
        """Return a store on a new connection."""

    def _connect_for_heartbeats(self) -> S:
        return self._connect()

    def _connect_to_migrate(self) -> S:
        return self._connect()

    @abc.abstractmethod
    def _new_plain(self) -> Any:
        """Return a new connection of the driver, for an activity; not in autocommit mode."""

    @abc.abstractmethod
    def _close_plain(self, raw: Any) -> None:
        """Close such a connection, or give it back."""

    @abc.abstractmethod
    def _revoke_plain(self, raw: Any) -> None:
        """End such a connection's transaction while another thread uses it, which gets errors.

        May raise errors of the driver, and OSError.
        """

    @abc.abstractmethod
    def _borrow(self, raw: Any) -> BorrowedStore:
        """Return the store on a connection of somebody else's."""

    def _prepare(self, session: Session[S]) -> None:
        """Do what is to be done, on the thread, before a store is open."""

    # --- life -------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and bring the schema up to date. Idempotent.

        Raises:
            BackendUnavailable: The database cannot be reached, or refuses.
            SchemaError: The schema is newer than this code, or not ours; or it is old and
                ``migrate`` was false.
            CorruptStore: It is damaged, or something else.
            BackendError: The server is too old.
        """
        await self._connections.open_once(self._open)

    async def _open(self) -> None:
        await self._connections.open()
        self._idle.open()

    async def migrate(self) -> None:
        """Bring the schema up to date, without opening the store; errors as `open`."""
        thread = StorageThread(f"trioflow migration {self.place}")
        try:
            await thread.run(self._migrate)
        finally:
            await thread.aclose()

    async def schema_state(self) -> SchemaState:
        """Return which version of the schema is stored; nothing is changed. Errors as `open`."""
        thread = StorageThread(f"trioflow schema {self.place}")
        try:
            return await thread.run(self._schema_state)
        finally:
            await thread.aclose()

    def _schema_state(self) -> SchemaState:
        session = self._session(self._connect_to_migrate)
        try:
            return session.call(self._migrations.state, session.connection)
        finally:
            session.close()

    def _open_session(self) -> Session[S]:
        session = self._session(self._connect)
        try:
            if not self._migrates:
                session.call(self._migrations.demand, session.connection)
            elif not session.call(self._migrations.are_applied, session.connection):
                self._migrate()
            self._prepare(session)
        except BaseException:
            session.close()
            raise
        return session

    def _migrate(self) -> None:
        session = self._session(self._connect_to_migrate)
        try:
            session.call(self._migrations.apply, session.connection)
        finally:
            session.close()

    def _session(self, connect: Callable[[], S]) -> Session[S]:
        try:
            return Session(connect())
        except self._dialect.errors as exc:
            raise self._dialect.error(exc) from exc

    async def aclose(self) -> None:
        """Close the connections and end the threads. Idempotent, also after a failed `open`."""
        await self._connections.aclose(self._close_session)
        self._idle.close()

    def _close_session(self, session: Session[S]) -> None:
        session.close()

    def now(self) -> float:
        """Return the store's time.

        Raises:
            BackendUnavailable: It is a server's, which has never been asked.
        """
        try:
            return self._clock()
        except RuntimeError:
            raise self._connections.not_open() from None

    # --- transactions of others -------------------------------------------------------------

    def activity_transaction(
        self, worker: str, key: ActivityKey, attempt: int
    ) -> ActivityTransaction:
        """See `Backend`."""
        self._store()  # is it open?
        return SqlActivityTransaction(self._idle, self._borrow, worker, key, attempt)

    def _connect_plain(self) -> Any:
        try:
            return self._new_plain()
        except self._dialect.errors as exc:
            raise self._dialect.error(exc) from exc

    # --- calls ------------------------------------------------------------------------------

    def heartbeat(self, worker: str) -> Heartbeat:
        """Renew the worker's row on a connection of its own; any thread may call it.

        Raises:
            BackendUnavailable: The database cannot be reached or written, or is not open.
        """
        return self._connections.beat(lambda beats: beats.call(heartbeat, beats.store, worker))

    async def create(
        self,
        instances: Sequence[NewInstance],
        *,
        reuse: bool = True,
        replacing: bytes | None = None,
    ) -> list[bool]:
        """See `Backend`.

        Raises:
            ArgumentError: An id is not as `ids` says.
        """
        if self.ids is not None:
            for new in instances:
                self.ids.demand(new.id)
        return await super().create(instances, reuse=reuse, replacing=replacing)

    async def commit(self, worker: str, units: Sequence[Unit]) -> list[CommitFailure | None]:
        """See `Backend`."""
        if self.ids is None:
            return await super().commit(worker, units)
        written, failures = storable(units)
        results = await super().commit(worker, written)
        return [failures.get(at, result) for at, result in enumerate(results)]

    def _store(self) -> S:
        return self._connections.calls.store

    async def _run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        thread, session = self._connections.thread, self._connections.calls
        return await thread.run_together(session.call_together, fn, *args)

    async def _look(self, changed: Callable[[S], bool]) -> bool:
        """Return whether others have changed the store, for a `Watcher`."""
        # Whoever needs the store next is told that it is away, or closed.
        with suppress(BackendUnavailable):
            thread, session = self._connections.thread, self._connections.calls
            return await thread.run(session.call, changed, session.store)
        return False
