"""Make calls of a store on one connection: alone or together, and again where that helps.

A *call* is a method of the store that raises what the driver raises. Three things may become of it.

- It fails with an error of its own: a refused value, a missing table. That is told to its caller.
- It fails because of something that passes, such as a deadlock, or a connection that died while it
  was idle, and it is sure that nothing of it was stored: it is made again. The dialect says which
  errors are such, how often it is worth it, and how long to wait before.
- Nobody knows whether it was stored, since the answer to its COMMIT was lost. It is told to its
  caller, who knows whether it may be made twice (a commit of a worker may: its turn numbers fence
  it).

Calls that wait at the same time share one transaction, and with it one flush of the disk. Each is a
part of it that is rolled back alone if it fails. But some errors end the whole transaction on the
server, and no part may then count as stored: either all of it is made again, or each call that was
in it is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, Generic, TypeVar, TypeVarTuple

from outcome import Error, Outcome, capture

from trioflow.backends._common.server_clock import ServerClock
from trioflow.backends.sql.connection import ServerConnection, TransactionEnded
from trioflow.backends.sql.store import SqlStore
from trioflow.errors import BackendError, BackendUnavailable

__all__ = ["Session"]

S = TypeVar("S", bound=SqlStore)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Session(Generic[S]):
    """A store on one connection, and how calls are made on it. Used by one thread at a time."""

    def __init__(self, store: S) -> None:
        self.store = store
        self.connection = store.connection
        self._dialect = store.dialect
        self._server_clock = store.clock if isinstance(store.clock, ServerClock) else None

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def call(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Make one call.

        Raises:
            BackendError: In place of whatever the driver raises.
        """
        for attempt in count(1):
            try:
                if self._server_clock is not None and self._server_clock.due():
                    self.measure_clock()
                return fn(*args)
            except TransactionEnded as exc:
                delay = self._delay_of(exc.__cause__, attempt)
                if delay is None:
                    raise
            except self._dialect.errors as exc:
                delay = self._delay_of(exc, attempt)
                if delay is None:
                    raise self._dialect.error(exc) from exc
            time.sleep(delay)
        raise AssertionError

    def _delay_of(self, exc: BaseException | None, attempt: int) -> float | None:
        return self._dialect.delay(exc, attempt) if isinstance(exc, self._dialect.errors) else None

    def measure_clock(self) -> None:
        """Compare this machine's clock with the server's, if that is the store's."""
        connection = self.connection
        if self._server_clock is not None:
            if isinstance(connection, ServerConnection):
                connection.ensure()  # to connect would count as the way to the server
            self._server_clock.measure(partial(self._dialect.server_time, connection))

    def call_together(self, calls: Sequence[Callable[[], Any]]) -> list[Outcome[Any]]:
        """Make several calls in one transaction; each succeeds or fails by itself.

        Returns:
            The outcome of each. All is durable that has a value.
        """
        if len(calls) < 2:  # noqa: PLR2004 - there is nothing to share
            return [capture(self.call, call) for call in calls]
        outcomes: list[Outcome[Any]] = []
        try:
            return self.call(self._in_one_transaction, calls, outcomes)
        except BackendError as exc:
            error: BaseException = exc
        # The last call that was made, if one was, may be what has ended the transaction.
        done = len(outcomes) or len(calls)
        if isinstance(error, TransactionEnded) and outcomes and isinstance(outcomes[-1], Error):
            error = outcomes[-1].error
        if isinstance(error, BackendUnavailable) and not isinstance(error, TransactionEnded):
            # One for each, since each is raised in a place of its own.
            lost = [Error(type(error)(*error.args)) for _ in range(done)]
            return [*lost, *self.call_together(calls[done:])]
        # Nothing is stored, and an error may have come later than what it is about.
        return [capture(self.call, call) for call in calls]

    def _in_one_transaction(
        self, calls: Sequence[Callable[[], Any]], outcomes: list[Outcome[Any]]
    ) -> list[Outcome[Any]]:
        outcomes.clear()
        with self.store.transaction():
            for call in calls:
                outcomes.append(capture(call))
                self._judge(outcomes)
        return outcomes

    def _judge(self, outcomes: list[Outcome[Any]]) -> None:
        """Raise if the last call has ended the transaction, or all of it has to be made again."""
        last = outcomes[-1]
        goes_on = self._dialect.in_transaction(self.connection)
        if isinstance(last, Error) and isinstance(last.error, self._dialect.errors):
            if not goes_on or self._delay_of(last.error, 1) is not None:
                raise last.error
            outcomes[-1] = Error(self._dialect.error(last.error))
        elif not goes_on:
            if isinstance(last, Error) and isinstance(last.error, TransactionEnded):
                raise last.error
            raise TransactionEnded("a call has ended the transaction; nothing of it was stored")
