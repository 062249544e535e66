"""What is Redis's own: trouble with the server, its settings, and what is left in it."""

from __future__ import annotations

import itertools
import logging
import os
import time
from contextlib import asynccontextmanager, suppress

import anyio
import msgspec
import pytest
import trio

redis = pytest.importorskip("redis")

from tests.servers import redis as servers  # noqa: E402
from trioflow import Registry, Signal, open_client, open_worker  # noqa: E402
from trioflow._model.limits import Limit  # noqa: E402
from trioflow.backends.commits import (  # noqa: E402
    ActivityResult,
    InstanceCommit,
    Message,
    NewInstance,
    NewQuestion,
    Unit,
)
from trioflow.backends.filters import InstanceFilter  # noqa: E402
from trioflow.backends.moves import Fence  # noqa: E402
from trioflow.backends.records import Reached  # noqa: E402
from trioflow.backends.redis import wire  # noqa: E402
from trioflow.backends.redis.backend import RedisBackend  # noqa: E402
from trioflow.backends.redis.errors import explain  # noqa: E402
from trioflow.backends.redis.opening import SCHEMA  # noqa: E402
from trioflow.errors import (  # noqa: E402
    BackendError,
    BackendUnavailable,
    CorruptStore,
    DataRefused,
    LeaseLost,
    SchemaError,
    StoreFenced,
)
from trioflow.testing.conformance.stage import (  # noqa: E402
    DONE,
    TERMINATED,
    child,
    key,
    named,
    new,
    step,
)

_missing = servers.available()
if _missing and os.environ.get("CI") != "true":
    pytest.skip(_missing, allow_module_level=True)

_numbers = itertools.count()
_ALL = InstanceFilter()
registry = Registry()
go = Signal("go", int)
runs = []


@registry.activity
async def double(number: int) -> int:
    runs.append(number)
    return 2 * number


@registry.workflow
async def twice(number: int) -> int:
    return await double(await double(number))


