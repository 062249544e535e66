"""Queries: answered by whoever can, whatever state the instance is in, and without a trace."""

from __future__ import annotations

import copy

import anyio
import pytest

from tests.worker.flow import Dying, Gate, serving, until, until_parked, until_status
from trioflow import (
    ArgumentError,
    BackendUnavailable,
    ClientClosed,
    DeterminismError,
    InstanceNotFound,
    InstanceSuspended,
    NoWorkerAnswered,
    Query,
    QueryNotHandled,
    Registry,
    Signal,
    Update,
    ValueMismatch,
    continue_as_new,
    open_client,
    random,
)
from trioflow._worker.instances.held import HeldInstance
from trioflow._worker.instances.holdings import Holdings
from trioflow._worker.instances.states import State
from trioflow.backends.commits import NewInstance, NewQuestion
from trioflow.backends.records import TakenQuestion

contents = Query("contents", result=list[int])
above = Query("above", argument=int, result=list[int])
number, word = Signal("number", int), Signal("word", str)
flows = Registry()


@flows.workflow
async def collects(seen: list[int]) -> list[int]:
    contents.handler(lambda: seen)
    above.handler(lambda least: [value for value in seen if value > least])
    async for value in number:
        if value == 0:
            return seen
        if value == -1:
            raise ValueError(seen)
        seen.append(value)
        if value == 100:
            continue_as_new(seen)


async def test_what_waits_is_asked_from_anywhere(flow):
    async with flow.client() as client, flow.worker(flows) as worker:
        handle = await worker.client.start(collects.options(id="c"), [])
        assert await handle.query(contents) == []
        await handle.signal(number, 5)
        await handle.signal(number, 7)
        await until_parked(handle)
        other = client.handle("c")
        assert await other.query(contents) == await handle.query(contents) == [5, 7]
        assert await other.query(above, 5) == await other.query("above", 5) == [7]
        before = await other.history()
        assert await other.query(contents) == [5, 7]
        assert await other.history() == before


async def test_many_ask_at_once(flow):
    answers = []
    async with flow.client() as client, flow.worker(flows) as worker:
        handles = [await worker.client.start(collects, [at]) for at in range(5)]

        async def ask(at):
            handle = client.handle(handles[at % 5].id)
            answers.append((at % 5, await handle.query(contents)))

        async with anyio.create_task_group() as group:
            for at in range(30):
                group.start_soon(ask, at)
    assert sorted(answers) == sorted((at % 5, [at % 5]) for at in range(30))


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled", "terminated"])
async def test_what_has_ended_is_asked_as_it_was(flow, how):
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(collects, [])
        await handle.signal(number, 5)
        await until_parked(handle)
        match how:
            case "completed" | "failed":
                await handle.signal(number, 0 if how == "completed" else -1)
            case "cancelled":
                await handle.cancel()
            case _:
                await handle.terminate()
        await until_status(handle, how)
        assert await handle.query(contents) == [5]
    async with flow.worker(flows) as worker:
        assert await worker.client.handle(handle.id).query(contents) == [5]


async def test_the_present_execution_is_asked(flow):
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(collects, [])
        for value in (1, 100, 2):
            await handle.signal(number, value)
        await until_parked(handle)
        assert await handle.query(contents) == [1, 100, 2]
        assert (await handle.describe()).execution == 2


async def test_what_has_not_begun_is_asked_when_it_has(flow):
    async with flow.client() as client:
        handle = await client.start(collects, [4])
        answers = []

        async def ask():
            answers.append(await handle.query(contents, timeout=30))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            async with flow.worker(flows):
                with anyio.fail_after(30):
                    while not answers:
                        await anyio.sleep(0.005)
        assert answers == [[4]]


async def test_what_ended_before_it_began_says_so_at_once(flow):
    async with flow.client() as client:
        handle = await client.start(collects, [])
        await handle.cancel()
        async with flow.worker(flows):
            with pytest.raises(QueryNotHandled, match="'contents': it has ended before it began"):
                await handle.query(contents)


async def test_nobody_answers_where_nobody_can(flow):
    strangers = Registry()

    @strangers.workflow
    async def other() -> None: ...

    async with flow.client() as client:
        handle = await client.start(collects, [])
        with pytest.raises(NoWorkerAnswered, match=r"within 0\.05 s.*'collects'.*not begun"):
            await handle.query(contents, timeout=0.05)
        async with flow.worker(flows):
            await until_parked(handle)
        async with flow.worker(strangers):
            with pytest.raises(NoWorkerAnswered, match=r"'collects' and serves queue 'default'$"):
                await handle.query(contents, timeout=0.2)
        async with flow.worker(flows, queues=["another"]):
            with pytest.raises(NoWorkerAnswered):
                await handle.query(contents, timeout=0.2)
        async with flow.worker(flows, workflows=False):
            with pytest.raises(NoWorkerAnswered):
                await handle.query(contents, timeout=0.2)
        async with flow.worker(flows):
            assert await handle.query(contents) == []


