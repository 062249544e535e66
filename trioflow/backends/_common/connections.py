"""The connections of an open store: for calls and perhaps for reads, and that of the heartbeat.

Calls share one connection, used by a thread of their own, so that those that wait at the same time
can share a round trip or a transaction. A store whose reads need not wait for those that write, for
which a call of another program may have to wait, gives them a connection and a thread, too; both
begin with the first read. The heartbeat has another one, since it must go on while a
call waits, for a lock or for a disk; whichever thread sends one holds a lock.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

import anyio

from trioflow.backends._common.thread import StorageThread
from trioflow.errors import BackendUnavailable

__all__ = ["Closable", "Connections"]


class Closable(Protocol):
    """A connection, or what has one."""

    def close(self) -> object:
        """Close it. Idempotent."""


C = TypeVar("C", bound=Closable)
T = TypeVar("T")


class Connections(Generic[C]):
    """The connections of one store, from `open` to `aclose`, after which it can be opened again.

    Args:
        place: The store, for messages; without a password.
        connect: Returns the connection for calls; called on the thread.
        connect_for_heartbeats: Returns the other one; called when it is needed first.
        connect_for_reads: Returns one for reads, or ``None`` where they are to be made on that for
            calls; called when it is needed first, on its thread.
    """

    def __init__(
        self,
        place: str,
        connect: Callable[[], C],
        connect_for_heartbeats: Callable[[], C],
        connect_for_reads: Callable[[], C] | None = None,
    ) -> None:
        self.place = place
        self._connect = connect
        self._connect_for_heartbeats = connect_for_heartbeats
        self._connect_for_reads = connect_for_reads
        self._thread: StorageThread | None = None
        self._reader: _Reader[C] | None = None
        self._calls: C | None = None
        self._beat_lock = threading.Lock()
        self._beats: C | None = None
        self._opening: anyio.Event | None = None

    @property
    def are_open(self) -> bool:
        """Whether calls can be made."""
        return self._calls is not None

    @property
    def thread(self) -> StorageThread:
        """The thread of the connection for calls.

        Raises:
            BackendUnavailable: The store is not open.
        """
        if self._thread is None:
            raise self.not_open()
        return self._thread

    @property
    def calls(self) -> C:
        """The connection for calls.

        Raises:
            BackendUnavailable: The store is not open.
        """
        if self._calls is None:
            raise self.not_open()
        return self._calls

    async def read(self, call: Callable[[C], T]) -> T:
        """Return what ``call`` does, on the connection for reads and its thread.

        Raises:
            BackendUnavailable: The store is not open.
        """
        if self._calls is None:
            raise self.not_open()
        if self._reader is None:
            assert self._connect_for_reads is not None
            self._reader = _Reader(f"trioflow reads {self.place}", self._connect_for_reads)
        return await self._reader.thread.run(self._reader.read, call)

    def not_open(self) -> BackendUnavailable:
        """Return the error for what cannot be done while the store is not open."""
        return BackendUnavailable(f"{self.place} is not open; await the backend's open() first")

    async def open_once(self, opening: Callable[[], Awaitable[None]]) -> None:
        """Call ``opening``, which calls `open`, unless they are open; raises what it raises.

        Who comes meanwhile waits for it. If it fails or is cancelled, the next one tries.
        """
        while not self.are_open:
            if self._opening is not None:
                await self._opening.wait()
                continue
            self._opening = done = anyio.Event()
            try:
                await opening()
            finally:
                self._opening = None
                done.set()

    async def open(self) -> None:
        """Connect. Raises what ``connect`` raises; then nothing is left open."""
        thread = StorageThread(f"trioflow storage {self.place}")
        connected: list[C] = []

        def connect() -> C:
            connected.append(self._connect())
            return connected[0]

        def close() -> None:
            for calls in connected:  # one, if its caller has left while it was made
                calls.close()

        try:
            self._calls = await thread.run(connect)
        except BaseException:
            await thread.aclose(close)
            raise
        self._thread = thread

    async def aclose(self, close: Callable[[C], object]) -> None:
        """Close the connections and end the thread. Idempotent, also after a failed `open`.

        Args:
            close: Closes the one for calls; called on the thread.
        """
        thread, calls, reader = self._thread, self._calls, self._reader
        self._thread = self._calls = self._reader = None
        if thread is None or calls is None:
            return
        try:
            if reader is not None:
                await reader.thread.aclose(reader.close)
        finally:
            await thread.aclose(partial(self._close, close, calls))

    def _close(self, close: Callable[[C], object], calls: C) -> None:
        try:
            close(calls)
        finally:
            with self._beat_lock:
                if self._beats is not None:
                    self._beats.close()
                    self._beats = None

    def beat(self, send: Callable[[C], T]) -> T:
        """Send a heartbeat on its connection. Any thread may call it; it may block.

        Raises:
            BackendUnavailable: The store is not open.
        """
        with self._beat_lock:
            if self._calls is None:
                raise self.not_open()
            if self._beats is None:
                self._beats = self._connect_for_heartbeats()
            return send(self._beats)


class _Reader(Generic[C]):
    """A connection for reads, and its thread, on which its methods are called.

    Args:
        name: The thread's.
        connect: Returns the connection.
    """

    def __init__(self, name: str, connect: Callable[[], C]) -> None:
        self.thread = StorageThread(name)
        self._connect = connect
        self._connection: C | None = None

    def read(self, call: Callable[[C], T]) -> T:
        """Call it with the connection, which the first call opens."""
        if self._connection is None:
            self._connection = self._connect()
        return call(self._connection)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
