"""continue_as_new: the next execution of the same instance, with nothing lost on the way."""

from __future__ import annotations

from typing import get_args

import anyio
import pytest
import trio
from msgspec import Raw

from tests.worker.flow import Gate, until, until_parked
from trioflow import ArgumentError, InstanceCancelled, Registry, Signal, continue_as_new, info
from trioflow._codec.failures.failures import Failure
from trioflow._model import events as ev
from trioflow._worker.instances.batch import Received
from trioflow._worker.instances.held import HeldInstance
from trioflow._worker.instances.states import State
from trioflow.backends.commits import InstanceCommit, NewInstance

number = Signal("number", int)
word = Signal("word", str)


async def test_the_result_is_the_last_executions(flow):
    flows = Registry()

    @flows.activity
    async def add(n: int) -> int:
        return n + 1

    @flows.workflow
    async def count(n: int, *, until: int) -> str:
        n = await add(n)
        if n < until:
            continue_as_new(n, until=until)
        return f"{n} in execution {info().execution}, events {info().events}"

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(count.options(id="c"), 0, until=5)
        assert await handle.result() == "5 in execution 5, events 2"
        executions = await handle.history()
        assert [e.number for e in executions] == [1, 2, 3, 4, 5]
        endings = [type(e.turns[-1].outcome).__name__ for e in executions]
        assert endings == ["Continued"] * 4 + ["Completed"]
        described = await handle.describe()
        assert (described.execution, described.result) == (5, "5 in execution 5, events 2")
        assert described.input == {"n": 4, "until": 5}


async def test_unread_signals_go_over_in_their_order(flow):
    flows = Registry()

    @flows.workflow
    async def collect(seen: list[int]) -> list[int]:
        seen.append(await number.receive())
        await word.receive()
        if len(seen) < 4:
            continue_as_new(seen)
        return [*seen, number.receive_nowait()]

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(collect, [])
        for i in range(5):
            await handle.signal(number, i)
        for _ in range(4):
            await handle.signal(word, "on")
        assert await handle.result() == [0, 1, 2, 3, 4]


async def test_a_child_that_continues_is_one_child_to_its_parent(flow):
    flows = Registry()

    @flows.workflow
    async def child(seen: list[int]) -> list[int]:
        seen.append(await number.receive())
        if len(seen) < 3:
            continue_as_new(seen)
        return seen

    @flows.workflow
    async def parent() -> list[int]:
        return await child.options(id="c")([])

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(parent)

        async def there():
            return await worker.client.count(id_prefix="c")

        await until(there)
        for i in range(3):
            await worker.client.handle("c").signal(number, i)
        assert await handle.result() == [0, 1, 2]
        assert (await worker.client.handle("c").describe()).execution == 3


async def test_it_leaves_through_nurseries_and_stops_what_runs_there(flow):
    flows = Registry()
    gates = []

    @flows.activity
    async def wait() -> None:
        await gates[0].wait()

    @flows.workflow
    async def work(n: int) -> int:
        if n == 3:
            return n
        async with trio.open_nursery() as nursery, anyio.create_task_group() as group:
            nursery.start_soon(wait)
            group.start_soon(trio.sleep, 1e6)
            await number.receive()
            continue_as_new(n + 1)

    gates[:] = [Gate()]
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work, 0)
        for i in range(3):
            await gates[0].until_entered(i + 1)
            await handle.signal(number, i)
        assert await handle.result() == 3
        assert len(gates[0].left) == 3
        assert await worker.client.stats() == []


async def test_wrong_arguments_are_refused_and_the_execution_goes_on(flow):
    flows = Registry()

    @flows.workflow
    async def work(n: int) -> str:
        try:
            continue_as_new("x")
        except ArgumentError as exc:
            return str(exc)

    async with flow.worker(flows) as worker:
        assert "'n'" in await worker.client.run(work, 1)


async def test_a_cancel_reaches_the_execution_that_runs(flow):
    flows = Registry()

    @flows.workflow
    async def work(n: int) -> None:
        await number.receive()
        continue_as_new(n + 1)

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work, 0)
        for i in range(3):
            await handle.signal(number, i)

        async def fourth():
            return (await handle.describe()).execution == 4

        await until(fourth)
        await until_parked(handle)
        await handle.cancel("enough")
        with pytest.raises(InstanceCancelled, match="enough"):
            await handle.result()


async def test_an_abandoned_activity_of_an_old_execution_leaves_nothing_behind(flow):
    flows = Registry()
    gates = []

    @flows.activity(on_cancel="abandon")
    async def stubborn() -> int:
        with anyio.CancelScope(shield=True):
            await gates[0].wait()
        return 1

    @flows.workflow
    async def work(n: int) -> int:
        if n:
            await number.receive()
            return n
        with trio.move_on_after(0.01):
            await stubborn()
        continue_as_new(1)

    gates[:] = [Gate()]
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work, 0)

        async def second():
            return (await handle.describe()).execution == 2

        await until(second)
        gates[0].open()

        async def gone():
            (stats,) = await worker.client.stats()
            return not stats.running_activities and not stats.pending_activities

        await until(gone)
        await handle.signal(number, 0)
        assert await handle.result() == 1


def test_what_came_for_any_execution_is_consumed_by_the_next():
    """Otherwise its row would stay in the inbox, and no commit could ever end the instance."""
    answers = [ev.ActivityCompleted("0:0", Raw(b"1")), ev.SignalSent("0:1"), ev.Woken()]
    messages = [
        ev.SignalReceived("number", Raw(b"1")),
        ev.UpdateRequested("r", "add"),
        ev.PromiseResolved("secret", Raw(b"1")),
        ev.PromiseRejected("other", Failure(type="x")),
        ev.CancelRequested(),
    ]
    instance = HeldInstance.born(NewInstance("a", "flow", "default", b"{}"))
    instance.state = State.STORING_SEALED
    for seq, event in enumerate([*answers, *messages]):
        instance.receive(Received(event, 1.0, seq=seq + 1))
    instance.continue_as_next(InstanceCommit(id="a", execution=1, number=3, continued=b"{}"))
    assert [received.event for received in instance.received] == messages
    kept = {type(event) for event in messages}
    sent_for_one = {*get_args(ev.ActivityAnswer), *get_args(ev.ChildAnswer)}
    sent_for_one |= {*get_args(ev.SignalAnswer), *get_args(ev.RequestAnswer), ev.Started, ev.Woken}
    assert kept == set(get_args(ev.Event)) - sent_for_one
