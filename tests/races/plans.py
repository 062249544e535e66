"""What one round is, drawn from its seed: workers, chaos, and what clients do."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.races.flows import OTHER_QUEUE

__all__ = ["CHAOS", "Chaos", "Plan", "draw"]

Chaos = Literal["none", "kill", "term", "stop", "stall", "drop", "half-open"]

CHAOS: tuple[Chaos, ...] = ("none", "kill", "term", "stop", "stall", "drop", "half-open")
_WORKERS = 3
_OF_PROXIES = ("stall", "drop", "half-open")


@dataclass(frozen=True)
class Plan:
    """One round.

    Attributes:
        seed: What it was drawn from, and the clients' calls are.
        chaos: What is done to workers or their connections meanwhile.
        workers: The options of each.
        ids: How many ids the clients choose from; fewer ids meet more often.
        clients: How many do something at once.
        active: For how long they do, seconds.
        lease: Of the workers, seconds.
    """

    seed: int
    chaos: Chaos
    workers: list[dict[str, Any]] = field(repr=False)
    ids: int
    clients: int
    active: float
    lease: float

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.chaos}, {self.ids} ids, {self.clients} clients"


def draw(seed: int, *, proxied: bool, chaos: Chaos | None = None) -> Plan:
    """Draw a round.

    Args:
        seed: The same seed gives the same round.
        proxied: Whether a proxy can stand between workers and their server.
        chaos: What is to be done to it; by default that is drawn as well.
    """
    chance = random.Random(seed)
    drawn = chance.choice([one for one in CHAOS if proxied or one not in _OF_PROXIES])
    lease = 1.5
    both = chance.sample(range(_WORKERS), chance.choice((1, 1, 2)))
    workers = [
        {
            "host": chance.choice(("trio", "trio", "asyncio")),
            "max_activities": chance.choice((3, 1000)),
            "max_instances": chance.choice((3, 1000)),
            "cache_size": chance.choice((0, 1, 2, 1000)),
            "max_threads": chance.choice((2, 40)),
            "sticky": chance.choice((0.0, 0.5)),
            "lease": lease,
            "drain": chance.choice((0.1, 1.0)),
            "queues": ["default", OTHER_QUEUE] if number in both else ["default"],
        }
        for number in range(_WORKERS)
    ]
    return Plan(
        seed=seed,
        chaos=chaos or drawn,
        workers=workers,
        ids=chance.choice((3, 8, 20)),
        clients=chance.choice((2, 4, 12)),
        active=2.5,
        lease=lease,
    )
