"""A client's request to start an instance, given to the worker in the same process."""

from __future__ import annotations

import anyio

from trioflow.model.records import NewInstance
from trioflow.worker.host import outlast

__all__ = ["Start"]


class Start:
    """Waits until an instance is stored.

    Attributes:
        created: True once it is; False if an unfinished instance has the id, or had it; ``None``
            before.
        error: Why it is not known, or cannot be stored; ``None`` otherwise.
    """

    __slots__ = ("_done", "created", "error", "new")

    def __init__(self, new: NewInstance) -> None:
        self.new = new
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

        What was handed over may be stored at any moment; so the cancellation comes afterwards.

        Raises:
            BackendError: The store refused it, or the worker ended before it was stored.
        """
        await outlast(self._done)
        if self.error is not None:
            raise self.error
        return bool(self.created)
