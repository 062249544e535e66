"""A queue that no living worker serves: the log says so, once, and only when it lasts."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

from tests.stores import opened
from tests.worker.flow import in_memory, until
from trioflow import Registry, open_client, open_worker
from trioflow._worker.registration import Registration
from trioflow._worker.unserved import watch_queues
from trioflow.backends.memory import MemoryBackend
from trioflow.backends.records import QueueStats
from trioflow.errors import BackendUnavailable

MINUTE = 60.0
DAY = 24 * 3600.0


@pytest.fixture
def warned(caplog):
    """Return what the workers have warned of, as far as it is about queues."""
    caplog.set_level(logging.WARNING, "trioflow.worker")

    def found():
        said = [record.getMessage() for record in caplog.records]
        return [text for text in said if "no living worker" in text]

    return found


def shop():
    flows = Registry()

    @flows.activity
    async def add(x: int) -> int:
        return x + 1

    @flows.workflow
    async def child() -> None:
        pass

    @flows.workflow
    async def parent(queue: str, kind: str) -> None:
        if kind == "activity":
            await add.options(queue=queue)(1)
        else:
            await child.options(queue=queue)()

    @flows.workflow
    async def sleeper(seconds: float) -> None:
        await trio.sleep(seconds)

    return flows, parent, child, sleeper


class Counting(MemoryBackend):
    """Counts how often it is asked for its numbers."""

    looks = 0

    async def stats(self):
        self.looks += 1
        return await super().stats()


# --- in a worker ----------------------------------------------------------------------------------


async def test_an_instance_in_a_queue_that_nobody_serves_is_warned_of_once(warned, backend):
    flows, _, child, _ = shop()

    async with open_worker(backend, registry=flows) as worker:
        for _ in range(2):
            await worker.client.start(child.options(queue="nowhere"))
        await trio.sleep(MINUTE + 1)
        assert warned() == []
        await trio.sleep(DAY)
        (said,) = warned()
        assert "2 instances wait in queue 'nowhere'" in said
        assert "queues=['nowhere']" in said
        await worker.client.start(child.options(queue="nowhere"))
        await trio.sleep(DAY)
        assert len(warned()) == 1
        assert [one.workers for one in await worker.client.stats()] == [0]


@pytest.mark.parametrize(("kind", "option"), [("activity", "activity_queues"), ("child", "queues")])
async def test_what_a_workflow_asks_of_a_queue_that_nobody_serves_is_warned_of(
    kind, option, warned, backend
):
    flows, parent, _, _ = shop()

    async with open_worker(backend, registry=flows) as worker:
        await worker.client.start(parent, "nowhere", kind)
        await trio.sleep(DAY)
        (said,) = warned()
        assert said.startswith(f"1 {'instance' if kind == 'child' else 'activity'} waits in queue")
        assert f" {option}=['nowhere']" in said


async def test_a_worker_of_the_other_kind_does_not_serve_a_queue(warned, backend):
    flows, parent, _, _ = shop()

    async with (
        open_worker(backend, registry=flows) as worker,
        open_worker(backend, registry=flows, queues=["acts"], activities=False),
    ):
        await worker.client.start(parent, "acts", "activity")
        await trio.sleep(DAY)
        assert len(warned()) == 2  # by each worker
        assert len(set(warned())) == 1


@pytest.mark.parametrize("kind", ["activity", "child"])
async def test_a_queue_that_another_worker_serves_is_not_warned_of(kind, warned, backend):
    flows, parent, _, _ = shop()

    # It knows neither the workflow nor the activity, so both lie there; it has said so itself.
    async with (
        open_worker(backend, registry=flows) as worker,
        open_worker(backend, registry=Registry(), queues=["other"]),
    ):
        handle = await worker.client.start(parent, "other", kind)
        await trio.sleep(DAY)
        assert warned() == []
        numbers = {one.queue: one for one in await worker.client.stats()}
        assert numbers["other"].pending_instances + numbers["other"].pending_activities == 1
        assert (numbers["other"].workers, numbers["other"].activity_workers) == (1, 1)
        await handle.terminate("enough")


async def test_a_queue_whose_last_worker_goes_is_warned_of(warned, backend):
    flows, _, child, _ = shop()

    async with open_worker(backend, registry=flows) as worker:
        async with open_worker(backend, registry=flows, queues=["other"]):
            await worker.client.run(child.options(queue="other"))
        await trio.sleep(DAY)
        assert warned() == []
        await worker.client.start(child.options(queue="other"))
        await trio.sleep(DAY)
        assert len(warned()) == 1


async def test_a_worker_of_a_store_of_its_own_looks_only_after_changes(warned, clock):
    flows, _, _, sleeper = shop()

    async with (
        opened(in_memory(clock, Counting)) as backend,
        open_worker(backend, registry=flows) as worker,
    ):
        await worker.client.run(sleeper, 300 * DAY)
        await trio.sleep(DAY)
        assert backend.looks < 10
        assert warned() == []


async def test_no_worker_at_all_is_seen_in_the_numbers(backend):
    flows, _, child, sleeper = shop()

    async with open_client(backend, registry=flows) as client:
        await client.start(sleeper, 3600.0)
        (stats,) = await client.stats()
        assert (stats.workers, stats.activity_workers) == (0, 0)
        async with open_worker(backend, registry=flows, activities=False) as worker:
            await until(client.workers)
            handle = await worker.client.start(child.options(queue="other"))
            numbers = {one.queue: one for one in await client.stats()}
            assert (numbers["default"].workers, numbers["other"].workers) == (1, 0)
            assert numbers["default"].activity_workers == 0
            await handle.terminate("enough")


# --- look by look ---------------------------------------------------------------------------------


class Scripted:
    """A shared store of which only the numbers are seen, each look's in its turn."""

    shared = True

    def __init__(self, *answers, seconds=0.0):
        self._answers = list(answers)
        self._seconds = seconds
        self.asked_at = []

    def changes(self):
        return 0

    async def stats(self):
        self.asked_at.append(trio.current_time())
        await trio.sleep(self._seconds)
        answer = self._answers.pop(0) if self._answers else []
        if isinstance(answer, Exception):
            raise answer
        return answer


