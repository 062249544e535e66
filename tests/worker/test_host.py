"""The seam to the host: with a simulated one a whole run takes no time, and can be repeated."""

from __future__ import annotations

from random import Random

import anyio
import pytest
import trio

from tests.worker.flow import EPOCH
from tests.worker.simulation import SharedMemory, simulate, simulated_host
from trioflow import (
    InstanceCancelled,
    JsonCodec,
    Registry,
    RetryPolicy,
    Signal,
    activity_info,
    random,
    uuid4,
)
from trioflow._client.opening import client_on
from trioflow._model.randomness import RandomSource
from trioflow._model.turns import encode_turn
from trioflow._worker.options import WorkerOptions
from trioflow._worker.run import worker_on

approved = Signal("approved", bool)


@pytest.fixture(params=["trio", "asyncio"])
def loop(request):
    return request.param


def programs(log):
    """Timers, retries with jitter, plain functions, children and chance; they say what they do."""
    flows = Registry()
    policy = RetryPolicy(max_attempts=4, initial_interval=10, backoff=2, jitter=0.5)

    @flows.activity(retry=policy)
    async def flaky(name: str) -> str:
        info = activity_info()
        log.append((anyio.current_time(), name, info.attempt, info.idempotency_key))
        await anyio.sleep(0.1)
        if info.attempt < 3:
            raise OSError(name)
        return name

    @flows.activity
    def plain(name: str) -> str:
        log.append((anyio.current_time(), name, "inline"))
        return name

    @flows.activity
    async def endless() -> None:
        await anyio.sleep_forever()

    @flows.workflow
    async def child(name: str) -> str:
        await trio.sleep(random().uniform(1, 100))
        return await plain(name)

    @flows.workflow
    async def parent() -> list[str]:
        with trio.move_on_after(30):
            await endless()
        parts = await anyio.gather(flaky("a"), child("b"), flaky("c"), child("d"))
        assert await approved.receive()
        return [*parts, str(uuid4())]

    return flows, parent


def run_parents(loop, seed, monkeypatch):
    """Return everything that a run of three parents shows."""
    log = []
    flows, parent = programs(log)

    async def main(backend):
        options = WorkerOptions(registry=flows, lease=15.0, drain=0.0, name="w")
        host = simulated_host(seed)
        async with worker_on(backend, options, host) as worker:
            handles = [await worker.client.start(parent) for _ in range(3)]
            await anyio.sleep(300)
            for handle in handles:
                await handle.signal(approved, True)
            results = [await handle.result() for handle in handles]
            stored = [
                encode_turn(turn)
                for handle in handles
                for execution in await handle.history()
                for turn in execution.turns
            ]
        return [handle.id for handle in handles], results, stored, backend.beats, list(log)

    return simulate(loop, main, monkeypatch)


def test_the_same_seed_gives_the_same_run(loop, monkeypatch):
    first = run_parents(loop, 7, monkeypatch)
    second = run_parents(loop, 7, monkeypatch)
    assert first == second
    ids, results, stored, beats, log = first
    assert len(log) == 3 * (2 * 3 + 2)
    assert {result[0] for result in results} == {"a"}
    assert len(stored) > 3 * 5
    assert [at - EPOCH for at, _ in beats[:300]] == pytest.approx(range(1, 301))
    assert all(id.startswith(f"parent-{int(EPOCH * 1000):011x}") for id in ids)


def test_another_seed_gives_other_ids_and_other_delays(loop, monkeypatch):
    first, other = (run_parents(loop, seed, monkeypatch) for seed in (7, 8))
    for one, another in zip(first, other, strict=True):
        assert one != another
    assert not set(first[0]) & set(other[0])
    retried = [[at for at, name, *_ in run[4] if name == "a"] for run in (first, other)]
    assert retried[0] != retried[1]


