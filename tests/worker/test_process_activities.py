"""``runtime="process"``: activities in processes of their own, however they end."""

# mypy: ignore-errors

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest
import trio

from tests.stores import opened
from tests.worker import computing as c
from tests.worker.flow import until
from trioflow import (
    ActivityTimeout,
    DefinitionError,
    InstanceCancelled,
    Registry,
    WorkerLost,
    WrappedCodec,
    open_worker,
)
from trioflow._codec.values import JsonCodec
from trioflow._worker.activities.processes import pool as pools
from trioflow.backends.memory import MemoryBackend
from trioflow.testing import open_tester

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="it sends signals"),
    pytest.mark.timeout(180),  # processes that begin take their time where all are busy
]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until_gone(*pids):
    async def gone():
        return not any(map(alive, pids))

    await until(gone)


async def pids_in(path):
    async def written():
        return path.exists() and path.read_text()

    return [int(pid) for pid in (await until(written)).split()]


def calling(activity, *args, **kwargs):
    """Return a registry with a workflow that calls an activity, beside those of the module."""
    flows = Registry()
    flows.add(*c.flows.activities.values())

    @flows.workflow
    async def work() -> object:
        return await activity(*args, **kwargs)

    return flows, work


async def result_of(activity, *args, options=None, **kwargs):
    flows, work = calling(activity, *args, **kwargs)
    async with open_worker("memory://", registry=flows, drain=0, **(options or {})) as worker:
        return await worker.client.run(work.options(id="w"))


async def test_it_is_another_process_with_the_same_arguments_info_and_result(host):
    text, sum_, pid = await result_of(c.total, c.Order("o-1", [1, 2, 3]), factor=7)
    assert (text, sum_) == ("w 1 o-1", 42)
    assert pid != os.getpid()
    assert not alive(pid)


async def test_a_process_is_used_again_and_several_run_at_once():
    flows = Registry()
    flows.add(c.total)

    @flows.workflow
    async def work() -> list[int]:
        return [(await c.total(c.Order("x", [])))[2] for _ in range(3)]

    async with open_worker("memory://", registry=flows, drain=0, max_processes=2) as worker:
        assert len(set(await worker.client.run(work))) == 1


async def test_values_go_through_the_codec():
    found = await result_of(c.total, c.Order("o-1", [1]), options={"codec": c.turning})
    assert found[1] == 1


async def test_what_it_raises_is_raised_by_the_call():
    flows = Registry()
    flows.add(c.declines)

    @flows.workflow
    async def work() -> str:
        try:
            await c.declines("no money")
        except c.Declined as exc:
            return f"{exc} / {exc.__cause__}"

    async with open_worker("memory://", registry=flows, drain=0, codec=c.turning) as worker:
        found = await worker.client.run(work)
    assert found.startswith("no money / ")
    assert "raise Declined(text)" in found


async def test_a_retry_that_it_asks_for():
    assert await result_of(c.asks_for_a_delay) == 2


@pytest.mark.parametrize(("how", "host"), [("exit", "trio"), ("segv", "asyncio")])
async def test_one_that_dies_fails_its_attempt_and_no_other(host, how, caplog):
    caplog.set_level(logging.INFO)
    flows = Registry()
    flows.add(c.dies, c.total)

    @flows.workflow
    async def work() -> str:
        return await c.dies(how)

    async with open_worker("memory://", registry=flows, drain=0, max_processes=4) as worker:
        others = [await worker.client.start(work) for _ in range(3)]
        assert [await each.result() for each in others] == ["survived"] * 3
    said = [r.getMessage() for r in caplog.records if "failed on attempt 1" in r.getMessage()]
    assert len(said) == 3
    how = "ended with exit code 3" if how == "exit" else "been killed by SIGSEGV"
    assert f"its process has {how} (attempt 1)" in said[0]


async def test_one_that_dies_each_time_is_lost():
    with pytest.raises(WorkerLost, match="ended with exit code 0"):
        await result_of(c.dies_always)


async def test_heartbeats_reach_describe_and_the_next_attempt(host, tmp_path):
    path = tmp_path / "there"
    flows, work = calling(c.talks, str(path))
    async with open_worker("memory://", registry=flows, drain=0) as worker:
        handle = await worker.client.start(work)

        async def seen():
            activities = (await handle.describe()).activities
            return activities and activities[0].heartbeat == {"done": 999}

        await until(seen)
        path.unlink()
        assert await handle.result() == [{"done": "last"}, 2]


