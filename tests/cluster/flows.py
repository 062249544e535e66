"""The workflows of simulated clusters, and what clients do to them."""

from __future__ import annotations

import contextlib
import random

import trio

from trioflow import (
    Registry,
    RetryPolicy,
    Signal,
    Update,
    activity_info,
    continue_as_new,
    now,
    send_signal,
)
from trioflow import (
    random as workflow_random,
)
from trioflow.errors import (
    BackendUnavailable,
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceNotFinished,
    InstanceNotFound,
    TrioflowError,
)

flows = Registry()
numbers = Signal("numbers", int)
add = Update("add", argument=int, result=int)
_QUICK = RetryPolicy(max_attempts=40, initial_interval=0.1, backoff=1.0)


class Log:
    """What the activities of one run have done: (what, key, attempt, time)."""

    def __init__(self):
        self.lines = []

    def note(self, what):
        about = activity_info()
        key = (about.instance, about.life, about.execution, about.command)
        self.lines.append((what, key, about.attempt, trio.current_time()))


log = Log()


@flows.activity(retry=_QUICK)
async def work(seconds: float) -> int:
    log.note("start")
    await trio.sleep(seconds)
    log.note("end")
    return activity_info().attempt


@flows.activity(retry=_QUICK)
async def flaky(fails: int) -> int:
    log.note("start")
    await trio.sleep(0.01)
    if activity_info().attempt <= fails:
        raise ConnectionError("not yet")
    log.note("end")
    return 1


@flows.activity(retry=_QUICK, timeout=0.5)
async def too_slow() -> int:
    log.note("start")
    await trio.sleep(0.3 if activity_info().attempt >= 2 else 5)
    log.note("end")
    return 1


@flows.activity(retry=_QUICK)
async def stubborn(seconds: float) -> int:
    """Take a while to stop when it is cancelled, so that its worker may die meanwhile."""
    log.note("start")
    try:
        await trio.sleep(seconds)
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(3.0)
    log.note("end")
    return 1


@flows.activity(retry=RetryPolicy(max_attempts=1))
async def refuse() -> None:
    log.note("start")
    raise ValueError("refused")


@flows.activity(retry=_QUICK)
def plain(number: int) -> int:
    log.note("start")
    log.note("end")
    return number


@flows.workflow
async def straight(size: int) -> int:
    for number in range(size):
        await work(0.1 * number)
        await trio.sleep(0.2)
    return size


@flows.workflow
async def fan(size: int) -> int:
    done = 0

    async def one(number: int) -> None:
        nonlocal done
        await work(0.1 * (number % 7))
        done += await plain(1)

    try:
        async with trio.open_nursery() as nursery:
            for number in range(2 * size):
                nursery.start_soon(one, number)
            if workflow_random().random() < 0.3:
                nursery.start_soon(refuse)
    except* ValueError:
        done = -1
    return done


@flows.workflow
async def deadlines(size: int) -> int:
    late = 0
    for number in range(size):
        with trio.move_on_after(0.3) as scope:
            await work(0.1 if number % 3 == 2 else 4.0)
        late += scope.cancelled_caught
    with trio.move_on_after(2.0):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(straight, 9)
            nursery.start_soon(stubborn, 60.0)
    return late


@flows.workflow
async def cleans(size: int) -> str:
    try:
        await work(0.2)
        await trio.sleep(float(size))
    finally:
        with trio.CancelScope(shield=True, deadline=now() + 60.0):
            await work(0.1)
    return "clean"


@flows.workflow
async def retries(size: int) -> int:
    return await flaky(size % 4) + await too_slow()


@flows.workflow
async def family(size: int) -> int:
    ended = 0

    async def one(number: int) -> None:
        nonlocal ended
        shape = (straight, deadlines, cleans, retries, passes_on)[number % 5]
        await shape(1 + number % 3)
        ended += 1

    with trio.move_on_after(4.0 * size):
        async with trio.open_nursery() as nursery:
            for number in range(size + 2):
                nursery.start_soon(one, number)
    return ended


@flows.workflow
async def passes_on(size: int) -> int:
    await work(0.1)
    if size > 0:
        continue_as_new(size - 1)
    return size


@flows.workflow
async def drains(size: int, got: list[int]) -> list[int]:
    """Receive signals, in several executions, and lose none."""
    with trio.move_on_after(1.0 + size):
        while len(got) % 7 != 6:
            got.append(await numbers.receive())
            if len(got) % 3 == 0:
                await work(0.8)
    if size > 0:
        continue_as_new(size - 1, got)  # what is unread goes over
    with contextlib.suppress(trio.WouldBlock):
        while True:
            got.append(numbers.receive_nowait())
    return got


