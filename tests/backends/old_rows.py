"""Rows of SQL stores as they were before instances had lives, and what becomes of them."""

from __future__ import annotations

import pytest

from trioflow._model.events import ParentRef
from trioflow.backends.commits import ActivityResult, Unit
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import ActivityKey

__all__ = ["OLD_BYTES", "OLD_ROWS", "old_rows_go_on"]

OLD_ROWS = (
    "INSERT INTO workers (id, name, heartbeat_at) VALUES ('w1', 'w', 1600000000.0)",
    """INSERT INTO instances (id, execution, workflow, queue, status, parent, parent_execution,
        parent_command, turns, events, unread, ready_at, worker, input, metadata, created_at,
        priority)
    VALUES
    ('p', 1, 'flow', 'q', 'running', NULL, NULL, NULL, 1, 4, 1, 1.0, NULL, '[]', '', 1.0, 5),
    ('c', 2, 'flow', 'q', 'running', 'p', 1, '0:1', 0, 0, 0, 2.0, NULL, '[]', '', 1.0, 0),
    ('u', 1, 'flow', 'q', 'running', 'p', 1, '0:2', 0, 0, 0, 3.0, NULL, '[]', '', 1.0, -7)""",
    "INSERT INTO turns (instance, execution, number, data) VALUES ('p', 1, 0, 'turn')",
    "INSERT INTO inbox (instance, seq, execution, event) VALUES ('p', 1, NULL, 'event')",
    """INSERT INTO activities (instance, execution, command, queue, activity, input, options,
        attempt, visible_at, scheduled_at, worker, cancel, failure, priority)
    VALUES
    ('p', 1, '0:3', 'q', 'act', '[3]', 'options', 2, 1.0, 1.0, NULL, NULL, 'failure', 9),
    ('p', 1, '0:4', 'q', 'act', '[4]', '', 1, 1.0, 1.0, 'w1', 'cancelled', '', 0)""",
)
OLD_BYTES = (
    *(("instances", "input"), ("instances", "metadata")),
    *(("turns", "data"), ("inbox", "event"), ("activities", "input"), ("activities", "options")),
    *(("activities", "cancel"), ("activities", "failure")),
)
"""Columns that hold bytes, for a store that does not know it by itself."""


async def old_rows_go_on(backend):
    """Demand of a store that has just been brought up to date that all goes on."""
    (stats,) = await backend.stats()
    # Nobody knows what it serves, so nothing is said to be served by nobody.
    assert (stats.queue, stats.workers, stats.activity_workers) == ("q", 1, 1)
    assert await backend.reclaim(60.0) == ["w1"]
    (stats,) = await backend.stats()
    assert (stats.workers, stats.activity_workers) == (0, 0)
    await backend.register_worker("w2", "w")
    parent, child, unborn = (await backend.take_instances("w2", ("q",), 9)).instances
    assert [one.id for one in (parent, child, unborn)] == ["p", "c", "u"]
    assert [one.event for one in parent.inbox] == [b"event", b"cancelled"]
    assert parent.inbox[0].at == 0.0
    assert parent.inbox[1].at == pytest.approx(backend.now(), abs=60)
    assert (child.parent, child.life) == (ParentRef("p", 1, "0:1"), "")
    (task,) = (await backend.take_activities("w2", ("q",), 9)).activities
    assert task.key == ActivityKey("p", 1, "0:3", "")
    assert (task.input, task.options, task.attempt) == (b"[3]", b"options", 2)
    assert (task.failure, task.priority) == (b"failure", 9)
    await backend.release_instances("w2", ["c", "u"])
    for id in ("c", "u"):
        assert await backend.cancel(id, b"cancel", b"{}") == "done"
    records = {record.id: record for record in await backend.list(InstanceFilter(), limit=9)}
    # Nobody knows any more whether the execution that came second was the first of its life.
    assert (records["c"].status, records["c"].unread) == ("running", 1)
    assert (records["u"].status, records["u"].unread) == ("cancelled", 0)
    assert records["p"].unread == 3
    result = ActivityResult(task.key, b"result")
    assert await backend.commit("w2", [Unit(results=[result])]) == [None]
    assert await backend.load([("p", 1)]) == [[b"turn"]]
