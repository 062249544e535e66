"""Retries of a block of workflow code: ``async for attempt in retrying(): with attempt: …``."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TYPE_CHECKING, Self

import trio

from trioflow._codec.failures.failures import Failure
from trioflow._engine import guard
from trioflow._model.retry import RetryPolicy

if TYPE_CHECKING:
    from trioflow._engine.calls import Caller

__all__ = ["Attempt", "Retrying"]

logger = logging.getLogger("trioflow.workflow")


class Attempt:
    """One attempt at a block: ``with attempt:`` around it.

    If the block raises, and the policy says that there is another attempt, the exception is
    swallowed and the loop goes on after the delay. Otherwise it is raised as it is.

    Attributes:
        number: Counts from 1.
    """

    __slots__ = ("_entered", "_retrying", "number")

    def __init__(self, retrying: Retrying, number: int) -> None:
        self.number = number
        self._retrying = retrying
        self._entered = False

    def __enter__(self) -> Self:
        if self._entered:
            raise RuntimeError("'with attempt:' is used once in each pass of the loop")
        self._entered = True
        return self

    def __exit__(
        self,
        type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return self._retrying.settle(self, error)

    @property
    def entered(self) -> bool:
        """Whether its ``with`` block has begun."""
        return self._entered

    def __repr__(self) -> str:
        return f"<attempt {self.number}>"


class Retrying:
    """Gives one `Attempt` after the other until one succeeds, or the policy gives up."""

    def __init__(self, caller: Caller, policy: RetryPolicy) -> None:
        self._caller = caller
        self._policy = policy
        self._began_at = caller.now
        self._attempt: Attempt | None = None
        self._delay: float | None = 0.0  # before the next attempt; None if there is none

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Attempt:
        last = self._attempt
        if last is not None and not last.entered:
            raise RuntimeError(
                "retrying() has to know how the block ended: put what may be tried again into "
                "'with attempt:' within 'async for attempt in retrying(...):'"
            )
        if self._delay is None:
            raise StopAsyncIteration
        if last is not None:
            await trio.sleep(self._delay)
        number = 1 if last is None else last.number + 1
        self._attempt = Attempt(self, number)
        self._delay = None
        return self._attempt

    def settle(self, attempt: Attempt, error: BaseException | None) -> bool:
        """Note how an attempt has ended; return whether its error is swallowed."""
        self._delay = None
        # Not a cancel, nor what else is no Exception: that is not the block's failure.
        if not isinstance(error, Exception) or attempt is not self._attempt:
            return False
        caller = self._caller
        state = caller.task_state("retrying()")
        # What differs between blocks, and between passes of one, for the jitter.
        key = f"{caller.execution.begun.seed}/{state.path}:{state.commands}"
        elapsed = caller.now - self._began_at
        failure = Failure.of(error, caller.execution.codec)
        self._delay = self._policy.next_delay(attempt.number, failure, elapsed, key)
        if self._delay is None:
            return False
        if not caller.replaying:
            with guard.permitted():  # handlers write
                logger.info(
                    "instance %r: a block failed on attempt %d (%s: %s); next attempt in %.3g s",
                    caller.identity.id,
                    attempt.number,
                    failure.type,
                    failure.legible(caller.execution.codec).message,
                    self._delay,
                )
        return True
