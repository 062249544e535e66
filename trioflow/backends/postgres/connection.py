"""One connection to a PostgreSQL server: round trips, transactions, and connecting again."""

from __future__ import annotations

import selectors
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import errors, pq
from psycopg.adapt import Transformer

from trioflow.backends.postgres.values import encoded

__all__ = ["PgConnection", "Statement", "TransactionEnded", "state_of"]

# Not epoll, which costs three more calls of the system.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)

# A statement with ``?`` for its parameters, and their values.
Statement = tuple[str, Sequence[Any]]

_FAILED = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED)
_MOST_PREPARED = 300
_BEGIN = ("BEGIN ISOLATION LEVEL READ COMMITTED", ())
_COMMIT = ("COMMIT", ())
_SAVEPOINT = ("SAVEPOINT part", ())
_RELEASE = ("RELEASE part", ())
_UNDO_PART = [("ROLLBACK TO part", ()), _RELEASE]
# After these the session is of no use: it ends, or its server is no longer the one that writes.
_FINAL = ("57P", "08", "25006", "25P03", "25P04")
# After these it ends as well, and nothing of its transaction was committed.
_UNDONE = ("25P03", "25P04")


class TransactionEnded(psycopg.OperationalError):
    """What is open here as a transaction is no more on the server."""


class _Rows:
    """The answer to one statement."""

    def __init__(self, rowcount: int, rows: list[Any]) -> None:
        self.rowcount = rowcount
        self._rows = rows
        self._at = 0

    def fetchone(self) -> Any:
        if self._at >= len(self._rows):
            return None
        self._at += 1
        return self._rows[self._at - 1]

    def fetchall(self) -> list[Any]:
        rest, self._at = self._rows[self._at :], len(self._rows)
        return rest


