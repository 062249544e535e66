"""The limit to compare with: the rows of the bench tree, written with no engine.

The same tables, the same numbers of rows inserted, updated and deleted, in commits of the same
size; but plain ``executemany``, nothing checked, nothing read, nothing encoded.

Run it: ``python benchmarks/raw_writer.py [roots]``.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from trioflow.backends.sqlite_dialect import connect
from trioflow.backends.sqlite_schema import migrate

__all__ = ["commits_of", "raw_sqlite"]

_INPUT = b"[1,2,2,2,100]"
_TURN = b'{"now":1700000000.0,"events":[%s],"commands":[%s]}' % (b"x" * 150, b"x" * 200)
_RESULTS = b'{"now":1700000000.0,"events":[%s]}' % (b"x" * 400)
_EVENT = b'{"event":"child completed","id":"0.0:0","result":null}'
_NOW = 1_700_000_000.0

_SQL = {
    "instance": "INSERT INTO instances (id, execution, workflow, queue, status, parent,"
    " parent_execution, parent_command, turns, events, worker, input, metadata, created_at)"
    " VALUES (?, 1, ?, 'default', 'running', ?, ?, ?, 1, 3, 'w', ?, x'', ?)",
    "turn": "INSERT INTO turns VALUES (?, 1, ?, ?)",
    "activity": "INSERT INTO activities (instance, execution, command, queue, activity, input,"
    " options, visible_at, scheduled_at, worker)"
    " VALUES (?, 1, ?, 'default', 'echo', ?, x'', ?, ?, 'w')",
    "message": "INSERT INTO inbox VALUES (?, ?, 1, ?)",
    "notify": "UPDATE instances SET unread = unread + 2, ready_at = ? WHERE id = ?",
    "take": "UPDATE instances SET ready_at = NULL WHERE id = ?",
    "close": "UPDATE instances SET status = 'completed', outcome = ?, finished_at = ?, turns = 2,"
    " unread = 0, worker = NULL, sticky_worker = NULL WHERE id = ?",
    "consumed": "DELETE FROM inbox WHERE instance = ? AND seq = ?",
    "finished": "DELETE FROM activities WHERE instance = ? AND execution = 1 AND command = ?",
}

_Rows = dict[str, list[tuple[Any, ...]]]


def raw_sqlite(path: str, roots: int, *, batch: int = 100) -> dict[str, float]:
    """Write the rows of ``roots`` bench trees (depth 2, everything else 2) into a new file.

    Args:
        path: Of the file; it must not exist.
        roots: How many trees, all at once.
        batch: How many instances take one step in a commit.

    Returns:
        ``workflows``, ``rows``, ``commits``, ``seconds``, ``rows_per_second`` and
        ``workflows_per_second``.
    """
    connection = connect(path)
    try:
        migrate(connection, path)
        steps = commits_of(roots, batch)
        start = time.perf_counter()
        for rows in steps:
            _write(connection, rows)
        seconds = time.perf_counter() - start
        finished = connection.execute(
            "SELECT count(*) FROM instances WHERE finished_at IS NOT NULL"
        ).fetchone()[0]
        left = connection.execute(
            "SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM activities)"
        ).fetchone()[0]
    finally:
        connection.close()
    if finished != 15 * roots or left:
        raise AssertionError(f"{finished} of {15 * roots} workflows ended, {left} rows were left")
    total = sum(len(values) for rows in steps for values in rows.values())
    return {
        "workflows": finished,
        "rows": total,
        "commits": len(steps),
        "seconds": seconds,
        "rows_per_second": total / seconds,
        "workflows_per_second": finished / seconds,
    }


def commits_of(roots: int, batch: int) -> list[dict[str, list[tuple[Any, ...]]]]:
    """Return the rows of each commit by what is done with them, `_SQL` in words."""
    return [rows for step in _steps(roots) for rows in _batches(step, batch)]


def _write(connection: sqlite3.Connection, rows: _Rows) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for kind, values in rows.items():
        connection.executemany(_SQL[kind], values)
    connection.execute("COMMIT")


def _steps(roots: int) -> Iterator[list[_Rows]]:
    """Yield the tree's levels as they take their steps, one `_Rows` for each instance."""
    levels = [[(f"root-{number}", "") for number in range(roots)]]
    for _ in range(3):
        above = [id for id, _ in levels[-1]]
        levels.append([(f"{id}/0.{n}:0", id) for id in above for n in range(2)])
    for depth, level in enumerate(levels):
        yield [_born(id, parent, leaf=depth == 3) for id, parent in level]
    seq = 0
    inboxes: dict[str, list[int]] = {}
    for level in reversed(levels):
        ended: list[_Rows] = []
        sent: dict[str, list[int]] = {}
        for id, parent in level:
            ended.append(_ended(id, parent, seq, inboxes.get(id, [])))
            sent.setdefault(parent, []).append(seq)
            seq += 1
        yield ended
        inboxes = sent
        if "" not in sent:
            yield [{"take": [(parent,)]} for parent in sent]


def _born(id: str, parent: str, *, leaf: bool) -> _Rows:
    ref: tuple[Any, ...] = (parent, 1, "0.0:0") if parent else (None, None, None)
    rows: _Rows = {
        "instance": [(id, "leaf" if leaf else "mid", *ref, _INPUT, _NOW)],
        "turn": [(id, 0, _TURN)],
    }
    if leaf:
        rows["activity"] = [(id, f"0.{n}:0", b"[100]", _NOW, _NOW) for n in range(2)]
    return rows


def _ended(id: str, parent: str, seq: int, consumed: list[int]) -> _Rows:
    rows: _Rows = {"close": [(b"null", _NOW, id)], "turn": [(id, 1, _RESULTS)]}
    if consumed:
        rows["consumed"] = [(id, number) for number in consumed]
    else:
        rows["finished"] = [(id, f"0.{n}:0") for n in range(2)]
    if parent:
        rows["message"] = [(parent, seq, _EVENT)]
        if seq % 2 == 0:
            rows["notify"] = [(_NOW, parent)]
    return rows


def _batches(step: Iterable[_Rows], batch: int) -> Iterator[_Rows]:
    units = list(step)
    for at in range(0, len(units), batch):
        merged: _Rows = {}
        for unit in units[at : at + batch]:
            for kind, values in unit.items():
                merged.setdefault(kind, []).extend(values)
        yield merged


def main() -> None:
    """Print the figures of one run."""
    roots = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory(dir=".") as directory:
        for name, value in raw_sqlite(str(Path(directory) / "raw.db"), roots).items():
            print(f"{name:>22} {value:12.3f}" if name == "seconds" else f"{name:>22} {value:12.0f}")


if __name__ == "__main__":
    main()
