"""A client's request to start an instance, given to the worker in the same process."""

from __future__ import annotations

import anyio

from trioflow._worker.host import Host
from trioflow.backends.records import NewInstance
from trioflow.errors import BackendUnavailable

__all__ = ["Start"]

_PATIENCE = 10.0
"""Seconds for which a cancelled start waits to be stored."""


class Start:
    """Waits until an instance is stored.

    Args:
        new: The instance.
        host: Where its caller waits.

    Attributes:
        created: True once it is; False if an unfinished instance has the id, or had it; ``None``
            before.
        error: Why it is not known, or cannot be stored; ``None`` otherwise.
    """

    __slots__ = ("_done", "_host", "created", "error", "new")

    def __init__(self, new: NewInstance, host: Host) -> None:
        self.new = new
        self._host = host
        self.created: bool | None = None
        self.error: Exception | None = None
        self._done = anyio.Event()

    def settle(self, *, created: bool) -> None:
        """Say how it went, once."""
        if not self._done.is_set():
            self.created = created
            self._done.set()

    def fail(self, error: Exception) -> None:
        """Say why it cannot be stored, or why nobody knows; unless it is settled."""
        if not self._done.is_set():
            self.error = error
            self._done.set()

    async def wait(self) -> bool:
        """Return whether the instance was created. A caller that is cancelled waits for that too.

        What was handed over may be stored at any moment; so the cancellation comes afterwards. But
        a store that is away must not keep a program from ending: then that is said.

        Raises:
            BackendUnavailable: The caller was cancelled, and the store does not answer.
            BackendError: The store refused it, or the worker ended before it was stored.
        """
        if not await self._host.outlast(self._done, _PATIENCE):
            raise BackendUnavailable(
                f"the store does not answer, and the start of instance {self.new.id!r} was "
                "cancelled: whether it is stored shows when the store is back"
            )
        if self.error is not None:
            raise self.error
        return bool(self.created)
