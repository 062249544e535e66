"""Retry policies: whether and when a failed attempt is followed by another.

Nothing here reads a clock or draws a random number, so that the same failure at the same attempt
gives the same delay on every machine.
"""

from __future__ import annotations

import builtins
import hashlib
import math
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import msgspec

from trioflow._codec.failures.failures import Failure, matches, type_name
from trioflow._codec.names import canonical
from trioflow._model.options import is_number, seconds_needed

__all__ = ["DEFAULT_ACTIVITY_RETRY", "RetryPolicy"]

if TYPE_CHECKING:
    ExceptionTypes = tuple[type[BaseException] | str, ...]
else:
    # What is stored, and what __post_init__ turns classes into.
    ExceptionTypes = tuple[str, ...]


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often, and after what delays, a failed activity or sub-workflow is tried again.

    The delay before the second attempt is ``initial_interval``; each further one is ``backoff``
    times the one before, up to ``max_interval``. A failure is final, whatever the policy says,
    if it is a :class:`trioflow.NonRetryable`, a misuse that would only repeat itself (arguments
    or a result of the wrong type, a payload over the limit) or an instance that was cancelled or
    terminated; and if it is one of ``non_retryable``. All of these are recognised through
    ``raise … from`` and inside exception groups too. An activity that raises
    :class:`trioflow.Retry` chooses the next delay itself; the limits still hold.

    Attributes:
        max_attempts: How many attempts there are in all, the first included; 1 means no retry,
            ``None`` means no limit.
        initial_interval: Seconds between the first failure and the second attempt.
        backoff: What each further interval is multiplied by, 1 or more.
        max_interval: No interval is longer than this many seconds, jitter aside.
        jitter: By what fraction of itself an interval is made longer or shorter, from 0 to 1, so
            that what failed together is not tried again together. It depends on the attempt and
            its idempotency key alone.
        timeout: No attempt is begun later than this many seconds after the first one was;
            ``None`` means no limit.
        non_retryable: Exception classes that are not tried again, their subclasses included.
            A class from elsewhere is given by its qualified name, ``"shop.errors.CardExpired"``.
            Classes are kept as their names.

    Raises:
        ValueError: One of them makes no sense.
    """

    max_attempts: int | None = 3
    initial_interval: float = 1.0
    backoff: float = 2.0
    max_interval: float = 60.0
    jitter: float = 0.1
    timeout: float | None = None
    non_retryable: ExceptionTypes = ()

    def __post_init__(self) -> None:
        """Refuse what makes no sense; store classes as names."""
        if self.max_attempts is not None and (
            self.max_attempts.__class__ is not int or self.max_attempts < 1
        ):
            raise ValueError(
                f"max_attempts={self.max_attempts!r}: it counts all attempts, so it is 1 or more; "
                "1 means no retry, None means no limit"
            )
        _check_number("initial_interval", self.initial_interval, 0.0)
        _check_number("backoff", self.backoff, 1.0)
        _check_number("max_interval", self.max_interval, 0.0)
        _check_number("jitter", self.jitter, 0.0)
        if self.timeout is not None:
            _check_number("timeout", self.timeout, 0.0)
        if self.jitter > 1:
            raise ValueError(f"jitter={self.jitter!r}: it is a fraction, from 0 to 1")
        if self.max_interval < self.initial_interval:
            raise ValueError(
                f"max_interval={self.max_interval!r} is shorter than "
                f"initial_interval={self.initial_interval!r}; raise max_interval"
            )
        if self.max_attempts is None and self.initial_interval == 0:
            raise ValueError(
                "initial_interval=0 with max_attempts=None would try again without end and without "
                "a pause; set one of them"
            )
        names = _names(self.non_retryable)
        msgspec.structs.force_setattr(self, "non_retryable", names)

    def delay(self, attempt: int, key: str) -> float:
        """Return the seconds to wait after the ``attempt``-th attempt has failed.

        Args:
            attempt: The number of the attempt that failed, from 1.
            key: The idempotency key, or anything else that differs between calls.
        """
        try:
            interval = self.initial_interval * self.backoff ** (attempt - 1)
        except OverflowError:
            interval = self.max_interval
        interval = min(interval, self.max_interval)
        if not self.jitter:
            return interval
        digest = hashlib.blake2b(f"{key}:{attempt}".encode(errors="replace"), digest_size=6)
        fraction = int.from_bytes(digest.digest(), "big") / 2**48
        return interval * (1 + self.jitter * (2 * fraction - 1))

    def next_delay(self, attempt: int, failure: Failure, elapsed: float, key: str) -> float | None:
        """Return the seconds until the next attempt, or ``None`` to give up.

        Args:
            attempt: The number of the attempt that failed, from 1.
            failure: How it failed.
            elapsed: Seconds since the first attempt began.
            key: The idempotency key, or anything else that differs between calls.
        """
        if self.max_attempts is not None and attempt >= self.max_attempts:
            return None
        if failure.non_retryable or matches(failure, cast("tuple[str, ...]", self.non_retryable)):
            return None
        delay = failure.retry_after
        if delay is None:
            delay = self.delay(attempt, key)
        if self.timeout is not None and elapsed + delay > self.timeout:
            return None
        return delay


def _check_number(name: str, value: object, least: float) -> None:
    if isinstance(value, timedelta):
        raise ValueError(seconds_needed(name, value))  # noqa: TRY004 - one kind of error, as below
    if not is_number(value) or not math.isfinite(value) or value < least:
        raise ValueError(f"{name}={value!r}: it is a number, {least:g} or more")


def _names(types: object) -> tuple[str, ...]:
    if not isinstance(types, (tuple, list)):
        raise ValueError(  # noqa: TRY004 - one kind of error for a policy that makes no sense
            f"non_retryable={types!r}: it is a tuple of exception classes or qualified names; "
            "a tuple of one is written (X,)"
        )
    return tuple(_name(each) for each in cast("tuple[object, ...]", types))


def _name(exception: object) -> str:
    if isinstance(exception, type) and issubclass(exception, BaseException):
        return type_name(exception)
    if isinstance(exception, str):
        known = getattr(builtins, exception, None)
        if "." in exception or (isinstance(known, type) and issubclass(known, BaseException)):
            return canonical(exception)
        raise ValueError(
            f"non_retryable names {exception!r}, which is no builtin exception; give the class, or "
            "its qualified name, as in 'shop.errors.CardExpired'"
        )
    raise ValueError(f"non_retryable holds {exception!r}, which is no exception class and no name")


DEFAULT_ACTIVITY_RETRY = RetryPolicy()
"""What an activity has unless it is given a policy: three attempts, after 1 and 2 seconds.

Enough for a dropped connection or a restart behind it. Not unlimited: a mistake in the code then
shows as a failure within seconds instead of as a workflow that seems to wait.
"""