async def test_one_that_is_silent_for_too_long_is_killed(tmp_path):
    with pytest.raises(ActivityTimeout, match="heartbeat_timeout of 2 s"):
        await result_of(c.is_silent, str(tmp_path / "pid"))
    await until_gone(*await pids_in(tmp_path / "pid"))


async def test_one_that_talks_all_the_time_is_not_silent():
    assert await result_of(c.is_not_silent) == "done"


async def test_a_timeout_kills_it_and_what_it_has_started(tmp_path):
    path = tmp_path / "pids"
    with pytest.raises(ActivityTimeout):
        await result_of(c.computes.options(timeout=4), str(path))
    await until_gone(*await pids_in(path))


async def test_a_cancel_kills_it_and_the_next_call_has_another_process(host, tmp_path):
    path = tmp_path / "pids"
    flows, work = calling(c.computes, str(path))

    @flows.workflow
    async def after() -> int:
        return (await c.total(c.Order("x", [2])))[1]

    async with open_worker("memory://", registry=flows, drain=0, max_processes=1) as worker:
        handle = await worker.client.start(work)
        pids = await pids_in(path)
        began = time.monotonic()
        await handle.cancel("enough")
        with pytest.raises(InstanceCancelled):
            await handle.result()
        await until_gone(*pids)
        assert time.monotonic() - began < 30  # it would compute for hours
        assert await worker.client.run(after) == 2


async def test_a_drain_kills_it_and_gives_it_back(host, tmp_path):
    path = tmp_path / "pids"
    flows, work = calling(c.computes, str(path))
    async with opened(MemoryBackend()) as backend:
        async with open_worker(backend, registry=flows, drain=0) as worker:
            handle = await worker.client.start(work)
            pids = await pids_in(path)
        await until_gone(*pids)  # the kernel may not have ended yet what was killed
        (task,) = await backend.activities(handle.id)
        assert task.attempt == 1


async def test_its_log_records_are_handled_here(caplog):
    caplog.set_level(logging.INFO)
    await result_of(c.logs)
    first, second = (r for r in caplog.records if r.name == "tests.computing")
    assert (first.getMessage(), first.levelname, first.order) == ("3 of five", "WARNING", "o-7")
    assert first.process != os.getpid()
    assert first.funcName == "logs"
    assert "ValueError: inside" in caplog.text
    assert second.levelname == "ERROR"


async def test_what_it_prints_goes_to_standard_error(capfd):
    assert await result_of(c.prints) == ""
    out, err = capfd.readouterr()
    assert (out, "printed" in err) == ("", True)


async def test_one_that_is_added_while_the_worker_runs():
    flows = Registry()

    @flows.workflow
    async def work() -> int:
        return (await c.total(c.Order("x", [3])))[1]

    async with open_worker("memory://", registry=flows, drain=0) as worker:
        flows.add(c.total)
        assert await worker.client.run(work) == 3


async def test_one_that_has_died_idle_is_not_used():
    flows = Registry()
    flows.add(c.total)

    @flows.workflow
    async def work() -> int:
        return (await c.total(c.Order("x", [])))[2]

    async with open_worker("memory://", registry=flows, drain=0, max_processes=1) as worker:
        first = await worker.client.run(work)
        os.kill(first, signal.SIGKILL)
        await until_gone(first)
        assert await worker.client.run(work) != first


class Fake:
    """A process that notes what happens to it."""

    alive = True
    happened = ""

    def kill(self):
        self.happened += "killed"

    async def wait(self):
        self.happened += " and reaped"
        return -9


async def test_one_that_has_nothing_to_do_for_long_is_ended(clock):
    """Though nobody calls."""
    pool = pools.ProcessPool(JsonCodec(), trio.current_time)
    old, young = Fake(), Fake()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.watch)
        await trio.sleep(1000)  # there is none
        pool._keep(old)
        await trio.sleep(200)
        pool._keep(young)
        await trio.sleep(99)
        assert not old.happened
        await trio.sleep(2)
        assert (old.happened, young.happened) == ("killed and reaped", "")
        await trio.sleep(200)
        assert young.happened == "killed and reaped"
        pool.stop()


async def test_a_worker_ends_them(monkeypatch):
    monkeypatch.setattr(pools, "_LONGEST_IDLE", 0.0)
    monkeypatch.setattr(pools, "_BREATH", 0.0)
    flows, work = calling(c.total, c.Order("x", []))
    async with open_worker("memory://", registry=flows, drain=0) as worker:
        await until_gone((await worker.client.run(work))[2])


