"""Streams, seen from outside: what a workflow emits is read from its turns, as these are stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

import msgspec

from trioflow._client.executions import row_of_life
from trioflow._client.waiting import TAKEN_SINCE
from trioflow._codec.limits import check_name
from trioflow._codec.values import Codec, decode_as
from trioflow._model.commands import EmitValue
from trioflow._model.turns import decode_turn
from trioflow.backends.abc import Backend
from trioflow.backends.records import ENDED, InstanceRecord
from trioflow.errors import ArgumentError, CorruptStore, InstanceNotFound

if TYPE_CHECKING:
    from trioflow._client.client import Client

__all__ = ["Emitted", "Stream", "read_stream"]

T = TypeVar("T")

_BATCH = 100
"""How many turns are read at once."""


class Emitted(msgspec.Struct, Generic[T], frozen=True):
    """A value of a stream.

    Attributes:
        value: What the workflow gave to ``emit()``.
        place: Where it stands: ``handle.stream(name, after=place)`` goes on behind it.
    """

    value: T
    place: str


class _Place(NamedTuple):
    """The execution and the turn from which on, and how many values of that turn are left out."""

    execution: int
    turn: int
    seen: int

    def __str__(self) -> str:
        return f"{self.execution}.{self.turn}.{self.seen}"


class Stream:
    """Which stream of an instance is read, as what, and how far.

    Args:
        id: The instance's id.
        name: The stream.
        type_: Of the values.
        after: The place of the last value that was read, or ``None``.
        codec: For the values.
    """

    def __init__(self, id: str, name: str, type_: Any, after: str | None, codec: Codec) -> None:
        self.id = id
        self._place = None if after is None else _read_place(after)
        self._name = check_name(name, "a stream")
        self._type, self._codec = type_, codec

    async def stored(
        self, backend: Backend, record: InstanceRecord
    ) -> AsyncGenerator[Emitted[Any], None]:
        """Give what is stored and was not given before, up to the execution of a row."""
        numbers = await _executions(backend, record)
        place = self._place or _Place(numbers[0], 0, 0)
        while True:
            turns = await backend.turns_from(self.id, place.execution, place.turn, limit=_BATCH)
            for data in turns:
                for each in self._of_turn(data, place):
                    yield each
                place = _Place(place.execution, place.turn + 1, 0)
            if len(turns) < _BATCH:  # what ended before the row was read is stored as a whole
                self._place = place
                later = [number for number in numbers if number > place.execution]
                if not later:
                    return
                place = _Place(later[0], 0, 0)

    def _of_turn(self, data: bytes, place: _Place) -> Iterator[Emitted[Any]]:
        """Give the values of a turn that stand behind a place in it."""
        try:
            commands = decode_turn(data).commands
        except msgspec.MsgspecError as exc:
            raise CorruptStore(
                f"turn {place.turn} of instance {self.id!r} cannot be read: {exc}"
            ) from exc
        mine = [one for one in commands if isinstance(one, EmitValue) and one.stream == self._name]
        for number, command in enumerate(mine, 1):
            if number > place.seen:
                what = f"a value of stream {self._name!r} of instance {self.id!r}"
                value = decode_as(self._codec, bytes(command.value), self._type, what)
                yield Emitted(value, str(place._replace(seen=number)))


async def read_stream(
    client: Client, find: Callable[[], Awaitable[InstanceRecord]], stream: Stream
) -> AsyncGenerator[Emitted[Any], None]:
    """Give the values of a stream, and wait for more until the instance has ended.

    Args:
        client: The client.
        find: Returns the row of the instance, or raises that there is none.
        stream: What is read.
    """
    life: str | None = None
    while True:
        seen = client.backend.changes()
        found = await find()
        record: InstanceRecord | None = found
        if life is not None and found.life != life:
            record = await row_of_life(client.backend, stream.id, life)
        if record is None:
            raise InstanceNotFound(stream.id, f"it has ended, and {TAKEN_SINCE}")
        life = record.life
        async with aclosing(stream.stored(client.backend, record)) as stored:
            async for each in stored:
                yield each
        if record.status in ENDED:
            return
        await client.wait_change(seen)


async def _executions(backend: Backend, record: InstanceRecord) -> list[int]:
    """Return the executions of an instance up to that of its row; without those that were reset."""
    kept = await backend.executions(record.id)
    own = [one.record.execution for one in kept if one.record.life == record.life]
    return [*(number for number in own if number < record.execution), record.execution]


def _read_place(after: object) -> _Place:
    try:
        place = _Place(*map(int, cast("str", after).split(".")))
    except (AttributeError, TypeError, ValueError):
        raise ArgumentError(
            f"after: the `place` of a value of the stream is needed, not {after!r}"
        ) from None
    return place
