"""The store in a PostgreSQL database, shared by processes on any number of machines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar, TypeVarTuple

import psycopg
import trio
from outcome import Error, Outcome, capture
from psycopg.conninfo import conninfo_to_dict

from trioflow.backends._common.id_limits import ID_LENGTH, storable
from trioflow.backends._common.server_clock import ServerClock
from trioflow.backends._common.thread import StorageThread
from trioflow.backends._common.url_text import shown
from trioflow.backends._common.watching import Watcher
from trioflow.backends.postgres.connection import PgConnection, state_of
from trioflow.backends.postgres.dialect import PostgresDialect
from trioflow.backends.postgres.notifier import Bell
from trioflow.backends.postgres.schema import SCHEMA_VERSION, check, migrate
from trioflow.backends.records import CommitFailure, Heartbeat, NewInstance, Unit
from trioflow.backends.sql.backend import SqlBackend
from trioflow.backends.sql.leases import heartbeat
from trioflow.backends.sql.store import SqlStore
from trioflow.errors import ArgumentError, BackendError, BackendUnavailable, SchemaError

__all__ = ["Pool", "PostgresBackend"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Used where the URL does not say otherwise: a server that is gone is noticed in half a minute.
_DEFAULTS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "trioflow",
}
# Tables grow from nothing, faster than statistics: every query of ours has an index to use. A
# process that was stopped in a transaction must not hold its locks for long.
_SETTINGS = (
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; "
    "SET jit = off; SET idle_in_transaction_session_timeout = '10s'"
)
_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"
_TRIES = 5


class Pool(Protocol):
    """What `psycopg_pool.ConnectionPool` has, as far as it is used."""

    def getconn(self) -> psycopg.Connection[Any]:
        """Give a connection."""
        ...

    def putconn(self, conn: psycopg.Connection[Any]) -> None:
        """Take it back, also when it is broken."""


class _PgStore(SqlStore):
    """Makes a call again if it is sure that nothing of it was stored."""

    connection: PgConnection

    def call(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        if self.connection.depth:
            return super().call(fn, *args)
        tries, doubts = 0, self.connection.doubts
        while True:
            try:
                self._look_at_clock()
                return super().call(fn, *args)
            except BackendUnavailable as exc:
                tries += 1
                crossed = state_of(exc.__cause__ or exc) in ("40001", "40P01")
                # A connection that was idle may have been dead for long.
                dead = tries == 1 and self.connection.lost and self.connection.doubts == doubts
                if tries == _TRIES or not (crossed or dead):
                    raise

    def call_together(self, calls: Sequence[Callable[[], Any]]) -> list[Outcome[Any]]:
        if len(calls) == 1:
            return super().call_together(calls)
        with suppress(BackendUnavailable):  # then the calls say so
            self._look_at_clock()
        doubts = self.connection.doubts
        outcomes = super().call_together(calls)
        again = [
            place
            for place, outcome in enumerate(outcomes)
            if isinstance(outcome, Error) and isinstance(outcome.error, BackendUnavailable)
        ]
        if again and self.connection.doubts == doubts:
            try:
                _ = self.connection.raw
            except psycopg.Error:
                return outcomes  # rather than one attempt to connect for each call
            for place in again:
                outcomes[place] = capture(self.call, calls[place])
        return outcomes

    def _look_at_clock(self) -> None:
        clock = self.clock
        if isinstance(clock, ServerClock) and clock.due():
            super().call(lambda: self.connection.raw)  # to connect would count as the way there
            clock.measure(partial(super().call, self._server_time))

    def _server_time(self) -> float:
        return float(self.execute(_CLOCK).fetchone()[0])


class _RingingWatcher(Watcher):
    """Tells other processes what was changed here."""

    def __init__(self, ring: Callable[[], None]) -> None:
        super().__init__()
        self._ring = ring

    def notify(self) -> None:
        super().notify()
        self._ring()

    def hear(self) -> None:
        """Count a change by another process and wake everybody."""
        super().notify()


class PostgresBackend(SqlBackend[_PgStore]):
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
    shared = True

    def __init__(
        self,
        server: str | Pool | Callable[[], psycopg.Connection[Any]],
        *,
        schema: str = "trioflow",
        pooled: bool = False,
        migrate: bool = True,
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__()
        self.schema = schema
        self._pooled = pooled
        self._migrate = migrate
        self._clock = ServerClock() if clock is None else clock
        self._get, self._put, self.place = _source(server)
        self._dialect = PostgresDialect(schema, self.place)
        self._thread: StorageThread | None = None
        self._opened: _PgStore | None = None
        self._bell: Bell | None = None
        self._ringing = _RingingWatcher(self._ring)
        self._watcher = self._ringing
        # The heartbeat's own connection, used by whichever thread holds the lock.
        self._beat_lock = threading.Lock()
        self._beat_store: _PgStore | None = None

    # --- life ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and bring the schema up to date. Idempotent.

        Raises:
            BackendUnavailable: The server cannot be reached, or does not let us in.
            SchemaError: The schema is newer than this code, or not ours; or it is old and
                ``migrate`` was false.
        """
        if self._opened is not None:
            return
        bring = migrate if self._migrate else self._demand_schema
        self._thread, self._opened = await self._prepared(bring)
        heard = partial(_in_loop(), self._ringing.hear)
        self._bell = Bell(self._connection(), self.schema, listen=not self._pooled, heard=heard)

    async def migrate(self) -> None:
        """Bring the schema up to date, without opening the store; errors as `open`."""
        thread, store = await self._prepared(migrate)
        try:
            await thread.run(store.close)
        finally:
            await thread.aclose()

    async def _prepared(
        self, bring: Callable[[PgConnection, str, str], None]
    ) -> tuple[StorageThread, _PgStore]:
        thread = StorageThread(f"trioflow storage {self.place}")
        store = _PgStore(self._connection(), self._dialect, self._clock)

        def prepare() -> None:
            try:
                store.call(bring, store.connection, self.schema, self.place)
            except BaseException:
                store.close()
                raise

        try:
            await thread.run(prepare)
        except BaseException:
            await thread.aclose()
            raise
        return thread, store

    def _demand_schema(self, connection: PgConnection, schema: str, place: str) -> None:
        if not check(connection, schema, place):
            raise SchemaError(
                f"{place} does not have version {SCHEMA_VERSION!r} of trioflow's tables in schema "
                f"{schema!r} yet; open it with migrate=True, or await migrate() once"
            )

    def _connection(self) -> PgConnection:
        return PgConnection(self._connect, self._put, prepare=not self._pooled)

    def _connect(self) -> psycopg.Connection[Any]:
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

    async def aclose(self) -> None:
        """Close the connections and end the threads. Idempotent, also after a failed `open`."""
        thread, store, bell = self._thread, self._opened, self._bell
        self._thread = self._opened = self._bell = None
        if thread is None or store is None:
            return
        try:
            await thread.run(self._close_all, store, bell)
        finally:
            await thread.aclose()

    def _close_all(self, store: SqlStore, bell: Bell | None) -> None:
        if bell is not None:
            bell.stop()
        with self._beat_lock:
            if self._beat_store is not None:
                self._beat_store.close()
                self._beat_store = None
        store.close()

    def now(self) -> float:
        """Return the server's time, as it is reckoned here.

        Raises:
            BackendUnavailable: It is not open.
        """
        self._store()
        return self._clock()

    # --- calls --------------------------------------------------------------------------

    def heartbeat(self, worker: str) -> Heartbeat:
        """Renew the worker's row on a connection of its own; any thread may call it.

        Raises:
            BackendUnavailable: The server cannot be reached, or the backend is not open.
        """
        with self._beat_lock:
            self._store()
            if self._beat_store is None:
                self._beat_store = _PgStore(self._connection(), self._dialect, self._clock)
            return self._beat_store.call(heartbeat, self._beat_store, worker)

    async def create(self, instances: Sequence[NewInstance]) -> list[bool]:
        """Create instances, free and ready at once; False where the id is running or suspended.

        Raises:
            ArgumentError: An id is longer than 500 characters, or has a zero in it.
        """
        for new in instances:
            if len(new.id) > ID_LENGTH or "\0" in new.id:
                raise ArgumentError(
                    f"the id {new.id[:40]!r}… has {len(new.id)} characters; PostgreSQL stores ids "
                    f"of at most {ID_LENGTH}, none of which is a zero"
                )
        return await super().create(instances)

    async def commit(self, worker: str, units: Sequence[Unit]) -> list[CommitFailure | None]:
        """See `Backend`."""
        written, failures = storable(units)
        results = await super().commit(worker, written)
        return [failures.get(at, result) for at, result in enumerate(results)]

    async def wait_change(self, seen: int, timeout: float) -> None:
        """See `Backend`."""
        if self._bell is not None:
            self._bell.start()
        await self._watcher.wait(seen, timeout)

    def _ring(self) -> None:
        if self._bell is not None:
            self._bell.ring()

    def _store(self) -> _PgStore:
        if self._opened is None:
            raise self._not_open()
        return self._opened

    def _not_open(self) -> BackendUnavailable:
        return BackendUnavailable(f"{self.place} is not open; await the backend's open() first")

    async def _run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        thread = self._thread
        if thread is None:
            raise self._not_open()
        return await thread.run_together(self._store().call_together, fn, *args)


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


def _in_loop() -> Callable[[Callable[[], None]], None]:
    """Return how to call something in the running loop from another thread."""
    if trio.lowlevel.in_trio_run():
        token = trio.lowlevel.current_trio_token()

        def to_trio(fn: Callable[[], None]) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(fn, idempotent=True)

        return to_trio
    loop = asyncio.get_running_loop()

    def to_asyncio(fn: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # it is closed
            loop.call_soon_threadsafe(fn)

    return to_asyncio
