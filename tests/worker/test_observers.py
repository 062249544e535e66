"""Observers: what they are told, when, and that they cannot do harm."""

from __future__ import annotations

import logging
import math

import pytest
import trio
import trio.testing

from trioflow import Registry, RetryPolicy, Signal, continue_as_new, open_client, open_worker
from trioflow._observe import (
    AttemptEnded,
    BatchStored,
    ExecutionEnded,
    ExecutionReplayed,
    InstanceCreated,
    InstanceSuspended,
    InstanceTaken,
    LeaseWasLost,
    TurnStored,
)
from trioflow.backends.commits import CommitFailure
from trioflow.backends.memory import MemoryBackend

flows = Registry()
go = Signal("go", int)


@flows.activity(retry=RetryPolicy(max_attempts=2, initial_interval=0.0))
async def charge(amount: int) -> int:
    if amount < 0:
        raise ValueError("below zero")
    return amount


@flows.workflow
async def part(amount: int) -> int:
    return await charge(amount)


@flows.workflow
async def order(amount: int) -> int:
    paid = await part.options(id="the-part")(amount)
    return paid + await go.receive()


@flows.workflow
async def twice(again: bool) -> None:
    if again:
        continue_as_new(False)


@flows.workflow
async def waits() -> None:
    while not await go.receive():
        pass


class Notes:
    """Keeps what it is told."""

    def __init__(self):
        self.all = []

    def observe(self, observation):
        self.all.append(observation)

    def of(self, kind, instance=None):
        return [
            each
            for each in self.all
            if isinstance(each, kind) and (instance is None or each.instance == instance)
        ]


async def test_what_is_stored_is_told_once_in_its_order():
    notes = Notes()
    async with open_worker("memory://", registry=flows, observers=[notes]) as worker:
        handle = await worker.client.start(order.options(id="o1"), 3)
        await handle.signal(go, 4)
        assert await handle.result() == 7
    (created,) = notes.of(InstanceCreated)
    assert (created.instance, created.workflow, created.queue) == ("o1", "order", "default")
    turns = notes.of(TurnStored, "o1")
    assert [turn.number for turn in turns] == [*range(len(turns))]
    assert turns[0].turn.commands[0].workflow == "part"
    assert {turn.life for turn in turns} == {created.life}
    (child,) = notes.of(ExecutionEnded, "the-part")
    assert (child.status, child.parent.instance) == ("completed", "o1")
    (attempt,) = notes.of(AttemptEnded)
    assert (attempt.activity, attempt.attempt, attempt.status) == ("charge", 1, "completed")
    assert (attempt.instance, attempt.life) == ("the-part", child.life)
    assert attempt.scheduled_at <= attempt.began_at <= attempt.ended_at
    (end,) = notes.of(ExecutionEnded, "o1")
    assert notes.all.index(end) > notes.all.index(turns[-1])
    assert end.started_at == turns[0].turn.now
    assert end.ended_at == turns[-1].turn.now
    batches = notes.of(BatchStored)
    assert sum(batch.turns for batch in batches) == len(notes.of(TurnStored))
    assert sum(batch.refused for batch in batches) == 0


async def test_taking_tells_how_long_it_waited_and_whether_it_was_in_memory():
    clock = Clock()
    store = MemoryBackend(clock=clock)
    first, second = Notes(), Notes()
    async with open_client(store, registry=flows) as client:
        await client.start(waits.options(id="w1"))
        await client.start(waits.options(id="w2"))
        clock.now += 5.0
        async with open_worker(store, registry=flows, observers=[first], cache_size=1) as worker:
            await parked(first, 2)
            clock.now += 1.0
            for id in ("w2", "w1"):
                turns = len(first.of(TurnStored))
                await worker.client.handle(id).signal(go, 0)
                await parked(first, turns + 1)
        async with open_worker(store, registry=flows, observers=[second]) as worker:
            await worker.client.handle("w1").signal(go, 1)
            await worker.client.handle("w1").wait()
    taken = [(one.instance, one.waited, one.cached) for one in first.of(InstanceTaken)]
    assert taken[:2] == [("w1", 5.0, None), ("w2", 5.0, None)]
    assert taken[2:] == [("w2", 0.0, True), ("w1", 0.0, False)]
    assert [one.cached for one in second.of(InstanceTaken, "w1")] == [False]
    batches = first.of(BatchStored)
    assert {batch.worker for batch in batches} == {batches[0].worker} != {""}
    assert max(batch.held for batch in batches) >= 1
    assert {batch.cached for batch in batches} <= {0, 1}
    assert sum(batch.evicted for batch in batches) >= 1


