"""One connection to a PostgreSQL server: its session, and statements pipelined in round trips.

Statements are pipelined here and not by psycopg's own pipeline, which makes a cursor for each and
goes through several layers. Measured: a commit of 16 units costs a worker's process 0.75 ms of CPU,
and 1.1 ms with psycopg's pipeline (medians of 7 alternations); the tree benchmark with 60 roots 3.8
and 4.4 s (medians of 5 that overlap).
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import errors, pq
from psycopg.adapt import Transformer

from trioflow.backends.postgres.values import encoded
from trioflow.backends.sql.connection import Rows, ServerConnection

__all__ = ["FINAL", "PgConnection", "ResultUnknown", "Statement", "state_of"]

# Not epoll, which costs three more calls of the system.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)

# A statement with ``?`` for its parameters, their encoded values, and the formats of these.
Statement = tuple[str, list[Any], list[int]]

_FAILED = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED)
_MOST_PREPARED = 300
_BEGIN: Statement = ("BEGIN ISOLATION LEVEL READ COMMITTED", [], [])
_BEGIN_SNAPSHOT: Statement = ("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", [], [])
_COMMIT: Statement = ("COMMIT", [], [])
#: After these the session is of no use: it ends, or its server is no longer the one that writes.
FINAL = ("57P", "08", "25006", "25P03", "25P04")
# After these it ends as well, and nothing of its transaction was committed.
_UNDONE = ("25P03", "25P04")


class ResultUnknown(psycopg.OperationalError):
    """The connection was lost while a COMMIT was on its way; nobody knows what became of that."""


class PgConnection(ServerConnection["psycopg.Connection[Any]", Statement]):
    """See `ServerConnection`.

    Args:
        connect: Returns a new connection of psycopg.
        release: Takes one back that is no longer needed.
        prepare: Whether statements may be prepared for the session.
    """

    errors = psycopg.Error

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        release: Callable[[psycopg.Connection[Any]], object],
        *,
        prepare: bool,
    ) -> None:
        super().__init__()
        self._connect = connect
        self._give_back = release
        self._prepare = prepare
        self._prepared: dict[str, bytes] = {}
        self._names = 0

    # --- life ---------------------------------------------------------------------------

    @property
    def lost(self) -> bool:
        """Whether there is no usable connection at the moment."""
        return self._raw is None or self._raw.pgconn.status != pq.ConnStatus.OK

    def _loss(self) -> Exception:
        return psycopg.OperationalError("the connection was lost in a transaction")

    def _new(self) -> psycopg.Connection[Any]:
        raw = self._connect()
        self._prepared.clear()
        return raw

    def _release(self, raw: psycopg.Connection[Any]) -> None:
        with suppress(psycopg.Error):
            if raw.pgconn.pipeline_status:
                raw.pgconn.exit_pipeline_mode()
        self._give_back(raw)

    # --- transactions -----------------------------------------------------------------------

    def _begin(self) -> list[Statement]:
        return [_BEGIN]

    def _begin_snapshot(self) -> list[Statement]:
        return [_BEGIN_SNAPSHOT]

    def _commit(self) -> None:
        if self._sent and self.lost:
            raise self._loss()  # before, so that it is not in doubt
        try:
            self.run([_COMMIT])
        except psycopg.Error as exc:
            state = state_of(exc) or "08"
            if not state.startswith(FINAL) or state in _UNDONE:
                raise
            unknown = ResultUnknown(str(exc))
            unknown.sqlstate = state_of(exc)
            raise unknown from exc

    def _is_final(self, exc: Exception) -> bool:
        return (state_of(exc) or "08").startswith(FINAL)

    def _is_open(self, raw: psycopg.Connection[Any]) -> bool:
        return raw.pgconn.transaction_status != pq.TransactionStatus.IDLE

    # --- statements -----------------------------------------------------------------------

    def statement(self, sql: str, parameters: Sequence[Any]) -> Statement:
        """Return it with its values encoded: what cannot be, fails before anything is sent."""
        return (sql, *encoded(parameters))

    def _exchange(
        self,
        raw: psycopg.Connection[Any],
        statements: Sequence[Statement],
        answers: list[Rows],
    ) -> None:
        try:
            self._roundtrip(raw, statements, answers)
        except psycopg.Error:
            self._failed = True  # it takes nothing more until something is rolled back
            raise

    @staticmethod
    def _rows(raw: psycopg.Connection[Any], result: pq.abc.PGresult) -> Rows:
        count = result.command_tuples or 0
        if result.status != pq.ExecStatus.TUPLES_OK or not result.ntuples:
            return Rows(count, [])
        transformer = Transformer(raw)
        transformer.set_pgresult(result, format=pq.Format.BINARY)
        return Rows(count, transformer.load_rows(0, result.ntuples, tuple))

    def _roundtrip(
        self,
        raw: psycopg.Connection[Any],
        statements: Sequence[Statement],
        answers: list[Rows],
    ) -> None:
        pgconn = raw.pgconn
        pgconn.enter_pipeline_mode()
        awaited = self._send(pgconn, statements)
        pgconn.pipeline_sync()
        while pgconn.flush():
            if _ready(pgconn.socket, write=True):
                pgconn.consume_input()
        problem: psycopg.Error | None = None
        for sql, prepared_as in awaited:
            try:
                result = self._checked(pgconn, _answer(pgconn))
                if prepared_as:
                    self._prepared[sql] = prepared_as
                else:
                    answers.append(self._rows(raw, result))
            except psycopg.Error as exc:
                problem = problem or exc
                if pgconn.status != pq.ConnStatus.OK:
                    raise problem from None
            _answer(pgconn)  # None, between two answers
        self._checked(pgconn, _answer(pgconn))
        pgconn.exit_pipeline_mode()
        if problem is not None:
            raise problem

    def _send(
        self, pgconn: pq.abc.PGconn, statements: Sequence[Statement]
    ) -> list[tuple[str, bytes]]:
        """Send them; return what each answer is for: a text, and its name if it is prepared."""
        answers: list[tuple[str, bytes]] = []
        fresh: dict[str, bytes] = {}
        for sql, values, formats in statements:
            text = _numbered(sql)
            name = self._prepared.get(sql) or fresh.get(sql)
            room = len(self._prepared) + len(fresh) < _MOST_PREPARED
            if name is None and self._prepare and room:
                self._names += 1
                name = fresh[sql] = b"trioflow_%d" % self._names
                pgconn.send_prepare(name, text)
                answers.append((sql, name))
            if name is not None:
                pgconn.send_query_prepared(name, values, formats, result_format=1)
            else:
                pgconn.send_query_params(text, values, None, formats, 1)
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