class PgConnection:
    """Runs statements, several in one round trip. Used by one thread at a time.

    Statements that only begin or end something travel with the next one that matters. A connection
    that was lost is made again by the first statement outside of a transaction.

    Args:
        connect: Returns a new connection of psycopg.
        release: Takes one back that is no longer needed.
        prepare: Whether statements may be prepared for the session.
    """

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        release: Callable[[psycopg.Connection[Any]], object],
        *,
        prepare: bool,
    ) -> None:
        self._connect = connect
        self._release = release
        self._prepare = prepare
        self._raw: psycopg.Connection[Any] | None = None
        self._prepared: dict[str, bytes] = {}
        self._names = 0
        self._deferred: list[Statement] = []
        #: How many transactions, one in the other, are open.
        self.depth = 0
        self._failed = False
        # The transaction is gone as a whole.
        self._ended = False
        #: How often it was lost while a COMMIT was on its way: nobody knows what became of that.
        self.doubts = 0

    # --- life ---------------------------------------------------------------------------

    @property
    def raw(self) -> psycopg.Connection[Any]:
        """The connection of psycopg; made, if there is none.

        Raises:
            psycopg.Error: There is none, and no transaction can go on on another one.
        """
        if self._raw is not None and self._raw.pgconn.status == pq.ConnStatus.OK:
            return self._raw
        self.close()
        if self.depth and self._deferred[:1] != [_BEGIN]:
            raise psycopg.OperationalError("the connection was lost in a transaction")
        raw = self._connect()
        self._raw = raw
        self._prepared.clear()
        return raw

    @property
    def lost(self) -> bool:
        """Whether there is no usable connection at the moment."""
        return self._raw is None or self._raw.pgconn.status != pq.ConnStatus.OK

    def close(self) -> None:
        """Give the connection back. The next statement makes another one."""
        raw, self._raw = self._raw, None
        if raw is not None:
            with suppress(psycopg.Error):
                if raw.pgconn.pipeline_status:
                    raw.pgconn.exit_pipeline_mode()
            self._release(raw)

    # --- statements -----------------------------------------------------------------------

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> _Rows:
        """Run one statement."""
        return self.run([(sql, parameters)])[0]

    def run(self, statements: Sequence[Statement]) -> list[_Rows]:
        """Run statements in one round trip; the first that fails ends them all.

        Raises:
            psycopg.Error: What went wrong. If that was about a statement that had been deferred,
                the transaction is gone as a whole, as that may have been another part's.
        """
        if self._ended:
            raise TransactionEnded("the transaction was rolled back after an error")
        raw = self.raw
        sent = [*self._deferred, *statements]
        self._deferred = []
        try:
            results = self._roundtrip(raw.pgconn, sent)
        except psycopg.Error as exc:
            self._failed = True
            state = state_of(exc) or "08"
            if state.startswith(_FINAL):
                if sent[-1] is _COMMIT and state not in _UNDONE:
                    self.doubts += 1
                self.close()
            elif self.depth and (self._answered < len(sent) - len(statements) or self._idle()):
                self._ended = True
            raise
        return [self._rows(raw, result) for result in results[len(sent) - len(statements) :]]

    def defer(self, sql: str, parameters: Sequence[Any]) -> None:
        """Send a statement along with the next one."""
        self._deferred.append((sql, parameters))

    @staticmethod
    def _rows(raw: psycopg.Connection[Any], result: pq.abc.PGresult) -> _Rows:
        count = result.command_tuples or 0
        if result.status != pq.ExecStatus.TUPLES_OK or not result.ntuples:
            return _Rows(count, [])
        transformer = Transformer(raw)
        transformer.set_pgresult(result, format=pq.Format.BINARY)
        return _Rows(count, transformer.load_rows(0, result.ntuples, tuple))

    def _roundtrip(
        self, pgconn: pq.abc.PGconn, statements: Sequence[Statement]
    ) -> list[pq.abc.PGresult]:
        pgconn.enter_pipeline_mode()
        answers = self._send(pgconn, statements)
        pgconn.pipeline_sync()
        while pgconn.flush():
            if _ready(pgconn.socket, write=True):
                pgconn.consume_input()
        results: list[pq.abc.PGresult] = []
        self._answered = 0
        problem: psycopg.Error | None = None
        for sql, prepared_as in answers:
            try:
                result = self._checked(pgconn, _answer(pgconn))
                if prepared_as:
                    self._prepared[sql] = prepared_as
                else:
                    results.append(result)
                    self._answered += 1
            except psycopg.Error as exc:
                problem = problem or exc
                if pgconn.status != pq.ConnStatus.OK:
                    raise problem from None
            _answer(pgconn)  # None, between two answers
        self._checked(pgconn, _answer(pgconn))
        pgconn.exit_pipeline_mode()
        if problem is not None:
            raise problem
        return results

    def _send(
        self, pgconn: pq.abc.PGconn, statements: Sequence[Statement]
    ) -> list[tuple[str, bytes]]:
        """Send them; return what each answer is for: a text, and its name if it is prepared."""
        answers: list[tuple[str, bytes]] = []
        fresh: dict[str, bytes] = {}
        for sql, parameters in statements:
            text = _numbered(sql)
            name = self._prepared.get(sql) or fresh.get(sql)
            room = len(self._prepared) + len(fresh) < _MOST_PREPARED
            if name is None and self._prepare and room:
                self._names += 1
                name = fresh[sql] = b"trioflow_%d" % self._names
                pgconn.send_prepare(name, text)
                answers.append((sql, name))
            if name is not None:
                pgconn.send_query_prepared(name, *encoded(parameters), result_format=1)
            else:
                data, formats = encoded(parameters)
                pgconn.send_query_params(text, data, None, formats, 1)
            answers.append((sql, b""))
        return answers

    @staticmethod
    def _checked(pgconn: pq.abc.PGconn, result: pq.abc.PGresult | None) -> pq.abc.PGresult:
        if result is None:
            raise psycopg.OperationalError(pgconn.get_error_message() or "the connection was lost")
        if result.status not in _FAILED:
            return result
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        message = result.get_error_message() or "an earlier statement failed"
        try:
            raise errors.lookup(state)(message)
        except KeyError:
            raise _unlisted(state)(message) from None

    # --- transactions -----------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open that can still be committed."""
        return self.depth > 0 and not self._failed and not self._ended

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Return a block that is a transaction, or a part of the one that is open."""
        if self.depth:
            with self._part():
                yield
            return
        _ = self.raw  # to connect may take seconds: what reads the clock comes after it
        self._failed = self._ended = False
        self._deferred = [_BEGIN]
        self.depth = 1
        try:
            yield
            if self._failed:  # the server would make a silent rollback of it
                raise psycopg.OperationalError("a statement of the transaction had failed")  # noqa: TRY301 - to the block below
            if self._deferred != [_BEGIN]:  # otherwise nothing was done
                self.run([_COMMIT])
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._deferred = []
            self.depth = 0
            self._failed = self._ended = False

    def _roll_back(self) -> None:
        begun = self._deferred[:1] != [_BEGIN]
        self._deferred = []
        self._ended = False
        if not begun or self.lost or self._idle():
            return
        try:
            self.run([("ROLLBACK", ())])
        except psycopg.Error:
            self.close()  # which rolls back as well

    def _idle(self) -> bool:
        raw = self._raw
        return raw is None or raw.pgconn.transaction_status == pq.TransactionStatus.IDLE

    @contextmanager
    def _part(self) -> Generator[None]:
        before = len(self._deferred)
        self._deferred.append(_SAVEPOINT)
        self.depth += 1
        try:
            yield
        except BaseException:
            self.depth -= 1
            if self._begun_since(before):
                if not self.lost and not self._ended:
                    self._deferred = list(_UNDO_PART)
                    self._failed = False
            else:
                del self._deferred[before:]
            raise
        self.depth -= 1
        if self._begun_since(before) or len(self._deferred) > before + 1:
            self._deferred.append(_RELEASE)
        else:
            del self._deferred[before:]

    def _begun_since(self, before: int) -> bool:
        """Return whether the savepoint that was deferred at that place has been sent."""
        return self._deferred[before : before + 1] != [_SAVEPOINT]


def _answer(pgconn: pq.abc.PGconn) -> pq.abc.PGresult | None:
    # Waited for here, since the driver keeps the GIL while it waits: whoever holds the lock that
    # the server waits for may be a thread of ours.
    while pgconn.is_busy():
        _ready(pgconn.socket)
        pgconn.consume_input()
    return pgconn.get_result()


def _ready(socket: int, *, write: bool = False) -> bool:
    """Wait for a socket to be readable, or writable if that is asked for; return if readable."""
    with _Selector() as selector:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if write else 0)
        selector.register(socket, events)
        return any(event & selectors.EVENT_READ for _, event in selector.select())


def state_of(exc: BaseException) -> str | None:
    """Return the SQLSTATE of an error, ``None`` if it did not come from the server."""
    return getattr(exc, "sqlstate", None) or None


@lru_cache(maxsize=64)
def _unlisted(state: str) -> type[psycopg.DatabaseError]:
    return type("UnlistedError", (psycopg.DatabaseError,), {"sqlstate": state})


@lru_cache(maxsize=1024)
def _numbered(sql: str) -> bytes:
    head, *rest = sql.split("?")
    return (head + "".join(f"${n}{part}" for n, part in enumerate(rest, 1))).encode()