async def test_bad_input_asks_nothing(flow):
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(collects.options(id="c"), [])
        with pytest.raises(ValueMismatch, match="argument of query 'above'.*int"):
            await handle.query(above, "x")
        with pytest.raises(ArgumentError, match="'above' has an argument"):
            await handle.query(above)
        with pytest.raises(ArgumentError, match="'contents' has no argument, and was given 1"):
            await handle.query(contents, 1)
        with pytest.raises(ValueError, match="timeout is a number of seconds, above 0"):
            await handle.query(contents, timeout=0)
        with pytest.raises(InstanceNotFound, match="'nobody'"):
            await worker.client.handle("nobody").query(contents)
        with pytest.raises(QueryNotHandled, match="'unknown'; there are handlers for 'contents'"):
            await handle.query("unknown")
        with pytest.raises(ValueMismatch, match="Expected int"):
            await handle.query("above", "x")


def of_other_code():
    """Another workflow of the name, which calls an activity where the first one only waits."""
    flows = Registry()

    @flows.workflow(name="collects")
    async def calls(seen: list[int]) -> int:
        return random().randrange(10) + await missing()

    @flows.activity
    async def missing() -> int:
        return 1

    return flows


async def test_a_suspended_instance_is_asked_as_far_as_its_history_goes(flow):
    old = Registry()

    @old.workflow(name="collects")
    async def other(seen: list[int]) -> str:
        contents.handler(lambda: [-1])
        return await word.receive()

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(collects.options(id="c"), [])
        await handle.signal(number, 5)
        await until_parked(handle)
        await handle.signal("number", "no number")
        await until_status(handle, "suspended")
        assert await handle.query(contents) == [5]
    async with flow.worker(old) as worker:
        handle = worker.client.handle("c")
        assert await handle.query(contents) == [-1]  # it has given no commands
    async with flow.worker(of_other_code()) as worker:
        with pytest.raises(InstanceSuspended, match="does not match its history"):
            await worker.client.handle("c").query(contents)
        assert (await worker.client.handle("c").describe()).suspension.kind == "undecodable"


async def test_what_runs_and_does_not_replay_is_not_said_to_be_suspended(flow):
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(collects.options(id="c"), [])
        await until_parked(handle)
    async with flow.worker(of_other_code()) as worker:
        handle = worker.client.handle("c")
        with pytest.raises(InstanceSuspended, match="does not match its history") as raised:
            await handle.query(contents)
        assert (await handle.describe()).status == "running"
    said = "instance 'c' still runs, and the worker that was asked would suspend it: the workflow"
    for error in (raised.value, copy.copy(raised.value)):
        assert error.running
        assert str(error).startswith(said)


async def test_the_worker_that_holds_an_instance_answers_what_it_has_stored(cached):
    slow, gate = Registry(), Gate()

    @slow.activity
    async def work(value: int) -> int:
        await gate.wait()
        return value

    @slow.workflow
    async def works() -> list[int]:
        seen: list[int] = []
        contents.handler(lambda: seen)
        for value in range(3):
            seen.append(value)
            await work(value)
        return seen

    async with cached.worker(slow) as worker:
        handle = await worker.client.start(works)
        await gate.until_entered()
        async with cached.client() as client:
            assert await client.handle(handle.id).query(contents) == [0]
        gate.open()
        assert await handle.result() == [0, 1, 2]
        assert await handle.query(contents) == [0, 1, 2]


async def test_what_is_not_stored_yet_is_not_seen(cached):
    """A turn is made, and its commit is under way: it may never have happened."""
    backend = await cached.backend()
    commit, stored, blocked = backend.commit, anyio.Event(), anyio.Event()

    async def slow_commit(worker, units):
        if any(each.consumed for unit in units for each in unit.instances):
            blocked.set()
            await stored.wait()
        return await commit(worker, units)

    backend.commit = slow_commit
    async with cached.client() as client, cached.worker(flows, backend=backend):
        handle = await client.start(collects, [])
        await until_parked(handle)
        await handle.signal(number, 5)
        await blocked.wait()
        assert await handle.query(contents) == []
        stored.set()
        await until_parked(handle, turns=2)
        assert await handle.query(contents) == [5]


