"""Leasing work from the store: instances and activities, as many as there is room for."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import anyio

from trioflow._worker.instances.pump import Pump
from trioflow._worker.polling import PollTimer
from trioflow._worker.registration import Registration
from trioflow.backends.abc import Backend
from trioflow.backends.commits import ActivityRetry, Unit
from trioflow.backends.records import ActivityTask, TakenInstance
from trioflow.errors import BackendUnavailable, LeaseLost

__all__ = ["Taker"]

logger = logging.getLogger("trioflow.worker")


_TAKE = 100  # rows asked for at once
_PASSED_OVER = 16  # times that others are taken before a suspect


class Taker:
    """Takes work from the store, and gives it to the pump and to the runner of activities.

    Every look is made with `Pump.store_lock` held: an answer that leases an instance must not cross
    a commit that parks it. After an answer that did not arrive the store is asked to give again
    what it has leased to this worker (`Backend.recall`).

    Args:
        backend: The store.
        queues: The queues of the instances that are taken.
        activity_queues: The queues of the activities that are taken.
        sticky: Seconds for which an instance is left to the worker that has it in its cache.
        registration: The worker's row, which the leases name.
        timer: When to look again.
        pump: What is given the instances; its runner is given the activities.
        look_for_cancels: Asks the store what is to be cancelled here. Called when an id has come
            back in another life while activities of an earlier one run: their rows are marked, but
            this worker has perhaps not heard of it.

    Attributes:
        away: The store could not be reached at the last look.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        queues: Sequence[str],
        activity_queues: Sequence[str],
        sticky: float,
        registration: Registration,
        timer: PollTimer,
        pump: Pump,
        look_for_cancels: Callable[[], Awaitable[None]],
    ) -> None:
        self._backend = backend
        self._queues = queues
        self._activity_queues = activity_queues
        self._sticky = sticky
        self._registration = registration
        self._timer = timer
        self._pump = pump
        self._holdings = pump.holdings
        self._activities = pump.activities
        self._limits = pump.limits
        self._look_for_cancels = look_for_cancels
        self._unknown_activities: set[str] = set()
        self._passed_over = 0
        self.away = False

    async def run(self) -> None:
        """Take work until no more is to be taken."""
        trouble = False
        while not self._holdings.closed:
            seen = self._backend.changes()
            try:
                more = await self._take_once(seen)
            except BackendUnavailable as exc:
                if not trouble:
                    logger.warning("the store is not available, trying again: %s", exc)
                trouble = self._registration.answer_lost = self.away = True
                await anyio.sleep(0.5)
                continue
            except LeaseLost:
                self._registration.lose()
                await anyio.sleep(0.1)
                continue
            trouble = False
            if self._registration.answer_lost:
                await self._recall()
                continue
            if more:
                continue
            await self._timer.wait(seen)

    async def _recall(self) -> None:
        """Have the store give again what was in an answer that did not arrive."""
        async with self._pump.store_lock:
            try:
                await self._backend.recall(self._registration.id, self._pump.in_hand())
            except BackendUnavailable:
                self._registration.answer_lost = True
            else:
                self._registration.answer_lost = False

    async def _take_once(self, seen: int) -> bool:
        """Take what there is room for; return whether there may be more at once.

        Args:
            seen: What ``backend.changes()`` returned before.
        """
        # Nobody tells of a place that becomes free under a limit.
        due = self._timer.begin(self._registration.id, everything=self._limits.any)
        more = False
        if "instances" in due and self._queues:
            async with self._pump.store_lock:
                # Counted now, since a commit that was under way may have made room. If there is
                # none, the look is for what is sent to those that are held.
                room = min(_TAKE, self._holdings.room)
                taken = await self._backend.take_instances(
                    self._registration.id,
                    self._queues,
                    room,
                    exclude=tuple(self._holdings.unknown),
                    sticky=self._sticky,
                    **self._holdings.excluded(),
                )
                if any(map(self._runs_other_life, taken.instances)):
                    await self._look_for_cancels()
                for row in taken.instances:
                    self._pump.intake.receive(row)
            more = bool(room) and len(taken.instances) >= room
            self._timer.look_at(taken.next_at, "instances")
            if taken.suspects and room:
                await self._take_suspect(more=more)
            elif room and not more:
                self._timer.saw_all("instances", seen)
        if self._pump.isolation.suspects:
            return more  # what an activity does is not to be taken for what a suspect does
        if "activities" in due:
            more = await self._take_activities(seen) or more
        return more

    def _runs_other_life(self, row: TakenInstance) -> bool:
        """Whether activities of another life of an instance's id run here.

        They are not cancelled because of the row: it may be of the earlier life, and have come
        late. Only the store knows which life has ended.
        """
        return self._activities.capacity.busy_with(row.id) and any(
            key.instance == row.id and key.life != row.life for key in self._activities.in_hand()
        )

    async def _take_activities(self, seen: int) -> bool:
        capacity = self._activities.capacity
        for room, left_out in capacity.looks(_TAKE):
            # A commit that gives an activity back may be tried again: it must not meet it taken.
            async with self._pump.store_lock:
                taken = await self._backend.take_activities(
                    self._registration.id,
                    self._activity_queues,
                    room,
                    exclude=(*self._unknown_activities, *left_out),
                )
                await self._accept(taken.activities)
            self._timer.look_at(taken.next_at, "activities")
            if taken.limited or taken.limits != self._limits.current.version:
                self._timer.look_at(await self._limits.see(taken), "activities")
            if len(taken.activities) < room:
                capacity.saw_all(left_out)
                if not left_out:
                    self._timer.saw_all("activities", seen)
                break
        return capacity.wants  # perhaps by now also for what was left out

    async def _take_suspect(self, *, more: bool) -> None:
        """Take a suspect if there is nothing else to take, and now and then if there is."""
        self._passed_over += 1
        if self._pump.isolation.suspects or (more and self._passed_over < _PASSED_OVER):
            return
        self._passed_over = 0
        async with self._pump.store_lock:
            taken = await self._backend.take_instances(
                self._registration.id,
                self._queues,
                1,
                exclude=tuple(self._holdings.unknown),
                suspect=True,
                **self._holdings.excluded(),
            )
            for row in taken.instances:
                self._pump.intake.receive(row)
            if not taken.instances:  # for somebody else has it locked
                self._timer.look_at(taken.next_at, "instances")

    async def _accept(self, tasks: Sequence[ActivityTask]) -> None:
        """Run activities that were taken, but give back what is not known here, or has to wait."""
        begin: list[ActivityTask] = []
        unknown: list[ActivityTask] = []
        back: list[ActivityRetry] = []
        now = self._backend.now()
        ending = self._pump.results.under_way() if tasks else ()
        for task in tasks:
            if task.key in ending:
                continue  # freed after an answer was lost; leased again, its result can be stored
            if not self._activities.knows(task.activity):
                unknown.append(task)
                back.append(ActivityRetry(task.key, task.attempt, now, task.failure))
            elif seconds := self._activities.last_attempts.wait(task):
                self._timer.look_at(now + seconds, "activities")
                back.append(ActivityRetry(task.key, task.attempt, now + seconds, task.failure))
            else:
                begin.append(task)
        for name in {task.activity for task in unknown} - self._unknown_activities:
            logger.warning(
                "activity %r is not registered in this worker; it is left in the store. Import "
                "its module here, or run a worker that knows it.",
                name,
            )
            self._unknown_activities.add(name)
        if back:  # before one begins that perhaps ends this process
            await self._backend.commit(self._registration.id, [Unit(retries=back)])
        for task in begin:
            self._activities.accept(task)
