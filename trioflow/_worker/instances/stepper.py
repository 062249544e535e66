"""Making turns: from what came, and, on replay, from what is stored.

A turn consumes the events that an instance has received, in the order of their coming, and its
earliest deadline if that has passed: all of them, unless they are too large for one row. Each is
applied by itself: in between, tasks run until all wait. If the workflow ends while some are not
applied yet, nothing accepted may be lost: the turn is made again, now with the last of them applied
together (`Turn.together_from`), so that the workflow sees all of them before it ends. A turn that
ends the instance although its inbox in the store holds more is refused there, and made again with
that (see `Committer`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import Any

import anyio.lowlevel
import msgspec

from trioflow._codec.limits import MAX_PAYLOAD, MAX_TURN
from trioflow._codec.values import Codec
from trioflow._engine.calls import Caller
from trioflow._engine.execution import Execution
from trioflow._engine.loop.steps import EndedUnseen
from trioflow._engine.replay import Diverged
from trioflow._engine.suspension import NeedsSuspension
from trioflow._model import events as ev
from trioflow._model.attributes import decode_attributes
from trioflow._model.commands import decode_start_options
from trioflow._model.events import Event
from trioflow._model.info import Identity
from trioflow._model.interceptors import Interceptor
from trioflow._model.propagation import Propagator
from trioflow._model.randomness import RandomSource
from trioflow._model.rules import CURRENT_RULES
from trioflow._model.turns import decode_turn, encode_turn
from trioflow._model.workflows import Workflow
from trioflow._observe import ExecutionReplayed, Observers
from trioflow._worker.instances import reports
from trioflow._worker.instances.batch import Batch, Received
from trioflow._worker.instances.commit import patiently
from trioflow._worker.instances.held import HeldInstance
from trioflow._worker.instances.holdings import Holdings
from trioflow._worker.instances.recorder import Recorder
from trioflow._worker.log_fields import of_instance
from trioflow._worker.watchdog import Step
from trioflow.backends.abc import Backend

__all__ = ["Stepper"]

logger = logging.getLogger("trioflow.worker")

# So many events of the largest size fit into one turn.
_FEW = MAX_TURN // MAX_PAYLOAD

_event_of: Callable[[Received], Event] = attrgetter("event")  # of no Python call of its own
_decode_metadata = msgspec.json.Decoder(dict[str, str]).decode


class Stepper:
    """Steps the executions of one worker. What goes wrong in it suspends that one instance.

    Args:
        backend: The store.
        workflows: The workflows by name.
        codec: For arguments and results.
        holdings: What the worker holds.
        batch: The batch that is being built.
        recorder: Writes into it.
        max_steps: How many task steps a turn may have.
        propagators: For the metadata of executions and their calls.
        interceptors: What is around workflows.
        random: For the seeds of executions.
        observers: Who is told of replays, ``None`` for nobody.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        workflows: Mapping[str, Workflow[..., Any]],
        codec: Codec,
        holdings: Holdings,
        batch: Batch,
        recorder: Recorder,
        max_steps: int,
        propagators: Sequence[Propagator],
        interceptors: Sequence[Interceptor],
        random: RandomSource,
        observers: Observers | None = None,
    ) -> None:
        self._observers = observers
        self._backend = backend
        self._workflows = workflows
        self._codec = codec
        self._holdings = holdings
        self._batch = batch
        self._recorder = recorder
        self._max_steps = max_steps
        self._propagators = propagators
        self._interceptors = interceptors
        self._random = random
        self._steps = 0
        self._in_step: HeldInstance | None = None

    @property
    def current(self) -> Step | None:
        """Which step is being made; read by the watchdog, in its own thread."""
        instance = self._in_step
        return None if instance is None else Step(self._steps, instance.workflow, instance.id)

    def step(self, instance: HeldInstance) -> None:
        """Make one turn of an instance, and write it into the open batch."""
        execution = instance.execution
        if execution is None:
            definition = self._workflows.get(instance.workflow)
            if definition is None:
                self._recorder.leave_unknown(instance)
                return
            execution = self.new_execution(definition, instance.identity)
            instance.begin(execution)
        unit = self._batch.unit_of(instance)
        self._steps += 1
        self._in_step = instance
        try:
            events, at, now, count, due = self._collect(instance, execution.definition)
            turn = execution.advance(events, now, at=at, together_from=instance.together_from)
            left = len(instance.received) - count
            if left and turn.outcome is not None:
                self._again(instance, -1)
                return
            data = encode_turn(turn)
        except EndedUnseen as ended:
            self._again(instance, ended.number)
            return
        except NeedsSuspension as stop:
            self._recorder.suspend(instance, stop.report)
            return
        except BaseException as exc:  # noqa: BLE001 - no instance can end a worker
            self._failed(instance, exc)
            return
        finally:
            self._in_step = None
        self._batch.size += 1
        for delivery in instance.consume(count, due=instance.due and not due):
            assert delivery.child.unit is not None
            unit = self._batch.merge(unit, delivery.child.unit)
        self._recorder.record(instance, unit, turn, data)
        if left:
            self._holdings.queue(instance)

    def _collect(
        self, instance: HeldInstance, definition: Workflow[..., Any]
    ) -> tuple[list[Event], list[float], float, int, bool]:
        """Collect the events of the next turn.

        Returns:
            The events; their times, where these matter; the time of the turn; how many of the
            received events are among them; and whether the earliest deadline is.
        """
        now, due = self._backend.now(), instance.due
        events: list[Event] = []
        if instance.turns == 0:
            events.append(self._started(instance, definition, now))
        taken: Sequence[Received] = instance.received
        if len(taken) > _FEW and not instance.whole:
            taken, due, now = _portion(instance, now)
        events += map(_event_of, taken)
        at: list[float] = []
        if due:
            wake_at = instance.wake_at or 0.0
            if taken and wake_at < now:
                # What came before an overdue deadline was in time.
                at = [received.at or now for received in taken]
                at.append(wake_at)
            now = max(now, wake_at)
            events.append(ev.Woken())
        return events, at, now, len(taken), due

    def _failed(self, instance: HeldInstance, exc: BaseException) -> None:
        """Suspend an instance on which the engine failed."""
        if isinstance(exc, KeyboardInterrupt):
            raise exc
        logger.error(
            "trioflow failed on instance %r; it is suspended",
            instance.id,
            exc_info=exc,
            extra=of_instance(instance),
        )
        self._recorder.suspend(instance, reports.engine_failed(instance, exc, self._codec))

    def new_execution(self, definition: Workflow[..., Any], identity: Identity) -> Execution:
        """Return an execution by the options of this worker that has made no turn."""
        return Execution(
            definition,
            identity,
            self._codec,
            Caller,
            max_steps=self._max_steps,
            propagators=self._propagators,
            interceptors=self._interceptors,
        )

    def _again(self, instance: HeldInstance, together_from: int) -> None:
        """Have a turn made again in which the workflow ended before it had seen everything.

        If the open batch has earlier turns of it, that has to wait until they are stored and can be
        replayed.
        """
        self._holdings.evict(instance)
        instance.make_again(together_from)
        self._holdings.queue(instance)

    def _started(
        self, instance: HeldInstance, definition: Workflow[..., Any], now: float
    ) -> ev.Started:
        instance.note_begin(now)
        timeout, max_events, schedule = definition.timeout, 0, None
        if instance.options:
            options = decode_start_options(instance.options)
            timeout = timeout if options.timeout is None else options.timeout
            max_events = options.max_events or 0
            schedule = options.schedule
        return ev.Started(
            workflow=instance.workflow,
            input=msgspec.Raw(instance.input),
            metadata=_decode_metadata(instance.metadata) if instance.metadata else {},
            parent=instance.parent,
            carried=ev.decode_messages(instance.carried) if instance.carried else [],
            rules=CURRENT_RULES,
            seed=self._random.new_life(),
            code=definition.fingerprint,
            deadline_at=None if timeout is None else instance.began_at + timeout,
            max_events=max_events,
            attributes=decode_attributes(instance.attributes) if instance.attributes else {},
            schedule=schedule,
        )

    # --- loading ------------------------------------------------------------------------

    async def load(self, instances: Sequence[HeldInstance]) -> None:
        """Read the histories of instances, and replay them."""
        known: list[HeldInstance] = []
        for instance in instances:
            if not instance.may_step:
                continue  # it comes back when its commit is stored, which may begin below, too
            if instance.workflow in self._workflows:
                known.append(instance)
            else:
                self._recorder.leave_unknown(instance)
        stored = await patiently(
            lambda: self._backend.load([(instance.id, instance.number) for instance in known])
        )
        for instance, turns in zip(known, stored, strict=True):
            here = self._holdings.held.get(instance.id) is instance and instance.may_step
            if here and instance.execution is None:
                self._replay(instance, turns)
                await anyio.lowlevel.checkpoint()

    def _replay(self, instance: HeldInstance, stored: Sequence[bytes]) -> None:
        definition = self._workflows[instance.workflow]
        began_at = self._backend.now()
        execution = self.new_execution(definition, instance.identity)
        try:
            if len(stored) < instance.turns:
                self._recorder.suspend(instance, reports.turns_missing(instance, len(stored)))
                return
            execution.replay([decode_turn(data) for data in stored[: instance.turns]])
        except NeedsSuspension as stop:
            execution.evict()
            if self._holdings.leaves and isinstance(stop, Diverged):
                self._recorder.leave(instance, stop.report)
            else:
                self._recorder.suspend(instance, stop.report)
        except msgspec.MsgspecError as exc:
            execution.evict()
            self._recorder.suspend(instance, reports.unreadable_turn(instance, exc))
        except BaseException as exc:  # noqa: BLE001 - no instance can end a worker
            execution.evict()
            self._failed(instance, exc)
        else:
            now = self._backend.now()
            instance.loaded(execution, now)
            if execution.reset_here:
                self._show_kept(instance, execution)
            execution.custom_status = execution.new_attributes = None
            if self._observers is not None:
                self._observers.tell(
                    ExecutionReplayed(
                        workflow=instance.workflow, turns=instance.turns, seconds=now - began_at
                    )
                )
            self._holdings.queue(instance)

    def _show_kept(self, instance: HeldInstance, execution: Execution) -> None:
        """Have the row say what the turns say that a reset or a fork has kept.

        They say it only when they are made: no turn contains it. The next one may be far off.
        """
        status, attributes = execution.custom_status, execution.new_attributes
        if status is None and attributes is None:
            return
        commit = self._batch.commit_of(instance)
        commit.wake_at = instance.wake_at
        commit.status, commit.attributes = status, attributes


