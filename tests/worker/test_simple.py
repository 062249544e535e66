"""Workflows that run to their end: activities, values, side effects, history, unknown names."""

from __future__ import annotations

import logging

import anyio
import pytest
import trio

from tests.worker.flow import kinds, until, until_parked
from trioflow import (
    ArgumentError,
    InstanceSuspended,
    Registry,
    RemoteError,
    RetryPolicy,
    Signal,
    ValueMismatch,
    activity_by_name,
    info,
    now,
    random,
    side_effect,
    uuid4,
    workflow_by_name,
)

go = Signal("go", int)
once = RetryPolicy(max_attempts=1)


class OutOfStock(Exception):
    def __init__(self, item, left):
        super().__init__(item, left)
        self.item = item
        self.left = left


async def test_a_workflow_returns_what_its_activities_gave(flow):
    flows = Registry()

    @flows.activity
    async def add(a: int, b: int = 1) -> int:
        return a + b

    @flows.activity
    def double(n: int) -> int:
        return n * 2

    @flows.workflow
    async def work(n: int, *, times: int = 2) -> list[int]:
        return [await double(await add(n, b=i)) for i in range(times)]

    async with flow.worker(flows) as worker:
        assert await worker.client.run(work, 3) == [6, 8]
        assert await worker.client.run(work, 3, times=3) == [6, 8, 10]


async def test_five_hundred_activities_at_once(flow):
    flows = Registry()

    @flows.activity
    async def square(n: int) -> int:
        await anyio.lowlevel.checkpoint()
        return n * n

    @flows.workflow
    async def work(n: int) -> int:
        return sum(await anyio.gather(*[square(i) for i in range(n)]))

    async with flow.worker(flows, max_activities=20) as worker:
        handle = await worker.client.start(work, 500)
        assert await handle.result() == sum(i * i for i in range(500))
        (execution,) = await handle.history()
        commands = [command for turn in execution.turns for command in turn.commands]
        events = [event for turn in execution.turns for event in turn.events]
        assert len(commands) == 500
        assert len(events) == 501
        assert (await worker.client.stats()) == []


async def test_the_history_is_exactly_what_happened(flow):
    flows = Registry()

    @flows.activity
    async def step(n: int) -> int:
        return n

    @flows.workflow
    async def work() -> int:
        first = await step(1)
        await trio.sleep(0.01)
        return first + await go.receive()

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work.options(id="w"))
        await until_parked(handle, turns=3)
        await handle.signal(go, 5)
        assert await handle.result() == 6
        (execution,) = await handle.history()
        assert execution.number == 1
        assert kinds(execution.turns) == [
            (["Started"], ["RunActivity"]),
            (["ActivityCompleted"], []),
            (["Woken"], []),
            (["SignalReceived"], []),
        ]
        times = [turn.now for turn in execution.turns]
        assert times == sorted(times)
        assert times[2] >= times[1] + 0.01
        assert execution.turns[-1].outcome.result == 6
        described = await handle.describe()
        assert (described.turns, described.events) == (4, 5)


async def test_what_is_random_is_the_same_on_every_pass(flow):
    flows = Registry()
    calls = []

    @flows.workflow
    async def work() -> list[str]:
        seen = [str(uuid4()), str(random().random()), str(now()), info().id]
        calls.append(list(seen))
        seen.append(str(side_effect(lambda: len(calls), int)))
        await go.receive()
        seen += [str(uuid4()), str(side_effect(lambda: len(calls), int))]
        return seen

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work.options(id="w"))
        await until_parked(handle)
    async with flow.worker(flows) as worker:
        handle = worker.client.handle("w", work)
        await handle.signal(go, 1)
        result = await handle.result()
        assert len(calls) == 2
        assert calls[0] == calls[1] == result[:4]
        assert result[4] == "1"
        assert result[6] == "2"


async def test_an_unknown_workflow_waits_for_a_worker_that_knows_it(flow, caplog):
    ours, theirs = Registry(), Registry()

    @theirs.workflow(name="later")
    async def later(n: int) -> int:
        return n + 1

    @ours.workflow
    async def known() -> str:
        return "ok"

    def warnings():
        return [r.getMessage() for r in caplog.records if "'later'" in r.getMessage()]

    async def warned():
        return warnings()

    with caplog.at_level(logging.WARNING, "trioflow"):
        async with flow.client() as client:
            handle = await client.start(later, 1)
            other = await client.start(later, 2)
            async with flow.worker(ours) as worker:
                assert await worker.client.run(known) == "ok"
                await until(warned)
                await until_parked(handle, turns=0)
                assert (await handle.describe()).status == "running"
            async with flow.worker(theirs):
                assert await handle.result() == 2
                assert await other.result() == 3
    assert len(warnings()) == 1, warnings()
    assert "left in the store" in warnings()[0]


