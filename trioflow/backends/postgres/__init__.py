"""The PostgreSQL store."""

from __future__ import annotations

from trioflow.backends.postgres.backend import PostgresBackend

__all__ = ["PostgresBackend"]
