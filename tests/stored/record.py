"""Makes the stores beside this file: ``python -m tests.stored.record sqlite|postgres|… FOLDER``.

It ran once, on the commit "Start and stop private servers, and count raw rows, in one place", and
is not to be run on a later one: the stores stand for what that version left in users' databases.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import trio

from tests.servers import mariadb, postgres, redis
from tests.stored import programs as p
from tests.stored.copies import backend_on, dump_redis
from trioflow import open_client, open_worker, run_worker
from trioflow.backends.commits import NewInstance


def child(kind: str, url: str, *queues: str):
    environment = {**os.environ, "TRIOFLOW_RECORDING": "1"}
    command = [sys.executable, "-m", "tests.stored.record", "worker", kind, url, *queues]
    return subprocess.Popen(command, env=environment)


async def doomed(kind: str, url: str, *queues: str) -> None:
    """Work until somebody kills this process, or an execution continues as a new one."""
    backend = backend_on(kind, url)
    commit = backend.commit

    async def commit_and_die(worker, units):
        found = await commit(worker, units)
        if any(each.continued is not None for unit in units for each in unit.instances):
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    backend.commit = commit_and_die
    workflows = "doomed activities" not in queues
    await backend.open()
    await run_worker(
        backend, registry=p.flows, queues=queues, workflows=workflows, lease=1000.0, name="doomed"
    )


async def until(handle, *, turns=1, activities=None, status="running", unread=0, free=True):
    for _ in range(500):
        d = await handle.describe()
        if (
            (turns in {0, d.turns} and unread in {None, d.unread} and d.status == status)
            and activities in {None, len(d.activities)}
            and not (free and d.worker)
        ):
            return
        await trio.sleep(0.02)
    raise RuntimeError(f"it did not come to that: {d}")


class Maker:
    def __init__(self, kind: str, url: str, client, backend) -> None:
        self.kind = kind
        self.url = url
        self.client = client
        self.backend = backend

    def start(self, id, workflow, *args, **options):
        return self.client.start(workflow.options(id=id, **options), *args)

    def handle(self, id):
        return self.client.handle(id)

    def worker(self, registry=p.flows, queues=("default",), **options):
        given = {"lease": 1000.0, "drain": 0.0, "sticky": 0.0, "name": "recorder", **options}
        return open_worker(self.backend, registry=registry, queues=queues, **given)

    async def what_has_ended(self) -> None:
        async with self.worker():
            await (await self.start("completed", p.retells, "done")).result()
            await (await self.start("again", p.retells, "first life")).result()
            failed = await self.start("failed", p.fails, "on purpose")
            cancelled = await self.start("cancelled", p.sleeps, 1000)
            terminated = await self.start("terminated", p.has_a_child, "default")
            await until(cancelled)
            await cancelled.cancel("not wanted")
            await until(terminated)
            await until(self.handle("terminated/child"))
            await terminated.terminate("by hand")
            await until(failed, status="failed")

    async def what_waits(self) -> None:
        async with self.worker():
            for id in ("signal", "signal-unread", "again"):
                await self.start(id, p.waits, priority=4 if id == "signal" else None)
            for id in ("cancel-unread", "cancel-and-signal-unread"):
                await self.start(id, p.waits_for_years)
            await self.start("timer", p.sleeps, 20)
            await self.start("activity-free", p.calls, "was free", "elsewhere")
            await self.start("activity-done-unread", p.calls, "was done", "far activities")
            await self.start("activity-retrying", p.retries, "tried again")
            await self.start("child", p.has_a_child, "default")
            await self.start("child-not-begun", p.has_a_child, "elsewhere")
            await self.start("child-done-unread", p.has_a_quick_child, "very far")
            await self.start("child-cancelled", p.cancels_a_child, "elsewhere")
            carried = await self.start("carried", p.collects, [])
            await self.start("suspended-diverged", p.right)
            await self.start("activity-stopped", p.stops_an_activity)
            await self.start("activity-abandoned", p.abandons)
            await self.start("activity-cancelled", p.cleans_up, "doomed activities")
            await self.send_numbers(carried)
            await carried.signal(p.word, "on")
            await trio.sleep(1.5)
            await until(self.handle("activity-retrying"), activities=1)
            await until(self.handle("child-cancelled"), turns=2)

    async def send_numbers(self, handle) -> None:
        for n in range(3):
            await until(handle, turns=n + 1)
            await handle.signal(p.go, n)
        await until(handle, turns=4)

    async def what_is_suspended(self) -> None:
        changed = self.handle("suspended-diverged")
        await until(changed, turns=2)
        await changed.signal(p.go, 1)
        async with self.worker(p.wrong):
            await self.start("suspended-limit", p.grows, 60)
            await until(self.handle("suspended-limit"), turns=0, status="suspended", unread=None)
            await until(changed, turns=2, status="suspended", unread=1)

    async def what_was_done_elsewhere(self) -> None:
        async with self.worker(queues=("far activities",), workflows=False):
            await until(self.handle("activity-done-unread"), activities=0, unread=1)
        async with self.worker(queues=("very far",)):
            await until(self.handle("child-done-unread"), unread=1)

    async def what_dead_workers_held(self) -> None:
        """Their activities were to be stopped, and they did not hear of it."""
        process = child(self.kind, self.url, "doomed activities")
        await self.start("activity-leased", p.calls, "was leased", "doomed activities")
        async with self.worker():
            for _ in range(500):
                stats = {each.queue: each.running_activities for each in await self.client.stats()}
                if stats.get("doomed activities") == 4:
                    break
                await trio.sleep(0.02)
            process.send_signal(signal.SIGSTOP)
            await self.handle("activity-stopped").signal(p.go, 1)
            await self.handle("activity-abandoned").signal(p.go, 1)
            await self.handle("activity-cancelled").cancel("while it ran")
            for name in ("stopped", "abandoned", "cancelled"):
                await until(self.handle(f"activity-{name}"), turns=2)
        process.kill()
        process.wait()

    async def what_a_dead_worker_did(self) -> None:
        process = child(self.kind, self.url, "doomed")
        await until(await self.start("mixed", p.mixed, queue="doomed"), turns=2, free=False)
        over = await self.start("carried-not-begun", p.collects, [], queue="doomed")
        await self.send_numbers(over)
        await over.signal(p.word, "on")
        with trio.fail_after(30):
            while process.poll() is None:
                await trio.sleep(0.02)

    async def what_came_when_nobody_worked(self) -> None:
        await self.handle("signal-unread").signal(p.go, 5)
        await self.handle("cancel-unread").cancel("unread")
        await self.handle("cancel-and-signal-unread").signal(p.go, 6)
        await self.handle("cancel-and-signal-unread").cancel("too late")
        await self.start("not-begun", p.retells, "began late", priority=9)
        handle = await self.start("not-begun-with-signal", p.waits, queue="elsewhere")
        await handle.signal(p.go, 7)
        await (await self.start("not-begun-cancelled", p.waits)).cancel("before it began")
        input, metadata = b'{"text":"m"}', b'{"a":"b"}'
        new = NewInstance("not-begun-metadata", "retells", "default", input, None, metadata, -9)
        assert await self.backend.create([new]) == [True]


async def make(kind: str, url: str) -> None:
    backend = backend_on(kind, url)
    await backend.open()
    async with open_client(backend, registry=p.flows) as client:
        maker = Maker(kind, url, client, backend)
        await maker.what_has_ended()
        await maker.what_waits()
        await maker.what_is_suspended()
        await maker.what_dead_workers_held()
        await maker.what_a_dead_worker_did()
        await maker.what_was_done_elsewhere()
        await maker.what_came_when_nobody_worked()
    await backend.aclose()


@contextmanager
def store(kind: str, folder: Path):
    """Give the URL of an empty store; keep a copy of it in the end."""
    with tempfile.TemporaryDirectory() as scratch:
        if kind == "sqlite":
            path = Path(scratch) / "store.sqlite"
            yield str(path)
            with sqlite3.connect(path) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            (folder / "store.sqlite").write_bytes(path.read_bytes())
        elif kind == "postgres":
            with postgres.start(Path(scratch)) as url:
                yield url
                dump = ("pg_dump", "--schema=stored", "--no-owner", "--inserts", "--no-comments")
                keep(folder / "postgres.sql", *dump, url)
        elif kind == "mariadb":
            server = mariadb.Server(Path(scratch))
            server.start()
            server.create_database("stored")
            yield server.url("stored")
            dump = ("mariadb-dump", "--no-defaults", f"--socket={server.socket}", "-uroot")
            more = ("--skip-comments", "--hex-blob", "--skip-extended-insert", "stored")
            keep(folder / "mariadb.sql", *dump, *more)
            server.close()
        else:
            with redis.start(Path(scratch)) as url:
                yield url
                (folder / "redis.json").write_text(dump_redis(url), encoding="utf-8")


def keep(path: Path, *command: str) -> None:
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # Lines for the server's own client are left out: anything that sends SQL can restore it.
    lines = [
        line for line in found.splitlines() if not line.startswith(("--", "\\", "/*M!999999\\"))
    ]
    path.write_text("\n".join(line for line in lines if line) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        trio.run(doomed, *sys.argv[2:])
    else:
        with store(sys.argv[1], Path(sys.argv[2])) as url:
            trio.run(make, sys.argv[1], url)
