"""MySQL in trouble: answers that are lost, deadlocks, restarts, clocks; and other backends."""

from __future__ import annotations

import contextlib
import threading
import time
import types

import msgspec
import pytest
import trio

pytest.importorskip("pymysql")

import pymysql

from tests.backends.mysql_stage import hold, new, opened, step, turns
from tests.servers import required
from trioflow import activity, open_worker, workflow
from trioflow._codec.failures.failures import Failure
from trioflow._model.turns import Failed
from trioflow.backends._common import server_clock
from trioflow.backends.commits import Closing, Unit
from trioflow.backends.mysql import backend as mysql_backend
from trioflow.backends.mysql import connection as mysql_connection
from trioflow.backends.mysql import server as mysql_server
from trioflow.backends.mysql.backend import MysqlBackend
from trioflow.backends.mysql.dialect import MysqlDialect
from trioflow.backends.mysql.values import filled
from trioflow.backends.sql.queries import Queries
from trioflow.errors import BackendUnavailable

DONE = Closing("completed", b"{}")
TERMINATED = msgspec.json.encode(Failed(Failure(type="Terminated", message="enough")))

# --- answers that are lost ---------------------------------------------------------------------


def saboteur(monkeypatch, mysql, when, times=1):
    """Kill the connection just before or after it sends a COMMIT; return how often it happened."""
    run = mysql_connection.MysqlConnection.run
    killed = []

    def sabotaged(self, statements):
        if list(statements)[-1:] == ["COMMIT"] and self.writer and len(killed) < times:
            killed.append(self._raw.thread_id())
            if when == "after":
                run(self, statements)
            mysql.admin(f"KILL {killed[-1]}")
        return run(self, statements)

    monkeypatch.setattr(mysql_connection.MysqlConnection, "run", sabotaged)
    return killed


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_commit_whose_answer_is_lost_is_stored_once(mysql, monkeypatch, when):
    async with opened(mysql.url) as backend:
        await hold(backend, "a", "b")
        killed = saboteur(monkeypatch, mysql, when, times=2)
        units = [Unit(instances=[step("a", 0)]), Unit(instances=[step("b", 0)])]
        assert await backend.commit("w1", units) == [None, None]
        assert await backend.send("a", b"event") == "done"
        assert killed
        assert await turns(backend, "a") == await turns(backend, "b") == [b"turn 0"]
        (taken,) = (await backend.take_instances("w1", ["default"], 5)).instances
        assert [message.event for message in taken.inbox] == [b"event"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_was_taken_when_the_answer_was_lost_is_given(mysql, monkeypatch, when):
    async with opened(mysql.url) as backend:
        await backend.register_worker("w1", "")
        await backend.create([new("a")])
        saboteur(monkeypatch, mysql, when)
        taken = await backend.take_instances("w1", ["default"], 5)
        assert [each.id for each in taken.instances] == ["a"]
        assert await backend.commit("w1", [Unit(instances=[step("a", 0)])]) == [None]


async def test_a_connection_killed_while_idle_is_made_again(mysql):
    async with opened(mysql.url) as backend:
        await hold(backend, "a")
        backend.heartbeat("w1")
        others = mysql.admin(
            "SELECT id FROM information_schema.processlist WHERE db = database()"
            " AND id <> connection_id()"
        )
        for (id,) in others:
            mysql.admin(f"KILL {id}")
        assert await backend.commit("w1", [Unit(instances=[step("a", 0)])]) == [None]
        assert backend.heartbeat("w1").alive


async def test_a_result_that_cannot_be_found_out_is_not_tried_again(mysql, monkeypatch):
    async with opened(mysql.url) as backend:
        await backend.create([new("a")])
        saboteur(monkeypatch, mysql, "after")

        def gone(self):
            raise pymysql.OperationalError(2003, "nobody there")

        with monkeypatch.context() as patch:
            patch.setattr(mysql_connection.MysqlConnection, "_new", gone)
            with pytest.raises(BackendUnavailable):
                await backend.send("a", b"event")
        record = await backend.get("a")
        assert record.unread == 1


async def test_workflows_survive_a_server_that_is_killed(tmp_path):
    mariadb = required("mariadb")
    attempts = []

    @activity(name="mysql-restart-count")
    async def count(number: int) -> int:
        attempts.append(number)
        return number

    @workflow(name="mysql-restart-total")
    async def total(number: int) -> int:
        return sum([await count(number * 10 + part) for part in range(10)])

    with contextlib.closing(mariadb.Server(tmp_path)) as server:
        server.start()
        server.create_database("shop")
        async with open_worker(server.url("shop")) as worker, trio.open_nursery() as nursery:
            results = {}

            async def run(number):
                results[number] = await worker.client.run(total, number)

            for number in range(40):
                nursery.start_soon(run, number)
            while len(attempts) < 60:
                await trio.sleep(0.001)
            await trio.to_thread.run_sync(server.kill)
            await trio.to_thread.run_sync(server.start)
        assert results == {number: number * 100 + 45 for number in range(40)}
        assert set(attempts) == set(range(400))


# --- others at the same time -------------------------------------------------------------------


async def test_a_deadlock_is_tried_again(mysql):
    def status(name):
        found = "SELECT count FROM information_schema.innodb_metrics WHERE name = %s"
        return int(mysql.admin(found, f"lock_{name}")[0][0])

    def other(connection):
        with contextlib.closing(connection), connection.cursor() as cursor:
            deadline = time.monotonic() + 20
            while not status("row_lock_current_waits") and time.monotonic() < deadline:
                time.sleep(0.002)
            cursor.execute("UPDATE instances SET events = 7 WHERE id = 'a'")
            connection.commit()

    async with opened(mysql.url) as backend:
        await hold(backend, "a", "b")
        connection = mysql.connect(database=mysql.name)
        connection.autocommit(False)
        with connection.cursor() as cursor:
            # It has done much, so the server chooses the store's transaction to give way.
            rows = ", ".join(f"('x{number}', 0, 0, 0)" for number in range(500))
            cursor.execute(f"INSERT INTO writers VALUES {rows}")
            cursor.execute("UPDATE instances SET events = 7 WHERE id = 'b'")
        before = status("deadlocks")
        thread = threading.Thread(target=other, args=(connection,))
        thread.start()
        units = [Unit(instances=[step(id, 0)]) for id in "ab"]
        assert await backend.commit("w1", units) == [None, None]
        thread.join()
        assert status("deadlocks") > before
        assert await turns(backend, "a") == await turns(backend, "b") == [b"turn 0"]


async def test_a_lock_that_is_held_for_long_is_reported(mysql, monkeypatch):
    monkeypatch.setattr(mysql_server, "_LOCK_WAIT", 0)

    async with opened(mysql.url) as backend:
        await hold(backend, "a")
        with contextlib.closing(mysql.connect(database=mysql.name)) as connection:
            connection.begin()
            connection.cursor().execute("SELECT * FROM instances FOR UPDATE")
            with pytest.raises(BackendUnavailable, match="locked by another transaction"):
                await backend.send("a", b"event")
        assert await backend.send("a", b"event") == "done"


async def test_two_backends_share_what_there_is(mysql):
    async with opened(mysql.url) as one, opened(mysql.url) as two:
        await one.register_worker("w1", "")
        await two.register_worker("w2", "")
        await one.create([new(f"i{number}") for number in range(60)])
        taken = []

        async def take(backend, worker):
            while (found := await backend.take_instances(worker, ["default"], 7)).instances:
                taken.extend((each.id, worker) for each in found.instances)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, one, "w1")
            nursery.start_soon(take, two, "w2")
        ids = [id for id, _ in taken]
        assert len(ids) == len(set(ids)) == 60
        assert {worker for _, worker in taken} == {"w1", "w2"}


