"""The world of a simulation: what could happen next, and what follows from it."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar, assert_never

import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._codec.values import Codec, decode_as, encode_checked
from trioflow._model import events as ev
from trioflow._model.commands import (
    AnswerUpdate,
    CancelActivity,
    CancelChild,
    CancelInstance,
    Command,
    RecordPatch,
    RecordSideEffect,
    RunActivity,
    SendSignal,
    StartChild,
    StartDetached,
)
from trioflow._model.definitions import Activity, Workflow
from trioflow._model.turns import Cancelled, Completed, Continued, Failed, Outcome
from trioflow._registry import Registry
from trioflow.authoring import Signal, Update
from trioflow.errors import (
    ActivityTimeout,
    DeterminismError,
    InstanceAlreadyExists,
    InstanceCancelled,
    InstanceNotFound,
    InstanceTerminated,
    TrioflowError,
)
from trioflow.testing.fakes import FakeCall
from trioflow.testing.history import History
from trioflow.testing.simulation.calls import (
    SimulatedCall,
    SimulatedFailure,
    SimulatedFinalFailure,
)
from trioflow.testing.simulation.instances import SimulatedInstance
from trioflow.testing.simulation.resets import PlannedReset, places_of
from trioflow.testing.simulation.schedules import Schedule
from trioflow.testing.stuck import Stuck
from trioflow.testing.tester import DEFAULT_START
from trioflow.testing.trees import show_tasks

__all__ = ["Functions", "Hazards", "SimulatedUpdate", "Simulation"]

R = TypeVar("R")

SimulatedUpdate = tuple[Update[[], Any]] | tuple[Update[[Any], Any], Any]
"""An update that a client asks for, with its argument, if it has one."""

Functions = Mapping[Activity[..., Any] | Workflow[..., Any] | str, Callable[..., Any]]
"""What stands for activities and sub-workflows."""

_MOST_STEPS = 2000

_Action = tuple[str, Callable[[], None]]
"""What could happen next, in words, and what makes it happen."""


class Hazards(msgspec.Struct, frozen=True, kw_only=True):
    """What may go wrong in a simulation; see `simulate`."""

    cancels: bool = True
    failures: bool = True
    crashes: bool = True
    terminates: bool = False
    resets: bool = False


class Simulation(Generic[R]):
    """What `simulate` has run.

    Attributes:
        trace: What happened, one line a step.
        now: The virtual time, epoch seconds.
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
        updates: Sequence[SimulatedUpdate],
        hazards: Hazards,
        instances: int,
        deploy: Workflow[..., Any] | None,
    ) -> None:
        self.trace: list[str] = []
        self.now = DEFAULT_START
        self._workflow: Workflow[..., Any] = workflow
        self._functions = {_name(key): (key, fn) for key, fn in functions.items()}
        self._registry = registry
        self._codec = codec
        self._schedule = schedule
        self._signals = list(signals)
        self._updates = list(enumerate(updates))
        self._answers: dict[str, AnswerUpdate] = {}
        self._hazards = hazards
        self._deploy = deploy
        self._open: list[SimulatedCall] = []
        self._noted: dict[str, list[FakeCall]] = {}
        self._instances: dict[str, SimulatedInstance] = {}
        self._roots: list[SimulatedInstance] = []
        for number in range(1, instances + 1):
            root = SimulatedInstance(
                workflow, f"simulated-{number}", input, None, codec, now=self.now
            )
            self._roots.append(root)
            self._instances[root.id] = root

    # --- what came of it ----------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """The virtual seconds since the start."""
        return self.now - DEFAULT_START

    @property
    def status(self) -> str:
        """How it ended: ``"completed"``, ``"failed"``, ``"cancelled"`` or ``"terminated"``.

        ``"running"`` if it waits for what never comes.
        """
        if self._roots[0].terminated:
            return "terminated"
        match self._roots[0].outcome:
            case Completed():
                return "completed"
            case Failed():
                return "failed"
            case Cancelled():
                return "cancelled"
            case _:
                return "running"

    @property
    def answers(self) -> dict[int, Any]:
        """What the updates were answered: a value, or the exception that was raised.

        By their places in ``updates``. One that is missing was not answered before the end.
        """
        codec = self._codec
        return {
            int(update): decode_as(codec, bytes(answer.result), Any, f"update {answer.name!r}")
            if answer.failure is None
            else answer.failure.rebuild(codec)
            for update, answer in self._answers.items()
        }

    def result(self) -> R:
        """Return the result.

        Raises:
            InstanceCancelled: It was cancelled.
            InstanceTerminated: It was terminated.
            Stuck: It has not ended, and waits for what never comes.
            Exception: What the workflow raised.
        """
        root = self._roots[0]
        if root.terminated:
            raise InstanceTerminated(root.id, "simulated")
        match root.outcome:
            case Completed() as completed:
                what = f"result of {root.workflow.name}()"
                type_ = root.workflow.signature.result_type
                result: R = decode_as(self._codec, bytes(completed.result), type_, what)
                return result
            case Failed() as failed:
                raise failed.failure.rebuild(self._codec)
            case Cancelled() as cancelled:
                raise InstanceCancelled(root.id, cancelled.reason)
            case _:
                raise Stuck(self._where_it_waits())

    def called(self, activity: Activity[..., Any] | Workflow[..., Any] | str) -> list[FakeCall]:
        """Return the calls of an activity, or of a faked sub-workflow; every attempt counts."""
        return self._noted.get(_name(activity), [])

    def repeated(self) -> dict[str, int]:
        """Return the activities whose function returned more than once for one call."""
        found: dict[str, int] = {}
        for name, calls in self._noted.items():
            ends = Counter(call.command for call in calls if call.error is None)
            most = max(ends.values(), default=0)
            if most > 1:
                found[name] = most
        return found

    def history(self) -> History:
        """Return the history of the instance."""
        return self._roots[0].history()

    def told(self) -> str:
        """Return what happened, one line a step."""
        return "\n".join(f"{number:3}. {what}" for number, what in enumerate(self.trace, 1))

    # --- what could happen --------------------------------------------------------------------

    def run(self) -> None:
        """Let one thing after the other happen until every instance has ended, or nothing can."""
        try:
            for _ in range(_MOST_STEPS):
                actions = self._usual()
                if not actions:
                    return
                if self._schedule.more:
                    actions += self._unusual()
                what, do = actions[self._schedule.pick([what for what, _ in actions])]
                self.trace.append(what)
                do()
            raise Stuck(f"{_MOST_STEPS} steps do not end it.\n{self._where_it_waits()}")
        finally:
            self._evict_all()

    @property
    def _living(self) -> list[SimulatedInstance]:
        return [each for each in self._instances.values() if each.outcome is None]

    def _usual(self) -> list[_Action]:
        """List what happens if nothing goes wrong, in the order in which it would."""
        living = self._living
        actions: list[_Action] = [
            (f"a turn of {i.id}", partial(self._turn, i)) for i in living if i.is_due
        ]
        later: list[tuple[float, _Action]] = []
        for call in self._open:
            action = (f"{call} ends", partial(self._attempt, call))
            if call.visible_at <= self.now:
                actions.append(action)
            else:
                later.append((call.visible_at, action))
        if self._updates and any(root.outcome is None for root in self._roots):
            actions.append((f"update {self._updates[0][1][0].name!r} comes", self._ask_next))
        if self._signals and any(root.outcome is None for root in self._roots):
            actions.append((f"signal {self._signals[0][0].name!r} comes", self._send_next))
        later += [
            (i.wake_at, (f"the time for {i.id} comes", partial(self._wake, i)))
            for i in living
            if i.wake_at is not None and not i.is_due
        ]
        later.sort(key=lambda item: item[0])
        return actions + [action for _, action in later]

    def _unusual(self) -> list[_Action]:
        """List what else could happen."""
        actions: list[_Action] = []
        if self._hazards.cancels:
            actions += [
                (f"a client cancels {root.id}", partial(self._cancel, root))
                for root in self._roots
                if root.outcome is None and not root.cancel_asked
            ]
        if self._hazards.terminates:
            actions += [
                (f"a client terminates {root.id}", partial(self._terminate, root))
                for root in self._roots
                if root.outcome is None
            ]
        if self._hazards.resets:
            actions += [
                (
                    f"a client resets {root.id} to before turn {turn}",
                    partial(self._reset, root, turn),
                )
                for root in self._roots
                if root.outcome is None and not root.was_reset
                for turn in places_of(root)
            ]
        for call in self._open:
            actions += self._hazards_of_call(call)
        for instance in self._living:
            actions += self._hazards_of_instance(instance)
        actions.append(("the garbage collector runs", _collect))
        if self._deploy is not None:
            actions.append(("the new code is deployed", self._use_new_code))
        return actions

    def _hazards_of_call(self, call: SimulatedCall) -> list[_Action]:
        if call.cancelled:
            return [(f"{call} ends all the same", lambda: self._run(call))]
        actions: list[_Action] = []
        if self._hazards.failures:
            once, final = SimulatedFailure("simulated"), SimulatedFinalFailure("simulated")
            actions.append((f"{call} fails", lambda: self._fail(call, once)))
            actions.append((f"{call} fails for good", lambda: self._fail(call, final)))
            if call.timeout is not None:
                late = ActivityTimeout(f"activity {call.name!r} took longer than its timeout")
                actions.append((f"{call} takes too long", lambda: self._fail(call, late)))
        if self._hazards.crashes:
            actions.append(
                (f"{call} has run as its worker is killed", lambda: self._run_in_vain(call))
            )
        return actions

    def _hazards_of_instance(self, instance: SimulatedInstance) -> list[_Action]:
        actions: list[_Action] = []
        if len(instance.inbox) > 1:
            one = f"a turn of {instance.id} with one event"
            actions.append((one, lambda: self._turn(instance, 1)))
        if self._hazards.crashes and (instance.is_due or instance.wake_at is not None):
            when = "" if instance.is_due else " at its time"
            lost = f"a turn of {instance.id}{when} is lost with its worker"
            actions.append((lost, lambda: self._lose_turn(instance)))
        if instance.in_memory:
            actions.append((f"{instance.id} is evicted", instance.evict))
        return actions

    # --- what comes from outside --------------------------------------------------------------

    def _send_next(self) -> None:
        signal, value = self._signals.pop(0)
        data = encode_checked(self._codec, value, signal.type, f"signal {signal.name!r}")
        for root in self._roots:
            if root.outcome is None:
                root.inbox.append((self.now, ev.SignalReceived(signal.name, msgspec.Raw(data))))

    def _ask_next(self) -> None:
        number, (update, *value) = self._updates.pop(0)
        data = ev.NO_VALUE
        for each in value:
            what = f"the argument of update {update.name!r}"
            data = msgspec.Raw(encode_checked(self._codec, each, update.argument, what))
        event = ev.UpdateRequested(str(number), update.name, data)
        for root in self._roots:
            if root.outcome is None:
                root.inbox.append((self.now, event))

    def _answered(self, instance: SimulatedInstance, answer: AnswerUpdate) -> None:
        if instance is self._roots[0]:
            again = answer.update in self._answers
            assert instance.was_reset or not again, f"update {answer.name!r} is answered twice"
            self._answers.setdefault(answer.update, answer)

    def _cancel(self, instance: SimulatedInstance) -> None:
        instance.cancel_asked = True
        instance.inbox.append((self.now, ev.CancelRequested("simulated")))

    def _terminate(self, instance: SimulatedInstance) -> None:
        """End an instance and its sub-workflows; none of their code runs any more."""
        instance.terminated = True
        error = InstanceTerminated(instance.id, "simulated")
        self._close(instance, Failed(Failure.of(error, self._codec)))
        for child in self._living:
            if child.parent is not None and child.parent.instance == instance.id:
                self._terminate(child)

    def _reset(self, instance: SimulatedInstance, turn: int) -> None:
        """Let an instance go on from before a turn."""
        before = instance.number
        planned = PlannedReset(instance, turn, self._instances, self.now)
        planned.begin()
        kept = {command.id: command for command in planned.activities}
        for call in [call for call in self._open if call.instance is instance]:
            if kept.pop(call.command.id, None) is None:
                self._open.remove(call)
            else:
                call.execution, call.cancelled = instance.number, False
        for command in kept.values():
            self._carry_out(instance, command)
            self._open[-1].called_in = before
        for child in planned.adopted:
            assert child.parent is not None
            child.parent = msgspec.structs.replace(child.parent, execution=instance.number)
        for child in self._living:
            parent = child.parent
            if parent is not None and (parent.instance, parent.execution) == (instance.id, before):
                self._terminate(child)
        for start in planned.children:
            self._start_child(instance, start)

    def _wake(self, instance: SimulatedInstance) -> None:
        assert instance.wake_at is not None
        self.now = max(self.now, instance.wake_at)
        self._turn(instance)

    def _use_new_code(self) -> None:
        old, new, self._deploy = self._workflow, self._deploy, None
        assert new is not None
        self._workflow = new
        for instance in self._living:
            if instance.workflow is old:
                instance.evict()
                instance.workflow = new
                instance.check_replay()

    def _evict_all(self) -> None:
        for instance in self._instances.values():
            instance.evict()

    # --- activities ---------------------------------------------------------------------------

    def _attempt(self, call: SimulatedCall) -> None:
        if call.cancelled:
            self._end(call, call.cancel())
        else:
            self._run(call)

    def _run(self, call: SimulatedCall) -> None:
        noted = self._begin(call)
        try:
            event = call.run()
        except Exception as exc:  # noqa: BLE001  # the function's failure is the activity's
            noted.error = exc
            self._failed(call, exc)
        else:
            self._end(call, event)

    def _run_in_vain(self, call: SimulatedCall) -> None:
        """Make an attempt whose result is lost, since the worker is killed."""
        noted = self._begin(call)
        try:
            call.run()
        except Exception as exc:  # noqa: BLE001  # as above
            noted.error = exc
            self.trace[-1] += f" (it raised {type(exc).__name__})"
        call.attempt += 1
        self._evict_all()

    def _fail(self, call: SimulatedCall, error: Exception) -> None:
        self._begin(call).error = error
        if call.timeout is not None and isinstance(error, ActivityTimeout):
            self.now += call.timeout
        self._failed(call, error)

    def _begin(self, call: SimulatedCall) -> FakeCall:
        self.now = max(self.now, call.visible_at)
        noted = call.note(self.elapsed)
        self._noted.setdefault(call.name, []).append(noted)
        return noted

    def _failed(self, call: SimulatedCall, error: Exception) -> None:
        event = call.fail(error, self.now)
        if event is not None:
            self._end(call, event)

    def _end(self, call: SimulatedCall, event: ev.Event) -> None:
        self._open.remove(call)
        if call.instance.outcome is None and call.instance.number == call.execution:
            call.instance.inbox.append((self.now, event))

    # --- turns, and what they ask for ---------------------------------------------------------

    def _turn(self, instance: SimulatedInstance, most: int | None = None) -> None:
        """Make a turn with the first events of the inbox, store it and carry out what it asks."""
        count = len(instance.inbox) if most is None else most
        turn = instance.store(instance.make_turn(count, self.now), count)
        for command in turn.commands:
            self._carry_out(instance, command)
        if turn.outcome is not None:
            self._ended(instance, turn.outcome)

    def _lose_turn(self, instance: SimulatedInstance) -> None:
        """Make a turn that is not stored, since the worker is killed."""
        if not instance.is_due and instance.wake_at is not None:
            self.now = max(self.now, instance.wake_at)
        instance.make_turn(len(instance.inbox), self.now)
        self._evict_all()

    def _carry_out(self, instance: SimulatedInstance, command: Command) -> None:
        match command:
            case RunActivity():
                definition, fn = self._function_of(command.activity)
                self._ask(instance, command, definition, fn)
            case StartChild():
                self._start_child(instance, command)
            case CancelActivity():
                self._cancel_call(instance, command)
            case CancelChild():
                self._cancel_call(instance, command)
                self._cancel_child(instance, command)
            case SendSignal():
                self._send(instance, command)
            case StartDetached():
                self._start_detached(instance, command)
            case CancelInstance():
                self._cancel_instance(instance, command)
            case AnswerUpdate():
                self._answered(instance, command)
            case RecordSideEffect() | RecordPatch():
                pass  # it has already happened, or nobody waits for it
            case _:
                assert_never(command)

    def _ask(
        self,
        instance: SimulatedInstance,
        command: RunActivity | StartChild,
        definition: Activity[..., Any] | Workflow[..., Any] | None,
        fn: Callable[..., Any],
    ) -> None:
        call = SimulatedCall(instance, command, definition, fn, self._codec, self.now)
        self._open.append(call)

    def _function_of(self, name: str) -> tuple[Activity[..., Any] | None, Callable[..., Any]]:
        key, fn = self._functions.get(name, (None, None))
        if fn is None:
            raise TrioflowError(
                f"the workflow calls activity {name!r}, and the simulation has no function for it: "
                f"activities={{{name}: lambda ...: ...}}"
            )
        return key if isinstance(key, Activity) else self._registry.activities.get(name), fn

    def _start_child(self, parent: SimulatedInstance, command: StartChild) -> None:
        present = self._instances.get(command.instance)
        if present is not None and present.outcome is None:
            failure = Failure.of(InstanceAlreadyExists(command.instance), self._codec)
            parent.inbox.append((self.now, ev.ChildFailed(command.id, failure)))
            return
        name = command.workflow
        workflow = self._registry.workflows.get(name)
        if workflow is None and name == self._workflow.name:
            workflow = self._workflow
        key, fn = self._functions.get(name, (None, None))
        if fn is not None:
            self._ask(parent, command, key if isinstance(key, Workflow) else workflow, fn)
            return
        if workflow is None:
            raise TrioflowError(
                f"the workflow calls sub-workflow {name!r}, which is not registered here; give "
                f"registry=, or a function for it: activities={{{name!r}: ...}}"
            )
        ref = ev.ParentRef(parent.id, parent.number, command.id, parent.life)
        child = SimulatedInstance(
            workflow,
            command.instance,
            bytes(command.input),
            ref,
            self._codec,
            now=self.now,
            start_at=command.start_at,
            options=command.options,
            attributes=command.attributes,
        )
        self._instances[child.id] = child

    def _start_detached(self, sender: SimulatedInstance, command: StartDetached) -> None:
        id, name = command.instance, command.workflow
        answer: ev.RequestAnswer = ev.RequestDone(command.id)
        present = self._instances.get(id)
        running = present is not None and present.outcome is None
        if running and command.if_exists == "replace":
            error = InstanceTerminated(id, "another one was started in its place")
            self._ended(self._instances[id], Failed(Failure.of(error, self._codec)))
            running = False
        if running or (present is not None and not command.reuse_finished):
            if command.if_exists != "return":
                failure = Failure.of(InstanceAlreadyExists(id), self._codec)
                answer = ev.RequestFailed(command.id, failure)
        elif name not in self._functions:  # with a function in its place nobody waits for it
            self._instances[id] = SimulatedInstance(
                self._workflow_of(name),
                id,
                bytes(command.input),
                None,
                self._codec,
                now=self.now,
                start_at=command.start_at,
                options=command.options,
                attributes=command.attributes,
            )
        sender.inbox.append((self.now, answer))

    def _cancel_instance(self, sender: SimulatedInstance, command: CancelInstance) -> None:
        target = self._instances.get(command.instance)
        if target is None or target.outcome is not None:
            error = InstanceNotFound(command.instance, "it does not exist, or has finished")
            failure = Failure.of(error, self._codec)
            sender.inbox.append((self.now, ev.RequestFailed(command.id, failure)))
            return
        target.inbox.append((self.now, ev.CancelRequested(command.reason)))
        sender.inbox.append((self.now, ev.RequestDone(command.id)))

    def _workflow_of(self, name: str) -> Workflow[..., Any]:
        workflow = self._registry.workflows.get(name)
        if workflow is None and name == self._workflow.name:
            workflow = self._workflow
        if workflow is None:
            raise TrioflowError(
                f"the workflow starts workflow {name!r}, which is not registered here; give "
                f"registry=, or a function for it: activities={{{name!r}: ...}}"
            )
        return workflow

    def _cancel_call(
        self, instance: SimulatedInstance, command: CancelActivity | CancelChild
    ) -> None:
        for call in self._open:
            if call.instance is instance and call.command.id == command.id:
                call.cancelled, call.visible_at = True, self.now
                call.reason = command.reason

    def _cancel_child(self, parent: SimulatedInstance, command: CancelChild) -> None:
        child = self._instances.get(command.instance)
        ref = ev.ParentRef(parent.id, parent.number, command.id, parent.life)
        if child is not None and child.outcome is None and child.parent == ref:
            cancel = ev.CancelRequested(command.reason, ref, parent.was_reset)
            child.inbox.append((self.now, cancel))

    def _send(self, sender: SimulatedInstance, command: SendSignal) -> None:
        target = self._instances.get(command.instance)
        if target is None or target.outcome is not None:
            error = InstanceNotFound(command.instance, "it does not exist, or has finished")
            failure = Failure.of(error, self._codec)
            sender.inbox.append((self.now, ev.SignalFailed(command.id, failure)))
            return
        target.inbox.append((self.now, ev.SignalReceived(command.name, command.value)))
        sender.inbox.append((self.now, ev.SignalSent(command.id)))

    def _close(self, instance: SimulatedInstance, outcome: Outcome) -> None:
        instance.end(outcome)
        self._open = [call for call in self._open if call.instance is not instance]

    def _ended(self, instance: SimulatedInstance, outcome: Outcome) -> None:
        self._close(instance, outcome)
        if isinstance(outcome, Failed):
            error = outcome.failure.rebuild(self._codec)
            if isinstance(error, DeterminismError):
                raise error
        if instance.parent is not None and not isinstance(outcome, Continued):
            self._tell_parent(instance.parent, outcome)

    def _tell_parent(self, ref: ev.ParentRef, outcome: Completed | Failed | Cancelled) -> None:
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
            case _:
                assert_never(outcome)
        parent.inbox.append((self.now, event))

    def _where_it_waits(self) -> str:
        lines = ["nothing will ever happen any more."]
        for instance in self._living:
            lines.append(f"instance {instance.id!r} ({instance.workflow.name}) waits:")
            lines += [f"  {line}" for line in show_tasks(instance.tasks())]
        return "\n".join(lines)


def _collect() -> None:
    gc.collect(1)  # what is older is of no interest, and slow to look at


def _name(key: Activity[..., Any] | Workflow[..., Any] | str) -> str:
    return key if isinstance(key, str) else key.name
