"""Whoever waits for a result hears of an end or a suspension that is told late, and of no other."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.worker.flow import serving, until, until_parked
from trioflow import InstanceSuspended, InstanceTerminated, Registry, Signal, open_client
from trioflow.backends.commits import NewInstance

go = Signal("go", str)


def fails_first():
    flows, runs = Registry(), []

    @flows.workflow
    async def work() -> str:
        await go.receive()
        runs.append(1)
        if len(runs) == 1:
            raise ValueError("the first end")
        return await go.receive() + await go.receive()

    return flows, work


class Slow:
    """Lets calls of a store's method that have done their work return only when they are told."""

    def __init__(self, backend, method, which):
        self.reached, self._go_on = trio.Event(), trio.Event()
        call = getattr(backend, method)

        async def slow(*args):
            found = await call(*args)
            if which(found, *args):
                self.reached.set()
                await self._go_on.wait()
            return found

        setattr(backend, method, slow)
        self._restore = lambda: setattr(backend, method, call)

    def restore(self):
        """Let new calls return at once."""
        self._restore()

    def go_on(self):
        self._go_on.set()


def has_failed(record, _id):
    return record is not None and record.status == "failed"


def closes(_results, _worker, units):
    return any(commit.closing is not None for unit in units for commit in unit.instances)


@pytest.mark.parametrize(
    ("method", "which", "inside"), [("get", has_failed, False), ("commit", closes, True)]
)
async def test_who_waits_after_a_reset_hears_of_the_next_end(method, which, inside, backend):
    """A look for all, or a worker's commit, has the old end in its hands when the wait begins."""
    flows, work = fails_first()
    async with (
        serving(backend, flows) as within,
        open_client(backend) as without,
        trio.open_nursery() as nursery,
    ):
        await within.start(work.options(id="w"))
        first, handle = without.handle("w"), (within if inside else without).handle("w")
        await until_parked(first)
        early, late = [], []

        async def wait(handle, told):
            try:
                told.append(await handle.result())
            except ValueError as exc:
                told.append(str(exc))

        slow = Slow(backend, method, which)
        nursery.start_soon(wait, first, early)
        await trio.testing.wait_all_tasks_blocked()
        await first.signal(go, "")
        await slow.reached.wait()
        slow.restore()
        if inside:
            await until(lambda: _async(bool(early)))
        await first.reset()
        nursery.start_soon(wait, handle, late)
        await trio.testing.wait_all_tasks_blocked()
        slow.go_on()
        await until(lambda: _async(bool(early)))
        await trio.testing.wait_all_tasks_blocked()
        assert (early, late) == (["the first end"], [])
        await first.signal(go, "the second ")
        await first.signal(go, "end")
        await until(lambda: _async(bool(late)))
        assert late == ["the second end"]


async def _async(value):
    return value


def suspends(_results, _worker, units):
    return any(commit.suspended is not None for unit in units for commit in unit.instances)


async def test_a_suspension_is_told_though_the_last_look_came_before_its_worker_knew(backend):
    flows = Registry()

    @flows.workflow
    async def work(n: int) -> int:
        return n

    async with serving(backend, flows) as client, trio.open_nursery() as nursery:
        told = []

        async def wait():
            try:
                await client.handle("w").result(wait_suspended=False)
            except InstanceSuspended as exc:
                told.append(exc)

        slow = Slow(backend, "commit", suspends)
        await backend.create([NewInstance("w", "work", "default", b'{"n": ')])
        nursery.start_soon(wait)
        await slow.reached.wait()
        slow.restore()
        await trio.testing.wait_all_tasks_blocked()
        assert told == []
        slow.go_on()
        await until(lambda: _async(bool(told)))


def parks(_results, _worker, units):
    return any(not commit.leased for unit in units for commit in unit.instances)


async def test_an_end_from_elsewhere_is_told_though_it_was_still_held_at_the_last_look(backend):
    flows = Registry()

    @flows.workflow
    async def work() -> str:
        return await go.receive() + await go.receive()

    async with serving(backend, flows) as client, trio.open_nursery() as nursery:
        told = []

        async def wait():
            try:
                await client.handle("w").result()
            except InstanceTerminated as exc:
                told.append(exc)

        handle = await client.start(work.options(id="w"))
        await until_parked(handle)
        slow = Slow(backend, "commit", parks)
        await handle.signal(go, "")
        await slow.reached.wait()
        slow.restore()
        async with open_client(backend) as elsewhere:
            await elsewhere.handle("w").terminate()
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert told == []
        slow.go_on()
        with trio.fail_after(60):
            await until(lambda: _async(bool(told)))
