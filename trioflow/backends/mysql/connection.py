"""One connection to MySQL or MariaDB: packets of statements, transactions, connecting again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pymysql
from pymysql.connections import Connection as RawConnection
from pymysql.constants import SERVER_STATUS

from trioflow.backends.mysql.values import filled, literal

__all__ = ["LOST", "TOO_BIG", "MysqlConnection", "ResultUnknown", "code_of"]

# The connection, or the server behind it, is no more: 1053 it shuts down, 1927 somebody killed the
# connection, 2006 and 2013 the network says so, 4031 it had been idle for long; 0 is the driver's.
LOST = {0, 1053, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2003, 2006, 2013, 2014, 2055, 4031}
TOO_BIG = 1153
# It works, but must not be written: another server has taken its place.
_DEMOTED = {1290, 1792, 1836}

# How long a statement keeps trying to connect again, seconds.
_PATIENCE = 5.0
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
# A packet may hold what the server allows; this much of it is left for what is around the rows.
_MARGIN = 4096


class ResultUnknown(pymysql.OperationalError):
    """Whether a transaction was committed could not be found out."""


def code_of(exc: BaseException) -> int:
    """Return the number of an error of the driver's; 0 if it has none."""
    code = exc.args[0] if exc.args else 0
    return code if isinstance(code, int) else 0


class _Answer:
    """The answer to one statement."""

    def __init__(self, rowcount: int, rows: Sequence[Any]) -> None:
        self.rowcount = rowcount
        self._rows = rows
        self._at = 0

    def fetchone(self) -> Any:
        if self._at >= len(self._rows):
            return None
        self._at += 1
        return self._rows[self._at - 1]

    def fetchall(self) -> list[Any]:
        rest, self._at = list(self._rows[self._at :]), len(self._rows)
        return rest


