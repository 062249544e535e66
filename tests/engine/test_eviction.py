"""An evicted execution is gone at once and whole, whatever its code does, and has no effect."""

# mypy: ignore-errors

from __future__ import annotations

import contextlib
import gc
import logging
import subprocess
import sys
import textwrap
import weakref

import anyio
import pytest
import trio

from tests.engine.driver import Driver, act, done, nothing_left, on_host, signal
from trioflow import authoring
from trioflow._engine.execution import Execution
from trioflow._engine.loop import eviction
from trioflow._engine.loop.nested import NestedLoop
from trioflow._model import events as ev
from trioflow._model.workflows import Workflow
from trioflow.errors import Evicted

a, b = act("a", int), act("b", int)
go, never = authoring.Signal("go", int), authoring.Signal("never", int)


async def child_fn() -> int:
    return 1


child = Workflow(child_fn, name="child")


async def effects():
    """Everything a workflow can do; none of it may happen in an evicted execution."""
    authoring.logger.error("an evicted workflow logs")
    for act_now in (
        lambda: authoring.set_status("evicted"),
        lambda: authoring.side_effect(lambda: pytest.fail("ran"), int),
        go.receive_nowait,
    ):
        with contextlib.suppress(BaseException):
            act_now()
    for coroutine in (a, child, go.receive, lambda: authoring.send_signal("x", go, 1)):
        with contextlib.suppress(BaseException):
            await coroutine()


async def shielded(wait):
    try:
        await wait()
    finally:
        with trio.CancelScope(shield=True):
            await effects()
            await wait()


async def swallows(wait):
    for _ in range(5):
        with contextlib.suppress(BaseException):
            await wait()
    await effects()


async def swallows_cancelled(wait):
    while True:
        try:
            await wait()
        except trio.Cancelled:
            await a()


async def plain(wait):
    await wait()


async def generates(wait):
    async def items():
        try:
            yield 1
            await wait()
            yield 2
        finally:
            await effects()

    async for _ in items():
        pass


async def keeps_generator(wait):
    async def items():
        try:
            yield 1
        finally:
            await effects()

    generator = items()
    assert await generator.__anext__() == 1
    await wait()
    await generator.aclose()


async def nested(wait):
    async with trio.open_nursery() as outer:
        outer.start_soon(shielded, wait)
        async with trio.open_nursery() as inner:
            inner.start_soon(swallows, wait)
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as innermost:
                    innermost.start_soon(plain, wait)
                    innermost.start_soon(shielded, wait)


async def spawns_in_cleanup(wait):
    try:
        await wait()
    finally:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(shielded, wait)
                nursery.start_soon(a)


async def in_group(wait):
    async with anyio.create_task_group() as group:
        group.start_soon(shielded, wait)
        group.create_task(swallows(wait))
        await wait()


SHAPES = [
    *(plain, shielded, swallows, swallows_cancelled, generates, keeps_generator, nested),
    *(spawns_in_cleanup, in_group),
]


def waits():  # noqa: C901  # one function for each
    """What a task may wait for, as (name, function that makes the wait)."""

    async def sleep():
        await trio.sleep(100)

    async def event():
        await trio.Event().wait()

    async def activity():
        await a()

    async def workflow():
        await child()

    async def received():
        await never.receive()

    async def lock():
        held = trio.Lock()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(_hold, held)

    async def channel():
        send, receive = trio.open_memory_channel(0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain, receive)
            nursery.start_soon(_drain, receive.clone())
            async with send:
                await trio.sleep_forever()

    async def full_channel():
        send, _ = trio.open_memory_channel(0)
        async with send:
            await send.send(1)

    async def semaphore():
        await trio.Semaphore(0).acquire()

    async def condition():
        waiting = trio.Condition()
        async with waiting:
            await waiting.wait()

    return [
        *(sleep, event, activity, workflow, received, lock, channel, full_channel, semaphore),
        condition,
    ]


async def _hold(lock):
    with trio.CancelScope(shield=True):
        async with lock:
            await trio.sleep(100)


async def _drain(receive):
    with trio.CancelScope(shield=True):
        async with receive:
            async for _ in receive:
                pass


@pytest.mark.parametrize("wait", waits(), ids=lambda wait: wait.__name__)
def test_whatever_waits_for_whatever_goes(host, wait, caplog, capfd):
    def check():
        for shape in SHAPES:

            async def wf(shape=shape):
                await shape(wait)

            driver = Driver(wf, first=[signal("go", 1), signal("go", 2)])
            assert driver.outcome is None, shape
            unread = driver.execution.messages.unread()
            driver.evict()
            assert driver.execution.messages.unread() == unread
            driver.revive()
            driver.evict()

    with nothing_left():
        on_host(host, check)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_a_task_that_wakes_a_dead_one_does_no_harm():
    order = []

    async def receives(receive):
        with trio.CancelScope(shield=True):
            try:
                await receive.receive()
            finally:
                order.append("receiver")

    async def sends(send):
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                try:
                    await trio.sleep(1)
                finally:
                    order.append("sender")
                    try:
                        send.send_nowait(1)
                    except trio.WouldBlock:
                        order.append("nobody")

    async def wf():
        send, receive = trio.open_memory_channel(0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receives, receive)
            nursery.start_soon(sends, send)

    with nothing_left():
        Driver(wf).evict()
    assert order == ["receiver", "sender", "nobody"]


def test_what_was_ready_to_run_goes_too():
    async def wf():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(plain, a)
            nursery.start_soon(shielded, b)

    with nothing_left():
        driver = Driver(wf)
        driver.execution._apply(done("0.0:0", 1))  # delivered, and the step not made
        driver.evict()


