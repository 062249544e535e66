"""What happens in a worker and a client, told to those who watch: traces, metrics.

An observer is told of facts: of what is stored, once it is stored, and of attempts of activities,
once they have ended. A replay is no such fact of an instance, so nothing is told twice because of
it. Observers are called one after the other in the loop's thread, those of ours keep what they are
told and record it in a thread of their own. One that raises, whatever it is but a
`KeyboardInterrupt`, is named in the log, once, and changes nothing. Where there is none, nobody
builds the facts.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from inspect import iscoroutinefunction
from typing import Literal, Protocol, cast

import anyio
import anyio.to_thread
import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._model.events import ParentRef
from trioflow._model.propagation import Propagator
from trioflow._model.turns import Turn
from trioflow._recording import BackgroundObserver

__all__ = [
    "AttemptEnded",
    "BatchStored",
    "ExecutionEnded",
    "ExecutionReplayed",
    "InstanceCreated",
    "InstanceSuspended",
    "InstanceTaken",
    "LeaseWasLost",
    "Observation",
    "Observer",
    "Observers",
    "TurnStored",
    "check_observers",
    "observers_of",
    "propagators_among",
]

logger = logging.getLogger("trioflow.worker")

# Seconds: an observer begins nothing more after so many, and nobody waits longer for it to end.
_FLUSHING = 5.0
_LONGEST_FLUSH = 8.0


class InstanceCreated(msgspec.Struct, frozen=True, kw_only=True):
    """A client has started an instance.

    Attributes:
        instance: Its id.
        life: What tells it from others that had its id.
        workflow: The workflow's name.
        queue: Where it runs.
        metadata: What travels with it.
        stored_at: When that was, epoch seconds.
    """

    instance: str
    life: str
    workflow: str
    queue: str
    metadata: dict[str, str]
    stored_at: float


class _OfExecution(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of an execution with everything that happens to it.

    Attributes:
        instance: The instance's id.
        life: What tells it from others that had its id.
        execution: The number of the execution, from 1.
        workflow: The workflow's name.
        queue: Where it runs.
        parent: Who called it, if a workflow did.
        metadata: What travels with it.
        started_at: When the execution began, epoch seconds.
    """

    instance: str
    life: str
    execution: int
    workflow: str
    queue: str
    parent: ParentRef | None
    metadata: dict[str, str]
    started_at: float


class TurnStored(_OfExecution, frozen=True, kw_only=True):
    """A turn was stored.

    Attributes:
        number: Its number in the execution, from 0.
        turn: What it consumed and asked for.
    """

    number: int
    turn: Turn


class ExecutionEnded(_OfExecution, frozen=True, kw_only=True):
    """The last turn of an execution was stored; after it comes the next one if it is continued.

    An instance that a client has terminated ends without this.

    Attributes:
        status: How.
        ended_at: The time of the last turn, epoch seconds.
        failure: Why it failed, ``None`` if it did not. It may be sealed by a codec.
    """

    status: Literal["completed", "failed", "cancelled", "continued"]
    ended_at: float
    failure: Failure | None


class InstanceSuspended(msgspec.Struct, frozen=True, kw_only=True):
    """A worker has suspended an instance.

    Attributes:
        instance: Its id.
        life: What tells it from others that had its id.
        execution: The number of its execution.
        workflow: The workflow's name.
        queue: Where it runs.
        message: Why.
    """

    instance: str
    life: str
    execution: int
    workflow: str
    queue: str
    message: str


class InstanceTaken(msgspec.Struct, frozen=True, kw_only=True):
    """A worker has taken an instance that was ready from the store.

    What a client in the worker's process starts needs no taking.

    Attributes:
        instance: Its id.
        workflow: The workflow's name.
        queue: Where it runs.
        waited: For how many seconds it had been ready, by the store's clock.
        cached: Whether its execution was still in memory; ``None`` if it has made no turn yet, or
            was held already.
    """

    instance: str
    workflow: str
    queue: str
    waited: float
    cached: bool | None


