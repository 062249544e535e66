"""What a worker held when it died is stepped alone; what ends its workers again is suspended."""

from __future__ import annotations

import contextlib
from collections import Counter
from functools import partial

import anyio
import trio

from tests.stores import PassesOn
from tests.worker.flow import Dying, until
from trioflow import LeaseLost, Registry, RetryPolicy, Signal, activity_info, side_effect
from trioflow.testing.conformance.stage import new

number = Signal("number", int)


class SlowToGiveBack(Dying):
    """Dies before it has given anything back, if it is to die soon."""

    async def commit(self, worker, units):
        if any(unit.retries for unit in units):
            await anyio.sleep(0.02)
        return await self.__getattr__("commit")(worker, units)


class Town:
    """Workflows of which some end the process that steps them."""

    def __init__(self):
        self.flows = flows = Registry()
        self.deadly = True
        self.dying = None
        self.steps = []
        self.attempts = []

        @flows.activity
        async def slow(n: int) -> int:
            await anyio.sleep(0.01)
            return n

        @flows.activity(retry=RetryPolicy(max_attempts=3, initial_interval=0.01))
        async def deadly_activity() -> None:
            self.attempts.append(activity_info().attempt)
            self.die()
            await anyio.sleep_forever()

        @flows.workflow
        async def healthy(n: int) -> int:
            await trio.sleep(0.01)
            return await slow(n)

        @flows.workflow
        async def waiting() -> int:
            return await number.receive()

        @flows.workflow
        async def killer() -> str:
            await slow(1)
            side_effect(self.die)
            return "survived"

        @flows.workflow
        async def by_activity() -> None:
            await deadly_activity()

        self.healthy, self.waiting, self.killer = healthy, waiting, killer
        self.by_activity = by_activity

    def die(self):
        self.steps.append("killed")
        if self.deadly:
            self.dying.die()

    async def lives(self, flow, client, until_this, backend=Dying):
        """Run worker after worker, each until it dies, until a condition holds."""
        deaths = 0
        while not await until_this():
            self.dying = backend(await flow.backend())
            async with flow.worker(self.flows, backend=self.dying):

                async def over():
                    return self.dying.dead or await until_this()

                await until(over)
            deaths += self.dying.dead
            await client.backend.reclaim(-1.0)
        return deaths


async def test_a_workflow_that_ends_its_workers(cached):
    town = Town()

    async with cached.client(town.flows) as client:
        bad = await client.start(town.killer)
        good = [await client.start(town.healthy, n) for n in range(20)]
        patient = await client.start(town.waiting)

        async def settled():
            rows = await client.list(limit=100)
            return all(row.status != "running" or row.workflow.endswith("waiting") for row in rows)

        deaths = await town.lives(cached, client, settled)
        described = await bad.describe()
        assert described.status == "suspended"
        assert described.suspension.kind == "crashes its worker"
        assert "3 workers died" in described.suspension.message
        assert deaths == 4  # once among others, three times alone
        town.deadly = False
        await bad.resume()
        await patient.signal(number, 7)
        town.dying = Dying(await cached.backend())
        async with cached.worker(town.flows):
            assert [await handle.result() for handle in good] == list(range(20))
            assert await bad.result() == "survived"
            assert await patient.result() == 7


async def test_an_activity_that_ends_its_workers(cached):
    town = Town()

    async with cached.client(town.flows) as client:
        bad = await client.start(town.by_activity)

        async def settled():
            return (await bad.describe()).status != "running"

        await town.lives(cached, client, settled)
        described = await bad.describe()
        assert described.status == "failed"
        assert described.failure.type == "trioflow.errors.WorkerLost"
        assert town.attempts == [1, 2, 3]


async def test_an_activity_that_ends_its_workers_takes_no_others_with_it(cached):
    """They have lost as many workers as it has, and then make their last attempts one by one."""
    town = Town()
    flows, number, last = town.flows, 8, []
    begun = Counter()

    @flows.activity(retry=RetryPolicy(max_attempts=3))
    async def innocent(n: int) -> int:
        attempt = activity_info().attempt
        begun[attempt] += 1
        if attempt < 3:
            await anyio.sleep_forever()
        last.append(n)
        await anyio.sleep(0.01)
        assert last.pop() == n, "another one makes its last attempt"
        return n

    @flows.activity(retry=RetryPolicy(max_attempts=3), priority=1)  # taken before the others
    async def deadly() -> None:
        attempt = activity_info().attempt
        town.attempts.append(attempt)

        async def all_run():
            return attempt == 3 or begun[attempt] == number

        await until(all_run)
        town.die()
        await anyio.sleep_forever()

    @flows.workflow
    async def calls(n: int) -> int:
        return await innocent(n)

    @flows.workflow
    async def calls_it() -> None:
        await deadly()

    async with cached.client(flows) as client:
        good = [await client.start(calls, n) for n in range(number)]
        bad = await client.start(calls_it)

        async def settled():
            return await client.count(status="running") == 0

        assert await town.lives(cached, client, settled, SlowToGiveBack) == 3
        assert town.attempts == [1, 2, 3]
        assert (await bad.describe()).failure.type == "trioflow.errors.WorkerLost"
        assert [await handle.result() for handle in good] == list(range(number))


