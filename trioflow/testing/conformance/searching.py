"""Conformance: attributes, what is found by them, and how pages and groups are made."""

# ruff: noqa: D103 - assertions; a case is described by its name

from __future__ import annotations

import msgspec

from trioflow._model.attributes import AttributeCondition
from trioflow.backends.filters import InstanceFilter
from trioflow.testing.conformance.stage import (
    ALL,
    DONE,
    TERMINATED,
    Case,
    Stage,
    child,
    new,
    step,
)

# Found among more than one would look through one by one.
_MANY = 1200


def _has(name: str, word: str) -> AttributeCondition:
    return AttributeCondition(name, "=", word=word)


def _where(*conditions: AttributeCondition, **fields: object) -> InstanceFilter:
    return msgspec.structs.replace(ALL, attributes=conditions, **fields)


async def _found(stage: Stage, *conditions: AttributeCondition, **fields: object) -> str:
    """Return the ids of what a filter means; a count and pages of one have to agree."""
    where = _where(*conditions, **fields)
    ids = [row.id for row in await stage.backend.list(where, limit=99)]
    assert await stage.backend.count(where) == len(ids)
    paged: list[str] = []
    after = None
    while page := await stage.backend.list(where, limit=1, after=after):
        after = page[0].id
        paged.append(after)
    assert paged == ids
    return " ".join(ids)


async def instances_are_found_by_their_attributes(stage: Stage) -> None:
    await stage.create("a", attributes=b'{"n":1,"s":"x"}')
    await stage.create("b", attributes=b'{"n":2.5,"s":"y"}', queue="q")
    await stage.create("c", attributes=b'{"n":"1","s":["x","y","x"]}')
    await stage.create(
        "d", attributes=b'{"n":10,"s":true,"t":{"time":"2026-01-02T03:04:05+00:00"}}'
    )
    await stage.create("none")
    assert (await stage.record("a")).attributes == b'{"n":1,"s":"x"}'
    assert (await stage.record("none")).attributes == b""
    assert await _found(stage, _has("ss", "x")) == "c a"
    assert await _found(stage, _has("ss", "x"), _has("ss", "y")) == "c"
    assert await _found(stage, _has("ss", "y"), queue="q") == "b"
    assert await _found(stage, _has("ss", "y"), id_prefix="c", status=("running",)) == "c"
    assert await _found(stage, _has("ss", "y"), status=("failed",)) == ""
    assert await _found(stage, _has("ss", "X")) == ""
    assert await _found(stage, _has("sx", "x")) == ""
    assert await _found(stage, _has("nn", "1.0")) == "a"
    assert await _found(stage, _has("sn", "1")) == "c"
    assert await _found(stage, _has("bs", "true")) == "d"
    for condition, ids in (
        (AttributeCondition("nn", "<", quantity=2.5), "a"),
        (AttributeCondition("nn", "<=", quantity=2.5), "b a"),
        (AttributeCondition("nn", ">", quantity=2.5), "d"),
        (AttributeCondition("nn", ">=", quantity=2.5), "d b"),
        (AttributeCondition("nn", ">", quantity=-1.0), "d b a"),
    ):
        assert await _found(stage, condition) == ids
    above = AttributeCondition("nn", ">", quantity=1.0)
    assert await _found(stage, above, AttributeCondition("nn", "<", quantity=9.0)) == "b"
    assert await _found(stage, above, _has("ss", "y")) == "b"
    assert await _found(stage, AttributeCondition("tt", ">", quantity=1.0)) == "d"
    assert await _found(stage, AttributeCondition("nt", ">", quantity=1.0)) == ""


async def words_are_compared_exactly(stage: Stage) -> None:
    words = ("", "é", "e\u0301", "E", "ß", "a:b", "x" * 2048, "😀")
    for number, word in enumerate(words):
        data = msgspec.json.encode({"word": word})
        await stage.create(f"{number}", attributes=data)
    for number, word in enumerate(words):
        assert await _found(stage, _has("sword", word)) == f"{number}"


