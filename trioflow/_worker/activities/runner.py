"""Run activities: begin them, stop them, and report how they ended. Knows no workflow and no store.

An activity is leased to this worker, by a commit of its own or by a look into the store, and is
then always in one of these states:

    waits in its lane  ->  has a task  ->  runs  ->  reported

and can leave each of them early: cancelled by its workflow, given back to the store for any worker
to take, dropped because it belongs to others, or given up because it did not stop in time. It is
reported once (`_detach`), whatever its code does afterwards: `Run.detached` says that it has been.
A run that was given up is reported but has not ended; it counts against the limits until it has.

Who may call what: everything here is called in the loop, and calls back in the loop.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextvars import Context, copy_context
from typing import Literal, Protocol

import anyio

from trioflow._codec.failures.failures import Failure
from trioflow._codec.values import Codec, open_text
from trioflow._model import events as ev
from trioflow._model.events import Event
from trioflow._model.interceptors import Interceptor
from trioflow._model.propagation import Propagator
from trioflow._observe import Observers
from trioflow._registry import Registry
from trioflow._worker.activities.attempts import Again, Attempts
from trioflow._worker.activities.capacity import Capacity
from trioflow._worker.activities.lanes import AHEAD, Lane, Run, ThreadLane
from trioflow._worker.activities.last_attempts import LastAttempts
from trioflow._worker.activities.overseer import Overseer
from trioflow._worker.activities.processes.pool import ProcessPool, check_outside
from trioflow._worker.activities.runtimes import Resources, make_lanes
from trioflow._worker.activities.telling import tell_attempt
from trioflow._worker.activities.transactions import Begin, Kept
from trioflow._worker.host import DetachedGroup, Host, ThreadCall
from trioflow._worker.log_fields import of_activity
from trioflow.backends.records import ActivityKey, ActivityTask

__all__ = ["ActivityRunner", "Listener"]

logger = logging.getLogger("trioflow.worker")

_OBEY = 0.5  # seconds in which what was cancelled must stop, or is given up


class Listener(Protocol):
    """Is told how activities end."""

    def activity_ended(self, task: ActivityTask, event: Event, *, apart: bool = False) -> None:
        """Take the event of one that completed, failed for good, or was cancelled.

        ``apart`` says that its row decides whether it counts: its own transaction may have been
        committed meanwhile.
        """

    def activity_settled(self, task: ActivityTask) -> None:
        """Take note of one whose end its own transaction has stored, or left to others."""

    def activity_progressed(self, task: ActivityTask, details: bytes) -> None:
        """Take what one that runs has last said with ``heartbeat()``, encoded."""

    def place_kept(self, task: ActivityTask) -> str:
        """Keep the place under limits of one that is given up; return what names it, or ``""``."""
        ...

    def place_left(self, place: str) -> None:
        """Give that back, since its code has ended."""

    def activity_given_back(
        self, task: ActivityTask, attempt: int, delay: float, failure: Failure | None
    ) -> None:
        """Let any worker attempt it as ``attempt``, ``delay`` seconds from now."""


class ActivityRunner:
    """Runs activities in tasks and threads of the host's loop, up to a limit.

    Their tasks are in a group of their own, out of reach of whoever cancels the worker: only
    `cancel`, `drop`, a time limit and `drain` stop them. What does not stop when it
    has to is given up: it is reported as if it had, and counts against the limits until it ends.

    Args:
        host: The loop, and its clocks and threads.
        registry: Where the functions are.
        codec: For arguments and results.
        propagators: What takes over the metadata of calls.
        interceptors: What is around the activities.
        now: The store's clock.
        queues: Which queues are served; empty for none.
        limit: How many may run at once.
        threads: How many plain functions may run at once.
        processes: How many may run at once in processes of their own.
        listener: Whom to tell.
        on_room: Called when there is room again, perhaps often; with whether it is worth a look
            into the store at once.
        on_interrupt: Called with a `KeyboardInterrupt` that came out of a function, or with what
            went wrong in here: the worker is to end.
        begin_transaction: Begins the transaction of a transactional activity.
        observers: Who is told of attempts, ``None`` for nobody.
    """

    def __init__(
        self,
        *,
        host: Host,
        registry: Registry,
        codec: Codec,
        propagators: Sequence[Propagator] = (),
        interceptors: Sequence[Interceptor] = (),
        now: Callable[[], float],
        queues: Collection[str],
        limit: int,
        threads: int,
        processes: int,
        listener: Listener,
        on_room: Callable[[bool], None],
        on_interrupt: Callable[[BaseException], None],
        begin_transaction: Begin,
        observers: Observers | None = None,
    ) -> None:
        self._observers = observers
        self._now = now
        self._host = host
        self._clock = host.monotonic
        self._activities = registry.activities
        self._overseer = Overseer(host.current_time, self)
        lanes = make_lanes(limit, threads, processes)
        self.capacity = Capacity(
            *(registry.activities, queues, limit, lanes),
            on_room=on_room,
            on_narrow=self._overseer.look_soon,
        )
        self.last_attempts = LastAttempts(registry.activities, self._clock)
        self._processes = ProcessPool(codec, host.current_time)
        self._attempts = Attempts(
            resources=Resources(host, self._processes, begin_transaction),
            activities=registry.activities,
            codec=codec,
            now=now,
            on_limit=self._limited,
            on_heartbeat=self._overseer.hear,
            propagators=propagators,
            interceptors=interceptors,
        )
        self._codec = codec
        self._listener = listener
        self._on_interrupt = on_interrupt
        self._runs: dict[ActivityKey, Run] = {}
        self._begun: dict[Run, None] = {}  # in their order, as all that is told later
        self._idle = anyio.Event()
        self._group: DetachedGroup | None = None
        self._groups: list[DetachedGroup] = []  # it, and those that broke and have not ended
        self._context = Context()
        self._refusing = False

    def check(self) -> None:
        """Check that what runs in other processes can be run there.

        Raises:
            DefinitionError: It cannot.
        """
        check_outside()
        if self._host.has_processes:
            activities = self._activities.values()
            self._processes.prepare(each for each in activities if each.runtime == "process")

    def open(self) -> None:
        """Open the group of tasks. All activities run in copies of the caller's context."""
        self._context = copy_context()
        self._open_group()
        self._watcher = DetachedGroup(self._host, "trioflow overseer")  # no attempt can break it
        for each, name in ((self._overseer, "overseer"), (self._processes, "idle processes")):
            self._watcher.start_soon(self._watch, each.watch, name=f"trioflow {name}")

    def unreserve(self, instance: str, name: str) -> None:
        """Give back the room of an activity that is not stored."""
        self.capacity.unreserve(instance, name)
        if self.capacity.closed:
            self._idle.set()

    def knows(self, name: str) -> bool:
        """Return whether there is a function of that name."""
        return name in self._activities

    # --- running ------------------------------------------------------------------------

    def start(self, task: ActivityTask) -> None:
        """Run an activity for which room was reserved."""
        lane = self.capacity.lane_of(task.activity)
        if self._refusing:  # signing off gives it back with all that this worker holds
            self.unreserve(task.key.instance, task.activity)
            return
        if task.key in self._runs:
            self._stop(task.key, "dropped")  # it was lost, and has come again
        run = Run(task, self._clock(), lane.window.total)
        self._runs[task.key] = run
        lane.add(run)
        self._fill()
        if lane.waiting:
            self._overseer.look_soon()

    def accept(self, task: ActivityTask) -> None:
        """Run an activity that was taken from the store."""
        self.capacity.count(task.key.instance, self.capacity.lane_of(task.activity))
        self.start(task)

    def in_hand(self) -> list[ActivityKey]:
        """Return the keys of all activities that run or wait here."""
        return list(self._runs)

    def cancel(self, key: ActivityKey, reason: str | None = None) -> bool:
        """Cancel an activity, and tell of its end; False if it is not in hand.

        ``reason``, as it is stored, is what the workflow's scope was cancelled with.

        Called by `Cancels` alone, which knows what the store must have said before.
        """
        return self._stop(key, "cancelled", reason)

    def drop(self, key: ActivityKey) -> None:
        """Stop an activity without reporting it: its result is of no use any more."""
        self._stop(key, "dropped")

    async def drain(self, grace: float) -> None:
        """Take no more; after ``grace`` seconds stop what still runs and give it back.

        What does not stop then is given up. Nothing waits for it any more: a thread that blocks
        does not even keep the process from exiting.
        """
        self.capacity.closed = self._attempts.leaving = True
        with anyio.move_on_after(grace):
            while not self.capacity.idle:
                await self._next_end()
        # What is reserved and does not run waits for a commit, which may never come.
        self._refusing = True
        for key in list(self._runs):
            self._stop(key, "given back")
        with anyio.move_on_after(_OBEY):
            while any(not run.given_up for run in self._begun):
                await self._next_end()
        await self._leave()

    # --- inside -------------------------------------------------------------------------

    def _open_group(self) -> None:
        """Run all that begins from now on in a new group."""
        self._group = DetachedGroup(self._host, "trioflow activities", self._group_broke)
        self._groups = [old for old in self._groups if not old.ended]
        self._groups.append(self._group)

    def _group_broke(self) -> None:
        """Go on after an attempt that has left a nursery open: what ran beside it is cancelled."""
        logger.error(
            "an activity has ended with a nursery or a task group still open, so all that ran "
            "beside it in this worker was cancelled, and is attempted again. It has failed with an "
            "error that speaks of cancel scopes. Open groups with 'async with' only, and wrap a "
            "generator that has one inside in contextlib.aclosing()"
        )
        self._open_group()

    async def _leave(self) -> None:
        """Abandon what does not stop, and wait for the rest of the tasks."""
        for run in list(self._begun):
            if not run.given_up:
                run.stop = "dropped" if run.stop == "dropped" else "given back"
                self._give_up(run, "the end of the worker's time", None)
            if run.thread is not None:
                run.thread.leave()
        if self._group is not None:
            self._overseer.stop()
            self._processes.stop()
            self._watcher.close()
            self._group.close()
            with anyio.move_on_after(_OBEY):
                for group in (*self._groups, self._watcher):
                    await group.wait()
        await self._processes.aclose()

    async def _next_end(self) -> None:
        self._idle = anyio.Event()
        await self._idle.wait()

    def _stop(
        self,
        key: ActivityKey,
        how: Literal["cancelled", "given back", "dropped"],
        reason: str | None = None,
    ) -> bool:
        run = self._runs.get(key)
        if run is None:
            return False
        if not run.stop or how == "dropped":
            run.stop, run.reason = how, reason
        if run.waits:
            self._take_out(run)
            return True
        if run.scope is not None:
            run.scope.cancel(open_text(self._codec, run.reason))
        if run.stop == "dropped":
            self._detach(run, None)
        elif run.stop == "cancelled" and self._is_abandoned(run):
            self._limited(run, self._host.current_time())
        return True

    def _take_out(self, run: Run) -> None:
        """Report one that has not begun."""
        lane = self.capacity.lane_of(run.task.activity)
        lane.remove(run)
        self.capacity.release(lane)
        self._detach(run, None)

    def _is_abandoned(self, run: Run) -> bool:
        """Return whether nobody waits for it once it is cancelled."""
        if run.options is not None and run.options.on_cancel is not None:
            return run.options.on_cancel == "abandon"
        return self._activities[run.task.activity].on_cancel == "abandon"

    def _fill(self) -> None:
        """Give tasks to those that may begin."""
        capacity = self.capacity
        while self._group is not None:
            for lane in capacity.lanes:
                if lane.waiting and lane.fresh < AHEAD:
                    break
            else:
                return  # without a call, as most often
            following = capacity.next_run()
            if following is None:
                return
            run, lane = following
            self._begun[run] = None
            # This may be the task of an activity that has just ended: its context is not passed on.
            # A copy, since a context cannot be entered twice, should the task begin at once.
            start = self._context.copy().run
            run.group = self._group
            start(self._group.start_soon, self._run, run, lane, name=run.task.activity)

    async def _run(self, run: Run, lane: Lane) -> None:
        try:
            lane.fresh -= 1
            result: Event | Again | Kept | None = None
            if not run.stop:
                began_at = self._clock()
                self._begin(run, lane, began_at)
                try:
                    result = await self._attempts.make(run)
                except BaseException as exc:  # noqa: BLE001  # it is an interrupt, perhaps in a group
                    self._interrupted(run, exc)
                ended_at = self._clock()
                lane.window.end(ended_at - began_at)
                if self._observers is not None:
                    tell_attempt(self._observers, run, result, ended_at - began_at, self._now())
                if run.thread is not None:
                    _note_thread(run.thread, lane, ended_at)
            lane.running -= 1
            self._begun.pop(run, None)
            self._overseer.forget(run)
            self._fill()
            self.capacity.release(lane)
            self._detach(run, result)
            if run.place:
                self._listener.place_left(run.place)
            if self.capacity.closed:
                self._idle.set()
        except BaseException as exc:  # noqa: BLE001  # ours; the others must not end with it
            self._on_interrupt(exc)

    def _interrupted(self, run: Run, exc: BaseException) -> None:
        run.stop = run.stop or "given back"
        self._on_interrupt(exc)

    def _begin(self, run: Run, lane: Lane, now: float) -> None:
        window = lane.window
        if window.begin(run.came_at, run.came_after, now):
            for other in lane.surplus(window.held - window.size):
                self._give_back(other, lane)
            self._overseer.look_soon()
        elif window.short:
            self.capacity.see_room(lane)
        self._fill()

    def _give_back(self, run: Run, lane: Lane) -> None:
        """Give back one that has not begun, and is no longer in its lane."""
        run.stop = run.stop or "given back"
        self.capacity.release(lane)
        self._detach(run, None)

    def _detach(  # noqa: C901 - one branch for each way to end
        self, run: Run, result: Event | Again | Kept | None
    ) -> None:
        """Forget a run and report it; once."""
        if run.detached:
            return
        run.detached = True
        transaction = run.transaction
        if transaction is not None:  # its thread goes on; its locks must not
            transaction.abandon()
        task = run.task
        if self._runs.get(task.key) is run:
            del self._runs[task.key]
            if self.last_attempts.alone is not None:  # without a call, as most often
                self.last_attempts.leave(task.key)
        self.capacity.forget(task.key.instance)
        if self.capacity.closed:
            self._idle.set()
        if run.stop == "dropped":
            return
        if run.pulse is not None and (isinstance(result, Again) or run.stop == "given back"):
            self.report_progress(run)
        if isinstance(result, Again):
            self._listener.activity_given_back(task, *result)
        elif isinstance(result, Kept):
            self._listener.activity_settled(task)
        elif result is not None:
            apart = self._activities[task.activity].transactional
            self._listener.activity_ended(task, result, apart=apart)
        elif run.stop == "cancelled":
            apart = self._activities[task.activity].transactional
            event = ev.ActivityCancelled(task.key.command, run.reason)
            self._listener.activity_ended(task, event, apart=apart)
        elif run.stop == "given back":
            self._listener.activity_given_back(task, task.attempt, 0.0, None)

    # --- what does not stop, and what waits too long -----------------------------------------

    def _limited(self, run: Run, deadline: float) -> None:
        self._overseer.watch_limit(run, deadline + _OBEY)

    async def _watch(self, watch: Callable[[], Awaitable[None]]) -> None:
        """Run the overseer, or the pool's own, until the end."""
        try:
            await watch()
        except Exception as exc:  # noqa: BLE001  # ours; as above
            self._on_interrupt(exc)

    def look(self) -> bool:
        """See `Overseen`: give back what waited at the last look too, if none has begun since.

        Where more may run and nothing waits, ask for more.
        """
        full = self.capacity.full
        again = False
        for lane in self.capacity.lanes:
            if not (full or lane.running >= lane.limit):
                if lane.window.is_narrow:
                    again = True
                    lane.window.widen()
                    self.capacity.see_room(lane)
                continue  # it is only the loop that was busy
            stuck = lane.stuck()
            if stuck:
                lane.window.close(self._clock())
            for run in stuck:
                self._give_back(run, lane)
        return again or bool(self.capacity.waiting)

    def report_progress(self, run: Run) -> None:
        """See `Overseen`."""
        assert run.pulse is not None
        details = run.pulse.take()
        if details is not None:
            self._listener.activity_progressed(run.task, details)

    def silent(self, run: Run) -> None:
        """See `Overseen`."""
        assert run.pulse is not None
        run.pulse.overdue = True
        run.limit = f"its heartbeat_timeout of {run.pulse.silence} s"
        if run.scope is not None:
            run.scope.cancel()
        self._limited(run, self._host.current_time())

    def overdue(self, run: Run) -> None:
        """See `Overseen`."""
        if run.stop == "cancelled" and self._is_abandoned(run):
            self._give_up(run, "its cancel", None)
        elif not run.detached:
            result = self._attempts.failed(run, self._attempts.timeout(run))
            self._give_up(run, run.limit, result)

    def _give_up(self, run: Run, limit: str, result: Event | Again | None) -> None:
        """Report a run that does not stop as if it had."""
        run.given_up = True
        if not run.detached:
            run.place = self._listener.place_kept(run.task)
            logger.warning(
                "activity %r of instance %r (%s, attempt %d) has not stopped %.3g s after %s, and "
                "is given up: what it still returns is dropped, and it counts against this "
                "worker's limits until it ends",
                run.task.activity,
                run.task.key.instance,
                run.task.key.command,
                run.task.attempt,
                _OBEY,
                limit,
                extra=of_activity(run.task),
            )
        self._detach(run, result)


def _note_thread(thread: ThreadCall, lane: Lane, ended_at: float) -> None:
    if thread.ended_at and isinstance(lane, ThreadLane):
        ran = thread.ended_at - thread.began_at
        lane.ran(thread.processor, ran, ended_at - thread.ended_at)