@registry.workflow
async def gated(number: int) -> int:
    return await double(number) + await go.receive()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with servers.start(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def prefix():
    return f"test{next(_numbers)}"


@pytest.fixture
def admin(server):
    with redis.Redis.from_url(server) as client:
        yield client


@asynccontextmanager
async def opened(url, prefix, **options):
    backend = RedisBackend(url, prefix=prefix, **options)
    await backend.open()
    try:
        yield backend
    finally:
        await backend.aclose()


def lose_the_next_answer(backend, then=lambda: None):
    """Let the server do what it is asked, once, and lose what it says."""
    connection = backend._connections.calls
    send = connection._send

    def lossy(requests, *, again):
        answers = send(requests, again=again)
        if any(isinstance(answer, redis.exceptions.NoScriptError) for answer in answers):
            return answers  # nothing is done before it is loaded
        connection._send = send
        then()
        raise redis.ConnectionError("lost")

    connection._send = lossy


def version_of(admin):
    return tuple(map(int, admin.info("server")["redis_version"].split(".")))


def keys_of(admin, prefix):
    return {name.decode().partition(":")[2] for name in admin.scan_iter(f"{{{prefix}}}:*")}


async def test_forgotten_scripts_are_loaded_again(server, admin, prefix):
    async with opened(server, prefix) as backend:
        admin.script_flush()
        assert await backend.create([new("a"), new("b")]) == [True, True]
        admin.script_flush()
        async with trio.open_nursery() as nursery:
            for id in ("a", "b"):
                nursery.start_soon(backend.send, id, b"x")
            nursery.start_soon(backend.get, "a")
        assert [row.unread for row in await backend.list(_ALL, limit=9)] == [1, 1]


async def test_a_lost_answer_changes_nothing_twice(server, prefix):
    async with opened(server, prefix) as backend:
        lose_the_next_answer(backend)
        assert await backend.create([new("a")]) == [True]
        lose_the_next_answer(backend)
        assert await backend.send("a", b"once") == "done"
        await backend.register_worker("w", "w")
        (taken,) = (await backend.take_instances("w", ("default",), 9)).instances
        assert [message.event for message in taken.inbox] == [b"once"]
        lose_the_next_answer(backend)
        commit = step("a", 0, activities=named("0:0", leased=True))
        assert await backend.commit("w", [Unit(instances=[commit])]) == [None]
        assert len((await backend.history("a"))[0].turns) == 1
        lose_the_next_answer(backend)
        results = [ActivityResult(key("a", "0:0"), b"result")]
        assert await backend.commit("w", [Unit(results=results)]) == [None]
        assert (await backend.get("a")).unread == 2


async def test_a_lost_answer_is_given_again_by_a_store_that_is_closed_since(server, prefix):
    fence = Fence(move="m", role="source", other="elsewhere", at=0.0)
    async with opened(server, prefix) as backend, opened(server, prefix) as mover:
        await backend.create([new("a")])
        question = NewQuestion("q", "a", "", b"?", 9e9)
        calls = [
            (lambda: backend.create([new("b")]), [True]),
            (lambda: backend.send("a", b"once"), "done"),
            (lambda: backend.create_and_send(new("c"), b"first"), Reached("", True, False)),
            (lambda: backend.suspend("a", b"{}"), "done"),
            (lambda: backend.resume("a"), "done"),
            (lambda: backend.set_limit(Limit(kind="queue", name="q", concurrency=1)), None),
            (lambda: backend.ask(question), "done"),
            (lambda: backend.terminate("a", TERMINATED), "done"),
            (lambda: backend.remove(_ALL, ids=["a"], limit=1), 1),
        ]
        for call, wanted in calls:
            lose_the_next_answer(backend, then=lambda: trio.run(mover.fence, fence))
            assert await call() == wanted
            with pytest.raises(StoreFenced):
                await call()
            await mover.lift_fence("m", forget=True)
        lose_the_next_answer(backend, then=lambda: trio.run(mover.fence, fence))
        with pytest.raises(StoreFenced):
            await backend.register_worker("w", "w")


async def test_a_lost_taking_is_recalled(server, prefix):
    async with opened(server, prefix) as backend:
        await backend.register_worker("w", "w")
        await backend.create([new("a")])
        lose_the_next_answer(backend)
        with pytest.raises(BackendUnavailable, match="not known whether"):
            await backend.take_instances("w", ("default",), 9)
        assert (await backend.take_instances("w", ("default",), 9)).instances == []
        await backend.recall("w", [])
        (taken,) = (await backend.take_instances("w", ("default",), 9)).instances
        assert taken.id == "a"


async def test_killed_connections_are_made_again(server, admin, prefix):
    async with (
        opened(server, prefix) as backend,
        opened(server, prefix) as other,
        open_worker(backend, registry=registry) as worker,
        open_client(other, registry=registry) as client,
    ):
        for number in range(5):
            for kind in ("normal", "pubsub"):
                admin.client_kill_filter(_type=kind, skipme=True)
            assert await client.run(twice, number) == 4 * number
            assert await worker.client.run(twice, number) == 4 * number


async def test_another_process_wakes_who_waits(server, prefix):
    async with opened(server, prefix) as one, opened(server, prefix) as other:
        await anyio.sleep(0)
        seen = other.changes()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.wait_change, seen, 1000.0)
            await one.create([new("a")])
        assert other.changes() > seen
        assert await one.terminate("a", TERMINATED) == "done"
        await other.get("a")  # by now it has heard of that
        seen = other.changes()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.wait_change, seen, 1000.0)
            assert await one.remove(_ALL, limit=9) == 1


async def test_a_killed_server_that_keeps_its_data_loses_nothing(tmp_path, prefix):
    server = servers.Server(tmp_path, *servers.DURABLE)
    server.start()
    runs.clear()
    count = 40

    def restart():
        server.kill()
        server.start()

    try:
        async with (
            opened(server.url, prefix) as backend,
            open_worker(backend, registry=registry, lease=60.0) as worker,
        ):
            handles = [
                await worker.client.start(gated.options(id=f"g{number}"), number)
                for number in range(count)
            ]
            async with trio.open_nursery() as nursery:
                for handle in handles:
                    nursery.start_soon(handle.signal, go, 1000)
                await trio.to_thread.run_sync(restart)
            for number, handle in enumerate(handles):
                assert await handle.result() == 2 * number + 1000
            for handle in handles:
                (execution,) = await backend.history(handle.id)
                assert sum(turn.count(b'"activity completed"') for turn in execution.turns) == 1
    finally:
        server.close()


