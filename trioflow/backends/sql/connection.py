"""One connection to a database server: few round trips, transactions, and connecting again.

A statement that only begins or ends something, or whose answer nobody needs, is *deferred*: it
travels with the next one that matters. So a transaction may be open here of which the server has
not heard yet. What is known about one, from the outside in:

- ``depth``: how many blocks are open, one in the other. The outermost is the transaction, those
  within are parts of it, each a savepoint that is rolled back alone.
- ``_sent``: whether anything of it has reached the server. Until then it can go on on another
  connection; afterwards it is lost with its connection.
- ``_failed``: the server takes nothing more until a part, or all of it, is rolled back. PostgreSQL
  does this after every error.
- ``_ended``: the server has rolled it back as a whole, after a deadlock for one; or an error came
  that was about a deferred statement, which may have been another part's than the one that got it.
  All that follows in it fails, so that nobody takes it for the trouble of one part.
"""

from __future__ import annotations

import abc
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from trioflow.errors import BackendUnavailable

__all__ = ["Rows", "ServerConnection", "TransactionEnded"]

_AFTER = ", since a statement had failed; nothing of the transaction was stored, try again"

R = TypeVar("R")
S = TypeVar("S")


class TransactionEnded(BackendUnavailable):
    """What is open here as a transaction is no more on the server; nothing of it was stored."""


class Rows:
    """The answer to one statement."""

    def __init__(self, rowcount: int, rows: Sequence[Any]) -> None:
        self.rowcount = rowcount
        self._rows = rows
        self._at = 0

    def fetchone(self) -> Any:
        """Return the next row, or ``None``."""
        if self._at >= len(self._rows):
            return None
        self._at += 1
        return self._rows[self._at - 1]

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        rest, self._at = list(self._rows[self._at :]), len(self._rows)
        return rest


