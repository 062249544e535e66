"""Attributes: set by a start and by the workflow, found and counted by clients."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
import trio

from tests.worker.flow import in_memory, serving, until, until_parked, until_status
from trioflow import (
    ArgumentError,
    NotInWorkflow,
    Registry,
    Signal,
    attribute,
    continue_as_new,
    set_attributes,
)

go = Signal("go", int)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
flows = Registry()


@flows.workflow
async def order(stage: str) -> int:
    set_attributes(stage=stage, count=1)
    got = await go.receive()
    set_attributes(stage="paid", count=None, amount=got)
    return await go.receive()


@flows.workflow
async def goes_on(rounds: int) -> None:
    set_attributes(**{f"round{rounds}": rounds})
    await go.receive()
    if rounds:
        continue_as_new(rounds - 1)


@flows.workflow
async def parent() -> None:
    await order.options(id="child", attributes={"of": "parent"})("new")


@flows.workflow
async def sets(many: int) -> str:
    set_attributes(kept=True)
    try:
        set_attributes(**{f"a{n}": n for n in range(many)})
    except ArgumentError as exc:
        return str(exc)
    return "set"


async def ids(client, where, **filters):
    return [found.id for found in await client.list(where=where, **filters)]


async def test_a_workflow_sets_what_it_is_found_by(flow):
    async with flow.worker(flows) as worker, flow.client() as client:
        start = order.options(id="a", attributes={"customer": "c7", "stage": "none"})
        handle = await worker.client.start(start, "open")
        await worker.client.start(order.options(id="b", attributes={"customer": "c8"}), "open")
        await until_parked(handle)
        await until_parked(client.handle("b"))
        assert (await handle.describe()).attributes == {
            "customer": "c7",
            "stage": "open",
            "count": 1,
        }
        assert await ids(client, {"stage": "open"}) == ["b", "a"]
        assert await ids(client, {"stage": "open", "customer": "c7"}) == ["a"]
        assert await client.count(where={"count": 1}) == 2
        await handle.signal(go, 5)
        await until(lambda: ids(client, {"stage": "paid"}))
        assert (await handle.describe()).attributes == {
            "customer": "c7",
            "stage": "paid",
            "amount": 5,
        }
        assert await ids(client, attribute("amount") >= 5) == ["a"]
        assert await client.count(group_by=attribute("stage")) == {"open": 1, "paid": 1}
        assert await client.count(group_by="status") == {"running": 2}
        assert await client.count(group_by="workflow", where={"customer": "c8"}) == {"order": 1}
        await handle.signal(go, 1)
        assert await handle.result() == 1
        assert await ids(client, {"stage": "paid"}, status="completed") == ["a"]
        removed = await client.remove(finished_before=4e9, where={"stage": "open"})
        assert removed == 0
        assert await client.remove(finished_before=4e9, where={"stage": "paid"}) == 1


async def test_they_go_over_into_the_next_execution(flow):
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(goes_on.options(attributes={"fixed": 1.5}), 2)
        for _ in range(3):
            await handle.signal(go, 1)
        await handle.result()
        found = (await handle.describe()).attributes
        assert found == {"fixed": 1.5, "round2": 2, "round1": 1, "round0": 0}


async def test_a_sub_workflow_has_its_own(clock):
    async with serving(in_memory(clock), flows) as client:
        await client.start(parent)
        await until(lambda: ids(client, {"of": "parent"}))
        (child,) = await client.list(where={"of": "parent"})
        assert child.id == "child"
        assert child.attributes == {"of": "parent", "stage": "new", "count": 1}


async def test_every_kind_of_value_is_found(clock):
    values = {
        "text": "é b",
        "whole": 7,
        "broken": 0.1,
        "flag": False,
        "when": NOON,
        "tags": ["a", "b", "a"],
        "none": [],
    }
    async with serving(in_memory(clock), flows) as client:
        start = order.options(attributes=values).options(id="x")
        await client.start(start, "new")
        for name, value in values.items():
            if value != []:
                assert await ids(client, {name: value}) == ["x"], name
        found = (await client.handle("x").describe()).attributes
        assert {name: found[name] for name in values} == values
        elsewhere = NOON.astimezone(timezone(timedelta(hours=5)))
        for where in (
            {"tags": "a"},
            {"whole": 7.0},
            {"when": elsewhere},
            [attribute("when") >= NOON, attribute("when") < NOON + timedelta(microseconds=1)],
            [attribute("tags") == "b", attribute("broken") > 0.09],
        ):
            assert await ids(client, where) == ["x"], where
        for where in (
            {"tags": "c"},
            {"tags": ["a", "c"]},
            {"flag": 0},
            {"whole": "7"},
            {"text": "é"},
            attribute("when") > NOON,
            attribute("flag") >= 0,
        ):
            assert await ids(client, where) == [], where
        assert await client.count(group_by=attribute("tags")) == {"a": 1, "b": 1}
        assert await client.count(group_by=attribute("when")) == {NOON: 1}
        assert await client.count(group_by=attribute("flag")) == {False: 1}


async def test_too_many_are_refused_where_they_are_set(clock):
    async with serving(in_memory(clock), flows) as client:
        assert await client.run(sets, 31) == "set"
        handle = await client.start(sets, 32)
        assert "at most 32 attributes, not 33" in await handle.result()
        assert (await handle.describe()).attributes == {"kept": True}


async def test_what_was_set_in_a_turn_that_is_made_again_is_set_once(backend):
    """A signal that comes as the workflow ends has the last turn made again."""
    local = Registry()

    @local.workflow
    async def counts() -> int:
        seen = 0
        with trio.move_on_after(5):
            while True:
                seen += await go.receive()
                set_attributes(seen=seen)
        return seen

    async with serving(backend, local, cache_size=0) as client:
        handle = await client.start(counts)
        for _ in range(3):
            await handle.signal(go, 1)
        assert await handle.result() == 3
        assert (await handle.describe()).attributes == {"seen": 3}


async def test_suspended_ones_are_found_too(clock):
    async with serving(in_memory(clock), flows) as client:
        handle = await client.start(order.options(max_events=100), "new")
        for n in range(120):
            await handle.signal(Signal("other", int), n)
        await until_status(handle, "suspended")
        assert await client.count(where={"stage": "new"}, status="suspended") == 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (datetime(2026, 1, 2), "no time zone"),  # noqa: DTZ001 - it is the mistake
        (float("nan"), "no number that every store"),
        (float("inf"), "no number that every store"),
        (2**60, "no number that every store"),
        (b"x", "a str, int, float, bool, datetime or list of str is needed, not b'x'"),
        (None, "is needed, not None"),
        ([1], "a member of attribute .* is a string, not 1"),
        ("x" * 2049, "more than 2048 bytes"),
        (["x" * 1025, "y" * 1025], "more than 2048 bytes"),
        ("a\0b", "holds a NUL"),
    ],
    ids=repr,
)
def test_bad_values_are_refused(value, words):
    with pytest.raises(ArgumentError, match=words):
        order.options(attributes={"a": value})
    if value is not None:
        with pytest.raises(ArgumentError, match=words):
            attribute("a") == value  # noqa: B015 - it is refused when it is made


def test_bad_names_and_numbers_of_them_are_refused():
    for name in ("", "x" * 65, "a\0"):
        with pytest.raises(ArgumentError, match="name of an attribute"):
            order.options(attributes={name: 1})
        with pytest.raises(ArgumentError, match="name of an attribute"):
            attribute(name)
    with pytest.raises(ArgumentError, match="at most 32 attributes"):
        order.options(attributes={f"a{n}": n for n in range(33)})
    with pytest.raises(ArgumentError, match="a dict of names and values"):
        order.options(attributes=["a"])  # type: ignore[arg-type]
    with pytest.raises(NotInWorkflow):
        set_attributes(a=1)


def test_conditions_are_no_truth_values():
    with pytest.raises(TypeError, match="where="):
        assert 1 <= attribute("a") < 5
    with pytest.raises(TypeError, match="neither true nor false"):
        assert attribute("a") != 5
    with pytest.raises(ArgumentError, match="have an order"):
        attribute("a") < "x"  # type: ignore[operator]  # noqa: B015 - as above


async def test_bad_filters_are_refused(clock):
    async with serving(in_memory(clock), flows) as client:
        for where in ("a", ["a"], [{"a": 1}], 5):
            with pytest.raises(ArgumentError, match="where: a dict of attributes"):
                await client.list(where=where)
        with pytest.raises(ArgumentError, match="empty list"):
            await client.list(where={"a": []})
        with pytest.raises(ValueError, match=r"group_by: one of 'status'.*not 'stage'"):
            await client.count(group_by="stage")
