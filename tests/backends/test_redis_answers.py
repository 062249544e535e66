"""On Redis: each change whose answer was lost is made once, and gives the answer that it gave.

A call is made twice, on stores that are alike: on one its answer is lost, and it is made again.
What it returns, and what there is then, must be the same.
"""

from __future__ import annotations

import os
from itertools import count

import pytest

redis = pytest.importorskip("redis")

from tests import stores  # noqa: E402
from tests.servers import redis as servers  # noqa: E402
from trioflow._model.limits import Limit  # noqa: E402
from trioflow.backends.commits import (  # noqa: E402
    ActivityProgress,
    ActivityRetry,
    Answer,
    NewQuestion,
    Unit,
)
from trioflow.backends.filters import InstanceFilter  # noqa: E402
from trioflow.backends.moves import Fence  # noqa: E402
from trioflow.backends.redis.backend import RedisBackend  # noqa: E402
from trioflow.backends.resets import Beginning, Reset  # noqa: E402
from trioflow.testing.conformance.stage import (  # noqa: E402
    CANCELLED,
    DONE,
    TERMINATED,
    Stage,
    key,
    named,
    new,
    result,
    step,
)

_missing = servers.available()
if _missing and os.environ.get("CI") != "true":
    pytest.skip(_missing, allow_module_level=True)

_numbers = count()
_FOREVER = 1e12
_MOVE = "5" * 32
_SOURCE = Fence(move=_MOVE, role="source", other="elsewhere", at=1.0)
_DESTINATION = Fence(move=_MOVE, role="destination", other="elsewhere", at=1.0)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with servers.start(tmp_path_factory.mktemp("redis")) as url:
        yield url


def opened(url):
    return stores.opened(RedisBackend(url, prefix=f"answers{next(_numbers)}"))


async def no_time(_seconds):
    raise NotImplementedError


def lose_each_first_answer(backend):
    """Let the server do what it is asked, and lose what it says, each time that it is new."""
    connection = backend._connections.calls
    send = connection._send
    lost = []

    def lossy(requests, *, again):
        answers = send(requests, again=again)
        if again or any(isinstance(each, redis.exceptions.NoScriptError) for each in answers):
            return answers
        lost.append([request.name for request in requests])
        raise redis.ConnectionError("lost")

    connection._send = lossy
    return lost


def shape_of(url, backend):
    """Return what a store holds, but for times and what is kept of answers."""
    tag = backend._connections.calls.address.tag.encode()
    shape = {}
    with redis.Redis.from_url(url) as admin:
        for name in admin.scan_iter(tag + b":*"):
            kind = admin.type(name)
            if name.startswith(tag + b":done:"):
                continue
            if kind == b"hash":
                held = sorted(admin.hkeys(name))
            elif kind == b"zset":
                held = admin.zrange(name, 0, -1)
            elif kind == b"set":
                held = sorted(admin.smembers(name))
            elif kind == b"list":
                held = admin.lrange(name, 0, -1)
            else:
                held = admin.get(name)
            shape[name.removeprefix(tag)] = held
    return shape


# --- what there is, and what is called ------------------------------------------------------------


async def a_held_one(stage):
    await stage.workers("w1")
    await stage.backend.create([new("a")])
    await stage.take()
    work = named("0:0", "0:1", leased=True)
    await stage.stored(step("a", 0, activities=[*work, *named("0:2")]))


async def a_free_one(stage):
    await stage.backend.create([new("a")])


async def a_suspended_one(stage):
    await a_free_one(stage)
    await stage.backend.suspend("a", b"{}")


async def one_that_waits_for_an_attempt(stage):
    await a_held_one(stage)
    later = ActivityRetry(key("a", "0:0"), 2, stage.backend.now() + 1e6)
    assert await stage.backend.commit("w1", [Unit(retries=[later])]) == [None]


async def one_that_has_ended(stage):
    await stage.workers("w1")
    await stage.backend.create([new("a")])
    await stage.take()
    await stage.stored(step("a", 0, closing=DONE))


async def two_lives(stage):
    await one_that_has_ended(stage)
    await stage.backend.create([new("a")])


async def a_limit(stage):
    await stage.backend.set_limit(Limit(kind="queue", name="q", concurrency=1))


async def a_question(stage):
    await one_that_has_ended(stage)
    await stage.backend.ask(NewQuestion("q", "a", "", b"?", _FOREVER))


async def a_closed_destination(stage):
    assert await stage.backend.fence(_DESTINATION) is None


async def what_was_moved(stage):
    await a_closed_destination(stage)
    moved, common = await exported(stage)
    assert await stage.backend.import_instances(_MOVE, moved)
    assert await stage.backend.import_common(_MOVE, common)


