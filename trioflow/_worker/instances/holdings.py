"""Which instances a worker holds, which of them are ready, and which executions it keeps."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any

from trioflow._model.definitions import Workflow
from trioflow._worker.instances.held import HeldInstance
from trioflow._worker.instances.ready import Ready
from trioflow.backends.records import TakenInstance

__all__ = ["Holdings"]

logger = logging.getLogger("trioflow.worker")


class Holdings:
    """The instances of one worker.

    Args:
        workflows: The workflows by name.
        queues: Which queues' instances may be held; empty for none.
        limit: How many instances may be held at once.
        cache_size: How many executions are kept of instances that are not held.
        wake: Called when an instance has become ready.

    Attributes:
        held: The instances that are leased to this worker, by id.
        ready: Those of them that may have something to do, in order.
        closed: True once no more are to be taken.
    """

    def __init__(
        self,
        workflows: Mapping[str, Workflow[..., Any]],
        queues: Collection[str],
        limit: int,
        cache_size: int,
        wake: Callable[[], None],
    ) -> None:
        self.workflows = workflows
        self.held: dict[str, HeldInstance] = {}
        self.ready = Ready()
        self.closed = False
        self._queues = frozenset(queues)
        self._limit = limit
        self._cache_size = cache_size
        self._wake = wake
        self._parked: OrderedDict[str, HeldInstance] = OrderedDict()

    @property
    def room(self) -> int:
        """How many more instances could be taken."""
        return 0 if self.closed or not self._queues else max(0, self._limit - len(self.held))

    def accepts(self, workflow: str, queue: str) -> bool:
        """Whether an instance of that kind could begin here."""
        return queue in self._queues and workflow in self.workflows and self.room > 0

    def hold(self, instance: HeldInstance) -> None:
        """Add an instance that was born here, or that the store gave."""
        self.held[instance.id] = instance

    def queue(self, instance: HeldInstance) -> None:
        """Have an instance looked at soon."""
        if not instance.queued:
            instance.queued = True
            self.ready.append(instance)
            self._wake()

    def park(self, instance: HeldInstance) -> None:
        """Keep the execution of an instance that is no longer held, if there is a place for it."""
        if instance.sealed or instance.execution is None or not self._cache_size:
            self.drop(instance)
            return
        del self.held[instance.id]
        instance.park()
        self._parked[instance.id] = instance
        if len(self._parked) > self._cache_size:
            self._forget(self._parked.popitem(last=False)[1])

    def clear(self) -> None:
        """Let go of everything."""
        for instance in (*self.held.values(), *self._parked.values()):
            if instance.start is not None:
                instance.start.settle(created=False)
            self._forget(instance)
        self.held.clear()
        self._parked.clear()
        self.ready.clear()

    def unpark(self, row: TakenInstance) -> HeldInstance:
        """Return what is kept of an instance that the store gave, or begin anew with it."""
        instance = self._parked.pop(row.id, None)
        if instance is not None:
            if instance.is_same_as(row) and instance.turns == row.turns:
                instance.unpark()
                return instance
            self._forget(instance)
        return HeldInstance.taken(row)

    def forget_parked(self, id: str) -> None:
        """Let go of what is kept of an instance."""
        instance = self._parked.pop(id, None)
        if instance is not None:
            self._forget(instance)

    def _forget(self, instance: HeldInstance) -> None:
        instance.let_go()
        self.evict(instance)

    def evict(self, instance: HeldInstance) -> None:
        """Unwind an instance's code out of memory."""
        execution, instance.execution = instance.execution, None
        if execution is not None and not execution.evict():
            logger.error(
                "instance %r (%s) could not be unwound: its code catches BaseException again and "
                "again. It is kept in memory; let Cancelled and other BaseExceptions pass.",
                instance.id,
                instance.workflow,
            )

    def drop(self, instance: HeldInstance) -> None:
        """Let go of an instance that is held."""
        if self.held.get(instance.id) is instance:
            del self.held[instance.id]
        self._forget(instance)
