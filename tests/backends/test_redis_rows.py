"""What lies in Redis: rows of older schemas, rows that are damaged, and names of any kind."""

from __future__ import annotations

import itertools
import os

import pytest
import trio

redis = pytest.importorskip("redis")

from tests.stores import opened  # noqa: E402
from trioflow._model.events import ParentRef, decode_event  # noqa: E402
from trioflow.backends.commits import CancelledActivity, Message, NewInstance, Unit  # noqa: E402
from trioflow.backends.filters import InstanceFilter  # noqa: E402
from trioflow.backends.records import ActivityKey, Heartbeat, StoredMessage  # noqa: E402
from trioflow.backends.redis.backend import RedisBackend  # noqa: E402
from trioflow.backends.redis.opening import SCHEMA  # noqa: E402
from trioflow.testing.conformance.stage import (  # noqa: E402
    CANCELLED,
    DONE,
    TERMINATED,
    key,
    named,
    new,
    result,
    step,
)

_numbers = itertools.count()
_ALL = InstanceFilter()
_OLD, _NEW = "0" * 32, "f" * 32

# What schema 2 left of these: p started c, runs 0:2, which it has asked to cancel, and has had 0:1
# cancelled; again is the second of that id; fresh has not begun. The worker w1 holds p and 0:2.
_TASK = b"\x01\xcbA\xda\xc2\x02_x[-\xcbA\xda\xc2\x02_x[-\xa3act\xa3[1]\xa0\xa0"
_ROW = {"workflow": "flow", "queue": "default", "status": "running", "input": "[]", "sticky": ""}
_UNHELD = {**_ROW, "execution": 1, "turns": 0, "events": 0, "worker": ""}
_SCHEMA_2 = {
    "a:p": {
        "1:0:0": b"\xa0\xa7default\xc2" + _TASK + b"\x01",
        "1:0:2": b"\xa2w1\xa7default\xa9cancelled" + _TASK + b"\x02",
    },
    "i:again": {**_UNHELD, "seq": 4, "execution": 2, "created_at": "1795688829.87995"},
    "i:c": {
        **_UNHELD,
        "seq": 5,
        "created_at": "1795688829.8805649",
        "parent": "p",
        "parent_execution": 1,
        "parent_command": "0:3",
    },
    "i:fresh": {**_UNHELD, "seq": 3, "created_at": "1795688829.8785341"},
    "i:p": {
        **_ROW,
        "seq": 1,
        "execution": 1,
        "turns": 2,
        "events": 4,
        "worker": "w1",
        "sticky": "w1",
        "created_at": "1795688829.8776431",
        "wake_at": "",
    },
    "names": {"w1": "w1"},
    "numbers": {"running:default": 4, "activities:default": 1},
    "x:p": {"1": ":early", "2": "1:at once"},
}
_SCHEMA_2_SETS = {
    "lanes:default": ["1", "2"],
    "marked:w1": ["1:3:0:2p"],
    "queues": ["default"],
    "running:w1": ["1:3:0:2p"],
}
_SCHEMA_2_ORDERS = {
    "children:p": {"c": 5},
    "held:w1": {"p": 1795688829.88385},
    "ready:default": {"fresh": 1795688829.878534, "again": 1795688829.87995, "c": 1795688829.8805},
    "status:running": {"p": 1, "fresh": 3, "again": 4, "c": 5},
    "visible/1:default": {"1:3:0:0p": 1795688829.880565},
}


class Store:
    """An empty store, and the server beneath it."""

    def __init__(self, url):
        self.url = url
        self.prefix = f"rows_{os.getpid()}_{next(_numbers)}"
        self.server = redis.Redis.from_url(url)

    def key(self, name):
        return f"{{{self.prefix}}}:{name}"

    def opened(self):
        return opened(RedisBackend(self.url, prefix=self.prefix))

    def left(self):
        """Return what is stored, but for answers that may be asked for again."""
        names = {name.decode().partition(":")[2] for name in self.server.scan_iter(self.key("*"))}
        return {name for name in names if not name.startswith("done:")}


@pytest.fixture
def store(servers):
    made = Store(servers.url("redis"))
    with made.server:
        yield made


@pytest.fixture
def old_store(store):
    for name, fields in _SCHEMA_2.items():
        store.server.hset(store.key(name), mapping=fields)
    for name, members in _SCHEMA_2_SETS.items():
        store.server.sadd(store.key(name), *members)
    for name, scores in _SCHEMA_2_ORDERS.items():
        store.server.zadd(store.key(name), scores)
    now = store.server.time()[0]
    store.server.zadd(store.key("workers"), {"w1": now})
    for name, value in (("schema", 2), ("seq", 5), ("message", 2)):
        store.server.set(store.key(name), value)
    store.server.rpush(store.key("t:p:1"), "t0", "t1")
    return store


