"""Activities that a test calls by themselves."""

from __future__ import annotations

import logging

import anyio
import pytest

from trioflow import Registry, TrioflowError, activity_info, heartbeat
from trioflow.testing import activity_context

flows = Registry()


@flows.activity
async def charge(order: str) -> str:
    about = activity_info()
    return f"{about.activity} {order}, attempt {about.attempt}, {about.idempotency_key}"


@flows.activity
def render(order: str) -> str:
    return f"{order} {activity_info().attempt}"


@flows.activity
async def calls_another(order: str) -> str:
    return await charge(order)


async def test_it_is_told_of_its_call(host):
    with activity_context(attempt=2) as about:
        assert about.attempt == 2
        assert await charge("a") == "charge a, attempt 2, tested/1/0:1"
        assert await render("a") == "a 2"
    with activity_context(instance="order-7", life="ab", execution=3, command="0.1:2"):
        assert await charge("b") == "charge b, attempt 1, ab/3/0.1:2"
    with pytest.raises(
        TrioflowError, match=r"inside an activity.* trioflow\.testing\.activity_context\(\)"
    ):
        activity_info()


async def test_it_can_be_named():
    with activity_context(charge, queue="eu", scheduled_at=5.0):
        about = activity_info()
        assert (about.activity, about.queue, about.scheduled_at) == ("charge", "eu", 5.0)
    with activity_context("charge"):
        assert activity_info().activity == "charge"


async def test_the_call_of_another_one_is_warned_of_as_in_a_worker(caplog):
    caplog.set_level(logging.WARNING)
    with activity_context():
        await charge("a")
        assert not caplog.messages
        await calls_another("a")
        assert "'calls_another' calls activity 'charge'" in caplog.text


@flows.activity
async def copies(rows: int) -> int:
    first = activity_info().heartbeat or 0
    for row in range(first, rows):
        heartbeat(row + 1)
    return rows - first


async def test_heartbeats_are_heard_and_those_of_the_attempt_before_are_told():
    beats = []
    with activity_context(attempt=2, heartbeat=3, beats=beats, metadata={"user": "ann"}):
        assert await copies(5) == 2
        assert activity_info().metadata == {"user": "ann"}
    assert beats == [4, 5]
    with activity_context():
        assert await copies(2) == 2
    assert beats == [4, 5]


async def test_each_task_has_its_own():
    seen = {}

    async def attempt(number):
        with activity_context(attempt=number):
            await anyio.lowlevel.checkpoint()
            seen[number] = await render("x")

    async with anyio.create_task_group() as group:
        group.start_soon(attempt, 1)
        group.start_soon(attempt, 2)
    assert seen == {1: "x 1", 2: "x 2"}


@pytest.mark.parametrize("what", ["attempt", "execution"])
def test_counts_begin_at_one(what):
    with (
        pytest.raises(ValueError, match=f"{what} counts from 1, not 0"),
        activity_context(**{what: 0}),
    ):
        pass
