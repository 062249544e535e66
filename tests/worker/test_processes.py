"""Two processes on one file: work, results, errors and cancellations go across."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from tests.worker import remote
from tests.worker.flow import until
from trioflow import InstanceCancelled

pytestmark = pytest.mark.timeout(180)  # processes that begin take their time where all are busy

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def process(flow, kind):
    """Run `remote` in another process; give its first line of output, kill it at the end."""
    program = "import sys, trio, tests.worker.remote as r; trio.run(r.main, *sys.argv[1:])"
    command = [sys.executable, "-c", program, f"sqlite:///{flow.file}", kind]
    async with await anyio.open_process(command, cwd=ROOT, stderr=None) as running:
        line = await running.stdout.receive()
        try:
            yield running, line.decode().strip()
        finally:
            if running.returncode is None:
                running.kill()


async def test_activities_run_in_another_process(sqlite, tmp_path):
    path = tmp_path / "log"

    async with (
        sqlite.worker(remote.flows) as worker,
        process(sqlite, "worker") as (running, line),
    ):
        assert line == "ready"
        client = worker.client
        assert await client.run(remote.pids, 20) == [running.pid] * 20
        with pytest.raises(remote.FarAway) as raised:
            await client.run(remote.failing)
        assert raised.value.args == ("in another process", 3)

        handle = await client.start(remote.waiting, str(path))
        await until(lambda: written(path, "entered"))
        await handle.cancel("from here")
        with pytest.raises(InstanceCancelled, match="from here"):
            await handle.result()
        assert path.read_text(encoding="utf-8") == "entered\nleft\n"


async def written(path, line):
    return path.exists() and line in path.read_text(encoding="utf-8")


async def test_a_killed_processs_activities_are_taken_over(sqlite, tmp_path):
    path = tmp_path / "log"

    async def twice(path):
        return path.read_text(encoding="utf-8").count("entered") == 2

    async with sqlite.worker(remote.flows, lease=0.6) as worker:
        async with process(sqlite, "worker") as (running, _):
            handle = await worker.client.start(remote.waiting, str(path))
            await until(lambda: written(path, "entered"))
            running.kill()
        async with sqlite.worker(remote.flows, queues=["far"], workflows=False):
            await until(lambda: twice(path))
            await handle.cancel()
            with pytest.raises(InstanceCancelled):
                await handle.result()


async def test_a_client_of_another_process_starts_signals_and_waits(sqlite):
    async with (
        sqlite.worker(remote.flows) as worker,
        process(sqlite, "client") as (running, line),
    ):
        assert line == "3"
        assert await running.wait() == 0
        assert await worker.client.handle("from elsewhere").result() == 3