async def test_an_unknown_activity_waits_for_a_worker_that_knows_it(flow, caplog):
    ours, theirs = Registry(), Registry()
    elsewhere = activity_by_name("elsewhere", int)

    @ours.workflow
    async def work() -> int:
        return sum(await anyio.gather(elsewhere(n=1), elsewhere(n=5)))

    @theirs.activity(name="elsewhere")
    async def real(n: int) -> int:
        return n + 1

    with caplog.at_level(logging.WARNING, "trioflow"):
        async with flow.worker(ours) as worker:
            handle = await worker.client.start(work)

            async def refused():
                return any("'elsewhere'" in r.getMessage() for r in caplog.records)

            await until(refused)
            async with flow.worker(theirs, workflows=False):
                assert await handle.result() == 8
    warned = [r for r in caplog.records if "'elsewhere'" in r.getMessage()]
    assert len(warned) == 1


async def test_who_does_not_know_an_activity_leaves_it_as_it_was(cached, caplog):
    ours, theirs = Registry(), Registry()
    flaky = activity_by_name("flaky", priority=3)

    @ours.workflow
    async def work() -> None:
        await flaky()

    @theirs.activity(name="flaky", retry=RetryPolicy(initial_interval=0.2))
    async def real() -> None:
        raise OSError("the network is down")

    with caplog.at_level(logging.WARNING, "trioflow"):
        async with cached.client(ours) as client:
            handle = await client.start(work)

            async def has_failed():
                tasks = (await handle.describe()).activities
                return bool(tasks and tasks[0].failure)

            async with (
                cached.worker(ours, activities=False),
                cached.worker(theirs, workflows=False),
            ):
                await until(has_failed)
            before = (await handle.describe()).activities
            async with cached.worker(Registry(), workflows=False):

                async def refused():
                    return any("'flaky'" in r.getMessage() for r in caplog.records)

                await until(refused)
            assert (await handle.describe()).activities == before


async def test_arguments_that_do_not_fit_are_refused_before_anything_is_stored(flow):
    flows = Registry()

    @flows.workflow
    async def work(n: int) -> int:
        return n

    async with flow.worker(flows) as worker:
        for args, kwargs, says in [
            ((), {}, "n"),
            ((1, 2), {}, "work"),
            (("x",), {}, "'n'.*[Ee]xpected.*int.*str"),
            ((object(),), {}, "'n'"),
            ((1,), {"m": 2}, "m"),
        ]:
            with pytest.raises(ArgumentError, match=says):
                await worker.client.start(work, *args, **kwargs)
        assert await worker.client.count() == 0


async def test_an_activity_called_wrongly_raises_there_and_nothing_is_scheduled(flow):
    flows = Registry()

    @flows.activity
    async def add(a: int, b: int) -> int:
        return a + b

    @flows.workflow
    async def work() -> str:
        try:
            await add(1)
        except ArgumentError as exc:
            first = str(exc)
        try:
            await add(1, "x")
        except ArgumentError as exc:
            return f"{first} / {exc}"

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work)
        text = await handle.result()
        assert "'b'" in text
        assert "got `str`" in text or "str" in text
        (execution,) = await handle.history()
        assert all(not turn.commands for turn in execution.turns)


async def test_stored_arguments_that_no_longer_fit_are_told_with_the_path(flow):
    new = Registry()
    start = workflow_by_name("shop")

    @new.workflow(name="shop")
    async def shop(n: int) -> int:
        return n

    async with flow.client() as client:
        handle = await client.start(start, n="seven")
        async with flow.worker(new):
            with pytest.raises(InstanceSuspended, match=r"'n'.*int"):
                await handle.result(wait_suspended=False)


async def test_results_of_the_wrong_type_fail_the_workflow(flow):
    flows = Registry()

    @flows.workflow
    async def wrong() -> int:
        return "seven"

    @flows.workflow
    async def strange() -> object:
        return object()

    async with flow.worker(flows) as worker:
        with pytest.raises(ValueMismatch, match="wrong.. result.*int"):
            await worker.client.run(wrong)
        with pytest.raises((ValueMismatch, RemoteError), match="strange"):
            await worker.client.run(strange)


async def test_an_exception_is_rebuilt_with_its_class_arguments_and_notes(flow):
    flows = Registry()
    caught = []

    @flows.activity(retry=once)
    async def reserve(item: str) -> None:
        raise OutOfStock(item, 3)

    @flows.workflow
    async def work() -> None:
        try:
            await reserve("pen")
        except OutOfStock as exc:
            caught.append((exc.args, exc.__cause__ is not None))
            raise

    async with flow.worker(flows) as worker:
        with pytest.raises(OutOfStock) as raised:
            await worker.client.run(work.options(id="w"))
        assert raised.value.args == ("pen", 3)
        assert any("'w'" in note for note in raised.value.__notes__)
        assert "reserve" in str(raised.value.__cause__)
    assert set(caught) == {(("pen", 3), True)}
