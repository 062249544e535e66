"""The SQLite store."""

from __future__ import annotations

from trioflow.backends.sqlite.backend import SqliteBackend

__all__ = ["SqliteBackend"]
