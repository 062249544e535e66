"""What differs between SQL databases, and nothing else.

`Insert`, `Update` and `Delete` describe statements that write many rows at once; a `Dialect`
knows how its database does that best. Rows come flat: the values of all rows in one list.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = [
    "Connection",
    "Cursor",
    "Delete",
    "Dialect",
    "Fences",
    "Insert",
    "Lock",
    "Update",
    "Write",
    "holders_one_by_one",
    "keys_one_by_one",
]


class Cursor(Protocol):
    """The part of a DB-API cursor that the store uses."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement touched."""
        ...

    def fetchone(self) -> Any:
        """Return the next row, or ``None``."""

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        ...


class Connection(Protocol):
    """The part of a connection that the store uses."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Cursor:
        """Run one statement."""
        ...

    def close(self) -> object:
        """Close the connection."""


@dataclass(frozen=True)
class Insert:
    """Insert rows of ``columns`` into ``table``.

    ``numbered`` is the column whose values count from what `Dialect.allocate` gave.
    """

    table: str
    columns: tuple[str, ...]
    numbered: str = ""


@dataclass(frozen=True)
class Update:
    """Update ``table``, once for each row of ``columns``; ``set`` and ``where`` call the row ``v``.

    No two rows may mean the same row of the table.
    """

    table: str
    columns: tuple[str, ...]
    set: str
    where: str


@dataclass(frozen=True)
class Delete:
    """Delete from ``table`` what equals one of the rows of ``columns``, and is as ``only`` says."""

    table: str
    columns: tuple[str, ...]
    only: str = ""


@dataclass(frozen=True)
class Lock:
    """Lock the rows of ``table`` whose column has one of the values, in their order.

    Nothing where a writer is alone anyway.
    """

    table: str
    columns: tuple[str]


Write = Insert | Update | Delete | Lock


class Fences(Protocol):
    """The fence of one database; see `trioflow.backends.sql.fencing`."""

    def put_up(self, connection: Connection, text: str) -> None:
        """Refuse changes from now on, with this text; again if a part is there. No transaction."""

    def take_down(self, connection: Connection) -> None:
        """Allow changes again, also if a part is not there. No transaction is open."""

    def passing(self, connection: Connection, text: str) -> AbstractContextManager[None]:
        """Return a block that may change rows all the same, within a transaction."""
        ...


class Dialect(Protocol):
    """What the SQL store needs to know of one database.

    Attributes:
        errors: The base classes of the driver's exceptions.
        conflict: The driver's exception for a violated primary key or unique index.
        for_update: The clause that locks the rows of a SELECT, ``""`` where a writer is alone.
        skip_locked: The same, leaving out rows that somebody else has locked.
        number: The expression that makes an inbox number of a parameter that counts from what
            `allocate` gave.
        unless_there: The clause with which an INSERT of one row does nothing where there is one of
            its key; it waits for whoever inserts the same.
        has_ready_at: The condition under which the index of what is ready lists an instance.
        unindexed: What before a column lets no planner look it up in an index, where one would take
            the wrong index otherwise.
        fences: How everybody is kept out of a store that is moved.
    """

    errors: tuple[type[Exception], ...]
    conflict: tuple[type[Exception], ...]
    for_update: str
    skip_locked: str
    number: str
    unless_there: str
    has_ready_at: str
    unindexed: str
    fences: Fences

    def holders(self, table: str, null: str = "") -> str:
        """Return a query of the workers that hold rows of a table, each once.

        It does not read all that they hold, but looks into an index that begins with the worker.

        Args:
            table: Has a column ``worker``.
            null: A column that is null in the rows that are meant; the index begins with it.
        """
        ...

    def by_index(self, index: str) -> str:
        """Return what after a table's name makes its rows be read in the order of an index.

        ``""`` where the planner finds that out by itself.
        """
        ...

    def keys_after(self) -> str:
        """Return a query of the keys of free activities of a queue, after one, in their order.

        It looks into the index of what is free once for each. Its parameters are the queue, the
        key, the queue again, and how many at most.
        """
        ...

    def query(self, sql: str) -> str:
        """Return a query that is written with ``?`` in the driver's placeholders."""
        ...

    def write(self, connection: Connection, statement: Write, values: list[Any]) -> int:
        """Write all rows; return how many rows of the table were touched."""
        ...

    def write_all(
        self, connection: Connection, writes: Sequence[tuple[Write, list[Any]]]
    ) -> list[int]:
        """Make several writes in their order; return for each how many rows were touched."""
        ...

    def append(self, connection: Connection, statement: Insert, values: list[Any]) -> None:
        """Write rows; an error may come as late as the end of the transaction."""

    def among(self, connection: Connection, sql: str, values: Sequence[str]) -> list[Any]:
        """Return the rows of a query in which ``{among}`` says ``IN`` these values."""
        ...

    def each(
        self, connection: Connection, sql: str, parameters: Sequence[Sequence[Any]]
    ) -> list[list[Any]]:
        """Run one query once for each of the parameters; return the rows of each."""
        ...

    def transaction(self, connection: Connection) -> AbstractContextManager[None]:
        """Return a block that is one write transaction, or a part of the one that is open."""
        ...

    def in_transaction(self, connection: Connection) -> bool:
        """Return whether a transaction is open."""
        ...

    def allocate(self, connection: Connection, count: int, now: float) -> int:
        """Return where ``count`` inbox numbers begin, larger than all given before.

        Called when the instances that the messages are for have been locked; ``now`` is the
        store's time.
        """
        ...

    def server_time(self, connection: Connection) -> float:
        """Return what the server's clock says, epoch seconds."""
        ...

    def delay(self, exc: Exception, attempt: int) -> float | None:
        """Return how long to wait before a call is made again that failed, seconds.

        Args:
            exc: What the driver raised. Nothing of the call is stored, unless this says that
                nobody knows.
            attempt: How often the call has been made.

        Returns:
            ``None`` if it is not to be made again: it would fail again, has been tried often
            enough, or may have been stored.
        """
        ...

    def error(self, exc: Exception) -> Exception:
        """Return the `trioflow.errors.BackendError` that stands for a driver's exception."""
        ...


def holders_one_by_one(table: str, null: str = "") -> str:
    """Return what `Dialect.holders` does, where a look for the next one is quick."""
    listed = f"{null} IS NULL AND" if null else ""
    return f"""WITH RECURSIVE looks (worker) AS (
            SELECT (SELECT worker FROM {table} WHERE {listed} worker IS NOT NULL
                ORDER BY worker LIMIT 1)
            UNION ALL SELECT (SELECT held.worker FROM {table} AS held
                WHERE {listed} held.worker > looks.worker ORDER BY held.worker LIMIT 1)
            FROM looks WHERE looks.worker IS NOT NULL)
        SELECT worker FROM looks WHERE worker IS NOT NULL"""  # noqa: S608 - our names


def keys_one_by_one() -> str:
    """Return what `Dialect.keys_after` does, where a look for the next one is quick."""
    return """WITH RECURSIVE looks (limit_key) AS (
            SELECT (SELECT limit_key FROM activities
                WHERE worker IS NULL AND queue = ? AND limit_key > ?
                ORDER BY limit_key LIMIT 1)
            UNION ALL SELECT (SELECT free.limit_key FROM activities AS free
                WHERE free.worker IS NULL AND free.queue = ? AND free.limit_key > looks.limit_key
                ORDER BY free.limit_key LIMIT 1)
            FROM looks WHERE looks.limit_key IS NOT NULL)
        SELECT limit_key FROM looks WHERE limit_key IS NOT NULL LIMIT ?"""
