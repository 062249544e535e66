"""Making turns: live, from what came, and on replay, from what is stored."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import anyio.lowlevel
import msgspec

from trioflow._codec.values import Codec
from trioflow._engine.calls import Caller
from trioflow._engine.execution import Execution
from trioflow._engine.loop.steps import EndedUnseen
from trioflow._engine.suspension import NeedsSuspension
from trioflow._model import events as ev
from trioflow._model.definitions import Workflow
from trioflow._model.events import Event
from trioflow._model.randomness import RandomSource
from trioflow._model.rules import CURRENT_RULES
from trioflow._model.turns import decode_turn, encode_turn
from trioflow._worker.heartbeat import Step
from trioflow._worker.instances import records as commits
from trioflow._worker.instances import reports
from trioflow._worker.instances.batch import Batch
from trioflow._worker.instances.commit import patiently
from trioflow._worker.instances.held import HeldInstance
from trioflow._worker.instances.holdings import Holdings
from trioflow._worker.instances.recorder import Recorder
from trioflow.backends.abc import Backend

__all__ = ["Stepper"]

logger = logging.getLogger("trioflow.worker")

_decode_signals = msgspec.json.Decoder(list[ev.SignalReceived]).decode


class Stepper:
    """Steps the executions of one worker. What goes wrong in it suspends that one instance.

    Args:
        backend: The store.
        workflows: The workflows by name.
        codec: For arguments and results.
        holdings: What the worker holds.
        batch: The batch that is being built.
        recorder: Who builds it.
        max_steps: How many task steps a turn may have.
        random: For the seeds of executions.
    """

    def __init__(  # noqa: PLR0917  # the parts of a worker that meet here
        self,
        backend: Backend,
        workflows: Mapping[str, Workflow[..., Any]],
        codec: Codec,
        holdings: Holdings,
        batch: Batch,
        recorder: Recorder,
        max_steps: int,
        random: RandomSource,
    ) -> None:
        self._backend = backend
        self._workflows = workflows
        self._codec = codec
        self._holdings = holdings
        self._batch = batch
        self._recorder = recorder
        self._max_steps = max_steps
        self._random = random
        self._steps = 0
        self._in_step: HeldInstance | None = None

    @property
    def current(self) -> Step | None:
        """Which step is being made; read by the watchdog, in its own thread."""
        live = self._in_step
        return None if live is None else Step(self._steps, live.workflow, live.id)

    def step(self, live: HeldInstance) -> None:
        """Make one turn of an instance, and write it into the open batch."""
        if live.execution is None:
            definition = self._workflows.get(live.workflow)
            if definition is None:
                self._recorder.leave_unknown(live)
                return
            live.execution = self._new(live, definition)
        unit = self._batch.unit_of(live)
        now = self._backend.now()
        events: list[Event] = []
        self._steps += 1
        self._in_step = live
        try:
            if live.turns == 0:
                events.append(self._started(live))
            events += [received.event for received in live.received]
            at: list[float] = []
            if live.due:
                wake_at = live.wake_at or 0.0
                if live.received and wake_at < now:
                    # What came before an overdue deadline was in time.
                    at = [received.at or now for received in live.received]
                    at.append(wake_at)
                now = max(now, wake_at)
                events.append(ev.Woken())
            turn = live.execution.advance(events, now, at=at, together_from=live.together_from)
            data = encode_turn(turn)
        except EndedUnseen as ended:
            self._again(live, ended.number)
            return
        except NeedsSuspension as stop:
            self._recorder.suspend(live, stop.report)
            return
        except Exception as exc:
            logger.exception("trioflow failed on instance %r; it is suspended", live.id)
            self._recorder.suspend(live, reports.engine_failed(live, exc, self._codec))
            return
        finally:
            self._in_step = None
        self._batch.size += 1
        self._recorder.record(live, self._recorder.consume(live, unit), turn, data)

    def _new(self, live: HeldInstance, definition: Workflow[..., Any]) -> Execution:
        return Execution(definition, live.identity, self._codec, Caller, max_steps=self._max_steps)

    def _again(self, live: HeldInstance, together_from: int) -> None:
        """Have a turn made again in which the workflow ended before it had seen everything."""
        self._holdings.evict(live)
        live.together_from = together_from
        # Of what is in the open batch, the history is read when that is stored.
        assert live.commit is not None
        live.commit.wake_at = live.wake_at
        self._holdings.queue(live)

    def _started(self, live: HeldInstance) -> ev.Started:
        return ev.Started(
            workflow=live.workflow,
            input=msgspec.Raw(live.input),
            metadata=commits.decode_metadata(live.metadata),
            parent=live.parent,
            carried=_decode_signals(live.carried) if live.carried else [],
            rules=CURRENT_RULES,
            seed=self._random.new_life(),
        )

    # --- loading ------------------------------------------------------------------------

    async def load(self, lives: Sequence[HeldInstance]) -> None:
        """Read the histories of instances, and replay them."""
        known: list[HeldInstance] = []
        for live in lives:
            if not live.may_step:
                continue  # it comes back when its commit is stored, which may begin below, too
            if live.workflow in self._workflows:
                known.append(live)
            else:
                self._recorder.leave_unknown(live)
        stored = await patiently(
            lambda: self._backend.load([(live.id, live.number) for live in known])
        )
        for live, turns in zip(known, stored, strict=True):
            here = self._holdings.held.get(live.id) is live and live.may_step
            if here and live.execution is None:
                self._replay(live, turns)
                await anyio.lowlevel.checkpoint()

    def _replay(self, live: HeldInstance, stored: Sequence[bytes]) -> None:
        execution = self._new(live, self._workflows[live.workflow])
        try:
            if len(stored) < live.turns:
                self._recorder.suspend(live, reports.turns_missing(live, len(stored)))
                return
            execution.replay([decode_turn(data) for data in stored[: live.turns]])
        except NeedsSuspension as stop:
            execution.evict()
            self._recorder.suspend(live, stop.report)
        except msgspec.MsgspecError as exc:
            execution.evict()
            self._recorder.suspend(live, reports.unreadable_turn(live, exc))
        except Exception as exc:
            logger.exception("trioflow failed to replay instance %r", live.id)
            execution.evict()
            self._recorder.suspend(live, reports.engine_failed(live, exc, self._codec))
        else:
            execution.take_custom_status()
            live.execution = execution
            live.events = execution.events
            live.wake_at = execution.wake_at
            live.due = live.wake_at is not None and live.wake_at <= self._backend.now()
            self._holdings.queue(live)
