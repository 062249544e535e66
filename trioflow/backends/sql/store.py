"""What every function of the SQL store is given: a connection, its dialect and its queries.

Nothing here is about instances. What the methods of `Backend` do are functions in the modules of
`trioflow.backends.sql.operations`: each takes a `SqlStore` first, raises what the driver raises,
and is called by a `trioflow.backends.sql.session.Session`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from trioflow._model.limits import NO_LIMITS, Limits
from trioflow.backends.sql.dialect import Connection, Cursor, Dialect, Write
from trioflow.backends.sql.limit_queries import LimitQueries
from trioflow.backends.sql.move_queries import MoveQueries
from trioflow.backends.sql.queries import Queries
from trioflow.backends.sql.shared_queries import SharedQueries

__all__ = ["SqlStore"]


class SqlStore:
    """One connection to a store. Used by one thread at a time.

    Args:
        connection: Open, its schema up to date, in autocommit mode between transactions.
        dialect: Of its database.
        clock: The store's clock, epoch seconds.

    Attributes:
        known_shared: Names of what is shared that have been seen; they are never removed.
        limits: As they were when this connection last looked; their version says whether they are.
    """

    limits: Limits
    known_shared: set[str]

    def __init__(
        self, connection: Connection, dialect: Dialect, clock: Callable[[], float]
    ) -> None:
        self.connection = connection
        self.dialect = dialect
        self.clock = clock
        self.queries = Queries(dialect)
        self.limit_queries = LimitQueries(dialect)
        self.shared_queries = SharedQueries(dialect)
        self.limits = NO_LIMITS
        self.known_shared = set()
        self._move_queries: MoveQueries | None = None

    @property
    def move_queries(self) -> MoveQueries:
        """The statements of a move, which few stores ever need."""
        if self._move_queries is None:
            self._move_queries = MoveQueries(self.dialect)
        return self._move_queries

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    # --- statements ---------------------------------------------------------------------

    def execute(self, sql: str, *parameters: Any) -> Cursor:
        """Run one statement that was translated by `Dialect.query`."""
        return self.connection.execute(sql, parameters)

    def transaction(self) -> AbstractContextManager[None]:
        """Return a block that is one write transaction, or a part of the one that is open."""
        return self.dialect.transaction(self.connection)

    def snapshot(self) -> AbstractContextManager[None]:
        """Return a block that only reads: all of it sees one state of the store.

        So what it does must not be called in a transaction of others; see `SqlBackend._look_at`.
        """
        return self.dialect.snapshot(self.connection)

    def write(self, statement: Write, values: list[Any]) -> int:
        """Write many rows; return how many rows of the table were touched."""
        return self.dialect.write(self.connection, statement, values)

    def among(self, sql: str, values: Sequence[str]) -> list[Any]:
        """Return the rows of a query in which ``{among}`` says ``IN`` these values."""
        return self.dialect.among(self.connection, sql, values)

    def each(self, sql: str, parameters: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """Run one query once for each of the parameters; return the rows of each."""
        return self.dialect.each(self.connection, sql, parameters)

    def taken(self, ids: Sequence[str]) -> list[Any]:
        """Return id, status and execution of those instances that are there, locked."""
        return self.among(self.queries.taken_ids, ids)

    def announce(self) -> None:
        """Have the next transaction tell other processes of a change.

        Nothing to do where they are told in another way: see `SqlBackend._write`.
        """
