"""The thread on which drivers run: results, errors, cancellation, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading

import anyio
import pytest
import trio

from trioflow.backends._common.thread import CallGroup, StorageThread, one_by_one
from trioflow.errors import BackendUnavailable

HOSTS = pytest.mark.usefixtures("host")


@HOSTS
async def test_results_and_errors_come_back():
    thread = StorageThread("storage")
    assert await thread.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await thread.run(divmod, 7, 0)
    first = await thread.run(threading.current_thread)
    assert first is await thread.run(threading.current_thread)
    assert first.name == "storage"
    assert first.daemon
    await thread.aclose()
    assert not first.is_alive()


@HOSTS
async def test_jobs_run_one_by_one_in_order():
    thread = StorageThread("storage")
    seen: list[int] = []
    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(thread.run, seen.append, number)
    await thread.aclose()
    assert sorted(seen) == list(range(50))


@HOSTS
async def test_a_cancelled_caller_gets_the_result():
    thread = StorageThread("storage")
    started, go = threading.Event(), threading.Event()
    results = []

    def job():
        started.set()
        assert go.wait(30)
        return "committed"

    async def call():
        results.append(await thread.run(job))
        await anyio.lowlevel.checkpoint()
        results.append("not reached")

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await anyio.to_thread.run_sync(started.wait)
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
        assert results == []
        go.set()
    assert results == ["committed"]
    await thread.aclose()


@pytest.mark.host("asyncio")
async def test_a_native_asyncio_cancel_gets_the_result():
    thread = StorageThread("storage")
    started, go = threading.Event(), threading.Event()
    results = []

    def job():
        started.set()
        assert go.wait(30)
        return "committed"

    async def call():
        results.append(await thread.run(job))
        await asyncio.sleep(0)
        results.append("not reached")

    task = asyncio.create_task(call())
    await asyncio.to_thread(started.wait)
    task.cancel("first")
    await asyncio.sleep(0)
    task.cancel("second")
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert results == ["committed"]
    assert task.cancelling() == 2
    await thread.aclose()


@HOSTS
async def test_a_caller_cancelled_before_has_run_nothing():
    thread = StorageThread("storage")
    ran: list[int] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        await thread.run(ran.append, 1)
    await thread.aclose()
    assert ran == []


@HOSTS
async def test_a_closed_thread_says_so():
    thread = StorageThread("storage of flow.db")
    await thread.aclose()
    await thread.aclose()
    with pytest.raises(BackendUnavailable, match=r"storage of flow\.db is closed"):
        await thread.run(int)


@HOSTS
async def test_closing_lets_what_was_handed_over_finish():
    thread = StorageThread("storage")
    seen: list[int] = []
    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(thread.run, seen.append, number)
        await anyio.wait_all_tasks_blocked()
        await thread.aclose()
        assert len(seen) == 5


@pytest.mark.parametrize("end", ["pass", "raise SystemExit", "os.kill(os.getpid(), 2)"])
def test_a_process_that_does_not_close_ends_quietly(end):
    program = (
        "import os, threading, time, trio\n"
        "from trioflow.backends._common.thread import StorageThread\n"
        "async def main():\n"
        "    thread = StorageThread('storage')\n"
        "    await thread.run(int)\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        nursery.start_soon(thread.run, int)\n"
        f"        {end}\n"
        "try:\n"
        "    trio.run(main)\n"
        "except (KeyboardInterrupt, BaseExceptionGroup, SystemExit):\n"
        "    pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=50, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("gone", [trio.RunFinishedError, RuntimeError("Event loop is closed")])
async def test_a_loop_that_is_gone_is_not_told(gone):
    class Wait:
        left = False

        def reply(self, result):
            raise gone

    thread = StorageThread("storage")
    thread._put((one_by_one, int, Wait()))
    assert await thread.run(int) == 0
    await thread.aclose()


# --- left behind ----------------------------------------------------------------------------------


class Hanging:
    """A thread that hangs in its first job, for callers of one group."""

    def __init__(self):
        self.thread = StorageThread("storage")
        self.group = CallGroup()
        self.begun, self.go = threading.Event(), threading.Event()
        self.done: list[str] = []

    def job(self, what):
        self.begun.set()
        assert self.go.wait(30)
        self.done.append(what)
        return what

    async def call(self, what):
        with self.group.entered():
            self.done.append(f"{await self.thread.run(self.job, what)} returned")

    async def until_ended(self):
        """Let the thread go on, and wait until it ends."""
        worker = self.thread._thread
        self.go.set()
        await anyio.to_thread.run_sync(worker.join, 30)
        assert not worker.is_alive()


@HOSTS
@pytest.mark.parametrize("first", ["cancel", "leave"])
async def test_callers_of_a_group_that_is_left_obey_their_cancels(first):
    hanging = Hanging()
    async with anyio.create_task_group() as group:
        group.start_soon(hanging.call, "first")
        await anyio.to_thread.run_sync(hanging.begun.wait)
        group.start_soon(hanging.call, "second")
        await anyio.wait_all_tasks_blocked()
        steps = [group.cancel_scope.cancel, hanging.group.leave]
        for step in steps if first == "cancel" else reversed(steps):
            step()
            with anyio.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()
    # Both are back, though the thread still hangs.
    assert hanging.done == []
    assert hanging.group.waits == set()
    with hanging.group.entered(), anyio.move_on_after(0) as scope:
        await hanging.thread.aclose(lambda: hanging.done.append("closed"))
    assert scope.cancelled_caught
    await hanging.until_ended()
    # What had begun was done, what had not was not, and the last was done all the same.
    assert hanging.done == ["first", "closed"]


@HOSTS
async def test_others_of_the_same_thread_are_not_left():
    hanging = Hanging()
    other = CallGroup()
    async with anyio.create_task_group() as group:
        group.start_soon(hanging.call, "first")
        await anyio.to_thread.run_sync(hanging.begun.wait)
        group.cancel_scope.cancel()
        other.leave()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
            assert len(hanging.group.waits) == 1
        hanging.go.set()
    assert hanging.done == ["first", "first returned"]
    await hanging.thread.aclose()


@pytest.mark.host("asyncio")
async def test_a_native_asyncio_cancel_is_obeyed_when_its_group_is_left():
    hanging = Hanging()
    task = asyncio.create_task(hanging.call("first"))
    await asyncio.to_thread(hanging.begun.wait)
    task.cancel("first")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    hanging.group.leave()
    with pytest.raises(BackendUnavailable, match="its caller ends"):
        await task
    assert task.cancelling() == 1
    assert hanging.done == []
    hanging.go.set()
    await hanging.thread.aclose()
    assert hanging.done == ["first"]


@pytest.mark.parametrize("group", [None, CallGroup()])
def test_an_interrupt_while_a_call_begins_wakes_no_task_that_has_ended(group, monkeypatch):
    """As Ctrl-C may come at any moment; the thread answers all the same."""

    async def main():
        thread = StorageThread("interrupted")
        put = thread._put

        def interrupted(job):
            put(job)
            signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(thread, "_put", interrupted)
        try:
            with contextlib.nullcontext() if group is None else group.entered():
                await thread.run(int)
        finally:
            monkeypatch.undo()
            with trio.CancelScope(shield=True):
                await thread.run(int)  # so that the first answer has come, too
                await thread.aclose()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
