"""On database servers: workers and servers killed, workers stopped, and clocks that are wrong."""

from __future__ import annotations

import signal
from contextlib import closing
from urllib.parse import parse_qs, urlsplit

import pytest
import trio

from benchmarks.crash import torture
from tests.crash.program import registry, steps
from tests.crash.workers import PATIENCE, log_of, until, workers
from tests.servers import KINDS, mortal
from trioflow import open_client

HOUR = 3600.0
ON_EACH = pytest.mark.parametrize("kind", KINDS)


def run_torture(kind, tmp_path, **options):
    folder = tmp_path / kind
    folder.mkdir()
    with mortal(kind, folder) as server:
        tally = trio.run(lambda: torture(tmp_path, server.url, server=server, **options))
    assert tally.faults == []
    assert tally.stderr == []
    assert len(tally.kills) == options["kills"]
    assert len(tally.outages) == len(options.get("outages", ()))
    return tally


# --- killed --------------------------------------------------------------------------------


@pytest.mark.servers
@ON_EACH
def test_workflows_survive_workers_and_servers_that_are_killed(kind, tmp_path):
    run_torture(
        kind,
        tmp_path,
        workflows=100,
        kills=3,
        outages=[0.2],
        spread=4.0,
        every=(0.8, 1.4),
        lease=2.0,
        patience=30.0,
    )


@pytest.mark.campaign
@ON_EACH
@pytest.mark.parametrize("seed", range(2))
def test_a_thousand_workflows_survive_many_kills_of_workers_and_servers(kind, seed, tmp_path):
    """One of the outages is longer than a lease, so that living workers are declared dead."""
    lease = 3.0
    tally = run_torture(
        kind,
        tmp_path,
        workflows=1000,
        kills=12,
        outages=[0.0, 0.0, 0.5, 1.5 * lease],
        spread=18.0,
        every=(0.6, 1.6),
        lease=lease,
        seed=seed,
    )
    assert tally.repeated > 0


# --- clocks ---------------------------------------------------------------------------------


@pytest.mark.servers
@ON_EACH
def test_clocks_of_workers_that_are_an_hour_wrong_change_nothing(kind, tmp_path):
    """The killed one's sleeping workflows are woken by the other one, whose clock differs."""
    tally = run_torture(
        kind,
        tmp_path,
        workflows=40,
        kills=1,
        spread=2.5,
        every=(1.5, 1.5),
        lease=2.0,
        clocks=(HOUR, -HOUR),
        patience=30.0,
    )
    assert tally.latest < PATIENCE


# --- stopped, and woken too late -----------------------------------------------------------


async def everything(client, handles):
    backend = client.backend
    return [
        (await backend.get(one.id), await backend.history(one.id), await backend.activities(one.id))
        for one in handles
    ]


@pytest.mark.servers
@ON_EACH
async def test_a_worker_that_was_stopped_past_its_lease_writes_nothing_for_what_it_lost(
    kind, tmp_path
):
    folder = tmp_path / kind
    folder.mkdir()
    with mortal(kind, folder) as server:
        url = server.url
        with workers(tmp_path, url, lease=1.0) as start:
            first = start()
            async with open_client(url, registry=registry) as client:
                handles = [await client.start(steps, 3, 0.4) for _ in range(6)]
                await until(lambda: len(log_of(tmp_path)) >= 6)
                first.send(signal.SIGSTOP)
                second = start()
                with trio.fail_after(PATIENCE):
                    results = [await handle.result() for handle in handles]
                assert all(pids[-1] == second.pid for pids in results)

                before = await everything(client, handles)
                first.send(signal.SIGCONT)
                await until(lambda: "declared dead" in first.printed)
                second.send(signal.SIGTERM)
                assert second.wait() == 0
                # By the time that it has done something new it has written what it ever would.
                with trio.fail_after(PATIENCE):
                    assert await client.run(steps, 2, 0.1) == [first.pid] * 2
                assert await everything(client, handles) == before
                assert await client.stats() == []
                first.send(signal.SIGTERM)
                assert first.wait() == 0
                assert first.printed.count("declared dead") == 1


# Whether a session waits for its client's next statement, in the middle of a transaction.
_IN_TRANSACTION = {
    "postgres": "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction'",
    "mariadb": """SELECT 1 FROM information_schema.innodb_trx AS trx
        JOIN information_schema.processlist AS session ON session.id = trx.trx_mysql_thread_id
        WHERE session.command = 'Sleep'""",
}
_STALE = 0.2  # seconds; what a server tells of its transactions may be so old


def asking(kind, server):
    """Return a connection of our own."""
    if kind == "postgres":
        psycopg = pytest.importorskip("psycopg")
        return psycopg.connect(server.url, autocommit=True)
    pymysql = pytest.importorskip("pymysql")
    socket = parse_qs(urlsplit(server.url).query)["unix_socket"][0]
    return pymysql.connect(unix_socket=socket, user="root", autocommit=True)


async def stop_in_a_transaction(kind, server, worker):
    with closing(asking(kind, server)) as connection, connection.cursor() as cursor:
        while True:
            worker.send(signal.SIGSTOP)
            await trio.sleep(_STALE)
            cursor.execute(_IN_TRANSACTION[kind])
            if cursor.fetchall():
                return
            worker.send(signal.SIGCONT)
            await trio.sleep(0.003)


async def holders(handles):
    return {(await handle.describe()).worker for handle in handles} - {None}


@pytest.mark.campaign
@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
async def test_a_worker_that_was_stopped_in_a_transaction_does_not_hold_up_others_for_long(
    kind, tmp_path
):
    folder = tmp_path / kind
    folder.mkdir()
    with mortal(kind, folder) as server, workers(tmp_path, server.url, lease=3.0) as start:
        first = start()
        async with open_client(server.url, registry=registry) as client:
            handles = [await client.start(steps, 10_000, 0.0) for _ in range(4)]
            await until(lambda: log_of(tmp_path))
            with trio.fail_after(PATIENCE):
                await stop_in_a_transaction(kind, server, first)
            lost = await holders(handles)
            second = start()
            with trio.fail_after(PATIENCE):
                assert await client.run(steps, 1, 0.0) == [second.pid]
                while await holders(handles) & lost:
                    await trio.sleep(0.1)