def test_a_client_of_its_own_draws_from_its_own_seed(loop, monkeypatch):
    flows = Registry()

    @flows.workflow
    async def work(n: int) -> int:
        await trio.sleep(60)
        return n

    async def main(backend):
        host = simulated_host(3)
        options = WorkerOptions(registry=flows, drain=0.0)
        chance = RandomSource(Random(4).randbytes)
        client = client_on(
            backend, codec=JsonCodec(), registry=flows, random=chance, wall=host.wall
        )
        async with worker_on(backend, options, host), client as client:
            handles = [await client.start(work, n) for n in range(3)]
            assert [await handle.result() for handle in handles] == [0, 1, 2]
            records = [await backend.get(handle.id) for handle in handles]
            return [(record.id, record.life, record.finished_at) for record in records]

    first = simulate(loop, main, monkeypatch)
    assert simulate(loop, main, monkeypatch) == first
    assert all(at - EPOCH == pytest.approx(60) for _, _, at in first)


def test_what_a_paused_worker_held_goes_on_after_its_lease(loop, monkeypatch):
    flows = Registry()
    attempts = []

    @flows.activity(retry=RetryPolicy(max_attempts=2))
    async def once() -> int:
        attempts.append((anyio.current_time(), activity_info().attempt))
        await anyio.sleep(20)
        return activity_info().attempt

    @flows.workflow
    async def work() -> int:
        return await once()

    async def main(backend):
        hosts = [simulated_host(seed) for seed in (1, 2)]
        options = WorkerOptions(registry=flows, lease=15.0, drain=0.0)
        async with worker_on(backend, options, hosts[0]) as paused:
            handle = await paused.client.start(work)
            await anyio.sleep(1.5)
            for repeating in hosts[0].repeating:
                repeating.stop()  # as if the process stood still
            async with worker_on(backend, options, hosts[1]) as other:
                result = await other.client.handle(handle.id, work).result()
                return result, [worker for _, worker in backend.beats]

    result, beats = simulate(loop, main, monkeypatch)
    assert result == 2
    (_, first), (again, second) = attempts
    assert (first, second) == (1, 2)
    assert 15 < again < 30
    assert len(set(beats)) == 3  # the first one has registered anew


def test_a_cancel_reaches_an_activity_with_the_next_heartbeat(loop, monkeypatch):
    flows = Registry()

    @flows.activity
    async def endless() -> None:
        await anyio.sleep_forever()

    @flows.workflow
    async def work() -> None:
        await endless()

    async def main(backend):
        options = WorkerOptions(registry=flows, drain=0.0)
        only_workflows = WorkerOptions(registry=flows, drain=0.0, activities=False)
        async with (
            worker_on(backend, options, simulated_host(1)),
            worker_on(backend, only_workflows, simulated_host(2)) as other,
        ):
            handle = await other.client.start(work)
            await anyio.sleep(10.5)
            await handle.cancel()
            with pytest.raises(InstanceCancelled):
                await handle.result()
            return anyio.current_time()

    assert 10.5 < simulate(loop, main, monkeypatch) <= 11.6


def test_timers_are_in_time_though_the_machine_slept(loop, monkeypatch):
    """The loop's clock stands still meanwhile, and the store's does not."""
    flows = Registry()
    policy = RetryPolicy(max_attempts=2, initial_interval=600, max_interval=600, jitter=0)

    @flows.activity(retry=policy)
    async def flaky() -> int:
        if activity_info().attempt == 1:
            raise OSError
        return activity_info().attempt

    @flows.workflow
    async def naps() -> None:
        await trio.sleep(600)

    @flows.workflow
    async def tries() -> int:
        return await flaky()

    async def main(_):
        host, slept = simulated_host(0), []
        backend = SharedMemory(lambda: host.wall() + sum(slept))
        await backend.open()
        options = WorkerOptions(registry=flows, lease=15.0, drain=0.0)
        async with worker_on(backend, options, host) as worker:
            handles = [await worker.client.start(each) for each in (naps, tries)]
            await anyio.sleep(12.5)  # between two looks whether another worker has died
            slept.append(3600)
            with anyio.fail_after(10):
                results = [await handle.result() for handle in handles]
        await backend.aclose()
        return results

    assert simulate(loop, main, monkeypatch) == [None, 2]
