"""Simulations: what could happen next, and what came of what did."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec

from trioflow._codec.values import decode_as, encode_checked
from trioflow._model import events as ev
from trioflow._model.activities import Activity
from trioflow._model.turns import Cancelled, Completed, Failed
from trioflow._model.workflows import Workflow
from trioflow.authoring import Signal, Update
from trioflow.errors import ActivityTimeout, InstanceCancelled, InstanceTerminated
from trioflow.testing.fakes import FakeCall
from trioflow.testing.history import History
from trioflow.testing.simulation.calls import SimulatedCall, SimulatedFailure, SimulatedFinalFailure
from trioflow.testing.simulation.instances import SimulatedInstance
from trioflow.testing.simulation.resets import places_of, reset
from trioflow.testing.simulation.schedules import Schedule
from trioflow.testing.simulation.world import World
from trioflow.testing.stuck import Stuck

__all__ = ["Hazards", "SimulatedUpdate", "Simulation"]

R = TypeVar("R")

SimulatedUpdate = tuple[Update[[], Any]] | tuple[Update[[Any], Any], Any]
"""An update that a client asks for, with its argument, if it has one."""

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
    """What `simulate` has run."""

    def __init__(
        self,
        world: World,
        *,
        schedule: Schedule,
        signals: Sequence[tuple[Signal[Any], Any]],
        updates: Sequence[SimulatedUpdate],
        hazards: Hazards,
    ) -> None:
        self._world = world
        self._schedule = schedule
        self._signals = list(signals)
        for each in self._signals:
            match each:
                case (Signal(), _):
                    continue
            raise TypeError(f"signals are pairs of a signal and a value, not {each!r}")
        self._updates = list(enumerate(updates))
        self._hazards = hazards

    # --- what came of it ----------------------------------------------------------------------

    @property
    def trace(self) -> list[str]:
        """What happened, one line a step."""
        return self._world.trace

    @property
    def now(self) -> float:
        """The virtual time, epoch seconds."""
        return self._world.now

    @property
    def elapsed(self) -> float:
        """The virtual seconds since the start."""
        return self._world.elapsed

    @property
    def status(self) -> str:
        """How it ended: ``"completed"``, ``"failed"``, ``"cancelled"`` or ``"terminated"``.

        ``"running"`` if it waits for what never comes.
        """
        if self._world.roots[0].terminated:
            return "terminated"
        match self._world.roots[0].outcome:
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
        codec = self._world.codec
        return {
            int(update): decode_as(codec, bytes(answer.result), Any, f"update {answer.name!r}")
            if answer.failure is None
            else answer.failure.rebuild(codec)
            for update, answer in self._world.answers.items()
        }

    def result(self) -> R:
        """Return the result.

        Raises:
            InstanceCancelled: It was cancelled.
            InstanceTerminated: It was terminated.
            Stuck: It has not ended, and waits for what never comes.
            Exception: What the workflow raised.
        """
        root = self._world.roots[0]
        if root.terminated:
            raise InstanceTerminated(root.id, "simulated")
        match root.outcome:
            case Completed() as completed:
                what = f"result of {root.workflow.name}()"
                type_ = root.workflow.signature.result_type
                result: R = decode_as(self._world.codec, bytes(completed.result), type_, what)
                return result
            case Failed() as failed:
                raise failed.failure.rebuild(self._world.codec)
            case Cancelled() as cancelled:
                raise InstanceCancelled(root.id, cancelled.reason)
            case _:
                raise Stuck(self._world.where_it_waits())

    def called(self, activity: Activity[..., Any] | Workflow[..., Any] | str) -> list[FakeCall]:
        """Return the calls of an activity, or of a faked sub-workflow; every attempt counts.

        Raises:
            DefinitionError: There is nothing of that name.
        """
        return self._world.calls_of(activity)

    def repeated(self) -> dict[str, int]:
        """Return the activities whose function returned more than once for one call."""
        found: dict[str, int] = {}
        for name, calls in self._world.noted.items():
            ends = Counter(call.command for call in calls if call.error is None)
            most = max(ends.values(), default=0)
            if most > 1:
                found[name] = most
        return found

    def history(self) -> History:
        """Return the history of the instance."""
        return self._world.roots[0].history()

    def told(self) -> str:
        """Return what happened, one line a step."""
        return "\n".join(f"{number:3}. {what}" for number, what in enumerate(self._world.trace, 1))

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
                self._world.trace.append(what)
                do()
            raise Stuck(f"{_MOST_STEPS} steps do not end it.\n{self._world.where_it_waits()}")
        finally:
            self._world.evict_all()

    def _usual(self) -> list[_Action]:
        """List what happens if nothing goes wrong, in the order in which it would."""
        living = self._world.living
        actions: list[_Action] = [
            (f"a turn of {i.id}", partial(self._world.turn, i)) for i in living if i.is_due
        ]
        later: list[tuple[float, _Action]] = []
        for call in self._world.open:
            action = (f"{call} ends", partial(self._world.attempt, call))
            if call.visible_at <= self._world.now:
                actions.append(action)
            else:
                later.append((call.visible_at, action))
        if self._updates and any(root.outcome is None for root in self._world.roots):
            actions.append((f"update {self._updates[0][1][0].name!r} comes", self._ask_next))
        if self._signals and any(root.outcome is None for root in self._world.roots):
            actions.append((f"signal {self._signals[0][0].name!r} comes", self._send_next))
        later += [
            (i.wake_at, (f"the time for {i.id} comes", partial(self._world.wake, i)))
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
                for root in self._world.roots
                if root.outcome is None and not root.cancel_asked
            ]
        if self._hazards.terminates:
            actions += [
                (f"a client terminates {root.id}", partial(self._world.terminate, root))
                for root in self._world.roots
                if root.outcome is None
            ]
        if self._hazards.resets:
            actions += [
                (
                    f"a client resets {root.id} to before turn {turn}",
                    partial(reset, self._world, root, turn),
                )
                for root in self._world.roots
                if root.outcome is None and not root.was_reset
                for turn in places_of(root)
            ]
        for call in self._world.open:
            actions += self._hazards_of_call(call)
        for instance in self._world.living:
            actions += self._hazards_of_instance(instance)
        actions.append(("the garbage collector runs", _collect))
        if self._world.deploy is not None:
            actions.append(("the new code is deployed", self._world.use_new_code))
        return actions

    def _hazards_of_call(self, call: SimulatedCall) -> list[_Action]:
        if call.cancelled:
            return [(f"{call} ends all the same", lambda: self._world.run(call))]
        actions: list[_Action] = []
        if self._hazards.failures:
            once, final = SimulatedFailure("simulated"), SimulatedFinalFailure("simulated")
            actions.append((f"{call} fails", lambda: self._world.fail(call, once)))
            actions.append((f"{call} fails for good", lambda: self._world.fail(call, final)))
            for what, seconds in call.limits.items():
                late = ActivityTimeout(f"activity {call.name!r} {what}: {seconds:g} s")
                actions.append(
                    (f"{call} {what}", partial(self._world.fail, call, late, after=seconds))
                )
        if self._hazards.crashes:
            actions.append(
                (f"{call} has run as its worker is killed", lambda: self._world.run_in_vain(call))
            )
        return actions

    def _hazards_of_instance(self, instance: SimulatedInstance) -> list[_Action]:
        actions: list[_Action] = []
        if len(instance.inbox) > 1:
            one = f"a turn of {instance.id} with one event"
            actions.append((one, lambda: self._world.turn(instance, 1)))
        if self._hazards.crashes and (instance.is_due or instance.wake_at is not None):
            when = "" if instance.is_due else " at its time"
            lost = f"a turn of {instance.id}{when} is lost with its worker"
            actions.append((lost, lambda: self._world.lose_turn(instance)))
        if instance.in_memory:
            actions.append((f"{instance.id} is evicted", instance.evict))
        return actions

    # --- what comes from outside --------------------------------------------------------------

    def _send_next(self) -> None:
        signal, value = self._signals.pop(0)
        data = encode_checked(self._world.codec, value, signal.type, f"signal {signal.name!r}")
        for root in self._world.roots:
            if root.outcome is None:
                root.inbox.append(
                    (self._world.now, ev.SignalReceived(signal.name, msgspec.Raw(data)))
                )

    def _ask_next(self) -> None:
        number, (update, *value) = self._updates.pop(0)
        data = ev.NO_VALUE
        for each in value:
            what = f"the argument of update {update.name!r}"
            data = msgspec.Raw(encode_checked(self._world.codec, each, update.argument, what))
        event = ev.UpdateRequested(str(number), update.name, data)
        for root in self._world.roots:
            if root.outcome is None:
                root.inbox.append((self._world.now, event))

    def _cancel(self, instance: SimulatedInstance) -> None:
        instance.cancel_asked = True
        instance.inbox.append((self._world.now, ev.CancelRequested("simulated")))


def _collect() -> None:
    gc.collect(1)  # what is older is of no interest, and slow to look at