def _portion(instance: HeldInstance, now: float) -> tuple[Sequence[Received], bool, float]:
    """Return which of the received events have room in one turn.

    Returns:
        The events; whether the earliest deadline has its turn with them; and the time of the turn.
        A deadline that has passed must not overtake a message that came before it and is left.
    """
    received = instance.received
    size = 0
    for count, each in enumerate(received):
        size += _size_of(each.event)
        if size > MAX_TURN and count:
            break
    else:
        return received, instance.due, now
    taken = list(islice(received, count))
    if instance.due and (received[count].at or now) <= (instance.wake_at or 0.0):
        return taken, False, taken[-1].at or now
    return taken, instance.due, now


def _size_of(event: Event) -> int:
    """Return the size of the value or the failure in an event; all else in it is small."""
    match event:
        case ev.SignalReceived() | ev.UpdateRequested() | ev.PromiseResolved():
            return memoryview(event.value).nbytes
        case ev.ActivityCompleted() | ev.ChildCompleted():
            return memoryview(event.result).nbytes
        case (
            ev.ActivityFailed()
            | ev.ChildFailed()
            | ev.SignalFailed()
            | ev.RequestFailed()
            | ev.PromiseRejected()
        ):
            return len(ev.encode_event(event))
        case _:
            return 0