def test_an_execution_that_never_started_can_be_evicted():
    with nothing_left():
        driver = Driver(plain, None)
        fresh = driver.fresh()
        assert fresh.evict()


def test_evicting_twice_and_after_the_end_is_nothing():
    async def wf():
        return await a()

    with nothing_left():
        driver = Driver(wf)
        driver.evict()
        driver.evict()
        driver.revive()
        driver.turn(done("0:0", 1))
        driver.evict()


def test_code_may_ask_for_eviction_by_name_but_not_by_exception():
    seen = []

    async def wf():
        try:
            await a()
        except Exception:  # what is shown: it does not stop an eviction
            seen.append("exception")
        finally:
            seen.append(type(sys.exc_info()[1]))

    Driver(wf).evict()
    assert seen in ([trio.Cancelled], [Evicted])


def test_code_that_swallows_everything_for_ever_is_kept_aside_in_silence(monkeypatch):
    kept = []
    monkeypatch.setattr(eviction, "_immortal", kept)
    stop = []

    async def wf():
        while not stop:
            with contextlib.suppress(BaseException):
                await a()

    with nothing_left():
        driver = Driver(wf)
        assert driver.execution.evict() is False
        assert kept == [driver.execution.loop]
        assert not driver.execution.commands.given
        stop.append(True)
        assert driver.execution.evict() is True
        kept.clear()


def test_an_evicted_execution_is_freed_without_the_garbage_collector_running_code():
    class Mark:
        pass

    marks = []

    async def wf():
        mark = Mark()
        marks.append(weakref.ref(mark))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shielded, a)

    driver = Driver(wf)
    driver.evict()
    del driver
    gc.collect()
    assert marks[0]() is None


def test_a_generator_dropped_in_a_cycle_never_acts_in_another_execution():
    ran = []

    async def real() -> int:
        ran.append("for real")
        return 1

    charge = act("charge", int)
    charge.fn = real

    async def items():
        try:
            yield 1
        finally:
            await charge()

    async def leaves_cycle():
        generator = items()
        await generator.__anext__()
        cycle = [generator]
        cycle.append(cycle)
        del generator, cycle
        await trio.sleep_forever()

    async def collects():
        gc.collect()
        return await a()

    gc.disable()
    try:
        first = Driver(leaves_cycle, id="first")
        second = Driver(collects, id="second")
        assert [c.id for c in second.last.commands] == ["0:0"]
        second.finish(a=lambda: 1).check()
        first.evict()
        third = Driver(leaves_cycle, id="third")
        gc.collect()  # outside of any execution
        third.evict()
    finally:
        gc.enable()
    assert not ran


def test_a_process_that_ends_with_evicted_and_immortal_executions_prints_nothing():
    script = """
        from __future__ import annotations
        import trio
        from tests.engine.driver import Driver, act

        a = act("a", int)

        async def stubborn():
            while True:
                try:
                    await a()
                except BaseException:
                    pass

        async def agen():
            try:
                yield 1
                await a()
            finally:
                await a()

        async def usual():
            async for _ in agen():
                await trio.sleep(5)

        for _ in range(3):
            Driver(usual).evict()
            assert Driver(stubborn).execution.evict() is False
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_logs_of_replayed_turns_are_silent(caplog):
    async def wf():
        authoring.logger.warning("one")
        await a()
        authoring.logger.warning("two")
        await b()

    driver = Driver(wf)
    driver.evict()
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    driver.revive()
    assert not caplog.records
    driver.turn(done("0:0", 1))
    assert [record.message for record in caplog.records] == ["two"]
    driver.evict()


def test_nothing_that_has_ended_is_left_to_the_garbage_collector():
    """Thousands end in a second: to find their cycles would cost a good part of the time."""

    async def work() -> str:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 5)
            with trio.move_on_after(3):
                await trio.sleep_forever()
        return "done"

    def living():
        return {id(one) for one in gc.get_objects() if isinstance(one, Execution | NestedLoop)}

    gc.collect()
    gc.disable()
    try:
        before = living()  # other tests have some that are kept for ever
        driver = Driver(work)
        assert living() > before
        while driver.execution.wake_at is not None:
            driver.turn(ev.Woken(), now=driver.execution.wake_at)
        execution = driver.execution
        assert execution.evict()
        del driver, execution
        assert living() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [KeyError, SystemExit])
def test_an_abort_function_that_raises_does_not_stop_it(error):
    """One of a user's own primitives may have a mistake."""
    left = []

    async def wf():
        def abort(_):
            raise error("no such waiter")

        async def waits():
            try:
                await trio.lowlevel.wait_task_rescheduled(abort)
            finally:
                left.append("a task")

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(waits)
            await trio.sleep(60)

    with nothing_left():
        driver = Driver(wf)
        assert driver.execution.evict()
    assert len(left) == 3


def test_what_an_abort_function_left_of_a_cancel_is_unwound():
    ended = []

    async def wf():
        def abort(_):
            raise ValueError("in the abort function")

        async def ends(wait, *args):
            try:
                await wait(*args)
            finally:
                ended.append(wait.__name__)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends, trio.sleep_forever)
            nursery.start_soon(ends, trio.lowlevel.wait_task_rescheduled, abort)
            nursery.start_soon(ends, trio.sleep_forever)
            nursery.cancel_scope.deadline = trio.current_time() + 1

    with nothing_left():
        driver = Driver(wf)
        with pytest.raises(ValueError, match="in the abort function"):
            driver.wake()
        assert driver.execution.evict()
        assert driver.execution.loop.alive == 0
        assert len(ended) == 3
        del driver
