"""One connection to an SQL store, and how calls run on it.

Here lives what every method of the store needs and nothing that is about instances: statements,
transactions, errors, and several calls in one transaction. What the methods do are functions in
the modules beside this one; each takes a `SqlStore` first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar, TypeVarTuple

from outcome import Error, Outcome, capture

from trioflow.backends.sql.dialect import Connection, Cursor, Dialect, Write
from trioflow.backends.sql.queries import Queries
from trioflow.errors import BackendUnavailable

__all__ = ["SqlStore"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _TransactionLost(Exception):
    """The transaction around several calls is no more."""


class SqlStore:
    """One connection to a store. Used by one thread at a time.

    Args:
        connection: Open, its schema up to date, in autocommit mode between transactions.
        dialect: The ways of its database.
        clock: The store's clock, epoch seconds.
    """

    def __init__(
        self, connection: Connection, dialect: Dialect, clock: Callable[[], float]
    ) -> None:
        self.connection = connection
        self.dialect = dialect
        self.clock = clock
        self.queries = Queries(dialect)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    # --- statements ---------------------------------------------------------------------

    def execute(self, sql: str, *parameters: Any) -> Cursor:
        """Run one statement that is in the dialect's words."""
        return self.connection.execute(sql, parameters)

    def transaction(self) -> AbstractContextManager[None]:
        """Return a block that is one write transaction, or a part of the one that is open."""
        return self.dialect.transaction(self.connection)

    def write(self, statement: Write, values: list[Any]) -> int:
        """Write many rows; return how many rows of the table were touched."""
        return self.dialect.write(self.connection, statement, values)

    def among(self, sql: str, values: Sequence[str]) -> list[Any]:
        """Return the rows of a query in which ``{among}`` says ``IN`` these values."""
        return self.dialect.among(self.connection, sql, values)

    def each(self, sql: str, parameters: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """Run one query once for each of the parameters; return the rows of each."""
        return self.dialect.each(self.connection, sql, parameters)

    # --- hooks of databases on other machines ---------------------------------------------

    def announce(self) -> None:
        """Have the next transaction tell other processes of a change.

        Nothing to do where they are told in another way: see `SqlBackend._write`.
        """

    def measure_clock(self) -> None:
        """Compare the store's clock with this machine's, if it is another one."""

    # --- calls --------------------------------------------------------------------------

    def call(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a function that uses this store.

        Raises:
            BackendError: In place of whatever the driver raises.
        """
        try:
            return fn(*args)
        except self.dialect.errors as exc:
            raise self.dialect.error(exc) from exc

    def call_together(self, calls: Sequence[Callable[[], Any]]) -> list[Outcome[Any]]:
        """Make several calls in one transaction; each succeeds or fails by itself.

        Returns:
            The outcome of each. All is durable that has a value.
        """
        if not calls:
            return []
        if len(calls) == 1:
            return [capture(self.call, calls[0])]
        outcomes: list[Outcome[Any]] = []
        try:
            with self.dialect.transaction(self.connection):
                for call in calls:
                    outcomes.append(capture(self.call, call))
                    if not self.dialect.in_transaction(self.connection):
                        raise _TransactionLost  # noqa: TRY301 - leaves the block around it
        except _TransactionLost:
            # The store gave up the whole transaction, on a full disk for one.
            last, done = outcomes[-1], len(outcomes)
        except self.dialect.errors as exc:
            last, done = Error(self.dialect.error(exc)), len(calls)
        else:
            return outcomes
        if isinstance(last, Error) and isinstance(last.error, BackendUnavailable):
            return self._all_failed(last, done) + self.call_together(calls[done:])
        # Nothing is stored, and an error may have come later than what it is about.
        return [capture(self.call, call) for call in calls]

    @staticmethod
    def _all_failed(last: Error, count: int) -> list[Outcome[Any]]:
        # One for each, since each is raised in a place of its own.
        return [Error(type(last.error)(*last.error.args)) for _ in range(count)]