async def test_a_store_with_workers_of_an_older_version_is_not_closed(server, admin, prefix):
    fence = Fence(move="m", role="source", other="elsewhere", at=0.0)
    async with opened(server, prefix) as backend:
        for worker in ("new", "old", "oldest", "gone"):
            await backend.register_worker(worker, f"the {worker} one", version="")
        serves = f"{{{prefix}}}:serves"
        for worker in ("old", "gone"):
            admin.hset(serves, worker, wire.pack([["default"], ["default"], 15.0]))
        admin.hdel(serves, "oldest")
        admin.zadd(f"{{{prefix}}}:workers", {"gone": backend.now() - 16})
        with pytest.raises(BackendError, match="'the old one', 'the oldest one' would go on"):
            await backend.fence(fence)
        assert await backend.fenced() is None
        assert backend.heartbeat("new").alive
        await backend.release_worker("old")
        await backend.release_worker("oldest")
        assert await backend.fence(fence) is None
        assert not backend.heartbeat("new").alive


async def test_a_server_that_stays_away_is_reported(tmp_path, prefix):
    server = servers.Server(tmp_path, *servers.FORGETFUL)
    server.start()

    async with opened(server.url, prefix, patience=0.05) as backend:
        await backend.register_worker("w", "w")
        server.kill()
        with pytest.raises(BackendUnavailable, match="cannot be reached"):
            await backend.get("a")
        with pytest.raises(BackendUnavailable, match="cannot be reached"):
            backend.heartbeat("w")
    with pytest.raises(BackendUnavailable, match="cannot be reached"):
        await backend.open()
    with pytest.raises(BackendUnavailable, match="is not open"):
        await backend.get("a")


async def test_the_expired_write_nothing_on_a_connection_of_their_own(server, admin, prefix):
    async with opened(server, prefix) as one, opened(server, prefix) as other:
        await one.register_worker("w1", "paused")
        await one.create([new("a")])
        await one.take_instances("w1", ("default",), 9)
        await other.register_worker("w2", "awake")
        admin.zadd(f"{{{prefix}}}:workers", {"w1": other.now() - 100})
        assert await other.reclaim(60) == ["w1"]
        (taken,) = (await other.take_instances("w2", ("default",), 9, suspect=True)).instances
        with pytest.raises(LeaseLost):
            await one.commit("w1", [Unit(instances=[step("a", 0)])])
        assert await other.commit("w2", [Unit(instances=[step(taken.id, 0)])]) == [None]


async def test_a_clock_an_hour_off_steals_nothing(server, prefix, monkeypatch):
    real = time.time

    async with opened(server, prefix) as one:
        await one.register_worker("w1", "right")
        monkeypatch.setattr(time, "time", lambda: real() + 3600)
        async with opened(server, prefix) as other:
            assert abs(other.now() - one.now()) < 1
            await other.register_worker("w2", "wrong")
            assert await other.reclaim(30.0) == []
            await other.create([new("a")])
            assert await one.reclaim(30.0) == []
            assert abs((await one.get("a")).created_at - real()) < 60


async def test_what_is_no_text_is_stored_as_it_is(server, prefix):
    raw = bytes(range(256)) * 300

    async with opened(server, prefix) as backend:
        await backend.register_worker("w", "w")
        made = NewInstance("ä\0:{}", "flow", "default", raw, metadata=b"\xff")
        assert await backend.create([made]) == [True]
        assert await backend.send(made.id, raw) == "done"
        (taken,) = (await backend.take_instances("w", ("default",), 9)).instances
        assert (taken.id, taken.input, taken.metadata) == (made.id, raw, b"\xff")
        assert [message.event for message in taken.inbox] == [raw]
        commit = InstanceCommit(
            id=made.id, execution=1, number=0, turns=[raw], status=raw, suspended=raw
        )
        assert await backend.commit("w", [Unit(instances=[commit])]) == [None]
        row = await backend.get(made.id)
        assert (row.outcome, row.custom_status) == (raw, raw)
        assert await backend.load([(made.id, 1)]) == [[raw]]