async def take(backend, worker, **options):
    taken = await backend.take_instances(worker, ("default",), 9, **options)
    return taken.instances


# --- what schema 2 left ---------------------------------------------------------------------------


async def test_what_an_older_schema_left_goes_on(old_store):
    async with old_store.opened() as backend:
        assert old_store.server.get(old_store.key("schema")) == b"%d" % SCHEMA
        (stats,) = await backend.stats()
        # Nobody knows what it serves, so nothing is said to be served by nobody.
        assert (stats.workers, stats.activity_workers) == (1, 1)
        assert backend.heartbeat("w1").cancelled == [key("p", "0:2")]
        taken = {one.id: one for one in await take(backend, "w1")}
        assert set(taken) == {"p", "again", "c", "fresh"}
        assert {one.life for one in taken.values()} == {""}
        parent = taken["p"]
        assert parent.inbox == [StoredMessage(1, b"early", 0.0), StoredMessage(2, b"at once", 0.0)]
        assert await backend.load([("p", 1)]) == [[b"t0", b"t1"]]
        assert taken["c"].parent == ParentRef("p", 1, "0:3")
        (task,) = (await backend.take_activities("w1", ("default",), 9)).activities
        assert (task.key, task.priority) == (key("p", "0:0"), 1)
        units = [
            result("p", "0:0", b"done"),
            Unit(instances=[step("p", 2, consumed=[1, 2], activities=named("0:4"))]),
            Unit(instances=[step("c", 0, messages=[Message("p", b"c", execution=1, life="")])]),
        ]
        assert await backend.commit("w1", units) == [None] * 3
        (parent,) = await take(backend, "w1")
        assert [message.event for message in parent.inbox] == [b"done", b"c"]
        assert all(message.at > 0 for message in parent.inbox)
        assert [task.key for task in await backend.activities("p")] == [
            key("p", "0:2"),
            key("p", "0:4"),
        ]
        assert await backend.terminate("p", TERMINATED) == "done"
        assert (await backend.get("c")).status == "terminated"


async def test_what_a_worker_of_an_older_schema_held_is_freed(old_store):
    async with old_store.opened() as backend:
        await backend.register_worker("w2", "w2")
        await trio.sleep(0.02)
        backend.heartbeat("w2")
        old_store.server.zadd(old_store.key("workers"), {"w1": 1})
        assert await backend.reclaim(10.0) == ["w1"]
        assert sorted(one.id for one in await take(backend, "w2")) == ["again", "c", "fresh"]
        (parent,) = await take(backend, "w2", suspect=True)
        assert [message.event for message in parent.inbox] == [b"early", b"at once", b"cancelled"]
        assert [task.key for task in await backend.activities("p")] == [key("p", "0:0")]


async def test_an_id_of_an_older_schema_gets_a_life_when_it_is_used_again(old_store):
    async with old_store.opened() as backend:
        assert await backend.terminate("p", TERMINATED) == "done"
        assert await backend.create([new("p", life=_NEW)]) == [True]
        assert backend.heartbeat("w1").cancelled == [key("p", "0:2")]
        late = [result("p", "0:2", b"late")]
        assert await backend.commit("w1", late) == [None]
        row = await backend.get("p")
        assert (row.life, row.execution, row.unread) == (_NEW, 2, 0)
        assert await backend.cancel("fresh", b"cancel", CANCELLED) == "done"
        assert (await backend.get("fresh")).status == "cancelled"


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "field", "stored"),
    [
        ("i:bad", "execution", "first"),
        ("i:bad", "turns", ""),
        ("i:bad", "events", None),
        ("i:bad", "input", None),
        ("i:bad", "priority", "high"),
        ("i:bad", "life", b"\xff"),
        ("x:bad", "1", "no header"),
        ("x:bad", "1", "@noon:x"),
        ("x:bad", "first", ":x"),
    ],
)
async def test_an_instance_that_cannot_be_read_is_suspended(store, where, field, stored):
    async with store.opened() as backend:
        await backend.register_worker("w", "w")
        await backend.create([new("bad"), new("good")])
        await backend.send("bad", b"x")
        kept = store.server.hget(store.key(where), field)
        if stored is None:
            store.server.hdel(store.key(where), field)
        else:
            store.server.hset(store.key(where), field, stored)
        assert [one.id for one in await take(backend, "w")] == ["good"]
        row = await backend.get("bad")
        assert (row.status, row.worker, row.ready_at) == ("suspended", None, None)
        assert b"'bad' cannot be read" in row.outcome
        assert len(await backend.list(_ALL, limit=9)) == 2
        assert [numbers.suspended for numbers in await backend.stats()] == [1]
        if kept is None:
            store.server.hdel(store.key(where), field)
        else:
            store.server.hset(store.key(where), field, kept)
        assert await backend.resume("bad") == "done"
        (mended,) = await take(backend, "w")
        assert [message.event for message in mended.inbox] == [b"x"]
        assert await backend.terminate("bad", TERMINATED) == "done"
        assert await backend.remove(_ALL, limit=9) == 1


