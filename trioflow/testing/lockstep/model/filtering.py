"""Which instances a filter means, and which are in trouble."""

from __future__ import annotations

from typing import assert_never

from trioflow._model.attributes import index_rows
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import ActivityKey
from trioflow.testing.lockstep.model.rows import Activity, Instance
from trioflow.testing.lockstep.model.state import State

__all__ = ["meant", "own_activities"]


def meant(state: State, row: Instance, where: InstanceFilter, now: float) -> bool:
    """Return whether an instance is meant by a filter."""
    new, ended = row.new, row.finished_at
    parent = "" if new.parent is None else new.parent.instance
    return (
        (not where.status or row.status in where.status)
        and where.workflow in (None, new.workflow)
        and where.queue in (None, new.queue)
        and where.parent in (None, parent)
        and new.id.startswith(where.id_prefix or "")
        and (where.created_before is None or row.created_at < where.created_before)
        and (where.created_after is None or row.created_at > where.created_after)
        and (where.finished_before is None or (ended is not None and ended < where.finished_before))
        and (where.finished_after is None or (ended is not None and ended > where.finished_after))
        and all(one.holds(index_rows(row.attributes)) for one in where.attributes)
        and (where.trouble is None or _in_trouble(state, row, where, now))
    )


def own_activities(state: State, row: Instance) -> dict[ActivityKey, Activity]:
    """Return the activities of an instance's present execution."""
    found = state.activities.items()
    return {key: one for key, one in found if row.key(key.command) == key}


def _in_trouble(state: State, row: Instance, where: InstanceFilter, now: float) -> bool:
    if where.trouble == "suspended" or row.status != "running":
        return row.status == where.trouble
    activities = own_activities(state, row).values()
    since = now - where.trouble_after
    match where.trouble:
        case "retrying":
            return any(one.attempt > 1 for one in activities)
        case "unserved":
            living = [one for one in state.workers.values() if one.alive(now)]
            queues = {queue for one in living for queue in one.queues}
            tasks = {queue for one in living for queue in one.activity_queues}
            return (_waits_since(row, now) and row.new.queue not in queues) or any(
                _is_free(one, now) and one.new.queue not in tasks for one in activities
            )
        case "overdue":
            return _waits_since(row, since) or any(_is_free(one, since) for one in activities)
        case "held":
            return (
                _lost(state, row.worker, now)
                or any(_lost(state, one.worker, now) for one in activities)
                or _stuck(row, since)
            )
        case None:
            return True
        case _:
            assert_never(where.trouble)


def _waits_since(row: Instance, at: float) -> bool:
    return row.worker is None and row.ready(at)


def _is_free(one: Activity, at: float) -> bool:
    return one.worker is None and one.visible_at <= at


def _lost(state: State, worker: str | None, now: float) -> bool:
    holder = None if worker is None else state.workers.get(worker)
    return worker is not None and (holder is None or not holder.alive(now))


def _stuck(row: Instance, since: float) -> bool:
    seen_at = row.created_at if row.held_at is None else row.held_at
    woken = row.wake_at is not None and row.wake_at <= since
    taken = bool(row.inbox) and row.ready_at is None  # what came later makes it ready
    has_work = taken or row.turns == 0 or woken or row.ready(since)
    return row.worker is not None and seen_at <= since and has_work
