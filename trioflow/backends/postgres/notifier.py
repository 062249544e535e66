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

__all__ = ["Notifier"]

logger = logging.getLogger("trioflow.backends")

# Two notifications are at least so far apart, seconds: many changes make one.
_GAP = 0.005
# Everybody looks that often though nothing was heard: who commits may die before it tells.
_SAFETY = 5.0
_SHORTEST_POLL, _LONGEST_POLL = 0.005, 0.3
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0
# How long the end waits for a last notification.
_LAST = 2.0
# Of the server's names, bytes.
_LONGEST_NAME = 63


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
        name = f"trioflow {schema}"
        if len(name.encode()) > _LONGEST_NAME:
            name = f"trioflow {sha256(schema.encode()).hexdigest()[:40]}"
        sequence = f"{qualified(schema)}.changes"
        literal = sequence.replace("'", "''")
        self._listening = f"LISTEN {qualified(name)}"
        self._signal = f"SELECT nextval('{literal}'), pg_notify(?, '')"
        self._channel = name
        self._last_value = f"SELECT last_value + is_called::int FROM {sequence}"  # noqa: S608 - a quoted name
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
        (self._last,) = self._connection.execute(self._last_value).fetchone()
        self._heard()  # whatever was not heard without a connection
        polls = Backoff(_SHORTEST_POLL, _LONGEST_POLL)
        while True:
            if self._due:
                self._tell_others()
                polls.reset()
            if self._stopped and not self._due:
                return
            if self._listen:
                quiet = self._wait_for(_SAFETY, self._connection.raw.fileno())
                if self._told_by_others() or quiet:
                    self._heard()
            else:
                self._wait_for(next(polls), None)
                (value,) = self._connection.execute(self._last_value).fetchone()
                if value != self._last:
                    self._last = value
                    self._heard()
                    polls.reset()

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
        if not self._listen and answer[0] != self._last:
            self._heard()
        self._last = answer[0] + 1
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