async def exported(stage):
    address = stage.backend._connections.calls.address
    async with opened(address.url) as other:
        await a_limit(Stage(other, no_time))
        await a_held_one(Stage(other, no_time))
        await other.release_worker("w1")
        return await other.export(limit=9), await other.export_common()


def a_reset():
    values = {"life": "", "execution": 1, "ending": b"{}", "outcome": TERMINATED}
    return Reset(id="a", turns=1, inbox=[], beginning=Beginning(turns=[b"{}"]), **values)


async def import_all(backend):
    moved, common = await exported(Stage(backend, no_time))
    done = await backend.import_instances(_MOVE, moved)
    return done, await backend.import_common(_MOVE, common)


_ALL = InstanceFilter()
_CANCEL = b'{"event":"cancel requested","reason":null}'
CALLS = {
    "answer_questions": (a_question, lambda b: b.answer_questions([Answer("q", b"!")])),
    "ask": (one_that_has_ended, lambda b: b.ask(NewQuestion("q", "a", "", b"?", _FOREVER))),
    "cancel": (a_held_one, lambda b: b.cancel("a", _CANCEL, CANCELLED)),
    "cancel of what has not begun": (a_free_one, lambda b: b.cancel("a", _CANCEL, CANCELLED)),
    "clear": (what_was_moved, lambda b: b.clear(_MOVE)),
    "commit": (a_held_one, lambda b: b.commit("w1", [Unit(instances=[step("a", 1)])])),
    "commit of an end": (
        a_held_one,
        lambda b: b.commit("w1", [Unit(instances=[step("a", 1, closing=DONE)])]),
    ),
    "commit of progress": (
        a_held_one,
        lambda b: b.commit("w1", [Unit(progress=[ActivityProgress(key("a", "0:0"), b"1")])]),
    ),
    "commit of a result": (a_held_one, lambda b: b.commit("w1", [result("a", "0:0", b"{}")])),
    "create": (a_free_one, lambda b: b.create([new("a"), new("b")])),
    "create in place of another": (
        a_held_one,
        lambda b: b.create([new("a", life="1" * 32)], replacing=TERMINATED),
    ),
    "create_and_send": (a_limit, lambda b: b.create_and_send(new("a"), b"{}")),
    "fence": (a_held_one, lambda b: b.fence(_SOURCE)),
    "fork": (a_held_one, lambda b: b.fork(new("b"), Beginning(turns=[b"{}"]))),
    "import": (a_closed_destination, import_all),
    "lift_fence": (a_closed_destination, lambda b: b.lift_fence(_MOVE)),
    "lift_fence and forget": (a_closed_destination, lambda b: b.lift_fence(_MOVE, forget=True)),
    "recall": (a_held_one, lambda b: b.recall("w1", [key("a", "0:0")])),
    "reclaim": (a_held_one, lambda b: b.reclaim(-1.0)),
    "register_worker": (a_held_one, lambda b: b.register_worker("w2", "another")),
    "release_instances": (a_held_one, lambda b: b.release_instances("w1", ["a", "b"])),
    "release_worker": (a_held_one, lambda b: b.release_worker("w1")),
    "remove": (one_that_has_ended, lambda b: b.remove(_ALL, limit=9)),
    "remove by its id": (one_that_has_ended, lambda b: b.remove(_ALL, limit=9, ids=["a"])),
    "remove_executions": (two_lives, lambda b: b.remove_executions(_FOREVER, limit=9)),
    "remove_limit": (a_limit, lambda b: b.remove_limit("queue", "q")),
    "reset": (a_held_one, lambda b: b.reset(a_reset())),
    "reset of what had ended": (one_that_has_ended, lambda b: b.reset(a_reset())),
    "resume": (a_suspended_one, lambda b: b.resume("a")),
    "retry_now": (one_that_waits_for_an_attempt, lambda b: b.retry_now("a")),
    "send": (a_free_one, lambda b: b.send("a", b"{}")),
    "send a request": (a_free_one, lambda b: b.send("a", b"{}", request="r")),
    "set_limit": (a_limit, lambda b: b.set_limit(Limit(kind="queue", name="q", concurrency=2))),
    "suspend": (a_held_one, lambda b: b.suspend("a", b"{}")),
    "terminate": (a_held_one, lambda b: b.terminate("a", TERMINATED)),
    "withdraw": (a_question, lambda b: b.withdraw(["q"])),
}


@pytest.mark.parametrize("name", CALLS)
async def test_it_is_made_once_and_gives_its_answer(name, server):
    prepare, call = CALLS[name]
    seen = []
    for loses in (False, True):
        async with opened(server) as backend:
            await prepare(Stage(backend, no_time))
            lost = lose_each_first_answer(backend) if loses else []
            answer = await call(backend)
            assert bool(lost) == loses
            seen.append((answer, shape_of(server, backend)))
    (answer, shape), (again, other) = seen
    assert again == answer
    assert other == shape
