"""The batch that is being built: units of instances whose turns depend on each other."""

from __future__ import annotations

from collections import deque

from trioflow._worker.instances.held import Delivery, HeldInstance
from trioflow.backends.records import InstanceCommit, Unit

__all__ = ["Batch", "OpenUnit"]


class OpenUnit:
    """Instances whose turns depend on each other within the open batch: they commit together."""

    __slots__ = ("deliveries", "elsewhere", "members", "rejections", "unit")

    def __init__(self) -> None:
        self.members: list[HeldInstance] = []
        self.elsewhere: list[InstanceCommit] = []  # children that this worker does not begin itself
        self.deliveries: list[Delivery] = []
        self.rejections = 0  # of what it says, before it stood in this unit
        self.unit = Unit(instances=[])

    def add(self, instance: HeldInstance, commit: InstanceCommit) -> None:
        """Say something of one more instance."""
        instance.unit = self
        instance.commit = commit
        self.members.append(instance)

    def absorb(self, other: OpenUnit) -> None:
        """Take over all of another unit."""
        for instance in other.members:
            instance.unit = self
        self.members += other.members
        self.elsewhere += other.elsewhere
        self.deliveries += other.deliveries
        other.members, other.elsewhere, other.deliveries = [], [], []


class Batch:
    """What goes into the next commit."""

    __slots__ = ("size", "units")

    def __init__(self) -> None:
        self.units: list[OpenUnit] = []
        self.size = 0

    def unit_of(self, instance: HeldInstance) -> OpenUnit:
        """Return the unit that speaks of an instance, a new one if none does yet."""
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
            unit.add(instance, commit)
        return instance.unit  # type: ignore[return-value]  # set by add

    def add(self, unit: OpenUnit) -> None:
        """Take in a unit that speaks of no instance, such as an activity's result."""
        self.units.append(unit)
        self.size += 1

    def merge(self, one: OpenUnit, other: OpenUnit) -> OpenUnit:
        """Make two units one, the smaller into the larger."""
        if one is other:
            return one
        if len(one.members) < len(other.members):
            one, other = other, one
        one.absorb(other)
        return one

    def seal(self) -> list[OpenUnit]:
        """Finish the batch: what a parent has not consumed goes into its inbox."""
        sealed = [
            unit for unit in self.units if unit.members or unit.unit.results or unit.unit.retries
        ]
        for unit in sealed:
            for delivery in unit.deliveries:
                if not delivery.consumed:
                    parent = delivery.parent
                    parent.received = deque(
                        r for r in parent.received if r.delivery is not delivery
                    )
                    assert delivery.child.commit is not None
                    delivery.child.commit.messages.append(delivery.message)
            for instance in unit.members:
                assert instance.commit is not None
                unit.unit.instances.append(instance.commit)
            unit.unit.instances += unit.elsewhere
        self.clear()
        return sealed

    def clear(self) -> None:
        """Forget what it says."""
        self.units = []
        self.size = 0
