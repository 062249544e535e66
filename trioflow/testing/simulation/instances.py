"""One instance of a simulation: its turns, made by the real engine and replayed after each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from trioflow._codec.values import Codec
from trioflow._engine.calls import Caller
from trioflow._engine.execution import Execution
from trioflow._engine.loop.steps import EndedUnseen
from trioflow._engine.strict import StrictExecution
from trioflow._engine.suspension import NeedsSuspension
from trioflow._engine.tree import tasks_of
from trioflow._model import events as ev
from trioflow._model.attributes import Stored
from trioflow._model.commands import StartOptions
from trioflow._model.info import Identity, TaskInfo
from trioflow._model.interceptors import Interceptor
from trioflow._model.propagation import Propagator
from trioflow._model.rules import CURRENT_RULES
from trioflow._model.turns import Continued, Outcome, Turn, decode_turn, encode_turn
from trioflow._model.workflows import Workflow
from trioflow.testing.history import History, ReplayError, StoredExecution

__all__ = ["SimulatedInstance"]


class SimulatedInstance:
    """An instance with its executions.

    Attributes:
        workflow: Its workflow; another one after a deploy.
        id: Its id.
        parent: Who started it, ``None`` for a client.
        number: Its present execution.
        metadata: What its start was given, and what propagators have added.
        life: What tells it from other instances of its id.
        turns: The present execution's turns in their stored form.
        inbox: The events that no turn has consumed, each with the time when it happened.
        wake_at: Its earliest deadline, ``None`` for none.
        outcome: How it ended, ``None`` before.
        cancel_asked: Whether a client has cancelled it.
        terminated: Whether a client has terminated it, or its parent.
        was_reset: Whether a client has reset it.
    """

    def __init__(
        self,
        workflow: Workflow[..., Any],
        id: str,
        input: bytes,
        parent: ev.ParentRef | None,
        codec: Codec,
        *,
        now: float,
        start_at: float = 0.0,
        options: StartOptions | None = None,
        attributes: Stored | None = None,
        metadata: Mapping[str, str] | None = None,
        propagators: Sequence[Propagator] = (),
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        self.workflow = workflow
        self.id = id
        self.parent = parent
        self.number = 1
        self.life = _bits(id)
        self.metadata = dict(metadata or {})
        self.turns: list[bytes] = []
        self.inbox: list[tuple[float, ev.Event]] = []
        self.wake_at: float | None = start_at if start_at > now else None
        self.outcome: Outcome | None = None
        self.cancel_asked = False
        self.terminated = False
        self.was_reset = False
        timeout = workflow.timeout if options is None else options.timeout or workflow.timeout
        self._deadline_at = None if timeout is None else max(now, start_at) + timeout
        self._attributes = attributes or {}
        self._max_events = 0 if options is None else options.max_events or 0
        self._input = input
        self._codec = codec
        self._propagators = propagators
        self._interceptors = interceptors
        self._earlier: list[StoredExecution] = []
        self._carried: list[ev.Message] = []
        self._execution: Execution | None = None

    @property
    def is_due(self) -> bool:
        """Whether a turn would have something to consume."""
        if self.turns or self.wake_at is None:
            return not self.turns or bool(self.inbox)
        # Before its time to start only a cancel counts.
        return any(isinstance(event, ev.CancelRequested) for _, event in self.inbox)

    @property
    def in_memory(self) -> bool:
        """Whether its code is suspended in memory, and not only in its history."""
        return self._execution is not None

    def history(self) -> History:
        """Return what is stored of it."""
        return History(
            id=self.id,
            workflow=self.workflow.name,
            life=self.life,
            executions=[*self._earlier, self._stored()],
        )

    def _stored(self) -> StoredExecution:
        return StoredExecution(self.number, [msgspec.Raw(turn) for turn in self.turns])

    # --- turns --------------------------------------------------------------------------------

    def make_turn(self, count: int, now: float) -> Turn:
        """Make a turn with the first events of the inbox; nothing is stored yet.

        Raises:
            ReplayError: The history before it does not replay, or the turn cannot be stored.
        """
        together_from = -1
        while True:
            execution = self._execution = self._execution or self._replayed()
            received = self.inbox[:count]
            events: list[ev.Event] = [] if self.turns else [self._started()]
            events += [event for _, event in received]
            at: list[float] = []
            wake_at = self.wake_at if self.turns else None
            if wake_at is not None and wake_at <= now:
                if received and wake_at < now:
                    at = [time for time, _ in received] + [wake_at]
                events.append(ev.Woken())
            try:
                return execution.advance(events, now, at=at, together_from=together_from)
            except EndedUnseen as ended:
                together_from = ended.number
                self.evict()
            except NeedsSuspension as stop:
                raise ReplayError(self.id, stop.report) from None

    def store(self, turn: Turn, count: int) -> Turn:
        """Store a turn that has consumed so many events, and replay the whole history.

        Returns:
            The turn as it comes back from its stored form.

        Raises:
            ReplayError: The history does not replay.
        """
        assert self._execution is not None
        del self.inbox[:count]
        data = encode_turn(turn)
        self.turns.append(data)
        self.wake_at = self._execution.wake_at
        if isinstance(turn.outcome, Continued):
            self._attributes = self._execution.attributes
            self._carried = self._execution.messages.unread()
        self.check_replay()
        return decode_turn(data)

    def check_replay(self) -> None:
        """Replay the history with the present code.

        Raises:
            ReplayError: It does not replay.
        """
        self._replayed().evict()

    def tasks(self) -> list[TaskInfo]:
        """The tasks of its code, where it waits now."""
        execution = self._replayed()
        try:
            return tasks_of(execution)
        finally:
            execution.evict()

    def evict(self) -> None:
        """Take its code out of memory; the next turn replays it."""
        execution, self._execution = self._execution, None
        if execution is not None:
            execution.evict()

    def end(self, outcome: Outcome) -> None:
        """End it, or begin its next execution."""
        self.evict()
        self.wake_at = None
        if not isinstance(outcome, Continued):
            self.outcome = outcome
            return
        self._earlier.append(self._stored())
        self.number += 1
        self.turns = []
        self._input = bytes(outcome.input)
        kept = ev.Message | ev.PromiseResolved | ev.PromiseRejected | ev.CancelRequested
        self.inbox = [(at, event) for at, event in self.inbox if isinstance(event, kept)]

    def begin_again(
        self,
        turns: Sequence[bytes],
        inbox: Sequence[tuple[float, ev.Event]],
        carried: Sequence[ev.Message],
    ) -> None:
        """Begin the next execution with turns of this one.

        Raises:
            ReplayError: They do not replay.
        """
        self.evict()
        self.was_reset = True
        self._earlier.append(self._stored())
        self.number += 1
        self.turns, self.inbox, self._carried = list(turns), list(inbox), list(carried)
        self.wake_at = None
        if turns:
            execution = self._replayed()
            self.wake_at = execution.wake_at
            execution.evict()

    def _replayed(self) -> Execution:
        identity = Identity(self.id, self.number, "default", 0, self.life)
        execution = StrictExecution(
            self.workflow,
            identity,
            self._codec,
            Caller,
            propagators=self._propagators,
            interceptors=self._interceptors,
        )
        try:
            execution.replay([decode_turn(data) for data in self.turns])
        except NeedsSuspension as stop:
            execution.evict()
            raise ReplayError(self.id, stop.report) from None
        return execution

    def _started(self) -> ev.Started:
        return ev.Started(
            workflow=self.workflow.name,
            input=msgspec.Raw(self._input),
            parent=self.parent,
            carried=list(self._carried),
            rules=CURRENT_RULES,
            seed=_bits(f"{self.id}/{self.number}"),
            deadline_at=self._deadline_at,
            max_events=self._max_events,
            attributes=self._attributes,
            metadata=self.metadata,
        )


def _bits(text: str) -> str:
    """Return 128 bits that depend on a text, in hexadecimal."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
