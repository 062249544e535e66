"""Limits that hold across workers: what workers and clients make of them."""

# mypy: ignore-errors

from __future__ import annotations

import threading

import anyio
import pytest
import trio

from tests.stores import ALL, marked
from tests.worker.flow import Flow, Gate, serving, until
from trioflow import ArgumentError, Limit, Registry, RetryPolicy


@pytest.fixture(params=marked(ALL))
def flow(request, tmp_path, servers, harness):
    """Every kind of store, on trio."""
    return Flow(request.param, "trio", 1000, tmp_path, servers).of(harness)


class Counted:
    """Counts how many are at work, and remembers the most."""

    def __init__(self):
        self.now = self.most = self.all = 0

    async def __aenter__(self):
        self.now += 1
        self.all += 1
        self.most = max(self.most, self.now)

    async def __aexit__(self, *_):
        self.now -= 1


async def test_a_limit_holds_across_workers(flow):
    """Also for what was called by workers that did not know of it, and by their own workflows."""
    flows = Registry()
    at_work = Counted()

    @flows.activity(queue="mails")
    async def mail(number: int) -> int:
        async with at_work:
            await trio.sleep(0.01)
        return number

    @flows.workflow
    async def many() -> int:
        numbers = []

        async def one(number):
            numbers.append(await mail(number))

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(one, number)
        return sum(numbers)

    queues = {"activity_queues": ("default", "mails")}
    async with flow.client(flows) as client:
        await client.set_limit(queue="mails", concurrency=2)
        async with flow.worker(flows, **queues) as one, flow.worker(flows, **queues) as two:
            handles = [await each.client.start(many) for each in (one, two, one, two)]
            assert [await handle.result() for handle in handles] == [15] * 4
    assert at_work.all == 24
    assert at_work.most == 2


async def test_a_limit_can_come_and_go_while_workers_run(flow):
    flows = Registry()
    at_work, gate = Counted(), Gate()

    @flows.activity
    async def wait() -> None:
        async with at_work:
            await gate.wait()

    @flows.workflow
    async def work() -> None:
        await wait()

    async with flow.client(flows) as client, flow.worker(flows) as worker:
        first = await worker.client.start(work)
        await gate.until_entered(1)
        await client.set_limit(activity=wait, concurrency=2)
        assert await client.limits() == [Limit(kind="activity", name="wait", concurrency=2)]
        others = [await client.start(work) for _ in range(3)]
        others += [await worker.client.start(work) for _ in range(2)]
        await gate.until_entered(2)

        async def all_wait():
            return (await client.stats())[0].pending_activities == 4

        await until(all_wait)
        assert at_work.now == 2
        assert await client.remove_limit(activity="wait")
        await gate.until_entered(6)
        assert not await client.remove_limit(activity=wait)
        later = await worker.client.start(work)
        await gate.until_entered(7)
        gate.open()
        for handle in (first, *others, later):
            await handle.result()


async def test_keys_take_turns(flow):
    """One tenant's many do not keep another's few from beginning."""
    flows = Registry()
    begun = []

    @flows.activity
    async def serve(number: int, *, tenant: str = "nobody") -> None:
        begun.append(tenant)

    @flows.workflow
    async def work(tenant: str, number: int) -> None:
        async with trio.open_nursery() as nursery:
            for each in range(number):
                nursery.start_soon(lambda n: serve(n, tenant=tenant), each)

    async with flow.client(flows) as client:
        await client.set_limit(queue="default", concurrency=1, key="tenant")
        async with flow.worker(flows, activities=False):
            handles = [await client.start(work, "large", 6), await client.start(work, "small", 2)]

            async def all_called():
                return (await client.stats())[0].pending_activities == 8

            await until(all_called)
            async with flow.worker(flows, workflows=False):
                for handle in handles:
                    await handle.result()
    assert sorted(begun[:4]) == ["large", "large", "small", "small"]
    assert begun[4:] == ["large"] * 4


async def test_a_timeout_is_kept_while_an_instance_waits_for_its_place(flow):
    """That of a start and that of the definition, of a client and of a parent."""
    flows = Registry()
    gate = Gate()

    @flows.activity
    async def work(name: str) -> str:
        await gate.wait(name)
        return name

    @flows.workflow
    async def report(name: str) -> str:
        return await work(name)

    @flows.workflow(timeout=0.3)
    async def hasty(name: str) -> str:
        return await work(name)

    @flows.workflow
    async def parent() -> str:
        try:
            return await hasty("child")
        except TimeoutError:
            return "too late"

    async with flow.worker(flows) as worker:
        client = worker.client
        await client.set_limit(workflow=report, concurrency=1)
        await client.set_limit(workflow=hasty, concurrency=1)
        first = await client.start(report, "first")
        patient = await client.start(hasty.options(timeout=60), "patient")
        await gate.until_entered(2)
        late = [
            await client.start(report.options(timeout=0.3), "late"),
            await client.start(hasty, "late"),
        ]
        waiting = await client.start(report, "waiting")
        above = await client.start(parent)
        for handle in late:
            with pytest.raises(TimeoutError):
                await handle.result()
        assert await above.result() == "too late"
        assert gate.entered == 2
        gate.open()
        for handle, name in ((first, "first"), (patient, "patient"), (waiting, "waiting")):
            assert await handle.result() == name


