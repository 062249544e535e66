"""Runs a workflow without a worker and a store, in an order of events that a schedule chooses.

The theory. A workflow's execution is a fold over turns. What reaches it, and in which order, is up
to the world: activities end in any order, fail, or take longer than they may; signals and cancels
come at any moment; a worker is killed before or after it has stored something; an execution is
evicted and replayed. `Simulation` is that world. At each step it lists all that could happen next,
and the `Schedule` says which of it does. Everything else is as in production: the engine is the
real one, arguments and results go through the codec, and retries follow their policies.

After every turn the whole history is replayed from its encoded form by a fresh execution. If that
does not give the same commands, the workflow is not deterministic.
"""

from __future__ import annotations

import gc
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, assert_never

import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._codec.values import Codec, JsonCodec, decode_as, encode_checked
from trioflow._engine import guard
from trioflow._engine.calls import Caller
from trioflow._engine.execution import Execution
from trioflow._engine.loop.steps import EndedUnseen
from trioflow._engine.pending import Identity
from trioflow._engine.suspension import NeedsSuspension
from trioflow._engine.tree import tasks_of
from trioflow._model import events as ev
from trioflow._model.commands import (
    CancelActivity,
    CancelChild,
    Command,
    RecordSideEffect,
    RunActivity,
    SendSignal,
    StartChild,
)
from trioflow._model.definitions import Activity, Workflow
from trioflow._model.info import ActivityInfo, current_activity
from trioflow._model.retry import DEFAULT_ACTIVITY_RETRY
from trioflow._model.rules import CURRENT_RULES
from trioflow._model.turns import (
    Cancelled,
    Completed,
    Continued,
    Failed,
    Outcome,
    Turn,
    decode_turn,
    encode_turn,
)
from trioflow._registry import Registry, default_registry
from trioflow.authoring import Signal
from trioflow.errors import (
    ActivityTimeout,
    DeterminismError,
    InstanceAlreadyExists,
    InstanceCancelled,
    InstanceNotFound,
    NonRetryable,
    TrioflowError,
)
from trioflow.testing.fakes import FakeCall
from trioflow.testing.history import History, ReplayError, StoredExecution
from trioflow.testing.schedules import Schedule
from trioflow.testing.stuck import Stuck, show_tasks
from trioflow.testing.tester import DEFAULT_START

__all__ = ["SimulatedFailure", "SimulatedFinalFailure", "Simulation", "simulate"]

P = ParamSpec("P")
R = TypeVar("R")

Functions = Mapping[Activity[..., Any] | Workflow[..., Any] | str, Callable[..., Any]]

_MOST_STEPS = 2000


class SimulatedFailure(Exception):
    """What an activity's attempt raises where the schedule has it fail; it is tried again."""


class SimulatedFinalFailure(NonRetryable):
    """What an activity raises where the schedule has it fail for good."""


class _Instance:
    """One instance of a simulation, with its executions."""

    def __init__(
        self, workflow: Workflow[..., Any], id: str, input: bytes, parent: ev.ParentRef | None
    ) -> None:
        self.workflow = workflow
        self.id = id
        self.input = input
        self.parent = parent
        self.number = 1
        self.life = hashlib.blake2b(id.encode(), digest_size=16).hexdigest()
        self.earlier: list[StoredExecution] = []
        self.turns: list[bytes] = []
        self.inbox: list[tuple[float, ev.Event]] = []
        self.carried: list[ev.SignalReceived] = []
        self.execution: Execution | None = None
        self.wake_at: float | None = None
        self.outcome: Outcome | None = None
        self.cancel_asked = False

    @property
    def due(self) -> bool:
        return not self.turns or bool(self.inbox)


