"""Interceptors: around workflows, activities, and the calls of clients."""

from __future__ import annotations

import re
import sys
import time
from contextlib import asynccontextmanager

import pytest

from tests.stores import opened
from tests.worker import computing
from tests.worker.flow import in_memory, until_parked
from trioflow import (
    DeterminismError,
    InstanceFinished,
    Interceptor,
    Registry,
    RemoteError,
    RetryPolicy,
    Signal,
    ValueMismatch,
    activity_info,
    check_compatibility,
    info,
    is_replaying,
    open_client,
    open_worker,
    side_effect,
)
from trioflow._worker.activities.runtimes import RUNTIMES
from trioflow.testing import ReplayError, check_replay, export_history

number = Signal("number", int)


def shop():
    flows = Registry()

    @flows.activity
    async def add(x: int, y: int = 1) -> int:
        return x + y

    @flows.activity
    def double(x: int) -> int:
        return 2 * x

    @flows.activity(retry=RetryPolicy(max_attempts=1))
    async def fail() -> None:
        raise OSError("no")

    @flows.workflow
    async def work(x: int) -> int:
        return await double(await add(x, 2))

    @flows.workflow
    async def waits(x: int) -> int:
        return x + await number.receive()

    @flows.workflow
    async def fails() -> int:
        await fail()
        return 1

    return flows, work, waits, fails


class Log(Interceptor):
    """Notes what it is around of."""

    def __init__(self, name="", notes=None):
        self.name = name
        self.notes = [] if notes is None else notes

    async def workflow(self, call, proceed):
        assert info().id == call.instance
        return await self._around(call, proceed)

    async def activity(self, call, proceed):
        assert activity_info().activity == call.name
        assert activity_info().instance == call.instance
        return await self._around(call, proceed)

    async def client(self, call, proceed):
        return await self._around(call, proceed)

    async def _around(self, call, proceed):
        name = call.name.rpartition(".")[2]
        self.notes.append(f"{self.name}{name}{call.args}{call.kwargs or ''}")
        try:
            result = await proceed()
        except Exception as exc:
            self.notes.append(f"{self.name}{name} raised {type(exc).__name__}")
            raise
        self.notes.append(f"{self.name}{name} gave {result}")
        return result


@asynccontextmanager
async def working(clock, flows, *interceptors, **options):
    """Open a worker in virtual time with interceptors; give its client."""
    async with (
        opened(in_memory(clock)) as backend,
        open_worker(
            backend, registry=flows, drain=0, interceptors=interceptors, **options
        ) as worker,
    ):
        yield worker.client


async def test_calls_have_interceptors_around_them_the_first_one_outermost(clock):
    flows, work, *_ = shop()
    notes = []
    async with working(clock, flows, Log("1 ", notes), Log("2 ", notes)) as client:
        handle = await client.start(work.options(id="x"), 1)
        gave = [note for note in notes if " start gave" in note]
        assert gave == [f"{n} start gave <Handle of instance 'x'>" for n in (2, 1)]
        assert await handle.result() == 6
    of_client = [note for note in notes if " result" in note]
    assert of_client == ["1 result()", "2 result()", "2 result gave 6", "1 result gave 6"]
    assert [note for note in notes if not re.match(r"\d (start|result)", note)] == [
        *("1 work(1,)", "2 work(1,)"),
        *("1 add(1, 2)", "2 add(1, 2)", "2 add gave 3", "1 add gave 3"),
        *("1 double(3,)", "2 double(3,)", "2 double gave 6", "1 double gave 6"),
        *("2 work gave 6", "1 work gave 6"),
    ]


class Changing(Interceptor):
    """Gives something else than what it is around of."""

    async def workflow(self, call, proceed):
        try:
            return await proceed() + 100
        except OSError as exc:
            raise ValueError(f"instead of {exc}") from exc

    async def activity(self, call, proceed):
        return 7 if call.name.endswith("add") else await proceed()


async def test_results_and_errors_may_be_changed_and_a_call_left_out(clock):
    flows, work, _, fails = shop()
    async with working(clock, flows, Changing()) as client:
        assert await client.run(work, 1) == 114
        with pytest.raises(ValueError, match="instead of no"):
            await client.run(fails)


class Passing(Interceptor):
    """Notes errors, and lets everything pass."""

    def __init__(self):
        self.notes = []

    async def activity(self, call, proceed):
        try:
            return await proceed()
        except Exception as exc:
            self.notes.append((type(exc).__name__, type(exc.__cause__).__name__))
            raise


@pytest.mark.parametrize("hops", [0, 1, 2])
async def test_an_error_that_no_coroutine_raises_is_the_attempts_all_the_same(clock, hops):
    flows = Registry()

    @flows.activity(retry=RetryPolicy(max_attempts=1))
    def exhausted() -> int:
        return next(iter(()))

    @flows.workflow
    async def work() -> str:
        try:
            await exhausted()
        except Exception as exc:
            return exc.type if isinstance(exc, RemoteError) else type(exc).__name__

    around = [Passing() for _ in range(hops)]
    async with working(clock, flows, *around) as client:
        assert await client.run(work) == "StopIteration"
    assert [one.notes for one in around] == [[("RuntimeError", "StopIteration")]] * hops


async def test_an_error_instead_of_one_that_no_coroutine_raises(clock):
    flows = Registry()

    @flows.activity(retry=RetryPolicy(max_attempts=1))
    def exhausted() -> int:
        return next(iter(()))

    @flows.workflow
    async def work() -> int:
        return await exhausted()

    class Instead(Interceptor):
        async def activity(self, call, proceed):
            try:
                return await proceed()
            except RuntimeError as exc:
                raise LookupError("nothing there") from exc

    async with working(clock, flows, Instead()) as client:
        with pytest.raises(LookupError, match="nothing there"):
            await client.run(work)


