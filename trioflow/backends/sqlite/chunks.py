"""Chunk multi-row reads and writes into statements.

One statement for many rows is worth more than its own speed: the driver gives up the GIL once
per statement, and beside a busy loop each time costs a wait until the loop yields it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from trioflow.backends.sql.dialect import Connection, Delete, Insert, Lock, Update, Write

__all__ = ["select_among", "write_chunked"]

# Powers of two, so that few texts cover every number of rows and stay prepared.
_MOST_ROWS = 64
_VALUE = re.compile(r"\bv\.(\w+)")


def write_chunked(connection: Connection, statement: Write, values: list[Any]) -> int:
    """Write all rows in statements of 64, 32, …, 1 rows; return how many rows were touched."""
    if isinstance(statement, Lock):
        return 0  # a writer is alone
    width = len(statement.columns)
    if len(values) == width:
        if isinstance(statement, Update):
            text, order = _update_of_one(statement)
            return connection.execute(text, [values[at] for at in order]).rowcount
        return connection.execute(_text(statement, 1), values).rowcount
    touched = at = 0
    size = _MOST_ROWS
    while at < len(values):
        while (len(values) - at) // width < size:
            size //= 2
        part = values[at : at + size * width]
        touched += connection.execute(_text(statement, size), part).rowcount
        at += size * width
    return touched


def select_among(connection: Connection, sql: str, values: Sequence[str]) -> list[Any]:
    """Return the rows of a query in which ``{among}`` says ``IN`` these values.

    Args:
        connection: Where to ask.
        sql: Must not limit or count, since it is asked for 64 values at a time.
        values: If there are none, there are no rows.
    """
    rows: list[Any] = []
    for at in range(0, len(values), _MOST_ROWS):
        part = list(values[at : at + _MOST_ROWS])
        size = 1 << (len(part) - 1).bit_length()
        part += part[-1:] * (size - len(part))
        text = sql.replace("{among}", f"IN ({', '.join('?' * size)})")
        rows += connection.execute(text, part).fetchall()
    return rows


@lru_cache(maxsize=256)
def _update_of_one(statement: Update) -> tuple[str, list[int]]:
    """Return an update of one row in which its values stand, and the order of these.

    As a table of one row they take twice the time.
    """
    text = f"UPDATE {statement.table} SET {statement.set} WHERE {statement.where}"  # noqa: S608
    order = [statement.columns.index(name) for name in _VALUE.findall(text)]
    return _VALUE.sub("?", text), order


@lru_cache(maxsize=1024)
def _text(statement: Insert | Update | Delete, rows: int) -> str:
    columns = ", ".join(statement.columns)
    row = "(" + ", ".join("?" * len(statement.columns)) + ")"
    values = ", ".join([row] * rows)
    match statement:
        case Insert(table):
            text = f"INSERT INTO {table} ({columns}) VALUES {values}"  # noqa: S608 - our names
        case Update(table, _, set, where):
            rows_as_v = f"WITH v ({columns}) AS (VALUES {values}) SELECT * FROM v"  # noqa: S608
            text = f"UPDATE {table} SET {set} FROM ({rows_as_v}) AS v WHERE {where}"  # noqa: S608
        case Delete(table, _, only):
            # Spelled out: SQLite looks each row up by the whole key, which it does not for
            # a list of row values.
            one = "(" + " AND ".join(f"{column} = ?" for column in statement.columns) + ")"
            these = " OR ".join([one] * rows)
            text = f"DELETE FROM {table} WHERE {f'({these}) AND {only}' if only else these}"  # noqa: S608
    return text
