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

    def hold(self, live: HeldInstance) -> None:
        """Add an instance that was born here, or that the store gave."""
        self.held[live.id] = live

    def queue(self, live: HeldInstance) -> None:
        """Have an instance looked at soon."""
        if not live.queued:
            live.queued = True
            self.ready.append(live)
            self._wake()

    def park(self, live: HeldInstance) -> None:
        """Keep the execution of an instance that is no longer held, if there is a place for it."""
        if live.sealed or live.execution is None or not self._cache_size:
            self.drop(live)
            return
        del self.held[live.id]
        live.park()
        self._parked[live.id] = live
        if len(self._parked) > self._cache_size:
            self._forget(self._parked.popitem(last=False)[1])

    def clear(self) -> None:
        """Let go of everything."""
        for live in (*self.held.values(), *self._parked.values()):
            if live.start is not None:
                live.start.settle(created=False)
            self._forget(live)
        self.held.clear()
        self._parked.clear()
        self.ready.clear()

    def unpark(self, row: TakenInstance) -> HeldInstance:
        """Return what is kept of an instance that the store gave, or begin anew with it."""
        live = self._parked.pop(row.id, None)
        if live is not None:
            if live.is_same_as(row) and live.turns == row.turns:
                live.unpark()
                return live
            self._forget(live)
        return HeldInstance.taken(row)

    def forget_parked(self, instance: str) -> None:
        """Let go of what is kept of an instance."""
        live = self._parked.pop(instance, None)
        if live is not None:
            self._forget(live)

    def _forget(self, live: HeldInstance) -> None:
        live.let_go()
        self.evict(live)

    def evict(self, live: HeldInstance) -> None:
        """Unwind an instance's code out of memory."""
        execution, live.execution = live.execution, None
        if execution is not None and not execution.evict():
            logger.error(
                "instance %r (%s) could not be unwound: its code catches BaseException again and "
                "again. It is kept in memory; let Cancelled and other BaseExceptions pass.",
                live.id,
                live.workflow,
            )

    def drop(self, live: HeldInstance) -> None:
        """Let go of an instance that is held."""
        if self.held.get(live.id) is live:
            del self.held[live.id]
        self._forget(live)
