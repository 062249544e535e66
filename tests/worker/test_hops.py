"""How long a question and its answer are on their way between two processes that poll a store.

Each hears of what the other has stored by looking, at most so often. A wake-up of the worker and
one of the client must do: who needs a third one waits half as long again.
"""

from __future__ import annotations

import inspect
from functools import partial

import pytest
import trio

from tests.stores import PassesOn, opened
from tests.worker.flow import in_memory, serving
from trioflow import Query, Registry, Signal, Update, open_client
from trioflow.backends._common.watching import Watcher

flows = Registry()
total = Query("total", result=int)
add = Update("add", argument=int, result=int)
go = Signal("go", int)
SELDOM = 10.0  # seconds; so long that what is not polled for shows
WHILE = (60.0, 61.7, 64.4, 67.9)  # of silence, so that it falls between two looks here and there


@flows.workflow
async def sums() -> int:
    number = 0
    total.handler(lambda: number)

    @add.handler
    async def _(more: int) -> int:
        nonlocal number
        number += more
        return number

    return await go.receive()


class OfAProcess(PassesOn):
    """A store as one of several processes has it: of the others' changes it hears by looking."""

    def __init__(self, backend):
        super().__init__(backend)
        self._seen = backend.changes()
        self._watcher = Watcher(self._look, seldom=SELDOM)
        self.changes = lambda: self._watcher.number
        self.changed = self._watcher.changed
        self.wait_change = self._watcher.wait

    def __getattr__(self, name):
        member = getattr(self._backend, name)
        return partial(self._call, member) if inspect.iscoroutinefunction(member) else member

    async def _call(self, member, *args, **kwargs):
        before = self._backend.changes()
        try:
            return await member(*args, **kwargs)
        finally:
            if self._backend.changes() != before:  # its own changes it knows at once
                self._seen = self._backend.changes()
                self._watcher.notify()

    async def _look(self):
        before, self._seen = self._seen, self._backend.changes()
        return self._seen != before


async def took(call):
    began = trio.current_time()
    await call()
    return trio.current_time() - began


@pytest.mark.parametrize("what", ["query", "update", "result"])
async def test_an_answer_is_two_wake_ups_away(what, clock, harness):
    backend = in_memory(clock)
    harness.enter(opened(backend))
    async with serving(OfAProcess(backend), flows), open_client(OfAProcess(backend)) as client:
        for silence in WHILE:
            handle = await client.start(sums)
            await trio.sleep(silence)

            async def ends(handle=handle):
                await handle.signal(go, 1)
                await handle.result()

            calls = {
                "query": partial(handle.query, total, timeout=100),
                "update": partial(handle.update, add, 1),
                "result": ends,
            }
            assert await took(calls[what]) <= 2 * SELDOM
