"""Resets in a simulation: planned as a client does it, and carried out on what is simulated."""

from __future__ import annotations

import msgspec

from trioflow._client.resetting import Plan
from trioflow._model import events as ev
from trioflow._model.commands import RunActivity, StartChild
from trioflow._model.randomness import RandomSource
from trioflow._model.turns import Cancelled, Completed, Failed, decode_turn
from trioflow.backends.records import InstanceRecord, Status, StoredMessage
from trioflow.testing.simulation.instances import SimulatedInstance
from trioflow.testing.simulation.world import World

__all__ = ["places_of", "reset"]

_STATUS: dict[type, Status] = {
    Completed: "completed",
    Failed: "failed",
    Cancelled: "cancelled",
}
_NO_CHANCE = RandomSource(bytes)  # simulated instances make their lives of their ids


def places_of(instance: SimulatedInstance) -> list[int]:
    """Return before which turns an instance may be reset: its last one, and the first."""
    return sorted({0, len(instance.turns) - 1}) if instance.turns else []


def reset(world: World, instance: SimulatedInstance, turn: int) -> None:
    """Let an instance go on from before a turn."""
    before = instance.number
    planned = _Planned(instance, turn, world.instances, world.now)
    planned.begin()
    kept = {command.id: command for command in planned.activities}
    for call in [call for call in world.open if call.instance is instance]:
        if kept.pop(call.command.id, None) is None:
            world.open.remove(call)
        else:
            call.execution, call.cancelled = instance.number, False
    for command in kept.values():
        world.carry_out(instance, command)
        world.open[-1].called_in = before
    for child in planned.adopted:
        assert child.parent is not None
        child.parent = msgspec.structs.replace(child.parent, execution=instance.number)
    for child in world.living:
        parent = child.parent
        if parent is not None and (parent.instance, parent.execution) == (instance.id, before):
            world.terminate(child)
    for start in planned.children:
        world.carry_out(instance, start)


class _Planned:
    """What becomes of an instance that goes on from before a turn.

    Args:
        instance: The instance.
        keep: The number of turns that are kept.
        others: All instances by their ids.
        now: The time.

    Attributes:
        activities: The activities and faked sub-workflows that are under way then.
        adopted: The sub-workflows that go on.
        children: The sub-workflows that begin anew.
    """

    def __init__(
        self,
        instance: SimulatedInstance,
        keep: int,
        others: dict[str, SimulatedInstance],
        now: float,
    ) -> None:
        self._instance = instance
        turns = [decode_turn(data) for data in instance.turns]
        inbox = [
            StoredMessage(number, ev.encode_event(event), at)
            for number, (at, event) in enumerate(instance.inbox)
        ]
        plan = Plan(_record(instance, now), instance.turns, turns, keep, inbox)
        wanted = [others[id] for id in plan.open_children() if id in others]
        plan.reset({each.id: _record(each, now) for each in wanted}, _NO_CHANCE)
        self._beginning = plan.beginning
        given = {command.id: command for turn in turns[:keep] for command in turn.commands}
        running = {new.command for new in plan.beginning.activities}
        begun = {new.parent.command for new in plan.beginning.children if new.parent is not None}
        faked = {
            id
            for id in begun
            if isinstance(command := given[id], StartChild) and command.instance not in others
        }
        self.activities = [
            command
            for id, command in given.items()
            if id in running | faked and isinstance(command, RunActivity | StartChild)
        ]
        self.adopted = [others[id] for id in plan.adopted]
        self.children = [
            command
            for id, command in given.items()
            if id in begun - faked and isinstance(command, StartChild)
        ]

    def begin(self) -> None:
        """Let the next execution begin."""
        begin = self._beginning
        inbox = [(one.at, ev.decode_event(one.event)) for one in begin.inbox]
        carried = ev.decode_messages(begin.carried) if begin.carried else []
        self._instance.begin_again(begin.turns, inbox, carried)


def _record(instance: SimulatedInstance, now: float) -> InstanceRecord:
    ended = instance.outcome is not None
    status: Status = "running" if instance.outcome is None else _STATUS[type(instance.outcome)]
    return InstanceRecord(
        id=instance.id,
        execution=instance.number,
        workflow=instance.workflow.name,
        queue="default",
        status="terminated" if instance.terminated else status,
        parent=instance.parent,
        turns=len(instance.turns),
        events=0,
        unread=len(instance.inbox),
        ready_at=None,
        worker=None,
        input=b"",
        metadata=b"",
        outcome=msgspec.json.encode(instance.outcome) if ended else b"",
        custom_status=b"",
        created_at=now,
        finished_at=now if ended else None,
        life=instance.life,
    )
