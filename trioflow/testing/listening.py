"""A store in memory that tells of the instances that begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trioflow.backends.commits import CommitFailure, NewInstance, Unit
from trioflow.backends.memory import MemoryBackend
from trioflow.backends.records import Reached
from trioflow.backends.sql.operations import reads

__all__ = ["ListeningStore"]


class ListeningStore(MemoryBackend):
    """Calls functions with each instance that it has stored, however that was started.

    Args:
        clock: The store's clock, epoch seconds.

    Attributes:
        listeners: The functions. They must not call the store.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        super().__init__(clock=clock)
        self.listeners: list[Callable[[NewInstance], object]] = []

    async def create(
        self,
        instances: Sequence[NewInstance],
        *,
        reuse: bool = True,
        replacing: bytes | None = None,
    ) -> list[bool]:
        """Create instances, and tell of those that it has created."""
        results = await super().create(instances, reuse=reuse, replacing=replacing)
        for new, created in zip(instances, results, strict=True):
            if created:
                self._tell_listeners(new)
        return results

    async def commit(self, worker: str, units: Sequence[Unit]) -> list[CommitFailure | None]:
        """Store units, and tell of the instances that they create."""
        results = await super().commit(worker, units)
        for unit, failure in zip(units, results, strict=True):
            if failure is None:
                for commit in unit.instances:
                    if commit.new is not None:
                        self._tell_listeners(commit.new)
                    for message in commit.messages:
                        if message.new is not None and self._is_there(message.new):
                            self._tell_listeners(message.new)
        return results

    async def create_and_send(
        self, new: NewInstance, event: bytes, *, request: str = ""
    ) -> Reached:
        """Send an event to an instance, and tell of that if it was created for it."""
        reached = await super().create_and_send(new, event, request=request)
        if reached.created:
            self._tell_listeners(new)
        return reached

    def _is_there(self, new: NewInstance) -> bool:
        """Whether an id is that of an instance which was to be created, and no other's.

        It waits for nothing: whoever commits must hear what was stored, also when cancelled.
        """
        with self._lock:
            session = self._session()
            record = session.call(reads.get, session.store, new.id)
        return record is not None and record.life == new.life

    def _tell_listeners(self, new: NewInstance) -> None:
        for listener in self.listeners:
            listener(new)
