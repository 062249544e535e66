"""A `sqlite3.Connection` that can be taken from the thread that uses it.

SQLite itself allows calls from several threads, but a rollback beside a statement that runs would
let what follows in that statement, the next rows of `executemany`, be committed one by one. So each
statement holds a lock, and who takes the connection away interrupts it until the lock is free.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Generator
from typing import Any, Self, cast

__all__ = ["RevocableConnection"]

# Seconds between two interrupts: one that comes between two steps of a statement has no effect.
_FIRST, _LONGEST = 0.01, 1.0


class RevocableConnection(sqlite3.Connection):
    """For an activity, which may go on when its time is over."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_use = threading.RLock()
        self._revoked = False

    def revoke(self) -> None:
        """Roll back, and let nobody use it again; any thread may call it.

        Waits until a statement that runs has been interrupted.

        Raises:
            sqlite3.Error: It is closed.
        """
        self._revoked = True
        delay = _FIRST
        while not self._in_use.acquire(timeout=delay):
            self.interrupt()
            delay = min(2 * delay, _LONGEST)
        try:
            super().rollback()
        finally:
            self._in_use.release()

    @contextlib.contextmanager
    def used(self) -> Generator[None]:
        """Hold it while a statement runs.

        Raises:
            sqlite3.OperationalError: It was taken away.
        """
        with self._in_use:
            if self._revoked:
                raise sqlite3.OperationalError(
                    "this attempt of the activity was given up, since its time was over or its "
                    "worker has lost it; its transaction was rolled back, and nothing more that "
                    "it writes is stored"
                )
            yield

    def commit(self) -> None:
        """See `sqlite3.Connection`."""
        with self.used():
            super().commit()

    def cursor(self, factory: Any = None) -> Any:
        """See `sqlite3.Connection`."""
        return super().cursor(_Cursor if factory is None else factory)

    def execute(self, *args: Any) -> Any:
        """See `sqlite3.Connection`."""
        return self.cursor().execute(*args)

    def executemany(self, *args: Any) -> Any:
        """See `sqlite3.Connection`."""
        return self.cursor().executemany(*args)

    def executescript(self, *args: Any) -> Any:
        """See `sqlite3.Connection`."""
        return self.cursor().executescript(*args)


class _Cursor(sqlite3.Cursor):
    @property
    def _owner(self) -> RevocableConnection:
        return cast("RevocableConnection", self.connection)

    def execute(self, *args: Any) -> Self:
        with self._owner.used():
            return super().execute(*args)

    def executemany(self, *args: Any) -> Self:
        with self._owner.used():
            return super().executemany(*args)

    def executescript(self, *args: Any) -> Any:
        with self._owner.used():
            return super().executescript(*args)
