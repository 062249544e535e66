"""A primitive, a nursery or a scope of another run is refused where a workflow uses it."""

# mypy: ignore-errors

from __future__ import annotations

import inspect
import types

import anyio
import pytest
import trio

from tests.engine.driver import Driver, act, done, nothing_left
from trioflow import authoring
from trioflow._engine.replay import Diverged
from trioflow._model.turns import Completed
from trioflow.errors import DeterminismError

a = act("a", int)
go = authoring.Signal("go", int)

limiter = trio.CapacityLimiter(1)
lock = trio.Lock()
semaphore = trio.Semaphore(1)
event = trio.Event()
condition = trio.Condition()
send, receive = trio.open_memory_channel(100)
anyio_limiter = anyio.CapacityLimiter(1)
anyio_lock = anyio.Lock()
anyio_semaphore = anyio.Semaphore(1)
anyio_event = anyio.Event()
anyio_condition = anyio.Condition()
anyio_receive = None  # see `stream`
service = types.SimpleNamespace(limiter=trio.CapacityLimiter(1))


async def enters(thing):
    async with thing:
        await a()


async def waits(thing):
    await thing.wait()


async def wakes(thing):
    async with thing:
        await thing.wait()


async def sends(thing):
    await thing.send(1)


async def gets(thing):
    await thing.receive()


USES = [
    (enters, "limiter", "CapacityLimiter"),
    (enters, "lock", "Lock"),
    (enters, "semaphore", "Semaphore"),
    (enters, "condition", "Condition"),
    (wakes, "condition", "Condition"),
    (waits, "event", "Event"),
    (sends, "send", "MemorySendChannel"),
    (gets, "receive", "MemoryReceiveChannel"),
    (enters, "anyio_limiter", "CapacityLimiter"),
    (enters, "anyio_lock", "Lock"),
    (enters, "anyio_semaphore", "Semaphore"),
    (wakes, "anyio_condition", "Condition"),
    (waits, "anyio_event", "Event"),
    (gets, "anyio_receive", "MemoryObjectReceiveStream"),
]


@pytest.fixture(autouse=True, scope="module")
def stream():
    """Fill in the stream that the module holds, and close it: anyio warns of those left open."""
    global anyio_receive
    anyio_send, anyio_receive = anyio.create_memory_object_stream(1)
    with anyio_send, anyio_receive:
        yield


@pytest.fixture(autouse=True)
def untouched():
    """What modules hold is as it was: nobody holds it or waits for it."""
    yield
    assert limiter.borrowed_tokens == service.limiter.borrowed_tokens == 0
    assert not lock.locked()
    assert semaphore.value == 1
    assert not condition.locked()
    assert event.statistics().tasks_waiting == 0
    while True:
        try:
            receive.receive_nowait()
        except trio.WouldBlock:
            break


@pytest.mark.parametrize(
    ("use", "name", "kind"), USES, ids=lambda case: getattr(case, "__name__", case)
)
def test_what_a_module_holds_is_refused_also_to_the_only_one_that_uses_it(use, name, kind):
    async def wf():
        await use(globals()[name])

    with nothing_left():
        for id in ("first", "second"):
            driver = Driver(wf, id=id)
            with pytest.raises(DeterminismError) as caught:
                driver.check().result()
            message = str(caught.value)
            assert f"this {kind} does not belong to this execution" in message
            assert f"{__file__}:" in message
            assert f"in {use.__name__}" in message
            assert "Make it inside of the workflow" in message
            driver.evict()


def test_what_an_object_of_a_module_or_the_functions_own_scope_holds_is_refused():
    outer = trio.Event()

    async def by_object():
        async with service.limiter:
            await a()

    async def by_scope():
        await outer.wait()

    for wf in (by_object, by_scope):
        with pytest.raises(DeterminismError, match="does not belong"):
            Driver(wf).check().result()


def hidden():
    """An object that no module and no scope of the workflow refers to."""
    holder = [types.SimpleNamespace(lock=trio.Lock(), event=trio.Event())]
    return lambda: holder[0]


find = hidden()


def test_what_is_found_in_another_way_is_refused_to_the_second_that_uses_it():
    async def wf():
        async with find().lock:
            await a()

    with nothing_left():
        first, second = Driver(wf, id="first"), Driver(wf, id="second")
        with pytest.raises(DeterminismError, match="this Lock does not belong"):
            second.result()
        first.turn(done("0:0", 1))
        assert isinstance(first.outcome, Completed)  # undisturbed by the second
        execution = first.fresh()
        with pytest.raises(Diverged):  # its replay is another use
            execution.replay(first.turns[:1])
        execution.evict()


def test_a_task_in_the_nursery_of_another_execution_is_refused():
    nurseries = []

    async def opens():
        async with trio.open_nursery() as nursery:
            nurseries.append(nursery)
            await a()

    async def uses():
        nurseries[0].start_soon(a)

    first, second = Driver(opens, id="first"), Driver(uses, id="second")
    with pytest.raises(DeterminismError, match="this Nursery does not belong"):
        second.result()
    first.turn(done("0:0", 1))
    assert isinstance(first.outcome, Completed)


@pytest.mark.parametrize("make", [a, go.receive, lambda: authoring.send_signal("x", go, 1)])
def test_a_call_that_another_execution_made_is_refused(make):
    calls = []

    async def makes():
        calls.append(make())
        await a()
        return "made"

    async def awaits():
        return await calls[0]

    with nothing_left():
        first, second = Driver(makes, id="first"), Driver(awaits, id="second")
        with pytest.raises(DeterminismError, match="called in instance 'first' and is awaited in"):
            second.result()
        first.turn(done("0:0", 1))
        assert first.check().result() == "made"
        assert [command.id for turn in first.turns for command in turn.commands] == ["0:0"]


def test_what_an_execution_makes_for_itself_is_its_own(run):
    async def wf() -> int:
        own = trio.Lock()
        gate = anyio.Event()
        out, into = anyio.create_memory_object_stream(0)
        total = 0

        async def one(number):
            nonlocal total
            async with own:
                await a()
                total += number
            if number == 2:
                gate.set()
                await out.send(5)

        with out, into:
            async with trio.open_nursery() as nursery:
                for number in range(3):
                    nursery.start_soon(one, number)
                await gate.wait()
                total += await into.receive()
        return total

    assert run(wf, a=lambda: 1) == 8


async def test_the_service_may_use_what_it_has_while_workflows_run():
    async def wf():
        async with lock:
            await a()

    async with lock:
        driver = Driver(wf)
        with pytest.raises(DeterminismError, match="this Lock"):
            driver.result()
    async with lock:
        assert lock.locked()


def test_an_execution_of_older_rules_is_left_alone_where_nobody_is_disturbed():
    async def wf() -> int:
        async with lock:
            return await a()

    driver = Driver(wf, rules=0)
    driver.turn(done("0:0", 1))
    assert driver.result() == 1


def test_the_line_is_that_of_the_use():
    async def wf():
        await trio.sleep(1)
        async with limiter:
            await a()

    lines, first = inspect.getsourcelines(wf)
    line = first + next(n for n, text in enumerate(lines) if "limiter" in text)
    driver = Driver(wf)
    driver.wake()
    with pytest.raises(DeterminismError, match=rf"{__file__}:{line}, in "):
        driver.result()
