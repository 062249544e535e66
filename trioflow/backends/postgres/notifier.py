"""Tell other processes of changes and hear of theirs, on a thread with a connection of its own.

Nothing of a workflow depends on it but how soon somebody looks: others are told after a commit,
never within one, since NOTIFY makes commits wait for each other.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256

import psycopg

from trioflow.backends._common.backoff import Backoff
from trioflow.backends.postgres.connection import PgConnection
from trioflow.backends.postgres.dialect import qualified

__all__ = ["Notifier", "announcement"]

logger = logging.getLogger("trioflow.backends")

# Two notifications are at least so far apart, seconds: many changes make one.
_GAP = 0.005
# Everybody looks that often though nothing was heard: who commits may die before it tells.
_SAFETY = 5.0
_SHORTEST_POLL, _LONGEST_POLL = 0.005, 0.3
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0
# Of the advisory locks of transactions that will have changed something; any number.
_LOCKS = 740_913_026
# How long the end waits for a last notification.
_LAST = 2.0
# Of the server's names, bytes.
_LONGEST_NAME = 63


def channel_of(schema: str) -> str:
    """Return the name of the channel of a schema."""
    name = f"trioflow {schema}"
    if len(name.encode()) > _LONGEST_NAME:
        name = f"trioflow {sha256(schema.encode()).hexdigest()[:40]}"
    return name


def announcement(schema: str) -> tuple[str, str]:
    """Return a statement that tells of changes once its transaction was committed; its parameter.

    Who listens is notified then. Who asks sees the sequence grow at once, too early; so the
    transaction also has a lock, and they look on until nobody has it any more.
    """
    sequence = _literal(f"{qualified(schema)}.changes")
    lock = f"pg_advisory_xact_lock_shared({_LOCKS}, {_lock_of(schema)})"
    return f"SELECT {lock}, nextval('{sequence}'), pg_notify(?, '')", channel_of(schema)


def _literal(text: str) -> str:
    return text.replace("'", "''")


def _lock_of(schema: str) -> int:
    return int.from_bytes(sha256(schema.encode()).digest()[:4], "big") >> 1


class Notifier:
    """Tell other processes of changes, and hear of theirs.

    Args:
        connection: Not used by anybody else.
        schema: Who uses the same one hears it.
        listen: Whether the session can LISTEN; otherwise it asks, more seldom when it is quiet.
        heard: Called in the notifier's thread when somebody else may have changed something.
    """

    def __init__(
        self, connection: PgConnection, schema: str, *, listen: bool, heard: Callable[[], object]
    ) -> None:
        self._connection = connection
        self._listen = listen
        self._heard = heard
        sequence = f"{qualified(schema)}.changes"
        self._channel = channel_of(schema)
        self._listening = f"LISTEN {qualified(self._channel)}"
        self._signal = f"SELECT nextval('{_literal(sequence)}'), pg_notify(?, '')"
        self._look = f"""SELECT last_value + is_called::int, EXISTS (SELECT 1 FROM pg_locks
            WHERE locktype = 'advisory' AND classid = {_LOCKS} AND objid = {_lock_of(schema)}
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
            FROM {sequence}"""  # noqa: S608 - a quoted name
        self._last = 0  # the number that the next change will get, as far as is known
        self._due = False
        self._stopped = False
        self._not_before = 0.0
        self._thread: threading.Thread | None = None
        self._read, self._write = socket.socketpair()
        self._read.settimeout(0)
        self._write.settimeout(0)

    def start(self) -> None:
        """Begin to listen. Idempotent."""
        if self._thread is None and not self._stopped:
            self._thread = threading.Thread(target=self._run, name="trioflow notifier", daemon=True)
            self._thread.start()

    def notify(self) -> None:
        """Tell the others soon; does not wait."""
        if not self._due:
            self._due = True
            self._wake()
        self.start()

    def stop(self) -> None:
        """Tell what is still to be told, and end. Idempotent."""
        if self._stopped:
            return
        self._stopped = True
        self._wake()
        if self._thread is not None:
            self._thread.join(_LAST)
            if self._thread.is_alive():
                return  # it waits for a server that is away; it ends when that is over
        self._read.close()
        self._write.close()

    def _wake(self) -> None:
        with suppress(OSError):  # full: it wakes anyway
            self._write.send(b"x")

    # --- in its thread --------------------------------------------------------------------

    def _run(self) -> None:
        delays = Backoff(_FIRST_DELAY, _LONGEST_DELAY)
        while True:
            started = time.monotonic()
            try:
                self._listen_and_notify()
                break
            except psycopg.Error as exc:
                logger.debug("the notifier has lost its connection, trying again: %s", exc)
                self._connection.close()
            if self._stopped:
                break
            if time.monotonic() - started > _LONGEST_DELAY:
                delays.reset()
            self._wait_for(next(delays), None)
        self._connection.close()

    def _listen_and_notify(self) -> None:
        if self._listen:
            self._connection.execute(self._listening)
        self._last, waited_for = self._connection.execute(self._look).fetchone()
        self._heard()  # whatever was not heard without a connection
        polls = Backoff(_SHORTEST_POLL, _LONGEST_POLL)
        while True:
            if self._due:
                self._tell_others()
                polls.reset()
            if self._stopped and not self._due:
                return
            if self._listen:
                # What came with the answer to a statement is read; the socket says no more of it.
                told = self._told_by_others()
                quiet = not told and self._wait_for(_SAFETY, self._connection.raw.fileno())
                if told or quiet or self._told_by_others():
                    self._heard()
            else:
                self._wait_for(next(polls), None)
                value, waits = self._connection.execute(self._look).fetchone()
                if value != self._last or waited_for:
                    self._heard()
                if value != self._last:
                    polls.reset()
                self._last, waited_for = value, waits

    def _tell_others(self) -> None:
        ahead = self._not_before - time.monotonic()
        if ahead > 0 and not self._stopped:
            time.sleep(ahead)
        self._due = False
        try:
            answer = self._connection.execute(self._signal, (self._channel,)).fetchone()
        except psycopg.Error:
            self._due = True
            raise
        alone = answer[0] == self._last
        if not self._listen and not alone:
            self._heard()
        # Otherwise the next look finds a change, since what raised the number may not be committed.
        self._last = answer[0] + 1 if alone else answer[0]
        self._not_before = time.monotonic() + _GAP

    def _told_by_others(self) -> bool:
        pgconn = self._connection.raw.pgconn
        pgconn.consume_input()
        told = False
        while (note := pgconn.notifies()) is not None:
            told = told or note.be_pid != pgconn.backend_pid
        return told

    def _wait_for(self, timeout: float, server: int | None) -> bool:
        """Wait for a notification or something to do; return whether the time passed without."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._read, selectors.EVENT_READ)
            if server is not None:
                selector.register(server, selectors.EVENT_READ)
            ready = selector.select(timeout)
        with suppress(BlockingIOError):
            self._read.recv(4096)
        return not ready