async def watch(store, *, minutes):
    with trio.move_on_after(minutes * MINUTE - 1):
        await watch_queues(store, Registration())


WAITING = [QueueStats(queue="q", pending_activities=3, workers=1)]
SERVED = [QueueStats(queue="q", pending_activities=3, activity_workers=1)]
AWAY = BackendUnavailable("away")


@pytest.mark.parametrize(
    ("answers", "times"),
    [
        ([WAITING], 0),
        ([WAITING, WAITING], 1),
        ([WAITING] * 5, 1),
        ([WAITING, SERVED, WAITING, []] * 2, 0),
        ([AWAY, WAITING, AWAY, AWAY, WAITING, AWAY, WAITING], 1),
        # Served meanwhile: then it is news.
        ([WAITING, WAITING, SERVED, WAITING, WAITING, WAITING], 2),
    ],
)
@pytest.mark.usefixtures("clock")
async def test_what_lasts_for_two_looks_is_warned_of(answers, times, warned):
    store = Scripted(*answers)
    await watch(store, minutes=len(answers) + 1)
    assert len(store.asked_at) == len(answers)
    assert len(warned()) == times
    for said in warned():
        assert said.startswith("3 activities wait in queue 'q'")


@pytest.mark.usefixtures("clock")
async def test_the_looks_are_a_minute_apart():
    store = Scripted()
    await watch(store, minutes=5)
    assert store.asked_at == [MINUTE, 2 * MINUTE, 3 * MINUTE, 4 * MINUTE]


@pytest.mark.usefixtures("clock")
async def test_looks_that_take_long_are_rare():
    store = Scripted(seconds=30.0)
    await watch(store, minutes=200)
    one, two, three, four = store.asked_at
    assert two - one == three - two == four - three == 30.0 + 3000.0
