"""The world of a simulation: its instances and calls, and what follows from what happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, assert_never

from trioflow._codec.failures.failures import Failure
from trioflow._codec.values import Codec
from trioflow._model import events as ev
from trioflow._model.activities import Activity
from trioflow._model.commands import (
    AnswerUpdate,
    CancelActivity,
    CancelChild,
    CancelInstance,
    ClaimShared,
    Command,
    EmitValue,
    NameTimer,
    RecordPatch,
    RecordSideEffect,
    ReleaseShared,
    RunActivity,
    SendSignal,
    SetShared,
    StartChild,
    StartDetached,
    TerminateInstance,
)
from trioflow._model.interceptors import Interceptor, those_around
from trioflow._model.propagation import Propagator, injected
from trioflow._model.turns import Cancelled, Completed, Continued, Failed, Outcome
from trioflow._model.workflows import Workflow
from trioflow._registry import Registry
from trioflow.errors import (
    DeterminismError,
    InstanceAlreadyExists,
    InstanceNotFound,
    InstanceTerminated,
    TrioflowError,
)
from trioflow.testing.claims import Claimant, SharedClaims
from trioflow.testing.fakes import FakeCall, check_fake, definition_of, refuse_name
from trioflow.testing.simulation.calls import SimulatedCall
from trioflow.testing.simulation.instances import SimulatedInstance
from trioflow.testing.tester import DEFAULT_START
from trioflow.testing.trees import show_tasks

__all__ = ["Functions", "World", "name_of"]

Functions = Mapping[Activity[..., Any] | Workflow[..., Any] | str, Callable[..., Any]]
"""What stands for activities and sub-workflows."""


class World:
    """What there is in a simulation, and what each thing that happens does to it.

    Args:
        workflow: What the roots run.
        input: Their arguments.
        functions: What stands for activities and sub-workflows.
        registry: Where workflows that others start are looked up.
        codec: How values are stored.
        instances: How many roots.
        deploy: The new code of the workflow, if there is some.
        propagators: For the metadata of the roots, and of all calls.
        interceptors: What is around workflows and activities.

    Attributes:
        trace: What happened, one line a step.
        now: The virtual time, epoch seconds.
        codec: What was given.
        roots: The instances that were there from the beginning.
        instances: All, by their ids.
        open: The calls of activities that have not ended.
        noted: The attempts of each activity.
        shared: What instances share.
        answers: What the first root has answered, by the update's number.
        deploy: The new code, until it is in use.
    """

    def __init__(
        self,
        workflow: Workflow[..., Any],
        input: bytes,
        *,
        functions: Functions,
        registry: Registry,
        codec: Codec,
        instances: int,
        deploy: Workflow[..., Any] | None,
        propagators: Sequence[Propagator] = (),
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        self.trace: list[str] = []
        self._propagators = propagators
        self._of_workflows = those_around(interceptors, "workflow")
        self._of_activities = those_around(interceptors, "activity")
        self.now = DEFAULT_START
        self.codec = codec
        self.deploy = deploy
        self._workflow = workflow
        self._registry = registry
        self._functions: dict[str, tuple[Activity[..., Any] | Workflow[..., Any], Any]] = {}
        for key, fn in functions.items():
            named = workflow if key == workflow.name else key
            definition = definition_of(named, registry, "activities=")
            check_fake(definition, fn)
            self._functions[definition.name] = definition, fn
        self.open: list[SimulatedCall] = []
        self.noted: dict[str, list[FakeCall]] = {}
        self.answers: dict[str, AnswerUpdate] = {}
        self.shared: SharedClaims[ev.Event] = SharedClaims(self._is_there, self._grant)
        self.instances: dict[str, SimulatedInstance] = {}
        self.roots: list[SimulatedInstance] = []
        metadata = injected(propagators, workflow.metadata)
        for number in range(1, instances + 1):
            root = SimulatedInstance(
                workflow,
                f"simulated-{number}",
                input,
                None,
                codec,
                now=self.now,
                metadata=metadata,
                propagators=propagators,
                interceptors=self._of_workflows,
            )
            self.roots.append(root)
            self.instances[root.id] = root

    @property
    def elapsed(self) -> float:
        """The virtual seconds since the start."""
        return self.now - DEFAULT_START

    @property
    def living(self) -> list[SimulatedInstance]:
        """The instances that have not ended."""
        return [each for each in self.instances.values() if each.outcome is None]

    def evict_all(self) -> None:
        """Throw all executions out of memory, as when a worker is killed."""
        for instance in self.instances.values():
            instance.evict()

    def use_new_code(self) -> None:
        """Deploy the new code: what has not ended goes on with it."""
        old, new, self.deploy = self._workflow, self.deploy, None
        assert new is not None
        self._workflow = new
        for instance in self.living:
            if instance.workflow is old:
                instance.evict()
                instance.workflow = new
                instance.check_replay()

    # --- activities ---------------------------------------------------------------------------

    def attempt(self, call: SimulatedCall) -> None:
        """Let a call end: its function is called, or its cancel takes effect."""
        if call.cancelled:
            self._end(call, call.cancel())
        else:
            self.run(call)

    def run(self, call: SimulatedCall) -> None:
        """Call a call's function, and note what came of it."""
        noted = self._begin(call)
        try:
            event = call.run()
        except Exception as exc:  # noqa: BLE001  # the function's failure is the activity's
            noted.error = exc
            self._failed(call, exc)
        else:
            self._end(call, event)

    def run_in_vain(self, call: SimulatedCall) -> None:
        """Make an attempt whose result is lost, since the worker is killed."""
        noted = self._begin(call)
        try:
            call.run()
        except Exception as exc:  # noqa: BLE001  # as above
            noted.error = exc
            self.trace[-1] += f" (it raised {type(exc).__name__})"
        call.attempt += 1
        self.evict_all()

    def fail(self, call: SimulatedCall, error: Exception, *, after: float = 0.0) -> None:
        """Let an attempt end with an error after some seconds, without calling the function."""
        self._begin(call).error = error
        self.now += after
        self._failed(call, error)

    def _begin(self, call: SimulatedCall) -> FakeCall:
        self.now = max(self.now, call.visible_at)
        noted = call.note(self.elapsed)
        self.noted.setdefault(call.name, []).append(noted)
        return noted

    def _failed(self, call: SimulatedCall, error: Exception) -> None:
        event = call.fail(error, self.now)
        if event is not None:
            self._end(call, event)

    def _end(self, call: SimulatedCall, event: ev.Event) -> None:
        self.open.remove(call)
        if call.instance.outcome is None and call.instance.number == call.execution:
            call.instance.inbox.append((self.now, event))

    # --- turns, and what they ask for ---------------------------------------------------------

    def turn(self, instance: SimulatedInstance, most: int | None = None) -> None:
        """Make a turn with the first events of the inbox, store it and carry out what it asks."""
        count = len(instance.inbox) if most is None else most
        turn = instance.store(instance.make_turn(count, self.now), count)
        for command in turn.commands:
            self.carry_out(instance, command)
        if turn.outcome is not None:
            self._ended(instance, turn.outcome)

    def lose_turn(self, instance: SimulatedInstance) -> None:
        """Make a turn that is not stored, since the worker is killed."""
        if not instance.is_due and instance.wake_at is not None:
            self.now = max(self.now, instance.wake_at)
        instance.make_turn(len(instance.inbox), self.now)
        self.evict_all()

    def wake(self, instance: SimulatedInstance) -> None:
        """Let the time come for which an instance waits, and make its turn."""
        assert instance.wake_at is not None
        self.now = max(self.now, instance.wake_at)
        self.turn(instance)

    def carry_out(self, instance: SimulatedInstance, command: Command) -> None:
        """Do what a turn has asked for."""
        match command:
            case RunActivity():
                definition, fn = self._function_of(command.activity)
                self._ask(instance, command, definition, fn)
            case StartChild():
                self._start_child(instance, command)
            case CancelActivity() | CancelChild():
                self._cancel_call(instance, command)
            case SendSignal():
                self._send(instance, command)
            case StartDetached():
                self._start_detached(instance, command)
            case CancelInstance():
                self._cancel_instance(instance, command)
            case ClaimShared() | ReleaseShared() | SetShared():
                self._share(instance, command)
            case AnswerUpdate():
                self._answered(instance, command)
            case (
                RecordSideEffect() | EmitValue() | NameTimer() | RecordPatch() | TerminateInstance()
            ):
                pass  # it has happened, nobody waits for it, or it is a schedule's
            case _:
                assert_never(command)

    def _share(
        self, instance: SimulatedInstance, command: ClaimShared | ReleaseShared | SetShared
    ) -> None:
        who = Claimant(instance.id, instance.life, instance.number, command.id)
        match command:
            case ClaimShared():
                self.shared.take(command.name, who, command.size, ev.RequestDone(command.id))
            case ReleaseShared():
                self.shared.free(command.name, who)
            case _:
                instance.inbox.append((self.now, ev.RequestDone(command.id)))
                self.shared.put(command.name, value=command.value)

    def _is_there(self, who: Claimant) -> bool:
        there = self.instances.get(who.instance)
        return (
            there is not None
            and there.outcome is None
            and (there.life, there.number) == (who.life, who.execution)
        )

    def _grant(self, who: Claimant, event: ev.Event) -> None:
        self.instances[who.instance].inbox.append((self.now, event))

    def _ask(
        self,
        instance: SimulatedInstance,
        command: RunActivity | StartChild,
        definition: Activity[..., Any] | Workflow[..., Any] | None,
        fn: Callable[..., Any],
    ) -> None:
        around = self._of_activities if isinstance(command, RunActivity) else ()
        call = SimulatedCall(
            instance,
            command,
            definition,
            fn,
            self.codec,
            self.now,
            propagators=self._propagators,
            interceptors=around,
        )
        self.open.append(call)

    def _function_of(self, name: str) -> tuple[Activity[..., Any] | None, Callable[..., Any]]:
        key, fn = self._functions.get(name, (None, None))
        if fn is None:
            raise TrioflowError(
                f"the workflow calls activity {name!r}, and the simulation has no function for it: "
                f"activities={{{name}: lambda ...: ...}}"
            )
        return key if isinstance(key, Activity) else self._registry.activities.get(name), fn

    def _start_child(self, parent: SimulatedInstance, command: StartChild) -> None:
        present = self.instances.get(command.instance)
        if present is not None and present.outcome is None:
            failure = Failure.of(InstanceAlreadyExists(command.instance), self.codec)
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
            self.codec,
            now=self.now,
            start_at=command.start_at,
            options=command.options,
            attributes=command.attributes,
            metadata=parent.metadata if command.metadata is None else command.metadata,
            propagators=self._propagators,
            interceptors=self._of_workflows,
        )
        self.instances[child.id] = child

    def _start_detached(self, sender: SimulatedInstance, command: StartDetached) -> None:
        id, name = command.instance, command.workflow
        answer: ev.RequestAnswer = ev.RequestDone(command.id)
        present = self.instances.get(id)
        running = present is not None and present.outcome is None
        if running and command.if_exists == "replace":
            error = InstanceTerminated(id, "another one was started in its place")
            self._ended(self.instances[id], Failed(Failure.of(error, self.codec)))
            running = False
        if running or (present is not None and not command.reuse_finished):
            if command.if_exists != "return":
                failure = Failure.of(InstanceAlreadyExists(id), self.codec)
                answer = ev.RequestFailed(command.id, failure)
        elif name not in self._functions:  # with a function in its place nobody waits for it
            self.instances[id] = SimulatedInstance(
                self._workflow_of(name),
                id,
                bytes(command.input),
                None,
                self.codec,
                now=self.now,
                start_at=command.start_at,
                options=command.options,
                attributes=command.attributes,
                metadata=sender.metadata if command.metadata is None else command.metadata,
                propagators=self._propagators,
                interceptors=self._of_workflows,
            )
        sender.inbox.append((self.now, answer))

    def _cancel_instance(self, sender: SimulatedInstance, command: CancelInstance) -> None:
        target = self.instances.get(command.instance)
        if target is None or target.outcome is not None:
            error = InstanceNotFound(command.instance, "it does not exist, or has finished")
            failure = Failure.of(error, self.codec)
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
        for call in self.open:
            if call.instance is instance and call.command.id == command.id:
                call.cancelled, call.visible_at = True, self.now
                call.reason = command.reason
        if isinstance(command, CancelChild):
            self._cancel_child(instance, command)

    def _cancel_child(self, parent: SimulatedInstance, command: CancelChild) -> None:
        child = self.instances.get(command.instance)
        ref = ev.ParentRef(parent.id, parent.number, command.id, parent.life)
        if child is not None and child.outcome is None and child.parent == ref:
            cancel = ev.CancelRequested(command.reason, ref, parent.was_reset)
            child.inbox.append((self.now, cancel))

    def _send(self, sender: SimulatedInstance, command: SendSignal) -> None:
        target = self.instances.get(command.instance)
        if target is None or target.outcome is not None:
            error = InstanceNotFound(command.instance, "it does not exist, or has finished")
            failure = Failure.of(error, self.codec)
            sender.inbox.append((self.now, ev.SignalFailed(command.id, failure)))
            return
        target.inbox.append((self.now, ev.SignalReceived(command.name, command.value)))
        sender.inbox.append((self.now, ev.SignalSent(command.id)))

    def _answered(self, instance: SimulatedInstance, answer: AnswerUpdate) -> None:
        if instance is self.roots[0]:
            again = answer.update in self.answers
            assert instance.was_reset or not again, f"update {answer.name!r} is answered twice"
            self.answers.setdefault(answer.update, answer)

    def terminate(self, instance: SimulatedInstance) -> None:
        """End an instance and its sub-workflows; none of their code runs any more."""
        instance.terminated = True
        error = InstanceTerminated(instance.id, "simulated")
        self._close(instance, Failed(Failure.of(error, self.codec)))
        for child in self.living:
            if child.parent is not None and child.parent.instance == instance.id:
                self.terminate(child)

    def _close(self, instance: SimulatedInstance, outcome: Outcome) -> None:
        instance.end(outcome)
        self.open = [call for call in self.open if call.instance is not instance]

    def _ended(self, instance: SimulatedInstance, outcome: Outcome) -> None:
        self._close(instance, outcome)
        self.shared.forget([instance.id])
        if isinstance(outcome, Failed):
            error = outcome.failure.rebuild(self.codec)
            # What is of no subclass is said of a call that nobody awaits.
            if isinstance(error, DeterminismError) or error.__class__ is TrioflowError:
                raise error
        if instance.parent is not None and not isinstance(outcome, Continued):
            self._tell_parent(instance.parent, outcome)

    def _tell_parent(self, ref: ev.ParentRef, outcome: Completed | Failed | Cancelled) -> None:
        parent = self.instances[ref.instance]
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

    def where_it_waits(self) -> str:
        """Describe the tasks of all instances that have not ended."""
        lines = ["nothing will ever happen any more."]
        for instance in self.living:
            lines.append(f"instance {instance.id!r} ({instance.workflow.name}) waits:")
            lines += [f"  {line}" for line in show_tasks(instance.tasks())]
        return "\n".join(lines)

    def calls_of(self, key: Activity[..., Any] | Workflow[..., Any] | str) -> list[FakeCall]:
        """Return the attempts of an activity, or the calls of a faked sub-workflow."""
        name = name_of(key)
        if isinstance(key, str) and name not in self._functions:
            known = {*self._functions, *self._registry.activities, *self._registry.workflows}
            if name not in known:
                refuse_name(name, [*known], "called()")
        return self.noted.get(name, [])


def name_of(key: Activity[..., Any] | Workflow[..., Any] | str) -> str:
    """Return the name of a definition, which may be given by its name."""
    return key if isinstance(key, str) else key.name
