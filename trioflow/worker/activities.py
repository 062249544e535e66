"""Running activities: attempts, timeouts, retries, cancellation. Knows no workflow and no store."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection
from typing import Any, Literal, Protocol

import anyio
import anyio.to_thread
import msgspec

from trioflow.errors import ActivityTimeout
from trioflow.model import events as ev
from trioflow.model.commands import ActivityOptions
from trioflow.model.definitions import Activity
from trioflow.model.events import Event
from trioflow.model.failures import Failure
from trioflow.model.info import ActivityInfo, current_activity
from trioflow.model.records import ActivityKey, ActivityTask
from trioflow.model.retry import DEFAULT_ACTIVITY_RETRY
from trioflow.model.values import Codec, encode_checked
from trioflow.registry import Registry
from trioflow.worker.commits import decode_options
from trioflow.worker.host import TaskGroup, cancel_scope, in_asyncio
from trioflow.worker.lanes import Lane, Run, ThreadLane
from trioflow.worker.window import Window

__all__ = ["ActivityRunner", "Key", "Listener", "key_of"]

logger = logging.getLogger("trioflow.worker")

Key = tuple[str, int, str]


def key_of(task: ActivityTask) -> Key:
    """Return the key of an activity as a tuple."""
    key = task.key
    return key.instance, key.execution, key.command


class Listener(Protocol):
    """Whom the runner tells how an activity went."""

    def activity_ended(self, task: ActivityTask, event: Event) -> None:
        """It completed, failed for good, or was cancelled."""

    def activity_given_back(
        self, task: ActivityTask, attempt: int, delay: float, failure: Failure | None
    ) -> None:
        """It is to be attempted as ``attempt`` by anyone, ``delay`` seconds from now."""


class ActivityRunner:
    """Runs activities in tasks and threads of the host's loop, up to a limit.

    Args:
        registry: Where the functions are.
        codec: For arguments and results.
        now: The store's clock.
        queues: Which queues are served; empty for none.
        limit: How many may run at once.
        threads: How many plain functions may run at once.
        listener: Whom to tell.
        on_room: Called when there is room again, perhaps often; with whether it is worth a look
            into the store at once.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        codec: Codec,
        now: Callable[[], float],
        queues: Collection[str],
        limit: int,
        threads: int,
        listener: Listener,
        on_room: Callable[[bool], None],
    ) -> None:
        self._activities = registry.activities
        self._codec = codec
        self._now = now
        self._queues = frozenset(queues)
        self._limit = limit
        self._lane, self._thread_lane = Lane(limit), ThreadLane(threads)
        self._no_limit = anyio.CapacityLimiter(math.inf)  # the lane has one
        self._listener = listener
        self._on_room = on_room
        self._runs: dict[Key, Run] = {}
        self._window = Window(limit)
        self._of_instance: dict[str, int] = {}
        self._idle = anyio.Event()
        self._group: TaskGroup | None = None
        self.closed = False
        self._refusing = False

    def attach(self, group: TaskGroup) -> None:
        """Say where to start tasks."""
        self._group = group

    # --- capacity -----------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many more could be taken."""
        return 0 if self.closed or not self._queues else self._window.room

    def ran_short(self, short: bool) -> None:  # noqa: FBT001 - what it is, in one word
        """Say whether the store may have more than there was room for."""
        self._window.short = short

    def reserve(self, instance: str, name: str, queue: str) -> bool:
        """Make room for an activity that is about to be stored; False if it is for others."""
        if self.closed or not self._window.admits:
            return False
        if queue not in self._queues or name not in self._activities:
            return False
        self._count(instance)
        return True

    def unreserve(self, instance: str) -> None:
        """Give back the room of an activity that does not come, or has ended."""
        self._window.held -= 1
        self._look_for_room()
        left = self._of_instance[instance] - 1
        if left:
            self._of_instance[instance] = left
        else:
            del self._of_instance[instance]
        if self.closed:
            self._idle.set()

    def _look_for_room(self) -> None:
        if self._window.short and self.room:
            self._on_room(self._window.is_worth_asking)

    def busy_with(self, instance: str) -> bool:
        """Whether an activity of that instance is in hand, or about to be."""
        return instance in self._of_instance

    def _count(self, instance: str) -> None:
        self._window.held += 1
        self._of_instance[instance] = self._of_instance.get(instance, 0) + 1

    def knows(self, name: str) -> bool:
        """Whether there is a function of that name."""
        return name in self._activities

    # --- running ------------------------------------------------------------------------

    def start(self, task: ActivityTask) -> None:
        """Run an activity for which room was reserved."""
        if self._refusing:  # signing off gives it back with all that this worker holds
            self.unreserve(task.key.instance)
            return
        run = Run(task, self._window.total)
        self._runs[key_of(task)] = run
        self._lane_of(task).add(run)
        self._fill()

    def accept(self, task: ActivityTask) -> None:
        """Run an activity that was taken from the store."""
        self._count(task.key.instance)
        self.start(task)

    def in_hand(self) -> list[ActivityKey]:
        """The keys of all activities that run here or wait for it."""
        return [run.task.key for run in self._runs.values()]

    def runs(self, key: Key) -> bool:
        """Whether that activity is in hand."""
        return key in self._runs

    def cancel(self, key: Key) -> bool:
        """Cancel an activity as its workflow asked; False if it is not in hand."""
        return self._stop(key, "cancelled")

    def drop(self, key: Key) -> None:
        """Stop an activity whose result nobody may have any more."""
        self._stop(key, "dropped")

    def drop_all(self) -> None:
        """Stop everything without telling anyone: it belongs to others."""
        for key in list(self._runs):
            self._stop(key, "dropped")

    def stop_of(self, instance: str, how: Literal["cancelled", "dropped"]) -> None:
        """Stop the activities of one instance: cancel them, or drop them without telling anyone."""
        for key in [key for key in self._runs if key[0] == instance]:
            self._stop(key, how)

    async def drain(self, grace: float) -> None:
        """Take no more; after ``grace`` seconds stop what still runs and give it back."""
        self.closed = True
        with anyio.move_on_after(grace):
            while self._window.held:
                await self._next_end()
        # What is reserved and does not run waits for a commit, which may never come.
        self._refusing = True
        for key in list(self._runs):
            self._stop(key, "given back")
        while self._running:
            await self._next_end()

    # --- inside -------------------------------------------------------------------------

    async def _next_end(self) -> None:
        self._idle = anyio.Event()
        await self._idle.wait()

    def _stop(self, key: Key, how: Literal["cancelled", "given back", "dropped"]) -> bool:
        run = self._runs.get(key)
        if run is None:
            return False
        if not run.stop or how == "dropped":
            run.stop = how
        if run.scope is not None:
            run.scope.cancel()
        elif self._lane_of(run.task).remove(run):
            self._ended(run, None)
        return True

    async def _run(self, run: Run, lane: Lane) -> None:
        event: Event | None = None
        try:
            lane.fresh -= 1
            with cancel_scope() as run.scope:
                if not run.stop:
                    event = await self._begin(run, lane)
        except BaseException:
            # The worker itself is being torn down: nobody is told, and the row stays as it is.
            run.stop = "dropped"
            raise
        finally:
            lane.running -= 1
            self._fill()
            self._ended(run, event)

    async def _begin(self, run: Run, lane: Lane) -> Event | None:
        began_at = time.perf_counter()
        if self._window.begin(run.came_at, run.came_after, began_at):
            for other in lane.surplus(self._window.held - self._window.size):
                other.stop = other.stop or "given back"
                self._ended(other, None)
        else:
            self._look_for_room()
        self._fill()
        try:
            return await self._attempt(run)
        finally:
            self._window.end(time.perf_counter() - began_at)

    def _fill(self) -> None:
        """Give tasks to those whose turn it is."""
        assert self._group is not None, "attach() comes first"
        while self._running < self._limit:
            lane = self._next_lane()
            run = lane.next()
            if run is None:
                return
            self._group.start_soon(self._run, run, lane, name=run.task.activity)

    def _next_lane(self) -> Lane:
        """Return the lane whose turn it is: neither may keep the other out of a full worker."""
        one, other = self._lane.head, self._thread_lane.head
        return self._thread_lane if other and (one is None or other < one) else self._lane

    @property
    def _running(self) -> int:
        return self._lane.running + self._thread_lane.running

    def _lane_of(self, task: ActivityTask) -> Lane:
        plain = self._activities[task.activity].runtime == "thread"
        return self._thread_lane if plain else self._lane

    def _ended(self, run: Run, event: Event | None) -> None:
        key = key_of(run.task)
        if self._runs.get(key) is run:  # otherwise it was lost, and taken again meanwhile
            del self._runs[key]
        self.unreserve(run.task.key.instance)
        if run.stop != "dropped":
            self._report(run, event)

    def _report(self, run: Run, event: Event | None) -> None:
        task = run.task
        if event is not None:
            self._listener.activity_ended(task, event)
        elif run.stop == "cancelled":
            self._listener.activity_ended(task, ev.ActivityCancelled(task.key.command))
        elif run.stop == "given back":
            self._listener.activity_given_back(task, task.attempt, 0.0, None)

    async def _attempt(self, run: Run) -> Event | None:
        """Return how it ended; ``None`` if it was given back for another attempt."""
        task = run.task
        definition = self._activities[task.activity]
        options = decode_options(task.options)
        current_activity.set(
            ActivityInfo(
                activity=task.activity,
                instance=task.key.instance,
                execution=task.key.execution,
                command=task.key.command,
                attempt=task.attempt,
                scheduled_at=task.scheduled_at,
                queue=task.queue,
            )
        )
        try:
            result = await self._call(definition, options, task)
            data = self._encode(definition, result)
        except Exception as exc:  # noqa: BLE001  # whatever the function raises is its failure
            return self._failed(definition, options, run, exc)
        return ev.ActivityCompleted(task.key.command, msgspec.Raw(data))

    def _encode(self, definition: Activity[..., Any], result: object) -> bytes:
        return encode_checked(
            self._codec, result, definition.signature.result_type, f"{definition.name}() result"
        )

    async def _call(
        self, definition: Activity[..., Any], options: ActivityOptions | None, task: ActivityTask
    ) -> object:
        args, kwargs = definition.signature.decode(self._codec, task.input, definition.name)
        timeout, what = self._time_left(definition, options, task)
        if timeout is None:
            return await self._invoke(definition, args, kwargs)
        with anyio.move_on_after(timeout):
            return await self._invoke(definition, args, kwargs)
        raise ActivityTimeout(
            f"activity {task.activity!r} took longer than {what} (attempt {task.attempt})"
        )

    async def _invoke(
        self, definition: Activity[..., Any], args: list[Any], kwargs: dict[str, Any]
    ) -> object:
        if definition.runtime == "async":
            return await definition.fn(*args, **kwargs)
        if definition.runtime == "asyncio":
            return await in_asyncio(definition.fn, args, kwargs)
        return await self._in_thread(lambda: definition.call_plain(args, kwargs))

    async def _in_thread(self, call: Callable[[], object]) -> object:
        processor = began_at = ended_at = 0.0

        def timed() -> object:
            nonlocal processor, began_at, ended_at
            began_at, processor = time.perf_counter(), time.thread_time()
            try:
                return call()
            finally:
                processor, ended_at = time.thread_time() - processor, time.perf_counter()

        try:
            return await anyio.to_thread.run_sync(timed, limiter=self._no_limit)
        finally:
            late = time.perf_counter() - ended_at
            self._thread_lane.ran(processor, ended_at - began_at, late)

    def _time_left(
        self, definition: Activity[..., Any], options: ActivityOptions | None, task: ActivityTask
    ) -> tuple[float | None, str]:
        timeout = options.timeout if options and options.timeout is not None else definition.timeout
        total = definition.schedule_timeout
        if options and options.schedule_timeout is not None:
            total = options.schedule_timeout
        what = f"its timeout of {timeout} s"
        if total is not None:
            left = max(0.0, task.scheduled_at + total - self._now())
            if timeout is None or left < timeout:
                return left, f"its schedule_timeout of {total} s"
        return timeout, what

    def _failed(
        self,
        definition: Activity[..., Any],
        options: ActivityOptions | None,
        run: Run,
        exc: Exception,
    ) -> Event | None:
        task = run.task
        failure = Failure.of(exc, self._codec)
        policy = options.retry if options and options.retry is not None else definition.retry
        if policy is None:
            policy = DEFAULT_ACTIVITY_RETRY
        elapsed = self._now() - task.scheduled_at
        info = current_activity.get()
        assert info is not None
        delay = policy.next_delay(task.attempt, failure, elapsed, info.idempotency_key)
        if delay is not None:
            total = definition.schedule_timeout
            if options and options.schedule_timeout is not None:
                total = options.schedule_timeout
            if total is not None and elapsed + delay >= total:
                delay = None
        if run.stop == "given back":
            return None
        if delay is None or run.stop == "cancelled":
            return ev.ActivityFailed(task.key.command, failure)
        logger.info(
            "activity %r of instance %r failed on attempt %d (%s: %s); next attempt in %.3g s",
            task.activity,
            task.key.instance,
            task.attempt,
            failure.type,
            failure.message,
            delay,
        )
        self._listener.activity_given_back(task, task.attempt + 1, delay, failure)
        return None