@flows.workflow
async def serves(size: int, got: list[int]) -> list[int]:
    """Answer updates, in several executions."""

    @add.handler
    async def _(number: int) -> int:
        if number % 3 == 0:
            await work(0.4)
        got.append(number)
        return number

    await trio.sleep(1.5 + size)
    if size > 0:
        continue_as_new(size - 1, got)
    return got


@flows.workflow
async def talks(size: int) -> int:
    sent = 0
    for number in range(size):
        try:
            await send_signal(f"drains-{number % 3}", numbers, 100_000 + number)
            sent += 1
        except (InstanceNotFound, InstanceFinished):
            pass
        await trio.sleep(0.3)
    return sent


# --- other versions of this code ----------------------------------------------------------------

changed, diverging = Registry(), Registry()


@changed.workflow(name="straight")
async def straight_changed(size: int) -> int:
    """What may change: what is computed, what activities are given, what comes after the end."""
    for number in range(size):
        await work.options(timeout=30.0)(0.05 * number)
        await trio.sleep(0.2 * 1.0)
    return size


@diverging.workflow(name="straight")
async def straight_reversed(size: int) -> int:
    """A step before those that are recorded."""
    await plain(size)
    return await straight.fn(size)


@diverging.workflow(name="cleans")
async def cleans_no_more(size: int) -> str:
    await work(0.2)
    await plain(size)
    return "not clean"


def _complete(version):
    version.add(*(each for name, each in flows.activities.items()))
    version.add(*(e for name, e in flows.workflows.items() if name not in version.workflows))


_complete(changed)
_complete(diverging)

SHAPES = (straight, fan, deadlines, cleans, retries, family, passes_on, talks)


class Clients:
    """What clients of one run do, by a seed; and what they were told.

    With ``resets`` some of them let instances go on from earlier turns, whatever they do just then.
    """

    def __init__(self, seed, instances=20, *, resets=False):
        self.chance = random.Random(f"{seed}/clients")
        self.other_chance = random.Random(f"{seed}/others")
        self.instances = instances
        self.resets = 6 if resets else 0
        self.reset = []
        self.sent = {}
        self.asked = {}
        self.answered = {}
        self.ended = set()

    async def __call__(self, client):
        log.lines.clear()
        async with trio.open_nursery() as nursery:
            for number in range(3):
                await client.start(drains.options(id=f"drains-{number}"), 3, [])
                nursery.start_soon(self.send, client, f"drains-{number}")
            for number in range(self.instances):
                nursery.start_soon(self.one, client, number)
            await client.start(serves.options(id="serves"), 3, [])
            nursery.start_soon(self.ask, client, "serves")
            nursery.start_soon(self.reset_some, client)

    async def send(self, client, id):
        for number in range(24):
            if number % 4 == 0:  # some at once
                await trio.sleep(self.chance.expovariate(0.3))
            with contextlib.suppress(InstanceFinished):
                await client.handle(id).signal(numbers, number)
                self.sent.setdefault(id, []).append(number)

    async def ask(self, client, id):
        for number in range(10):
            await trio.sleep(self.other_chance.expovariate(1.0))
            with contextlib.suppress(InstanceFinished, InstanceNotFound):
                begun = await self.until_known(client, id, number)
                self.asked.setdefault(id, []).append(number)
                self.answered.setdefault(id, {})[number] = await begun.result()

    async def until_known(self, client, id, number):
        """Ask until it is known to be stored: it is done once, for the request has an id."""
        while True:
            try:
                update = add.options(id=f"{id} {number}")
                return await client.handle(id).start_update(update, number)
            except BackendUnavailable:
                await trio.sleep(0.5)

    async def reset_some(self, client):
        chance = self.other_chance
        ids = [*(f"drains-{number}" for number in range(3)), "serves"]
        ids += [f"one-{number}" for number in range(self.instances - 4)]
        for _ in range(self.resets):
            await trio.sleep(chance.expovariate(0.3))
            id = chance.choice(ids)
            with contextlib.suppress(TrioflowError):
                handle = client.handle(id)
                described = await handle.describe()
                await handle.reset(turn=chance.randint(0, described.turns))
                self.reset.append(id)

    async def one(self, client, number):
        await trio.sleep(self.chance.uniform(0, 20))
        id = f"one-{number % (self.instances - 4)}"
        shape = self.chance.choice(SHAPES)
        errors = (
            *(InstanceAlreadyExists, InstanceFinished, InstanceNotFound, InstanceNotFinished),
            BackendUnavailable,
        )
        with contextlib.suppress(*errors):
            handle = await client.start(shape.options(id=id), self.chance.randint(1, 4))
            await trio.sleep(self.chance.expovariate(0.3))
            match self.chance.randrange(8):
                case 0 | 1:
                    await handle.cancel("no longer")
                case 2:
                    await handle.terminate("now")
                    self.ended.add(id)
                case 3:
                    await handle.signal(numbers, 1)
                case 4:
                    await handle.terminate("and away")
                    await handle.remove()
                case _:
                    pass
