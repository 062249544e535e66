"""The rows of the bench tree, commit by commit, as if a worker had run it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["COUNTS", "Rows", "commits_of"]

Rows = dict[str, list[tuple[Any, ...]]]
"""The rows of a commit by what is done with them.

``instance`` (id, workflow, parent, parent's execution and command, input, time) and ``turn`` (id,
number, data) are inserted, so are ``activity`` (instance, command, input, times when visible and
scheduled) and ``message`` (instance, number, event). ``notify`` (time, id), ``take`` (id) and
``close`` (outcome, time, id) change an instance; ``consumed`` (instance, number) and ``finished``
(instance, command) delete a message and an activity.
"""

COUNTS = (
    "SELECT (SELECT count(*) FROM instances WHERE finished_at IS NOT NULL),"
    " (SELECT count(*) FROM inbox) + (SELECT count(*) FROM activities)"
)
"""What `RawWriter.counts` returns, as SQL."""

_INPUT = b"[1,2,2,2,100]"
_TURN = b'{"now":1700000000.0,"events":[%s],"commands":[%s]}' % (b"x" * 150, b"x" * 200)
_RESULTS = b'{"now":1700000000.0,"events":[%s]}' % (b"x" * 400)
_EVENT = b'{"event":"child completed","id":"0.0:0","result":null}'
_NOW = 1_700_000_000.0


def commits_of(roots: int, batch: int) -> list[Rows]:
    """Return the rows of each commit.

    Args:
        roots: How many trees.
        batch: How many instances take one step in a commit.
    """
    return [rows for step in _steps(roots) for rows in _batches(step, batch)]


def _steps(roots: int) -> Iterator[list[Rows]]:
    """Yield the tree's levels as they take their steps, one `Rows` for each instance."""
    levels = [[(f"root-{number}", "") for number in range(roots)]]
    for _ in range(3):
        above = [id for id, _ in levels[-1]]
        levels.append([(f"{id}/0.{n}:0", id) for id in above for n in range(2)])
    for depth, level in enumerate(levels):
        yield [_born(id, parent, leaf=depth == 3) for id, parent in level]
    seq = 0
    inboxes: dict[str, list[int]] = {}
    for level in reversed(levels):
        ended: list[Rows] = []
        sent: dict[str, list[int]] = {}
        for id, parent in level:
            ended.append(_ended(id, parent, seq, inboxes.get(id, [])))
            sent.setdefault(parent, []).append(seq)
            seq += 1
        yield ended
        inboxes = sent
        if "" not in sent:
            yield [{"take": [(parent,)]} for parent in sent]


def _born(id: str, parent: str, *, leaf: bool) -> Rows:
    ref: tuple[Any, ...] = (parent, 1, "0.0:0") if parent else (None, None, None)
    rows: Rows = {
        "instance": [(id, "leaf" if leaf else "mid", *ref, _INPUT, _NOW)],
        "turn": [(id, 0, _TURN)],
    }
    if leaf:
        rows["activity"] = [(id, f"0.{n}:0", b"[100]", _NOW, _NOW) for n in range(2)]
    return rows


def _ended(id: str, parent: str, seq: int, consumed: list[int]) -> Rows:
    rows: Rows = {"close": [(b"null", _NOW, id)], "turn": [(id, 1, _RESULTS)]}
    if consumed:
        rows["consumed"] = [(id, number) for number in consumed]
    else:
        rows["finished"] = [(id, f"0.{n}:0") for n in range(2)]
    if parent:
        rows["message"] = [(parent, seq, _EVENT)]
        if seq % 2 == 0:
            rows["notify"] = [(_NOW, parent)]
    return rows


def _batches(step: Iterable[Rows], batch: int) -> Iterator[Rows]:
    units = list(step)
    for at in range(0, len(units), batch):
        merged: Rows = {}
        for unit in units[at : at + batch]:
            for kind, values in unit.items():
                merged.setdefault(kind, []).extend(values)
        yield merged
