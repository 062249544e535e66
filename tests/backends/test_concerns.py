"""What the stores in this process say that their changes are about."""

# mypy: ignore-errors

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import get_args

import pytest

from trioflow.backends.abc import Concern
from trioflow.backends.commits import Answer, NewQuestion
from trioflow.backends.memory import MemoryBackend
from trioflow.testing.conformance.stage import DONE, Stage, named, step
from trioflow.testing.lockstep.model import Model

STORES = pytest.mark.parametrize("make", [MemoryBackend, Model])


@asynccontextmanager
async def staged(make):
    now = [1000.0]

    async def pass_time(seconds):
        now[0] += seconds

    backend = make(clock=lambda: now[0])
    await backend.open()
    stage = Stage(backend, pass_time)
    await stage.workers("w1", "w2")
    await stage.hold("a", "b", "c", life="l1")
    yield stage
    await backend.aclose()


def about(stage, seen, worker="w2"):
    return {what for what in get_args(Concern) if stage.backend.changed(what, seen, worker)}


@STORES
async def test_each_change_is_about_what_it_brings(make):
    async with staged(make) as stage:
        backend = stage.backend
        changes = {
            "create": (lambda: stage.create("new"), {"instances"}),
            "send": (lambda: backend.send("b", b"{}"), {"instances"}),
            "ask": (
                lambda: backend.ask(NewQuestion("q", "a", "l1", b"{}", backend.now() + 60)),
                {"questions"},
            ),
            "answer": (lambda: backend.answer_questions([Answer("q", b"{}")]), set()),
            "a turn": (lambda: stage.stored(step("a", 0, life="l1")), set()),
            "an activity begun here": (
                lambda: stage.stored(step("a", 1, life="l1", activities=named("0:0", leased=True))),
                set(),
            ),
            "an activity for others": (
                lambda: stage.stored(step("a", 2, life="l1", activities=named("0:1"))),
                {"activities"},
            ),
            "an end": (
                lambda: stage.stored(step("c", 0, life="l1", closing=DONE)),
                {"instances", "cancels", "outcomes"},
            ),
        }
        for name, (change, expected) in changes.items():
            seen = backend.changes()
            await change()
            assert about(stage, seen) == expected, name
        seen = backend.changes()
        await backend.release_worker("w1")
        assert about(stage, seen) == {*get_args(Concern)}


@STORES
async def test_what_a_worker_parks_is_news_to_others(make):
    async with staged(make) as stage:
        seen = stage.backend.changes()
        await stage.stored(step("a", 0, life="l1", leased=False, wake_at=2000.0))
        assert about(stage, seen, "w1") == set()
        assert about(stage, seen, "w2") == {"instances"}


@STORES
@pytest.mark.parametrize("more", [{"due": True}, {"continued": b"{}"}])
async def test_what_a_worker_gives_back_ready_is_news_to_it(make, more):
    async with staged(make) as stage:
        seen = stage.backend.changes()
        await stage.stored(step("a", 0, life="l1", leased=False, **more))
        assert about(stage, seen, "w1") == {"instances"}


@STORES
async def test_a_refusal_is_news_to_the_worker_of_everything(make):
    async with staged(make) as stage:
        seen = stage.backend.changes()
        parked = step("a", 7, life="l1", leased=False, wake_at=2000.0)
        assert await stage.commit(parked) is not None
        assert about(stage, seen, "w1") == {*get_args(Concern)}
