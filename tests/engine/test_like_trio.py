"""What trio and anyio offer to look at themselves, inside of a workflow."""

# mypy: ignore-errors

from __future__ import annotations

import anyio
import anyio.functools
import anyio.lowlevel
import pytest
import trio
import trio.testing

from tests.engine.driver import START, Driver, act, nothing_left
from trioflow._model import events as ev
from trioflow._model.turns import Failed
from trioflow.errors import DeterminismError

a = act("a", int)
runvar = anyio.lowlevel.RunVar("runvar", "unset")
trio_runvar = trio.lowlevel.RunVar("trio_runvar", "unset")
calls = []


@anyio.functools.cache
async def square(number):
    calls.append(number)
    await trio.sleep(1)
    return number * number


@anyio.functools.lru_cache(maxsize=2)
async def cube(number):
    return number**3


def test_caches_keep_what_they_know_within_one_execution(run):
    async def wf() -> list[int]:
        return [await square(3), await square(3), await cube(2), await cube(2)]

    calls.clear()
    assert run(wf) == [9, 9, 8, 8]
    assert set(calls) == {3}


def test_two_executions_share_no_cache_and_no_run_variable():
    async def wf(value: str) -> list[str]:
        seen = [runvar.get(), trio_runvar.get()]
        runvar.set(value)
        trio_runvar.set(value)
        await square(5)
        return [*seen, runvar.get(), trio_runvar.get()]

    calls.clear()
    with nothing_left():
        first, second = Driver(wf, "one"), Driver(wf, "two")
        assert calls == [5, 5]
        first.wake()
        second.wake()
        assert first.check().result() == ["unset", "unset", "one", "one"]
        assert second.check().result() == ["unset", "unset", "two", "two"]


def test_the_token_of_an_execution_takes_no_calls_of_threads():
    async def wf():
        trio.lowlevel.current_trio_token().run_sync_soon(print)

    with pytest.raises(DeterminismError, match="threads"):
        Driver(wf).check().result()


def test_checkpoints_can_be_asserted(run):
    async def wf() -> list[str]:
        said = []
        with trio.testing.assert_checkpoints():
            await trio.lowlevel.checkpoint()
        with trio.testing.assert_checkpoints():
            await trio.sleep(1)
        with trio.testing.assert_checkpoints():
            await a()
        with trio.testing.assert_no_checkpoints():
            trio.Event().set()
        with pytest.raises(AssertionError), trio.testing.assert_no_checkpoints():
            await trio.sleep(1)
        said.append("saw it")
        return said

    assert run(wf, a=lambda: 1) == ["saw it"]


def test_what_a_workflow_raises_while_a_nursery_is_open_is_the_context():
    async def wf():
        await trio.open_nursery().__aenter__()
        raise ValueError("what went wrong")

    with nothing_left():
        driver = Driver(wf)
        assert isinstance(driver.outcome, Failed)
        assert "left without being closed" in driver.outcome.failure.message
        assert "ValueError: what went wrong" in driver.outcome.failure.traceback
        driver.check()


# --- aborts -------------------------------------------------------------------------------


async def waits(order, name):
    def abort(_):
        order.append((name, trio.current_time() - START, trio.lowlevel.in_trio_task()))
        return trio.lowlevel.Abort.SUCCEEDED

    await trio.lowlevel.wait_task_rescheduled(abort)


async def in_a_scope(order, name):
    with trio.CancelScope():
        await waits(order, name)


def tree(order, *, cancels):
    async def inner(name):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits, order, f"{name}.0")
            nursery.start_soon(in_a_scope, order, f"{name}.1")

    async def wf():
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                for number in range(5):
                    keep = [bytearray(200 + number * 37) for _ in range(number)]
                    nursery.start_soon(inner, number)
                    nursery.start_soon(in_a_scope, order, f"late {number}")
                    del keep
                await trio.sleep(7)
                if cancels == "scope":
                    scope.cancel()
                elif cancels == "nursery":
                    nursery.cancel_scope.cancel()
                else:
                    await trio.sleep_forever()
            await trio.sleep(0)

    return wf


# Their order of age: those of the first nursery were spawned first.
NAMES = [*(f"late {n}" for n in range(5)), *(f"{n}.{i}" for n in range(5) for i in range(2))]


@pytest.mark.parametrize("cancels", ["scope", "nursery"])
def test_what_a_cancel_concerns_is_called_in_the_order_of_age(cancels):
    for _ in range(5):
        order = []
        Driver(tree(order, cancels=cancels)).wake()
        assert order == [(name, 7.0, True) for name in NAMES]


def test_at_a_clients_cancel_aborts_see_the_turns_time():
    order = []
    driver = Driver(tree(order, cancels="client"))
    driver.turn(ev.CancelRequested("enough"), now=START + 5)
    assert order == [(name, 5.0, False) for name in NAMES]
    driver.check()


def test_a_deadline_calls_them_outside_of_any_task_as_in_trio():
    order = []

    async def wf():
        with trio.move_on_after(3):
            await waits(order, "it")

    Driver(wf).wake()
    assert order == [("it", 3.0, False)]


def test_in_a_scope_that_was_cancelled_they_are_called_inside_of_the_task():
    async def wf() -> list:
        order = []
        with trio.CancelScope() as scope:
            scope.cancel()
            await waits(order, "it")
        return [order[0][0], order[0][2]]

    expected = trio.run(wf)
    assert Driver(wf).check().result() == expected == ["it", True]
