"""The threads beside the loop: they go on while it is busy."""

from __future__ import annotations

import math
import threading

import anyio
import pytest

from trioflow import Registry, open_worker
from trioflow._worker.heartbeat import Heart
from trioflow._worker.real_host import running_host
from trioflow.backends.records import ActivityKey, Heartbeat

KEY = ActivityKey("a", 1, "0:0", "life")


class Beating:
    """A store that asks for a cancel with every heartbeat."""

    def __init__(self):
        self.beats = 0
        self.third = threading.Event()

    def heartbeat(self, worker):
        self.beats += 1
        if self.beats == 3:
            self.third.set()
        return Heartbeat(alive=True, cancelled=[KEY])


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_heartbeat_with_something_to_tell_does_not_wait_for_the_loop(loop):
    async def main():
        store, told = Beating(), []
        heard = anyio.Event()

        def on_cancelled(keys):
            told.extend(keys)
            heard.set()

        heart = Heart(
            store,
            "w",
            host=running_host(),
            interval=0.001,
            on_lost=lambda _: None,
            on_cancelled=on_cancelled,
        )
        assert store.third.wait(10), "the loop is busy, and the worker expires"
        assert told == []
        await heard.wait()
        heart.stop()
        assert set(told) == {KEY}

    anyio.run(main, backend=loop)


def test_a_limit_that_never_ends_is_no_limit():
    flows = Registry()

    @flows.workflow
    async def work() -> int:
        return 1

    async def main():
        async with open_worker(
            "memory://", registry=flows, stuck_after=math.inf, drain=0.0
        ) as worker:
            assert await worker.client.run(work) == 1

    anyio.run(main, backend="trio")
