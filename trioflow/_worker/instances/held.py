"""The instances that a worker holds in memory, each with its state.

One `HeldInstance` stands for one instance from when the store gives it (or this worker creates it)
until it is given up. The pump steps it, the recorder writes what its turns mean into the open
batch, the committer stores the batch. They change its state with the methods below and in no
other way; ``_MOVES`` is the table of what may follow what:

- ``HELD``: it may make a turn. The open batch may speak of it already (``commit`` is set).
- ``SEALED``: the open batch says that it ends, continues, is suspended or is given up. It makes no
  turn before that is stored, and what comes meanwhile waits in ``received`` or goes to the inbox.
- ``STORING``, ``STORING_SEALED``: the same while its commit is under way.
- ``PARKED``: it is free in the store, its execution is kept for when it is taken again.
- ``GONE``: nothing of it is kept. Whoever still has a reference does nothing with it.

Invariants: ``commit`` and ``unit`` are set from the first word of the open batch about it until
that is stored or refused; ``turns`` counts those in ``commit``; an event is in ``received`` until a
turn consumes it, then in ``used`` until that turn is stored. In ``PARKED`` and ``GONE`` there is no
commit.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING

from trioflow._engine.execution import Execution, Identity
from trioflow._model.events import CancelRequested, Event, ParentRef, SignalReceived
from trioflow.backends.records import (
    ActivityKey,
    InstanceCommit,
    Message,
    NewInstance,
    TakenInstance,
)

if TYPE_CHECKING:
    from trioflow._worker.instances.batch import OpenUnit
    from trioflow._worker.instances.intake import Start

__all__ = ["Delivery", "HeldInstance", "Received", "State"]


class State(IntEnum):  # whose members are hashed in C, unlike those of Enum
    """Where a held instance stands; see the module's text."""

    HELD = 0
    SEALED = 1
    STORING = 2
    STORING_SEALED = 3
    PARKED = 4
    GONE = 5


class _Move(IntEnum):
    SEAL = 0
    STORE = 1
    GO_ON = 2
    BEGIN_AGAIN = 3
    PARK = 4
    UNPARK = 5
    LET_GO = 6


_MOVES: dict[tuple[State, _Move], State] = {
    (State.HELD, _Move.SEAL): State.SEALED,
    (State.SEALED, _Move.SEAL): State.SEALED,  # the history limit, after a turn that continues
    (State.HELD, _Move.STORE): State.STORING,
    (State.SEALED, _Move.STORE): State.STORING_SEALED,
    (State.STORING, _Move.GO_ON): State.HELD,
    (State.STORING_SEALED, _Move.GO_ON): State.HELD,  # the next execution
    (State.STORING, _Move.BEGIN_AGAIN): State.HELD,
    (State.STORING_SEALED, _Move.BEGIN_AGAIN): State.HELD,
    (State.STORING, _Move.PARK): State.PARKED,
    (State.STORING_SEALED, _Move.PARK): State.PARKED,
    (State.PARKED, _Move.UNPARK): State.HELD,
    **{(state, _Move.LET_GO): State.GONE for state in State},
}

_SEALED = (State.SEALED, State.STORING_SEALED)


class Received:
    """An event that waits to be consumed by a turn, and where it comes from.

    Attributes:
        at: When it happened, by the store's clock; 0 where that is not known.
        seq: Its row in the inbox, or ``None``.
        finished: The command whose activity row goes with it (a local result), or ``None``.
        delivery: Set if it is a child's end that is not stored yet: parent and child then commit
            together.
    """

    __slots__ = ("at", "delivery", "event", "finished", "seq")

    def __init__(
        self,
        event: Event,
        at: float,
        *,
        seq: int | None = None,
        finished: str | None = None,
        delivery: Delivery | None = None,
    ) -> None:
        self.event = event
        self.at = at
        self.seq = seq
        self.finished = finished
        self.delivery = delivery


class Delivery:
    """A child's end on its way to a parent that is at hand, not stored yet."""

    __slots__ = ("child", "consumed", "message", "parent")

    def __init__(self, child: HeldInstance, parent: HeldInstance, message: Message) -> None:
        self.child = child
        self.parent = parent
        self.message = message
        self.consumed = False


