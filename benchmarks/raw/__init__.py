"""The limits to compare with: the rows of the bench tree, written with no engine.

The same tables, the same numbers of rows inserted, updated and deleted, in commits of the same
size, sent as the store sends them; but nothing checked, nothing read, nothing encoded. Each writes
beside what is stored, into tables of its own, which it makes anew and removes.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from contextlib import closing
from typing import Protocol

from benchmarks.raw.rows import Rows, commits_of
from benchmarks.stores import kind_of

__all__ = ["RawWriter", "has_writer", "raw_speed"]


class RawWriter(Protocol):
    """Writes into empty tables; made with the URL of the store."""

    def commit(self, rows: Rows) -> None:
        """Write the rows of one commit, and commit."""

    def counts(self) -> tuple[int, int]:
        """Return how many instances have ended, and how many messages and activities are left."""
        ...

    def close(self) -> None:
        """Remove what was written."""


# Their modules are loaded when they are needed, since drivers are optional.
_WRITERS = {
    "sqlite": ("sqlite", "SqliteWriter"),
    "postgres": ("postgres", "PostgresWriter"),
    "mariadb": ("mysql", "MysqlWriter"),
    "redis": ("redis", "RedisWriter"),
}


def has_writer(url: str) -> bool:
    """Whether somebody can write such rows there."""
    return kind_of(url) in _WRITERS


def raw_speed(url: str, roots: int, batch: int = 100) -> float:
    """Write the rows of bench trees (depth 2, everything else 2), all trees at once.

    Args:
        url: Of the store.
        roots: How many trees.
        batch: How many instances take one step in a commit.

    Returns:
        Workflows per second.
    """
    module, name = _WRITERS[kind_of(url)]
    writer: Callable[[str], RawWriter]
    writer = getattr(importlib.import_module(f"benchmarks.raw.{module}"), name)
    commits = commits_of(roots, batch)
    with closing(writer(url)) as raw:
        start = time.perf_counter()
        for rows in commits:
            raw.commit(rows)
        seconds = time.perf_counter() - start
        ended, left = raw.counts()
    if ended != 15 * roots or left:
        raise AssertionError(f"{ended} of {15 * roots} workflows ended, {left} rows were left")
    return ended / seconds
