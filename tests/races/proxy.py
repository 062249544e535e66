"""A proxy between workers and a server, that stalls, drops and half-opens connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

__all__ = ["Proxy"]

_CHUNK = 65536


class _Pair:
    """A worker's connection and the server's behind it."""

    def __init__(self, near: trio.SocketStream, far: trio.SocketStream) -> None:
        self.near = near
        self.far = far
        self.flows = trio.Event()
        self.flows.set()
        self.deaf = False
        self.scope = trio.CancelScope()


class Proxy:
    """Listens on a free port of 127.0.0.1 and passes on what it gets, until it is told not to.

    Args:
        connect: Opens a connection to the server.
    """

    def __init__(self, connect: Callable[[], Awaitable[trio.SocketStream]]) -> None:
        self._connect = connect
        self._pairs: set[_Pair] = set()
        self._open = trio.Event()
        self._open.set()
        self.port = 0

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until it is cancelled."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        await trio.serve_listeners(self._pass_on, listeners, task_status=task_status)

    # --- what it does to connections --------------------------------------------------------

    def stall(self) -> None:
        """Pass nothing on, in both directions, and accept nobody."""
        self._open = trio.Event()
        for pair in self._pairs:
            pair.flows = trio.Event()

    def go_on(self) -> None:
        """End a stall: everything that was held up arrives."""
        self._open.set()
        for pair in self._pairs:
            pair.flows.set()

    def drop(self) -> None:
        """Break every connection that there is."""
        for pair in self._pairs:
            pair.scope.cancel()

    def half_open(self) -> None:
        """Swallow what comes on the connections that there are; new ones are not concerned."""
        for pair in self._pairs:
            pair.deaf = True

    # --- inside -----------------------------------------------------------------------------

    async def _pass_on(self, near: trio.SocketStream) -> None:
        await self._open.wait()
        with suppress(OSError):
            far = await self._connect()
            pair = _Pair(near, far)
            self._pairs.add(pair)
            try:
                with pair.scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._pump, pair, near, far)
                        nursery.start_soon(self._pump, pair, far, near)
            finally:
                self._pairs.discard(pair)
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(near)
                    await trio.aclose_forcefully(far)

    async def _pump(self, pair: _Pair, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            while data := await source.receive_some(_CHUNK):
                await pair.flows.wait()
                if not pair.deaf:
                    await sink.send_all(data)
        if pair.deaf:
            await trio.sleep_forever()  # nobody hears of an end either
        pair.scope.cancel()