class HeldInstance:
    """An instance that this worker holds, or keeps for when it is taken again.

    Attributes:
        state: See the module's text.
        life: Which life of the id it is.
        number: Which execution.
        together_from: For the next turn; see `Turn.together_from`.
        turns: How many turns of the execution are stored, those of the open batch included.
        events: The size of the history with them.
        execution: The running code; ``None`` until the history is loaded.
        received: Events that wait for a turn.
        last_seq: The newest inbox row that was received.
        wake_at: The earliest deadline, with the turns of the open batch.
        stored_wake_at: The same without them.
        due: The earliest deadline may have come.
        queued: It is in the pump's queue.
        commit: What the open batch, or the one under way, says of it.
        used: What the turns in `commit` consumed.
        to_cancel: Commands whose activities run here and are told to stop once `commit` is stored.
        alone: Its last unit failed: its children begin in a later batch this time, and its parent
            hears of its end through the inbox.
        suspect: It was taken in isolation, since a worker died that held it, and has not made a
            turn since. It is not kept for what it waits for.
        deaths: With ``suspect``: of how many workers, this one included.
        successor: Another life of the id, or another execution, which the store gave while the
            open batch still spoke of this one.
        report: Why `commit` suspends it, for the log.
        unread: With the end in `commit`: its signals that were never received, for the log.
    """

    __slots__ = (
        "alone",
        "carried",
        "commit",
        "deaths",
        "due",
        "events",
        "execution",
        "failures",
        "id",
        "input",
        "last_seq",
        "life",
        "metadata",
        "new",
        "number",
        "parent",
        "priority",
        "queue",
        "queued",
        "received",
        "report",
        "start",
        "state",
        "stored_wake_at",
        "successor",
        "suspect",
        "to_cancel",
        "together_from",
        "turns",
        "unit",
        "unread",
        "used",
        "wake_at",
        "workflow",
    )

    def __init__(  # noqa: PLR0917  # what a new instance has
        self,
        id: str,
        number: int,
        workflow: str,
        queue: str,
        parent: ParentRef | None,
        input: bytes,
        metadata: bytes,
        priority: int,
        life: str,
    ) -> None:
        self.id = id
        self.number = number
        self.workflow = workflow
        self.queue = queue
        self.parent = parent
        self.input = input
        self.metadata = metadata
        self.priority = priority
        self.life = life
        self.state = State.HELD
        self.carried = b""
        self.turns = 0
        self.together_from = -1
        self.events = 0
        self.execution: Execution | None = None
        self.received: deque[Received] = deque()
        self.last_seq = 0
        self.due = False
        self.wake_at: float | None = None
        self.stored_wake_at: float | None = None
        self.queued = False
        self.new: NewInstance | None = None
        self.start: Start | None = None
        self.commit: InstanceCommit | None = None
        self.unit: OpenUnit | None = None
        self.used: list[Received] = []
        self.to_cancel: list[str] = []
        self.alone = False
        self.failures = 0
        self.suspect = False
        self.deaths = 0
        self.successor: TakenInstance | None = None
        self.report = ""
        self.unread = ""

    @classmethod
    def born(cls, new: NewInstance) -> HeldInstance:
        """Return an instance that this worker creates, and holds from birth."""
        held = cls(
            *(new.id, 1, new.workflow, new.queue, new.parent),
            *(new.input, new.metadata, new.priority, new.life),
        )
        held.new = new
        return held

    @classmethod
    def taken(cls, row: TakenInstance) -> HeldInstance:
        """Return an instance as the store gave it."""
        held = cls(
            *(row.id, row.execution, row.workflow, row.queue, row.parent),
            *(row.input, row.metadata, row.priority, row.life),
        )
        held.turns = row.turns
        held.events = row.events
        held.carried = row.carried
        held.wake_at = held.stored_wake_at = row.wake_at
        return held

    # --- what may be asked ----------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        """What its code may know of it."""
        return Identity(self.id, self.number, self.queue, self.priority, self.life)

    @property
    def has_work(self) -> bool:
        """Whether a turn would have something to consume."""
        return bool(self.received) or self.due or self.turns == 0

    @property
    def may_step(self) -> bool:
        """Whether it may make a turn now."""
        return self.state is State.HELD

    @property
    def sealed(self) -> bool:
        """Whether the open batch, or the one under way, says the last of it for now."""
        return self.state in _SEALED

    @property
    def gone(self) -> bool:
        """Whether nothing of it is kept."""
        return self.state is State.GONE

    def key(self, command: str) -> ActivityKey:
        """Return the key of the activity of one of its commands."""
        return ActivityKey(self.id, self.number, command, self.life)

    def is_same_as(self, row: TakenInstance) -> bool:
        """Whether a row of the store is this execution of this life."""
        return row.life == self.life and row.execution == self.number

    def is_parent_of(self, ref: ParentRef) -> bool:
        """Whether a child's reference means this execution of this life."""
        return ref.execution == self.number and ref.life == self.life

    # --- changes of state -----------------------------------------------------------------

    def _move(self, move: _Move) -> None:
        try:
            self.state = _MOVES[self.state, move]
        except KeyError:
            raise RuntimeError(
                f"instance {self.id!r} is {self.state.name} and cannot {move.name}: this is a "
                "mistake in trioflow, please report it"
            ) from None

    def seal(self) -> None:
        """Make no further turn before `commit` is stored."""
        if self.state is State.HELD:  # as mostly; the table says the same
            self.state = State.SEALED
        else:
            self._move(_Move.SEAL)

    def begin_storing(self) -> None:
        """Note that the commit is under way."""
        if self.state is State.HELD:
            self.state = State.STORING
        else:
            self._move(_Move.STORE)

    def stored(self) -> InstanceCommit:
        """Note that the commit is stored, and return it; a move out of STORING follows."""
        commit = self.commit
        assert commit is not None
        self.commit = self.unit = self.new = None
        self.stored_wake_at = commit.wake_at
        self.alone = False
        self.failures = 0
        self.used.clear()
        if commit.turns:
            self.suspect, self.deaths = False, 0
        return commit

    def go_on(self) -> None:
        """Hold it further after its commit was stored."""
        if self.state is State.STORING:
            self.state = State.HELD
        else:
            self._move(_Move.GO_ON)

    def continue_as_next(self, commit: InstanceCommit) -> None:
        """Become the next execution, whose input `commit` has stored."""
        assert commit.continued is not None
        self._move(_Move.GO_ON)
        self.execution = None
        self.number += 1
        self.turns = self.events = 0
        self.input = commit.continued
        self.carried = commit.carried
        self.wake_at = self.stored_wake_at = None
        self.due = False
        # What was sent for the old execution alone, all that answers a command, is no longer in the
        # inbox either.
        self.received = deque(
            r
            for r in self.received
            if r.seq is not None and isinstance(r.event, SignalReceived | CancelRequested)
        )

    def unsay(self) -> InstanceCommit:
        """Forget the commit, which will not be stored as it is, and return it."""
        commit = self.commit
        assert commit is not None
        self.commit = self.unit = None
        self.to_cancel.clear()
        self.report = ""
        return commit

    def begin_again(self, commit: InstanceCommit) -> None:
        """Go back to before a refused commit: its events are unread again, its turns not made."""
        self._move(_Move.BEGIN_AGAIN)
        again = [r for r in self.used if r.seq is not None or r.finished is not None]
        self.received.extendleft(reversed(again))
        self.used.clear()
        self.turns = commit.number
        self.wake_at, self.due = self.stored_wake_at, False  # due is known after the replay
        self.together_from = -1
        self.alone = True

    def park(self) -> None:
        """Note that it is free in the store, and its execution kept."""
        self._move(_Move.PARK)

    def unpark(self) -> None:
        """Note that it was taken again."""
        self._move(_Move.UNPARK)

    def let_go(self) -> None:
        """Note that nothing of it is kept."""
        self.state = State.GONE  # from anywhere