async def test_a_row_that_is_gone_is_passed_over(store):
    async with store.opened() as backend:
        await backend.register_worker("w", "w")
        await backend.create([new("bad"), new("good")])
        store.server.delete(store.key("i:bad"))
        assert [one.id for one in await take(backend, "w")] == ["good"]


@pytest.mark.parametrize("stored", [b"\xc1", b"", b"\x01\x02", None])
async def test_an_activity_that_cannot_be_read_is_passed_over(store, caplog, stored):
    async with store.opened() as backend:
        await backend.register_worker("w", "w")
        await backend.create([new("a", life=_NEW)])
        await take(backend, "w")
        first = step("a", 0, life=_NEW, activities=named("0:0", "0:1"))
        assert await backend.commit("w", [Unit(instances=[first])]) == [None]
        row = store.key(f"a/{_NEW}:a")
        if stored is None:
            store.server.hdel(row, "1:0:0")
        else:
            store.server.hset(row, "1:0:0", stored)
        for expected in (["0:1"], []):
            taken = await backend.take_activities("w", ("default",), 9)
            assert [task.key.command for task in taken.activities] == expected
        assert len(await backend.activities("a")) == (1 if stored is None else 2)
        assert await backend.terminate("a", TERMINATED) == "done"
        await backend.release_worker("w")
        assert await backend.remove(_ALL, limit=9) == 1
    warned = 0 if stored is None else 1
    assert caplog.text.count("activity 0:0 of instance 'a' waits for ever") == warned


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\0", "\0b", ":", "/", "ä", "{}"])
@pytest.mark.parametrize("life", ["", _NEW])
async def test_names_that_begin_alike_are_kept_apart(store, life, end):
    ids = ["a", "a" + end]

    async with store.opened() as backend:
        queues = ["q" + end, "q"]
        await backend.register_worker("w", "w")
        await backend.create([new(id, queue=queues[0], priority=1, life=life) for id in ids])
        await backend.create([new("other", queue="q", priority=1)])
        (other,) = (await backend.take_instances("w", ["q"], 9)).instances
        assert other.id == "other"
        taken = await backend.take_instances("w", queues, 9)
        assert sorted(one.id for one in taken.instances) == ids
        for number, id in enumerate(ids):
            activities = named("0:0", queue=queues[0], priority=2)
            commit = step(id, 0, turns=[b"%d" % number], life=life, activities=activities)
            assert await backend.commit("w", [Unit(instances=[commit])]) == [None]
        assert await backend.load([(id, 1) for id in ids]) == [[b"0"], [b"1"]]
        assert [(await backend.history(id))[0].turns for id in ids] == [[b"0"], [b"1"]]
        assert (await backend.take_activities("w", ["q"], 9)).activities == []
        tasks = (await backend.take_activities("w", queues, 9)).activities
        assert sorted(task.key.instance for task in tasks) == ids
        asked = [CancelledActivity("0:0", b"cancelled")]
        commit = step(ids[1], 1, life=life, cancelled=asked)
        assert await backend.commit("w", [Unit(instances=[commit])]) == [None]
        assert backend.heartbeat("w").cancelled == [key(ids[1], "0:0", life=life)]
        await backend.release_worker("w")
        assert [(await backend.get(id)).unread for id in ids] == [0, 1]
        for id in [*ids, "other"]:
            await backend.terminate(id, TERMINATED)
        assert await backend.remove(_ALL, limit=9) == 3
    left = {name for name in store.left() if not name.startswith("lanes:")}
    assert left == {"schema", "seq", "message", "listed", "queues"}


# --- what is left ---------------------------------------------------------------------------------


