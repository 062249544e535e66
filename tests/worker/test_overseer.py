"""The overseer: who is silent for too long, and who only could not be heard."""

# mypy: ignore-errors

from __future__ import annotations

import math
from contextlib import asynccontextmanager

import pytest
import trio

from trioflow._worker.activities.lanes import Run
from trioflow._worker.activities.overseer import Overseer
from trioflow._worker.activities.pulse import Pulse
from trioflow.backends.records import ActivityKey, ActivityTask


class Loop:
    """A loop's clock that can be made late, and one attempt that may be silent for 3 s."""

    def __init__(self):
        self.late = 0.0
        self.silent_after = []
        self.overseer = Overseer(self.now, self)
        self.run = Run(ActivityTask(ActivityKey("a", 1, "0"), "f", "q", b"", b"", 1, 0.0), 0.0, 0)
        self.run.pulse = Pulse(self.now, lambda _: b"", lambda fn: fn(), lambda: None)
        self.run.pulse.silence = 3.0

    def now(self):
        return trio.current_time() + self.late

    def silent(self, run):
        self.run.pulse.overdue = True
        self.silent_after.append(self.now() - run.pulse.last_at)

    def stand_still(self, seconds):
        """Let everybody wake late by so much, as if nothing had run meanwhile."""
        self.late += seconds


@asynccontextmanager
async def watched():
    async with trio.open_nursery() as nursery:
        loop = Loop()
        loop.overseer.watch_limit(loop.run, math.inf)
        nursery.start_soon(loop.overseer.watch)
        yield loop
        nursery.cancel_scope.cancel()


async def test_who_says_nothing_is_silent_when_its_time_is_over(clock):
    async with watched() as loop:
        await trio.sleep(2)
        loop.run.pulse.beat(None)
        await trio.sleep(10)
        assert loop.silent_after == pytest.approx([3.0])


async def test_who_could_not_speak_is_heard_first(clock):
    async with watched() as loop:
        await trio.sleep(1)
        loop.stand_still(60)
        await trio.sleep(2.5)  # the wake comes late, and it may speak now
        assert loop.silent_after == []
        loop.run.pulse.beat(None)
        await trio.sleep(2.9)
        assert loop.silent_after == []
        await trio.sleep(10)
        assert loop.silent_after == pytest.approx([3.0])


async def test_who_then_says_nothing_is_silent(clock):
    async with watched() as loop:
        await trio.sleep(1)
        loop.stand_still(60)
        await trio.sleep(3.5)
        assert loop.silent_after == pytest.approx([64.0])


async def test_a_loop_that_is_always_late_does_not_hide_silence(clock):
    async with watched() as loop:
        for _ in range(50):
            await trio.sleep(0.1)
            loop.stand_still(0.2)
        assert len(loop.silent_after) == 1
        assert loop.silent_after[0] < 3 + 10
