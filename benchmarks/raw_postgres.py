"""The limit to compare with on PostgreSQL: the rows of the bench tree, written with no engine.

The rows and commits of `benchmarks.raw_writer`, with the columns of each statement as arrays, a
commit in one go: once by the driver's own means, and once packed and sent as the backend does it.

Run it: ``python -m benchmarks.raw_postgres URL [roots]``. It uses a schema of its own.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import psycopg

from benchmarks.raw_writer import commits_of
from trioflow.backends.postgres_connection import PgConnection, Statement
from trioflow.backends.postgres_schema import migrate
from trioflow.backends.postgres_values import array, array_type

__all__ = ["raw_postgres"]

_SCHEMA = "trioflow_raw"
# Columns, and what is done with a row `v` of them.
_WRITES = {
    "instance": (
        "id workflow parent parent_execution parent_command input created_at",
        (
            "INSERT INTO {s}.instances (id, execution, workflow, queue, status, parent,"
            " parent_execution, parent_command, turns, events, worker, input, metadata, created_at)"
            " SELECT id, 1, workflow, 'default', 'running', parent, parent_execution,"
            " parent_command, 1, 3, 'w', input, '', created_at FROM {v}"
        ),
    ),
    "turn": ("id number data", "INSERT INTO {s}.turns SELECT id, 1, number, data FROM {v}"),
    "activity": (
        "id command input visible_at scheduled_at",
        (
            "INSERT INTO {s}.activities (instance, execution, command, queue, activity, input,"
            " options, visible_at, scheduled_at, worker)"
            " SELECT id, 1, command, 'default', 'echo', input, '', visible_at, scheduled_at, 'w'"
            " FROM {v}"
        ),
    ),
    "message": ("id seq event", "INSERT INTO {s}.inbox SELECT id, seq, 1, event FROM {v}"),
    "notify": (
        "ready_at id",
        (
            "UPDATE {s}.instances SET unread = unread + 2, ready_at = v.ready_at FROM {v}"
            " WHERE instances.id = v.id"
        ),
    ),
    "take": (
        "id",
        ("UPDATE {s}.instances SET ready_at = NULL FROM {v} WHERE instances.id = v.id"),
    ),
    "close": (
        "outcome finished_at id",
        (
            "UPDATE {s}.instances SET status = 'completed', outcome = v.outcome,"
            " finished_at = v.finished_at, turns = 2, unread = 0, worker = NULL,"
            " sticky_worker = NULL FROM {v} WHERE instances.id = v.id"
        ),
    ),
    "consumed": (
        "id seq",
        ("DELETE FROM {s}.inbox USING {v} WHERE inbox.instance = v.id AND inbox.seq = v.seq"),
    ),
    "finished": (
        "id command",
        (
            "DELETE FROM {s}.activities USING {v} WHERE activities.instance = v.id"
            " AND activities.execution = 1 AND activities.command = v.command"
        ),
    ),
}


def _prepared(kind: str) -> tuple[list[str], str]:
    names, text = _WRITES[kind]
    columns = names.split()
    arrays = ", ".join(f"?::{array_type(column)}" for column in columns)
    source = f"unnest({arrays}) AS v ({', '.join(columns)})"
    return columns, text.replace("{s}", _SCHEMA).replace("{v}", source)


def raw_postgres(
    url: str, roots: int, *, batch: int = 100, packed: bool = True
) -> dict[str, float]:
    """Write the rows of ``roots`` bench trees (depth 2, everything else 2) into new tables.

    Args:
        url: Of the database; its schema ``trioflow_raw`` is made anew.
        roots: How many trees, all at once.
        batch: How many instances take one step in a commit.
        packed: Send as the backend does; otherwise lists, in a pipeline of psycopg's.

    Returns:
        ``workflows``, ``rows``, ``commits``, ``seconds``, ``rows_per_second`` and
        ``workflows_per_second``.
    """
    writes = {kind: _prepared(kind) for kind in _WRITES}
    commits = commits_of(roots, batch)
    connection = PgConnection(lambda: _connect(url), psycopg.Connection.close, prepare=True)
    try:
        connection.execute(f"DROP SCHEMA IF EXISTS {_SCHEMA} CASCADE")
        migrate(connection, _SCHEMA, "the database")
        start = time.perf_counter()
        for rows in commits:
            (_write_packed if packed else _write_plainly)(connection, writes, rows)
        seconds = time.perf_counter() - start
        count = f"SELECT count(*) FROM {_SCHEMA}.instances WHERE finished_at IS NOT NULL"
        (finished,) = connection.execute(count).fetchone()
    finally:
        connection.close()
    if finished != 15 * roots:
        raise AssertionError(f"{finished} of {15 * roots} workflows ended")
    total = sum(len(values) for rows in commits for values in rows.values())
    return {
        "workflows": finished,
        "rows": total,
        "commits": len(commits),
        "seconds": seconds,
        "rows_per_second": total / seconds,
        "workflows_per_second": finished / seconds,
    }


_Rows = dict[str, list[tuple[Any, ...]]]
_Writes = dict[str, tuple[list[str], str]]


def _write_packed(connection: PgConnection, writes: _Writes, rows: _Rows) -> None:
    statements: list[Statement] = []
    for kind, values in rows.items():
        columns, text = writes[kind]
        given = zip(columns, zip(*values, strict=True), strict=True)
        statements.append((text, [array(column, list(rest)) for column, rest in given]))
    connection.run([("BEGIN", ()), *statements, ("COMMIT", ())])


def _write_plainly(connection: PgConnection, writes: _Writes, rows: _Rows) -> None:
    raw = connection.raw
    with raw.pipeline(), raw.transaction():
        for kind, values in rows.items():
            text = writes[kind][1].replace("?", "%s").encode()
            raw.execute(text, [list(column) for column in zip(*values, strict=True)], prepare=True)


def _connect(url: str) -> psycopg.Connection[Any]:
    connection = psycopg.connect(url, autocommit=True)
    # As the backend does: the tables have no statistics yet.
    connection.execute(
        "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"
    )
    return connection


def main() -> None:
    """Print the figures of one run."""
    roots = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    for packed in (False, True):
        print("as the backend sends it" if packed else "psycopg's lists in a pipeline")
        for name, value in raw_postgres(sys.argv[1], roots, packed=packed).items():
            print(f"{name:>22} {value:12.{3 if name == 'seconds' else 0}f}")


if __name__ == "__main__":
    main()
