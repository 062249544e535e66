"""How many activities a worker may have in hand, and for which of them it has room."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from trioflow._model.definitions import Activity
from trioflow._worker.activities.lanes import Lane, Run, ThreadLane

__all__ = ["Capacity"]

_NONE: frozenset[str] = frozenset()


class Capacity:
    """Counts the activities of a worker: those that run, that wait, and that are about to come.

    Plain functions, which need threads, are counted by themselves too. So those that block leave
    room for the others, and no more of them are kept from other workers than there are threads.

    Args:
        activities: The functions by name.
        queues: Which queues are served; empty for none.
        limit: How many may run at once.
        threads: How many of them may be plain functions.
        on_room: Called when there is room again, perhaps often; with whether it is worth a look
            into the store at once.

    Attributes:
        lane: Those that run in the loop.
        thread_lane: Plain functions.
        closed: True once no more are to come.
    """

    def __init__(
        self,
        activities: Mapping[str, Activity[..., Any]],
        queues: Collection[str],
        limit: int,
        threads: int,
        on_room: Callable[[bool], None],
    ) -> None:
        self._activities = activities
        self._queues = frozenset(queues)
        self._limit = limit
        self._on_room = on_room
        self._of_instance: dict[str, int] = {}
        self.lane, self.thread_lane = Lane(limit), ThreadLane(min(limit, threads))
        self.lanes: tuple[Lane, Lane] = (self.lane, self.thread_lane)
        self.closed = False

    @property
    def full(self) -> bool:
        """Whether as many run as may."""
        return self.lane.running + self.thread_lane.running >= self._limit

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return self.lane.waiting + self.thread_lane.waiting

    @property
    def wants(self) -> bool:
        """Whether there is room for what the store may have."""
        return any(lane.window.short and self._room(lane) for lane in self.lanes)

    @property
    def idle(self) -> bool:
        """Whether nothing is in hand, and nothing about to come; what was given up apart."""
        return not self._of_instance

    def next_run(self) -> tuple[Run, Lane] | None:
        """Return one that is to get a task now, of the lane whose turn it is.

        Neither lane may keep the other out of a full worker.
        """
        lane: Lane = self.lane
        if lane.running + self.thread_lane.running >= self._limit:
            return None
        if self.thread_lane.waiting:
            one, other = lane.head, self.thread_lane.head
            if other and (one is None or other < one):
                lane = self.thread_lane
        run = lane.next()
        return None if run is None else (run, lane)

    def looks(self, most: int) -> Iterator[tuple[int, frozenset[str]]]:
        """Yield how many to ask the store for, at most, and which names to leave out.

        What is given is to be accepted before the next. To go on means that it was as many as asked
        for; if it was less, that was all (`saw_all`).
        """
        plain, others = self._names(plain=True), self._names(plain=False)
        for lane, names in zip(self.lanes, (others, plain), strict=True):
            lane.window.short = bool(names) and not self._room(lane)
        room, thread_room = self._room(self.lane), self._room(self.thread_lane)
        if not plain or not others:
            lane = self.lane if others else self.thread_lane
            if most := min(most, room if others else thread_room):
                yield most, _NONE
                lane.window.short = bool(plain or others)
            return
        if room and thread_room:
            yield min(most, room, thread_room), _NONE
            self.lane.window.short = self.thread_lane.window.short = True
            room, thread_room = self._room(self.lane), self._room(self.thread_lane)
        if room > thread_room:
            yield min(most, room), plain
            self.lane.window.short = True
        elif thread_room > room:
            yield min(most, thread_room), others
            self.thread_lane.window.short = True

    def saw_all(self, left_out: frozenset[str]) -> None:
        """Say that the store has no more but for what was left out."""
        for lane, plain in zip(self.lanes, (False, True), strict=True):
            if not left_out or self._names(plain=plain) != left_out:
                lane.window.short = False

    def reserve(self, instance: str, name: str, queue: str) -> bool:
        """Make room for an activity that is about to be stored; False if it is for others."""
        if self.closed or queue not in self._queues or name not in self._activities:
            return False
        lane = self.lane_of(name)
        one, other = self.lane.window, self.thread_lane.window
        most = max(self._limit, one.size, other.size)
        if not lane.window.admits or one.held + other.held >= most:
            return False
        self.count(instance, lane)
        return True

    def unreserve(self, instance: str, name: str) -> None:
        """Give back the room of an activity that does not come."""
        if instance in self._of_instance:  # otherwise it was given back before
            self.release(self.lane_of(name))
            self.forget(instance)

    def busy_with(self, instance: str) -> bool:
        """Whether an activity of that instance is in hand, or about to be."""
        return instance in self._of_instance

    def _room(self, lane: Lane) -> int:
        if self.closed or not self._queues:
            return 0
        one, other = self.lane.window, self.thread_lane.window
        most = max(self._limit, one.size, other.size)
        return max(0, min(lane.window.room, most - one.held - other.held))

    def count(self, instance: str, lane: Lane) -> None:
        """Note that an activity of an instance is held, or about to be."""
        lane.window.held += 1
        self._of_instance[instance] = self._of_instance.get(instance, 0) + 1

    def release(self, lane: Lane) -> None:
        """Note that one of a lane is no longer held."""
        lane.window.held -= 1
        if lane.window.short:
            self.see_room(lane)

    def see_room(self, lane: Lane) -> None:
        """Tell of room in a lane, if the store may have something for it."""
        if lane.window.short and self._room(lane):
            self._on_room(lane.window.is_worth_asking)

    def forget(self, instance: str) -> None:
        """Note that an instance has one activity less in hand."""
        left = self._of_instance.get(instance, 0) - 1
        if left > 0:
            self._of_instance[instance] = left
        else:
            self._of_instance.pop(instance, None)

    def lane_of(self, name: str) -> Lane:
        """Return where activities of that name wait."""
        plain = self._activities[name].runtime == "thread"
        return self.thread_lane if plain else self.lane

    def _names(self, *, plain: bool) -> frozenset[str]:
        return frozenset(
            name
            for name, activity in self._activities.items()
            if (activity.runtime == "thread") is plain
        )