async def test_what_cannot_be_encoded_fails_alone(server, prefix):
    async with opened(server, prefix) as backend:
        await backend.create([new("a")])
        failed = []

        async def send(id):
            try:
                assert await backend.send(id, b"x") == "done"
            except DataRefused:
                failed.append(id)

        async with trio.open_nursery() as nursery:
            for id in ("a", "\ud800", "a"):
                nursery.start_soon(send, id)
        assert failed == ["\ud800"]
        assert (await backend.get("a")).unread == 2


@pytest.mark.parametrize(
    "commit",
    [
        step("a", 0, wake_at=float("nan")),
        step("a", 0, activities=named("0:0", queue="\ud800")),
        step("a", 0, messages=[Message("\ud800", b"x")]),
        step("a", 0, consumed=[2**64]),
        step("c", 0, new=child("c", "\ud800")),
        step("a", 0, turns=[b"x" * (1024**2 + 1)]),
    ],
    ids=["time", "queue", "target", "number", "parent", "size"],
)
async def test_data_that_are_never_taken_are_told_from_a_server_that_is_away(
    tmp_path, prefix, commit
):
    with servers.start(tmp_path, *servers.FORGETFUL, "--proto-max-bulk-len", "1mb") as url:
        async with opened(url, prefix) as backend:
            await backend.register_worker("w", "w")
            await backend.create([new("a")])
            await backend.take_instances("w", ("default",), 9)
            with pytest.raises(DataRefused, match="cannot take these data"):
                await backend.commit("w", [Unit(instances=[commit])])
            assert await backend.commit("w", [Unit(instances=[step("a", 0)])]) == [None]
            for bad in (new("\ud800"), new("x", queue="\ud800")):
                with pytest.raises(DataRefused, match="surrogates"):
                    await backend.create([bad])
            with pytest.raises(DataRefused):
                await backend.take_instances("w", ("\ud800",), 9)


async def test_a_socket_file_is_an_address(tmp_path, prefix):
    with servers.start(tmp_path, *servers.FORGETFUL, "--unixsocket", str(tmp_path / "sock")):
        async with opened(f"unix://{tmp_path / 'sock'}", prefix) as backend:
            assert await backend.create([new("a")]) == [True]


async def test_nothing_is_left_of_what_was_removed(server, admin, prefix):
    async with opened(server, prefix) as backend:
        await backend.register_worker("w", "w")
        await backend.create([new(f"i{number}") for number in range(5)])
        await backend.take_instances("w", ("default",), 9)
        for number in range(5):
            activities = named("0:0", leased=True) + named("0:1")
            first = step(f"i{number}", 0, activities=activities)
            assert await backend.commit("w", [Unit(instances=[first])]) == [None]
            last = step(f"i{number}", 1, closing=DONE)
            assert await backend.commit("w", [Unit(instances=[last])]) == [None]
        assert await backend.remove(_ALL, limit=3) == 3
        assert await backend.remove(_ALL, limit=9) == 2
        await backend.release_worker("w")
    left = {name for name in keys_of(admin, prefix) if not name.startswith("done:")}
    assert left == {"schema", "seq", "listed", "queues"}


