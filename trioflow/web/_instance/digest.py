"""What is kept of a history between two looks at it: where everything stands, without the values.

Turns are only ever added to an execution. So what was read once need not be read again: a page that
looks every few seconds at 50,000 events reads those that are new, and the turns that it shows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final
from weakref import WeakKeyDictionary

import anyio

from trioflow import Client
from trioflow._client.description import Undecodable
from trioflow._model.turns import Turn, decode_turn
from trioflow.web._instance.facts import Line, Wanted, lines_of
from trioflow.web._instance.timeline import Reader

__all__ = ["Digest", "digest_of", "read_turn"]

_CHUNK: Final = 200  # turns that are read at once
_KEPT: Final = 400_000  # lines of all histories that are kept


class Digest:
    """An execution's history, without the values.

    Attributes:
        turns: How many turns were read.
        lines: A line for each event, command and outcome.
        reader: What the timeline is made of.
        names: The names of commands, by their ids.
        lock: Is held by who reads further.
    """

    def __init__(self) -> None:
        self.turns = 0
        self.lines: list[Line] = []
        self.reader = Reader()
        self.names: dict[str, str] = {}
        self.lock = anyio.Lock()

    def add(self, stored: Sequence[bytes]) -> None:
        """Read the next turns."""
        for data in stored:
            turn = read_turn(data)
            self.reader.read(self.turns, turn)
            self.lines += lines_of(self.turns, turn, self.names)
            self.turns += 1

    def found(self, wanted: Wanted) -> list[Line]:
        """Return the lines that are wanted."""
        if wanted.everything:
            return self.lines
        return [line for line in self.lines if wanted.means(line)]

    def place(self, turn: int, wanted: Wanted) -> int:
        """Return how many of the wanted lines come before a turn."""
        return sum(line.turn < turn for line in self.found(wanted))


def read_turn(data: bytes) -> Turn | Undecodable:
    """Read a stored turn; its values stay as they are stored."""
    try:
        return decode_turn(data)
    except Exception as exc:  # noqa: BLE001 - bytes of any kind
        return Undecodable(str(exc) or type(exc).__name__)


_Digests = OrderedDict[tuple[str, str, int], Digest]
_kept: WeakKeyDictionary[Client, _Digests] = WeakKeyDictionary()


async def digest_of(client: Client, id: str, life: str, execution: int) -> Digest:
    """Return what is known of an execution's history now, all turns that are stored included."""
    digests = _kept.setdefault(client, OrderedDict())
    key = (id, life, execution)
    digest = digests.get(key)
    if digest is None:
        digest = digests[key] = Digest()
    async with digest.lock:  # another request may be reading the same
        while True:
            stored = await client.backend.turns_from(id, execution, digest.turns, limit=_CHUNK)
            digest.add(stored)
            if len(stored) < _CHUNK:
                break
    if key in digests:
        digests.move_to_end(key)
    while len(digests) > 1 and sum(len(each.lines) for each in digests.values()) > _KEPT:
        digests.popitem(last=False)
    return digest