@pytest.mark.parametrize("kept", ["held", "parked"])
@pytest.mark.parametrize("behind", [0, 1])
def test_what_is_behind_the_store_is_not_asked(kept, behind):
    """Others may have taken the lease of what is held, and gone on."""
    none = Registry().workflows
    holdings = Holdings(none, ["default"], limit=10, cache_size=10)
    instance = HeldInstance.born(NewInstance("i", "w", "default", b"[]", life="l"))
    instance.turns, instance.execution = 2, object()
    holdings.hold(instance)
    if kept == "parked":
        instance.state = State.STORING
        holdings.park(instance)
    row = TakenQuestion("q", b"", "i", "l", 1, "w", "default", 0, 2 + behind, None)
    assert holdings.find_at_rest(row) is (None if behind else instance)


@pytest.mark.parametrize("call", ["load", "answer_questions"])
async def test_what_was_taken_is_answered_though_the_store_is_away(backend, call):
    async with serving(backend, flows, cache_size=0) as client:
        handle = await client.start(collects, [4])
        await until_parked(handle)
        works, left = getattr(backend, call), [3]

        async def is_away(*args):
            if left[0]:
                left[0] -= 1
                raise BackendUnavailable("away")
            return await works(*args)

        setattr(backend, call, is_away)
        assert await handle.query(contents) == [4]
        assert left == [0]


async def test_a_store_that_is_away_for_long_keeps_nobody_waiting(backend):
    async with serving(backend, flows, cache_size=0) as client:
        handle = await client.start(collects, [4])
        await until_parked(handle)
        load = backend.load

        async def is_away(ids):
            raise BackendUnavailable("away")

        backend.load = is_away
        with pytest.raises(BackendUnavailable, match="did not answer within 10 s"):
            await handle.query(contents, timeout=30)
        backend.load = load
        assert await handle.query(contents) == [4]


async def test_another_worker_answers_for_one_that_has_died(flow):
    async with flow.client() as client:
        handle = await client.start(collects, [])
        dying = Dying(await flow.backend())
        async with flow.worker(flows, backend=dying):
            await handle.signal(number, 5)
            await until_parked(handle)
        async with flow.worker(flows):
            assert await handle.query(contents) == [5]


async def test_a_query_that_changes_something_changes_nothing(flow):
    bad = Registry()

    @bad.workflow
    async def wakes() -> list[str]:
        event, mine = anyio.Event(), random()
        Query("sets").handler(event.set)
        Query("draws").handler(mine.random)
        Query("raises").handler(lambda: 1 // 0)
        Update("draw", result=float).handler(mine.random)
        done: list[str] = []

        async def waits() -> None:
            await event.wait()
            done.append("woken")

        async with anyio.create_task_group() as group:
            group.start_soon(waits)
            done.append(await word.receive())
            group.cancel_scope.cancel()
        return done

    async with flow.worker(bad) as worker:
        handle = await worker.client.start(wakes)
        with pytest.raises(DeterminismError, match="'sets' woke a task"):
            await handle.query("sets")
        with pytest.raises(DeterminismError, match="'draws' drew random numbers"):
            await handle.query("draws")
        with pytest.raises(ZeroDivisionError) as raised:
            await handle.query("raises")
        assert f"raised by query 'raises' of instance {handle.id!r}" in raised.value.__notes__
        first = await handle.update("draw")
        with pytest.raises(DeterminismError):
            await handle.query("draws")
        assert await handle.update("draw") != first
        await handle.signal(word, "end")
        assert await handle.result() == ["end"]


async def test_a_wait_ends_with_its_client(flow):
    errors = []

    async def wait(handle):
        try:
            await handle.query(contents, timeout=30)
        except ClientClosed:
            errors.append("closed")

    backend = await flow.backend()
    asked, ask = anyio.Event(), backend.ask

    async def noted(question):
        asked.set()
        return await ask(question)

    backend.ask = noted
    async with anyio.create_task_group() as group, open_client(backend) as client:
        handle = await client.start(collects, [])
        group.start_soon(wait, handle)
        await asked.wait()
    assert errors == ["closed"]


async def test_a_question_that_cannot_be_read_ends_no_worker(flow, caplog):
    async with flow.client() as client, flow.worker(flows) as worker:
        handle = await worker.client.start(collects.options(id="c"), [])
        await until_parked(handle)
        backend = client.backend
        life = (await backend.get("c")).life
        expires_at = backend.now() + 60
        await backend.ask(NewQuestion("broken", "c", life, b'{"no', expires_at))

        async def answered():
            return (await backend.replies(["broken"]))[0] is not None

        await until(answered)
        assert b"DecodeError" in (await backend.replies(["broken"]))[0]
        assert "a question about instance 'c' cannot be answered" in caplog.text
        assert await handle.query(contents) == []