async def test_nothing_is_left_of_lives_that_are_over(store):
    async with store.opened() as backend:
        for worker in ("w1", "w2"):
            await backend.register_worker(worker, worker)
        for life in (_OLD, _NEW):
            await backend.create([new("a", life=life), new("unbegun", queue="other", life=life)])
            (one,) = await take(backend, "w1")
            activities = [*named("0:0"), *named("0:1", leased=True)]
            first = step(
                "a", 0, life=life, execution=one.execution, activities=activities, leased=False
            )
            assert await backend.commit("w1", [Unit(instances=[first])]) == [None]
            (task,) = (await backend.take_activities("w2", ("default",), 9)).activities
            assert task.key == ActivityKey("a", one.execution, "0:0", life)
            assert await backend.terminate("a", TERMINATED) == "done"
            assert await backend.cancel("unbegun", b"cancel", CANCELLED) == "done"
        assert await backend.remove(_ALL, limit=9) == 2
        assert len(backend.heartbeat("w2").cancelled) == 2
        left = [result("a", "0:0", b"late", life=_OLD)]
        assert await backend.commit("w2", left) == [None]
        assert len(backend.heartbeat("w2").cancelled) == 1
        await backend.release_worker("w2")
        await backend.release_worker("w1")
    assert store.left() == {"schema", "seq", "listed", "queues"}


async def test_nothing_is_left_of_what_is_marked_and_ends_in_one_batch(store):
    async with store.opened() as backend:
        await backend.register_worker("w", "w")
        await backend.create([new("a", life=_OLD), new("p")])
        await take(backend, "w")
        first = step("a", 0, life=_OLD, activities=named("0:0", leased=True), closing=DONE)
        assert await backend.commit("w", [Unit(instances=[first])]) == [None]
        again = step("a", 0, new=new("a", life=_NEW), life=_NEW, turns=[], leased=False)
        ended = result("a", "0:0", b"late", life=_OLD).results
        assert await backend.commit("w", [Unit(instances=[again], results=ended)]) == [None]
        assert backend.heartbeat("w") == Heartbeat(alive=True)
        (numbers,) = await backend.stats()
        assert numbers.running_activities == 0
    assert "marked:w" not in store.left()


async def test_nothing_is_left_of_suspects(store):
    async with store.opened() as backend:
        for worker in ("w1", "w2"):
            await backend.register_worker(worker, worker)
        await backend.create([new("a", priority=7), new("b", priority=7), new("c", priority=7)])
        await take(backend, "w1")
        store.server.zrem(store.key("workers"), "w1")
        assert await backend.reclaim(60.0) == ["w1"]
        assert await backend.reclaim(60.0) == []
        (one,) = await take(backend, "w2", suspect=True)
        commit = step(one.id, 0, turns=[], suspended=b"{}", leased=False)
        assert await backend.commit("w2", [Unit(instances=[commit])]) == [None]
        (other,) = await take(backend, "w2", suspect=True)
        assert await backend.commit("w2", [Unit(instances=[step(other.id, 0, closing=DONE)])]) == [
            None
        ]
        for id in "abc":
            await backend.terminate(id, TERMINATED)
        assert await backend.remove(_ALL, limit=9) == 3
        assert await take(backend, "w2") == []
        await backend.release_worker("w2")
    assert store.left() == {"schema", "seq", "listed", "queues"}


async def test_what_cannot_be_told_from_an_older_life_is_replaced(store):
    async with store.opened() as backend:
        for worker in ("w1", "w2"):
            await backend.register_worker(worker, worker)
        for worker in ("w1", "w2"):
            await backend.create([new("a")])
            await take(backend, worker)
            first = step("a", 0, activities=named("0:0", leased=True))
            assert await backend.commit(worker, [Unit(instances=[first])]) == [None]
            if worker == "w1":
                assert await backend.terminate("a", TERMINATED) == "done"
                assert await backend.remove(_ALL, limit=9) == 1
        assert await backend.commit("w1", [result("a", "0:0", b"late")]) == [None]
        assert (await backend.get("a")).unread == 0
        assert await backend.commit("w2", [result("a", "0:0", b"mine")]) == [None]
        assert (await backend.get("a")).unread == 1
        (numbers,) = await backend.stats()
        assert numbers.running_activities == 0


async def test_the_priority_and_the_words_of_a_parent_survive_any_command(store):
    command = '0.1:2 "quoted" \\ / \n\x7fä'

    async with store.opened() as backend:
        await backend.register_worker("w", "w")
        await backend.create([new("p", life=_NEW)])
        await take(backend, "w")
        parent = ParentRef("p", 1, command, _NEW)
        for id in ("c", "d"):
            made = NewInstance(id, "flow", "other", b"[]", parent, life=_OLD)
            assert await backend.create([made]) == [True]
        assert await backend.cancel("c", b"cancel", CANCELLED) == "done"
        assert await backend.terminate("d", TERMINATED) == "done"
        (taken,) = await take(backend, "w")
        told = [decode_event(message.event) for message in taken.inbox]
        assert [event.id for event in told] == [command, command]
