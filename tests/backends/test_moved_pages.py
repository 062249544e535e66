"""What is read for a move comes in parts of bounded size, whatever it is that is large."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from tests.stores import marked, open_store
from trioflow.backends.commits import Answer, Closing, Message, NewInstance, SharedClaim, Unit
from trioflow.testing.conformance.stage import named, step

ALL = ("memory", "sqlite", "postgres", "mariadb", "redis")
_MIB = b"x" * 2**20
_QUEUES = ["default"]


@asynccontextmanager
async def held(kind, path, servers, *ids):
    """Open a store with instances that worker ``w`` holds."""
    backend = open_store(kind, path, servers)()
    await backend.open()
    try:
        await backend.register_worker("w", "w", queues=_QUEUES, activity_queues=_QUEUES)
        await backend.create([NewInstance(id, "flow", "default", b"[]") for id in ids])
        await backend.take_instances("w", _QUEUES, len(ids))
        yield backend
    finally:
        await backend.aclose()


async def _large(what, backend, id):
    """Let an instance have five MiB of something."""
    if what == "messages":
        for _ in range(5):
            await backend.send(id, _MIB)
    elif what == "turns":
        for number in range(5):
            await _stored(backend, step(id, number, turns=[_MIB]))
    elif what == "activities":
        calls = named(*(f"0:{n}" for n in range(5)), input=_MIB)
        await _stored(backend, step(id, 0, activities=calls))
    elif what == "answers":
        for n in range(5):
            assert await backend.send(id, b"ask", request=f"r{n}") == "done"
        answers = [Answer(f"r{n}", _MIB) for n in range(5)]
        await _stored(backend, step(id, 0, answers=answers))
    elif what == "executions":
        for number in range(1, 6):
            more = {"execution": number, "continued": b"[]", "turns": [b"{}"], "status": _MIB}
            await _stored(backend, step(id, 0, **more))
    else:
        await _stored(backend, step(id, 0, closing=Closing("completed", _MIB * 5)))


@pytest.mark.parametrize(
    "what", ["messages", "turns", "activities", "answers", "executions", "the outcome"]
)
@pytest.mark.parametrize("kind", marked(ALL))
async def test_a_page_is_no_larger_than_it_needs_to_be(kind, what, tmp_path, servers):
    async with held(kind, tmp_path, servers, *"abcd") as backend:
        for id in "abc":
            await _large(what, backend, id)
        found = await backend.export(limit=9)
        assert 1 <= len(found) < 3
        while page := await backend.export(limit=9, after=found[-1].id):
            assert len(page) < 3
            found += page
        assert [one.id for one in found] == [*"abcd"]


@pytest.mark.parametrize("at_once", [1, 2, 3, 1000])
@pytest.mark.parametrize("kind", marked(["redis"]))
async def test_what_instances_share_is_read_in_parts(kind, at_once, tmp_path, servers, monkeypatch):
    from trioflow.backends.redis import moving  # noqa: PLC0415 - its driver is optional

    monkeypatch.setattr(moving, "_LOOKED_AT", at_once)
    monkeypatch.setattr(moving, "_AT_MOST", min(at_once, 2))
    async with held(kind, tmp_path, servers, *"abcde") as backend:
        for number, id in enumerate("abcde"):
            await _stored(backend, _asks(id, 0, "take", "lock:all"))
            await _stored(backend, _asks(id, 1, "take", f"lock:{number % 2}", command="0:1"))
        await _stored(backend, _asks("a", 2, "set", "event:open"))
        found = {one.name: one for one in (await backend.export_common()).shared}
        assert sorted(found) == ["event:open", "lock:0", "lock:1", "lock:all"]
        claims = {name: [claim.instance for claim in one.claims] for name, one in found.items()}
        assert claims == {
            "event:open": [],
            "lock:0": ["a", "c", "e"],
            "lock:1": ["b", "d"],
            "lock:all": [*"abcde"],
        }
        assert [name for name, one in found.items() if one.is_set] == ["event:open"]


def _asks(id, number, how, name, *, command="0:0"):
    claim = SharedClaim(how, name, command, 1)
    return step(id, number, messages=[Message(id, b"granted", execution=1, life="", claim=claim)])


async def _stored(backend, commit):
    assert await backend.commit("w", [Unit(instances=[commit])]) == [None]