async def a_commit_changes_attributes(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", attributes=b'{"s":"x"}')
    await stage.hold("b")
    await stage.stored(step("a", 0, attributes=b'{"n":1,"s":"y"}'))
    await stage.stored(step("b", 0))
    assert await _found(stage, _has("ss", "x")) == ""
    assert await _found(stage, _has("ss", "y")) == "a"
    await stage.stored(step("a", 1), step("b", 1, attributes=b'{"s":["y","z"]}'))
    assert await _found(stage, _has("ss", "y")) == "b a"
    assert (await stage.record("a")).attributes == b'{"n":1,"s":"y"}'
    assert await stage.commit(step("a", 1, attributes=b'{"s":"never"}')) is not None
    await stage.stored(step("a", 2, attributes=b"", closing=DONE))
    assert await _found(stage, _has("ss", "y")) == "b"
    assert (await stage.record("a")).attributes == b""
    kept = step("b", 2, attributes=b'{"s":"kept"}', continued=b"[]", leased=False)
    await stage.stored(kept)
    (taken,) = await stage.take()
    assert taken.attributes == b'{"s":"kept"}'
    await stage.stored(step("b", 0, execution=2, suspended=b"{}"))
    assert await _found(stage, _has("ss", "kept"), status=("suspended",)) == "b"


async def what_is_born_in_a_commit_has_attributes(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("p")
    one = child("one", "p", "0:1", attributes=b'{"s":"x"}')
    two = child("two", "p", "0:2", attributes=b'{"s":"x"}')
    await stage.stored(
        step("p", 0),
        step("one", 0, new=one),
        step("two", 0, new=two, attributes=b'{"s":"y"}', closing=DONE),
    )
    assert await _found(stage, _has("ss", "x")) == "one"
    assert await _found(stage, _has("ss", "y")) == "two"
    assert await _found(stage, _has("ss", "x"), parent="p") == "one"


async def attributes_go_with_their_instance(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("a", "b", attributes=b'{"n":1,"s":"x"}')
    await stage.stored(step("a", 0, closing=DONE))
    await stage.create("a", attributes=b'{"s":"y"}')
    assert await _found(stage, _has("ss", "x")) == "b"
    assert await _found(stage, _has("ss", "y")) == "a"
    assert await _found(stage, AttributeCondition("nn", ">", quantity=0.0)) == "b"
    await stage.stored(step("b", 0, closing=DONE))
    assert await backend.remove(_where(_has("ss", "y")), limit=9) == 0
    assert await backend.remove(_where(_has("ss", "x")), limit=9) == 1
    assert await _found(stage, _has("ss", "x")) == ""
    await stage.create("b")
    assert await _found(stage, _has("ss", "x")) == ""


async def many_are_found_in_order(stage: Stage) -> None:
    instances = [
        new(f"i{n:04}", attributes=b'{"n":%d,"s":"%s"}' % (n, b"odd" if n % 2 else b"even"))
        for n in range(_MANY)
    ]
    for at in range(0, _MANY, 100):
        assert all(await stage.backend.create(instances[at : at + 100]))
    await stage.create("none")
    for condition, expected in (
        (_has("sodd", "odd"), []),
        (_has("ss", "odd"), [n for n in range(_MANY) if n % 2]),
        (AttributeCondition("nn", ">=", quantity=0.0), list(range(_MANY))),
        (AttributeCondition("nn", "<", quantity=300.0), list(range(300))),
    ):
        assert await stage.backend.count(_where(condition)) == len(expected)
        ids: list[str] = []
        while page := await stage.backend.list(
            _where(condition), limit=250, after=ids[-1] if ids else None
        ):
            ids += [row.id for row in page]
        assert ids == [f"i{n:04}" for n in reversed(expected)]


async def a_page_is_not_moved_by_what_is_new(stage: Stage) -> None:
    data = b'{"n":1,"s":"x"}'
    await stage.create("a", "b", "c", "d", attributes=data)
    for condition in (_has("ss", "x"), AttributeCondition("nn", ">", quantity=0.0)):
        where = _where(condition)
        first = [row.id for row in await stage.backend.list(where, limit=2)]
        await stage.create(f"{first[0]}+", attributes=data)
        second = await stage.backend.list(where, limit=2, after=first[-1])
        assert [row.id for row in second] == [chr(ord(first[-1][0]) - n) for n in (1, 2)]
        await stage.backend.terminate(f"{first[0]}+", TERMINATED)
        assert await stage.backend.remove(ALL, limit=9) == 1


async def instances_are_counted_by_what_they_share(stage: Stage) -> None:
    backend = stage.backend
    await stage.workers("w1")
    await stage.hold("a", "b", attributes=b'{"s":"x","n":1}')
    await stage.hold("c", queue="q", workflow="other", attributes=b'{"s":["x","y"],"n":2}')
    await stage.create("d", attributes=b'{"s":1}')
    await stage.stored(step("a", 0, closing=DONE))
    for where, by, attribute, expected in (
        (ALL, "status", False, {("", "completed", 1), ("", "running", 3)}),
        (ALL, "workflow", False, {("", "flow", 3), ("", "other", 1)}),
        (ALL, "queue", False, {("", "default", 3), ("", "q", 1)}),
        (ALL, "s", True, {("ss", "x", 3), ("ss", "y", 1), ("ns", "1.0", 1)}),
        (ALL, "nothing", True, set[tuple[str, str, int]]()),
        (
            InstanceFilter(status=("running",)),
            "s",
            True,
            {("ss", "x", 2), ("ss", "y", 1), ("ns", "1.0", 1)},
        ),
        (_where(_has("ss", "x")), "n", True, {("nn", "1.0", 2), ("nn", "2.0", 1)}),
        (_where(_has("ss", "y")), "status", False, {("", "running", 1)}),
        (
            _where(AttributeCondition("nn", ">", quantity=1.0)),
            "s",
            True,
            {("ss", "x", 1), ("ss", "y", 1)},
        ),
    ):
        found = await backend.count_by(where, by, attribute=attribute)
        assert set(found) == expected, (where, by)
        assert len(found) == len(expected)


CASES: tuple[Case, ...] = (
    instances_are_found_by_their_attributes,
    words_are_compared_exactly,
    a_commit_changes_attributes,
    what_is_born_in_a_commit_has_attributes,
    attributes_go_with_their_instance,
    many_are_found_in_order,
    a_page_is_not_moved_by_what_is_new,
    instances_are_counted_by_what_they_share,
)