class ServerConnection(abc.ABC, Generic[R, S]):
    """Runs statements of the type ``S`` on a connection ``R`` of a driver.

    A connection that was lost is made again by the first statement outside of a transaction. Used
    by one thread at a time.
    """

    #: The base class of the driver's exceptions.
    errors: type[Exception]
    #: What the names of savepoints begin with.
    part = "part"

    def __init__(self) -> None:
        self._raw: R | None = None
        self._deferred: list[S] = []
        self._depth = 0
        self._sent = False
        self._failed = False
        self._ended: Exception | None = None
        # Of the deferred statements, how many begin the transaction.
        self._opening = 0

    # --- what a driver's connection gives ---------------------------------------------------

    @property
    @abc.abstractmethod
    def lost(self) -> bool:
        """Whether there is no usable connection at the moment."""

    @abc.abstractmethod
    def _loss(self) -> Exception:
        """Return the driver's error for a connection that was lost in a transaction."""

    @abc.abstractmethod
    def _new(self) -> R:
        """Return a new connection of the driver."""

    @abc.abstractmethod
    def _release(self, raw: R) -> None:
        """Close a connection, or give it back. Raise nothing of the driver's."""

    @abc.abstractmethod
    def statement(self, sql: str, parameters: Sequence[Any]) -> S:
        """Return a statement that is written with ``?`` for its parameters."""

    @abc.abstractmethod
    def _exchange(self, raw: R, statements: Sequence[S], answers: list[Rows]) -> None:
        """Run statements in few round trips, until the first that fails; add the answer of each."""

    @abc.abstractmethod
    def _is_final(self, exc: Exception) -> bool:
        """Return whether the connection is of no use after an error."""

    @abc.abstractmethod
    def _is_open(self, raw: R) -> bool:
        """Return whether the server still has the transaction, after an error."""

    @abc.abstractmethod
    def _begin(self) -> list[S]:
        """Return the statements that begin a transaction."""

    @abc.abstractmethod
    def _begin_snapshot(self) -> list[S]:
        """Return the statements that begin a transaction that reads one state of the database."""

    @abc.abstractmethod
    def _commit(self) -> None:
        """Commit.

        Raises:
            Exception: One of the driver's. If it is not known whether it was stored, the dialect
                must not take it for one that passes.
        """

    # --- life -------------------------------------------------------------------------------

    @property
    def raw(self) -> R:
        """The connection of the driver; made, if there is none.

        Raises:
            Exception: One of the driver's: it cannot be made, or the transaction that is open
                cannot go on on another one.
        """
        raw = self._raw
        if raw is None or self.lost:
            self.close()
            if self._depth and self._sent:
                raise self._loss()
            raw = self._raw = self._new()
        return raw

    def ensure(self) -> None:
        """Connect if there is no connection."""
        _ = self.raw

    def close(self) -> None:
        """Close the connection. Idempotent; the next statement makes another one."""
        raw, self._raw = self._raw, None
        if raw is not None:
            self._release(raw)

    # --- statements -------------------------------------------------------------------------

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Rows:
        """Run one statement that is written with ``?`` for its parameters."""
        return self.run([self.statement(sql, parameters)])[0]

    def run(self, statements: Sequence[S]) -> list[Rows]:
        """Run statements, and those that were deferred before them; the first failure ends it.

        Returns:
            The answers of ``statements``.

        Raises:
            TransactionEnded: The server has no transaction any more.
            Exception: What the driver raises. If that was about a deferred statement, or if it has
                ended the transaction, this is gone as a whole.
        """
        if self._ended is not None:
            raise TransactionEnded(f"rolled back{_AFTER}") from self._ended
        raw = self.raw
        deferred, self._deferred = self._deferred, []
        self._sent = True
        answers: list[Rows] = []
        try:
            self._exchange(raw, [*deferred, *statements], answers)
        except self.errors as exc:
            if self._is_final(exc):
                self.close()
            elif self._depth and (len(answers) < len(deferred) or not self._is_open(raw)):
                self._ended = exc
            raise
        except BaseException:
            self.close()  # half an answer may be left in it
            raise
        return answers[len(deferred) :]

    def flush(self) -> None:
        """Send what was deferred; in the middle of a transaction, since its end does so too."""
        if self._deferred:
            self.run([])

    def defer(self, statement: S) -> None:
        """Send a statement along with the next one; its error comes there."""
        self._deferred.append(statement)

    # --- transactions -----------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open that can still be committed."""
        if not self._depth or self._failed or self._ended is not None:
            return False
        return not self._sent or not self.lost

    @contextmanager
    def transaction(self, *, snapshot: bool = False) -> Generator[None]:
        """Return a block that is a transaction, or a part of the one that is open.

        Args:
            snapshot: Whether it only reads, and all of it the same state, if it is no part.
        """
        if self._depth:
            with self._part():
                yield
            return
        _ = self.raw  # to connect may take seconds: what reads the clock comes after it
        self._deferred = self._begin_snapshot() if snapshot else self._begin()
        self._opening = len(self._deferred)
        self._sent = self._failed = False
        self._ended = None
        self._depth = 1
        try:
            yield
            if self._failed:  # the server would make a silent rollback of it
                raise TransactionEnded(f"not committed{_AFTER}")  # noqa: TRY301 - to the block below
            if self._sent or len(self._deferred) > self._opening:  # otherwise nothing was done
                self._commit()
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._deferred = []
            self._depth = 0
            self._sent = self._failed = False
            self._ended = None

    def _roll_back(self) -> None:
        self._deferred, self._ended = [], None
        if not self._sent or self.lost:
            return
        try:
            self.run([self.statement("ROLLBACK", ())])
        except self.errors:
            self.close()  # which rolls back as well

    @contextmanager
    def _part(self) -> Generator[None]:
        # The names differ, so that no savepoint is taken for one that is around it.
        name = f"{self.part}{self._depth}"
        savepoint = self.statement(f"SAVEPOINT {name}", ())
        place = len(self._deferred)
        self._deferred.append(savepoint)
        self._depth += 1
        try:
            yield
        except BaseException:
            if self._deferred[place : place + 1] == [savepoint]:
                del self._deferred[place:]
            elif self._ended is None and not self.lost:
                self._deferred = [self.statement(f"ROLLBACK TO {name}", ()), *self._end_part(name)]
                self._failed = False
            raise
        finally:
            self._depth -= 1
        if self._deferred[place:] == [savepoint]:
            self._deferred.pop()
        else:
            self._deferred += self._end_part(name)

    def _end_part(self, name: str) -> list[S]:
        """Return what ends a part, unless the next savepoint of its name takes its place."""
        return [self.statement(f"RELEASE {name}", ())]
