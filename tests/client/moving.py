"""What the tests of moves share: workflows under way, and a store whose n-th call fails."""

from __future__ import annotations

import inspect
from collections import Counter

import pytest
import trio

from tests.stores import Clock
from trioflow import (
    BackendUnavailable,
    Registry,
    RetryPolicy,
    SharedLock,
    Signal,
    StoreFenced,
    Update,
    activity_info,
    continue_as_new,
    emit,
    info,
    run_worker,
    set_attributes,
    set_status,
)
from trioflow.backends.memory import MemoryBackend
from trioflow.testing.conformance import Stage
from trioflow.testing.conformance.moves import _fill, _share

flows = Registry()
go = Signal("go", str)
ask = Update("ask", argument=str, result=str)
table = SharedLock("table")
attempts: Counter[tuple[str, int]] = Counter()
blocked = trio.Event()  # that such an activity runs
gate: list[trio.Event] = [trio.Event()]


def _count():
    attempts[activity_info().idempotency_key, activity_info().attempt] += 1


@flows.activity
async def note(text: str) -> str:
    _count()
    return text


@flows.activity
async def blocks(text: str) -> str:
    """Run until the first worker has lost its store; a later attempt ends at once."""
    _count()
    if activity_info().attempt == 1:
        await trio.sleep_forever()
    return f"{text} {activity_info().attempt}"


@flows.activity(retry=RetryPolicy(max_attempts=5, initial_interval=0.5, jitter=0))
async def flaky(text: str) -> str:
    _count()
    if activity_info().attempt == 1:
        raise ValueError("the first attempt fails")
    return f"{text} {activity_info().attempt}"


@flows.workflow
async def sleeps(seconds: float) -> str:
    await trio.sleep(seconds)
    return await note(f"slept {info().id.partition('-')[0]}")


@flows.workflow
async def mixed(text: str) -> list[str]:
    """One activity is done, one runs, one waits for its retry; a timer, a signal, and a child."""
    found: list[str] = []
    set_attributes(text=text)
    await emit("steps", "began")

    async def keep(call, *args) -> None:
        found.append(str(await call(*args)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep, note, text)
        nursery.start_soon(keep, blocks, "ran")
        nursery.start_soon(keep, flaky, "tried")
        nursery.start_soon(keep, sleeps.options(id=f"kid-{info().id}"), 0.5)
        nursery.start_soon(keep, go.receive)
        with trio.move_on_after(0.4):
            await trio.sleep_forever()
    set_status("nearly done")
    return [*sorted(found), await note("end")]


@flows.workflow
async def waits() -> list[str]:
    """Receive two signals; the first may lie unread in the inbox."""

    @ask.handler
    async def _(question: str) -> str:
        return f"{question} {await note('answered')}"

    return [await go.receive(), await go.receive()]


@flows.workflow
async def rounds(left: int) -> int:
    await go.receive()
    if left:
        continue_as_new(left - 1)
    return info().execution


@flows.workflow
async def holds(text: str) -> str:
    async with table:
        set_status("holds")
        await go.receive()
        return await note(text)


MIXED = ["ran 2", "signal", "slept kid", "tried 2"]


async def until(backend, condition):
    """Wait until something is so in a store."""
    while True:
        seen = backend.changes()
        if await condition():
            return
        await backend.wait_change(seen, 0.2)


async def begin(client, number=1):
    """Start instances of each kind."""
    for n in range(number):
        await client.start(mixed.options(id=f"mixed-{n}"), f"m{n}")
        await client.start(waits.options(id=f"waits-{n}"))
        await client.start(rounds.options(id=f"rounds-{n}"), 1)
    for name in ("first", "second"):
        await client.start(holds.options(id=name), name)
    await client.start(sleeps.options(id="done-1"), 0.0)
    await client.start(sleeps.options(id="later-1", delay=1.0), 0.0)


async def works(store, task_status):
    """Run a worker, until it ends since its store was closed."""
    with pytest.raises(StoreFenced, match="the store is closed"):
        await run_worker(store, registry=flows, drain=0.0, task_status=task_status)


_filled: list[bytes] = []  # such a store, once there has been one


async def filled():
    """Return a memory store with one of everything; no workflow can run in it."""
    clock = Clock()
    backend = MemoryBackend(clock=clock)
    await backend.open()
    connection = backend._store().connection
    if _filled:
        connection.deserialize(_filled[0])
        await clock.advance(60)
    else:
        stage = Stage(backend, clock.advance)
        await _fill(stage)
        await _share(stage)
        _filled.append(connection.serialize())
    return backend


class Failing:
    """Passes calls on to stores, and fails at the n-th of all of them.

    Args:
        number: Which call fails, counted from 1; 0 for none.
        after: Whether it is done all the same.
    """

    def __init__(self, number=0, *, after=False):
        self.left = number
        self.after = after
        self.struck = False

    def __call__(self, backend):
        return _Wrapped(self, backend)

    async def call(self, member, args, kwargs):
        self.left -= 1
        if self.left:
            return await member(*args, **kwargs)
        self.struck = True
        if self.after:
            await member(*args, **kwargs)
        raise BackendUnavailable(f"{member.__name__} fails")


class _Wrapped:
    def __init__(self, failing, backend):
        self._failing = failing
        self._backend = backend

    def __getattr__(self, name):
        member = getattr(self._backend, name)
        if not inspect.iscoroutinefunction(member):
            return member

        async def call(*args, **kwargs):
            return await self._failing.call(member, args, kwargs)

        return call
