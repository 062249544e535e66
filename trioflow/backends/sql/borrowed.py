"""Work in a transaction of the caller's, on their connection.

Theory. The functions of `operations` are given a store whose connection is the caller's. What they
take for a transaction is a savepoint there: one that fails is rolled back to it, and the caller's
own statements are left as they were. Nothing here begins another transaction, commits, or makes a
statement again after an error that ended the transaction: only the caller knows what was in it.

The rows that are touched stay locked until the caller's transaction ends, and a worker that has to
write one of them waits for it.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, TypeVarTuple

from trioflow.backends._common.id_limits import IdLimit
from trioflow.backends.commits import NewInstance
from trioflow.backends.records import Effect, InstanceRecord, Reached
from trioflow.backends.sql.connection import TransactionEnded
from trioflow.backends.sql.dialect import Connection
from trioflow.backends.sql.operations import changes, reads
from trioflow.backends.sql.store import SqlStore
from trioflow.errors import (
    BackendError,
    BackendUnavailable,
    SchemaError,
    TransactionRefused,
)

__all__ = ["BorrowedStore", "SqlCallerTransaction", "not_a_connection", "not_begun"]

C = TypeVar("C", bound=Connection)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class BorrowedStore(SqlStore, abc.ABC):
    """A store on a connection that is the caller's.

    Args:
        connection: The caller's, with the methods that the store needs.
        like: The store that is open on a connection of its own.
    """

    def __init__(self, connection: Connection, like: SqlStore) -> None:
        # All that the other one has, and not `super().__init__`: to write all queries anew takes
        # longer than most calls.
        vars(self).update(vars(like))
        self.connection = connection
        self._looked = False

    @abc.abstractmethod
    def begin(self) -> None:
        """Begin a transaction if the driver would do so for a statement.

        Raises:
            TransactionRefused: Nothing can be done in this transaction.
        """

    def flush(self) -> None:
        """Send what was put off."""

    def taken(self, ids: Sequence[str]) -> list[Any]:
        """Return id, status and execution of those instances that are there, locked."""
        # To lock a row that is not there locks the gap where it would be, in MySQL's usual
        # isolation; two transactions that start an instance each would wait for each other. So the
        # first look locks nothing if nothing is there. Whoever overtook it is noticed by the
        # insert, and then there is something to lock.
        looked, self._looked = self._looked, True
        if not looked and not self.among(self.queries.statuses, ids):
            return []
        return super().taken(ids)


class SqlCallerTransaction:
    """See `trioflow.backends.outbox.CallerTransaction`.

    Args:
        store: Returns one on the caller's connection, for one call.
        ids: What ids of instances may be.
    """

    is_async = False

    def __init__(self, store: Callable[[], BorrowedStore], ids: IdLimit | None) -> None:
        self._store = store
        self._ids = ids

    async def run(self, fn: Callable[[], T]) -> T:
        """Call a function that calls methods of this."""
        return fn()

    def create(
        self, instances: Sequence[NewInstance], *, reuse: bool = True, replacing: bytes | None
    ) -> list[bool]:
        """See `Backend.create`."""
        for new in instances:
            self._demand(new.id)
        return self._call(changes.create, instances, reuse, replacing)

    def send(
        self, instance: str, event: bytes, *, life: str | None = None, request: str = ""
    ) -> Effect:
        """See `Backend.send`."""
        return self._call(changes.send, instance, event, life, request)

    def create_and_send(self, new: NewInstance, event: bytes) -> Reached:
        """See `Backend.create_and_send`."""
        self._demand(new.id)
        return self._call(changes.create_and_send, new, event)

    def cancel(
        self, instance: str, event: bytes, outcome: bytes, *, life: str | None = None
    ) -> Effect:
        """See `Backend.cancel`."""
        return self._call(changes.cancel, instance, event, outcome, life)

    def get(self, instance: str) -> InstanceRecord | None:
        """Return an instance's row as the transaction sees it."""
        return self._call(reads.get, instance, told=False)

    def _demand(self, id: str) -> None:
        if self._ids is not None:
            self._ids.demand(id)

    def _call(self, fn: Callable[[SqlStore, *Ts], T], *args: *Ts, told: bool = True) -> T:
        store = self._store()
        errors: tuple[type[Exception], ...] = (*store.dialect.errors, TransactionEnded)
        was_open = False
        try:
            was_open = store.dialect.in_transaction(store.connection)
            store.begin()
            try:
                with store.transaction():
                    result = fn(store, *args)
                    if told:
                        store.announce()
            finally:
                if store.dialect.in_transaction(store.connection):
                    store.flush()
        except errors as exc:
            raise _error(store, exc, was_open=was_open) from exc
        return result


def _error(store: BorrowedStore, exc: Exception, *, was_open: bool) -> BackendError:
    """Return the error for one of the driver's, if a transaction was perhaps open before."""
    cause = exc.__cause__ if isinstance(exc, TransactionEnded) else exc
    error = store.dialect.error(cause) if isinstance(cause, store.dialect.errors) else exc
    if isinstance(error, SchemaError):
        return TransactionRefused(
            f"the connection given to in_transaction() is to a database without trioflow's tables; "
            f"it must be one to the database of the store ({error})"
        )
    is_open = was_open and store.dialect.in_transaction(store.connection)
    if isinstance(error, BackendUnavailable) and was_open and not is_open:
        return BackendUnavailable(
            f"your transaction was rolled back as a whole; make it again from its beginning "
            f"({error})"
        )
    return error if isinstance(error, BackendError) else BackendError(str(error))


def not_begun(connection: object, how: str) -> TransactionRefused:
    """Return the error for a connection that commits each statement by itself."""
    return TransactionRefused(
        f"no transaction is open on {connection!r}, and it would commit each statement at once; "
        f"begin one first: {how}"
    )


def not_a_connection(given: object, store: str, wanted: str) -> TransactionRefused:
    """Return the error for something that is no connection of the store's driver."""
    return TransactionRefused(
        f"in_transaction() of a {store} store takes {wanted}, not {given!r}; of another library "
        "give the driver's own connection (in SQLAlchemy: "
        "session.connection().connection.driver_connection)"
    )