async def test_troubles_do_not_read_all_that_is_well(server, admin, prefix):
    """What a served queue has is not read; what is held is, some of it at a time."""
    many = 2500
    async with opened(server, prefix) as backend:
        await backend.register_worker("w", "w", queues=["default"], activity_queues=["default"])
        await backend.create([new(f"waits{number}") for number in range(many)])
        admin.config_resetstat()
        assert set((await backend.troubles(1000.0)).values()) == {0}
        assert "cmdstat_hmget" not in admin.info("commandstats")

        taken = 0
        while taken < many:
            found = await backend.take_instances("w", ("default",), many)
            assert found.instances
            taken += len(found.instances)
        admin.config_resetstat()
        assert set((await backend.troubles(1000.0)).values()) == {0}
        stats = admin.info("commandstats")
        assert stats["cmdstat_hmget"]["calls"] >= many
        assert stats["cmdstat_zscan"]["calls"] >= 3
        # Scripts: three for what is held, one for each other kind.
        assert stats["cmdstat_evalsha"]["calls"] >= 7

        await backend.create([new("ready", queue="nobody")])
        assert await backend.troubles(0.0) == {
            "retrying": 0,
            "unserved": 1,
            "overdue": 1,
            "suspended": 0,
            "held": 1000,
        }
        assert await backend.count(InstanceFilter(trouble="held", trouble_after=0.0)) == many


async def test_finished_instances_can_expire(server, prefix):
    async with opened(server, prefix, keep_finished=0.01) as backend:
        await backend.register_worker("w", "w")
        await backend.create([new("over"), new("running")])
        await backend.take_instances("w", ("default",), 9)
        await backend.commit("w", [Unit(instances=[step("over", 0, closing=DONE)])])
        await anyio.sleep(0.05)
        await backend.reclaim(60.0)
        assert [row.id for row in await backend.list(_ALL, limit=9)] == ["running"]


@pytest.mark.parametrize(
    ("schema", "words"), [(str(SCHEMA + 1), "upgrade"), ("mine", "not trioflow's")]
)
async def test_other_schemas_are_refused(server, admin, prefix, schema, words):
    admin.set(f"{{{prefix}}}:schema", schema)

    with pytest.raises(SchemaError, match=words):
        await RedisBackend(server, prefix=prefix).open()
    assert admin.get(f"{{{prefix}}}:schema").decode() == schema


async def test_foreign_keys_are_reported(server, admin, prefix):
    admin.set(f"{{{prefix}}}:i:a", "mine")

    async with opened(server, prefix) as backend:
        with pytest.raises(CorruptStore, match="prefix of its own"):
            await backend.get("a")


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        (servers.FORGETFUL, True),
        (servers.DURABLE, False),
        ((*servers.DURABLE, "--rename-command", "CONFIG", ""), False),
    ],
)
async def test_a_forgetful_server_is_warned_of(tmp_path, prefix, caplog, options, warned):
    with caplog.at_level(logging.WARNING), servers.start(tmp_path, *options) as url:
        async with opened(url, prefix):
            pass
    assert ("keeps nothing when it stops" in caplog.text) == warned


@pytest.mark.parametrize(
    ("settings", "dropped"),
    [
        (("1gb", "allkeys-lru"), "any keys when its memory"),
        (("1gb", "volatile-lru"), "the answers to calls, which"),
        (("0", "volatile-lru"), None),
        (("1gb", "noeviction"), None),
    ],
)
async def test_a_server_that_drops_keys_is_warned_of(tmp_path, prefix, caplog, settings, dropped):
    memory, policy = settings
    options = (*servers.DURABLE, "--maxmemory", memory, "--maxmemory-policy", policy)
    with caplog.at_level(logging.WARNING), servers.start(tmp_path, *options) as url:
        async with opened(url, prefix):
            pass
    assert ("set noeviction" in caplog.text) == (dropped is not None)
    assert dropped is None or f"drops {dropped}" in caplog.text


async def test_an_answer_that_was_dropped_lets_a_repeated_call_be_made_twice(tmp_path, prefix):
    """Why the server is warned of: what is given again after a lost connection is a key, too."""
    options = (*servers.DURABLE, "--maxmemory-policy", "volatile-lru")
    with servers.start(tmp_path, *options) as url, redis.Redis.from_url(url) as admin:
        async with opened(url, prefix) as backend:
            await backend.create([new("a")])
            lose_the_next_answer(backend, then=lambda: _drop_what_expires(admin))
            assert await backend.send("a", b"twice") == "done"
            assert (await backend.get("a")).unread == 2


def _drop_what_expires(admin):
    admin.config_set("maxmemory", 1)
    with suppress(redis.exceptions.OutOfMemoryError):
        admin.set("more", b"")  # drops first what it may
    admin.config_set("maxmemory", 0)


