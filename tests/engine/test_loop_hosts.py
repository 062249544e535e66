"""What surrounds the loop: the host is hidden and restored; what cannot replay is refused."""

# mypy: ignore-errors

from __future__ import annotations

import asyncio
import contextvars
import importlib.util
import signal
import socket
import sys

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
import sniffio
import trio
from trio._core import _run  # noqa: TID251  # what the loop has to leave as it was

from tests.engine.driver import HOSTS, START, Driver, act, nothing_left, on_host
from trioflow._engine.loop import runner as runner_module
from trioflow.errors import DeterminismError


def host_state():
    try:
        library = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        library = None
    return (
        library,
        sniffio.thread_local.name,
        vars(_run.GLOBAL_RUN_CONTEXT).copy(),
        asyncio.events._get_running_loop(),
        sys.get_asyncgen_hooks(),
        dict(contextvars.copy_context()),
    )


async def quick():
    await trio.sleep(1)
    return "done"


async def raises():
    await trio.lowlevel.checkpoint()
    raise ValueError("no")


async def interrupts():
    await trio.lowlevel.checkpoint()
    raise KeyboardInterrupt


async def exits():
    raise SystemExit(3)


def test_the_host_is_as_before_after_every_call(host):
    def check():
        before = host_state()
        driver = Driver(quick)
        assert host_state() == before
        driver.wake()
        driver.check()
        assert host_state() == before
        driver = Driver(quick)
        driver.evict()
        assert host_state() == before
        Driver(raises)
        assert host_state() == before
        driver = Driver.__new__(Driver)
        with pytest.raises(KeyboardInterrupt):
            driver.__init__(interrupts)
        assert host_state() == before
        driver.evict()
        assert host_state() == before

    on_host(host, check)


def test_the_hosts_loop_goes_on_working(host):
    if host == "none":
        return

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(3):
                driver = Driver(quick)
                group.start_soon(anyio.sleep, 0)
                await anyio.lowlevel.checkpoint()
                assert driver.finish().check().result() == "done"
        return anyio.get_current_task().id

    assert anyio.run(main, backend=host)


def test_a_loop_within_a_loops_task_does_not_see_the_outer_one():
    async def outer():
        return Driver(quick).finish().result() + f" at {trio.current_time() - START}"

    assert Driver(outer).result() == "done at 0.0"


def test_a_keyboard_interrupt_passes_out_and_the_execution_can_be_evicted(host):
    log = []

    async def cleans_up(number):
        try:
            await trio.lowlevel.checkpoint()
            await trio.sleep_forever()
        finally:
            log.append(number)

    async def wf(after):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cleans_up, 0)
            nursery.start_soon(interrupts)
            nursery.start_soon(cleans_up, 1)

    def check():
        driver = Driver.__new__(Driver)
        with pytest.raises(KeyboardInterrupt):
            driver.__init__(wf, None)
        driver.evict()

    with nothing_left():
        on_host(host, check)
    assert sorted(log) == [0, 1]


def test_a_system_exit_is_the_workflows_failure():
    assert "SystemExit" in Driver(exits).outcome.failure.type


async def pending_future():
    await asyncio.Future(loop=None)


async def yields_something():
    class Odd:
        def __await__(self):
            yield "something"

    await Odd()


async def readable():
    await trio.lowlevel.wait_readable(0)


async def opens_socket():
    with socket.socket():
        pass


async def signals():
    with trio.open_signal_receiver(signal.SIGUSR1):
        pass


async def system_task():
    trio.lowlevel.spawn_system_task(quick)


async def blocked():
    await trio.testing.wait_all_tasks_blocked()


async def opens():
    await trio.open_file(__file__)


async def stats():
    await trio.Path(__file__).stat()


async def processes():
    await trio.run_process(["true"])


async def connects():
    await trio.open_tcp_stream("localhost", 1)


async def anyio_connects():
    await anyio.connect_tcp("127.0.0.1", 1)


async def in_trio_thread():
    await trio.to_thread.run_sync(len, "abc")


async def in_anyio_thread():
    await anyio.to_thread.run_sync(len, "abc")


async def sleeps():
    await asyncio.sleep(1)


async def sleeps_not():
    await asyncio.sleep(0)


async def tasks():
    coroutine = quick()
    try:
        asyncio.create_task(coroutine)  # noqa: RUF006  # refused
    finally:
        coroutine.close()


async def sleeps_in_task():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asyncio.sleep, 1)


FORBIDDEN = [
    opens_socket,
    *(pending_future, yields_something, readable, signals, system_task, blocked, opens, stats),
    *(processes, connects, in_trio_thread, in_anyio_thread, sleeps),
    *(sleeps_not, tasks),
]


@pytest.mark.parametrize("bad", FORBIDDEN)
def test_what_cannot_be_replayed_is_refused_at_its_line(run, bad):
    a = act("a", int)

    async def wf():
        try:
            await bad()
        except DeterminismError as error:
            assert len(str(error)) > 40  # what to do instead
            return await a()  # the workflow may go on

    assert run(wf, a=lambda: 1) == 1


def test_it_is_refused_in_a_task_of_its_own(run):
    async def wf():
        await sleeps_in_task()

    with pytest.raises(ExceptionGroup) as caught:
        run(wf)
    assert caught.group_contains(DeterminismError)


def test_connections_are_refused(run):
    async def wf():
        await anyio_connects()  # which tries several addresses in a nursery

    with pytest.raises((DeterminismError, ExceptionGroup)) as caught:
        run(wf)
    if isinstance(caught.value, ExceptionGroup):
        assert caught.group_contains(DeterminismError)


@pytest.mark.parametrize("call", [trio.from_thread.run, anyio.from_thread.run])
def test_calling_back_from_a_thread_is_refused(run, call):
    async def wf():
        call(quick)

    with pytest.raises(RuntimeError):  # a DeterminismError where calls are watched
        run(wf)


def test_a_trio_run_within_a_workflow_is_refused(run):
    async def wf():
        trio.run(quick)

    with pytest.raises(RuntimeError):
        run(wf)


def test_each_thread_may_run_a_loop_of_its_own():
    async def main():
        results = []

        def work():
            results.append(Driver(quick).finish().check().result())

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(anyio.to_thread.run_sync, work)
        return results

    for host in HOSTS[1:]:
        assert anyio.run(main, backend=host) == ["done"] * 4


def _import_runner_again():
    spec = importlib.util.spec_from_file_location("runner_again", runner_module.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def test_the_check_of_trios_insides_passes_here():
    _import_runner_again()


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (_run.Runner, "task_exited"),
        (_run.Deadlines, "expire"),
        (_run.Task, "_activate_cancel_status"),
    ],
)
def test_a_trio_without_a_needed_name_is_refused_at_import(monkeypatch, owner, name):
    monkeypatch.delattr(owner, name)
    with pytest.raises(ImportError, match=rf"lacks {owner.__name__}\.{name}.*pip install"):
        _import_runner_again()


def test_a_trio_whose_function_changed_is_refused_at_import(monkeypatch):
    monkeypatch.setattr(_run.Runner, "spawn_impl", lambda self, task: None)
    with pytest.raises(ImportError, match="spawn_impl"):
        _import_runner_again()


def test_a_missing_name_that_is_imported_directly_is_named_too(monkeypatch):
    monkeypatch.delattr(_run, "GLOBAL_RUN_CONTEXT")
    with pytest.raises(ImportError, match=r"trio.*lacks .*GLOBAL_RUN_CONTEXT"):
        _import_runner_again()
