"""Workers in processes of their own: killed, stopped, and asked to end."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading

import pytest
import trio

from benchmarks.crash import torture
from tests.crash.program import LONG, cleaner, receiver, registry, sleeper, steps
from tests.crash.workers import PATIENCE, log_of, until
from tests.crash.workers import workers as all_workers
from trioflow import open_client
from trioflow._worker.sigterm import sigterm_event

pytestmark = pytest.mark.timeout(180)  # processes that begin take their time where all are busy

HOSTS = pytest.mark.parametrize("loop", ["trio", "asyncio"])


def workers(directory, **options):
    return all_workers(directory, url_of(directory), **options)


def url_of(directory):
    return f"sqlite:///{directory / 'store.db'}"


def ask(directory, sql):
    connection = sqlite3.connect(directory / "store.db", timeout=PATIENCE)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def ids_of(directory, worker):
    rows = ask(directory, "SELECT id, name FROM workers")
    return {id for id, name in rows if int(name.rpartition(":")[2]) == worker.pid}


def client_of(directory):
    return open_client(url_of(directory), registry=registry)


# --- kill -9 -------------------------------------------------------------------------------


def run_torture(tmp_path, **options):
    tally = trio.run(lambda: torture(tmp_path, url_of(tmp_path), **options))
    assert tally.faults == []
    assert tally.stderr == []
    assert len(tally.kills) == options["kills"]
    return tally


def test_workflows_survive_workers_that_are_killed(tmp_path):
    run_torture(tmp_path, workflows=40, kills=4, spread=1.5, every=(0.3, 0.6), lease=1.0)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(3))
def test_thousands_of_workflows_survive_many_kills(tmp_path, seed):
    tally = run_torture(
        tmp_path, workflows=2000, kills=20, spread=20, every=(0.6, 1.6), lease=2.0, seed=seed
    )
    assert tally.repeated > 0


# --- stopped, and woken too late -----------------------------------------------------------


async def stop_between_transactions(directory, worker):
    """Stop a worker while it does not hold the file's lock, which would stop the others too."""
    while True:
        worker.send(signal.SIGSTOP)
        connection = sqlite3.connect(directory / "store.db", timeout=0, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            worker.send(signal.SIGCONT)
            await trio.sleep(0.01)
        else:
            return
        finally:
            connection.close()


def everything(directory):
    return {
        table: ask(directory, f"SELECT * FROM {table}")
        for table in ("instances", "turns", "inbox", "activities")
    }


async def test_a_worker_that_was_stopped_past_its_lease_writes_nothing_for_what_it_lost(tmp_path):
    with workers(tmp_path, lease=3.0) as start:
        first = start()
        async with client_of(tmp_path) as client:
            handles = [await client.start(steps, 3, 0.4) for _ in range(6)]
            await until(lambda: len(log_of(tmp_path)) >= 6)
            await stop_between_transactions(tmp_path, first)
            (lost,) = ids_of(tmp_path, first)
            second = start()
            with trio.fail_after(PATIENCE):
                results = [await handle.result() for handle in handles]
            assert {pid for pids in results for pid in pids} <= {first.pid, second.pid}
            assert all(pids[-1] == second.pid for pids in results)

            before = everything(tmp_path)
            first.send(signal.SIGCONT)
            anew = await until(lambda: ids_of(tmp_path, first) - {lost})
            assert ids_of(tmp_path, first) == anew
            # One more heartbeat of the woken one: by then it has written what it ever would.
            beat = "SELECT heartbeat_at FROM workers WHERE id = '{}'".format(*anew)
            last = ask(tmp_path, beat)
            await until(lambda: ask(tmp_path, beat) != last)
            assert everything(tmp_path) == before
            assert first.printed.count("declared dead") == 1

            second.send(signal.SIGTERM)
            assert second.wait() == 0
            with trio.fail_after(PATIENCE):
                assert await client.run(steps, 1, 0.0) == [first.pid]
            first.send(signal.SIGTERM)
            assert first.wait() == 0


# --- asked to end --------------------------------------------------------------------------


async def suspended_in_many_ways(directory, client):
    """Have instances asleep, parked and in shielded cleanup."""
    for workflow in (sleeper, receiver):
        await client.start(workflow.options(id=workflow.name))
    handle = await client.start(cleaner.options(id="cleaner"))
    turns = "SELECT 1 FROM instances WHERE id = 'cleaner' AND turns > "
    await until(lambda: ask(directory, turns + "0"))
    await handle.cancel()
    await until(lambda: ask(directory, turns + "2"))  # the cancelled one, and the cleanup's first


@HOSTS
async def test_a_worker_drains_on_sigterm_and_exits_without_a_word(tmp_path, loop):
    with workers(tmp_path, host=loop, drain=4.0) as start:
        worker = start()
        async with client_of(tmp_path) as client:
            await suspended_in_many_ways(tmp_path, client)
            short = await client.start(steps.options(id="short"), 1, 0.3)
            await client.start(steps.options(id="long"), 1, LONG)
            await until(lambda: [line[0] for line in log_of(tmp_path)].count("start") == 3)
            worker.send(signal.SIGTERM)
            assert worker.wait() == 0
            assert worker.printed == ""
            with trio.fail_after(PATIENCE):
                assert await short.result() == [worker.pid]
            # The other one was given back, and does not count as a failed attempt.
            rows = ask(tmp_path, "SELECT instance, attempt, worker FROM activities")
            assert rows == [("long", 1, None)]
            assert ask(tmp_path, "SELECT * FROM workers") == []
            running = await client.list(status="running")
            assert {row.id for row in running} == {"sleeper", "receiver", "cleaner", "long"}
            assert all(row.worker is None for row in running)


@HOSTS
async def test_a_worker_ends_on_ctrl_c_with_nothing_but_the_traceback(tmp_path, loop):
    with workers(tmp_path, host=loop) as start:
        worker = start()
        async with client_of(tmp_path) as client:
            await suspended_in_many_ways(tmp_path, client)
        worker.send(signal.SIGINT)
        assert worker.wait() == -signal.SIGINT
        lines = worker.printed.splitlines()
        assert lines[0] == "Traceback (most recent call last):"
        assert lines[-1].split(":")[0] == "KeyboardInterrupt"
        assert "Group" not in worker.printed
        assert ask(tmp_path, "SELECT * FROM workers") == []


async def test_a_second_sigterm_ends_the_process_at_once(tmp_path):
    with workers(tmp_path, drain=LONG) as start:
        worker = start()
        async with client_of(tmp_path) as client:
            await client.start(steps, 1, LONG)
            await until(lambda: log_of(tmp_path))
        worker.send(signal.SIGTERM)

        def asked_again():  # until two have come one by one, however slow it is
            worker.send(signal.SIGTERM)
            return worker.process.poll() is not None

        await until(asked_again)
        assert worker.wait() == -signal.SIGTERM


async def test_all_that_wait_for_sigterm_are_told():
    with sigterm_event() as one, sigterm_event() as other:
        os.kill(os.getpid(), signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            await one.wait()
            await other.wait()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_a_programs_own_handler_of_sigterm_stays():
    told = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    try:
        with sigterm_event() as event:
            os.kill(os.getpid(), signal.SIGTERM)
            await trio.testing.wait_all_tasks_blocked()
            assert not event.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == [True]


def test_in_another_thread_sigterm_is_left_alone():
    found = []

    async def look():
        with sigterm_event():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=trio.run, args=(look,))
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]