async def parked(notes, turns):
    while len(notes.of(TurnStored)) < turns:
        await trio.sleep(0)
    await trio.testing.wait_all_tasks_blocked()


class Clock:
    """A store's clock that is set by hand."""

    def __init__(self):
        self.now = 1_700_000_000.0

    def __call__(self):
        return self.now


async def test_ends_of_all_kinds():
    notes = Notes()
    async with open_worker("memory://", registry=flows, observers=[notes]) as worker:
        client = worker.client
        with pytest.raises(ValueError, match="below zero"):
            await client.run(order.options(id="bad"), -1)
        await client.run(twice.options(id="two"), True)
        waits = await client.start(order.options(id="cancelled"), 1)
        await waits.cancel()
        await waits.wait()
    ends = {(end.instance, end.execution): end.status for end in notes.of(ExecutionEnded)}
    assert ends["bad", 1] == "failed"
    assert (ends["two", 1], ends["two", 2]) == ("continued", "completed")
    assert ends["cancelled", 1] == "cancelled"
    attempts = notes.of(AttemptEnded, "the-part")
    assert [(each.attempt, each.status) for each in attempts][:2] == [(1, "retried"), (2, "failed")]
    assert attempts[0].failure.type == "ValueError"


async def test_a_replay_tells_nothing_of_the_instance():
    first, second = Notes(), Notes()
    store = MemoryBackend()
    async with open_worker(store, registry=flows, observers=[first]) as worker:
        handle = await worker.client.start(order.options(id="o1"), 3)
        while not first.of(ExecutionEnded, "the-part"):
            await trio.sleep(0)
        while len(first.of(TurnStored, "o1")) < 2:
            await trio.sleep(0)
    async with open_worker(store, registry=flows, observers=[second]) as worker:
        handle = worker.client.handle("o1", order)
        await handle.signal(go, 1)
        assert await handle.result() == 4
    (replayed,) = second.of(ExecutionReplayed)
    assert (replayed.workflow, replayed.turns) == ("order", len(first.of(TurnStored, "o1")))
    (last,) = second.of(TurnStored)
    assert last.number == len(first.of(TurnStored, "o1"))
    assert second.of(ExecutionEnded)[0].started_at == first.of(TurnStored, "o1")[0].turn.now
    await store.aclose()


async def test_what_the_store_has_refused_is_not_told():
    class Refusing(MemoryBackend):
        refused = 0

        async def commit(self, worker, units):
            if self.refused < 2 and any(each.turns for unit in units for each in unit.instances):
                self.refused += 1
                return [CommitFailure() for _ in units]
            return await super().commit(worker, units)

    notes = Notes()
    store = Refusing()
    async with open_worker(store, registry=flows, observers=[notes]) as worker:
        assert await worker.client.run(part.options(id="p1"), 3) == 3
    stored = await store.history("p1")
    assert store.refused == 2
    assert [turn.number for turn in notes.of(TurnStored)] == [*range(len(stored[-1].turns))]
    assert sum(batch.refused for batch in notes.of(BatchStored)) == 2
    await store.aclose()


