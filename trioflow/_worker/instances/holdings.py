"""The instances that a worker holds, the queue of those that are ready, and the instance cache."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypedDict

import anyio

from trioflow._model.workflows import Workflow
from trioflow._worker.instances.held import HeldInstance
from trioflow._worker.log_fields import of_instance
from trioflow.backends.records import TakenInstance, TakenQuestion

__all__ = ["Excluded", "Holdings", "Left", "Ready"]

logger = logging.getLogger("trioflow.worker")

_EVERY = 8  # of those that get their turn, one has not begun
_MOST_LEFT = 1000  # ids that each look for work leaves out


class Left(NamedTuple):
    """An instance that is left to workers with other code, and which execution does not fit."""

    id: str
    workflow: str
    life: str
    execution: int


class Ready:
    """A queue in which what is under way comes before what has not begun.

    So a flood of new instances does not keep those from ending that came before; there are fewer
    at a time, and they need less memory. Every eighth that is popped has not begun, if there is
    one, so that nothing waits for ever.

    Attributes:
        size: How many are in it.
    """

    __slots__ = ("_fresh", "_popped", "_under_way", "size")

    def __init__(self) -> None:
        self.size = 0  # asked for all the time, so it is no __len__
        self._under_way: deque[HeldInstance] = deque()
        self._fresh: deque[HeldInstance] = deque()
        self._popped = 0

    def __iter__(self) -> Iterator[HeldInstance]:
        return chain(self._under_way, self._fresh)

    def append(self, instance: HeldInstance) -> None:
        """Add one; a sub-workflow is under way as soon as its parent is."""
        self.size += 1
        if instance.turns or instance.parent is not None:
            self._under_way.append(instance)
        else:
            self._fresh.append(instance)

    def pop(self) -> HeldInstance:
        """Remove the next one, and return it."""
        self._popped += 1
        self.size -= 1
        if self._fresh and (not self._under_way or self._popped % _EVERY == 0):
            return self._fresh.popleft()
        return self._under_way.popleft()

    def remove(self, instance: HeldInstance) -> None:
        """Remove one that was added."""
        for waiting in (self._under_way, self._fresh):
            if instance in waiting:
                waiting.remove(instance)
                self.size -= 1

    def clear(self) -> None:
        """Remove all."""
        self.size = 0
        self._under_way.clear()
        self._fresh.clear()


class Excluded(TypedDict, total=False):
    """A keyword of `Backend.take_instances` and `Backend.take_questions`."""

    exclude_ids: Sequence[str]


class Holdings:
    """The instances of one worker.

    Args:
        workflows: The workflows by name.
        queues: Which queues' instances may be held; empty for none.
        limit: How many instances may be held at once.
        cache_size: How many executions are kept of instances that are not held.

    Attributes:
        held: The instances that are leased to this worker, by id.
        ready: Those of them that may have something to do, in order.
        closed: True once no more are to be taken.
        unknown: Names of workflows that came and are not registered here, or are left to others.
        leaves: Whether instances that diverge are left to other workers, and not suspended.
        left: Those that are, by id.
        limited: Names of workflows of which only the store knows whether one more may begin.
        evicted: How many executions the instance cache had no room for.
    """

    def __init__(
        self,
        workflows: Mapping[str, Workflow[..., Any]],
        queues: Collection[str],
        limit: int,
        cache_size: int,
    ) -> None:
        self.workflows = workflows
        self.held: dict[str, HeldInstance] = {}
        self.ready = Ready()
        self.closed = False
        self.unknown: set[str] = set()
        self.leaves = False
        self.left: dict[str, Left] = {}
        self.limited: frozenset[str] = frozenset()
        self.evicted = 0
        self._queues = frozenset(queues)
        self._limit = limit
        self._cache_size = cache_size
        self._woken = anyio.Event()
        self._parked: OrderedDict[str, HeldInstance] = OrderedDict()

    @property
    def room(self) -> int:
        """How many more instances could be taken."""
        return 0 if self.closed or not self._queues else max(0, self._limit - len(self.held))

    @property
    def cached(self) -> int:
        """How many executions the instance cache has."""
        return len(self._parked)

    def accepts(self, workflow: str, queue: str) -> bool:
        """Whether an instance of that kind could begin here."""
        known = workflow in self.workflows and workflow not in self.unknown
        return known and workflow not in self.limited and queue in self._queues and self.room > 0

    def hold(self, instance: HeldInstance) -> None:
        """Add an instance that is created here, or that the store gave.

        What the instance cache has under its id is of an earlier life, and goes.
        """
        parked = self._parked.pop(instance.id, None)
        if parked is not None:
            self._forget(parked)
        self.held[instance.id] = instance
        if self.left:  # what was left under this id has ended
            self.left.pop(instance.id, None)

    def excluded(self) -> Excluded:
        """Return the keyword for what is left to others, if anything is: not all stores have it."""
        return {"exclude_ids": tuple(self.left)} if self.left else {}

    def leave(self, instances: Iterable[Left]) -> None:
        """Leave instances to workers with other code, and whole workflows if it is too many."""
        self.left.update((each.id, each) for each in instances if each.workflow not in self.unknown)
        while len(self.left) > _MOST_LEFT:
            numbers = Counter(each.workflow for each in self.left.values())
            name, number = numbers.most_common(1)[0]
            logger.warning(
                "%d running instances of workflow %r do not fit the code: none of its instances "
                "is taken here",
                number,
                name,
            )
            self.unknown.add(name)
            for each in [each for each in self.left.values() if each.workflow == name]:
                del self.left[each.id]

    # --- what is to be looked at --------------------------------------------------------

    def queue(self, instance: HeldInstance) -> None:
        """Have an instance looked at soon."""
        if not instance.queued:
            instance.queued = True
            self.ready.append(instance)
            self._woken.set()

    def wake(self) -> None:
        """Have the pump look whether there is something to step or to commit."""
        self._woken.set()

    async def wait_woken(self) -> None:
        """Wait until an instance is queued from now on, or `wake` is called."""
        self._woken = anyio.Event()
        await self._woken.wait()

    # --- letting go ---------------------------------------------------------------------

    def park(self, instance: HeldInstance) -> None:
        """Keep the execution of an instance that is no longer held, if there is a place for it."""
        if instance.sealed or instance.execution is None or not self._cache_size:
            self.drop(instance)
            return
        del self.held[instance.id]
        instance.park()
        self._parked[instance.id] = instance
        if len(self._parked) > self._cache_size:
            self.evicted += 1
            self._forget(self._parked.popitem(last=False)[1])

    def unpark(self, row: TakenInstance) -> HeldInstance:
        """Return what is kept of an instance that the store gave, or begin anew with it."""
        instance = self._parked.pop(row.id, None)
        if instance is not None:
            if instance.is_same_as(row) and instance.turns == row.turns:
                instance.unpark()
                return instance
            self._forget(instance)
        return HeldInstance.taken(row)

    def has_parked(self, row: TakenInstance) -> bool:
        """Return whether the instance cache has the execution of one that the store gave."""
        instance = self._parked.get(row.id)
        return instance is not None and instance.is_same_as(row) and instance.turns == row.turns

    def find_at_rest(self, row: TakenQuestion) -> HeldInstance | None:
        """Return an instance whose code is in memory and has made just the turns that are stored.

        All is stored of one that has no part in a batch. The store may be ahead of what is kept in
        the instance cache, and of what is held if others have taken the lease away.
        """
        instance = self.held.get(row.instance) or self._parked.get(row.instance)
        if instance is None or instance.turns != row.turns:
            return None
        same = (instance.life, instance.number) == (row.life, row.execution)
        at_rest = instance.execution is not None and instance.commit is None and instance.turns > 0
        return instance if same and at_rest else None

    def drop_execution(self, instance: HeldInstance) -> None:
        """Have an instance's code loaded again from its history, when that is needed."""
        if self._parked.get(instance.id) is instance:
            del self._parked[instance.id]
            self._forget(instance)
        else:
            self.evict(instance)

    def _forget(self, instance: HeldInstance) -> None:
        instance.let_go()
        self.evict(instance)

    def evict(self, instance: HeldInstance) -> None:
        """Unwind an instance's code out of memory."""
        execution = instance.take_execution()
        if execution is not None and not execution.evict() and not execution.does_not_wait:
            # Otherwise the report says that it swallows its cancel, and where.
            logger.error(
                "instance %r (%s) could not be unwound: its code at %s catches trio.Cancelled or "
                "BaseException again and again. It is kept in memory; let both pass.",
                instance.id,
                instance.workflow,
                execution.stays_at or "an unknown place",
                extra=of_instance(instance),
            )

    def drop(self, instance: HeldInstance) -> None:
        """Let go of an instance that is held."""
        if self.held.get(instance.id) is instance:
            del self.held[instance.id]
        self._forget(instance)

    def clear(self) -> None:
        """Let go of everything."""
        for instance in (*self.held.values(), *self._parked.values()):
            if instance.start is not None:
                instance.settle_start(created=False)
            self._forget(instance)
        self.held.clear()
        self._parked.clear()
        self.ready.clear()
