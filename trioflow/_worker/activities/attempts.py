"""Make one attempt of an activity, and decide what follows from how it ended."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._codec.failures.groups import first_interrupt, is_cancel
from trioflow._codec.foreign import said
from trioflow._codec.values import Codec, encode_checked, encode_plain, is_plain
from trioflow._model import events as ev
from trioflow._model.activities import Activity
from trioflow._model.commands import ActivityOptions, decode_options
from trioflow._model.events import Event
from trioflow._model.info import current_activity, current_heartbeat
from trioflow._model.interceptors import Interceptor
from trioflow._model.progress import decode_progress
from trioflow._model.propagation import Propagator
from trioflow._model.retry import DEFAULT_ACTIVITY_RETRY, RetryPolicy
from trioflow._worker.activities.intercepting import intercepting
from trioflow._worker.activities.lanes import Run
from trioflow._worker.activities.processes import frames
from trioflow._worker.activities.pulse import Pulse
from trioflow._worker.activities.runtimes import RUNTIMES, Call, Resources, info_of, silence_of
from trioflow._worker.activities.transactions import Kept
from trioflow._worker.failures import describe, full_traceback
from trioflow._worker.host import Scope
from trioflow._worker.log_fields import of_activity
from trioflow.backends.records import ActivityTask
from trioflow.errors import ActivityTimeout, UndecodableValue, WorkerLost

__all__ = ["Again", "Attempts", "policy_of"]

logger = logging.getLogger("trioflow.worker")

_LONGEST_WAIT = 60.0  # seconds between two looks whether stored arguments fit the code by now

_decode_failure = msgspec.json.Decoder(Failure).decode


class Again(NamedTuple):
    """The verdict that any worker may attempt it as ``attempt``, ``delay`` seconds from now."""

    attempt: int
    delay: float
    failure: Failure | None


class Attempts:
    """Calls activities, with their time limits, and applies their retry policies.

    Args:
        resources: What they are made with.
        activities: The functions by name.
        codec: For arguments and results.
        now: The store's clock.
        on_limit: Called with each attempt that begins with a time limit, or must not be silent, and
            its deadline by the loop's clock.
        on_heartbeat: Called in the loop when an attempt says something after a silence.

    Attributes:
        leaving: Whether the worker drains. A cancel of whatever origin is then no failure.
    """

    def __init__(
        self,
        *,
        resources: Resources,
        activities: Mapping[str, Activity[..., Any]],
        codec: Codec,
        now: Callable[[], float],
        on_limit: Callable[[Run, float], None],
        on_heartbeat: Callable[[Run], None],
        propagators: Sequence[Propagator],
        interceptors: Sequence[Interceptor],
    ) -> None:
        self._resources = resources
        self._host = host = resources.host
        # A simulation calls in its one process what would be in others.
        self._runtimes = dict(RUNTIMES)
        if not host.has_processes:
            self._runtimes["process"] = RUNTIMES["thread"]
        if interceptors:
            self._runtimes = intercepting(self._runtimes, interceptors, codec)
        self._activities = activities
        self._codec = codec
        self._now = now
        self._on_limit = on_limit
        self._propagators = propagators
        self._on_heartbeat = on_heartbeat
        self._call_soon = host.call_soon()
        self._unreadable: set[str] = set()
        self.leaving = False

    async def make(self, run: Run) -> Event | Again | Kept | None:
        """Make one attempt.

        Returns:
            How the activity ended, or when it is to be attempted again; ``None`` if it stopped
            because `Run.stop` says so; `Kept` if its own transaction has settled that.

        Raises:
            KeyboardInterrupt: The function raised it, or was interrupted. Nothing else, of whatever
                class, leaves an attempt: it is that attempt's failure.
        """
        task = run.task
        definition = self._activities[task.activity]
        said_before = _last_details(task, self._codec) if task.progress else None
        current_activity.set(info_of(task, said_before))
        beat = partial(self._beat, run)
        current_heartbeat.set(beat)
        began = self._ready(definition, run, beat)
        if not isinstance(began, Call):
            return began
        runtime = self._runtimes[definition.runtime]
        returned = False
        result: Any = None
        # For the type checkers its __exit__ may swallow exceptions.
        scope: Any = began.scope
        run.scope = scope
        try:
            with scope:
                result = await runtime.invoke(self._resources, began, run)
                if runtime.boxed:
                    result = result.unwrap()  # here, where no StopIteration is changed
                returned = True
        except BaseException as exc:  # whatever the function raises is its failure
            if first_interrupt(exc) is not None:
                raise
            if not run.stop and is_cancel(exc) and (self.leaving or run.interrupted):
                # It is perhaps the loop that ends, or another attempt that broke the group.
                run.stop = "given back"
            if not (run.detached or (is_cancel(exc) and (run.stop or scope.cancel_called))):
                return self.failed(run, exc)
        if run.detached:
            return None
        if not returned:
            return None if run.stop else self.failed(run, self.timeout(run))
        if runtime.coded:
            return self._answered(run, result)
        return self._returned(definition, run, result)

    def _answered(self, run: Run, answer: frames.Answer) -> Event | Again | None:
        """Take the answer of another process."""
        match answer:
            case frames.Returned(result):
                return ev.ActivityCompleted(run.task.key.command, msgspec.Raw(result))
            case frames.Failed(failure):
                return self._after_failure(run, _decode_failure(failure))
            case frames.Unreadable(failure):
                error = _decode_failure(failure).rebuild(self._codec)
                return self._wait_for_code(run.task, error)

    def _returned(
        self, definition: Activity[..., Any], run: Run, result: Any
    ) -> Event | Again | Kept | None:
        if definition.transactional:  # it is encoded, and stored
            return result  # type: ignore[no-any-return]
        try:
            data = self._encode(definition, result)
            return ev.ActivityCompleted(run.task.key.command, msgspec.Raw(data))
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # noqa: BLE001  # so is a result that cannot be stored
            return self.failed(run, exc)

    def _encode(self, definition: Activity[..., Any], result: Any) -> bytes:
        type_ = definition.signature.result_type
        return encode_checked(self._codec, result, type_, f"{definition.name}() result")

    # --- before -------------------------------------------------------------------------

    def _over_already(
        self, definition: Activity[..., Any], run: Run, options: ActivityOptions | None
    ) -> Event | Again | None:
        """Take the metadata over; return what follows if that fails, or no attempt is left."""
        if options is not None and options.metadata is not None:
            failed = self._take_over(run, options.metadata)
            if failed is not None:
                return failed
        return self._used_up(run.task, definition, options) if run.task.attempt > 1 else None

    def _take_over(self, run: Run, metadata: dict[str, str]) -> Event | Again | None:
        """Give the attempt the metadata of its call; return what follows if that fails."""
        info = current_activity.get()
        assert info is not None
        current_activity.set(msgspec.structs.replace(info, metadata=metadata))
        try:
            for propagator in self._propagators:
                propagator.extract(metadata)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # noqa: BLE001  # whatever a propagator raises fails the attempt
            return self.failed(run, exc)
        return None

    def _ready(
        self, definition: Activity[..., Any], run: Run, beat: Callable[[object], None]
    ) -> Call | Event | Again | None:
        """Decide whether it may begin, and with what."""
        task = run.task
        try:
            options = run.options = decode_options(task.options)
        except msgspec.MsgspecError as exc:
            return self._wait_for_code(task, exc)
        if options is not None or task.attempt > 1:
            over = self._over_already(definition, run, options)
            if over is not None:
                return over
        timeout: float | None = None
        if options or definition.timeout is not None or definition.schedule_timeout is not None:
            timeout, run.limit = self._time_left(definition, options, task)
            if timeout is not None and timeout <= 0:
                return self.failed(run, self.timeout(run))
        scope = self._host.cancel_scope()
        if self._runtimes[definition.runtime].coded:
            return Call(definition, (), {}, scope, beat, partial(self._limit, run, scope))
        try:
            args, kwargs = definition.signature.decode(self._codec, task.input, definition.name)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # noqa: BLE001  # of the codec and of any class's validation
            return self._wait_for_code(task, exc)
        beats = options is not None and options.heartbeat_timeout is not None
        if timeout is not None or beats or definition.heartbeat_timeout is not None:
            self._limit(run, scope)
        encode = partial(self._encode, definition) if definition.transactional else None
        return Call(definition, args, kwargs, scope, beat, encode=encode)

    def _limit(self, run: Run, scope: Scope) -> None:
        """Have the limits of an attempt watched, since it begins."""
        definition = self._activities[run.task.activity]
        timeout, run.limit = self._time_left(definition, run.options, run.task)
        silence = silence_of(definition, run.options)
        if silence is not None:
            self._give_pulse(run).silence = silence
        deadline = math.inf
        if timeout is not None:
            deadline = scope.deadline = self._host.current_time() + timeout
        if silence is not None or timeout is not None:
            self._on_limit(run, deadline)

    def _beat(self, run: Run, details: object) -> None:
        """Take what the function gives to ``heartbeat()``; called in whatever thread."""
        pulse = run.pulse
        if pulse is None:
            pulse = self._give_pulse(run)
        pulse.beat(details)

    def _give_pulse(self, run: Run) -> Pulse:
        what = f"{run.task.activity}() heartbeat"
        coded = self._runtimes[self._activities[run.task.activity].runtime].coded
        run.pulse = Pulse(
            self._host.current_time,
            _as_it_is if coded else lambda details: encode_plain(self._codec, details, what),
            self._call_soon,
            partial(self._on_heartbeat, run),
        )
        return run.pulse

    def _time_left(
        self, definition: Activity[..., Any], options: ActivityOptions | None, task: ActivityTask
    ) -> tuple[float | None, str]:
        timeout = options.timeout if options and options.timeout is not None else definition.timeout
        total = _schedule_timeout(definition, options)
        if total is not None:
            left = task.scheduled_at + total - self._now()
            if timeout is None or left < timeout:
                return left, f"its schedule_timeout of {total} s"
        return timeout, "" if timeout is None else f"its timeout of {timeout} s"

    def _used_up(
        self, task: ActivityTask, definition: Activity[..., Any], options: ActivityOptions | None
    ) -> Event | None:
        """Fail what has no attempt left, since workers died in attempts of it."""
        policy = policy_of(definition, options)
        limit = ""
        if policy.max_attempts is not None and task.attempt > policy.max_attempts:
            limit = f"its policy allows {policy.max_attempts} attempts"
        elif policy.timeout is not None and self._now() - task.scheduled_at > policy.timeout:
            limit = f"its policy begins none later than {policy.timeout} s after the first"
        if not limit:
            return None
        last = _last_failure(task, self._codec)
        died = f"{task.attempt - 1} workers" if task.attempt > 2 else "a worker"  # noqa: PLR2004
        if last is not None:
            died = "the last worker that had it, or more of them,"
        error = WorkerLost(
            f"activity {task.activity!r}: {died} died while running it; {limit}, so attempt "
            f"{task.attempt - 1} was the last one. See whether the function ends or blocks its "
            "process, or needs more memory than there is"
        )
        error.__cause__ = last
        failure = Failure.of(error, self._codec)
        _log_failed(task, failure, self._codec, task.attempt - 1)
        return ev.ActivityFailed(task.key.command, failure)

    def _wait_for_code(self, task: ActivityTask, exc: BaseException) -> Again:
        """Leave in the store what the present code cannot read: other code may."""
        if task.activity not in self._unreadable:
            self._unreadable.add(task.activity)
            logger.warning(
                "activity %r of instance %r (%s): what is stored of its call does not fit the "
                "present code (%s: %s). It waits in the store, and so does every other such call, "
                "until a worker's code or codec can read it",
                task.activity,
                task.key.instance,
                task.key.command,
                type(exc).__name__,
                said(exc),
                extra=of_activity(task),
            )
        # As long again as it has waited: no count of such looks is stored.
        delay = min(max(self._now() - task.scheduled_at, 1.0), _LONGEST_WAIT)
        return Again(task.attempt, delay, Failure.of(exc, self._codec))

    # --- after --------------------------------------------------------------------------

    def timeout(self, run: Run) -> ActivityTimeout:
        """Return the error of an attempt whose time is over."""
        task = run.task
        silent = run.pulse is not None and run.pulse.overdue
        did = "did not call heartbeat() for longer than" if silent else "took longer than"
        return ActivityTimeout(
            f"activity {task.activity!r} {did} {run.limit} (attempt {task.attempt})"
        )

    def failed(self, run: Run, exc: BaseException) -> Event | Again | None:
        """Decide what follows a failed attempt; ``None`` if its worker is leaving."""
        if run.stop == "given back":
            return None
        explain = self._runtimes[self._activities[run.task.activity].runtime].explain
        if explain is not None:
            exc = explain(exc, run.task.activity)
        return self._after_failure(run, Failure.of(exc, self._codec))

    def _after_failure(self, run: Run, failure: Failure) -> Event | Again | None:
        if run.stop == "given back":
            return None
        task = run.task
        definition = self._activities[task.activity]
        delay = self._next_delay(task, failure, definition, run.options)
        heard = "" if run.pulse is None else run.pulse.heard()
        if delay is None or run.stop == "cancelled":
            if not run.stop:
                _log_failed(task, failure, self._codec, task.attempt, heard)
            return ev.ActivityFailed(task.key.command, failure)
        if not run.stop:
            logger.info(
                "activity %r of instance %r failed on attempt %d: %s; next attempt in %.3g s%s",
                task.activity,
                task.key.instance,
                task.attempt,
                describe(failure.legible(self._codec)),
                delay,
                heard,
                extra={**of_activity(task), "failure": failure.type, "delay": delay},
            )
        return Again(task.attempt + 1, delay, failure)

    def _next_delay(
        self,
        task: ActivityTask,
        failure: Failure,
        definition: Activity[..., Any],
        options: ActivityOptions | None,
    ) -> float | None:
        elapsed = self._now() - task.scheduled_at
        key = info_of(task).idempotency_key
        delay = policy_of(definition, options).next_delay(task.attempt, failure, elapsed, key)
        total = _schedule_timeout(definition, options)
        if delay is not None and total is not None and elapsed + delay >= total:
            return None
        return delay


def _as_it_is(details: Any) -> bytes:
    return details  # type: ignore[no-any-return]  # it is encoded


def policy_of(definition: Activity[..., Any], options: ActivityOptions | None) -> RetryPolicy:
    """Return how often a call is attempted."""
    policy = options.retry if options and options.retry is not None else definition.retry
    return DEFAULT_ACTIVITY_RETRY if policy is None else policy


def _schedule_timeout(
    definition: Activity[..., Any], options: ActivityOptions | None
) -> float | None:
    if options and options.schedule_timeout is not None:
        return options.schedule_timeout
    return definition.schedule_timeout


def _last_failure(task: ActivityTask, codec: Codec) -> BaseException | None:
    if not task.failure:
        return None
    try:
        return _decode_failure(task.failure).rebuild(codec)
    except (msgspec.MsgspecError, UndecodableValue):  # an older form, or another codec's
        return None


def _last_details(task: ActivityTask, codec: Codec) -> Any:
    try:
        return codec.decode(bytes(decode_progress(task.progress).details), Any)
    except Exception as exc:  # noqa: BLE001  # of the codec; the attempt can do without
        logger.warning(
            "activity %r of instance %r (%s): what the last attempt gave to heartbeat() cannot be "
            "read: %s",
            task.activity,
            task.key.instance,
            task.key.command,
            said(exc),
            extra=of_activity(task),
        )
        return None


def _log_failed(
    task: ActivityTask, failure: Failure, codec: Codec, attempt: int, heard: str = ""
) -> None:
    legible = failure.legible(codec)
    # Source lines, and what causes say, are the user's: a codec may be there to hide them.
    traceback = full_traceback(legible) if is_plain(codec) else ""
    logger.error(
        "activity %r of instance %r (%s) failed for good on attempt %d: %s%s",
        task.activity,
        task.key.instance,
        task.key.command,
        attempt,
        describe(legible),
        heard,
        extra={
            **of_activity(task),
            "attempt": attempt,
            "failure": failure.type,
            "traceback": traceback,
        },
    )
