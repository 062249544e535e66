"""What is looked at on Redis to find those in trouble, and that none is missed or found twice."""

from __future__ import annotations

import itertools
import os
import string
from contextlib import asynccontextmanager

import msgspec
import pytest

redis = pytest.importorskip("redis")

from tests.servers import redis as servers  # noqa: E402
from trioflow._model.limits import Limit  # noqa: E402
from trioflow.backends.commits import ActivityRetry, Unit  # noqa: E402
from trioflow.backends.filters import Group, InstanceFilter  # noqa: E402
from trioflow.backends.redis import backend as backends  # noqa: E402
from trioflow.backends.redis import searching  # noqa: E402
from trioflow.backends.redis.backend import RedisBackend  # noqa: E402
from trioflow.testing.conformance.stage import TERMINATED, key, named, new, step  # noqa: E402

_missing = servers.available()
if _missing and os.environ.get("CI") != "true":
    pytest.skip(_missing, allow_module_level=True)

_numbers = itertools.count()
_FAR = 10_000.0
_MANY = 3000
_KINDS = ("ready", "calls", "stops", "sleeps", "served", "retried", "stuck")
_MEANT = {
    "retrying": {"retried"},
    "unserved": {"ready", "calls"},
    "overdue": {"ready", "calls", "served"},
    "held": {"stuck"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with servers.start(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def admin(server):
    with redis.Redis.from_url(server) as client:
        yield client


@asynccontextmanager
async def opened(url):
    backend = RedisBackend(url, prefix=f"test{next(_numbers)}")
    await backend.open()
    try:
        await backend.register_worker("w", "w", queues=["default"], activity_queues=["default"])
        yield backend
    finally:
        await backend.aclose()


def _calls(admin, command):
    return admin.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]


async def _create(backend, name, **fields):
    instances = [new(f"{name}{number:04}", **fields) for number in range(_MANY)]
    assert all(await backend.create(instances))


def _last(name, number):
    return [f"{name}{_MANY - 1 - n:04}" for n in range(number)]


async def test_many_in_trouble_are_found_behind_many_that_are_well(server, admin):
    """No row of those that are well is read, but for a few of the newest."""
    where = InstanceFilter(trouble="unserved")
    async with opened(server) as backend:
        await _create(backend, "lost", queue="nobody")
        await _create(backend, "well")
        admin.config_resetstat()
        page = [row.id for row in await backend.list(where, limit=50)]
        assert page == _last("lost", 50)
        assert _calls(admin, "hmget") < _MANY / 5
        admin.config_resetstat()
        second = [row.id for row in await backend.list(where, limit=50, after=page[-1])]
        assert page + second == _last("lost", 100)
        assert _calls(admin, "hmget") < _MANY / 5
        admin.config_resetstat()
        assert await backend.count(where) == _MANY
        assert _calls(admin, "hmget") < 3 * _MANY


async def test_many_in_trouble_that_are_the_newest_are_not_all_gathered(server, admin):
    where = InstanceFilter(trouble="unserved")
    async with opened(server) as backend:
        await _create(backend, "lost", queue="nobody")
        admin.config_resetstat()
        assert [row.id for row in await backend.list(where, limit=50)] == _last("lost", 50)
        assert _calls(admin, "evalsha") == 2
        assert _calls(admin, "zscore") < _MANY


# --- parts -------------------------------------------------------------------------------------


@pytest.fixture
def small_parts(monkeypatch):
    """Let each script look at a few instances only, so that a few are many."""
    for module in (searching, backends):
        monkeypatch.setattr(module, "LOOK_AT_MOST", 3)
    monkeypatch.setattr(searching, "_GATHER_AT_MOST", 4)


def _stored(kind, number, far):
    """Return the commit with which an instance of a kind begins."""
    id, priority = f"{kind}{number}", number % 3
    limit_key = ("", "a", "b")[priority]
    lane = {"queue": "keyed" if limit_key else "nobody", "limit_key": limit_key}
    lane["priority"] = number % 2
    calls = {"activities": named("0:0", "0:1", **lane), "leased": False}
    fields = {
        "ready": {"due": True, "leased": False},
        "calls": calls,
        "stops": {**calls, "suspended": b"{}"},
        "sleeps": {"wake_at": far, "leased": False},
        "served": {"due": True, "leased": False},
        "retried": {"activities": named("0:0", "0:1", leased=True), "leased": False},
        "stuck": {"due": True},
    }
    queue = "nobody" if kind == "ready" else "default"
    row = new(id, queue=queue, priority=priority, workflow=f"flow{number % 2}")
    return step(id, 0, new=row, **fields[kind])


async def _fill(backend):
    """Store some of each kind in turns; return their kinds by their ids, the newest first."""
    await backend.set_limit(Limit(kind="queue", name="keyed", concurrency=99, key="tenant"))
    far = backend.now() + _FAR
    kinds = [_KINDS[number % len(_KINDS)] for number in range(63)]
    commits = [_stored(kind, number, far) for number, kind in enumerate(kinds)]
    units = [Unit(instances=[commit]) for commit in commits]
    assert await backend.commit("w", units) == [None] * len(units)
    retries = [
        ActivityRetry(key(commit.id, command), 2, far, b"")
        for kind, commit in zip(kinds, commits, strict=True)
        for command in ("0:0", "0:1")
        if kind == "retried"
    ]
    assert await backend.commit("w", [Unit(retries=retries)]) == [None]
    return {commit.id: kind for kind, commit in reversed([*zip(kinds, commits, strict=True)])}


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("trouble", _MEANT)
async def test_each_in_trouble_is_found_once_and_in_order(server, trouble):
    where = InstanceFilter(trouble=trouble, trouble_after=0.0)
    odd = msgspec.structs.replace(where, workflow="flow1")
    async with opened(server) as backend:
        kinds = await _fill(backend)
        meant = [id for id, kind in kinds.items() if kind in _MEANT[trouble]]
        meant_odd = [row.id for row in await backend.list(odd, limit=99)]
        assert meant_odd == [id for id in meant if int(id.lstrip(string.ascii_letters)) % 2]
        for limit in (1, 2, 5, 99):
            pages = []
            while page := await backend.list(
                where, limit=limit, after=pages[-1].id if pages else None
            ):
                pages += page
            assert [row.id for row in pages] == meant
        assert [row.id for row in await backend.list(where, limit=2, after="sleeps3")] == [
            id for id in meant if id in [*kinds][[*kinds].index("sleeps3") :]
        ][:2]
        assert await backend.count(where) == len(meant)
        assert await backend.count(where, most=3) == 3
        assert sorted(await backend.count_by(where, "workflow")) == [
            Group("", "flow0", len(meant) - len(meant_odd)),
            Group("", "flow1", len(meant_odd)),
        ]
        assert (await backend.troubles(0.0))[trouble] == len(meant)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("trouble", ["retrying", "unserved", "overdue"])
async def test_none_is_missed_when_others_end_meanwhile(server, trouble, monkeypatch):
    """What was gathered last ends, and that is where the next part would begin."""
    where = InstanceFilter(trouble=trouble, trouble_after=0.0)
    async with opened(server) as backend:
        kinds = await _fill(backend)
        gone = set()
        look = backend._look

        async def look_and_end(name, *arguments):
            found = await look(name, *arguments)
            if name == "find_troubles":
                ids = [id for id in searching.unpack_texts(found[1]) if id not in gone]
                for id in ids[-1:]:
                    gone.add(id)
                    assert await backend.terminate(id, TERMINATED) == "done"
            return found

        monkeypatch.setattr(backend, "_look", look_and_end)
        listed = [row.id for row in await backend.list(where, limit=99)]
        assert len(gone) > 1
        meant = [id for id, kind in kinds.items() if kind in _MEANT[trouble]]
        assert [id for id in listed if id not in gone] == [id for id in meant if id not in gone]
        assert len(listed) == len({*listed})
