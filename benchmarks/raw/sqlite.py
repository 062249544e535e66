"""Rows for SQLite, by ``executemany``."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from benchmarks.raw.rows import COUNTS, Rows
from trioflow.backends.sqlite.dialect import connect
from trioflow.backends.sqlite.schema import SqliteMigrations

__all__ = ["SqliteWriter"]

_SQL = {
    "instance": "INSERT INTO instances (id, execution, workflow, queue, status, parent,"
    " parent_execution, parent_command, turns, events, worker, input, metadata, created_at)"
    " VALUES (?, 1, ?, 'default', 'running', ?, ?, ?, 1, 3, 'w', ?, x'', ?)",
    "turn": "INSERT INTO turns VALUES (?, 1, ?, ?)",
    "activity": "INSERT INTO activities (instance, execution, command, queue, activity, input,"
    " options, visible_at, scheduled_at, worker)"
    " VALUES (?, 1, ?, 'default', 'echo', ?, x'', ?, ?, 'w')",
    "message": "INSERT INTO inbox (instance, seq, execution, event) VALUES (?, ?, 1, ?)",
    "notify": "UPDATE instances SET unread = unread + 2, ready_at = ? WHERE id = ?",
    "take": "UPDATE instances SET ready_at = NULL WHERE id = ?",
    "close": "UPDATE instances SET status = 'completed', outcome = ?, finished_at = ?, turns = 2,"
    " unread = 0, worker = NULL, sticky_worker = NULL WHERE id = ?",
    "consumed": "DELETE FROM inbox WHERE instance = ? AND seq = ?",
    "finished": "DELETE FROM activities WHERE instance = ? AND execution = 1 AND command = ?",
}


class SqliteWriter:
    """Writes into a file beside the store's."""

    def __init__(self, url: str) -> None:
        self._path = Path(unquote(urlsplit(url).path[1:]) + "-raw")
        self._path.unlink(missing_ok=True)
        self._connection = connect(str(self._path))
        SqliteMigrations(str(self._path)).apply(self._connection)

    def commit(self, rows: Rows) -> None:
        """Write the rows of one commit."""
        self._connection.execute("BEGIN IMMEDIATE")
        for kind, values in rows.items():
            self._connection.executemany(_SQL[kind], values)
        self._connection.execute("COMMIT")

    def counts(self) -> tuple[int, int]:
        """Return how many instances have ended, and how many messages and activities are left."""
        ended, left = self._connection.execute(COUNTS).fetchone()
        return ended, left

    def close(self) -> None:
        """Remove the file."""
        self._connection.close()
        self._path.unlink()