async def test_what_is_taken_is_read_in_the_order_of_an_index(mysql):
    """Whatever is read to be sorted would be locked, and kept from other workers."""
    queries = Queries(MysqlDialect("here"))
    ready = queries.ready_instances.replace("{exclude}", "")
    visible = queries.visible_activities.replace("{exclude}", "")

    async with opened(mysql.url) as backend:
        await backend.create([new(f"i{number}") for number in range(500)])
    mysql.admin(f"SET NAMES utf8mb4 COLLATE {mysql.collation}")
    mysql.admin(
        "INSERT INTO activities (instance, execution, command, queue, activity, input, options,"
        " visible_at, scheduled_at) SELECT id, 1, '0', 'default', 'a', '', '', 1, 1 FROM instances"
    )
    for query, values in (
        (ready, ("default", 0, 9e9, "w", "w", 9e9, 10)),
        (visible, ("default", 0, 9e9, 10)),
    ):
        plan = str(mysql.admin(f"EXPLAIN FORMAT=TRADITIONAL {filled(query, values)}"))
        assert "_ready" in plan or "_visible" in plan
        assert "filesort" not in plan


async def ends(backend):
    closing = step("a", 0, closing=DONE, leased=False)
    assert await backend.commit("w1", [Unit(instances=[closing])]) == [None]


