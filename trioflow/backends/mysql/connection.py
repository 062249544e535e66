"""One connection to MySQL or MariaDB: packets of statements, and what became of a lost COMMIT.

PyMySQL cannot pipeline, so statements are joined in one packet. Measured: a commit of 16 units
costs a worker's process 1.4 ms of CPU, and 2.1 ms with a round trip for each statement (medians of
7 alternations).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import Any

import pymysql
from pymysql.connections import Connection as RawConnection
from pymysql.constants import SERVER_STATUS

from trioflow.backends._common.backoff import Backoff
from trioflow.backends.mysql.values import filled, literal
from trioflow.backends.sql.connection import Rows, ServerConnection

__all__ = ["LOST", "TOO_BIG", "MysqlConnection", "ResultUnknown", "code_of"]

# The connection, or the server behind it, is no more: 1053 it shuts down, 1927 somebody killed the
# connection, 2006 and 2013 the network says so, 4031 it had been idle for long; 0 is the driver's.
LOST = {0, 1053, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2003, 2006, 2013, 2014, 2055, 4031}
TOO_BIG = 1153
# It works, but must not be written: another server has taken its place.
_DEMOTED = {1290, 1792, 1836}

# How long a statement keeps trying to connect again, seconds.
_PATIENCE = 5.0
_FIRST_DELAY = 0.05
_LONGEST_DELAY = 1.0
# A packet may hold what the server allows; this much of it is left for what is around the rows.
_MARGIN = 4096


class ResultUnknown(pymysql.OperationalError):
    """It could not be found out whether a transaction was committed."""


def code_of(exc: BaseException) -> int:
    """Return the number of an error of the driver's; 0 if it has none."""
    code = exc.args[0] if exc.args else 0
    return code if isinstance(code, int) else 0


