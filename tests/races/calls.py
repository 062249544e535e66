"""What the clients of a round do at random, and what they were told."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import trio

from tests.races.flows import DRAINERS, SHAPES, drains, numbers
from tests.races.plans import Plan
from trioflow import (
    Client,
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceNotFinished,
    InstanceNotFound,
    InstanceTerminated,
    TrioflowError,
)

__all__ = ["Calls", "Told", "drainer"]

_EXPECTED = (
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceNotFinished,
    InstanceNotFound,
    InstanceTerminated,
)
_WEIGHTS = {
    "start": 8,
    "signal": 6,
    "drain": 6,
    "cancel": 4,
    "terminate": 2,
    "again": 2,
    "resume": 2,
    "remove": 2,
    "look": 2,
}


def drainer(number: int) -> str:
    """Return the id of one that drains its signals."""
    return f"drains-{number}"


@dataclass
class Told:
    """What clients were told.

    Attributes:
        accepted: Values of signals that were accepted, by the id of whom they were for.
        started: Tokens of what was started and not ended by a client, by id.
        ending: How many calls that may end what has an id are under way.
        ended: How many there were.
        calls: How many calls of each kind succeeded.
        errors: Calls that raised what no call should: the server was there all the time.
    """

    accepted: dict[str, list[int]] = field(default_factory=dict)
    started: dict[str, list[str]] = field(default_factory=dict)
    ending: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


class Calls:
    """The clients of a round; they speak to the server without a proxy."""

    def __init__(self, client: Client, plan: Plan) -> None:
        self.told = Told()
        self._client = client
        self._plan = plan
        self._numbers = count(1)

    async def run(self, slowness: float) -> None:
        """Do random things for as long as the plan says, times ``slowness``."""
        end = trio.current_time() + self._plan.active * slowness
        async with trio.open_nursery() as nursery:
            for number in range(self._plan.clients):
                chance = random.Random(f"{self._plan.seed} {number}")
                nursery.start_soon(self._one, chance, end)

    async def _one(self, chance: random.Random, end: float) -> None:
        while trio.current_time() < end:
            (what,) = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
            id = f"race-{chance.randrange(self._plan.ids)}"
            try:
                await getattr(self, f"_{what}")(id, chance)
                self.told.calls[what] += 1
            except _EXPECTED:
                pass
            except TrioflowError as exc:
                self.told.errors.append(f"{what} of {id} raised {exc!r}")
            await trio.sleep(chance.expovariate(1 / 0.02))

    def _token(self) -> str:
        return f"t{next(self._numbers)}"

    async def _start(self, id: str, chance: random.Random) -> None:
        shape = chance.choice(SHAPES)
        token = self._token()
        ended = self.told.ended[id]
        begun = shape.options(id=id, priority=chance.choice((-7, 0, 0, 0, 7)))
        await self._client.start(begun, token, chance.randint(1, 4))
        self._note_start(id, token, ended)

    async def _signal(self, id: str, chance: random.Random) -> None:
        await self._client.handle(id).signal(numbers, chance.randrange(10**6))

    async def _drain(self, _: str, chance: random.Random) -> None:
        """Send to one that drains what it gets; start it if it is not there."""
        id = drainer(chance.randrange(DRAINERS))
        value = next(self._numbers)
        try:
            await self._client.handle(id).signal(numbers, value)
        except (InstanceFinished, InstanceNotFound):
            token = self._token()
            ended = self.told.ended[id]
            await self._client.start(drains.options(id=id), token, [])
            self._note_start(id, token, ended)
            return
        self.told.accepted.setdefault(id, []).append(value)

    async def _cancel(self, id: str, chance: random.Random) -> None:
        with self._ending(id):
            await self._client.handle(id).cancel("a race")

    async def _terminate(self, id: str, chance: random.Random) -> None:
        with self._ending(id):
            await self._client.handle(id).terminate("a race")

    @contextlib.contextmanager
    def _ending(self, id: str) -> Iterator[None]:
        """Expect nothing of what was started under an id: it may end before it has begun."""
        self.told.ending[id] += 1
        try:
            yield
        finally:
            self.told.ending[id] -= 1
            self.told.ended[id] += 1
            self.told.started.pop(id, None)

    def _note_start(self, id: str, token: str, ended: int) -> None:
        """Expect what was started, unless another client may have ended it before this was told."""
        if not self.told.ending[id] and self.told.ended[id] == ended:
            self.told.started.setdefault(id, []).append(token)

    async def _again(self, id: str, chance: random.Random) -> None:
        """End one and start another with its id at once."""
        await self._terminate(id, chance)
        if chance.random() < 0.5:
            await self._remove(id, chance)
        await self._start(id, chance)

    async def _resume(self, id: str, chance: random.Random) -> None:
        await self._client.handle(id).resume()

    async def _remove(self, id: str, chance: random.Random) -> None:
        with self._ending(id):
            await self._client.handle(id).remove()

    async def _look(self, id: str, chance: random.Random) -> None:
        await self._client.handle(id).describe()
        await self._client.handle(id).history()
        await self._client.list(limit=10)
