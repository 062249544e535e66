"""Round after round on one kind of store, until time is over or a fault was found."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.races.arenas import Arena
from tests.races.plans import Chaos, draw
from tests.races.rounds import Report, run_round

__all__ = ["Tally", "run_rounds"]


@dataclass
class Tally:
    """All rounds on one kind of store."""

    store: str
    rounds: int = 0
    seconds: float = 0.0
    turns: int = 0
    attempts: int = 0
    failed: list[Report] = field(default_factory=list)

    def add(self, report: Report) -> None:
        """Count a round."""
        self.rounds += 1
        self.seconds += report.seconds
        self.turns += report.turns
        self.attempts += report.attempts
        if report.faults:
            self.failed.append(report)

    def __str__(self) -> str:
        seeds = ", ".join(str(report.plan.seed) for report in self.failed)
        return (
            f"{self.store}: {self.rounds} rounds in {self.seconds:.0f} s, {self.turns} turns,"
            f" {self.attempts} attempts, {len(self.failed)} rounds with faults"
            + (f" (seeds {seeds})" if seeds else "")
        )


async def run_rounds(
    arena: Arena,
    *,
    seed: int,
    until: float,
    say: Callable[[str], None],
    rounds: int | None = None,
    chaos: Chaos | None = None,
    keep_going: bool = False,
) -> Tally:
    """Run rounds.

    Args:
        arena: Where.
        seed: Of the first one; those of the others follow it.
        until: No round begins after this time of the monotonic clock.
        say: Is given a line or more after each round.
        rounds: How many at most.
        chaos: What is done in all of them; by default that is drawn.
        keep_going: Whether a fault ends it.
    """
    tally = Tally(arena.kind)
    while time.monotonic() < until and (rounds is None or tally.rounds < rounds):
        plan = draw(seed + tally.rounds, proxied=arena.has_server, chaos=chaos)
        report = await run_round(arena, plan)
        tally.add(report)
        say(f"{arena.kind} {report}")
        if report.faults:
            again = f"python -m tests.races --store {arena.kind} --seed {plan.seed} --rounds 1"
            said = [*(f"  FAULT {fault}" for fault in report.faults), *report.stories]
            say("\n".join([*said, f"  again: {again}"]))
            if not keep_going:
                break
    return tally
