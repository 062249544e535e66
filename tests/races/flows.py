"""The workflows of the races: many shapes, each of which ends within seconds if it is let.

Whatever an activity does is written to a log, one line in one write, so that what ran can be held
against what is stored. A ``token`` is different for each start, and children have their parent's.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from typing import Any

import anyio
import trio

from trioflow import (
    Registry,
    RetryPolicy,
    Signal,
    activity_info,
    continue_as_new,
    info,
    now,
    random,
    send_signal,
    side_effect,
    uuid4,
)

__all__ = ["DRAINERS", "LOG", "OTHER_QUEUE", "SHAPES", "drains", "numbers", "registry"]

LOG = "TRIOFLOW_RACES_LOG"
GENERATION = os.getpid()

OTHER_QUEUE = "other"
"""Served by some workers only, so that nobody serves it while those are gone."""

registry = Registry()
numbers = Signal("numbers", int)

_QUICK = RetryPolicy(max_attempts=20, initial_interval=0.05, backoff=1.0)


def _note(what: str, token: str, nonce: str) -> None:
    about = activity_info()
    fields = (about.instance, about.execution, about.command, about.attempt, os.getpid())
    line = f"{what} {token} {' '.join(map(str, fields))} {nonce} {time.time():.6f}\n"
    log = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(log, line.encode())
    finally:
        os.close(log)


# --- activities -----------------------------------------------------------------------------------


@registry.activity(retry=_QUICK)
async def work(token: str, seconds: float) -> str:
    nonce = uuid.uuid4().hex
    _note("start", token, nonce)
    await anyio.sleep(seconds)
    _note("end", token, nonce)
    return nonce


@registry.activity(retry=_QUICK)
def work_in_thread(token: str, seconds: float) -> str:
    nonce = uuid.uuid4().hex
    _note("start", token, nonce)
    time.sleep(seconds)
    _note("end", token, nonce)
    return nonce


@registry.activity(retry=_QUICK)
async def flaky(token: str, fails: int) -> str:
    nonce = uuid.uuid4().hex
    _note("start", token, nonce)
    await anyio.sleep(0.01)
    if activity_info().attempt <= fails:
        raise ConnectionError("not yet")
    _note("end", token, nonce)
    return nonce


@registry.activity(retry=RetryPolicy(max_attempts=1))
async def refuse(token: str) -> str:
    nonce = uuid.uuid4().hex
    _note("start", token, nonce)
    await anyio.sleep(0.05)
    raise ValueError("refused")


@registry.activity(retry=_QUICK, timeout=0.2)
async def too_slow(token: str) -> str:
    nonce = uuid.uuid4().hex
    _note("start", token, nonce)
    await anyio.sleep(0.15 if activity_info().attempt == 2 else 5)
    _note("end", token, nonce)
    return nonce


@registry.activity(retry=_QUICK)
async def stubborn(token: str, seconds: float) -> str:
    """Take a while to stop when it is cancelled, so that its worker may die meanwhile."""
    nonce = uuid.uuid4().hex
    _note("start", token, nonce)
    try:
        await anyio.sleep(seconds)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.6)
    _note("end", token, nonce)
    return nonce


# --- workflows ------------------------------------------------------------------------------------


@registry.workflow
async def straight(token: str, size: int) -> list[str]:
    found = []
    for number in range(size):
        found.append(await work(token, 0.02 * number))
        await trio.sleep(0.03)
    return found


@registry.workflow
async def fan(token: str, size: int) -> int:
    """Run many at once; a failing one takes the others down now and then."""
    done = []

    async def one(number: int) -> None:
        done.append(await work(token, 0.05 * (number % 7)))

    try:
        async with trio.open_nursery() as nursery:
            for number in range(3 * size):
                nursery.start_soon(one, number)
            if random().random() < 0.4:
                nursery.start_soon(refuse, token)
    except* ValueError:
        done.clear()
    return len(done)


@registry.workflow
async def deadlines(token: str, size: int) -> list[bool]:
    """Cancel activities, children and sleeps by deadlines, one within the other."""
    late = []
    for number in range(size):
        with trio.move_on_after(0.1 + 0.1 * number) as scope:
            await work(token, 0.02 if number % 3 == 2 else 2.0)
        late.append(scope.cancelled_caught)
    with trio.move_on_after(0.5) as outer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stubborn, token, 3.0)
            with trio.move_on_after(0.2):
                await straight(f"{token}-child", 9)
            nursery.start_soon(trio.sleep, 9.0)
    return [*late, outer.cancelled_caught]


@registry.workflow
async def cleans(token: str, size: int) -> str:
    """Clean up under a shield, whatever ended it."""
    try:
        await work(token, 0.1)
        await trio.sleep(0.3 * size)
    finally:
        with trio.CancelScope(shield=True, deadline=now() + 2.0):
            await work(token, 0.05)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work, token, 0.02)
                nursery.start_soon(trio.sleep, 0.05)
    return "clean"


@registry.workflow
async def retries(token: str, size: int) -> list[str]:
    first = await flaky(token, size % 3)
    # While nobody steps this instance, others may use up the attempts.
    with contextlib.suppress(ConnectionError), trio.move_on_after(0.3):
        await flaky(token, 99)
    try:
        return [first, await too_slow(token)]
    except TimeoutError:
        return [first]


@registry.workflow
async def threads(token: str, size: int) -> int:
    async with trio.open_nursery() as nursery:
        for number in range(size + 1):
            nursery.start_soon(work_in_thread, token, 0.04 * number)
    return size


@registry.workflow
async def family(token: str, size: int) -> int:
    """Call sub-workflows at once; a deadline cancels some, some call others."""
    ended = 0

    async def one(number: int) -> None:
        nonlocal ended
        shape = (straight, deadlines, cleans, retries, passes_on)[number % 5]
        await shape(f"{token}-{number}", 1 + number % 3)
        ended += 1

    with trio.move_on_after(0.4 * size):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stubborn, token, 2.0)
            for number in range(size + 2):
                nursery.start_soon(one, number)
    return ended


@registry.workflow
async def passes_on(token: str, size: int) -> str:
    """Go on in one execution after another."""
    await work(token, 0.02)
    await trio.sleep(0.02)
    if size > 0:
        continue_as_new(token, size - 1)
    return token


@registry.workflow
async def listens(token: str, size: int) -> list[int]:
    """Wait for a few signals, but not for ever."""
    heard: list[int] = []
    with trio.move_on_after(1.0):
        while len(heard) < size:
            heard.append(await numbers.receive())
    return heard


@registry.workflow
async def talks(token: str, size: int) -> int:
    """Send signals to one that drains them; what was accepted is its result."""
    accepted = 0
    for number in range(size + 1):
        value = int(uuid4().int % 10**12) * 10 + number
        try:
            await send_signal(f"drains-{number % DRAINERS}", numbers, value)
            accepted += 1
        except Exception:  # whoever is not there hears nothing
            await trio.sleep(0.05)
    return accepted


DRAINERS = 3


@registry.workflow
async def drains(token: str, got: list[int]) -> list[int]:
    """Receive until nothing has come for a while, drain, and return all of it."""
    for _ in range(3):
        with trio.move_on_after(0.3) as quiet:
            got.append(await numbers.receive())
        if quiet.cancelled_caught:
            break
        await work(token, 0.01)
    else:
        if len(got) < 12:
            continue_as_new(token, got)
    while True:
        try:
            got.append(numbers.receive_nowait())
        except trio.WouldBlock:
            return got


@registry.workflow
async def moody(token: str, size: int) -> str:
    """Do in each process something else: suspended as soon as another one goes on with it."""
    if GENERATION % 2:
        await work(token, 0.1)
    else:
        await flaky(token, 0)
    await trio.sleep(0.1)
    return await work(token, 0.05)


@registry.workflow
async def effects(token: str, size: int) -> list[Any]:
    """Use everything that must come out the same on replay."""
    found: list[Any] = [info().id, random().random(), uuid4().hex, now()]
    found.append(side_effect(lambda: os.urandom(4).hex()))
    events = [trio.Event() for _ in range(size)]
    results: list[int] = []
    send, receive = trio.open_memory_channel[int](1)

    async def waits(number: int) -> None:
        await events[number].wait()
        await send.send(number)

    async with trio.open_nursery() as nursery:
        for number in range(size):
            nursery.start_soon(waits, number)
        for number in range(size):
            await work(token, 0.01)
            events[-1 - number].set()
            results.append(await receive.receive())
    return [*found, results]


@registry.workflow
async def abandons(token: str, size: int) -> int:
    """Do not wait for what is cancelled, and end while it still runs."""
    left = 0
    for _ in range(size):
        with trio.move_on_after(0.15) as scope:
            await stubborn.options(on_cancel="abandon")(token, 0.5)
        left += scope.cancelled_caught
    await work(token, 0.02)
    return left


@registry.workflow
async def elsewhere(token: str, size: int) -> list[str]:
    """Call what the workers of another queue do, at several priorities; wait only for so long."""
    found: list[str] = []

    async def one(number: int) -> None:
        there = work.options(queue=OTHER_QUEUE, schedule_timeout=0.8, priority=number - 1)
        try:
            found.append(await there(token, 0.02 * number))
        except TimeoutError:
            found.append("late")

    async with trio.open_nursery() as nursery:
        for number in range(size + 1):
            nursery.start_soon(one, number)
        with trio.move_on_after(0.4):
            await straight.options(queue=OTHER_QUEUE, priority=3)(f"{token}-there", 2)
    return found


SHAPES = (
    straight,
    fan,
    deadlines,
    cleans,
    retries,
    threads,
    family,
    passes_on,
    listens,
    talks,
    moody,
    effects,
    abandons,
    elsewhere,
)
"""What is started; `drains` has ids of its own, that nobody ends."""