class _Call:
    """An activity, or a faked sub-workflow, that was asked for and has not ended."""

    def __init__(
        self,
        instance: _Instance,
        command: RunActivity | StartChild,
        definition: Activity[..., Any] | Workflow[..., Any] | None,
        fn: Callable[..., Any],
        now: float,
    ) -> None:
        self.instance = instance
        self.execution = instance.number
        self.command = command
        self.definition = definition
        self.fn = fn
        self.attempt = 1
        self.scheduled_at = self.visible_at = now
        self.cancelled = False

    @property
    def name(self) -> str:
        command = self.command
        return command.activity if isinstance(command, RunActivity) else command.workflow

    @property
    def timeout(self) -> float | None:
        if not isinstance(self.definition, Activity) or not isinstance(self.command, RunActivity):
            return None
        options = self.command.options
        return self.definition.timeout if options is None else options.timeout


_Action = tuple[str, Callable[[], None]]
"""What could happen next, in words, and what makes it happen."""


class Simulation(Generic[R]):
    """What `simulate` has run.

    Attributes:
        status: How the instance ended: ``"completed"``, ``"failed"`` or ``"cancelled"``; or
            ``"running"`` if it waits for what never comes.
        calls: The calls of activities in their order, by the activity's name. Every attempt counts.
        trace: What happened, one line a step.
        now: The virtual time, epoch seconds.
        elapsed: The virtual seconds since the start.
    """

    def __init__(
        self,
        workflow: Workflow[..., R],
        input: bytes,
        *,
        functions: Functions,
        registry: Registry,
        codec: Codec,
        schedule: Schedule,
        signals: Sequence[tuple[Signal[Any], Any]],
        cancels: bool,
        failures: bool,
        crashes: bool,
        instances: int,
        deploy: Workflow[..., Any] | None,
    ) -> None:
        self.workflow = workflow
        self.calls: dict[str, list[FakeCall]] = {}
        self.trace: list[str] = []
        self.now = DEFAULT_START
        self._functions = {_name(key): (key, fn) for key, fn in functions.items()}
        self._registry = registry
        self._codec = codec
        self._schedule = schedule
        self._signals = list(signals)
        self._cancels = cancels
        self._failures = failures
        self._crashes = crashes
        self._deploy = deploy
        self._instances: dict[str, _Instance] = {}
        self._open: list[_Call] = []
        self._roots = [f"simulated-{number}" for number in range(1, instances + 1)]
        for id in self._roots:
            self._instances[id] = _Instance(workflow, id, input, None)

    @property
    def elapsed(self) -> float:
        """The virtual seconds since the start."""
        return self.now - DEFAULT_START

    @property
    def status(self) -> str:
        """How the first instance ended; see the class."""
        match self._instances[self._roots[0]].outcome:
            case Completed():
                return "completed"
            case Failed():
                return "failed"
            case Cancelled():
                return "cancelled"
            case _:
                return "running"

    def result(self) -> R:
        """Return the result of the first instance.

        Raises:
            InstanceCancelled: It was cancelled.
            Stuck: It has not ended.
            Exception: What the workflow raised.
        """
        root = self._instances[self._roots[0]]
        match root.outcome:
            case Completed() as completed:
                what = f"result of {root.workflow.name}()"
                result: R = decode_as(
                    self._codec, bytes(completed.result), root.workflow.signature.result_type, what
                )
                return result
            case Failed() as failed:
                raise failed.failure.rebuild(self._codec)
            case Cancelled() as cancelled:
                raise InstanceCancelled(root.id, cancelled.reason)
            case _:
                raise Stuck(self._waiting())

    def called(self, activity: Activity[..., Any] | Workflow[..., Any] | str) -> list[FakeCall]:
        """Return the calls of an activity, or of a faked sub-workflow, in their order."""
        return self.calls.get(_name(activity), [])

    def history(self, id: str | None = None) -> History:
        """Return the history of an instance, by default of the first."""
        instance = self._instances[self._roots[0] if id is None else id]
        now = StoredExecution(instance.number, [msgspec.Raw(turn) for turn in instance.turns])
        return History(
            id=instance.id,
            workflow=instance.workflow.name,
            life=instance.life,
            executions=[*instance.earlier, now],
        )

    # --- the world ------------------------------------------------------------------------

    def run(self) -> None:
        """Let one thing after the other happen until every instance has ended, or none can."""
        try:
            for _ in range(_MOST_STEPS):
                usual = self._usual()
                if not usual:
                    return
                actions = usual + self._unusual() if self._schedule_has_more else usual
                what, do = actions[self._schedule.choose(len(actions))]
                self.trace.append(what)
                do()
            raise Stuck(f"{_MOST_STEPS} steps do not end it.\n{self._waiting()}")
        finally:
            for instance in self._instances.values():
                self._evict(instance)

    @property
    def _schedule_has_more(self) -> bool:
        return self._schedule.more

    def _usual(self) -> list[_Action]:
        """What happens if nothing goes wrong, in the order in which it would."""
        living = [i for i in self._instances.values() if i.outcome is None]
        actions: list[_Action] = [
            (f"a turn of {i.id}", lambda i=i: self._turn(i, len(i.inbox))) for i in living if i.due
        ]
        later: list[tuple[float, _Action]] = []
        for call in self._open:
            action = (f"{self._said(call)} ends", lambda call=call: self._attempt(call))
            if call.visible_at <= self.now:
                actions.append(action)
            else:
                later.append((call.visible_at, action))
        if self._signals and any(i.outcome is None for i in self._living_roots()):
            signal = self._signals[0][0].name
            actions.append((f"signal {signal!r} comes", self._send_next))
        later += [
            (i.wake_at, (f"the time for {i.id} comes", lambda i=i: self._wake(i)))
            for i in living
            if i.wake_at is not None and not i.due
        ]
        later.sort(key=lambda item: item[0])
        return actions + [action for _, action in later]

    def _unusual(self) -> list[_Action]:
        """What else could happen."""
        living = [i for i in self._instances.values() if i.outcome is None]
        actions: list[_Action] = []
        if self._cancels:
            actions += [
                (f"a client cancels {i.id}", lambda i=i: self._cancel(i))
                for i in self._living_roots()
                if not i.cancel_asked and (i.turns or self._crashes)
            ]
        for call in self._open:
            said = self._said(call)
            if call.cancelled:
                actions.append((f"{said} ends all the same", lambda c=call: self._run(c)))
                continue
            if self._failures:
                actions.append(
                    (f"{said} fails", lambda c=call: self._fail(c, SimulatedFailure("simulated")))
                )
                error = SimulatedFinalFailure("simulated")
                actions.append((f"{said} fails for good", lambda c=call, e=error: self._fail(c, e)))
                if call.timeout is not None:
                    late = ActivityTimeout(f"activity {call.name!r} took longer than its timeout")
                    actions.append(
                        (f"{said} takes too long", lambda c=call, e=late: self._fail(c, e))
                    )
            if self._crashes:
                actions.append(
                    (f"{said} has run as its worker is killed", lambda c=call: self._run_in_vain(c))
                )
        for i in living:
            if len(i.inbox) > 1:
                actions.append((f"a turn of {i.id} with one event", lambda i=i: self._turn(i, 1)))
            if i.due and self._crashes:
                actions.append(
                    (f"a turn of {i.id} is lost with its worker", lambda i=i: self._lose_turn(i))
                )
            if i.execution is not None:
                actions.append((f"{i.id} is evicted", lambda i=i: self._evict(i)))
        actions.append(("the garbage collector runs", _collect))
        if self._deploy is not None:
            actions.append(("the new code is deployed", self._use_new_code))
        return actions

    def _living_roots(self) -> list[_Instance]:
        roots = [self._instances[id] for id in self._roots]
        return [root for root in roots if root.outcome is None]

    def _said(self, call: _Call) -> str:
        attempt = "" if call.attempt == 1 else f", attempt {call.attempt},"
        return f"{call.name!r} ({call.command.id} of {call.instance.id}){attempt}"

    # --- what happens from outside ----------------------------------------------------------

    def _send_next(self) -> None:
        signal, value = self._signals.pop(0)
        data = encode_checked(self._codec, value, signal.type, f"signal {signal.name!r}")
        for root in self._living_roots():
            root.inbox.append((self.now, ev.SignalReceived(signal.name, msgspec.Raw(data))))

    def _cancel(self, instance: _Instance) -> None:
        instance.cancel_asked = True
        instance.inbox.append((self.now, ev.CancelRequested("simulated")))

    def _wake(self, instance: _Instance) -> None:
        assert instance.wake_at is not None
        self.now = max(self.now, instance.wake_at)
        self._turn(instance, 0)

    def _use_new_code(self) -> None:
        new, self._deploy = self._deploy, None
        assert new is not None
        for instance in self._instances.values():
            if instance.workflow is self.workflow and instance.outcome is None:
                self._evict(instance)
                instance.workflow = new
                if instance.turns:
                    self._replay(instance)
        self.workflow = new

    # --- activities -------------------------------------------------------------------------

    def _attempt(self, call: _Call) -> None:
        if call.cancelled:
            self._end(call, self._cancelled(call))
        else:
            self._run(call)

    def _run(self, call: _Call) -> None:
        self.now = max(self.now, call.visible_at)
        try:
            result = self._call(call)
            if isinstance(call.command, StartChild):
                self._end(call, ev.ChildCompleted(call.command.id, result))
            else:
                self._end(call, ev.ActivityCompleted(call.command.id, result))
        except Exception as exc:  # noqa: BLE001  # the fake's failure is the activity's
            self._failed(call, exc)

    def _run_in_vain(self, call: _Call) -> None:
        self.now = max(self.now, call.visible_at)
        try:
            self._call(call)
        except Exception as exc:  # noqa: BLE001  # its worker is killed before it can say so
            self.trace.append(f"  ({type(exc).__name__} is lost, too)")
        self._evict_all()
        call.attempt += 1

    def _fail(self, call: _Call, error: Exception) -> None:
        self.now = max(self.now, call.visible_at)
        if call.timeout is not None and isinstance(error, ActivityTimeout):
            self.now += call.timeout
        self._note(call, (), {})
        self._failed(call, error)

    def _failed(self, call: _Call, error: Exception) -> None:
        failure = Failure.of(error, self._codec)
        if isinstance(call.command, StartChild):
            self._end(call, ev.ChildFailed(call.command.id, failure))
            return
        options = call.command.options
        policy = None if options is None else options.retry
        if policy is None and isinstance(call.definition, Activity):
            policy = call.definition.retry
        policy = policy or DEFAULT_ACTIVITY_RETRY
        elapsed = self.now - call.scheduled_at
        delay = policy.next_delay(call.attempt, failure, elapsed, call.command.id)
        if delay is None or call.cancelled:
            self._end(call, ev.ActivityFailed(call.command.id, failure))
        else:
            call.attempt += 1
            call.visible_at = self.now + delay

    def _cancelled(self, call: _Call) -> ev.Event:
        if isinstance(call.command, StartChild):
            return ev.ChildCancelled(call.command.id)
        return ev.ActivityCancelled(call.command.id)

    def _call(self, call: _Call) -> msgspec.Raw:
        """Call the function that stands for an activity; return its encoded result."""
        definition, data, name = call.definition, bytes(call.command.input), call.name
        if definition is None:
            args, kwargs = [], msgspec.json.decode(data)
        else:
            args, kwargs = definition.signature.decode(self._codec, data, name)
        self._note(call, tuple(args), dict(kwargs))
        token = current_activity.set(
            ActivityInfo(
                activity=name,
                instance=call.instance.id,
                execution=call.execution,
                command=call.command.id,
                attempt=call.attempt,
                scheduled_at=call.scheduled_at,
                queue=call.command.queue,
                life=call.instance.life,
            )
        )
        try:
            result = call.fn(*args, **kwargs)
            if inspect.iscoroutine(result):
                result = _finish(result, name)
        finally:
            current_activity.reset(token)
        type_ = Any if definition is None else definition.signature.result_type
        return msgspec.Raw(encode_checked(self._codec, result, type_, f"{name}() result"))

    def _note(self, call: _Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        noted = FakeCall(
            args, kwargs, at=self.elapsed, attempt=call.attempt, instance=call.instance.id
        )
        self.calls.setdefault(call.name, []).append(noted)

    def _end(self, call: _Call, event: ev.Event) -> None:
        self._open.remove(call)
        instance = call.instance
        if instance.outcome is None and instance.number == call.execution:
            instance.inbox.append((self.now, event))

    # --- turns --------------------------------------------------------------------------------

    def _turn(self, instance: _Instance, count: int) -> None:
        """Make a turn with the first events of the inbox, store it and carry out what it asks."""
        turn = self._make(instance, count)
        del instance.inbox[:count]
        data = encode_turn(turn)
        instance.turns.append(data)
        assert instance.execution is not None
        instance.wake_at = instance.execution.wake_at
        unread = instance.execution.unread_signals()
        self._check(instance)
        for command in decode_turn(data).commands:
            self._carry_out(instance, command)
        if turn.outcome is not None:
            self._ended(instance, turn.outcome, unread)

    def _make(self, instance: _Instance, count: int) -> Turn:
        together_from = -1
        while True:
            if instance.execution is None:
                instance.execution = self._fresh(instance)
                if instance.turns:
                    self._replay_into(instance, instance.execution)
            received = instance.inbox[:count]
            events: list[ev.Event] = [] if instance.turns else [self._started(instance)]
            events += [event for _, event in received]
            at: list[float] = []
            wake_at = instance.wake_at
            if wake_at is not None and wake_at <= self.now:
                if received and wake_at < self.now:
                    at = [time for time, _ in received] + [wake_at]
                events.append(ev.Woken())
            try:
                return instance.execution.advance(
                    events, self.now, at=at, together_from=together_from
                )
            except EndedUnseen as ended:
                together_from = ended.number
                self._evict(instance)
            except NeedsSuspension as stop:
                raise ReplayError(instance.id, stop.report) from None

    def _lose_turn(self, instance: _Instance) -> None:
        """Make a turn that is not stored, since the worker is killed."""
        self._make(instance, len(instance.inbox))
        self._evict_all()

    def _started(self, instance: _Instance) -> ev.Started:
        seed = f"{instance.id}/{instance.number}"
        return ev.Started(
            workflow=instance.workflow.name,
            input=msgspec.Raw(instance.input),
            parent=instance.parent,
            carried=list(instance.carried),
            rules=CURRENT_RULES,
            seed=hashlib.blake2b(seed.encode(), digest_size=16).hexdigest(),
        )

    def _fresh(self, instance: _Instance) -> Execution:
        identity = Identity(instance.id, instance.number, "default", 0, instance.life)
        return Execution(instance.workflow, identity, self._codec, Caller)

    def _replay_into(self, instance: _Instance, execution: Execution) -> None:
        try:
            execution.replay([decode_turn(data) for data in instance.turns])
        except NeedsSuspension as stop:
            execution.evict()
            raise ReplayError(instance.id, stop.report) from None

    def _replay(self, instance: _Instance) -> None:
        execution = self._fresh(instance)
        self._replay_into(instance, execution)
        execution.evict()

    def _check(self, instance: _Instance) -> None:
        """Replay the history from its encoded form; it has to come out as it is."""
        self._replay(instance)

    def _evict(self, instance: _Instance) -> None:
        execution, instance.execution = instance.execution, None
        if execution is not None:
            execution.evict()

    def _evict_all(self) -> None:
        for instance in self._instances.values():
            self._evict(instance)

    # --- what a turn asks for -----------------------------------------------------------------

    def _carry_out(self, instance: _Instance, command: Command) -> None:
        match command:
            case RunActivity():
                definition, fn = self._function_of(command.activity)
                self._open.append(_Call(instance, command, definition, fn, self.now))
            case StartChild():
                self._start_child(instance, command)
            case CancelActivity():
                for call in self._open:
                    if call.instance is instance and call.command.id == command.id:
                        call.cancelled, call.visible_at = True, self.now
            case CancelChild():
                self._cancel_child(instance, command)
            case SendSignal():
                self._send(instance, command)
            case RecordSideEffect():
                pass  # it has already happened
            case _:
                assert_never(command)

    def _function_of(self, name: str) -> tuple[Activity[..., Any] | None, Callable[..., Any]]:
        definition = self._registry.activities.get(name)
        key, fn = self._functions.get(name, (None, None))
        if isinstance(key, Activity):
            definition = key
        if fn is None:
            raise TrioflowError(
                f"the workflow calls activity {name!r}, and the simulation has no function for it: "
                f"activities={{{name}: lambda ...: ...}}"
            )
        return definition, fn

    def _start_child(self, parent: _Instance, command: StartChild) -> None:
        ref = ev.ParentRef(parent.id, parent.number, command.id, parent.life)
        present = self._instances.get(command.instance)
        if present is not None and present.outcome is None:
            failure = Failure.of(InstanceAlreadyExists(command.instance), self._codec)
            parent.inbox.append((self.now, ev.ChildFailed(command.id, failure)))
            return
        key, fn = self._functions.get(command.workflow, (None, None))
        if fn is not None:
            definition = key if isinstance(key, Workflow) else None
            definition = definition or self._registry.workflows.get(command.workflow)
            self._open.append(_Call(parent, command, definition, fn, self.now))
            return
        workflow = self._registry.workflows.get(command.workflow)
        if workflow is None and command.workflow == self.workflow.name:
            workflow = self.workflow
        if workflow is None:
            raise TrioflowError(
                f"the workflow calls sub-workflow {command.workflow!r}, which is not registered "
                f"here; give registry=, or a function: activities={{{command.workflow!r}: ...}}"
            )
        child = _Instance(workflow, command.instance, bytes(command.input), ref)
        self._instances[command.instance] = child

    def _cancel_child(self, parent: _Instance, command: CancelChild) -> None:
        for call in self._open:
            if call.instance is parent and call.command.id == command.id:
                call.cancelled, call.visible_at = True, self.now
        child = self._instances.get(command.instance)
        ref = ev.ParentRef(parent.id, parent.number, command.id, parent.life)
        if child is not None and child.outcome is None and child.parent == ref:
            child.inbox.append((self.now, ev.CancelRequested(command.reason, ref)))

    def _send(self, sender: _Instance, command: SendSignal) -> None:
        target = self._instances.get(command.instance)
        if target is None or target.outcome is not None:
            error = InstanceNotFound(command.instance, "it does not exist, or has finished")
            failure = Failure.of(error, self._codec)
            sender.inbox.append((self.now, ev.SignalFailed(command.id, failure)))
            return
        target.inbox.append((self.now, ev.SignalReceived(command.name, command.value)))
        sender.inbox.append((self.now, ev.SignalSent(command.id)))

    def _ended(
        self, instance: _Instance, outcome: Outcome, unread: list[ev.SignalReceived]
    ) -> None:
        self._evict(instance)
        instance.wake_at = None
        self._open = [call for call in self._open if call.instance is not instance]
        if isinstance(outcome, Continued):
            turns = [msgspec.Raw(turn) for turn in instance.turns]
            instance.earlier.append(StoredExecution(instance.number, turns))
            instance.number += 1
            instance.turns = []
            instance.input = bytes(outcome.input)
            instance.carried = unread
            keep = (ev.SignalReceived, ev.CancelRequested)
            instance.inbox = [
                (at, event) for at, event in instance.inbox if isinstance(event, keep)
            ]
            return
        instance.outcome = outcome
        if isinstance(outcome, Failed) and instance.parent is None:
            error = outcome.failure.rebuild(self._codec)
            if isinstance(error, DeterminismError):
                raise error
        if instance.parent is not None:
            self._tell_parent(instance.parent, outcome)

    def _tell_parent(self, ref: ev.ParentRef, outcome: Outcome) -> None:
        parent = self._instances[ref.instance]
        if parent.outcome is not None or parent.number != ref.execution:
            return
        event: ev.Event
        match outcome:
            case Completed(result=result):
                event = ev.ChildCompleted(ref.command, result)
            case Failed(failure=failure):
                event = ev.ChildFailed(ref.command, failure)
            case Cancelled(reason=reason):
                event = ev.ChildCancelled(ref.command, reason)
            case Continued():
                raise AssertionError("it goes on")
            case _:
                assert_never(outcome)
        parent.inbox.append((self.now, event))

    # --- for messages -------------------------------------------------------------------------

    def _waiting(self) -> str:
        lines = ["nothing will ever happen any more."]
        for instance in self._instances.values():
            if instance.outcome is None:
                lines.append(f"instance {instance.id!r} ({instance.workflow.name}) waits:")
                execution = self._fresh(instance)
                self._replay_into(instance, execution)
                lines += [f"  {line}" for line in show_tasks(tasks_of(execution))]
                execution.evict()
        return "\n".join(lines)

    def told(self) -> str:
        """Return what happened, one line a step."""
        return "\n".join(f"{number:3}. {what}" for number, what in enumerate(self.trace, 1))


def simulate(
    workflow: Workflow[..., R],
    /,
    *args: Any,
    schedule: Schedule | None = None,
    activities: Functions | None = None,
    signals: Sequence[tuple[Signal[Any], Any]] = (),
    cancels: bool = True,
    failures: bool = True,
    crashes: bool = True,
    instances: int = 1,
    deploy: Workflow[..., Any] | None = None,
    registry: Registry | None = None,
    codec: Codec | None = None,
    check: Callable[[Simulation[R]], object] | None = None,
    save_to: str | Path | None = None,
) -> Simulation[R]:
    """Run a workflow in the order of events that a schedule chooses, and replay it after each turn.

    It is quick and takes no real time. It may be called with or without a running event loop.

    Args:
        workflow: The workflow.
        *args: Its arguments.
        schedule: What happens when; by default nothing goes wrong. See `schedules`.
        activities: What stands for each activity, by activity or name: a function, async or not,
            that returns at once. Sub-workflows may be given too; otherwise their own code runs.
        signals: What a client sends, in this order: pairs of a signal and a value.
        cancels: Whether a client may cancel the instance.
        failures: Whether attempts of activities may fail though their function does not, or take
            too long. They raise `SimulatedFailure`, `SimulatedFinalFailure` or `ActivityTimeout`.
        crashes: Whether workers may be killed: after an activity has run and before that is stored,
            or between a turn and its commit.
        instances: How many instances run side by side, with the same arguments and signals.
        deploy: The workflow's new code, which is deployed at some time.
        registry: Where sub-workflows and the types of activities are found; by default all that
            were decorated in this process.
        codec: How values are stored; by default `JsonCodec`.
        check: Called with the simulation once it has ended. What it raises is an error found.
        save_to: Where the history of the first instance is written if an error is found; a file
            for `check_replay`.

    Returns:
        The simulation: its ``status``, ``result()``, ``calls`` and ``trace``.

    Raises:
        ReplayError: The workflow is not deterministic, or the new code does not fit the history.
        DeterminismError: The workflow does what it must not.
        Stuck: It does not end within a great many steps.
    """
    guard.install()
    codec = JsonCodec() if codec is None else codec
    schedule = Schedule() if schedule is None else schedule
    schedule.begin()
    simulation: Simulation[R] = Simulation(
        workflow,
        workflow.signature.encode(codec, args, {}, workflow.name),
        functions=activities or {},
        registry=default_registry if registry is None else registry,
        codec=codec,
        schedule=schedule,
        signals=signals,
        cancels=cancels,
        failures=failures,
        crashes=crashes,
        instances=instances,
        deploy=deploy,
    )
    try:
        simulation.run()
        if check is not None:
            check(simulation)
    except Exception as exc:
        told = f"what happened:\n{simulation.told()}"
        if save_to is not None:
            simulation.history().save(save_to)
            told += f"\nthe history is in {save_to}"
        exc.add_note(told)
        raise
    return simulation


def _collect() -> None:
    gc.collect()


def _name(key: Activity[..., Any] | Workflow[..., Any] | str) -> str:
    return key if isinstance(key, str) else key.name


def _finish(coroutine: Any, name: str) -> Any:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise TrioflowError(
        f"the function for {name!r} waits; in a simulation it returns at once, and the schedule "
        "says when its activity ends"
    )
