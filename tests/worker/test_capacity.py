"""Limits: however small they are, everything goes on, and nobody waits for what will not come."""

from __future__ import annotations

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
import trio

from tests.worker.flow import Gate, serving, until
from trioflow import InstanceCancelled, Registry, RetryPolicy, Signal
from trioflow._worker.options import WorkerOptions
from trioflow._worker.real_host import running_host
from trioflow._worker.run import worker_on

number = Signal("number", int)


async def test_one_instance_at_a_time_is_enough_for_a_tree_of_workflows(flow):
    flows = Registry()

    @flows.activity
    async def leaf(n: int) -> int:
        return 1

    @flows.workflow
    async def tree(depth: int) -> int:
        if not depth:
            return await leaf(depth)
        return sum(await anyio.gather(tree(depth - 1), tree(depth - 1)))

    async with flow.worker(flows, max_instances=1, max_activities=1) as worker:
        assert await worker.client.run(tree, 3) == 8
        handles = [await worker.client.start(tree, 1) for _ in range(10)]
        assert [await handle.result() for handle in handles] == [2] * 10


async def test_room_that_a_commit_makes_is_seen_though_its_change_was_heard_before(backend):
    """A store may tell of a change some time before its commit returns."""
    flows = Registry()
    commit = backend.commit

    async def lingers(*args):
        stored = await commit(*args)
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        return stored

    backend.commit = lingers

    @flows.workflow
    async def tree(depth: int) -> int:
        if not depth:
            return 1
        return sum(await anyio.gather(tree(depth - 1), tree(depth - 1)))

    async with serving(backend, flows, max_instances=1) as client:
        with anyio.fail_after(60):
            assert await client.run(tree, 2) == 4


async def test_an_instance_that_only_waits_does_not_use_up_the_limit(flow):
    flows = Registry()

    @flows.activity(retry=RetryPolicy(initial_interval=3600, max_interval=3600))
    async def flaky() -> None:
        raise OSError

    @flows.workflow
    async def waits_for_signal() -> int:
        return await number.receive()

    @flows.workflow
    async def waits_for_retry() -> None:
        await flaky()

    @flows.workflow
    async def sleeps() -> None:
        await trio.sleep(3600)

    @flows.workflow
    async def waits_for_child() -> None:
        await sleeps()

    async with flow.worker(flows, max_instances=1) as worker:
        for definition in (waits_for_signal, waits_for_retry, sleeps, waits_for_child):
            await worker.client.start(definition.options(id=definition.name))
        for _ in range(2):
            handle = await worker.client.start(waits_for_signal)
            await handle.signal(number, 3)
            assert await handle.result() == 3
        await until_free(worker.client, 5)


async def until_free(client, number):
    """Wait until so many instances run and none of them is held."""

    async def free():
        found = await client.list(status="running")
        return len(found) == number and all(d.worker is None for d in found)

    await until(free)


async def test_a_full_worker_still_hears_what_is_sent_to_those_it_holds(flow):
    flows = Registry()

    @flows.activity
    async def forever() -> None:
        await gate.wait()

    @flows.workflow
    async def work() -> int:
        got = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(forever)
            got = await number.receive()
            await number.receive()
            nursery.cancel_scope.cancel()
        return got

    gate = None
    gate = Gate()
    async with flow.worker(flows, max_instances=1) as worker:
        handle = await worker.client.start(work)
        await gate.until_entered()
        waiting = await worker.client.start(work)
        await handle.signal(number, 7)
        await handle.signal(number, 8)
        assert await handle.result() == 7
        await gate.until_entered(2)
        await waiting.cancel("enough")
        with pytest.raises(InstanceCancelled):
            await waiting.result()
        assert len(gate.left) == 2
        assert "left" not in gate.left


async def test_no_more_activities_run_at_once_than_allowed(flow):
    flows = Registry()
    running = most = 0

    @flows.activity
    async def busy() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        running -= 1

    @flows.workflow
    async def work() -> None:
        await anyio.gather(*[busy() for _ in range(40)])

    async with flow.worker(flows, max_activities=3) as worker:
        await worker.client.run(work)
    assert most == 3


async def test_activities_that_never_end_keep_no_others_out_after_a_busy_moment(clock, backend):
    """The loop stands still while many have been leased, and none of them ever ends."""
    flows = Registry()
    begun = 0
    stood = 0.0
    all_begun = trio.Event()

    @flows.activity(queue="later")
    async def forever() -> None:
        nonlocal begun, stood
        begun += 1
        stood = 5.0 if begun >= 20 else 0.0
        if begun == 300:
            all_begun.set()
        await trio.sleep_forever()

    @flows.workflow
    async def work() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(forever)

    async with serving(backend, flows, activity_queues=["none"]) as client:
        for _ in range(3):
            await client.start(work)
        await until_free(client, 3)
    host = running_host()
    monotonic = host.monotonic  # called by the watchdog's thread too
    host.monotonic = lambda: monotonic() + stood
    options = WorkerOptions(registry=flows, activity_queues=["later"], drain=0)
    async with worker_on(backend, options, host):
        with trio.fail_after(60):
            await all_begun.wait()


async def test_no_more_threads_run_at_once_than_allowed(flow):
    flows = Registry()
    running = most = 0

    @flows.activity
    def in_thread() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        anyio.from_thread.run(anyio.lowlevel.checkpoint)
        running -= 1

    @flows.activity
    async def in_loop() -> None:
        pass

    @flows.workflow
    async def work() -> None:
        await anyio.gather(*[in_thread() for _ in range(20)], *[in_loop() for _ in range(20)])

    async with flow.worker(flows, max_threads=2) as worker:
        await worker.client.run(work)
    assert 1 <= most <= 2


async def test_a_retried_activity_ends_while_its_instance_is_being_parked(flow):
    """Its result must reach the instance whoever holds it, at whatever moment it comes."""
    flows = Registry()
    policy = RetryPolicy(max_attempts=3, initial_interval=0.001, jitter=0)
    failed = set()

    @flows.activity(retry=policy)
    async def flaky(n: int) -> int:
        if n not in failed:
            failed.add(n)
            raise OSError
        return n

    @flows.workflow
    async def work(n: int) -> int:
        return sum(await anyio.gather(*[flaky(i) for i in range(n)]))

    async with flow.worker(flows, max_activities=5) as worker:
        assert await worker.client.run(work, 100) == sum(range(100))
        assert await worker.client.stats() == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_instances", 0),
        ("max_activities", 0),
        ("max_threads", -1),
        ("lease", 0),
        ("stuck_after", -1.0),
        ("queues", "default"),
        ("cache_size", -1),
        ("drain", -1.0),
    ],
)
async def test_options_without_sense_are_refused(sqlite, option, value):
    with pytest.raises((ValueError, TypeError), match=option):
        async with sqlite.worker(Registry(), **{option: value}):
            pass
