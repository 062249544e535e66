"""Executions of the model that begin with a part of another one's history."""

from __future__ import annotations

import msgspec

from trioflow.backends._common.notices import id_taken
from trioflow.backends.commits import NewInstance
from trioflow.backends.records import ENDED, ActivityKey
from trioflow.backends.resets import Beginning, Reset, ResetResult
from trioflow.testing.lockstep.model.rows import Activity, Instance, Mail
from trioflow.testing.lockstep.model.state import State

__all__ = ["fork", "reset"]


def reset(state: State, reset: Reset, now: float) -> ResetResult:
    """See `Backend.reset`."""
    row = state.instances.get(reset.id)
    if row is None:
        return "not found"
    if row.new.life != reset.life:
        return "finished"
    children = [state.instances.get(id) for id in reset.adopted]
    as_seen = (row.execution, row.turns, sorted(row.inbox)) == (
        *(reset.execution, reset.turns),
        sorted(reset.inbox),
    )
    if not as_seen or not all(child is not None and _is_child(child, row) for child in children):
        return "changed"
    attempts = {
        key.command: activity
        for key, activity in state.activities.items()
        if (key.instance, key.execution, key.life) == (row.new.id, row.execution, row.new.life)
    }
    for child in children:
        assert child is not None
        _adopt(child, row.execution + 1, now)
    dropped = [
        child.new.id
        for child in state.instances.values()
        if child not in children and _is_child(child, row)
    ]
    state.turns.setdefault((reset.id, row.execution), []).append(reset.ending)
    state.stop_activities(reset.id)
    state.keep("reset", row, input=b"", metadata=b"", finished_at=now)
    if row.status in ENDED and not reset.keeps_parent:
        row.new = msgspec.structs.replace(row.new, parent=None)
    _renew(row, reset.beginning)
    for id in dropped:
        state.terminate(id, reset.outcome, None, now)
    _begin(state, row, reset.beginning, attempts, now)
    row.ready_at = row.first_ready(now)
    state.now = now
    state.shared.forget([reset.id])
    return "done"


def fork(state: State, new: NewInstance, begin: Beginning, now: float) -> bool:
    """See `Backend.fork`."""
    if not state.create(new, now, reuse=False):
        return False
    row = state.instances[new.id]
    row.turns, row.events, row.carried = len(begin.turns), begin.events, begin.carried or b""
    row.wake_at = begin.wake_at
    _begin(state, row, begin, {}, now)
    return True


def _is_child(row: Instance, parent: Instance) -> bool:
    ref = row.new.parent
    address = (parent.new.id, parent.execution, parent.new.life)
    return (
        row.status not in ENDED
        and ref is not None
        and (ref.instance, ref.execution, ref.life) == address
    )


def _adopt(child: Instance, execution: int, now: float) -> None:
    assert child.new.parent is not None
    parent = msgspec.structs.replace(child.new.parent, execution=execution)
    child.new = msgspec.structs.replace(child.new, parent=parent)
    child.sticky_worker = None
    if child.worker is not None:
        child.give_back()
        if child.status == "running":
            child.ready_at = child.first_ready(now)


def _renew(row: Instance, begin: Beginning) -> None:
    row.status, row.outcome, row.finished_at, row.custom_status = "running", b"", None, b""
    row.execution += 1
    row.turns, row.events = len(begin.turns), begin.events
    if begin.carried is not None:
        row.carried = begin.carried
    row.attributes = begin.attributes
    row.wake_at, row.worker, row.sticky_worker = begin.wake_at, None, None
    row.suspect, row.deaths = False, 0
    row.inbox.clear()


def _begin(
    state: State, row: Instance, begin: Beginning, attempts: dict[str, Activity], now: float
) -> None:
    id = row.new.id
    if begin.turns:
        state.turns[id, row.execution] = list(begin.turns)
    for one in begin.inbox:
        mail = Mail(one.event, row.execution if one.own else None, one.at)
        row.inbox[next(state.numbers)] = mail
    for new in begin.activities:
        old = attempts.get(new.command)
        activity = Activity(msgspec.structs.replace(new, leased=False), now, now, None)
        if old is not None:
            activity.attempt, activity.visible_at = old.attempt, old.visible_at
            activity.scheduled_at = old.scheduled_at
            activity.failure, activity.progress = old.failure, old.progress
        state.activities[ActivityKey(id, row.execution, new.command, row.new.life)] = activity
    for child in begin.children:
        if not state.create(child, now, reuse=True):
            assert child.parent is not None
            state.deliver(id_taken(child.id, child.parent), now)