async def test_one_who_only_waits_is_not_blamed(cached):
    """It is held by every worker that dies, and steps nothing."""
    town = Town()
    town.deadly = True

    async with cached.client(town.flows) as client:
        patient = await client.start(town.waiting)
        for _ in range(6):
            dying = Dying(await cached.backend())
            async with cached.worker(town.flows, backend=dying) as worker:

                async def stepped(turns=0):
                    return (await patient.describe()).turns > turns

                await until(stepped)
                turns = (await patient.describe()).turns
                # Held again, since it has been sent something that it does not receive.
                await worker.client.handle(patient.id).signal(Signal("other", int), 1)
                # A worker that died before that was stored would have died of it.
                await until(partial(stepped, turns))
                dying.die()
            await client.backend.reclaim(-1.0)
        await patient.signal(number, 3)
        async with cached.worker(town.flows):
            assert await patient.result() == 3


class DiesAtOnce(Dying):
    """Dies as soon as something of it is stored."""

    async def commit(self, worker, units):
        if self.dead:
            raise LeaseLost("the process is dead")
        answer = await self._backend.commit(worker, units)
        self.die()
        return answer


class Late(PassesOn):
    """Passes all calls on, but asks for messages just before a suspect makes its turn.

    What comes then is given while that turn waits to be stored.
    """

    def __init__(self, backend, stepped, meanwhile):
        super().__init__(backend)
        self._stepped, self._meanwhile = stepped, meanwhile
        self._given = self._asked = False
        self._asking = anyio.Event()

    async def load(self, ids):
        if self._given:
            await self._asking.wait()
        return await self._backend.load(ids)

    async def take_instances(self, *args, suspect=False, **options):
        if self._given and not suspect and not self._asked:
            self._asked = True
            self._asking.set()
            await until(self._stepped)
            await self._meanwhile()
        taken = await self._backend.take_instances(*args, suspect=suspect, **options)
        if suspect and taken.instances:
            self._given = True
            await self._backend.create([new("next")])  # so that it asks again at once
        return taken


async def test_a_suspect_that_is_sent_something_at_its_end(cached):
    flows = Registry()
    steps = []

    @flows.workflow
    async def drains() -> int:
        await trio.sleep(0.5)
        steps.append("the last")
        total = 0
        while True:
            try:
                total += number.receive_nowait()
            except trio.WouldBlock:
                return total

    async with cached.client(flows) as client:
        backend = client.backend
        handle = await client.start(drains)

        async def held():
            return (await backend.take_instances("dead", ("default",), 1)).instances

        async def stepped():
            return steps

        async def begun():
            return (await backend.get(handle.id)).turns

        async with cached.worker(flows, backend=DiesAtOnce(await cached.backend())):
            await until(begun)
        await backend.reclaim(-1.0)
        await backend.register_worker("dead", "one that takes it and dies")
        await until(held)
        assert await backend.reclaim(-1.0) == ["dead"]
        steps.clear()
        late = Late(await cached.backend(), stepped, lambda: handle.signal(number, 5))
        async with cached.worker(flows, backend=late):
            assert await handle.result() == 5


async def test_what_ends_its_worker_in_order_is_found_too(cached):
    """A KeyboardInterrupt that workflow code raises looks like one of the keyboard."""
    flows = Registry()

    @flows.workflow
    async def interrupts() -> None:
        raise KeyboardInterrupt

    @flows.workflow
    async def healthy(n: int) -> int:
        return n

    async with cached.client(flows) as client:
        bad = await client.start(interrupts)
        good = [await client.start(healthy, n) for n in range(5)]
        ended = 0

        async def settled():
            return await client.count(status="running") == 0

        while not await settled():
            ended += 1
            assert ended < 10
            with contextlib.suppress(KeyboardInterrupt):
                async with cached.worker(flows):
                    await until(settled)
        assert (await bad.describe()).suspension.kind == "crashes its worker"
        assert [await handle.result() for handle in good] == list(range(5))
