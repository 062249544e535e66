"""An instance in a worker's memory: what is known of it, and all that changes it.

Its states, what may follow what, and who may call which method is explained in `states.py`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec.structs import replace

from trioflow._engine.execution import Execution, Identity
from trioflow._model.events import (
    CancelRequested,
    Message,
    ParentRef,
    PromiseRejected,
    PromiseResolved,
)
from trioflow._worker.instances.states import MOVES, Move, State
from trioflow.backends.commits import InstanceCommit, NewInstance
from trioflow.backends.records import ActivityKey, TakenInstance

if TYPE_CHECKING:
    from trioflow._model.turns import Turn
    from trioflow._worker.instances.batch import Delivery, OpenUnit, Received
    from trioflow._worker.instances.intake import Start

__all__ = ["HeldInstance"]


_FOR_ALL = Message | CancelRequested | PromiseResolved | PromiseRejected
"""What is not sent for one execution alone, so that the next one has to consume it."""

_SEALED = (State.SEALED, State.STORING_SEALED)


@dataclass(slots=True, eq=False, kw_only=True)
class HeldInstance:
    """An instance that this worker holds, or keeps for when it is taken again.

    Everyone may read its attributes; they are written by its own methods alone. (``queued`` is the
    mark of the queue in `Holdings`, which writes it.)

    Attributes:
        state: See `trioflow._worker.instances.states`.
        life: Which life of the id it is.
        number: Which execution.
        new: Its row, until that is stored, if it is created here.
        start: The client's request to create it, until that is answered.
        carried: The unread signals with which the execution begins.
        options: The stored form of `StartOptions`.
        attributes: Those that are stored, in their stored form.
        began_at: When the instance was started, or was to begin, the earlier executions included;
            0 until its first turn if it was created here.
        together_from: For the next turn; see `Turn.together_from`.
        whole: The next turn consumes all that was received, however large that is.
        turns: How many turns of the execution are stored, those of the open batch included.
        events: The size of the history with them.
        execution: The running code; ``None`` until the history is loaded.
        received: Events that wait for a turn.
        last_seq: The newest inbox row that was received.
        wake_at: The earliest deadline, with the turns of the open batch.
        stored_wake_at: The same without them.
        due: The earliest deadline may have come.
        queued: It is in the queue of those that are looked at.
        commit: Its part of the open batch, or of the one under way.
        unit: What is stored together with `commit`.
        used: What the turns in `commit` consumed.
        to_cancel: Commands whose activities run here and are told to stop once `commit` is stored,
            each with the reason.
        alone: Its last unit failed: its children begin in a later batch this time, and its parent
            hears of its end through the inbox.
        failures: How often in a row the store refused or rejected `commit` for no known reason.
        suspect: It was taken in isolation, since a worker died that held it, and has not made a
            turn since. It is not kept for what it waits for.
        deaths: With ``suspect``: of how many workers, this one included.
        successor: Another life of the id, or another execution, which the store gave while the
            open batch still spoke of this one.
        report: Why `commit` suspends it or says that it failed, for the log.
        unread: With the end in `commit`: its signals that were never received, for the log.
        told: The turns in `commit`, if there are observers to be told of them.
    """

    id: str
    number: int
    workflow: str
    queue: str
    parent: ParentRef | None
    input: bytes
    metadata: bytes
    priority: int
    life: str
    new: NewInstance | None = None
    start: Start | None = None
    carried: bytes = b""
    options: bytes = b""
    attributes: bytes = b""
    began_at: float = 0.0
    state: State = State.HELD
    turns: int = 0
    events: int = 0
    together_from: int = -1
    whole: bool = False
    execution: Execution | None = None
    received: deque[Received] = field(default_factory=deque["Received"])
    last_seq: int = 0
    wake_at: float | None = None
    stored_wake_at: float | None = None
    due: bool = False
    queued: bool = False
    commit: InstanceCommit | None = None
    unit: OpenUnit | None = None
    used: list[Received] = field(default_factory=list["Received"])
    to_cancel: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])
    alone: bool = False
    failures: int = 0
    suspect: bool = False
    deaths: int = 0
    successor: TakenInstance | None = None
    report: str = ""
    unread: str = ""
    told: list[Turn] | None = None

    @classmethod
    def born(cls, new: NewInstance, start: Start | None = None) -> HeldInstance:
        """Return an instance that this worker creates, and holds from birth.

        Args:
            new: Its row.
            start: The client's request, if it is not a sub-workflow.
        """
        return cls(
            id=new.id,
            number=1,
            workflow=new.workflow,
            queue=new.queue,
            parent=new.parent,
            input=new.input,
            metadata=new.metadata,
            priority=new.priority,
            life=new.life,
            options=new.options,
            attributes=new.attributes,
            new=new,
            start=start,
        )

    @classmethod
    def taken(cls, row: TakenInstance) -> HeldInstance:
        """Return an instance that the store gave; `refresh` follows."""
        return cls(
            id=row.id,
            number=row.execution,
            workflow=row.workflow,
            queue=row.queue,
            parent=row.parent,
            input=row.input,
            metadata=row.metadata,
            priority=row.priority,
            life=row.life,
            carried=row.carried,
            options=row.options,
            attributes=row.attributes,
            began_at=max(row.created_at, row.start_at),
            turns=row.turns,
            events=row.events,
        )

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
        """Whether its commit in the open batch, or in the one under way, ends it or lets it go."""
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

    # --- what comes in --------------------------------------------------------------------

    def refresh(self, row: TakenInstance, now: float) -> None:
        """Take over what is news in the row that the store has just given."""
        if row.deaths:
            self.suspect, self.deaths = True, row.deaths
        if row.parent != self.parent:
            self._readdress(row.parent)
        if row.turns == self.turns:  # otherwise the open batch knows better
            wake_at = row.wake_at if row.turns else None  # before the first, see `NewInstance`
            self.wake_at = self.stored_wake_at = wake_at
            self.due = wake_at is not None and wake_at <= now

    def _readdress(self, parent: ParentRef | None) -> None:
        """Have another execution of its parent told of its end: one that began by a reset."""
        self.parent = parent
        if parent is None or self.commit is None or self.unit is None:
            return
        for delivery in self.unit.deliveries:
            if delivery.child is self:
                delivery.message = replace(delivery.message, execution=parent.execution)
        if self.commit.closing is not None:
            self.commit.messages = [
                replace(message, execution=parent.execution)
                if message.instance == parent.instance and message.execution is not None
                else message
                for message in self.commit.messages
            ]

    def receive(self, received: Received) -> None:
        """Keep an event for the next turn."""
        if received.seq is not None:
            self.last_seq = received.seq
        self.received.append(received)

    def take_results(self) -> list[Received]:
        """Return the results of activities, which no turn will consume here, and forget them."""
        if not self.received:
            return []
        results = [r for r in self.received if r.finished is not None]
        if results:
            self.received = deque(r for r in self.received if r.finished is None)
        return results

    def forget_messages(self) -> None:
        """Forget what came through the inbox and waits: the store gives all of it again."""
        self.received = deque(r for r in self.received if r.seq is None)
        self.last_seq = 0

    def withdraw(self, delivery: Delivery) -> None:
        """Forget a child's end, which comes through the inbox instead."""
        self.received = deque(r for r in self.received if r.delivery is not delivery)

    def succeed_by(self, row: TakenInstance) -> None:
        """Remember what the store gave in its place, until `commit` is refused."""
        self.successor = row
        if self.start is not None:
            self.start.settle(created=False)

    # --- the client that started it -------------------------------------------------------

    def settle_start(self, *, created: bool) -> None:
        """Answer the client that waits whether the instance was created."""
        assert self.start is not None
        self.start.settle(created=created)
        self.start = None

    def fail_start(self, error: Exception) -> bool:
        """Answer the client that waits why it cannot be created; False if none waits."""
        if self.start is None:
            return False
        self.start.fail(error)
        self.start = None
        return True

    def born_again(self) -> HeldInstance:
        """Return it as it was before its first turn; the client now waits for that one."""
        assert self.new is not None
        start, self.start = self.start, None
        return HeldInstance.born(self.new, start)

    # --- turns ----------------------------------------------------------------------------

    def begin(self, execution: Execution) -> None:
        """Set the running code, which has made no turn yet."""
        self.execution = execution

    def note_begin(self, now: float) -> None:
        """Note the time of its first turn, unless it is known when the instance was started."""
        self.began_at = self.began_at or now

    def loaded(self, execution: Execution, now: float) -> None:
        """Set the running code, which has replayed the stored turns."""
        self.execution = execution
        self.events = execution.events
        self.wake_at = execution.wake_at
        self.due = self.wake_at is not None and self.wake_at <= now

    def take_execution(self) -> Execution | None:
        """Return the running code to be unwound; the next turn needs it loaded again."""
        execution, self.execution = self.execution, None
        return execution

    def consume(self, count: int, *, due: bool) -> list[Delivery]:
        """Note what the turn that was just made has consumed.

        Args:
            count: How many events of those that were received.
            due: Whether the earliest deadline was left to the next turn.

        Returns:
            The ends of children that are not stored yet: their units are to be merged with its own.
        """
        commit = self.commit
        assert commit is not None
        deliveries: list[Delivery] = []
        if count == len(self.received):
            consumed, self.received = self.received, deque()
        else:
            consumed = deque(self.received.popleft() for _ in range(count))
        for received in consumed:
            if received.seq is not None:
                commit.consumed.append(received.seq)
            elif received.finished is not None:
                commit.finished.append(received.finished)
            elif received.delivery is not None:
                received.delivery.consumed = True
                deliveries.append(received.delivery)
        self.used.extend(consumed)
        self.due = due
        self.together_from = -1
        self.whole = False
        return deliveries

    def record_turn(self, data: bytes, events: int, wake_at: float | None) -> None:
        """Add the turn that was just made to the open batch.

        Args:
            data: Its stored form.
            events: The size of the history with it.
            wake_at: The earliest deadline after it.
        """
        commit = self.commit
        assert commit is not None
        self.turns += 1
        commit.turns.append(data)
        self.events = commit.events = events
        self.wake_at = commit.wake_at = wake_at

    def tell_when_stored(self, turn: Turn) -> None:
        """Keep a turn for the observers."""
        self.told = [*(self.told or ()), turn]

    def take_told(self) -> list[Turn]:
        """Return the turns of the commit that was stored."""
        told, self.told = self.told or [], None
        return told

    def make_again(self, together_from: int) -> None:
        """Have a turn of all that was received made again, with `Turn.together_from`."""
        assert self.commit is not None
        self.together_from = together_from
        self.whole = True
        self.commit.wake_at = self.wake_at

    # --- the open batch -------------------------------------------------------------------

    def join(self, unit: OpenUnit, commit: InstanceCommit) -> None:
        """Have a part in the open batch from now on, in this unit."""
        self.unit, self.commit = unit, commit
        unit.members.append(self)

    def move_to(self, unit: OpenUnit) -> None:
        """Be stored together with what is in another unit, which now holds `commit`."""
        self.unit = unit

    def cancel_when_stored(self, command: str, reason: str | None) -> None:
        """Have an activity told of its cancel once `commit` is stored."""
        self.to_cancel.append((command, reason))

    def take_cancels(self) -> list[tuple[str, str | None]]:
        """Return the commands of the activities that are to be told now, and the reasons."""
        commands, self.to_cancel = self.to_cancel, []
        return commands

    # --- changes of state -----------------------------------------------------------------

    def _move(self, move: Move) -> None:
        try:
            self.state = MOVES[self.state, move]
        except KeyError:
            raise RuntimeError(
                f"instance {self.id!r} is {self.state.name} and cannot {move.name}: this is a "
                "mistake in trioflow, please report it"
            ) from None

    def seal(self, report: str = "", unread: str = "") -> None:
        """Make no further turn before `commit` is stored, which ends it or lets it go.

        Args:
            report: Why it is suspended or failed, for the log.
            unread: Which signals it never received, likewise.
        """
        if self.state is State.HELD:  # as mostly; the table says the same
            self.state = State.SEALED
        else:
            self._move(Move.SEAL)
        self.report, self.unread = report, unread

    def begin_storing(self) -> None:
        """Note that the commit is under way."""
        if self.state is State.HELD:
            self.state = State.STORING
        elif self.state is State.SEALED:
            self.state = State.STORING_SEALED
        else:
            self._move(Move.STORE)

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
        if commit.attributes is not None:
            self.attributes = commit.attributes
        return commit

    def go_on(self) -> None:
        """Hold it further after its commit was stored."""
        if self.state is State.STORING:
            self.state = State.HELD
        else:
            self._move(Move.GO_ON)

    def continue_as_next(self, commit: InstanceCommit) -> None:
        """Become the next execution, whose input `commit` has stored."""
        assert commit.continued is not None
        self._move(Move.GO_ON)
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
            r for r in self.received if r.seq is not None and isinstance(r.event, _FOR_ALL)
        )

    def unsay(self) -> InstanceCommit:
        """Remove the commit, which will not be stored as it is, and return it."""
        commit = self.commit
        assert commit is not None
        self.commit = self.unit = None
        self.to_cancel.clear()
        self.report = ""
        self.told = None
        return commit

    def begin_again(self, commit: InstanceCommit, *, failed: bool = False) -> None:
        """Go back to before a refused commit: its events are unread again, its turns not made.

        Args:
            commit: What `unsay` returned.
            failed: Whether that counts as a failure: no known reason explains it.
        """
        self._move(Move.BEGIN_AGAIN)
        self.failures += failed
        again = [r for r in self.used if r.seq is not None or r.finished is not None]
        self.received.extendleft(reversed(again))
        self.used.clear()
        self.turns = commit.number
        self.wake_at, self.due = self.stored_wake_at, False  # due is known after the replay
        self.together_from = -1
        self.whole = False
        self.alone = True

    def unread_again(self) -> None:
        """Put back what refused turns consumed, for `take_results`: it is let go."""
        self.received.extend(self.used)
        self.used.clear()

    def park(self) -> None:
        """Note that it is free in the store, and its execution kept."""
        self._move(Move.PARK)

    def unpark(self) -> None:
        """Note that it was taken again."""
        self._move(Move.UNPARK)

    def let_go(self) -> None:
        """Note that nothing of it is kept."""
        self.state = State.GONE  # from anywhere