class AttemptEnded(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt of an activity has ended. How it ended may not be stored yet.

    Attributes:
        instance: Who called it.
        life: Which life of that id.
        execution: Which execution.
        command: The id of the call.
        activity: The activity's name.
        queue: Where it runs.
        attempt: Counts from 1.
        status: How: ``"retried"`` failed and is tried again, ``"given back"`` was stopped because
            its worker ends, or is dropped because nobody waits for it any more.
        failure: Why it failed, ``None`` if it did not. It may be sealed by a codec.
        metadata: What came with the call.
        scheduled_at: When it was called, epoch seconds.
        began_at: When this attempt began.
        ended_at: When it ended.
    """

    instance: str
    life: str
    execution: int
    command: str
    activity: str
    queue: str
    attempt: int
    status: Literal["completed", "failed", "cancelled", "retried", "given back"]
    failure: Failure | None
    metadata: dict[str, str]
    scheduled_at: float
    began_at: float
    ended_at: float


class BatchStored(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction of a worker was stored.

    Attributes:
        units: How many units it had; each is stored or refused by itself.
        refused: How many of them were refused.
        turns: How many turns were stored.
        seconds: How long the store took.
        worker: The worker's name.
        held: How many instances it holds.
        cached: How many others are in its instance cache.
        evicted: How many the cache had no room for since the last one.
    """

    units: int
    refused: int
    turns: int
    seconds: float
    worker: str = ""
    held: int = 0
    cached: int = 0
    evicted: int = 0


class ExecutionReplayed(msgspec.Struct, frozen=True, kw_only=True):
    """A worker has replayed an execution that was not in its memory.

    Attributes:
        workflow: The workflow's name.
        turns: How many turns it has.
        seconds: How long that took.
    """

    workflow: str
    turns: int
    seconds: float


class LeaseWasLost(msgspec.Struct, frozen=True, kw_only=True):
    """Others took a worker for dead; it has dropped what it held.

    Attributes:
        worker: The id of the row that is gone.
        name: The worker's name.
    """

    worker: str
    name: str


Observation = (
    InstanceCreated
    | TurnStored
    | ExecutionEnded
    | InstanceSuspended
    | InstanceTaken
    | AttemptEnded
    | BatchStored
    | ExecutionReplayed
    | LeaseWasLost
)


class Observer(Protocol):
    """Is told what happens.

    If it has a method ``flush(*, timeout)`` as well, that is called in a thread when the worker or
    the client ends.
    """

    def observe(self, observation: Observation, /) -> None:
        """Take notice of something. It is quick and does no I/O: it runs in the worker's loop."""
        ...


class Observers:
    """Tells those who watch.

    Args:
        observers: Who they are.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers
        # One whose `observe` is its own, in a subclass, is told by that.
        self._recorders: list[BackgroundObserver] = [
            each
            for each in observers
            if isinstance(each, BackgroundObserver)
            and type(each).observe is BackgroundObserver.observe
        ]
        self._others = [each for each in observers if each not in self._recorders]
        self._named: set[int] = set()

    def tell(self, *observations: Observation) -> None:
        """Tell all of them; nothing but a `KeyboardInterrupt` leaves this."""
        BackgroundObserver.keep(self._recorders, observations)
        for number, observer in enumerate(self._others):
            for observation in observations:
                try:
                    observer.observe(observation)
                except KeyboardInterrupt:
                    raise
                except BaseException:  # a library's SystemExit must not end the worker either
                    if number not in self._named:
                        self._named.add(number)
                        logger.exception(
                            "observer %r failed on %s; it is told of what follows, and further "
                            "failures of it are not logged",
                            observer,
                            type(observation).__name__,
                        )

    async def flush(self) -> None:
        """Let those that record later record what they were told; others need nothing.

        That is done in a thread, since it may take a moment, and begins nothing more after some
        seconds. One that does not end is left to itself.
        """
        for observer in self._observers:
            flush = getattr(observer, "flush", None)
            if callable(flush):
                with anyio.CancelScope(shield=True):
                    # A limit of its own: nothing could end the wait for a place among others.
                    wait = partial(self._flush_in_time, observer, flush)
                    try:
                        await anyio.to_thread.run_sync(wait, limiter=anyio.CapacityLimiter(1))
                    except RuntimeError:  # the interpreter ends, or there are too many threads
                        self._flush(observer, flush)

    def _flush_in_time(self, observer: Observer, flush: Callable[..., object]) -> None:
        # In real time, which a test's clock does not have.
        thread = threading.Thread(
            target=self._flush, args=(observer, flush), name="trioflow observer's end", daemon=True
        )
        thread.start()
        thread.join(_LONGEST_FLUSH)
        if thread.is_alive():
            logger.warning(
                "observer %r does not end recording what it was told; it is left to itself",
                observer,
            )

    def _flush(self, observer: Observer, flush: Callable[..., object]) -> None:
        try:
            if flush(timeout=_FLUSHING) is False:
                logger.warning(
                    "observer %r could not record all that it was told in %g seconds",
                    *(observer, _FLUSHING),
                )
        except KeyboardInterrupt:
            raise
        except BaseException:  # as in `tell`
            logger.exception("observer %r failed to record what it was told", observer)


def propagators_among(
    propagators: Sequence[Propagator], observers: Sequence[object]
) -> Sequence[Propagator]:
    """Return the propagators, and those observers that are some, too."""
    both = [each for each in observers if hasattr(each, "inject") and hasattr(each, "extract")]
    return (*propagators, *cast("list[Propagator]", both)) if both else propagators


def check_observers(observers: object) -> None:
    """Check what was given as observers.

    Raises:
        TypeError: It is no sequence, or one of them is no observer.
    """
    if not isinstance(observers, Sequence) or isinstance(observers, str):
        raise TypeError(
            f"observers: a sequence of them is needed, observers=[…] or (), not {observers!r}"
        )
    for one in cast("Sequence[object]", observers):
        observe = getattr(one, "observe", None)
        if isinstance(one, type) or not callable(observe):
            raise TypeError(
                "observers: an object with a method observe(observation) is needed, such as "
                f"trioflow.otel.OpenTelemetry(), not {one!r}"
            )
        if iscoroutinefunction(observe):
            raise TypeError(
                f"observers: observe() of {one!r} is async, and nobody would wait for it; make it "
                "a plain 'def'"
            )


def observers_of(observers: Sequence[Observer]) -> Observers | None:
    """Return who tells them, ``None`` if there are none."""
    return Observers(observers) if observers else None
