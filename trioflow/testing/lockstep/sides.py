"""Call the model and the stores side by side, and compare the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from trioflow.backends.abc import Backend
from trioflow.backends.commits import CommitFailure, Unit
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import InstanceRecord, RequestKey, TakenInstance
from trioflow.errors import InstanceNotFound, LeaseLost
from trioflow.testing.lockstep.comparing import comparable, difference, in_order, inbox
from trioflow.testing.lockstep.facts import Clock
from trioflow.testing.lockstep.plans import REQUESTS

__all__ = ["ALL", "MANY", "Each", "Place", "Shape", "Side", "Sides", "plain"]

ALL = InstanceFilter()
MANY = 1000

Shape: TypeAlias = Callable[[Any, Any], Any]
"""Given an answer and the model's, returns what must be equal."""

# An instance and its execution.
_Inbox: TypeAlias = tuple[str, int]
# What a call may raise when all is well.
_EXPECTED = (LeaseLost, InstanceNotFound)
_UNKNOWN_SEQ = 10**12


@dataclass(frozen=True)
class Place:
    """An inbox row, whatever its number: of those last seen, or of those consumed before."""

    instance: str
    execution: int
    index: int
    consumed: bool = False


@dataclass
class Side:
    """One store, and the numbers that it has given to inbox rows."""

    name: str
    backend: Backend
    seen: dict[_Inbox, list[int]] = field(default_factory=dict[_Inbox, list[int]])
    consumed: dict[_Inbox, list[int]] = field(default_factory=dict[_Inbox, list[int]])

    def see(self, taken: Iterable[TakenInstance]) -> None:
        """Learn the numbers of what is in inboxes."""
        for one in taken:
            self.seen[one.id, one.execution] = [message.seq for message in inbox(one.inbox)]

    def numbered(
        self, units: Sequence[Unit], places: Mapping[str, Sequence[Place | None]]
    ) -> list[Unit]:
        """Return units with this store's numbers of what each instance consumes."""
        return [
            msgspec.structs.replace(
                unit,
                instances=[
                    msgspec.structs.replace(
                        commit, consumed=[self._seq(place) for place in places.get(commit.id, ())]
                    )
                    for commit in unit.instances
                ],
            )
            for unit in units
        ]

    def _seq(self, place: Place | None) -> int:
        if place is None:
            return _UNKNOWN_SEQ
        rows = self.consumed if place.consumed else self.seen
        return rows[place.instance, place.execution][place.index]

    def consume(self, units: Sequence[Unit], results: Sequence[CommitFailure | None]) -> None:
        """Learn what was consumed by units of this store's."""
        for unit, failure in zip(units, results, strict=True):
            for commit in unit.instances if failure is None else ():
                key = commit.id, commit.execution
                gone = set(commit.consumed)
                self.consumed.setdefault(key, []).extend(commit.consumed)
                self.seen[key] = [seq for seq in self.seen.get(key, []) if seq not in gone]


@dataclass(frozen=True)
class Each:
    """An argument that each store has its own of."""

    of: Callable[[Side], Any]


def plain(answer: Any, _: Any) -> Any:
    """Return what of most answers must be equal."""
    return comparable(answer)


class Sides:
    """Calls them all, one after the other, and demands the same answers.

    Args:
        clock: The model's; it goes on with every call.
        sides: The model first.
    """

    def __init__(self, clock: Clock, sides: Sequence[Side]) -> None:
        self.clock = clock
        self.sides = sides
        self.calls: list[str] = []

    @property
    def model(self) -> Side:
        """The one that the others are compared with."""
        return self.sides[0]

    async def call(
        self,
        method: str,
        *args: Any,
        shape: Shape = plain,
        **options: Any,
    ) -> list[Any]:
        """Call a method of every store.

        Args:
            method: Its name.
            args: Its arguments; see `Each`.
            shape: What of the answers must be equal.
            options: Its keyword arguments; see `Each`.

        Returns:
            The answer of each, or the class of what was raised.

        Raises:
            AssertionError: Not all answers are the same.
        """
        self.clock.now += 1.0
        answers: list[Any] = []
        for side in self.sides:
            given = [_own(arg, side) for arg in args]
            named = {name: _own(value, side) for name, value in options.items()}
            if side is self.model:
                self.calls.append(_written(method, given, named))
            try:
                answer = getattr(side.backend, method)(*given, **named)
                answers.append(answer if method == "heartbeat" else await answer)
            except _EXPECTED as exc:
                answers.append(type(exc))
            except Exception as exc:
                exc.add_note(f"raised by {side.name}\n{self.story()}")
                raise
        expected = answers[0]
        shapes = [
            answer if isinstance(answer, type) else shape(answer, expected) for answer in answers
        ]
        for side, found in zip(self.sides, shapes, strict=True):
            if found != shapes[0]:
                raise self._differs(side, "answers", shapes[0], found)
        return answers

    async def look(self) -> tuple[list[InstanceRecord], dict[str, Any]]:
        """Demand that all that can be seen is the same; return the rows and the activities."""
        views = [await _view(side.backend) for side in self.sides]
        records, activities = views[0]["list"], views[0]["activities"]
        ranks = {record.id: (-record.created_at,) for record in records}
        for view in views:
            view["list"] = in_order(view["list"], lambda record: record.id, ranks)
        expected = comparable(views[0])
        for side, view in zip(self.sides, views, strict=True):
            found = comparable(view)
            if found != expected:
                raise self._differs(side, "is left", expected, found)
        return records, activities

    def _differs(self, side: Side, how: str, expected: Any, found: Any) -> AssertionError:
        return AssertionError(
            f"{side.name} {how} not as the model: {difference(expected, found)}\n{self.story()}"
        )

    def story(self) -> str:
        """Return the calls until now, as they could be repeated."""
        return "\n".join(["after these calls:", *(f"  {call}" for call in self.calls)])


def _own(value: Any, side: Side) -> Any:
    return value.of(side) if isinstance(value, Each) else value


def _written(method: str, args: Sequence[Any], options: Mapping[str, Any]) -> str:
    written = [*map(repr, args), *(f"{name}={value!r}" for name, value in options.items())]
    return f"{method}({', '.join(written)})"


async def _view(backend: Backend) -> dict[str, Any]:
    records = await backend.list(ALL, limit=MANY)
    ids = sorted(record.id for record in records)
    executions = {record.id: record.execution for record in records}
    return {
        "list": records,
        "turns": dict(
            zip(ids, await backend.load([(id, executions[id]) for id in ids]), strict=True)
        ),
        "answers": await backend.answers(
            [RequestKey(each.id, each.life, one) for each in records for one in REQUESTS]
        ),
        "activities": {id: await backend.activities(id) for id in ids},
        "stats": await backend.stats(),
        "workers": await backend.workers(),
    }
