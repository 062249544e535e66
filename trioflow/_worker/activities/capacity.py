"""Count a worker's activities by lane and by instance, and say how many more it may lease.

Three limits hold at once: of each lane, how many may run (`Lane.limit`); of each lane, how many may
be leased ahead of that (`Window`); and of all lanes together, how many may run and be leased.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from trioflow._model.activities import Activity
from trioflow._worker.activities.lanes import Lane, Run
from trioflow._worker.activities.runtimes import RUNTIMES, LaneName

__all__ = ["Capacity"]

_NONE: frozenset[str] = frozenset()
_NEVER = (sys.maxsize, 0)  # the rank of a lane of which none may begin


class Capacity:
    """Counts a worker's activities: those that run, that wait, and that are reserved for a commit.

    Each lane is counted by itself too. So plain functions that block leave room for the others, and
    no more of them are kept from other workers than there are threads.

    Args:
        activities: The functions by name.
        queues: Which queues are served; empty for none.
        limit: How many may run at once, of all lanes together.
        lanes: Where they wait, by the name that `RUNTIMES` gives.
        on_room: Called when there is room again, perhaps often; with whether it is worth a look
            into the store at once.
        on_narrow: Called when a window keeps out what could begin.

    Attributes:
        lanes: Where they wait.
        closed: True once no more are to come.
    """

    def __init__(
        self,
        activities: Mapping[str, Activity[..., Any]],
        queues: Collection[str],
        limit: int,
        lanes: Mapping[LaneName, Lane],
        *,
        on_room: Callable[[bool], None],
        on_narrow: Callable[[], object],
    ) -> None:
        self._activities = activities
        self._queues = frozenset(queues)
        self._limit = limit
        self._on_room = on_room
        self._on_narrow = on_narrow
        self._of_instance: dict[str, int] = {}
        self._by_runtime = {name: lanes[each.lane] for name, each in RUNTIMES.items()}
        self.lanes = tuple(lanes.values())
        self.closed = False

    @property
    def full(self) -> bool:
        """Whether as many run as may."""
        return sum(lane.running for lane in self.lanes) >= self._limit

    @property
    def any_running(self) -> bool:
        """Whether any have a task."""
        return any(lane.running for lane in self.lanes)

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(lane.waiting for lane in self.lanes)

    @property
    def wants(self) -> bool:
        """Whether there is room for what the store may have."""
        return any(lane.window.short and self._room(lane) for lane in self.lanes)

    @property
    def idle(self) -> bool:
        """Whether nothing is leased or reserved, but for what was given up."""
        return not self._of_instance

    def next_run(self) -> tuple[Run, Lane] | None:
        """Return the next activity to begin and its lane, ``None`` if none may begin now.

        No lane may keep another out of a full worker: the lowest rank of all has its turn.
        """
        running = 0
        first: Lane | None = None
        several = False
        for lane in self.lanes:
            running += lane.running
            if lane.waiting:
                several = first is not None
                first = first or lane
        if first is None or running >= self._limit:
            return None
        if several:
            first = min(self.lanes, key=_head)
        run = first.next()
        return None if run is None else (run, first)

    def looks(self, most: int) -> Iterator[tuple[int, frozenset[str]]]:
        """Yield how many to ask the store for, at most, and which names to leave out.

        First for all lanes at once, as many as each of them has room for; then again for those that
        have more room. (The store does not know of lanes: it is told names.) What is given is to be
        accepted before the next. To go on means that it was as many as asked for; if it was less,
        that was all (`saw_all`).
        """
        names = self._names()
        for lane in self.lanes:
            lane.window.short = bool(names[lane]) and not self._room(lane)
        # Without any function too: what comes is then left to others, with a warning.
        asked: list[Lane] = [lane for lane in self.lanes if names[lane]] or list(self.lanes[:1])
        while asked:
            least = min(map(self._room, asked))
            if least:
                yield min(most, least), _NONE.union(*(names[lane] for lane in names.keys() - asked))
                for lane in asked:
                    lane.window.short = bool(names[lane])
                least = min(map(self._room, asked))
            asked = [lane for lane in asked if self._room(lane) > least]
        if any(lane.window.is_narrow for lane in self.lanes):
            self._on_narrow()

    def saw_all(self, left_out: frozenset[str]) -> None:
        """Say that the store has no more but for what was left out."""
        names = self._names() if left_out else {}
        for lane in self.lanes:
            of_lane = names.get(lane)
            if not of_lane or not of_lane <= left_out:
                lane.window.short = False

    def reserve(self, instance: str, name: str, queue: str) -> bool:
        """Reserve room for an activity that a turn calls; False if it is left to others."""
        if self.closed or queue not in self._queues or name not in self._activities:
            return False
        lane = self.lane_of(name)
        if not lane.window.admits or self._room_in_all() <= 0:
            return False
        self.count(instance, lane)
        return True

    def unreserve(self, instance: str, name: str) -> None:
        """Give back the room of an activity that is not stored."""
        if instance in self._of_instance:  # otherwise it was given back before
            self.release(self.lane_of(name))
            self.forget(instance)

    def busy_with(self, instance: str) -> bool:
        """Whether an activity of that instance is leased or reserved."""
        return instance in self._of_instance

    def _room(self, lane: Lane) -> int:
        if self.closed or not self._queues:
            return 0
        return max(0, min(lane.window.room, self._room_in_all()))

    def _room_in_all(self) -> int:
        """Return how many more may be held in all lanes together; below 0 if they are too many."""
        most, held = self._limit, 0
        for lane in self.lanes:
            window = lane.window
            most = max(most, window.size)
            held += window.held
        return most - held

    def count(self, instance: str, lane: Lane) -> None:
        """Note that an activity of an instance is leased or reserved."""
        lane.window.held += 1
        self._of_instance[instance] = self._of_instance.get(instance, 0) + 1

    def release(self, lane: Lane) -> None:
        """Note that a lane has one less."""
        lane.window.held -= 1
        if lane.window.short:
            self.see_room(lane)

    def see_room(self, lane: Lane) -> None:
        """Tell of room in a lane, if the store may have something for it."""
        if lane.window.short and self._room(lane):
            self._on_room(lane.window.is_worth_asking)

    def forget(self, instance: str) -> None:
        """Note that an instance has one less."""
        left = self._of_instance.get(instance, 0) - 1
        if left > 0:
            self._of_instance[instance] = left
        else:
            self._of_instance.pop(instance, None)

    def lane_of(self, name: str) -> Lane:
        """Return where activities of that name wait."""
        return self._by_runtime[self._activities[name].runtime]

    def _names(self) -> dict[Lane, set[str]]:
        """Return the names of the activities of each lane."""
        names: dict[Lane, set[str]] = {lane: set() for lane in self.lanes}
        for name, activity in self._activities.items():
            names[self._by_runtime[activity.runtime]].add(name)
        return names


def _head(lane: Lane) -> tuple[int, int]:
    return lane.head or _NEVER
