"""The batch that is being built: units of instances whose turns depend on each other."""

from __future__ import annotations

from collections import deque

from trioflow._worker.instances.held import Delivery, HeldInstance
from trioflow.backends.records import InstanceCommit, Unit

__all__ = ["Batch", "OpenUnit"]


class OpenUnit:
    """Instances whose turns depend on each other within the open batch: they commit together."""

    __slots__ = ("deliveries", "elsewhere", "lives", "rejections", "unit")

    def __init__(self) -> None:
        self.lives: list[HeldInstance] = []
        self.elsewhere: list[InstanceCommit] = []  # children that this worker does not begin itself
        self.deliveries: list[Delivery] = []
        self.rejections = 0  # of what it says, before it stood in this unit
        self.unit = Unit(instances=[])

    def add(self, live: HeldInstance, commit: InstanceCommit) -> None:
        """Say something of one more instance."""
        live.unit = self
        live.commit = commit
        self.lives.append(live)

    def absorb(self, other: OpenUnit) -> None:
        """Take over all of another unit."""
        for live in other.lives:
            live.unit = self
        self.lives += other.lives
        self.elsewhere += other.elsewhere
        self.deliveries += other.deliveries
        other.lives, other.elsewhere, other.deliveries = [], [], []


class Batch:
    """What goes into the next commit."""

    __slots__ = ("size", "units")

    def __init__(self) -> None:
        self.units: list[OpenUnit] = []
        self.size = 0

    def unit_of(self, live: HeldInstance) -> OpenUnit:
        """Return the unit that speaks of an instance, a new one if none does yet."""
        if live.unit is None:
            unit = OpenUnit()
            self.units.append(unit)
            commit = InstanceCommit(
                id=live.id,
                execution=live.number,
                number=live.turns,
                events=live.events,
                new=live.new,
                life=live.life,
            )
            unit.add(live, commit)
        return live.unit  # type: ignore[return-value]  # set by add

    def add(self, unit: OpenUnit) -> None:
        """Take in a unit that speaks of no instance, such as an activity's result."""
        self.units.append(unit)
        self.size += 1

    def merge(self, one: OpenUnit, other: OpenUnit) -> OpenUnit:
        """Make two units one, the smaller into the larger."""
        if one is other:
            return one
        if len(one.lives) < len(other.lives):
            one, other = other, one
        one.absorb(other)
        return one

    def seal(self) -> list[OpenUnit]:
        """Finish the batch: what a parent has not consumed goes into its inbox."""
        sealed = [
            unit for unit in self.units if unit.lives or unit.unit.results or unit.unit.retries
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
            for live in unit.lives:
                assert live.commit is not None
                unit.unit.instances.append(live.commit)
            unit.unit.instances += unit.elsewhere
        self.clear()
        return sealed

    def clear(self) -> None:
        """Forget what it says."""
        self.units = []
        self.size = 0