async def test_a_wrong_password_is_said_at_once(tmp_path, prefix):
    with servers.start(tmp_path, *servers.FORGETFUL, "--requirepass", "right") as url:
        with pytest.raises(BackendUnavailable, match="password"):
            await RedisBackend(url, prefix=prefix).open()
        wrong = url.replace("redis://", "redis://:wrong@")
        with pytest.raises(BackendUnavailable, match="password") as caught:
            await RedisBackend(wrong, prefix=prefix).open()
        assert "wrong@" not in str(caught.value)
        async with opened(url.replace("redis://", "redis://:right@"), prefix) as backend:
            assert await backend.get("a") is None


@pytest.mark.parametrize(
    ("rights", "enough"),
    [
        ("~{%s}* resetchannels &{%s}* +@all -@dangerous", True),
        ("~{%s}* resetchannels +@all", False),
        ("~other* allchannels +@all", False),
    ],
)
async def test_missing_rights_are_found_when_opening(server, admin, prefix, rights, enough):
    words = rights.replace("%s", prefix).split()
    if version_of(admin) < (6, 2):  # without rights to channels
        if words[1:] == ["resetchannels", "+@all"]:
            pytest.skip("all channels are everybody's")
        words = [word for word in words if "channels" not in word and not word.startswith("&")]
    admin.execute_command("ACL SETUSER", prefix, "reset", "on", ">word", *words)

    backend = RedisBackend(server.replace("//", f"//{prefix}:word@"), prefix=prefix)
    if not enough:
        with pytest.raises(BackendUnavailable, match="keys and channels of the store's prefix"):
            await backend.open()
        return
    await backend.open()
    assert await backend.create([new("a")]) == [True]
    await backend.aclose()


@pytest.mark.parametrize(
    "text",
    [
        "NOPERM this user has no permissions to access one of the keys",
        "The user executing the script can't access at least one of the keys",
        "ACL failure in script: No permissions to access a channel script",
    ],
)
def test_missing_rights_are_told_from_damage_in_every_servers_words(text):
    error = explain(redis.ResponseError(text), "Redis here")
    assert isinstance(error, BackendUnavailable)
    assert "keys and channels of the store's prefix" in str(error)


async def test_one_slot_of_a_cluster_is_enough(tmp_path, prefix):
    options = (*servers.FORGETFUL, "--cluster-enabled", "yes")
    with servers.start(tmp_path, *options) as url, redis.Redis.from_url(url) as admin:
        admin.execute_command("CLUSTER ADDSLOTS", *range(16384))
        while admin.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
            await trio.sleep(0.01)
        async with (
            opened(url, prefix, cluster=True) as backend,
            open_worker(backend, registry=registry) as worker,
        ):
            assert await worker.client.run(twice, 3) == 12


async def test_those_of_a_workflow_that_an_older_version_has_stored_are_found(
    server, admin, prefix
):
    rare = InstanceFilter(workflow="rare")

    async def found(backend):
        return [each.id for each in await backend.list(rare, limit=10)]

    async with opened(server, prefix) as backend:
        for id in ("a", "b", "c"):
            await backend.create([msgspec.structs.replace(new(id), workflow="rare")])
        await backend.create([new("d")])
        assert await found(backend) == ["c", "b", "a"]
        places = f"{{{prefix}}}:workflow:rare", f"{{{prefix}}}:listed"
        assert admin.zcard(places[0]) == 3
        # An older version stores one, and removes another, without a word of it.
        admin.zrem(places[0], "b")
        admin.zadd(places[0], {"gone": 2})
        admin.set(places[1], 1)
        assert await found(backend) == ["c", "b", "a"]
        await backend.create([msgspec.structs.replace(new("e"), workflow="rare")])
        assert await found(backend) == ["e", "c", "b", "a"]
    async with opened(server, prefix) as backend:
        assert admin.get(places[1]) == admin.get(f"{{{prefix}}}:seq")
        assert admin.zcard(places[0]) == 5
        assert await found(backend) == ["e", "c", "b", "a"]
        assert await backend.count(rare) == 4
