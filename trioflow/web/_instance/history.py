"""A page of a history: the lines that are wanted, with decoded values."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from trioflow import Client
from trioflow._client.description import Undecodable
from trioflow._client.history import readable_fact
from trioflow._codec.values import Codec
from trioflow._model.turns import Turn
from trioflow.web._instance.digest import Digest, read_turn
from trioflow.web._instance.facts import Fact, Line, Wanted, fact_of, things_of

__all__ = ["HistoryPage", "read_page"]

_GONE = Undecodable("it has been removed since")
_NEAR = 8  # turns that are not wanted, but are read with those around them


class HistoryPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some lines of an execution's history.

    Attributes:
        execution: The number of the execution.
        turns: How many turns it has.
        lines: How many lines it has.
        found: How many of them are wanted.
        first: How many of those come before this page.
        backwards: Whether the last line comes first.
        facts: The lines of this page.
    """

    execution: int
    turns: int
    lines: int
    found: int
    first: int
    facts: list[Fact]
    backwards: bool = False


async def read_page(  # noqa: PLR0917 - which, and which part
    client: Client,
    id: str,
    execution: int,
    digest: Digest,
    wanted: Wanted,
    first: int = 0,
    limit: int = 100,
    *,
    backwards: bool = False,
) -> HistoryPage:
    """Read lines of a history.

    Args:
        client: Its codec decodes the values; what it cannot decode is an `Undecodable`.
        id: The instance's id.
        execution: The number of the execution.
        digest: Of that execution.
        wanted: Which lines.
        first: How many of them to leave out.
        limit: How many to give at most.
        backwards: Whether to count from the end.
    """
    found = digest.found(wanted)
    first = min(max(first, 0), max(len(found) - 1, 0))
    ordered = found[::-1] if backwards else found
    lines = ordered[first : first + limit]
    turns = await _turns(client, id, execution, sorted({line.turn for line in lines}))
    return HistoryPage(
        execution=execution,
        turns=digest.turns,
        lines=len(digest.lines),
        found=len(found),
        first=first,
        facts=[_fact(line, turns.get(line.turn, _GONE), client.codec) for line in lines],
        backwards=backwards,
    )


async def _turns(
    client: Client, id: str, execution: int, numbers: Sequence[int]
) -> dict[int, Turn | Undecodable]:
    """Read the turns of these numbers, and few others."""
    turns: dict[int, Turn | Undecodable] = {}
    place = 0
    while place < len(numbers):
        last = place
        while last + 1 < len(numbers) and numbers[last + 1] - numbers[last] <= _NEAR:
            last += 1
        first, limit = numbers[place], numbers[last] - numbers[place] + 1
        read = await client.backend.turns_from(id, execution, first, limit=limit)
        turns.update(enumerate(map(read_turn, read), first))
        place = last + 1
    return turns


def _fact(line: Line, turn: Turn | Undecodable, codec: Codec) -> Fact:
    thing = None
    if isinstance(turn, Turn):
        things = things_of(turn)
        if line.index < len(things):
            thing = readable_fact(things[line.index], codec)
    return fact_of(line, turn, thing)
