"""What the store rejects suspends the one instance that it belongs to, and ends no worker."""

from __future__ import annotations

import contextlib
import random
from collections import Counter

import anyio
import pytest
import trio

from tests.stores import PassesOn
from tests.worker.flow import until, until_status
from trioflow import Registry, RetryPolicy, Signal, open_worker
from trioflow.backends.memory import MemoryBackend

number = Signal("number", int)


class Rejecting(PassesOn):
    """Passes all calls on, but rejects commits in which some text occurs."""

    def __init__(self, backend, text, *, suspensions=False, results=True):
        super().__init__(backend)
        self.text = text
        self.suspensions = suspensions
        self.results = results

    async def commit(self, worker, units):
        if self.text and any(self._is_bad(unit) for unit in units):
            raise ValueError(f"the store cannot take {self.text!r}")
        return await self._backend.commit(worker, units)

    def _is_bad(self, unit):
        for commit in unit.instances:
            if commit.suspended is not None:
                if self.suspensions:
                    return True
                continue
            data = [*commit.turns, *(message.event for message in commit.messages)]
            if any(self.text.encode() in part for part in data):
                return True
        results = unit.results if self.results else []
        return any(self.text.encode() in result.event for result in results)


class Flows:
    def __init__(self):
        self.registry = flows = Registry()

        @flows.activity(retry=RetryPolicy(max_attempts=1))
        async def echo(text: str) -> str:
            return text

        @flows.activity
        async def poison() -> str:
            return "poison"

        @flows.workflow
        async def says(text: str) -> str:
            await trio.sleep(0.01)
            return await echo(text)

        @flows.workflow
        async def hears() -> str:
            return await poison()

        @flows.workflow
        async def parent(text: str) -> str:
            return await says.options(id="child")(text)

        self.says, self.hears, self.parent = says, hears, parent


@pytest.mark.parametrize("which", ["says", "hears"])
async def test_one_is_suspended_and_others_go_on(cached, which):
    flows = Flows()

    rejecting = Rejecting(await cached.backend(), "poison")
    async with cached.worker(flows.registry, backend=rejecting) as worker:
        good = [await worker.client.start(flows.says, str(n)) for n in range(20)]
        workflow = flows.says if which == "says" else flows.hears
        bad = await worker.client.start(workflow, *(["poison"] if which == "says" else []))
        assert [await handle.result() for handle in good] == [str(n) for n in range(20)]
        await until_status(bad, "suspended")
        described = await bad.describe()
        assert described.suspension.kind == "refused by the store"
        assert "the store cannot take 'poison'" in described.suspension.message
        assert described.worker is None
        rejecting.text = ""
        await bad.resume()
        assert await bad.result() == "poison"


async def test_a_child_and_its_parent_are_told_apart(cached):
    flows = Flows()

    ends = '"activity completed","id":"0:0","result":"poison"'
    rejecting = Rejecting(await cached.backend(), ends, results=False)
    async with cached.worker(flows.registry, backend=rejecting) as worker:
        parent = await worker.client.start(flows.parent.options(id="parent"), "poison")
        await until_status(worker.client.handle("child"), "suspended")
        assert (await parent.describe()).status == "running"
        rejecting.text = ""
        await worker.client.handle("child").resume()
        assert await parent.result() == "poison"


async def test_the_result_of_an_activity(cached):
    """Its instance hears why, in place of it."""
    flows = Flows()

    backend = Rejecting(await cached.backend(), '"result":"poison"')
    async with (
        cached.worker(flows.registry, activities=False) as worker,
        cached.worker(flows.registry, workflows=False, backend=backend),
    ):
        with pytest.raises(ValueError, match="the store cannot take"):
            await worker.client.run(flows.says, "poison")


async def test_the_first_turn_of_a_new_instance(cached):
    """The instance exists all the same, so that nothing is lost."""
    flows = Registry()

    @flows.workflow
    async def at_once() -> str:
        return "poison"

    rejecting = Rejecting(await cached.backend(), "poison")
    async with cached.worker(flows, backend=rejecting) as worker:
        handle = await worker.client.start(at_once)
        await until_status(handle, "suspended")


async def test_even_the_suspension_is_rejected(cached, caplog):
    flows = Flows()

    rejecting = Rejecting(await cached.backend(), "poison", suspensions=True)
    async with cached.worker(flows.registry, backend=rejecting) as worker:
        bad = await worker.client.start(flows.says.options(id="bad"), "poison")
        assert await worker.client.run(flows.says, "good") == "good"

        with anyio.fail_after(30):
            while "rejects even the suspension of instance 'bad'" not in caplog.text:
                await anyio.sleep(0.01)
        assert await worker.client.run(flows.says, "good") == "good"
        del bad


async def until_ended(client, handle):
    """Wait for an instance, and resume whatever is suspended meanwhile."""

    async def ended():
        for row in await client.list(status="suspended", limit=200):
            await client.handle(row.id).resume()
        return (await handle.describe()).status in ("completed", "failed")

    await until(ended)


@pytest.mark.parametrize("seed", range(10))
async def test_a_store_that_rejects_at_random(seed):
    """Every instance ends or is suspended; after a resume all of them end."""
    chance, rejections = random.Random(seed), Counter()
    flows = Flows()

    class Moody(MemoryBackend):
        calm = False

        async def commit(self, worker, units):
            about = {commit.id for unit in units for commit in unit.instances}
            about |= {result.key.instance for unit in units for result in unit.results}
            tired = any(rejections[id] > 2 for id in about)
            if not self.calm and not tired and chance.random() < 0.3:
                rejections.update(about)
                raise ValueError("not today")
            return await super().commit(worker, units)

    backend = Moody()
    await backend.open()
    async with open_worker(backend, registry=flows.registry) as worker:
        client = worker.client
        handles = []
        for n in range(30):
            workflow = flows.says if n % 2 else flows.parent.options(id=f"p{n}")
            with contextlib.suppress(ValueError):
                handles.append(await client.start(workflow, str(n)))
        for handle in handles:  # a parent runs for as long as its child is suspended
            await until_status(handle, "completed", "failed", "suspended", "running")
        backend.calm = True
        for handle in handles:
            await until_ended(client, handle)
    await backend.aclose()
