"""The pump: turns events into turns, turns into commits, and commits into effects.

Nothing that a turn asked for happens before the turn is stored. While one batch is being stored,
the next one is built; an instance whose commit is under way makes no further turn until that is
stored. Within one batch an instance may make several turns, and a child's end may be consumed by
its parent at once: they are then one unit, which is stored whole or not at all.

While there are suspects, they alone are stepped; see `Isolation`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Sequence
from typing import Any

import anyio
import anyio.lowlevel

from trioflow._client.waiting import ResultWaiter
from trioflow._codec.values import Codec
from trioflow._engine.execution import Execution
from trioflow._model.info import Identity
from trioflow._model.interceptors import Interceptor
from trioflow._model.propagation import Propagator
from trioflow._model.workflows import Workflow
from trioflow._observe import Observers
from trioflow._registry import Registry, known_workflows
from trioflow._worker.activities.runner import ActivityRunner, Listener
from trioflow._worker.host import Host
from trioflow._worker.instances import reports
from trioflow._worker.instances.batch import Batch
from trioflow._worker.instances.cancel import Cancels
from trioflow._worker.instances.commit import Committer
from trioflow._worker.instances.held import HeldInstance
from trioflow._worker.instances.holdings import Holdings
from trioflow._worker.instances.intake import Intake
from trioflow._worker.instances.isolation import Isolation
from trioflow._worker.instances.recorder import Recorder
from trioflow._worker.instances.rejections import Rejections
from trioflow._worker.instances.results import Results
from trioflow._worker.instances.states import State
from trioflow._worker.instances.stepper import Stepper
from trioflow._worker.limits import KnownLimits
from trioflow._worker.polling import PollTimer
from trioflow._worker.registration import Registration
from trioflow._worker.watchdog import Step
from trioflow.backends.abc import Backend
from trioflow.backends.records import ActivityKey

__all__ = ["Pump"]

_CHUNK = 200  # turns between two looks at everything else
_MOST_DEATHS = 3  # of workers that stepped an instance in isolation, before it is suspended
_MAX_BATCH = 300  # turns in one commit; so that stepping and storing overlap
_LOADED = 100  # histories that are read at once


class Pump:
    """Steps the instances of one worker and commits their turns.

    Args:
        backend: The store.
        host: Where random bits come from, and how a start is waited for.
        registry: Where the workflows are.
        codec: For arguments and results.
        queues: Which queues' instances are stepped here; empty for none.
        limit: How many instances may be held at once.
        cache_size: How many parked executions are kept.
        max_steps: How many task steps a turn may have.
        propagators: For the metadata of executions and their calls.
        interceptors: What is around workflows.
        make_runner: Makes the runner of activities, given its listener.
        registration: The worker's row, which the leases name.
        timer: When the worker looks for work.
        waiter: Gives who waits for results in this process, and is told of them.
        observers: Who is told of what is stored, ``None`` for nobody.

    Attributes:
        activities: The runner of activities.
        cancels: How activities are cancelled.
        holdings: What the worker holds.
        intake: How instances come to be held.
        isolation: The suspects.
        limits: What is known of limits.
        results: How the ends of activities come in.
        store_lock: Held during a commit, and to be held while work is taken: a commit that gives
            up leases and a `take_instances` that gives them again must not cross.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        host: Host,
        registry: Registry,
        codec: Codec,
        queues: Collection[str],
        limit: int,
        cache_size: int,
        max_steps: int,
        propagators: Sequence[Propagator] = (),
        interceptors: Sequence[Interceptor] = (),
        make_runner: Callable[[Listener], ActivityRunner],
        registration: Registration,
        timer: PollTimer,
        waiter: Callable[[], ResultWaiter],
        observers: Observers | None = None,
    ) -> None:
        self._batch = batch = Batch()
        self.holdings = holdings = Holdings(known_workflows(registry), queues, limit, cache_size)
        self.limits = limits = KnownLimits(backend, holdings, registry.activities, codec)
        self.results = Results(
            backend=backend,
            holdings=holdings,
            batch=batch,
            timer=timer,
            limits=limits,
            random=host.random,
        )
        self.activities = make_runner(self.results)
        self.cancels = Cancels(self.activities)
        self.isolation = Isolation(backend, holdings, timer)
        self._recorder = recorder = Recorder(
            holdings=holdings,
            batch=batch,
            capacity=self.activities.capacity,
            cancels=self.cancels,
            random=host.random,
            limits=limits,
            observed=observers is not None,
        )
        self.intake = Intake(
            backend=backend,
            host=host,
            holdings=holdings,
            batch=batch,
            recorder=recorder,
            results=self.results,
            isolation=self.isolation,
            observers=observers,
        )
        self._stepper = Stepper(
            backend=backend,
            workflows=known_workflows(registry),
            codec=codec,
            holdings=holdings,
            batch=batch,
            recorder=recorder,
            max_steps=max_steps,
            propagators=propagators,
            interceptors=interceptors,
            random=host.random,
            observers=observers,
        )
        self._committer = Committer(
            backend=backend,
            holdings=holdings,
            batch=batch,
            recorder=recorder,
            intake=self.intake,
            results=self.results,
            activities=self.activities,
            cancels=self.cancels,
            registration=registration,
            timer=timer,
            rejections=Rejections(holdings, batch, recorder, codec),
            limits=limits,
            waiter=waiter,
            observers=observers,
        )
        self._unloaded: list[HeldInstance] = []
        self._dirty = anyio.Event()
        self._idle = anyio.Event()
        # Whoever takes it calls the store then, which lets others run.
        self.store_lock = anyio.Lock(fast_acquire=True)

    # --- what others ask ----------------------------------------------------------------

    def close(self) -> None:
        """Take no more instances, and isolate none: what is held has its last turns."""
        self.holdings.closed = True
        self.isolation.clear()
        self.holdings.wake()

    def current_step(self) -> Step | None:
        """Say which step is being made, for the watchdog."""
        return self._stepper.current

    def new_execution(self, definition: Workflow[..., Any], identity: Identity) -> Execution:
        """Return an execution like those that are stepped here; it has made no turn."""
        return self._stepper.new_execution(definition, identity)

    def in_hand(self) -> list[ActivityKey]:
        """The activities leased to this worker that it runs, or whose ends it is about to store."""
        keys = self.activities.in_hand()
        for instance in self.holdings.held.values():
            for received in (*instance.received, *instance.used):
                if received.finished is not None:
                    keys.append(instance.key(received.finished))
        return [*keys, *self.results.under_way()]

    # --- the two tasks ------------------------------------------------------------------

    async def run(self) -> None:
        """Step what is ready, until cancelled."""
        while True:
            while self._can_step or self._can_load:
                self._step_some()
                if self._can_load:
                    await self._load_some()
                self._offer()
                if self._can_step or self._can_load:
                    await anyio.lowlevel.checkpoint()
            self._offer()
            if not self._can_step:
                self._idle.set()
                await self.holdings.wait_woken()

    async def run_commits(self) -> None:
        """Store batch after batch, until cancelled."""
        while True:
            while not self._batch.units:
                self._dirty = anyio.Event()
                self._idle.set()
                await self._dirty.wait()
            if self.activities.capacity.any_running:
                # Activities that were begun just now mostly end at once: let their ends join.
                await anyio.lowlevel.checkpoint()
                await anyio.lowlevel.checkpoint()
            while self._can_step and self._batch.size < _MAX_BATCH:
                self._step_some()
                await anyio.lowlevel.checkpoint()
            async with self.store_lock:
                await self._committer.commit(self._batch.seal())
                self._idle.set()
                if self.isolation.suspects:
                    self.isolation.review()

    @property
    def _can_step(self) -> bool:
        """Whether an instance may make a turn now."""
        suspects = self.isolation.suspects
        if suspects:
            return any(suspect.queued and suspect.may_step for suspect in suspects)
        return self.holdings.ready.size > 0

    @property
    def _can_load(self) -> bool:
        """Whether a history may be loaded now: its replay may end the process as a step may."""
        if self.isolation.suspects:
            return any(instance in self.isolation.suspects for instance in self._unloaded)
        return bool(self._unloaded)

    async def settle(self) -> None:
        """Wait until nothing is ready and everything is stored."""
        while (
            self.holdings.ready.size
            or self._unloaded
            or self._batch.units
            or self._committer.under_way
        ):
            self._idle = anyio.Event()
            await self._idle.wait()

    def unsettled(self) -> tuple[set[str], set[str]]:
        """Return what is not stored, or perhaps not: ids of instances, and of their activities."""
        waiting = [*self.holdings.ready, *self._unloaded]
        instances = {each.id for each in waiting if each.has_work}
        keys: set[ActivityKey] = set()
        for unit in (*self._batch.units, *self._committer.under_way):
            instances.update(each.id for each in unit.members)
            keys.update(result.key for result in unit.unit.results)
            keys.update(retry.key for retry in unit.unit.retries)
        return instances, {f"{key.command} of {key.instance}" for key in keys}

    def _offer(self) -> None:
        if self._batch.units:
            self._dirty.set()

    # --- stepping -----------------------------------------------------------------------

    def _step_some(self) -> None:
        # Other code's garbage must not be finalized in the middle of a workflow's step; and to look
        # for it among thousands of suspended tasks every few hundred allocations is slow.
        collecting = gc.isenabled()
        gc.disable()
        try:
            self._step_chunk()
        finally:
            if collecting:
                gc.enable()

    def _step_chunk(self) -> None:
        if self.isolation.suspects:
            self._step_isolated()
            return
        for _ in range(min(_CHUNK, self.holdings.ready.size)):
            instance = self.holdings.ready.pop()
            instance.queued = False
            self._look_at(instance)

    def _step_isolated(self) -> None:
        """Step the suspects, and leave all others where they stand in the queue."""
        for instance in self.isolation.suspects:
            if instance.queued:
                self.holdings.ready.remove(instance)
                instance.queued = False
                self._look_at(instance)

    def _look_at(self, instance: HeldInstance) -> None:
        """Do what is next for an instance: a turn, mostly."""
        if instance.state is not State.HELD or self.holdings.held.get(instance.id) is not instance:
            return  # it comes back when its commit is stored
        if instance.deaths > _MOST_DEATHS:
            self._recorder.suspend(
                instance, reports.crashes_its_worker(instance, instance.deaths - 1)
            )
        elif not instance.has_work:
            self._recorder.give_back_untouched(instance)
        elif instance.execution is None and instance.turns:
            # Turns that the open batch has of it can be loaded when they are stored.
            if instance.commit is None or not instance.commit.turns:
                self._unloaded.append(instance)
        else:
            self._stepper.step(instance)

    async def _load_some(self) -> None:
        unloaded, suspects = self._unloaded, self.isolation.suspects
        if suspects:
            chosen = [instance for instance in unloaded if instance in suspects]
            self._unloaded = [instance for instance in unloaded if instance not in suspects]
        else:
            chosen, self._unloaded = unloaded[:_LOADED], unloaded[_LOADED:]
        await self._stepper.load(chosen)

    def drop_everything(self) -> None:
        """Let go of all instances at once: this worker's lease is lost, or it ends."""
        for instance in self.holdings.held.values():
            if instance.commit is not None:  # it will never be stored
                self.cancels.never_stored(instance, instance.commit)
                instance.unsay()
        self.holdings.clear()
        self.isolation.clear()
        self._unloaded.clear()
        self._batch.clear()
        self._idle.set()
