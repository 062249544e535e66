"""What type checkers say of moving a store."""

from __future__ import annotations

from typing import assert_type

from trioflow import MoveProblem, MoveReport, StoreFenced, StoreMove
from trioflow.backends import MemoryBackend


async def moving(source: MemoryBackend) -> None:
    move = StoreMove(source, "sqlite:///new.db", unfinished_only=True)
    assert_type(move.source, str)
    assert_type(move.destination, str)
    report = assert_type(await move.check(), MoveReport)
    assert_type(report.problems, list[MoveProblem])
    assert_type(report.problems[0].instance, str | None)
    try:
        assert_type(await move.run(told=lambda each: each.moved), MoveReport)
    except StoreFenced:
        assert_type(await move.abort(), None)
