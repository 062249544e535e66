"""One execution of an instance: a fold over turns. No I/O, no clock but the turn's ``now``."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any, assert_never

from outcome import Error

from trioflow._codec.failures.groups import continuation
from trioflow._codec.values import Codec, is_plain, open_text
from trioflow._engine import guard
from trioflow._engine.begun import Begun
from trioflow._engine.ending import outcome_of
from trioflow._engine.failing import Failing
from trioflow._engine.forgotten import Calls
from trioflow._engine.loop.eviction import keep_for_ever, unwind
from trioflow._engine.loop.nested import NestedLoop
from trioflow._engine.loop.ordered import step_in_order
from trioflow._engine.loop.runner import TaskState
from trioflow._engine.loop.steps import EndedUnseen, StepsUsedUp
from trioflow._engine.main import run_main
from trioflow._engine.messages import Messages
from trioflow._engine.patches import Patches
from trioflow._engine.pending import Commands
from trioflow._engine.queries import Queries
from trioflow._engine.replay import check_turn, line_of
from trioflow._engine.suspension import (
    NeedsSuspension,
    does_not_wait,
    undecodable,
    unknown_rules,
    unreadable_turn,
)
from trioflow._model import events as ev
from trioflow._model.attributes import Stored
from trioflow._model.commands import Command
from trioflow._model.info import Identity, Info, SuspendReport
from trioflow._model.interceptors import Interceptor
from trioflow._model.invoker import current_invoker
from trioflow._model.propagation import Propagator, injected
from trioflow._model.queries import Question
from trioflow._model.rules import (
    CURRENT_RULES,
    IN_ORDER_OF_TIME,
    LATE_GENERATORS,
    LIMITED_NESTING,
)
from trioflow._model.turns import Cancelled, Completed, Failed, Outcome, Turn
from trioflow._model.workflows import Workflow
from trioflow.errors import DeterminismError, Evicted

__all__ = ["Execution", "Identity"]

_MAX_STEPS = 1_000_000


class Execution:
    """Runs one execution of one instance, live and on replay.

    Attributes:
        identity: The instance and execution that it is.
        begun: What follows from its first event.
        definition: The workflow.
        turns: How many turns were made.
        events: Size of the history: events and commands.
        now: The workflow's clock.
        rules: The number of the rules by which it runs (`trioflow._model.rules`).
        max_events: The size of the history at which it is suspended.
        calls: Calls that have not been awaited yet.
        failing: Whose failure it may be about to raise, if that can suspend it.
        commands: The commands of this turn, and those that wait for an answer.
        messages: What others have sent to it.
        patches: The patches that the code has asked for, ``None`` for none.
        propagators: What takes metadata over at the start, and adds to that of calls.
        interceptors: What is around the workflow's function.
        cancelled_why: The request for a cancel that has cancelled it, ``None`` if there was none.
        carries: Whether calls may have metadata.
        claims: What it holds of what instances share, by name: the task that claimed it and the
            id of its command.
        custom_status: The last value of ``set_status`` (one JSON document), ``None`` for none; it
            is set to ``None`` by whoever stores it.
        attributes: Those that the instance has.
        new_attributes: Their stored form if they changed, or ``None``; likewise.
    """

    commands_class = Commands

    __slots__ = (
        "_max_steps",
        "_queries",
        "_trouble",
        "_turn_events",
        "_turn_turns",
        "attributes",
        "begun",
        "caller",
        "calls",
        "cancelled_why",
        "carries",
        "claims",
        "codec",
        "commands",
        "custom_status",
        "definition",
        "doomed",
        "events",
        "failing",
        "identity",
        "interceptors",
        "loop",
        "max_events",
        "messages",
        "new_attributes",
        "now",
        "patches",
        "propagators",
        "rules",
        "started_at",
        "turns",
    )

    def __init__(
        self,
        definition: Workflow[..., Any],
        identity: Identity,
        codec: Codec,
        make_caller: Callable[[Execution], Any],
        max_steps: int = _MAX_STEPS,
        *,
        propagators: Sequence[Propagator] = (),
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        self.definition = definition
        self.identity = identity
        self.codec = codec
        self.turns = 0
        self.events = 0
        self.now = 0.0
        self.rules = 0
        self.max_events = definition.max_events
        self.started_at = 0.0
        self.custom_status: bytes | None = None
        self.attributes: Stored = {}
        self.new_attributes: bytes | None = None
        self.caller: Any = make_caller(self)
        context = contextvars.Context()
        context.run(current_invoker.set, self.caller)
        self.loop = NestedLoop(context)
        self.commands = self.commands_class(self.loop, codec)
        self.begun = Begun(identity)
        self.messages = Messages()
        self._queries: Queries | None = None
        self.cancelled_why: ev.CancelRequested | None = None
        self._turn_events = 0
        self._turn_turns = 0
        self.patches: Patches | None = None
        self.claims: dict[str, list[tuple[TaskState, str]]] = {}
        self.propagators = propagators
        self.interceptors = interceptors
        self.carries = False
        self.calls = Calls()
        self.failing = Failing(wanted=bool(definition.suspend_on))
        self.doomed: Exception | None = None
        self._max_steps = max_steps
        self._trouble: SuspendReport | None = None

    # --- what the worker calls ----------------------------------------------------------

    def advance(
        self,
        events: Sequence[ev.Event],
        now: float,
        recorded: Turn | None = None,
        *,
        at: Sequence[float] = (),
        together_from: int = -1,
    ) -> Turn:
        """Apply events, run until every task is blocked, and return the turn.

        Args:
            events: The first turn's first is `Started`.
            now: Epoch seconds; the workflow's clock does not go back even if this does.
            recorded: On replay, the stored turn whose events and time these are.
            at: When each of the events happened, to be told from the deadlines that have passed
                since the last turn; empty if that was now, or for those of ``recorded``.
            together_from: What `EndedUnseen` said of the same turn when it was made before.

        Returns:
            The turn with the commands that are to be carried out once it is stored. Its events are
            in the order in which they were applied.

        Raises:
            NeedsSuspension: Nothing of this turn may be stored; the execution must be evicted.
            Diverged: Likewise: ``recorded`` has other commands, or another end.
            EndedUnseen: Likewise, and never with ``recorded``: the workflow ended at something that
                came before the last signal in ``events``. The turn is to be made again by a fresh
                execution, with the number that this gives as ``together_from``: then it can receive
                all of them.
            KeyboardInterrupt: It was raised inside workflow code; the execution must be evicted.
        """
        self.now = now = max(now, self.now)
        self._turn_events, self._turn_turns = self.events, self.turns
        self.loop.quiet = recorded is not None
        if recorded is None:
            self.commands.recorded = None
            self.loop.steps.set(self._max_steps)
        else:
            self.commands.recorded = {c.id: c for c in recorded.commands}
            self.loop.steps.set(inf)
            at, together_from = at or recorded.at, recorded.together_from
        events, times = (
            self._in_order(events, at, now)
            if at or not self.turns
            else (events, (now,) * len(events))
        )
        never_started, mixed, early = False, False, False
        token = guard.enter_step(self.rules)
        self.calls.begin_turn()
        try:
            if self.turns == 0:
                never_started = self._begin(events, now)
            elif self.rules >= IN_ORDER_OF_TIME:
                mixed = step_in_order(
                    self.loop, now, events, times, self._apply, _must_be_seen, together_from
                )
            else:
                for event in events:
                    self._apply(event)
                self.loop.step(now)
            if self.calls.made:
                self._end_for_forgotten(now)
        except (StepsUsedUp, EndedUnseen) as stop:
            early = self._stopped(stop)
        finally:
            self.calls.end_turn()
            guard.leave_step(token)
        if self._trouble is not None:
            raise NeedsSuspension(self._trouble)
        commands = self.commands.end_turn()
        self.failing.consumes(self.turns, events)
        end: Outcome | None = None
        if never_started or self.loop.outcome is not None:
            end = self._outcome(recorded, never_started=never_started)
        number = self.turns
        self.failing.gives(number, commands)
        self.turns += 1
        self.events += len(events) + len(commands)
        if recorded is not None:
            self._compare(number, recorded, commands, end, early=early)
            return recorded
        return Turn(
            now=now,
            events=list(events),
            commands=commands,
            outcome=end,
            at=list(times) if mixed else [],
            together_from=together_from,
        )

    def replay(self, turns: Sequence[Turn]) -> None:
        """Fold stored turns. Raises what `advance` raises."""
        if turns and turns[-1].reset is not None:
            turns = turns[:-1]  # says how the execution was left, which its code does not know
        # Not the last turn: it may encode the outcome, which has to see the host's loop.
        with self.loop.entered():
            for turn in turns[:-1]:
                self.advance(turn.events, turn.now, turn)
        for turn in turns[-1:]:
            self.advance(turn.events, turn.now, turn)
        self.commands.recorded = None

    @property
    def wake_at(self) -> float | None:
        """The earliest deadline, at which a turn is due without an event; ``None`` for none."""
        deadline = self.loop.next_deadline
        return None if deadline == inf else deadline

    @property
    def waits_for(self) -> list[Command]:
        """The commands whose events have not come, in no order."""
        return [pending.command for pending in self.commands.under_way.values()]

    @property
    def reset_here(self) -> bool:
        """Whether a reset or a fork has led to just this turn, and nothing has happened since."""
        started = self.begun.started
        origins = [] if started is None else started.origins
        return bool(origins) and self.turns == origins[-1].turns

    def evict(self) -> bool:
        """Unwind every task without effects. The execution is of no use afterwards.

        Returns:
            False if workflow code swallowed its eviction again and again; it is kept aside, silent.
        """
        self._queries = None
        return self._unwind()

    @property
    def stays_at(self) -> str:
        """Where the youngest task waits of what could not be unwound: ``file:line``, or ``""``."""
        tasks = self.loop.tasks()
        return line_of(self.loop, tasks[-1][1].path) if tasks else ""

    @property
    def does_not_wait(self) -> bool:
        """Whether it is suspended since its tasks never wait."""
        return self._trouble is not None and self._trouble.kind == "does not wait"

    def answer(self, question: Question) -> Completed | Failed:
        """Answer a query from what there is, between two turns or after the last.

        Afterwards `disturbed` says whether the execution can be used further.
        """
        return self.queries.answer(question)

    @property
    def disturbed(self) -> bool:
        """Whether the handler of a query has changed something, so that it must be evicted."""
        return self._queries is not None and self._queries.disturbed

    def _unwind(self) -> bool:
        self.commands.recorded = {}  # silences logging, as on replay
        self.loop.quiet = True
        token = guard.enter_step()
        try:
            gone = unwind(self.loop, Evicted)
        finally:
            guard.leave_step(token)
        self.commands.under_way.clear()
        if self.calls.made:
            self.calls.close()
        if gone:
            self.caller = None
            self.loop.forget()
        else:
            keep_for_ever(self.loop)
        return gone

    # --- what workflow code reaches through its caller ----------------------------------

    @property
    def replaying(self) -> bool:
        """Whether the current turn is a stored one."""
        return self.commands.recorded is not None

    @property
    def queries(self) -> Queries:
        """The instance's queries."""
        if self._queries is None:
            self._queries = Queries(self)
        return self._queries

    @property
    def acting(self) -> Identity:
        """Which execution has made this turn, which is another one before a reset or in a fork."""
        me = self.identity
        started = self.begun.started
        if started is not None:
            for origin in started.origins:
                if self.turns < origin.turns:
                    return Identity(
                        origin.instance, origin.execution, me.queue, me.priority, me.life
                    )
        return me

    def info(self) -> Info:
        """Return the ids, queue and size of the execution; the same live and on replay."""
        started = self.begun.started
        assert started is not None, "workflow code runs only after Started"
        me = self.acting
        return Info(
            id=me.id,
            execution=me.execution,
            workflow=self.definition.name,
            queue=self.identity.queue,
            priority=self.identity.priority,
            parent=started.parent,
            metadata=dict(started.metadata),
            started_at=self.started_at,
            turns=self._turn_turns,
            events=self._turn_events,
            max_events=self.max_events,
            scheduled_at=None if started.schedule is None else started.schedule.at,
        )

    def outgoing(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the metadata of a call that is made now: the instance's, more, and injected."""
        started = self.begun.started
        assert started is not None, "workflow code runs only after Started"
        return injected(self.propagators, started.metadata, more)

    def cannot_read(self, what: str, error: Exception, task: str) -> BaseException:
        """Suspend the instance because a stored value cannot be read.

        Returns:
            The exception that the call must raise. Workflow code may catch it: no task runs after
            this one, and nothing of the turn is stored.
        """
        if self.replaying and self.rules < IN_ORDER_OF_TIME:
            return error  # as older rules had it: the history may go on after the error
        me, name = self.identity.id, self.definition.name
        said = str(error) if is_plain(self.codec) else type(error.__cause__ or error).__name__
        self._trouble = self._trouble or undecodable(name, me, self.turns, task, what, said)
        self.commands.recorded = {}  # silences logging, as on replay
        self.loop.fenced = True
        self.loop.halt()
        return Evicted()

    # --- inside -------------------------------------------------------------------------

    def _in_order(
        self, events: Sequence[ev.Event], at: Sequence[float], now: float
    ) -> tuple[Sequence[ev.Event], Sequence[float]]:
        """Sort events by the time at which they happened; those of one time keep their order."""
        if self.turns == 0 and events and isinstance(events[0], ev.Started):
            self.rules = events[0].rules
            if self.rules > CURRENT_RULES:
                me = self.identity.id
                raise NeedsSuspension(unknown_rules(self.definition.name, me, self.rules))
        if not at or self.rules < IN_ORDER_OF_TIME:
            return events, (now,) * len(events)
        if len(at) != len(events):
            why = f"it has {len(events)} events and {len(at)} times"
            raise NeedsSuspension(unreadable_turn(self.identity.id, self.turns, why))
        times = [min(time, now) for time in at]
        if self.turns == 0:
            times[0] = -inf  # nothing comes before Started
        if len(times) > 1:
            order = sorted(range(len(times)), key=times.__getitem__)
            return [events[i] for i in order], [times[i] for i in order]
        return events, times

    def _compare(
        self,
        number: int,
        recorded: Turn,
        commands: list[Command],
        end: Outcome | None,
        *,
        early: bool,
    ) -> None:
        """Compare a replayed turn with the stored one. Raises `Diverged`."""
        was, is_now = (recorded.commands, recorded.outcome), (commands, end)
        changed = partial(self.begun.source_changed, self.definition)
        missing = () if self.patches is None else self.patches.missing
        check_turn(self.loop, number, was, is_now, changed, early=early, missing=missing)

    def _begin(self, events: Sequence[ev.Event], now: float) -> bool:
        """Make the first turn; return whether the workflow was cancelled before it began."""
        for event in events:
            self._apply(event)
        if self.cancelled_why is not None:
            return True
        if self.rules >= IN_ORDER_OF_TIME:
            self.calls.watched = True
            self.loop.set_rules(
                in_order=True,
                limited=self.rules >= LIMITED_NESTING,
                late_last=self.rules >= LATE_GENERATORS,
            )
        self._start()
        self.loop.step(now)
        return False

    def _end_for_forgotten(self, now: float) -> None:
        """Fail the workflow, and cancel its tasks, if a call of this turn was not awaited."""
        error = self.calls.find_forgotten()
        if error is None or self.loop.fenced:
            return
        ended = self.loop.outcome
        if isinstance(ended, Error) and continuation(ended.error) is None:
            ended.error.add_note(str(error))
            return
        self.doomed = self.doomed or error
        if self.loop.outcome is None:
            self.loop.cancel_root(str(error))
            self.loop.step(now)

    def _stopped(self, stop: StepsUsedUp | EndedUnseen) -> bool:
        """Note why a step ended early; return whether replayed code ended before its history."""
        if isinstance(stop, StepsUsedUp):
            self._trouble = self._trouble or self._spinning(stop)
            return False
        if not self.replaying:
            raise stop
        return True  # the code that made this turn has seen all of its messages

    def _spinning(self, used: StepsUsedUp) -> SuspendReport:
        found = dict(self.loop.tasks()).get(used.task)
        path = "" if found is None else found.path
        return does_not_wait(
            workflow=self.definition.name,
            instance=self.identity.id,
            turn=self.turns,
            limit=self._max_steps,
            task=path,
            line=line_of(self.loop, path),
            cancelled=used.cancelled,
        )

    def _start(self) -> None:
        started = self.begun.started
        if started is None:
            raise DeterminismError("the first event of an execution is Started")
        definition = self.definition
        if not definition.watched:
            guard.watch(definition.fn)
            definition.watched = True
        self.carries = bool(started.metadata or self.propagators)
        self.started_at = self.now
        self.loop.start(partial(run_main, self, started), definition.name, definition.fn)

    def _apply(self, event: ev.Event) -> None:  # one branch for each kind
        match event:
            case (
                ev.ActivityCompleted()
                | ev.ChildCompleted()
                | ev.ActivityFailed()
                | ev.ChildFailed()
                | ev.ActivityCancelled()
                | ev.ChildCancelled()
                | ev.SignalSent()
                | ev.SignalFailed()
                | ev.RequestDone()
                | ev.RequestFailed()
            ):
                self.commands.answer(event.id, event)
            case ev.SignalReceived() | ev.UpdateRequested():
                self.messages.deliver(event, self)
            case ev.PromiseResolved() | ev.PromiseRejected():
                self.messages.promises.settle(self.loop, event)
            case ev.Started():
                self.begun.started = event
                self.max_events = event.max_events or self.max_events
                self.attributes = event.attributes
                for message in event.carried:
                    self.messages.deliver(message, self)
            case ev.CancelRequested():
                if self.begun.is_asked_by(event) and self.cancelled_why is None:
                    self.cancelled_why = event
                    self.commands.cancel_reason = event.reason
                    if self.turns:
                        self.loop.cancel_root(open_text(self.codec, event.reason))
            case ev.Woken():
                pass  # the step itself expires what is due
            case _:
                assert_never(event)

    def _outcome(self, recorded: Turn | None, *, never_started: bool) -> Outcome:
        why = self.cancelled_why
        if never_started:
            assert why is not None
            return Cancelled(why.reason)
        if self.loop.alive:  # tasks of a nursery that was never closed
            self._unwind()  # its queries are answered further
        return outcome_of(self, recorded)


_MESSAGES = (ev.SignalReceived, ev.UpdateRequested)


def _must_be_seen(event: ev.Event) -> bool:
    # Only messages: a cancel or a result after the end is of no use.
    return isinstance(event, _MESSAGES)
