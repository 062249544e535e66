"""The open batch: what goes into the next commit, in units that are stored whole or not at all.

A turn of one instance may depend on one of another that is not stored yet: a child's first turn on
the turn that starts it, a parent's turn on its child's end (a `Delivery`). Their units are then
merged into one. What belongs to no instance that is held here, such as a result for another
worker's, is a unit of its own.

An instance has one `InstanceCommit` in the open batch at most, however many turns it makes until
the batch is sealed, and so it is in one unit. While a batch is being stored, the next one is open.
"""

from __future__ import annotations

from collections.abc import Sequence

from trioflow._model.events import Event
from trioflow._worker.instances.held import HeldInstance
from trioflow.backends.commits import (
    ActivityProgress,
    ActivityResult,
    ActivityRetry,
    InstanceCommit,
    KeptSlot,
    Message,
    Unit,
)
from trioflow.backends.records import ActivityKey

__all__ = ["Batch", "Delivery", "OpenUnit", "Received"]


class Received:
    """An event that waits to be consumed by a turn, and where it comes from.

    Attributes:
        at: When it happened, by the store's clock; 0 where that is not known.
        seq: Its row in the inbox, or ``None``.
        finished: The command whose activity row goes with it (a local result), or ``None``.
        delivery: Set if it is a child's end that is not stored yet: parent and child then commit
            together.
    """

    __slots__ = ("at", "delivery", "event", "finished", "seq")

    def __init__(
        self,
        event: Event,
        at: float,
        *,
        seq: int | None = None,
        finished: str | None = None,
        delivery: Delivery | None = None,
    ) -> None:
        self.event = event
        self.at = at
        self.seq = seq
        self.finished = finished
        self.delivery = delivery


class Delivery:
    """A child's end on its way to a parent that is at hand, not stored yet."""

    __slots__ = ("child", "consumed", "message", "parent")

    def __init__(self, child: HeldInstance, parent: HeldInstance, message: Message) -> None:
        self.child = child
        self.parent = parent
        self.message = message
        self.consumed = False


class OpenUnit:
    """Instances whose turns depend on each other within the open batch: they commit together.

    Attributes:
        members: Those that are held here.
        elsewhere: Children whose beginning is left to whoever takes them.
        deliveries: Ends of members on their way to parents that are held here.
        rejections: How often the store rejected what this unit stands for, before.
        unit: For the store; it has the members' commits once the batch is sealed.
    """

    __slots__ = ("deliveries", "elsewhere", "members", "rejections", "unit")

    def __init__(
        self,
        results: Sequence[ActivityResult] = (),
        retries: Sequence[ActivityRetry] = (),
        rejections: int = 0,
    ) -> None:
        self.members: list[HeldInstance] = []
        self.elsewhere: list[InstanceCommit] = []
        self.deliveries: list[Delivery] = []
        self.rejections = rejections
        self.unit = Unit(instances=[], results=[*results], retries=[*retries])

    def absorb(self, other: OpenUnit) -> None:
        """Take over all of another unit."""
        for instance in other.members:
            instance.move_to(self)
        self.members += other.members
        self.elsewhere += other.elsewhere
        self.deliveries += other.deliveries
        other.members, other.elsewhere, other.deliveries = [], [], []


class Batch:
    """What goes into the next commit."""

    __slots__ = ("_freed", "_kept", "_progress", "size", "units")

    def __init__(self) -> None:
        self.units: list[OpenUnit] = []
        self.size = 0
        self._progress: dict[ActivityKey, bytes] = {}
        self._kept: list[KeptSlot] = []
        self._freed: list[str] = []

    def unit_of(self, instance: HeldInstance) -> OpenUnit:
        """Return the unit with an instance's commit; begin both if there are none yet."""
        if instance.unit is None:
            unit = OpenUnit()
            self.units.append(unit)
            commit = InstanceCommit(
                id=instance.id,
                execution=instance.number,
                number=instance.turns,
                events=instance.events,
                new=instance.new,
                life=instance.life,
            )
            instance.join(unit, commit)
        return instance.unit  # type: ignore[return-value]  # set by join

    def commit_of(self, instance: HeldInstance) -> InstanceCommit:
        """Return an instance's commit in this batch; begin one if there is none yet."""
        self.unit_of(instance)
        assert instance.commit is not None
        return instance.commit

    def add(self, unit: OpenUnit) -> None:
        """Add a unit that comes from no turn, such as an activity's result."""
        self.units.append(unit)
        self.size += 1

    def note_progress(self, key: ActivityKey, progress: bytes) -> None:
        """Store how far an activity is; what was noted before is out of date."""
        if not self._progress:
            self.add(OpenUnit())  # which only makes the batch one to be stored
        self._progress[key] = progress

    def keep_slot(self, slot: KeptSlot) -> None:
        """Keep a place under limits."""
        self.add(OpenUnit())  # which only makes the batch one to be stored
        self._kept.append(slot)

    def free_slot(self, slot: str) -> None:
        """Give back a place that was kept."""
        self.add(OpenUnit())
        self._freed.append(slot)

    def merge(self, one: OpenUnit, other: OpenUnit) -> OpenUnit:
        """Make two units one, the smaller into the larger."""
        if one is other:
            return one
        if len(one.members) < len(other.members):
            one, other = other, one
        one.absorb(other)
        return one

    def seal(self) -> list[OpenUnit]:
        """Finish the batch, and open the next: what a parent has not consumed goes to its inbox."""
        sealed = [
            unit for unit in self.units if unit.members or unit.unit.results or unit.unit.retries
        ]
        if self._progress:
            noted = OpenUnit()
            noted.unit.progress = [ActivityProgress(*each) for each in self._progress.items()]
            sealed.append(noted)
        if self._kept or self._freed:
            places = OpenUnit()
            places.unit.kept, places.unit.freed = self._kept, self._freed
            sealed.insert(0, places)
        for unit in sealed:
            for delivery in unit.deliveries:
                if not delivery.consumed:
                    delivery.parent.withdraw(delivery)
                    assert delivery.child.commit is not None
                    delivery.child.commit.messages.append(delivery.message)
            for instance in unit.members:
                assert instance.commit is not None
                unit.unit.instances.append(instance.commit)
            unit.unit.instances += unit.elsewhere
        self.clear()
        return sealed

    def clear(self) -> None:
        """Open an empty one."""
        self.units = []
        self.size = 0
        self._progress = {}
        self._kept, self._freed = [], []