async def test_instances_of_a_workflow_wait_for_those_before(flow):
    """However they are started: by a client, by one in the worker's process, as children."""
    flows = Registry()
    at_work = Counted()
    order = []

    @flows.activity
    async def note(name: str) -> None:
        async with at_work:
            order.append(name)
            await trio.sleep(0.01)

    @flows.workflow
    async def report(name: str) -> str:
        await note(name)
        return name

    @flows.workflow
    async def parent() -> list[str]:
        return [await report("child 1"), await report("child 2")]

    async with flow.client(flows) as client:
        await client.set_limit(workflow=report, concurrency=1)
        handles = [await client.start(report, f"client {number}") for number in range(3)]
        async with flow.worker(flows) as one, flow.worker(flows) as two:
            handles += [await each.client.start(report, "local") for each in (one, two)]
            family = await one.client.start(parent)
            assert await family.result() == ["child 1", "child 2"]
            for handle in handles:
                await handle.result()
    assert at_work.most == 1
    assert [name for name in order if name.startswith("client")] == [
        "client 0",
        "client 1",
        "client 2",
    ]
    assert len(order) == 7


async def test_an_attempt_that_was_given_up_keeps_its_place(backend):
    """Until its code ends, though the workflow has been told of its end."""
    flows = Registry()
    go_on, begun = threading.Event(), []

    @flows.activity(timeout=1, retry=RetryPolicy(max_attempts=1))
    async def stubborn(name: str) -> None:
        begun.append(name)
        with trio.CancelScope(shield=True):
            while not go_on.is_set():
                await trio.sleep(1)

    @flows.workflow
    async def work(name: str) -> str:
        try:
            await stubborn(name)
        except TimeoutError:
            return "told"
        return "done"

    async with serving(backend, flows) as client:
        await client.set_limit(activity=stubborn, concurrency=1)
        first, second = await client.start(work, "first"), await client.start(work, "second")
        assert await first.result() == "told"
        await trio.sleep(10)
        assert begun == ["first"]
        go_on.set()
        assert await second.result() == "done"
    assert begun == ["first", "second"]


async def test_without_a_limit_the_store_is_asked_nothing_more(backend, monkeypatch):
    flows = Registry()

    @flows.activity
    async def act() -> None: ...

    @flows.workflow
    async def work() -> None:
        await act()

    asked = []
    monkeypatch.setattr(backend, "limits", lambda: asked.append(1))
    async with serving(backend, flows) as client:
        await client.run(work)
    assert asked == []


async def test_a_rate_is_kept_in_virtual_time(backend):
    flows = Registry()
    times = []

    @flows.activity
    async def call() -> None:
        times.append(trio.current_time())

    @flows.workflow
    async def work() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(call)

    async with serving(backend, flows) as client:
        await client.set_limit(queue="default", rate=2, per=60)
        await client.run(work)
    assert len(times) == 10
    for at, time in enumerate(times[2:]):
        assert 60 <= time - times[at] <= 62


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give queue=, activity= or workflow="),
        ({"queue": "q", "activity": "a"}, "give queue=, activity= or workflow="),
        ({"queue": "q"}, "limits nothing"),
        ({"queue": ""}, "empty"),
        ({"queue": "q", "concurrency": 0}, "concurrency=0"),
        ({"queue": "q", "concurrency": True}, "concurrency=True"),
        ({"queue": "q", "rate": 1.5}, "rate=1.5"),
        ({"queue": "q", "rate": 1, "per": 0}, "per=0"),
        ({"queue": "q", "rate": 1, "per": float("nan")}, "per=nan"),
        ({"queue": "q", "key_concurrency": 1}, "needs key="),
        ({"queue": "q", "concurrency": 1, "key": "no name"}, "no name of an argument"),
        ({"workflow": "w", "rate": 1}, "only concurrency="),
    ],
)
async def test_a_limit_that_cannot_be_is_refused(backend, given, said):
    async with serving(backend, Registry()) as client:
        with pytest.raises(ArgumentError, match=said):
            await client.set_limit(**given)
        assert await client.limits() == []


async def test_a_key_that_an_activity_does_not_have_is_refused(backend):
    flows = Registry()

    @flows.activity
    async def act(tenant: str) -> None: ...

    async with serving(backend, flows) as client:
        with pytest.raises(ArgumentError, match="no argument 'tenent'"):
            await client.set_limit(activity=act, concurrency=1, key="tenent")
        await client.set_limit(activity=act, concurrency=1, key="tenant")


async def test_activities_without_the_argument_take_turns_together(backend):
    flows = Registry()

    @flows.activity
    async def act(tenant: str) -> str:
        return tenant

    @flows.workflow
    async def work() -> str:
        return await act("x")

    async with serving(backend, flows) as client:
        await client.set_limit(queue="default", concurrency=1, key="nothing_of_the_kind")
        assert await client.run(work) == "x"
