"""The states of the instances that a worker holds in memory.

One `HeldInstance` stands for one instance from when the store gives it, or a client or a parent in
this worker creates it, until it is let go. It is shared by all parts of the pump, but changed by
its own methods alone, and each has its callers:

- `Intake` makes it (`born`, `taken`, `refresh`, `receive`).
- `Stepper` gives it an execution and makes turns (`begin`, `loaded`, `consume`, `make_again`).
- `Recorder` writes into the open batch what a turn means (`record_turn`, `seal`).
- `Batch` joins it to others (`join`, `move_to`, `withdraw`).
- `Committer` stores the batch (`begin_storing`), then goes on (`stored`, `go_on`,
  `continue_as_next`) or back (`unsay`, `begin_again`, `forget_messages`).
- `Holdings` keeps it or lets it go (`park`, `unpark`, `take_execution`, `let_go`).

All of that happens in the loop's thread, and none of it awaits anything. But a commit, a load and
a look into the store take time, and the states say what may happen meanwhile:

- ``HELD``: it may make a turn. It may have a part in the open batch already (``commit``).
- ``SEALED``: its commit ends, continues or suspends it, or gives it up. It makes no turn before
  that is stored, and what comes meanwhile waits in ``received`` or goes to the inbox.
- ``STORING``, ``STORING_SEALED``: the same while its commit is under way.
- ``PARKED``: it is free in the store, its execution is in the instance cache for when it is taken
  again.
- ``GONE``: nothing of it is kept. Whoever still has a reference does nothing with it.

``MOVES`` is the table of what may follow what. Mostly it is::

    HELD -> STORING -> HELD            a turn is stored, and something is under way here
    HELD -> STORING -> PARKED -> HELD  it waits, for a time or a message, and is taken again
    HELD -> SEALED -> STORING_SEALED -> GONE                   it has ended
    HELD -> SEALED -> STORING_SEALED -> HELD                   it continues as the next execution
    STORING or STORING_SEALED -> HELD                          refused: begin again from the store
    anything -> GONE                                           it is lost to others, or has ended

These hold at every checkpoint:

- ``commit`` and ``unit`` are set together, from when it gets a part in the open batch until
  that is stored or refused: always in ``SEALED`` and while it is stored, never in ``PARKED``.
- An event is in ``received`` until a turn consumes it, then in ``used`` until that turn is stored.
  If the turn is refused it is back in ``received``, before all others.
- ``turns`` and ``events`` count what is stored and what ``commit`` adds; ``commit.number`` is the
  number of turns without it. So is ``wake_at`` with it and ``stored_wake_at`` without.
- An execution in memory has made exactly ``turns`` turns. If it cannot be so, since a turn was
  refused, it is evicted first, and loaded again from the store.
- ``start`` is set as long as a client waits to hear whether the instance was created.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["MOVES", "Move", "State"]


class State(IntEnum):  # whose members are hashed in C, unlike those of Enum
    """Where a held instance stands; see the module's text."""

    HELD = 0
    SEALED = 1
    STORING = 2
    STORING_SEALED = 3
    PARKED = 4
    GONE = 5


class Move(IntEnum):
    SEAL = 0
    STORE = 1
    GO_ON = 2
    BEGIN_AGAIN = 3
    PARK = 4
    UNPARK = 5
    LET_GO = 6


MOVES: dict[tuple[State, Move], State] = {
    (State.HELD, Move.SEAL): State.SEALED,
    (State.HELD, Move.STORE): State.STORING,
    (State.SEALED, Move.STORE): State.STORING_SEALED,
    (State.STORING, Move.GO_ON): State.HELD,
    (State.STORING_SEALED, Move.GO_ON): State.HELD,  # the next execution
    (State.STORING, Move.BEGIN_AGAIN): State.HELD,
    (State.STORING_SEALED, Move.BEGIN_AGAIN): State.HELD,
    (State.STORING, Move.PARK): State.PARKED,
    (State.STORING_SEALED, Move.PARK): State.PARKED,
    (State.PARKED, Move.UNPARK): State.HELD,
    **{(state, Move.LET_GO): State.GONE for state in State},
}