CHANGES = {
    "create": lambda backend: backend.create([new("b")]),
    "send": lambda backend: backend.send("a", b"event"),
    "terminate": lambda backend: backend.terminate("a", TERMINATED),
    "commit": ends,
    "release_instances": lambda backend: backend.release_instances("w1", ["a"]),
    "release_worker": lambda backend: backend.release_worker("w1"),
    "recall": lambda backend: backend.recall("w1", []),
    "reclaim": lambda backend: backend.reclaim(-60),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_changes_of_another_backend_wake(mysql, change):
    async with opened(mysql.url) as one, opened(mysql.url) as two:
        await hold(one, "a")
        await two.wait_change(two.changes(), 0.02)
        seen = two.changes()
        await CHANGES[change](one)
        with trio.fail_after(10):
            while two.changes() == seen:
                await two.wait_change(seen, 1)


async def test_what_concerns_nobody_else_wakes_nobody_else(mysql):
    async with opened(mysql.url) as one, opened(mysql.url) as two:
        await hold(one, "a")
        while True:  # until what has been before is known
            seen = two.changes()
            await two.wait_change(seen, 0.05)
            if two.changes() == seen:
                break
        assert await one.commit("w1", [Unit(instances=[step("a", 0)])]) == [None]
        assert one.heartbeat("w1").alive
        await two.wait_change(seen, 0.15)
        assert two.changes() == seen


async def test_an_id_that_two_create_at_once_is_created_once(mysql):
    async with opened(mysql.url) as one, opened(mysql.url) as two:
        created = []

        async def create(backend, id):
            created.append((id, await backend.create([new(id)])))

        for number in range(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(create, one, f"i{number}")
                nursery.start_soon(create, two, f"i{number}")
        assert sorted(created) == sorted(
            (f"i{number}", [done]) for number in range(20) for done in (True, False)
        )


# --- clocks ------------------------------------------------------------------------------------


async def test_a_process_whose_clocks_are_an_hour_off_judges_by_the_server(mysql, monkeypatch):
    real = time.time()
    wrong = types.SimpleNamespace(
        time=lambda: time.time() + 3600, monotonic=lambda: time.monotonic() + 3600, sleep=time.sleep
    )

    async with opened(mysql.url) as right:
        await right.register_worker("w1", "")
        with monkeypatch.context() as patch:
            patch.setattr(server_clock, "time", wrong)
            async with opened(mysql.url) as off:
                assert abs(off.now() - real) < 30
                assert await off.reclaim(15) == []
                await off.create([new("a")])
                record = await off.get("a")
        assert abs(record.created_at - right.now()) < 30
        assert right.heartbeat("w1").alive


async def test_a_commit_that_waited_for_a_connection_counts_from_when_it_had_one(
    mysql, monkeypatch
):
    class Later(server_clock.ServerClock):
        seconds = 0.0

        def __call__(self):
            return super().__call__() + self.seconds

    def connect(**options):
        Later.seconds += 100.0
        return pymysql.connect(
            unix_socket=mysql.socket, user="root", database=mysql.name, **options
        )

    monkeypatch.setattr(mysql_backend, "ServerClock", Later)
    async with opened(connect=connect) as backend:
        await backend.register_worker("w", "w")
        backend._connections.calls.connection.close()
        assert await backend.commit("w", []) == []
        assert await backend.reclaim(50.0) == []


async def test_the_time_that_it_takes_to_connect_is_no_difference_of_clocks(mysql, monkeypatch):
    def connect(**options):
        time.sleep(0.5)
        return pymysql.connect(
            unix_socket=mysql.socket, user="root", database=mysql.name, **options
        )

    async with opened(connect=connect) as backend:
        monkeypatch.setattr(server_clock, "_OLD", 0.0)
        backend._connections.calls.connection.close()
        await backend.reclaim(60.0)
        assert abs(backend.now() - time.time()) < 0.2


def test_the_clock_is_unknown_before_the_server_was_asked(mysql):
    with pytest.raises(BackendUnavailable, match=r"await the backend's open\(\)"):
        MysqlBackend(mysql.url).now()
