"""Races at random: ``python -m tests.races --store postgresql --minutes 120``.

A round that fails is printed with its seed; ``--seed N --rounds 1`` draws the same one again.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

import trio

from tests.races.arenas import STORES, Arena
from tests.races.campaign import Tally, run_rounds
from tests.races.plans import CHAOS


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.races", description=__doc__)
    parser.add_argument("--store", action="append", choices=STORES, help="all, if not given")
    parser.add_argument("--minutes", type=float, default=5.0, help="for each store")
    parser.add_argument("--rounds", type=int, help="at most so many for each store")
    parser.add_argument("--seed", type=int, help="of the first round; drawn, if not given")
    parser.add_argument("--chaos", choices=CHAOS, help="drawn for each round, if not given")
    parser.add_argument("--keep-going", action="store_true", help="after a fault")
    given = parser.parse_args()
    seed = random.randrange(10**6) if given.seed is None else given.seed
    failed = False
    for store in given.store or STORES:
        with Arena(store) as arena:
            tally: Tally = trio.run(
                lambda arena=arena: run_rounds(
                    arena,
                    seed=seed,
                    until=time.monotonic() + 60 * given.minutes,
                    rounds=given.rounds,
                    chaos=given.chaos,
                    keep_going=given.keep_going,
                    say=lambda text: print(text, flush=True),  # noqa: T201 - a program
                )
            )
        print(tally, flush=True)  # noqa: T201
        failed = failed or bool(tally.failed)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
