"""What differs between SQL databases, and nothing else.

`Insert`, `Update` and `Delete` describe statements that write many rows at once; a `Dialect`
knows how its database does that best. Rows come flat: the values of all rows in one list.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Connection", "Cursor", "Delete", "Dialect", "Insert", "Update", "Write"]


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
    """Insert rows of ``columns`` into ``table``."""

    table: str
    columns: tuple[str, ...]


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
    """Delete from ``table`` what equals one of the rows of ``columns``."""

    table: str
    columns: tuple[str, ...]


Write = Insert | Update | Delete


class Dialect(Protocol):
    """One database's ways.

    Attributes:
        errors: The base classes of the driver's exceptions.
        conflict: The driver's exception for a violated primary key or unique index.
        for_update: The clause that locks the rows of a SELECT, ``""`` where a writer is alone.
        skip_locked: The same, leaving out rows that somebody else has locked.
    """

    errors: tuple[type[Exception], ...]
    conflict: tuple[type[Exception], ...]
    for_update: str
    skip_locked: str

    def query(self, sql: str) -> str:
        """Return a query that is written with ``?`` in the driver's placeholders."""
        ...

    def write(self, connection: Connection, statement: Write, values: list[Any]) -> int:
        """Write all rows; return how many rows of the table were touched."""
        ...

    def transaction(self, connection: Connection) -> AbstractContextManager[None]:
        """Return a block that is one write transaction, or a part of the one that is open."""
        ...

    def in_transaction(self, connection: Connection) -> bool:
        """Return whether a transaction is open."""
        ...

    def allocate(self, connection: Connection, count: int) -> int:
        """Return the first of ``count`` inbox numbers, larger than all given before."""
        ...

    def error(self, exc: Exception) -> Exception:
        """Return the `trioflow.errors.BackendError` that stands for a driver's exception."""
        ...
