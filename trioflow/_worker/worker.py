"""The worker as a whole: registers, takes work, keeps its leases, drains and signs off.

One group of tasks owns what it starts: the pump steps instances and stores their turns, `Taker`
leases work from the store, `_reclaim` expires workers whose heartbeat is late (or `_hear` asks for
cancels, where the store is this process's own), `_register_again` begins anew after the own lease
was lost. Activities run in a group of their own, which outlives a cancel of the worker.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import anyio
import trio

from trioflow._client import Client
from trioflow._client.fences import closed_by, only_fenced
from trioflow._codec.limits import check_name
from trioflow._engine import guard
from trioflow._model.interceptors import those_around
from trioflow._observe import LeaseWasLost, observers_of, propagators_among
from trioflow._registry import known_workflows
from trioflow._worker.activities.runner import ActivityRunner
from trioflow._worker.answering import Answerer
from trioflow._worker.code_check import CodeCheck
from trioflow._worker.heartbeat import Heart
from trioflow._worker.host import Host, TaskGroup
from trioflow._worker.instances.pump import Pump
from trioflow._worker.log_fields import current_worker
from trioflow._worker.options import WorkerOptions
from trioflow._worker.polling import PollTimer
from trioflow._worker.registration import Registration
from trioflow._worker.retention import tidy
from trioflow._worker.taking import Taker
from trioflow._worker.unserved import watch_queues
from trioflow._worker.watchdog import Watchdog
from trioflow.backends._common.thread import CallGroup
from trioflow.backends._common.watching import selection_of
from trioflow.backends.abc import Backend
from trioflow.backends.outbox import ActivityTransaction
from trioflow.backends.records import ActivityKey
from trioflow.errors import BackendError, BackendUnavailable, StoreFenced

__all__ = ["Worker"]

logger = logging.getLogger("trioflow.worker")

_BEAT = 1.0  # seconds at most between heartbeats, which also bring cancels
# Seconds that the store has at the end, beyond those of the activities; and for the worker's row.
_STORING, _SIGNING_OFF = 5.0, 2.0
_NAMED = 20  # ids in a message


def _names(queues: Sequence[str]) -> tuple[str, ...]:
    return tuple(check_name(each, "a queue") for each in queues)


class Worker:
    """A running worker. `open_worker` makes one.

    Attributes:
        client: A client on the same backend, which begins instances in this worker where it can.
        name: What was given, or ``host:pid``.
        calls: Its calls to the store; those that hang when its time is over are left.
        interrupt: The `KeyboardInterrupt` that came out of what it runs, or what else ended it.
    """

    def __init__(self, backend: Backend, options: WorkerOptions, host: Host) -> None:
        self.name = options.name or f"{socket.gethostname()}:{os.getpid()}"
        self._backend = backend
        self._options = options
        self._host = host
        self._queues = _names(options.served_queues)
        self._activity_queues = _names(options.served_activity_queues)
        self._registration = Registration(self.name)
        self._context = copy_context()
        self._context.run(current_worker.set, self._registration)
        self._observers = observers = observers_of(options.observers)
        propagators = propagators_among(options.propagators, options.observers)
        self._timer = PollTimer(backend)
        self._pump = Pump(
            backend=backend,
            host=host,
            registry=options.registry,
            codec=options.codec,
            queues=self._queues,
            limit=options.max_instances,
            cache_size=options.cache_size,
            max_steps=options.max_steps,
            propagators=propagators,
            interceptors=those_around(options.interceptors, "workflow"),
            make_runner=lambda listener: ActivityRunner(
                host=host,
                registry=options.registry,
                codec=options.codec,
                propagators=propagators,
                interceptors=those_around(options.interceptors, "activity"),
                now=backend.now,
                queues=self._activity_queues,
                limit=options.max_activities,
                threads=options.max_threads,
                processes=options.processes,
                listener=listener,
                on_room=self._timer.see_room,
                on_interrupt=self._interrupted,
                begin_transaction=self._begin_transaction,
                observers=observers,
            ),
            registration=self._registration,
            timer=self._timer,
            waiter=lambda: self.client.waiter,
            observers=observers,
        )
        self._activities = self._pump.activities
        self._code_check = CodeCheck(
            options.check,
            backend=backend,
            registry=options.registry,
            codec=options.codec,
            queues=self._queues,
            propagators=propagators,
            interceptors=those_around(options.interceptors, "workflow"),
            holdings=self._pump.holdings,
            look_again=self._timer.look_now,
        )
        self.client = Client(
            backend,
            codec=options.codec,
            registry=options.registry,
            local=self._pump.intake,
            random=host.random,
            wall=host.wall,
            propagators=propagators,
            interceptors=options.interceptors,
            observers=observers,
        )
        self.calls = CallGroup()
        self._heart: Heart | None = None
        self._watchdog = Watchdog(host, options.stuck_after, self._pump.current_step)
        self._taker = Taker(
            backend=backend,
            queues=self._queues,
            activity_queues=self._activity_queues,
            sticky=options.sticky,
            registration=self._registration,
            timer=self._timer,
            pump=self._pump,
            look_for_cancels=self._look_for_cancels,
        )
        self._answerer = Answerer(
            backend=backend,
            workflows=known_workflows(options.registry),
            codec=options.codec,
            queues=self._queues,
            registration=self._registration,
            pump=self._pump,
        )
        self._services = anyio.CancelScope(shield=True)
        self._patience: anyio.CancelScope | None = None  # while it drains; an interrupt ends it
        self._group: TaskGroup | None = None
        self._failed = False
        self.interrupt: BaseException | None = None

    # --- begin and end ------------------------------------------------------------------

    async def register(self) -> None:
        """Check the definitions, and store the worker's row. What fails here starts nothing."""
        guard.install()
        self._options.registry.check(self._options.codec)
        for workflow in known_workflows(self._options.registry).values():
            _ = workflow.fingerprint  # now, and not when the file may have been changed
        self._activities.check()
        await self._code_check.begin()
        await self._register()

    def start(self, group: TaskGroup) -> None:
        """Start everything that belongs to the worker in ``group``."""
        self._group = group
        self._context.run(self._start, group)

    def _start(self, group: TaskGroup) -> None:
        self._activities.open()
        self._watchdog.start()
        group.start_soon(self._serve, name="trioflow worker")
        group.start_soon(self._watch_ends, name="trioflow results")
        registry = self._options.registry
        if not registry.workflows and not registry.activities:
            logger.warning(
                "worker %s knows no workflow and no activity, and so does nothing: import the "
                "modules that define them before it starts, or give it their registry with "
                "registry=",
                self.name,
            )
        logger.info(
            "worker %s (%s) serves %s: %d workflows of queues %s, %d activities of queues %s; "
            "trioflow %s, trio %s, Python %s",
            self.name,
            self._registration.id,
            self._backend.name,
            len(registry.workflows),
            ", ".join(self._queues) or "(none)",
            len(registry.activities),
            ", ".join(self._activity_queues) or "(none)",
            _version(),
            trio.__version__,
            platform.python_version(),
            extra={
                "store": self._backend.name,
                "queues": list(self._queues),
                "activity_queues": list(self._activity_queues),
                "workflows": sorted(registry.workflows),
                "activities": sorted(registry.activities),
            },
        )

    async def drain(self) -> None:
        """Take no more work, let what runs end or give it back, and sign off.

        No cancel scope shortens it. An interrupt does, or asyncio's ``Task.cancel()``: then nothing
        gets any more time, and it is raised again at the end. A store that hangs does not prolong
        it: what was not stored, or of which that is not known, is left to others, who find it in
        the store when the lease has run out.
        """
        token = current_worker.set(self._registration)
        try:
            await self._drain()
        finally:
            current_worker.reset(token)
            if self._observers is not None:
                await self._observers.flush()

    async def _drain(self) -> None:
        interrupted = True
        with anyio.CancelScope(shield=True), self.calls.entered():
            try:
                with anyio.CancelScope() as self._patience:
                    await self._wind_down(0.0 if self._failed else self._options.drain)
                    interrupted = False
            finally:
                try:
                    if interrupted:
                        logger.info("worker %s is interrupted; it ends at once", self.name)
                        await self._wind_down(0.0)
                finally:  # or, if something in here is wrong, the worker would not end at all
                    self._stop_services()

    async def _wind_down(self, grace: float) -> None:
        began_at = self._host.monotonic()
        end = self._host.current_time() + grace + _STORING
        self._pump.close()
        self._timer.look_now()
        logger.info(
            "worker %s takes no more work; %d activities have %.3g s to end",
            self.name,
            len(self._activities.in_hand()),
            grace,
        )
        await self._activities.drain(grace)
        if not (self._failed or self._services.cancel_called):
            with anyio.CancelScope(deadline=end) as patience:
                await self._pump.settle()
            if patience.cancelled_caught:
                instances, activities = self._pump.unsettled()
                logger.warning(
                    "worker %s could not store everything before its end: the store is slow or "
                    "away. What was not stored is done again by others: turns of %d instances%s, "
                    "ends of %d activities%s",
                    self.name,
                    len(instances),
                    _named(instances),
                    len(activities),
                    _named(activities),
                )
        self._stop_services()
        self.calls.leave()
        self._pump.drop_everything()
        try:
            with anyio.move_on_after(_SIGNING_OFF) as patience:
                if self._failed:  # perhaps because of an instance: the next worker must find it
                    await self._backend.release_worker(self._registration.id, died=True)
                else:
                    await self._backend.release_worker(self._registration.id)
            if patience.cancelled_caught:
                logger.warning(
                    "worker %s (%s) could not sign off in %.3g s; its lease will run out",
                    self.name,
                    self._registration.id,
                    _SIGNING_OFF,
                )
        except BackendError as exc:
            logger.warning("the worker could not sign off; its lease will run out: %s", exc)
        seconds = self._host.monotonic() - began_at
        worker = self._registration.id
        logger.info("worker %s (%s) has ended, after %.3g s", self.name, worker, seconds)

    def _stop_services(self) -> None:
        """Stop what runs beside the instances and activities. Idempotent."""
        self._services.cancel()
        self._watchdog.stop()
        if self._heart is not None:
            self._heart.stop()

    def _begin_transaction(self, key: ActivityKey, attempt: int) -> ActivityTransaction:
        return self._backend.activity_transaction(self._registration.id, key, attempt)

    def _interrupted(self, exc: BaseException) -> None:
        self.interrupt = exc
        if self._patience is not None:
            self._patience.cancel()
        if self._group is not None:
            self._group.cancel_scope.cancel()

    async def _register(self) -> None:
        self._registration.id = self._host.random.hex(16)
        await self._backend.register_worker(
            self._registration.id,
            self.name,
            queues=self._queues,
            activity_queues=self._activity_queues,
            lease=self._options.lease if self._backend.shared else None,
            version=_version(),
        )
        if self._backend.shared:
            self._heart = self._context.copy().run(
                Heart,
                self._backend,
                self._registration.id,
                host=self._host,
                interval=min(self._options.lease / 3, _BEAT),
                on_lost=self._heart_failed,
                on_cancelled=self._heard_cancels,
            )

    async def _watch_ends(self) -> None:
        with self.calls.entered():
            await self.client.watch()

    async def _serve(self) -> None:
        try:
            with self.calls.entered(), self._services:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._run, self._pump.run)
                    group.start_soon(self._run, self._pump.run_commits)
                    group.start_soon(self._run, self._taker.run)
                    group.start_soon(self._run, self._answerer.run)
                    group.start_soon(self._run, self._timer.collect_room)
                    group.start_soon(self._run, self._register_again)
                    group.start_soon(self._run, watch_queues, self._backend, self._registration)
                    group.start_soon(self._run, tidy, self._backend, *self._options.kept)
                    group.start_soon(self._run, self._code_check.watch_left)
                    group.start_soon(
                        self._run, self._reclaim if self._backend.shared else self._hear
                    )
        except BaseException as exc:
            self._failed = True  # then nobody can store how anything ends
            worker = self._registration.id
            if fenced := only_fenced(exc):
                logger.error("worker %s (%s) ends: %s", self.name, worker, fenced)  # noqa: TRY400
            elif isinstance(exc, Exception):
                logger.exception("worker %s (%s) has failed, and ends", self.name, worker)
            raise

    async def _run(self, service: Callable[..., Awaitable[None]], *args: Any) -> None:
        try:
            await service(*args)
        except KeyboardInterrupt as exc:  # asyncio would end the loop if it left the task
            self._failed |= service in (self._pump.run, self._pump.run_commits)
            self._interrupted(exc)

    # --- leases -------------------------------------------------------------------------

    async def _reclaim(self) -> None:
        while True:
            try:
                if self._taker.away:
                    # Any answer will do: others can reach it as well, and show that they live.
                    await self._backend.get("")
                    self._taker.away = False
                    await anyio.sleep(self._options.lease / 3)
                for worker in await self._backend.reclaim(self._options.lease):
                    logger.warning(
                        "worker %s sent no heartbeat for %s s; other workers take over its work",
                        worker,
                        self._options.lease,
                    )
            except BackendUnavailable:
                self._taker.away = True  # whoever takes work has already said so
            await anyio.sleep(self._options.lease / 3)
            self._timer.follow_clock()

    def _heard_cancels(self, marks: dict[ActivityKey, bytes]) -> None:
        """Stop what the store has cancelled.

        What is leased to this worker and not here was leased with an answer that did not arrive,
        and would stay so for as long as the worker lives: the store is asked to free it.
        """
        missing = self._pump.cancels.heard(marks)
        if missing and not missing.issubset(self._pump.in_hand()):
            self._registration.answer_lost = True
            self._timer.look_now()

    async def _look_for_cancels(self) -> None:
        if self._heart is None:
            self._heard_cancels(self._backend.heartbeat(self._registration.id).marks())
        else:
            with anyio.move_on_after(_BEAT):
                await self._heart.beat_now().wait()

    async def _hear(self) -> None:
        """Where no heartbeat is needed to live, ask for cancellations after each change."""
        changed = selection_of(self._backend)
        while True:
            looked = seen = self._backend.changes()
            answer = self._backend.heartbeat(self._registration.id)
            if not answer.alive:
                self._registration.lose()
            self._heard_cancels(answer.marks())
            while not changed("cancels", looked):
                await self._backend.wait_change(seen, math.inf)
                seen = self._backend.changes()

    def _heart_failed(self, worker: str) -> None:
        if worker == self._registration.id:
            self._registration.lose()

    async def _register_again(self) -> None:
        """After the lease is lost: drop everything, and begin anew as another worker."""
        while True:
            await self._registration.wait_lost()
            with suppress(BackendUnavailable):
                if closed := await closed_by(self._backend):
                    raise StoreFenced(closed)
            logger.warning(
                "worker %s was declared dead (its heartbeat was late); what it held belongs to "
                "others. It registers anew.",
                self._registration.id,
            )
            if self._observers is not None:
                lost = LeaseWasLost(worker=self._registration.id, name=self.name)
                self._observers.tell(lost)
            async with self._pump.store_lock:
                if self._heart is not None:
                    self._heart.stop()
                self._pump.cancels.all_lost()
                self._pump.drop_everything()
                while True:
                    try:
                        await self._register()
                    except BackendUnavailable:
                        await anyio.sleep(0.5)
                    else:
                        break
                self._registration.renewed()
            self._timer.look_now()


@cache
def _version() -> str:
    try:
        return version("trioflow")
    except PackageNotFoundError:  # it runs from its sources
        return "(not installed)"


def _named(ids: Iterable[str]) -> str:
    """Return some ids for a message, not too many."""
    named = sorted(ids)
    if not named:
        return ""
    more = len(named) - _NAMED
    return f" ({', '.join(named[:_NAMED])}{f' and {more} more' if more > 0 else ''})"