class MysqlConnection:
    """Runs statements, several in one round trip. Used by one thread at a time.

    Statements whose answers nobody needs travel with the next one. A connection that was lost is
    made again by the first statement outside of a transaction.

    A ``COMMIT`` whose answer was lost is looked into: the transaction began by writing a token of
    its own into this writer's row, so that row tells what became of it, and it is locked until
    something has.

    Args:
        connect: Returns a new connection of the driver, in autocommit mode, its session set up.
        writer: The id of this connection's row in ``writers``; ``""`` for none: then a lost answer
            stays unknown.
    """

    def __init__(self, connect: Callable[[], RawConnection[Any]], writer: str = "") -> None:
        self.writer = writer
        self._connect = connect
        self._raw: RawConnection[Any] | None = None
        self._failed_at: float | None = None
        self._allowed = self._room = 0
        self._waiting: list[str] = []
        self._depth = 0
        self._sent = False
        # Why the transaction that is open here is no more on the server.
        self._ended: pymysql.Error | None = None
        self._token = 0
        self._announced = False

    # --- statements -----------------------------------------------------------------------

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> _Answer:
        """Run one statement that is written with ``?`` for its parameters."""
        return self.send([filled(sql, parameters)])[0]

    def send(self, statements: Sequence[str]) -> list[_Answer]:
        """Run finished statements in as few packets as possible; return the answer of each.

        Raises:
            pymysql.Error: One of them failed. If that ended the transaction, or if it was one that
                had waited for these, the transaction is gone: all that follows in it fails.
        """
        if self._ended is not None:
            raise pymysql.OperationalError(code_of(self._ended), f"rolled back: {self._ended}")
        raw = self._connected()
        waiting, self._waiting = self._waiting, []
        self._sent = True
        answers: list[_Answer] = []
        try:
            for packet in self._packets([*waiting, *statements]):
                cursor = raw.cursor()
                cursor.execute(self._fitting(packet.encode("utf-8", "surrogateescape")))
                answers.append(_Answer(cursor.rowcount, cursor.fetchall()))
                while cursor.nextset():
                    answers.append(_Answer(cursor.rowcount, cursor.fetchall()))
        except pymysql.Error as exc:
            code = code_of(exc)
            if code in LOST or code in _DEMOTED:
                self._drop()
            elif self._depth and (len(answers) < len(waiting) or not self._is_open(raw)):
                # Nobody may take it for the trouble of one part. (What had waited may be another
                # part's.)
                self._ended = exc
            raise
        except BaseException:
            self._drop()  # half an answer may be left in it
            raise
        return answers[len(waiting) :]

    def _fitting(self, packet: bytes) -> bytes:
        if len(packet) >= self._allowed:
            # The server would hang up without a word.
            text = f"{len(packet)} bytes in one statement; max_allowed_packet is {self._allowed}"
            raise pymysql.DataError(TOO_BIG, text)
        return packet

    def _is_open(self, raw: RawConnection[Any]) -> bool:
        """Return whether the server still has the transaction, after an error."""
        try:
            with raw.cursor() as cursor:
                cursor.execute("DO 0")
        except pymysql.Error:
            self._drop()
            return False
        return bool(getattr(raw, "server_status", 0) & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def append(self, statement: str) -> None:
        """Send a statement with the next one; its error comes there."""
        self._waiting.append(statement)

    def _packets(self, statements: list[str]) -> Generator[str]:
        packet: list[str] = []
        size = 0
        for statement in statements:
            # At most four bytes a character, but bytes and most texts have one.
            length = len(statement) if statement.isascii() else 2 * len(statement)
            if packet and size + length > self.room:
                yield ";".join(packet)
                packet, size = [], 0
            packet.append(statement)
            size += length + 1
        if packet:
            yield ";".join(packet)

    @property
    def room(self) -> int:
        """How many bytes a statement should have at most."""
        return self._room

    # --- connecting -------------------------------------------------------------------------

    def open(self) -> None:
        """Connect, without trying more than once."""
        if self._raw is None:
            self._raw = self._new()

    def ensure(self) -> None:
        """Connect if there is no connection, as patiently as a statement does."""
        self._connected()

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self._drop()

    def _connected(self) -> RawConnection[Any]:
        if self._raw is None:
            if self._depth and self._sent:
                raise pymysql.OperationalError(2013, "the transaction was lost with its connection")
            self._raw = self._again()
        return self._raw

    def _again(self) -> RawConnection[Any]:
        start = time.monotonic()
        # Whoever has just waited in vain does not make the next one wait as long.
        hopeless = self._failed_at is not None and start - self._failed_at < _PATIENCE
        pause = _FIRST_PAUSE
        while True:
            try:
                return self._new()
            except pymysql.Error:
                self._failed_at = time.monotonic()
                if hopeless or self._failed_at + pause - start > _PATIENCE:
                    raise
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _new(self) -> RawConnection[Any]:
        raw = self._connect()
        try:
            with raw.cursor() as cursor:
                cursor.execute("SELECT @@max_allowed_packet")
                ((allowed,),) = cursor.fetchall()
        except BaseException:
            with suppress(pymysql.Error):
                raw.close()
            raise
        self._allowed = allowed
        self._room = max(allowed // 2 - _MARGIN, _MARGIN)
        self._failed_at = None
        return raw

    def _drop(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None:
            with suppress(pymysql.Error, OSError):
                raw.close()

    # --- transactions -----------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, and has not been lost."""
        connected = self._raw is not None or not self._sent
        return self._depth > 0 and self._ended is None and connected

    def announce(self) -> None:
        """Have the transaction tell others that it may concern them."""
        self._announced = True

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Return a block that is a transaction, or a part of the one that is open."""
        if self._depth:
            with self._part():
                yield
            return
        self.ensure()  # it may take seconds: what reads the clock comes after it
        self._begin()
        try:
            yield
            self._commit()
        except BaseException:
            self._rollback()
            raise
        finally:
            self._depth = 0
            self._announced = False

    @contextmanager
    def _part(self) -> Generator[None]:
        name = f"part{self._depth}"
        mark = f"SAVEPOINT {name}"
        self._waiting.append(mark)
        self._depth += 1
        try:
            yield
        except BaseException:
            if mark in self._waiting:
                del self._waiting[self._waiting.index(mark) :]
            elif self.in_transaction:
                self._waiting.clear()
                self.send([f"ROLLBACK TO {name}"])
            raise
        finally:
            self._depth -= 1
        # A savepoint needs no release: the next one of its name takes its place.
        if self._waiting and self._waiting[-1] == mark:
            self._waiting.pop()

    def _begin(self) -> None:
        self._depth = 1
        self._sent = False
        self._ended = None
        self._waiting = ["BEGIN"]
        if self.writer:
            self._token += 1
            self._waiting.append(
                "INSERT INTO writers (id, token, changes, seen_at) VALUES "  # noqa: S608 - our own
                f"({literal(self.writer)}, {self._token}, 0, unix_timestamp()) "
                f"ON DUPLICATE KEY UPDATE token = {self._token}, seen_at = unix_timestamp()"
            )

    def _commit(self) -> None:
        if not self._sent and self._waiting[-1] == self._opening_end:
            return  # nothing was done
        ending = ["COMMIT"]
        if self._announced and self.writer:
            mine = literal(self.writer)
            change = f"UPDATE writers SET changes = changes + 1 WHERE id = {mine}"  # noqa: S608
            ending.insert(0, change)
        try:
            self.send(ending)
        except pymysql.Error as exc:
            if code_of(exc) not in LOST or not self.writer or not self._was_committed(exc):
                raise

    @property
    def _opening_end(self) -> str:
        return "BEGIN" if not self.writer else self._waiting[1]

    def _was_committed(self, lost: pymysql.Error) -> bool:
        """Return what became of a transaction whose end was not heard."""
        self._waiting.clear()
        self._sent = False  # what is sent from here on is outside of it
        ask = "SELECT token FROM writers WHERE id = ? FOR UPDATE"
        try:
            row = self.execute(ask, (self.writer,)).fetchone()
        except pymysql.Error as exc:
            raise ResultUnknown(code_of(lost), f"{lost}, then {exc}") from exc
        return row is not None and row[0] == self._token

    def _rollback(self) -> None:
        self._waiting.clear()
        self._ended = None
        if self._raw is None or not self._sent:
            return
        try:
            self.send(["ROLLBACK"])
        except pymysql.Error:
            self._drop()
