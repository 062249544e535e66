"""A store that hangs, without a word: workers end in time, and nothing is lost."""

from __future__ import annotations

import logging
import signal
import threading
import time

import anyio
import pytest
import trio

from tests.crash.program import registry, steps
from tests.crash.workers import PATIENCE, log_of, until, workers
from tests.races.arenas import Arena
from tests.races.proxy import Proxy
from tests.servers import required
from trioflow import Registry, open_client, open_worker
from trioflow.backends.sql.operations.commit import commit

_STORES = {"postgres": "postgresql", "mariadb": "mariadb", "redis": "redis"}


class Stall:
    """Lets commits of a SQLite store hang until it is over, as a disk or a file server may."""

    def __init__(self, monkeypatch):
        self.begun, self.over = threading.Event(), threading.Event()
        self.on = False
        self.thread: threading.Thread | None = None
        monkeypatch.setattr("trioflow.backends.sql.backend.commit", self.commit)
        monkeypatch.setattr("trioflow._worker.worker._STORING", 0.2)
        monkeypatch.setattr("trioflow._worker.worker._SIGNING_OFF", 0.1)
        monkeypatch.setattr("trioflow._worker.run._CLOSING", 0.1)

    def commit(self, *args):
        if self.on:
            self.thread = threading.current_thread()
            self.begun.set()
            assert self.over.wait(PATIENCE)
        return commit(*args)

    async def until_over(self):
        """End it, and wait until the thread that hung has ended."""
        self.on = False
        self.over.set()
        assert self.thread is not None
        await anyio.to_thread.run_sync(self.thread.join, PATIENCE)
        assert not self.thread.is_alive()


@pytest.mark.parametrize("host", ["trio", "asyncio"])
@pytest.mark.parametrize("stored", [True, False], ids=["late", "too-late"])
async def test_a_drain_leaves_a_store_that_hangs(tmp_path, monkeypatch, caplog, host, stored):
    """The commit that hung is stored late; or not, since others were faster."""
    flows = Registry()
    stall = Stall(monkeypatch)
    url = f"sqlite:///{tmp_path}/flow.db"
    gates, calls = [], []

    @flows.activity
    async def job() -> int:
        calls.append("job")
        await gates[0].wait()
        return len(calls)

    @flows.workflow
    async def flow() -> int:
        return await job()

    async def others(client):
        assert len(await client.backend.reclaim(-1.0)) == 1  # it could not sign off
        async with open_worker(url, registry=flows, drain=0):
            with anyio.fail_after(PATIENCE):
                return await client.handle("one").result()

    with caplog.at_level(logging.WARNING, "trioflow"):
        gates[:] = [anyio.Event()]
        async with open_worker(url, registry=flows, drain=0.1) as worker:
            await worker.client.start(flow.options(id="one"))
            with anyio.fail_after(PATIENCE):
                while not calls:
                    await anyio.sleep(0.001)
            stall.on = True
            gates[0].set()
            assert await anyio.to_thread.run_sync(stall.begun.wait, PATIENCE)
            began = time.monotonic()
        assert time.monotonic() - began < 30  # the store hangs until the test goes on
        stall.on = False
        async with open_client(url, registry=flows) as client:
            if not stored:
                assert await others(client) == 2
            await stall.until_over()
            if stored:
                assert await client.handle("one").result() == 1
        assert len(calls) == (1 if stored else 2)
    said = caplog.text
    assert "could not store everything" in said
    assert "turns of 1 instances (one)" in said
    assert "could not sign off in 0.1 s" in said


@pytest.mark.servers
@pytest.mark.parametrize("kind", list(_STORES))
async def test_a_worker_ends_while_its_server_hangs(kind, tmp_path):
    required(kind)

    async def race(arena, nursery):
        url, proxy = arena.store(), Proxy(arena.connect)
        await nursery.start(proxy.serve)
        with workers(tmp_path, arena.through(url, proxy.port)) as start:
            worker = start()
            async with open_client(url, registry=registry) as client:
                handle = await client.start(steps.options(id="one"), 1, 0.5)
                await until(lambda: log_of(tmp_path))
                proxy.stall()
                worker.send(signal.SIGTERM)
                began = time.monotonic()
                assert await trio.to_thread.run_sync(worker.wait) == 0
                # 1 s of drain, 5 to store, 2 to sign off, 1 to close, and a machine that is busy.
                assert time.monotonic() - began < 20
                assert "turns of 1 instances (one)" in worker.printed
                assert "could not sign off in 2 s" in worker.printed
                assert len(await client.backend.reclaim(-1.0)) == 1
                with workers(tmp_path, url) as start_other, trio.fail_after(PATIENCE):
                    other = start_other()
                    assert await handle.result() == [other.pid]
        nursery.cancel_scope.cancel()

    with Arena(_STORES[kind]) as arena:
        async with trio.open_nursery() as nursery:
            await race(arena, nursery)
