"""An activity of a simulation: called as a worker would call it, in no time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._codec.values import Codec, encode_checked, encode_plain
from trioflow._model import events as ev
from trioflow._model.activities import Activity
from trioflow._model.commands import ActivityOptions, RunActivity, StartChild
from trioflow._model.info import ActivityInfo, current_activity, current_heartbeat
from trioflow._model.interceptors import Call, Interceptor, around
from trioflow._model.propagation import Propagator
from trioflow._model.retry import DEFAULT_ACTIVITY_RETRY
from trioflow._model.workflows import Workflow
from trioflow.errors import NonRetryable, TrioflowError
from trioflow.testing.fakes import FakeCall
from trioflow.testing.simulation.instances import SimulatedInstance

__all__ = ["SimulatedCall", "SimulatedFailure", "SimulatedFinalFailure"]


class SimulatedFailure(Exception):
    """What an activity's attempt raises where the schedule has it fail; it is tried again."""


class SimulatedFinalFailure(NonRetryable):
    """What an activity raises where the schedule has it fail for good."""


class SimulatedCall:
    """An activity, or a faked sub-workflow, that was asked for and has not ended.

    Args:
        instance: Whose turn asked for it.
        command: What was asked for.
        definition: The activity or the workflow, for the types; ``None`` if it is not known.
        fn: What stands for it.
        codec: For its arguments and results.
        now: The time.
        propagators: What takes its metadata over.
        interceptors: What is around its function.

    Attributes:
        execution: The execution of the instance that waits for it.
        called_in: The one that has called it, if that has taken it over by a reset.
        attempt: Which attempt is next, from 1.
        visible_at: When that begins at the earliest.
        cancelled: Whether its cancel was asked for.
        reason: Why, as it is stored.
    """

    def __init__(  # noqa: PLR0917  # what a call is
        self,
        instance: SimulatedInstance,
        command: RunActivity | StartChild,
        definition: Activity[..., Any] | Workflow[..., Any] | None,
        fn: Callable[..., Any],
        codec: Codec,
        now: float,
        *,
        propagators: Sequence[Propagator] = (),
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        self.instance = instance
        self.execution = self.called_in = instance.number
        self.command = command
        self.attempt = 1
        self.visible_at = now
        self.cancelled = False
        self.reason: str | None = None
        self._definition = definition
        self._fn = fn
        self._codec = codec
        self._propagators = propagators
        self._interceptors = interceptors
        self._scheduled_at = now
        self._heartbeat: Any = None

    @property
    def name(self) -> str:
        """The name of the activity, or of the sub-workflow."""
        command = self.command
        return command.activity if isinstance(command, RunActivity) else command.workflow

    @property
    def limits(self) -> dict[str, float]:
        """What times an attempt out, in words, and after how many seconds."""
        if not isinstance(self._definition, Activity) or not isinstance(self.command, RunActivity):
            return {}
        options = self.command.options or ActivityOptions()
        found: dict[str, float] = {}
        for what, own, default in (
            ("takes too long", options.timeout, self._definition.timeout),
            (
                "is silent for too long",
                options.heartbeat_timeout,
                self._definition.heartbeat_timeout,
            ),
        ):
            seconds = default if own is None else own
            if seconds is not None:
                found[what] = seconds
        return found

    @property
    def metadata(self) -> dict[str, str]:
        """What came with the call."""
        command = self.command
        if isinstance(command, RunActivity):
            own = None if command.options is None else command.options.metadata
        else:
            own = command.metadata
        return self.instance.metadata if own is None else own

    def __str__(self) -> str:
        attempt = "" if self.attempt == 1 else f", attempt {self.attempt},"
        return f"{self.name!r} ({self.command.id} of {self.instance.id}){attempt}"

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments, decoded."""
        data = bytes(self.command.input)
        if self._definition is None:
            return (), msgspec.json.decode(data)
        args, kwargs = self._definition.signature.decode(self._codec, data, self.name)
        return tuple(args), dict(kwargs)

    def note(self, elapsed: float) -> FakeCall:
        """Return what is noted of the next attempt, which begins after so many seconds."""
        args, kwargs = self.arguments()
        return FakeCall(
            args,
            kwargs,
            at=elapsed,
            attempt=self.attempt,
            instance=self.instance.id,
            command=f"{self.instance.id}/{self.called_in}/{self.command.id}",
        )

    def run(self) -> ev.Event:
        """Make an attempt; return the event of its success. Raises what the function raises."""
        # As in production, no attempt sees what another one has put into its context.
        return copy_context().run(self._run)

    def _run(self) -> ev.Event:
        args, kwargs = self.arguments()
        metadata = self.metadata
        current_activity.set(
            ActivityInfo(
                activity=self.name,
                instance=self.instance.id,
                execution=self.called_in,
                command=self.command.id,
                attempt=self.attempt,
                scheduled_at=self._scheduled_at,
                queue=self.command.queue,
                life=self.instance.life,
                heartbeat=self._heartbeat,
                metadata=metadata,
            )
        )
        current_heartbeat.set(self._beat)
        for propagator in self._propagators:
            propagator.extract(metadata)
        result = self._called(args, kwargs)
        type_ = Any if self._definition is None else self._definition.signature.result_type
        what = f"{self.name}() result"
        data = msgspec.Raw(encode_checked(self._codec, result, type_, what))
        if isinstance(self.command, StartChild):
            return ev.ChildCompleted(self.command.id, data)
        return ev.ActivityCompleted(self.command.id, data)

    def _called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what the function returns, and the interceptors make of it."""
        if not self._interceptors:
            result = self._fn(*args, **kwargs)
            return _finish(result, self.name) if inspect.iscoroutine(result) else result

        stopped: list[StopIteration] = []  # what no coroutine can raise

        async def proceed() -> Any:
            try:
                result = self._fn(*args, **kwargs)
            except StopIteration as exc:
                stopped.append(exc)
                raise
            return await result if inspect.iscoroutine(result) else result

        made = Call(self.name, self.instance.id, args, kwargs)
        try:
            return _finish(around(self._interceptors, "activity", made, proceed), self.name)
        except RuntimeError as exc:
            if stopped and exc.__cause__ is stopped[0]:
                raise stopped[0] from None
            raise

    def _beat(self, details: object) -> None:
        data = encode_plain(self._codec, details, f"{self.name}() heartbeat")
        self._heartbeat = self._codec.decode(data, Any)

    def fail(self, error: Exception, now: float) -> ev.Event | None:
        """Note that an attempt has failed; return the event if it was the last one."""
        failure = Failure.of(error, self._codec)
        if isinstance(self.command, StartChild):
            return ev.ChildFailed(self.command.id, failure)
        options = self.command.options
        policy = None if options is None else options.retry
        if policy is None and isinstance(self._definition, Activity):
            policy = self._definition.retry
        policy = policy or DEFAULT_ACTIVITY_RETRY
        elapsed = now - self._scheduled_at
        delay = policy.next_delay(self.attempt, failure, elapsed, self.command.id)
        if delay is None or self.cancelled:
            return ev.ActivityFailed(self.command.id, failure)
        self.attempt += 1
        self.visible_at = now + delay
        return None

    def cancel(self) -> ev.Event:
        """Return the event of its cancellation."""
        if isinstance(self.command, StartChild):
            return ev.ChildCancelled(self.command.id, self.reason)
        return ev.ActivityCancelled(self.command.id, self.reason)


def _finish(coroutine: Any, name: str) -> Any:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise TrioflowError(
        f"the function for {name!r} waits; in a simulation it returns at once, and the schedule "
        "says when its activity ends"
    )