async def test_one_may_be_taken_while_others_are_ended():
    now = [0.0]
    pool = pools.ProcessPool(JsonCodec(), lambda: now[0])
    young = Fake()

    class Taking(Fake):
        async def wait(self):
            self.taken = await pool._get(None)
            return -9

    old = Taking()
    pool._keep(old)
    now[0] = 200.0
    pool._keep(young)
    now[0] = 301.0
    await pool._end_overdue()
    assert old.taken is young
    assert not pool._idle


async def test_in_a_tester_it_runs_in_a_thread():
    flows, work = calling(c.total, c.Order("o-1", [1]))
    async with open_tester(registry=flows) as tester:
        assert (await tester.run(work))[2] == os.getpid()


# --- what cannot be run so ---------------------------------------------------------------------


def test_an_async_function_is_refused():
    with pytest.raises(DefinitionError, match="does not fit a function that is async"):

        @Registry().activity(runtime="process")
        async def wrong() -> None: ...


def test_a_method_is_refused():
    class Owner:
        flows = Registry()

        @flows.activity(runtime="process")
        def work(self) -> None: ...

    with pytest.raises(DefinitionError, match="is a method of an object"):
        Registry().add(Owner())


async def test_a_function_that_cannot_be_imported_is_refused_when_the_worker_starts():
    flows = Registry()

    @flows.activity(runtime="process")
    def inside() -> None: ...

    with pytest.raises(DefinitionError, match="cannot import its function"):
        async with open_worker("memory://", registry=flows):
            pass


async def test_a_codec_that_cannot_be_sent_is_refused_when_the_worker_starts():
    codec = WrappedCodec(JsonCodec(), lambda data: data, lambda data: data)
    with pytest.raises(DefinitionError, match="cannot be pickled"):
        await result_of(c.total, c.Order("x", []), options={"codec": codec})


# --- the end of the worker's process -----------------------------------------------------------

WORKER = """
import sys, trio
from tests.worker import computing as c
from tests.worker.test_process_activities import calling
from trioflow import Registry, run_worker, open_worker

async def main():
    flows, work = calling(c.computes, sys.argv[1] + "/busy")
    flows.add(c.total)

    @flows.workflow
    async def small() -> int:
        return (await c.total(c.Order("x", [])))[2]

    async with trio.open_nursery() as nursery:
        worker = await nursery.start(
            lambda task_status: run_worker(
                "memory://", registry=flows, drain=0.3, max_processes=2, task_status=task_status
            )
        )
        handle = await worker.client.start(work)
        idle = await worker.client.run(small)
        print(idle, flush=True)

trio.run(main)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
async def test_none_is_left_when_the_worker_ends(how, tmp_path):
    """One keeps the interpreter's lock and has started a program, another one is idle."""
    errors = tmp_path / "errors"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    program = None
    try:
        idle = int(await anyio.to_thread.run_sync(process.stdout.readline))
        busy, program = await pids_in(tmp_path / "busy")
        assert alive(idle)
        assert alive(busy)
        process.send_signal(how)
        await anyio.to_thread.run_sync(process.wait)
        await until_gone(idle, busy)
        if how != signal.SIGKILL:
            await until_gone(program)
            assert "Warning" not in errors.read_text()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        if program is not None and alive(program):
            os.kill(program, signal.SIGKILL)


SCRIPT = """
import sys, trio
from trioflow import RetryPolicy, activity, open_worker, workflow

class Declined(Exception): ...

@activity(runtime="process", retry=RetryPolicy(max_attempts=1))
def crunch(n: int) -> int:
    if n < 0:
        raise Declined(n)
    return n * 2

@workflow
async def work() -> str:
    try:
        await crunch(-1)
    except Declined as exc:
        return f"declined {{exc}}, {{await crunch(4)}}"
    return ""

async def main():
    async with open_worker("memory://", drain=0) as worker:
        print(await worker.client.run(work))

{guard}
"""


@pytest.mark.parametrize("guarded", [True, False])
def test_functions_of_the_main_script(guarded, tmp_path):
    guard = "if __name__ == '__main__':\n    trio.run(main)" if guarded else "trio.run(main)"
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(guard=guard))
    found = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if guarded:
        assert found.stdout.strip() == "declined -1, 8", found.stderr
    else:
        assert "Begin what starts the worker with: if __name__ == '__main__'" in found.stderr
        assert found.returncode