class Wrong(Interceptor):
    """Makes mistakes."""

    async def workflow(self, call, proceed):
        await proceed()
        return await proceed()

    async def activity(self, call, proceed):
        await proceed()
        return "text"


async def test_mistakes_of_interceptors_fail_what_they_are_around(clock):
    flows, work, *_ = shop()
    calls = {"activity": Interceptor.activity}
    async with working(clock, flows, type("Twice", (Wrong,), calls)()) as client:
        with pytest.raises(RuntimeError, match=r"Twice has called proceed\(\) before"):
            await client.run(work, 1)
    calls = {"workflow": Interceptor.workflow}
    async with working(clock, flows, type("Text", (Wrong,), calls)()) as client:
        with pytest.raises(ValueMismatch, match=r"add\(\) result: Expected int, got str"):
            await client.run(work, 1)
    for wrong in (Interceptor, "log", Log):
        with pytest.raises(TypeError, match="interceptors: an object of a subclass"):
            open_worker("memory://", interceptors=[wrong])
        with pytest.raises(TypeError, match="interceptors: an object of a subclass"):
            async with open_client("memory://", interceptors=[wrong]):
                pass


class Recording(Interceptor):
    """Does what a workflow may do, and counts how often it runs."""

    def __init__(self):
        self.replays = []

    async def workflow(self, call, proceed):
        self.replays.append(is_replaying())
        began = side_effect(lambda: len(self.replays))
        result = await proceed()
        return began * 1000 + result


async def test_around_workflows_they_are_replayed(clock):
    flows, _, waits, _ = shop()
    recording = Recording()
    async with working(clock, flows, recording, cache_size=0) as client:
        handle = await client.start(waits.options(id="x"), 1)
        await until_parked(handle)
        assert (await check_compatibility(client, flows)).diverging == []
        assert not recording.replays[0]
        async with open_client(client.backend, registry=flows) as without:
            assert len((await check_compatibility(without, flows)).diverging) == 1
        await handle.signal(number, 1)
        assert await handle.result() == 1002
        assert any(recording.replays)
        history = await export_history(handle)
        check_replay(history, waits, interceptors=[recording])
        with pytest.raises(ReplayError):
            check_replay(history, waits)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="calls are not watched")
async def test_around_workflows_the_guard_watches_them(clock):
    flows, work, *_ = shop()

    class Timed(Interceptor):
        async def workflow(self, call, proceed):
            time.time()
            return await proceed()

    async with working(clock, flows, Timed()) as client:
        with pytest.raises(DeterminismError, match=r"time\.time"):
            await client.run(work, 1)


async def test_in_a_call_of_a_client_others_are_not_intercepted(clock):
    flows, _, waits, _ = shop()
    log = Log()
    async with (
        working(clock, flows) as client,
        open_client(client.backend, registry=flows, interceptors=[log]) as other,
    ):
        handle = await other.start(waits.options(id="x"), 1)
        await handle.pause("why")
        await handle.wait(status="suspended")
        assert (await other.terminate(id_prefix="x")).done == 1
        with pytest.raises(InstanceFinished):
            await handle.signal(number, 1)
        assert await other.count() == 1
    names = [re.split(r"\W", note)[0] for note in log.notes if " gave " not in note]
    assert names == ["start", "pause", "wait", "terminate", "signal", "signal", "count"]
    assert "signal raised InstanceFinished" in log.notes
    assert "pause('why',)" in log.notes


async def test_around_what_runs_in_another_process_they_see_values():
    order, log = computing.Order("o-1", [1, 2, 3]), Log()
    flows = Registry()
    flows.add(*computing.flows.activities.values())

    @flows.workflow
    async def work() -> int:
        try:
            await computing.declines("no")
        except Exception as exc:
            return len(str(exc)) + (await computing.total(order, factor=7))[1]

    async with open_worker("memory://", registry=flows, drain=0, interceptors=[log]) as worker:
        result = await worker.client.run(work)
    inside = [note for note in log.notes if note.startswith(("declines", "total"))]
    assert inside[0] == "declines('no',)"
    assert inside[1].startswith("declines raised ")
    assert inside[2] == f"total({order},){{'factor': 7}}"
    assert re.match(r"total gave \('.* o-1', 42, \d+\)", inside[3])
    assert result >= 42


async def test_without_any_for_activities_nothing_is_between(clock):
    flows, work, *_ = shop()

    class OfClients(Interceptor):
        async def client(self, call, proceed):
            return await proceed()

    async with (
        opened(in_memory(clock)) as backend,
        open_worker(backend, registry=flows, drain=0, interceptors=[OfClients()]) as worker,
    ):
        assert worker._activities._attempts._runtimes == RUNTIMES
        assert worker._pump._stepper._interceptors == ()
        assert await worker.client.run(work, 1) == 6


async def test_a_fork_shows_interceptors_what_its_turns_have_seen(clock):
    flows = Registry()

    @flows.workflow
    async def work() -> str:
        await number.receive()
        return info().id

    class Named(Interceptor):
        async def workflow(self, call, proceed):
            return f"{call.instance} {await proceed()}"

    async with working(clock, flows, Named()) as client:
        handle = await client.start(work.options(id="one"))
        await until_parked(handle)
        fork = await client.fork("one", turn=1, new_id="two")
        await fork.signal(number, 1)
        assert await fork.result() == "one two"  # info() tells it when that turn is over
