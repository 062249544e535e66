"""The pump: turns events into turns, turns into commits, and commits into effects.

Nothing that a turn asked for happens before the turn is stored. While one batch is being stored,
the next one is built; an instance whose commit is under way makes no further turn until that is
stored. Within one batch an instance may make several turns, and a child's end may be consumed by
its parent at once: they are then one unit, which is stored whole or not at all.

A suspect, which a worker held when it died, is stepped in isolation: until its turn is stored, no
other instance makes one. So it is known who ends the process if it ends.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Collection

import anyio
import anyio.lowlevel
import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._codec.values import Codec
from trioflow._model import events as ev
from trioflow._model.events import Event, decode_event, encode_event
from trioflow._registry import Registry
from trioflow._worker.activities.runner import ActivityRunner
from trioflow._worker.heartbeat import Step
from trioflow._worker.host import Host
from trioflow._worker.instances import reports
from trioflow._worker.instances.batch import Batch, OpenUnit
from trioflow._worker.instances.commit import Committer
from trioflow._worker.instances.held import HeldInstance, Received, State
from trioflow._worker.instances.holdings import Holdings
from trioflow._worker.instances.recorder import Recorder
from trioflow._worker.instances.starts import Start
from trioflow._worker.instances.stepper import Stepper
from trioflow.backends.abc import Backend
from trioflow.backends.records import (
    ActivityKey,
    ActivityResult,
    ActivityRetry,
    ActivityTask,
    NewInstance,
    TakenInstance,
)

__all__ = ["Pump"]

logger = logging.getLogger("trioflow.worker")

_CHUNK = 200  # turns between two looks at everything else
_MOST_DEATHS = 3  # of workers that stepped an instance in isolation, before it is suspended
_MAX_BATCH = 300  # turns in one commit; so that stepping and storing overlap
_encode = msgspec.json.Encoder().encode
_decode_signals = msgspec.json.Decoder(list[ev.SignalReceived]).decode


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
        on_end: Called with an instance's id, life, status and stored outcome when it has ended.
        on_wake_at: Called with the time when a stored instance will be due.
        on_lease_lost: Called when the worker's row is gone.
        on_lost_answer: Called when it is not known whether a commit was stored at its first try.
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
        on_end: Callable[[str, str, str, bytes], None],
        on_wake_at: Callable[[float], None],
        on_lease_lost: Callable[[], None],
        on_lost_answer: Callable[[], None],
    ) -> None:
        self._backend = backend
        self._host = host
        self._workflows = registry.workflows
        self._codec = codec
        self._on_wake_at = on_wake_at
        self.activities: ActivityRunner = None  # type: ignore[assignment]  # see `attach`
        self._unloaded: list[HeldInstance] = []
        self._batch = Batch()
        self._holdings = Holdings(registry.workflows, queues, limit, cache_size, self._woken)
        self._recorder = recorder = Recorder(self._holdings, self._batch, self._woken, host.random)
        self._stepper = Stepper(
            backend,
            self._workflows,
            codec,
            self._holdings,
            self._batch,
            recorder,
            max_steps,
            host.random,
        )
        self._committer = Committer(
            backend=backend,
            holdings=self._holdings,
            batch=self._batch,
            recorder=self._recorder,
            wake=self._woken,
            on_end=on_end,
            on_wake_at=on_wake_at,
            on_lease_lost=on_lease_lost,
            on_lost_answer=on_lost_answer,
            on_successor=self.receive,
            codec=codec,
        )
        self._isolated: list[HeldInstance] = []
        self._wake = anyio.Event()
        self._dirty = anyio.Event()
        self._idle = anyio.Event()
        # A commit that gives up leases and a `take_instances` that gives them again must not cross.
        self.store_lock = anyio.Lock()

    def attach(self, activities: ActivityRunner) -> None:
        """Say who runs activities; it tells this pump how they went."""
        self.activities = self._recorder.activities = self._committer.activities = activities

    def serve(self, worker: str) -> None:
        """Say which worker's leases these are."""
        self._committer.worker = worker

    # --- what comes in ------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many more instances could be taken."""
        return self._holdings.room

    @property
    def unknown(self) -> set[str]:
        """Names of workflows that came and are not registered here."""
        return self._recorder.unknown

    @property
    def closed(self) -> bool:
        """Whether no more instances are taken."""
        return self._holdings.closed

    def close(self) -> None:
        """Take no more instances, and isolate none: what is held has its last turns."""
        self._holdings.closed = True
        self._isolated.clear()
        self._woken()

    def current_step(self) -> Step | None:
        """Say which step is being made, for the watchdog."""
        return self._stepper.current

    def life_of(self, instance: str) -> str | None:
        """Return the life of an instance that is stored and held by this worker now."""
        held = self._holdings.held.get(instance)
        return None if held is None or held.new is not None else held.life

    def accepts(self, workflow: str, queue: str) -> bool:
        """Whether an instance of that kind could begin here."""
        return self._holdings.accepts(workflow, queue)

    def start(self, new: NewInstance) -> Start:
        """Create an instance and begin it at once; the caller waits on what is returned.

        It is not created if this worker holds one of that id, which may have been terminated
        meanwhile: only the store knows.
        """
        start = Start(new, self._host)
        if new.id in self._holdings.held or self._holdings.closed:
            start.settle(created=False)
            return start
        instance = HeldInstance.born(new)
        instance.start = start
        self._holdings.forget_parked(new.id)
        self._holdings.hold(instance)
        self._batch.unit_of(instance)
        self._holdings.queue(instance)
        return start

    def receive(self, row: TakenInstance) -> None:
        """Accept an instance that the store gave; never called while a commit is under way."""
        instance = self._place_of(row)
        if instance is None:
            return
        if row.deaths:
            instance.suspect, instance.deaths = True, row.deaths
            if instance not in self._isolated:
                self._isolated.append(instance)
        if row.turns == instance.turns:  # otherwise the open batch knows better
            instance.wake_at = instance.stored_wake_at = row.wake_at
            instance.due = row.wake_at is not None and row.wake_at <= self._backend.now()
        try:
            for message in row.inbox:
                if message.seq > instance.last_seq:
                    event = decode_event(message.event)
                    instance.last_seq = message.seq
                    instance.received.append(Received(event, message.at, seq=message.seq))
        except msgspec.MsgspecError as exc:
            if instance.may_step:
                self._recorder.suspend(instance, reports.unreadable_message(instance, exc))
            return
        self._holdings.queue(instance)

    def _place_of(self, row: TakenInstance) -> HeldInstance | None:
        """Return what stands for a row here; ``None`` if that has to wait."""
        instance = self._holdings.held.get(row.id)
        if instance is not None and not instance.is_same_as(row):
            if instance.commit is not None:
                # What the open batch says of it will be refused. The row comes after that.
                instance.successor = row
                if instance.start is not None:
                    instance.start.settle(created=False)
                return None
            self._committer.hand_over(instance)  # or the rows of what has ended would stay
            self._holdings.drop(instance)
            instance = None
            if self._isolated:
                self._end_isolation()
        if instance is None:
            instance = self._holdings.unpark(row)
            self._holdings.hold(instance)
        return instance

    def activity_ended(self, task: ActivityTask, event: Event) -> None:
        """Hand an activity's end to its instance, directly if that is held here."""
        key = task.key
        instance = self._holdings.held.get(key.instance)
        now = self._backend.now()
        if (
            instance is not None
            and instance.number == key.execution
            and instance.life == key.life
            and not instance.sealed
        ):
            instance.received.append(Received(event, now, finished=key.command))
            self._holdings.queue(instance)
        else:
            unit = OpenUnit()
            unit.unit.results = [ActivityResult(key, encode_event(event), now)]
            self._add(unit)

    def activity_given_back(
        self, task: ActivityTask, attempt: int, delay: float, failure: Failure | None
    ) -> None:
        """Store that an activity is to be attempted again, by anyone."""
        unit = OpenUnit()
        visible_at = self._backend.now() + delay
        data = task.failure if failure is None else _encode(failure)
        unit.unit.retries = [ActivityRetry(task.key, attempt, visible_at, data)]
        self._add(unit)
        instance = self._holdings.held.get(task.key.instance)
        if instance is not None:
            self._holdings.queue(instance)  # perhaps it was only kept for this activity
        self._on_wake_at(visible_at)

    def in_hand(self) -> list[ActivityKey]:
        """The activities leased to this worker that it runs, or whose ends it is about to store."""
        keys = self.activities.in_hand()
        for instance in self._holdings.held.values():
            for received in (*instance.received, *instance.used):
                if received.finished is not None:
                    keys.append(instance.key(received.finished))
        for unit in self._batch.units:
            keys += [result.key for result in unit.unit.results]
            keys += [retry.key for retry in unit.unit.retries]
        return keys

    def ending(self) -> set[ActivityKey]:
        """The activities whose ends, or next attempts, are about to be stored by themselves."""
        units = [unit.unit for unit in self._batch.units]
        results = {result.key for unit in units for result in unit.results}
        return results.union(retry.key for unit in units for retry in unit.retries)

    def _add(self, unit: OpenUnit) -> None:
        self._batch.add(unit)
        self._woken()

    def _woken(self) -> None:
        self._wake.set()

    # --- the two tasks ------------------------------------------------------------------

    async def run(self) -> None:
        """Step what is ready, for ever."""
        while True:
            while self._can_step or self._can_load:
                self._step_some()
                if self._can_load:
                    await self._load_some()
                self._offer()
                await anyio.lowlevel.checkpoint()
            self._offer()
            if not self._can_step:
                self._wake = anyio.Event()
                self._idle.set()
                await self._wake.wait()

    async def run_commits(self) -> None:
        """Store batch after batch, for ever."""
        while True:
            while not self._batch.units:
                self._dirty = anyio.Event()
                self._idle.set()
                await self._dirty.wait()
            # What has just been set free (activities, parents) mostly ends at once: let it join.
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            while self._can_step and self._batch.size < _MAX_BATCH:
                self._step_some()
                await anyio.lowlevel.checkpoint()
            async with self.store_lock:
                await self._committer.commit(self._batch.seal())
                self._idle.set()
                if self._isolated:
                    self._end_isolation()

    @property
    def _can_step(self) -> bool:
        """Whether an instance may make a turn now."""
        if self._isolated:
            return any(instance.queued and instance.may_step for instance in self._isolated)
        return bool(self._holdings.ready)

    @property
    def _can_load(self) -> bool:
        """Whether a history may be loaded now: its replay may end the process as a step may."""
        if self._isolated:
            return any(instance in self._isolated for instance in self._unloaded)
        return bool(self._unloaded)

    @property
    def isolating(self) -> bool:
        """Whether a suspect is being stepped in isolation."""
        return bool(self._isolated)

    def _end_isolation(self) -> None:
        """Let the others go on when the suspects have made their turn, or are let go."""
        held = self._holdings.held
        self._isolated = [x for x in self._isolated if x.suspect and held.get(x.id) is x]
        self._woken()  # also for one that stood in the queue until its commit was refused
        if not self._isolated:
            self._on_wake_at(self._backend.now())  # there may be more suspects

    async def settle(self) -> None:
        """Wait until nothing is ready and everything is stored."""
        while (
            self._holdings.ready or self._unloaded or self._batch.units or self._committer.under_way
        ):
            self._idle = anyio.Event()
            await self._idle.wait()

    def unsettled(self) -> tuple[set[str], set[str]]:
        """Return what is not stored, or perhaps not: ids of instances, and of their activities."""
        waiting = [*self._holdings.ready, *self._unloaded]
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
        if self._isolated:
            self._step_isolated()
            return
        for _ in range(min(_CHUNK, len(self._holdings.ready))):
            instance = self._holdings.ready.pop()
            instance.queued = False
            self._look_at(instance)

    def _step_isolated(self) -> None:
        """Step the suspects, and leave all others where they stand in the queue."""
        for instance in self._isolated:
            if instance.queued:
                self._holdings.ready.remove(instance)
                instance.queued = False
                self._look_at(instance)

    def _look_at(self, instance: HeldInstance) -> None:
        if instance.state is not State.HELD or self._holdings.held.get(instance.id) is not instance:
            return  # it comes back when its commit is stored
        if instance.deaths > _MOST_DEATHS:
            self._recorder.suspend(
                instance, reports.crashes_its_worker(instance, instance.deaths - 1)
            )
        elif not instance.has_work:
            self._recorder.give_back_untouched(instance)
        elif instance.execution is None and instance.turns:
            if (
                instance.commit is None or not instance.commit.turns
            ):  # otherwise they are to be stored
                self._unloaded.append(instance)
        else:
            self._stepper.step(instance)

    async def _load_some(self) -> None:
        if self._isolated:
            chosen = [instance for instance in self._unloaded if instance in self._isolated]
            self._unloaded = [
                instance for instance in self._unloaded if instance not in self._isolated
            ]
        else:
            chosen, self._unloaded = self._unloaded[:100], self._unloaded[100:]
        await self._stepper.load(chosen)

    def drop_everything(self) -> None:
        """Let go of all instances at once: this worker's lease is lost, or it ends."""
        for instance in self._holdings.held.values():
            if instance.commit is not None:  # it will never be stored
                self.activities.unreserve_all(instance.id, instance.commit.activities)
                instance.unsay()
        self._holdings.clear()
        self._isolated.clear()
        self._unloaded.clear()
        self._batch.clear()
        self._idle.set()
