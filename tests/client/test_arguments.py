"""What is given to a client is checked: a mistake does not read as "there are none"."""

from __future__ import annotations

import math
from contextlib import aclosing
from datetime import UTC, date, datetime

import pytest

from trioflow import ArgumentError, Registry, Signal, open_client
from trioflow._client.client import Client
from trioflow._codec.values import JsonCodec
from trioflow.backends.memory import MemoryBackend

number = Signal("number", int)
flows = Registry()
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@flows.workflow
async def work(n: int) -> int:
    return n


def client():
    return Client(MemoryBackend(), codec=JsonCodec(), registry=flows)


ASKING = {
    "list": lambda **where: client().list(**where),
    "count": lambda **where: client().count(**where),
    "remove": lambda **where: client().remove(**{"finished_before": 1.0, **where}),
}
OF_ALL = [
    ({"status": "failled"}, ValueError, r"status.*'failled'.*'running', .*did you mean 'failed'"),
    ({"status": ("running", "done")}, ValueError, "status.*'done'"),
    ({"status": "xyz"}, ValueError, "status.*'xyz', only 'running', .*'suspended'$"),
    ({"status": None}, TypeError, "status: one of 'running', .*not None"),
    ({"status": 3}, TypeError, "status.*not 3"),
    ({"status": [None]}, TypeError, "status.*not None"),
    ({"workflow": 3}, TypeError, "workflow.*not 3"),
    ({"workflow": work.fn}, TypeError, "workflow.*function"),
    ({"queue": 3}, TypeError, "queue is a string, not 3"),
    ({"queue": "\ud800"}, ArgumentError, "queue.*surrogate"),
    ({"id_prefix": b"x"}, TypeError, "id_prefix.*b'x'"),
]
OF_SOME = [
    ("list count", {"parent": 3}, TypeError, "parent.*not 3"),
    ("list count", {"created_after": "yesterday"}, TypeError, "created_after.*epoch.*'yesterday'"),
    ("list count", {"created_before": NOON}, TypeError, r"created_before\.timestamp\(\)"),
    ("list count", {"created_before": date(2026, 1, 2)}, TypeError, r"combine\(created_before"),
    ("list count", {"created_after": True}, TypeError, "created_after.*True"),
    ("list count", {"created_after": math.nan}, ValueError, "created_after: nan"),
    ("list count", {"finished_after": "now"}, TypeError, "finished_after.*epoch.*'now'"),
    (
        "list count",
        {"trouble": "overdu"},
        ValueError,
        r"trouble: there is no 'overdu', only 'retrying', .*'held'; did you mean 'overdue'\?",
    ),
    ("list count", {"trouble": 3}, TypeError, "trouble: one of 'retrying', .*not 3"),
    ("list count", {"trouble_after": -1}, ValueError, "trouble_after"),
    ("list count", {"trouble_after": "1m"}, TypeError, "trouble_after"),
    ("count", {"at_most": -1}, ValueError, "at_most is at least 0, not -1"),
    ("count", {"at_most": 5, "group_by": "status"}, ValueError, "at_most: groups are counted"),
    ("remove", {"status": "running"}, ValueError, "only finished .*'terminated'.*not 'running'"),
    ("remove", {"status": ("failed", "suspended")}, ValueError, "not 'suspended'"),
    ("list remove", {"limit": -1}, ValueError, "limit is at least 0, not -1"),
    ("list remove", {"limit": 2.0}, TypeError, r"limit is a whole number, not 2\.0"),
    ("list remove", {"limit": "5"}, TypeError, "limit.*'5'"),
    ("list remove", {"limit": True}, TypeError, "limit.*True"),
    ("list remove", {"limit": None}, TypeError, "limit.*None"),
    ("list", {"after": 3}, TypeError, "after.*3"),
    ("list", {"after": ""}, ValueError, "after.*not empty"),
    ("remove", {"finished_before": NOON}, TypeError, r"finished_before\.timestamp\(\)"),
    ("remove", {"finished_before": None}, TypeError, "finished_before.*None"),
    ("remove", {"finished_before": "1"}, TypeError, "finished_before.*'1'"),
]
CASES = [(name, *case) for name in ASKING for case in OF_ALL] + [
    (name, *case) for names, *case in OF_SOME for name in names.split()
]


@pytest.mark.parametrize(("name", "where", "error", "says"), CASES)
async def test_a_wrong_filter_is_refused(name, where, error, says):
    with pytest.raises(error, match=says):
        await ASKING[name](**where)


async def test_what_is_right_is_taken(cached):
    async with cached.client(flows) as client:
        await client.start(work.options(id="x"), 1)
        for where in (
            *({"status": "running"}, {"status": ("running",)}, {"status": {"running"}}),
            *({"workflow": work}, {"workflow": "work"}, {"queue": "default"}),
            *({"created_after": -math.inf}, {"created_before": math.inf}),
            *({"created_after": NOON.timestamp()}, {"created_after": 0}),
            *({"limit": 1}, {"id_prefix": ""}, {"parent": ""}, {"status": ()}),
        ):
            assert [d.id for d in await client.list(**where)] == ["x"], where
        assert await client.list(limit=0) == []
        assert await client.remove(finished_before=math.inf) == 0
        await client.handle("x").terminate()
        assert await client.remove(finished_before=-math.inf) == 0
        assert await client.remove(finished_before=math.inf) == 1


async def test_a_handle_is_asked_for_properly():
    async with (
        aclosing(MemoryBackend()) as backend,
        open_client(backend, registry=flows) as client,
    ):
        for call, error, says in (
            (lambda: client.handle(3), TypeError, "id is a string, not 3"),
            (lambda: client.handle(""), ValueError, "id.*empty"),
            (lambda: client.handle("x", "work"), ArgumentError, "'work' is not a workflow"),
            (lambda: client.handle("x", work.fn), ArgumentError, "is not a workflow"),
        ):
            with pytest.raises(error, match=says):
                call()
        handle = await client.start(work, 1)
        for call, error, says in (
            (lambda: handle.cancel(3), TypeError, "reason.*not 3"),
            (lambda: handle.terminate(b"x"), TypeError, "reason.*b'x'"),
            (lambda: handle.cancel("\udc80"), ArgumentError, "reason.*surrogate"),
            (lambda: handle.terminate("\udc80"), ArgumentError, "reason.*surrogate"),
            (lambda: handle.signal(3, 1), TypeError, "signal.*3"),
            (lambda: handle.signal("", 1), ArgumentError, "signal.*empty"),
            (lambda: handle.signal("\udc80", 1), ArgumentError, "signal.*surrogate"),
        ):
            with pytest.raises(error, match=says):
                await call()
        d = await handle.describe()
        assert (d.status, d.unread) == ("running", 0)