async def test_a_suspension_is_told():
    changed = Registry()

    @changed.workflow(name="order")
    async def other(amount: int) -> int:
        return amount + await go.receive()

    notes = Notes()
    store = MemoryBackend()
    async with open_worker(store, registry=flows, drain=0, observers=[notes]) as worker:
        await worker.client.start(order.options(id="o1"), 3)
        while len(notes.of(TurnStored, "o1")) < 2:
            await trio.sleep(0)
    async with open_worker(store, registry=changed, observers=[notes]) as worker:
        await worker.client.handle("o1").signal("go", 1)
        await worker.client.handle("o1").wait(status="suspended")
    (suspended,) = notes.of(InstanceSuspended)
    assert (suspended.instance, suspended.workflow, suspended.execution) == ("o1", "order", 1)
    assert "does not match its history" in suspended.message
    await store.aclose()


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit, GeneratorExit])
async def test_one_that_raises_is_logged_once_and_changes_nothing(caplog, kind):
    class Broken:
        def observe(self, observation):
            raise kind("no disk")

        def __repr__(self):
            return "<Broken>"

    notes = Notes()
    options = {"registry": flows, "observers": [Broken(), notes], "stuck_after": math.inf}
    async with open_worker("memory://", **options) as worker:
        assert await worker.client.run(part, 3) == 3
    assert notes.of(ExecutionEnded)
    errors = [each for each in caplog.records if each.levelno == logging.ERROR]
    (error,) = errors
    assert error.getMessage().startswith("observer <Broken> failed on BatchStored; it is told of")
    assert "no disk" in caplog.text


async def test_an_interrupt_in_an_observer_ends_the_worker():
    class Interrupted:
        def observe(self, observation):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        async with open_worker("memory://", registry=flows, observers=[Interrupted()]) as worker:
            await worker.client.run(part, 3)


class Late:
    async def observe(self, observation):
        raise AssertionError


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ([object()], "a method observe"),
        ([None], "a method observe"),
        ([Notes], "a method observe"),
        ([Late()], "is async"),
        (Notes(), "a sequence"),
        (None, "a sequence"),
    ],
)
async def test_what_is_no_observer_is_refused(wrong, says):
    with pytest.raises(TypeError, match=f"^observers: .*{says}"):
        open_worker("memory://", observers=wrong)
    with pytest.raises(TypeError, match=f"^observers: .*{says}"):
        async with open_client("memory://", observers=wrong):
            raise AssertionError


async def test_a_client_tells_of_what_it_starts_and_of_nothing_else():
    notes = Notes()
    store = MemoryBackend()
    async with open_client(store, observers=[notes]) as client:
        await client.start(order.options(id="o1"), 3)
        await client.start(order.options(id="o1", if_exists="return"), 3)
        await client.signal_with_start(order.options(id="o1").bind(3), go, 1)
        await client.signal_with_start(order.options(id="o2").bind(3), go, 1)
    assert [created.instance for created in notes.all] == ["o1", "o2"]
    await store.aclose()


async def test_a_lost_lease_is_told(tmp_path):
    notes = Notes()
    store = f"sqlite:///{tmp_path / 'store.db'}"
    async with open_worker(store, registry=flows, observers=[notes], name="w1") as worker:
        await worker._backend.release_worker(worker._registration.id)
        assert await worker.client.run(part, 3) == 3
    (lost,) = notes.of(LeaseWasLost)
    assert lost.name == "w1"


async def test_one_that_is_a_propagator_too_is_used_as_both():
    class Both(Notes):
        def inject(self, metadata):
            metadata["who"] = "ann"

        def extract(self, metadata):
            self.all.append(dict(metadata))

    both = Both()
    async with open_worker("memory://", registry=flows, observers=[both]) as worker:
        await worker.client.run(part, 3)
    assert both.of(InstanceCreated)[0].metadata == {"who": "ann"}
    assert both.of(dict) == [{"who": "ann"}] * 2  # the workflow and the activity
    assert both.of(AttemptEnded)[0].metadata == {"who": "ann"}
