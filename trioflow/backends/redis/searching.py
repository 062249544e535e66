"""How a search goes through instances: all of them, or those that may be in trouble."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec

from trioflow.backends.filters import InstanceFilter
from trioflow.backends.redis import wire

__all__ = ["LOOK_AT_MOST", "Search", "unpack_texts"]

LOOK_AT_MOST = 1000
"""So few instances that no script keeps the server to itself for long."""

# Of what waits, no rows are read.
_GATHER_AT_MOST = 2000


class Search:
    """Where a search stands, and among which instances it goes on.

    The newest come first. What may be in trouble stands in sets of another order, so it is
    gathered, a part at a time, and then nothing else is looked at. That takes long if it is much,
    and what is meant may be among the newest of all instances. So these are looked through
    meanwhile, and from where that has come to, the search goes on when all is gathered.

    Args:
        where: What is meant.
        read: Calls a script that changes nothing, and returns its reply.
        after: The last instance of the page before.

    Attributes:
        done: Whether there is nothing left to look at.
    """

    def __init__(
        self,
        where: InstanceFilter,
        read: Callable[..., Awaitable[Any]],
        after: str | None = None,
    ) -> None:
        self.done = False
        self._where = where
        self._packed = wire.pack_filter(where)
        self._read = read
        self._before = "+inf" if after is None else ""
        self._after = after or ""
        self._gathering = where.trouble not in {None, "suspended"}
        self._onwards = b""
        self._seqs: dict[str, int] = {}
        self._left: list[tuple[int, str]] | None = None  # the newest last

    async def look(
        self,
        size: int,
        *,
        fields: bytes = b"",
        limit: int = -1,
        by: str = "",
        attribute: bool = False,
    ) -> list[Any] | None:
        """Look at the next ones, ``size`` of them at most.

        Returns:
            What the script ``select`` found; ``None`` if there is no such instance as ``after``.
        """
        await self._gather()
        some = None if self._left is None else self._left[-size:]
        packed = b"" if some is None else wire.pack([id for _, id in some])
        place = (self._before, self._after, by, int(attribute), packed)
        found = await self._read("select", self._packed, fields, limit, size, *place)
        if found == b"gone":
            return None
        onwards, *rest = cast("list[Any]", found)
        if self._left is None:
            self._before, self._after = f"({onwards.decode()}", ""
            self.done = not onwards
        else:
            del self._left[-size:]
            self.done = not self._left
        return rest

    async def _gather(self) -> None:
        """Gather what may be in trouble until it is much, and then one part more."""
        kind, seconds = self._where.trouble, repr(float(self._where.trouble_after))
        size = LOOK_AT_MOST if kind == "held" else _GATHER_AT_MOST
        while self._gathering:
            wanted = (kind, seconds, size, self._onwards, "")
            self._onwards, ids, seqs = await self._read("find_troubles", *wanted)
            self._seqs.update(zip(unpack_texts(ids), _unpack_numbers(seqs), strict=True))
            if not self._onwards:
                self._gathering = False
                self._left = self._older()
            elif len(self._seqs) > LOOK_AT_MOST:
                break

    def _older(self) -> list[tuple[int, str]]:
        """Return what has been gathered and not been looked at yet, the newest last."""
        last = self._seqs.get(self._after, float(self._before.removeprefix("(") or "inf"))
        return sorted((seq, id) for id, seq in self._seqs.items() if seq < last)


unpack_texts = msgspec.msgpack.Decoder(list[str]).decode
_unpack_numbers = msgspec.msgpack.Decoder(list[int]).decode
