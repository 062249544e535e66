"""Stores that an earlier version left in mid-run: this one opens them and finishes what is there.

Neither the copies nor the workflows in them are ever edited (SHA256SUMS). What was running was held
by workers that are long dead, and every deadline is overdue.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import trio

from tests.servers.mariadb import available, is_mysql
from tests.stored.copies import restored
from tests.stored.programs import flows, go, word
from tests.stores import SERVERS, marked, opened
from trioflow import InstanceCancelled, InstanceTerminated, open_client, open_worker

HERE = Path(__file__).parent
QUEUES = ("default", "elsewhere", "very far", "doomed", "far activities", "doomed activities")
BLOCKS = [("blocks", 1)]

# Id: workflow, status, execution, turns of each execution, unread messages, activities.
STORED = {
    "completed": ("retells", "completed", 1, [2], 0, []),
    "failed": ("fails", "failed", 1, [1], 0, []),
    "cancelled": ("sleeps", "cancelled", 1, [2], 0, []),
    "terminated": ("has_a_child", "terminated", 1, [1], 0, []),
    "terminated/child": ("waits", "terminated", 1, [1], 0, []),
    "again": ("waits", "running", 2, [2, 1], 0, []),
    "signal": ("waits", "running", 1, [1], 0, []),
    "signal-unread": ("waits", "running", 1, [1], 1, []),
    "cancel-unread": ("waits_for_years", "running", 1, [1], 1, []),
    "cancel-and-signal-unread": ("waits_for_years", "running", 1, [1], 2, []),
    "timer": ("sleeps", "running", 1, [1], 0, []),
    "activity-free": ("calls", "running", 1, [1], 0, BLOCKS),
    "activity-done-unread": ("calls", "running", 1, [1], 1, []),
    "activity-retrying": ("retries", "running", 1, [1], 0, [("flaky", 2)]),
    "activity-leased": ("calls", "running", 1, [1], 0, BLOCKS),
    "activity-stopped": ("stops_an_activity", "running", 1, [2], 0, BLOCKS),
    "activity-cancelled": ("cleans_up", "running", 1, [2], 0, BLOCKS),
    "activity-abandoned": ("abandons", "running", 1, [2], 0, BLOCKS),
    "child": ("has_a_child", "running", 1, [1], 0, []),
    "child/child": ("waits", "running", 1, [1], 0, []),
    "child-not-begun": ("has_a_child", "running", 1, [1], 0, []),
    "child-not-begun/child": ("waits", "running", 1, [], 0, []),
    "child-done-unread": ("has_a_quick_child", "running", 1, [1], 1, []),
    "child-done-unread/child": ("retells", "completed", 1, [2], 0, []),
    "child-cancelled": ("cancels_a_child", "running", 1, [2], 0, []),
    "child-cancelled/child": ("waits", "running", 1, [], 1, []),
    "carried": ("collects", "running", 2, [5, 1], 0, []),
    "carried-not-begun": ("collects", "running", 2, [5], 0, []),
    "suspended-diverged": ("changed", "suspended", 1, [2], 1, []),
    "suspended-limit": ("grows", "suspended", 1, [50], 1, []),
    "mixed": ("mixed", "running", 1, [2], 0, [("blocks", 1), ("quick", 1)]),
    "mixed/0.3:0": ("waits_for_years", "running", 1, [], 0, []),
    "mixed/0.4:0": ("sleeps", "running", 1, [1], 0, []),
    "not-begun": ("retells", "running", 1, [], 0, []),
    "not-begun-with-signal": ("waits", "running", 1, [], 1, []),
    "not-begun-cancelled": ("waits", "running", 1, [], 1, []),
    "not-begun-metadata": ("retells", "running", 1, [], 0, []),
}

# What is sent to them, so that all of them end.
NUMBERS = {
    "again": 4,
    "signal": 3,
    "child/child": 5,
    "child-not-begun/child": 6,
    "mixed": 1,
    "mixed/0.3:0": 2,
    "activity-abandoned": 9,
}
WORDS = ("carried", "carried-not-begun")
SUSPENDED = ("suspended-diverged", "suspended-limit")

# Their results; of those that were cancelled the reason.
RESULTS = {
    "completed": "done",
    "again": 11,
    "signal": 9,
    "signal-unread": 13,
    "timer": "slept",
    "cancel-and-signal-unread": "went 6",
    "child": 14,
    "child/child": 13,
    "activity-free": "was free",
    "activity-done-unread": "was done",
    "activity-retrying": "tried again",
    "activity-leased": "was leased",
    "activity-stopped": "stopped",
    "activity-abandoned": 9,
    "child-cancelled": "cancelled: True",
    "child-not-begun": 16,
    "child-not-begun/child": 15,
    "child-done-unread": "child: told",
    "child-done-unread/child": "told",
    "carried": [0, 1, 2, 3],
    "suspended-limit": 60,
    "carried-not-begun": [0, 1, 2, 3],
    "suspended-diverged": ["first", "second"],
    "mixed": ["1", "done", "free", "running", "slept", "went 2"],
    "mixed/0.3:0": "went 2",
    "mixed/0.4:0": "slept",
    "not-begun": "began late",
    "not-begun-with-signal": 17,
    "not-begun-metadata": "m",
}
CANCELLED = {
    "cancelled": "not wanted",
    "cancel-unread": "unread",
    "child-cancelled/child": None,
    "activity-cancelled": "while it ran",
    "not-begun-cancelled": "before it began",
}


@pytest.fixture(params=marked(["sqlite", *SERVERS]))
def stored(request, tmp_path, servers, harness):
    """A backend on the copy of a store."""
    if request.param == "mariadb" and available() is None and is_mysql():
        pytest.skip("the copy was made on MariaDB, whose SQL is not MySQL's")

    backend = restored(request.param, tmp_path, servers)
    harness.enter(opened(backend))
    return backend


async def summary(client, id):
    handle = client.handle(id)
    described = await handle.describe()
    history = await handle.history()
    # An execution that has not begun may be left out.
    turns = [len(execution.turns) for execution in history if execution.turns]
    activities = [(each.activity, each.attempt) for each in described.activities]
    return (
        *(described.workflow, described.status, described.execution),
        *(turns, described.unread, activities),
    )


async def test_what_is_stored_is_told_as_it_is(stored):
    async with open_client(stored, registry=flows) as client:
        listed = await client.list(limit=1000)
        assert {each.id: (each.workflow, each.status) for each in listed} == {
            id: (workflow, status) for id, (workflow, status, *_) in STORED.items()
        }
        assert {each.id: await summary(client, each.id) for each in listed} == STORED
        await details(client)


async def details(client):
    """What only some of them have."""
    described = {id: await client.handle(id).describe() for id in STORED}
    assert described["signal"].custom_status == {"waiting for": "go"}
    assert [described[id].priority for id in ("signal", "not-begun", "timer")] == [4, 9, 0]
    assert described["not-begun-metadata"].metadata == {"a": "b"}
    assert described["not-begun-with-signal"].queue == "elsewhere"
    assert described["activity-leased"].input == {
        "text": "was leased",
        "queue": "doomed activities",
    }
    (retried,) = described["activity-retrying"].activities
    assert "the first attempt fails" in str(retried.failure)
    (free,) = (each for each in described["mixed"].activities if each.activity == "quick")
    assert (free.queue, free.priority) == ("elsewhere", -3)
    assert described["mixed"].worker is not None
    assert described["signal"].worker is None
    assert described["timer"].wakes_at > described["timer"].created_at
    parent = described["child/child"].parent
    assert (parent.instance, parent.execution, parent.command) == ("child", 1, "0:0")
    assert described["suspended-diverged"].suspension.kind == "diverged"
    assert described["suspended-limit"].suspension.kind == "history limit"
    assert described["failed"].failure.type == "ValueError"
    assert described["failed"].failure.notes == ("as it was told",)
    assert described["cancelled"].reason == "not wanted"
    assert "by hand" in described["terminated"].failure.message
    assert described["completed"].result == "done"
    assert {each.id for each in await client.list(parent="mixed")} == {
        "mixed/0.3:0",
        "mixed/0.4:0",
    }
    assert await client.count(status="running") == 29


async def test_a_worker_finishes_all_that_is_stored(caplog, stored):
    caplog.set_level("CRITICAL", "trioflow.worker")  # it tells of each dead worker

    async with open_worker(stored, registry=flows, queues=QUEUES, drain=0.0) as worker:
        with trio.move_on_after(40) as scope:
            await finish(worker.client)
        unfinished = await worker.client.list(status=("running", "suspended"))
        assert not scope.cancelled_caught, [(each.id, each.status) for each in unfinished]
        assert unfinished == []


async def finish(client):
    for id in SUSPENDED:
        await client.handle(id).resume()
    for id, number in NUMBERS.items():
        await client.handle(id).signal(go, number)
    for id in WORDS:
        await client.handle(id).signal(word, "on")
        await client.handle(id).signal(word, "and on")
    assert {id: await client.handle(id).result() for id in RESULTS} == RESULTS
    for id, reason in CANCELLED.items():
        with pytest.raises(InstanceCancelled) as raised:
            await client.handle(id).result()
        assert raised.value.reason == reason
    for id in ("terminated", "terminated/child"):
        with pytest.raises(InstanceTerminated, match="by hand"):
            await client.handle(id).result()
    with pytest.raises(ValueError, match="on purpose"):
        await client.handle("failed").result()
    assert {*RESULTS, *CANCELLED, "terminated", "terminated/child", "failed"} == {*STORED}
    assert (await client.handle("activity-cancelled").describe()).custom_status == "clean"
    while await client.stats():  # rows of abandoned activities may go a moment later
        await trio.sleep(0.01)


def test_no_copy_of_a_store_was_changed():
    sums = dict(
        reversed(line.split("  ")) for line in (HERE / "SHA256SUMS").read_text().splitlines()
    )
    found = {
        name: hashlib.sha256((HERE / name).read_bytes()).hexdigest()
        for name in ("mariadb.sql", "postgres.sql", "programs.py", "redis.json", "store.sqlite")
    }
    assert found == sums
