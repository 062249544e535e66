"""The limit to compare with on MySQL: the rows of the bench tree, written with no engine.

The rows and commits of `benchmarks.raw_writer`, each commit in one packet, many rows in each
statement as the backend writes them; but nothing checked, nothing read, nothing encoded.

Run it: ``python -m benchmarks.raw_mysql URL [roots]``. It empties the database that the URL names.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from benchmarks.raw_writer import commits_of
from trioflow.backends.mysql_connection import MysqlConnection
from trioflow.backends.mysql_schema import migrate
from trioflow.backends.mysql_server import from_url
from trioflow.backends.mysql_values import statements
from trioflow.backends.sql.dialect import Delete, Insert, Update, Write

__all__ = ["raw_mysql"]

_INSTANCE = "id execution workflow queue status parent parent_execution parent_command turns events"
_ACTIVITY = "instance execution command queue activity input options visible_at scheduled_at worker"

# What is written, and a row of `raw_writer`'s as its values.
_WRITES: dict[str, tuple[Write, Any]] = {
    "instance": (
        Insert("instances", (*_INSTANCE.split(), "worker", "input", "metadata", "created_at")),
        lambda id, workflow, parent, execution, command, data, now: (
            *(id, 1, workflow, "default", "running", parent, execution, command),
            *(1, 3, "w", data, b"", now),
        ),
    ),
    "turn": (
        Insert("turns", ("instance", "execution", "number", "data")),
        lambda id, number, data: (id, 1, number, data),
    ),
    "activity": (
        Insert("activities", tuple(_ACTIVITY.split())),
        lambda id, command, data, visible_at, scheduled_at: (
            *(id, 1, command, "default", "echo", data, b"", visible_at, scheduled_at, "w"),
        ),
    ),
    "message": (
        Insert("inbox", ("instance", "seq", "execution", "event")),
        lambda id, seq, event: (id, seq + 1, 1, event),
    ),
    "notify": (
        Update(
            "instances",
            ("ready_at", "id"),
            set="unread = instances.unread + 2, ready_at = v.ready_at",
            where="instances.id = v.id",
        ),
        lambda ready_at, id: (ready_at, id),
    ),
    "take": (
        Update("instances", ("id",), set="ready_at = NULL", where="instances.id = v.id"),
        lambda id: (id,),
    ),
    "close": (
        Update(
            "instances",
            ("outcome", "finished_at", "id"),
            set="status = 'completed', outcome = v.outcome, finished_at = v.finished_at,"
            " turns = 2, unread = 0, worker = NULL, sticky_worker = NULL",
            where="instances.id = v.id",
        ),
        lambda outcome, finished_at, id: (outcome, finished_at, id),
    ),
    "consumed": (Delete("inbox", ("instance", "seq")), lambda id, seq: (id, seq + 1)),
    "finished": (
        Delete("activities", ("instance", "execution", "command")),
        lambda id, command: (id, 1, command),
    ),
}
_TABLES = ("workers", "writers", "instances", "turns", "inbox", "activities")


def raw_mysql(url: str, roots: int, *, batch: int = 100) -> dict[str, float]:
    """Write the rows of ``roots`` bench trees (depth 2, everything else 2) into empty tables.

    Args:
        url: Of a database of its own: all tables of trioflow's in it are emptied.
        roots: How many trees, all at once.
        batch: How many instances take one step in a commit.

    Returns:
        ``workflows``, ``rows``, ``commits``, ``seconds``, ``rows_per_second`` and
        ``workflows_per_second``.
    """
    server = from_url(url)
    commits = commits_of(roots, batch)
    connection = MysqlConnection(server.connect)
    try:
        connection.open()
        migrate(connection, server.where, server.collation)
        for table in _TABLES:
            connection.execute(f"TRUNCATE TABLE {table}")
        start = time.perf_counter()
        for rows in commits:
            connection.send(["BEGIN", *_texts(connection, rows), "COMMIT"])
        seconds = time.perf_counter() - start
        count = "SELECT count(*) FROM instances WHERE finished_at IS NOT NULL"
        (finished,) = connection.execute(count).fetchone()
        (left,) = connection.execute(
            "SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM activities)"
        ).fetchone()
    finally:
        connection.close()
    if finished != 15 * roots or left:
        raise AssertionError(f"{finished} of {15 * roots} workflows ended, {left} rows were left")
    total = sum(len(values) for rows in commits for values in rows.values())
    return {
        "workflows": finished,
        "rows": total,
        "commits": len(commits),
        "seconds": seconds,
        "rows_per_second": total / seconds,
        "workflows_per_second": finished / seconds,
    }


def _texts(connection: MysqlConnection, rows: dict[str, list[tuple[Any, ...]]]) -> list[str]:
    texts: list[str] = []
    for kind, values in rows.items():
        statement, row_of = _WRITES[kind]
        flat = [value for row in values for value in row_of(*row)]
        texts += statements(statement, flat, connection.room)
    return texts


def main() -> None:
    """Print the figures of one run."""
    roots = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    for name, value in raw_mysql(sys.argv[1], roots).items():
        print(f"{name:>22} {value:12.3f}" if name == "seconds" else f"{name:>22} {value:12.0f}")


if __name__ == "__main__":
    main()