class MysqlConnection(ServerConnection["RawConnection[Any]", str]):
    """See `ServerConnection`. Statements are finished texts, their parameters filled in.

    A ``COMMIT`` whose answer was lost is looked into: the transaction began by writing a token of
    its own into this writer's row, so that row tells what became of it, and it is locked until
    something has.

    Args:
        connect: Returns a new connection of the driver, in autocommit mode, its session set up.
        writer: The id of this connection's row in ``writers``; ``""`` for none: then a lost answer
            stays unknown.
        writers: The name of that table.
    """

    errors = pymysql.Error

    def __init__(
        self,
        connect: Callable[[], RawConnection[Any]],
        writer: str = "",
        *,
        writers: str = "writers",
    ) -> None:
        super().__init__()
        self.writer = writer
        self._writers = writers
        self._connect = connect
        self._failed_at: float | None = None
        self._allowed = self._room = 0
        self._token = 0
        self._announced = False

    # --- life ---------------------------------------------------------------------------

    @property
    def lost(self) -> bool:
        """Whether there is no usable connection at the moment."""
        return self._raw is None

    def _loss(self) -> Exception:
        return pymysql.OperationalError(2013, "the transaction was lost with its connection")

    def open(self) -> None:
        """Connect, without trying more than once."""
        if self._raw is None:
            self._raw = self._new_once()

    def _new(self) -> RawConnection[Any]:
        start = time.monotonic()
        # Whoever has just waited in vain does not make the next one wait as long.
        hopeless = self._failed_at is not None and start - self._failed_at < _PATIENCE
        for delay in Backoff(_FIRST_DELAY, _LONGEST_DELAY, jitter=0.5):
            try:
                return self._new_once()
            except pymysql.Error:
                self._failed_at = time.monotonic()
                if hopeless or self._failed_at + delay - start > _PATIENCE:
                    raise
            time.sleep(delay)
        raise AssertionError

    def _new_once(self) -> RawConnection[Any]:
        raw = self._connect()
        try:
            with raw.cursor() as cursor:
                cursor.execute("SELECT @@max_allowed_packet")
                ((allowed,),) = cursor.fetchall()
        except BaseException:
            self._release(raw)
            raise
        self.set_room(allowed)
        self._failed_at = None
        return raw

    def _release(self, raw: RawConnection[Any]) -> None:
        with suppress(pymysql.Error, OSError):
            raw.close()

    # --- statements -----------------------------------------------------------------------

    def set_room(self, allowed: int) -> None:
        """Set how many bytes the server takes in one packet."""
        self._allowed = allowed
        self._room = max(allowed // 2 - _MARGIN, _MARGIN)

    @property
    def room(self) -> int:
        """The most bytes that a statement should have."""
        return self._room

    def statement(self, sql: str, parameters: Sequence[Any]) -> str:
        """Return it as a text, the parameters filled in."""
        return filled(sql, parameters)

    def _exchange(
        self, raw: RawConnection[Any], statements: Sequence[str], answers: list[Rows]
    ) -> None:
        for packet in self._packets(statements):
            cursor = raw.cursor()
            cursor.execute(self._fitting(packet.encode("utf-8", "surrogateescape")))
            answers.append(Rows(cursor.rowcount, cursor.fetchall()))
            while cursor.nextset():
                answers.append(Rows(cursor.rowcount, cursor.fetchall()))

    def _packets(self, statements: Sequence[str]) -> Generator[str]:
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

    def _fitting(self, packet: bytes) -> bytes:
        if len(packet) >= self._allowed:
            # The server would hang up without a word.
            text = f"{len(packet)} bytes in one statement; max_allowed_packet is {self._allowed}"
            raise pymysql.DataError(TOO_BIG, text)
        return packet

    def _is_final(self, exc: Exception) -> bool:
        code = code_of(exc)
        return code in LOST or code in _DEMOTED

    def _is_open(self, raw: RawConnection[Any]) -> bool:
        try:
            with raw.cursor() as cursor:
                cursor.execute("DO 0")
        except pymysql.Error:
            self.close()
            return False
        return bool(getattr(raw, "server_status", 0) & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    # --- transactions -----------------------------------------------------------------------

    def announce(self) -> None:
        """Have the next transaction that is committed tell others that it may concern them."""
        self._announced = True

    def _begin(self) -> list[str]:
        if not self.writer:
            return ["BEGIN"]
        self._token += 1
        token = (
            f"INSERT INTO {self._writers} (id, token, changes, seen_at) VALUES "  # noqa: S608 - ours
            f"({literal(self.writer)}, {self._token}, 0, unix_timestamp()) "
            f"ON DUPLICATE KEY UPDATE token = {self._token}, seen_at = unix_timestamp()"
        )
        return ["BEGIN", token]

    def _begin_snapshot(self) -> list[str]:
        level = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"  # of the next one alone
        return [level, "START TRANSACTION WITH CONSISTENT SNAPSHOT"]

    def _end_part(self, name: str) -> list[str]:
        return []  # the next savepoint of its name takes its place

    def _commit(self) -> None:
        ending = ["COMMIT"]
        if self._announced and self.writer:
            mine = literal(self.writer)
            change = f"UPDATE {self._writers} SET changes = changes + 1 WHERE id = {mine}"  # noqa: S608
            ending.insert(0, change)
        try:
            self.run(ending)
        except pymysql.Error as exc:
            if code_of(exc) not in LOST or not self.writer or not self._was_committed(exc):
                raise
        self._announced = False

    def _was_committed(self, lost: pymysql.Error) -> bool:
        """Find out whether a transaction was committed whose answer was lost."""
        self._sent = False  # what is sent from here on is outside of it
        ask = f"SELECT token FROM {self._writers} WHERE id = ? FOR UPDATE"  # noqa: S608 - ours
        try:
            row = self.execute(ask, (self.writer,)).fetchone()
        except pymysql.Error as exc:
            raise ResultUnknown(code_of(lost), f"{lost}, then {exc}") from exc
        return row is not None and row[0] == self._token
