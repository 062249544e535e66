"""What is PostgreSQL's own: migrations, waking, lost connections, crashes, clocks and locks."""

from __future__ import annotations

import itertools
import select
import threading
import time
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest
import trio

psycopg = pytest.importorskip("psycopg")

from tests.backends.old_rows import OLD_ROWS, old_rows_go_on  # noqa: E402
from tests.servers import required  # noqa: E402 - only if the driver is there
from tests.worker.flow import until  # noqa: E402
from trioflow import Registry, open_worker  # noqa: E402
from trioflow._model.events import ParentRef  # noqa: E402
from trioflow.backends._common.server_clock import ServerClock  # noqa: E402
from trioflow.backends.commits import InstanceCommit, NewInstance, Unit  # noqa: E402
from trioflow.backends.filters import InstanceFilter  # noqa: E402
from trioflow.backends.postgres import notifier  # noqa: E402
from trioflow.backends.postgres import schema as postgres_schema  # noqa: E402
from trioflow.backends.postgres.backend import PostgresBackend  # noqa: E402
from trioflow.backends.postgres.connection import PgConnection  # noqa: E402
from trioflow.backends.postgres.dialect import PostgresDialect  # noqa: E402
from trioflow.backends.postgres.values import array  # noqa: E402
from trioflow.backends.sql.queries import Queries  # noqa: E402
from trioflow.errors import (  # noqa: E402
    ArgumentError,
    BackendError,
    BackendUnavailable,
    InstanceAlreadyExists,
    SchemaError,
)

SCHEMA_FILE = Path(__file__).with_name("postgres_schema.txt")
_numbers = itertools.count()


@pytest.fixture
def url(servers):
    return servers.url("postgres")


@pytest.fixture
def schema():
    return f"own_{next(_numbers)}"


@pytest.fixture
def admin(url):
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        yield connection


def backend_on(url, schema, **options):
    return PostgresBackend(f"{url}&application_name={schema}", schema=schema, **options)


@asynccontextmanager
async def opened(*backends):
    try:
        for backend in backends:
            await backend.open()
        yield backends[0] if len(backends) == 1 else backends
    finally:
        for backend in backends:
            await backend.aclose()


def new(id):
    return NewInstance(id, "flow", "default", b"[]")


def born(id, **fields):
    return Unit(instances=[InstanceCommit(id=id, execution=1, number=0, new=new(id), **fields)])


def step(id, number):
    return Unit(instances=[InstanceCommit(id=id, execution=1, number=number, turns=[b"{}"])])


def end_sessions(admin, schema):
    """End the sessions of a schema's backends; return how many there were."""
    return admin.execute(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE application_name = %s AND pid <> pg_backend_pid()",
        (schema,),
    ).fetchone()[0]


# --- migrations -------------------------------------------------------------------------------


def described(admin, schema):
    """Write down everything about the tables of a schema."""
    columns = admin.execute(
        "SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name,"
        " is_identity FROM information_schema.columns WHERE table_schema = %s"
        " ORDER BY table_name, ordinal_position",
        (schema,),
    ).fetchall()
    indexes = admin.execute(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = %s ORDER BY indexname", (schema,)
    ).fetchall()
    others = admin.execute(
        "SELECT relname, relkind::text, reloptions::text FROM pg_class"
        " WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'S') ORDER BY relname",
        (schema,),
    ).fetchall()
    lines = [" ".join(map(str, row)) for row in [*columns, *indexes, *others]]
    return "\n".join(lines).replace(schema, "trioflow") + "\n"


async def test_migrations_replayed_equal_the_schema(url, schema, admin):
    async with opened(PostgresBackend(url, schema=schema)):
        pass
    assert described(admin, schema) == SCHEMA_FILE.read_text()


async def test_several_start_at_once(url, schema, admin):
    backends = [PostgresBackend(url, schema=schema) for _ in range(6)]
    async with trio.open_nursery() as nursery:
        for backend in backends:
            nursery.start_soon(backend.open)
    for backend in backends:
        await backend.aclose()
    applied = admin.execute(f"SELECT count(*) FROM {schema}.migrations").fetchone()[0]
    assert applied == len(postgres_schema._MIGRATIONS)


async def test_a_migration_that_ends_while_another_start_looks_is_trioflows(
    url, schema, monkeypatch
):
    execute = PgConnection.execute
    looked = []

    def interrupted(self, sql, parameters=()):
        answer = execute(self, sql, parameters)
        if "pg_tables" in sql and not looked:
            looked.append(sql)
            trio.run(PostgresBackend(url, schema=schema).migrate)
        return answer

    monkeypatch.setattr(PgConnection, "execute", interrupted)

    async with opened(PostgresBackend(url, schema=schema)) as backend:
        assert await backend.create([new("a")]) == [True]
    assert looked


async def test_a_later_migration_is_added_to_what_is_there(url, schema, admin, monkeypatch):
    async with opened(PostgresBackend(url, schema=schema)) as backend:
        await backend.create([new("a")])
    later = ("9000_more", "ALTER TABLE {schema}.workers ADD COLUMN more text;\n")
    monkeypatch.setattr(postgres_schema, "_MIGRATIONS", (*postgres_schema._MIGRATIONS, later))
    with pytest.raises(SchemaError, match="await migrate"):
        await PostgresBackend(url, schema=schema, migrate=False).open()
    await PostgresBackend(url, schema=schema).migrate()
    async with opened(PostgresBackend(url, schema=schema, migrate=False)) as backend:
        assert await backend.get("a") is not None
    monkeypatch.undo()
    with pytest.raises(SchemaError, match="'9000_more'.*upgrade trioflow"):
        await PostgresBackend(url, schema=schema).open()


async def test_what_was_stored_before_lives_goes_on(url, schema, admin, monkeypatch):
    now = postgres_schema._MIGRATIONS
    monkeypatch.setattr(postgres_schema, "_MIGRATIONS", now[:2])
    await PostgresBackend(url, schema=schema).migrate()
    monkeypatch.setattr(postgres_schema, "_MIGRATIONS", now)
    admin.execute(f"SET search_path = {schema}")
    for statement in OLD_ROWS:
        admin.execute(statement)

    async with opened(PostgresBackend(url, schema=schema)) as backend:
        await old_rows_go_on(backend)


async def test_tables_of_somebody_else_are_left_alone(url, schema, admin):
    admin.execute(f"CREATE SCHEMA {schema}")
    admin.execute(f"CREATE TABLE {schema}.instances (id int)")

    with pytest.raises(SchemaError, match="a schema of its own"):
        await PostgresBackend(url, schema=schema).open()


async def test_a_schema_may_have_any_name(url):
    name = "Größe \"quoted\" 'x' " + "long " * 4
    async with opened(PostgresBackend(url, schema=name)) as backend:
        assert await backend.create([new("a")]) == [True]
        assert await backend.send("a", b"{}") == "done"


# --- connecting -------------------------------------------------------------------------------


async def test_an_unreachable_server_is_named():
    with pytest.raises(BackendUnavailable, match="127.0.0.1:1/shop cannot be reached; check"):
        await PostgresBackend("postgresql://me:secret@127.0.0.1:1/shop").open()


async def test_a_missing_database_is_named(url):
    with pytest.raises(BackendUnavailable, match="shop"):
        await PostgresBackend(url.replace("/postgres?", "/shop?")).open()


async def test_what_is_closed_says_so(url, schema):
    backend = PostgresBackend(url, schema=schema)
    with pytest.raises(BackendUnavailable, match="open"):
        await backend.get("a")
    async with opened(backend):
        assert await backend.get("a") is None
    with pytest.raises(BackendUnavailable, match="open"):
        backend.heartbeat("w")


async def test_a_pool_gets_its_connections_back(url, schema):
    class Pool:
        def __init__(self):
            self.out = []

        def getconn(self):
            self.out.append(psycopg.connect(url))
            return self.out[-1]

        def putconn(self, connection):
            self.out.remove(connection)
            connection.close()

    pool = Pool()

    async with opened(PostgresBackend(pool, schema=schema)) as backend:
        await backend.register_worker("w", "w")
        assert (await trio.to_thread.run_sync(backend.heartbeat, "w")).alive
        assert pool.out
    assert not pool.out


async def test_connections_are_made_by_a_function(url, schema):
    backend = PostgresBackend(lambda: psycopg.connect(url), schema=schema)
    async with opened(backend):
        assert await backend.create([new("a"), new("a")]) == [True, False]


# --- waking -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pooled", [False, True])
async def test_another_backend_is_woken(url, schema, pooled, monkeypatch):
    monkeypatch.setattr(notifier, "_SAFETY", 60.0)
    pair = [PostgresBackend(url, schema=schema, pooled=pooled) for _ in range(2)]
    async with opened(*pair) as (one, other):
        # Until it listens.
        await other.wait_change(other.changes(), 2)
        for number in range(3):
            seen = other.changes()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.create, [new(f"a{number}")])
                with trio.fail_after(30):  # sooner than it would look by itself
                    await other.wait_change(seen, 60)
            assert other.changes() != seen


async def test_listening_goes_on_after_a_lost_connection(url, schema, admin, monkeypatch):
    monkeypatch.setattr(notifier, "_SAFETY", 60.0)
    pair = [backend_on(url, schema) for _ in range(2)]
    async with opened(*pair) as (one, other):
        await other.wait_change(other.changes(), 2)
        assert end_sessions(admin, schema)
        seen = other.changes()
        with trio.fail_after(30):
            await other.wait_change(seen, 60)  # it listens again
            seen = other.changes()
            await one.create([new("a")])
            await other.wait_change(seen, 60)


async def test_what_others_tell_while_it_tells_something_itself_is_heard(
    url, schema, admin, monkeypatch
):
    """The driver reads it with the answer; then the socket has nothing more to say of it."""
    monkeypatch.setattr(notifier, "_SAFETY", 60.0)
    heard, arrived = threading.Semaphore(0), []
    async with opened(backend_on(url, schema)) as backend:
        telling = backend._new_connection()
        execute = telling.execute

        def interrupted(statement, *args):
            if "pg_notify" in statement:
                admin.execute("SELECT pg_notify(%s, '')", (notifier.channel_of(schema),))
                arrived.extend(select.select([telling.raw.pgconn.socket], [], [], 30)[0])
            return execute(statement, *args)

        monkeypatch.setattr(telling, "execute", interrupted)
        one = notifier.Notifier(telling, schema, listen=True, heard=heard.release)
        with ExitStack() as stack:
            stack.callback(one.stop)
            one.start()
            assert heard.acquire(timeout=30)  # it listens; of what was before it may know nothing
            one.notify()  # of this alone it hears nothing
            assert heard.acquire(timeout=10)
            assert arrived


# --- lost connections -------------------------------------------------------------------------


async def test_an_idle_connection_that_was_ended_is_not_noticed(url, schema, admin):
    async with opened(backend_on(url, schema)) as backend:
        await backend.register_worker("w", "w")
        await backend.create([new("a")])
        assert end_sessions(admin, schema)
        assert await backend.create([new("b")]) == [True]
        assert end_sessions(admin, schema)
        assert await backend.commit("w", [born("c")]) == [None]
        assert end_sessions(admin, schema)
        async with trio.open_nursery() as nursery:  # in one transaction
            for number in range(5):
                nursery.start_soon(backend.create, [new(f"d{number}")])
        assert await backend.count(InstanceFilter()) == 8


@contextmanager
def answer_lost(monkeypatch, *, stored):
    """Lose the connection once at a COMMIT, before or after it has reached the server."""
    original = PgConnection._roundtrip
    lost = threading.Event()

    def roundtrip(self, raw, statements, answers):
        if statements[-1][0] != "COMMIT" or lost.is_set():
            return original(self, raw, statements, answers)
        lost.set()
        if stored:
            original(self, raw, statements, answers)
        raw.pgconn.finish()
        raise psycopg.OperationalError("the connection was lost")

    with monkeypatch.context() as patch:
        patch.setattr(PgConnection, "_roundtrip", roundtrip)
        yield
    assert lost.is_set()


@pytest.mark.parametrize("stored", [True, False])
async def test_a_commit_without_an_answer_is_safe_to_repeat(url, schema, monkeypatch, stored):
    async with opened(PostgresBackend(url, schema=schema)) as backend:
        await backend.register_worker("w", "w")
        await backend.commit("w", [born("a")])
        with answer_lost(monkeypatch, stored=stored), pytest.raises(BackendUnavailable):
            await backend.commit("w", [step("a", 0)])
        (again,) = await backend.commit("w", [step("a", 0)])
        assert await backend.load([("a", 1)]) == [[b"{}"]]
        if stored:
            assert again.lost == ["a"]
            assert await backend.release_instances("w", ["a"]) == ["a"]
        else:
            assert again is None


def steps_flow():
    registry = Registry()
    runs = []

    @registry.activity
    async def note(name: str) -> str:
        runs.append(name)
        return name

    @registry.workflow
    async def three(number: int) -> list[str]:
        return [await note(f"{number}.{part}") for part in range(3)]

    return registry, three, runs


def all_are_done(admin, schema, count):
    rows = admin.execute(
        f"SELECT status, count(*) FROM {schema}.instances GROUP BY status"
    ).fetchall()
    left = admin.execute(
        f"SELECT (SELECT count(*) FROM {schema}.inbox) + (SELECT count(*) FROM {schema}.activities)"
    ).fetchone()
    return rows == [("completed", count)] and left == (0,)


async def test_workflows_survive_killed_connections(url, schema, admin):
    registry, three, _ = steps_flow()

    async def kill():
        for _ in range(8):
            await trio.sleep(0.03)
            await trio.to_thread.run_sync(end_sessions, admin, schema)

    backend = backend_on(url, schema)
    async with opened(backend), open_worker(backend, registry=registry) as worker:
        results = {}

        async def one(number):
            flow = three.options(id=f"i{number}")
            handle = await started(worker.client, flow, number)
            results[number] = await patiently(handle.result)

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kill)
                for number in range(60):
                    nursery.start_soon(one, number)
        assert results == {n: [f"{n}.0", f"{n}.1", f"{n}.2"] for n in range(60)}
    assert all_are_done(admin, schema, 60)


async def started(client, flow, number):
    """Start an instance, or find it, if only the answer was lost."""
    try:
        return await patiently(client.start, flow, number)
    except InstanceAlreadyExists:
        return client.handle(f"i{number}")


async def patiently(call, *args, **options):
    """Ask again until the store is there."""
    while True:
        try:
            return await call(*args, **options)
        except BackendUnavailable:
            await trio.sleep(0.02)


async def test_workflows_survive_a_crash_of_the_server(schema, tmp_path):
    server = required("postgres").Server(tmp_path)
    registry, three, _ = steps_flow()

    def crash():
        server.kill()
        server.start()

    try:
        server.start()
        backend = PostgresBackend(server.url, schema=schema)
        async with opened(backend), open_worker(backend, registry=registry) as worker:
            results = {}

            async def one(number):
                flow = three.options(id=f"i{number}")
                handle = await started(worker.client, flow, number)
                results[number] = await patiently(handle.result)

            with trio.fail_after(50):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.to_thread.run_sync, crash)
                    for number in range(200):
                        nursery.start_soon(one, number)
                        await trio.sleep(0.005)
            assert results == {n: [f"{n}.0", f"{n}.1", f"{n}.2"] for n in range(200)}
        with closing(psycopg.connect(server.url, autocommit=True)) as admin:
            assert all_are_done(admin, schema, 200)
    finally:
        server.close()


# --- locks ------------------------------------------------------------------------------------


async def test_the_loop_goes_on_while_the_server_lets_a_commit_wait(url, schema):
    async with opened(PostgresBackend(url, schema=schema)) as backend:
        await backend.register_worker("w", "w")
        with closing(psycopg.connect(url)) as other:
            other.execute(f"SELECT 1 FROM {schema}.workers FOR UPDATE")
            done = []

            async def commit():
                done.extend(await backend.commit("w", [born("a")]))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(commit)
                with trio.fail_after(30):
                    await trio.sleep(0.1)
                    assert done == []
                    other.rollback()
        assert done == [None]


async def test_a_deadlock_is_tried_again(url, schema):
    async with opened(PostgresBackend(url, schema=schema)) as backend:
        await backend.create([new("a")])
        with closing(psycopg.connect(url)) as other:
            other.execute("SET deadlock_timeout = '10s'")  # so that it is not the victim
            other.execute(f"SELECT 1 FROM {schema}.inbox_numbers, {schema}.workers")
            other.execute(f"LOCK TABLE {schema}.inbox IN EXCLUSIVE MODE")

            def cross():
                other.execute(f"UPDATE {schema}.instances SET unread = unread")
                other.rollback()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(backend.send, "a", b"{}")
                await trio.sleep(0.2)  # it has the instance, and waits for the inbox
                await trio.to_thread.run_sync(cross)
        assert (await backend.get("a")).unread == 1


async def test_two_create_the_same_instances(url, schema):
    pair = [PostgresBackend(url, schema=schema) for _ in range(2)]
    async with opened(*pair):
        created = []

        async def create(backend):
            for number in range(30):
                created.extend(await backend.create([new(f"a{number}")]))

        async with trio.open_nursery() as nursery:
            for backend in pair:
                nursery.start_soon(create, backend)
        assert sorted(created) == [False] * 30 + [True] * 30


async def test_two_workers_never_take_the_same(url, schema):
    pair = [PostgresBackend(url, schema=schema) for _ in range(2)]
    async with opened(*pair):
        await pair[0].create([new(f"a{number}") for number in range(200)])
        taken = []

        async def take(backend, worker):
            await backend.register_worker(worker, worker)
            for _ in range(15):
                got = await backend.take_instances(worker, ("default",), 20)
                taken.extend(instance.id for instance in got.instances)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, pair[0], "w1")
            nursery.start_soon(take, pair[1], "w2")
        assert sorted(taken) == sorted(f"a{number}" for number in range(200))


# --- clocks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [-3600.0, 3600.0])
async def test_this_machines_clock_does_not_matter(url, schema, monkeypatch, wrong):
    right, late = (PostgresBackend(url, schema=schema) for _ in range(2))
    async with opened(right):
        await right.register_worker("w", "w")
        now = right.now()
        assert abs(now - time.time()) < 60
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + wrong)
        async with opened(late):
            assert late.now() == pytest.approx(now, abs=5)
            assert await late.reclaim(30) == []
            await late.register_worker("w2", "w2")
            assert await right.reclaim(30) == []
            assert await right.create([new("a")]) == [True]

            async def take():
                return (await late.take_instances("w2", ("default",), 9)).instances

            # Each of the two knows the server's clock but for the time that it took to ask.
            (taken,) = await until(take)
            assert taken.ready_at == pytest.approx(now, abs=5)
            assert right.heartbeat("w").alive


def test_the_clock_is_read_again_after_a_sleep(monkeypatch):
    real = time.time
    clock = ServerClock()
    clock.measure(lambda: 5000.0)
    assert clock() == pytest.approx(5000, abs=1)
    assert not clock.due()
    # The machine slept: the monotonic clock stood still, the other one did not.
    monkeypatch.setattr(time, "time", lambda: real() + 100)
    assert clock.due()
    clock.measure(lambda: 5100.0)
    assert clock() == pytest.approx(5100, abs=1)


async def test_a_commit_that_waited_for_a_connection_counts_from_when_it_had_one(url, schema):
    time = [0.0]

    def connect():
        time[0] += 100.0
        return psycopg.connect(url)

    store = PostgresBackend(connect, schema=schema, clock=lambda: time[0])
    async with opened(store) as backend:
        await backend.register_worker("w", "w")
        backend._connections.calls.connection.close()
        assert await backend.commit("w", []) == []
        assert await backend.reclaim(50.0) == []


async def test_the_time_that_it_takes_to_connect_is_no_difference_of_clocks(url, schema):
    def connect():
        time.sleep(0.5)
        return psycopg.connect(url)

    async with opened(PostgresBackend(connect, schema=schema)) as backend:
        assert abs(backend.now() - time.time()) < 0.2


# --- limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["x" * 501, "a\0b"])
async def test_an_id_that_cannot_be_stored_is_refused(url, schema, id):
    async with opened(PostgresBackend(url, schema=schema)) as backend:
        await backend.create([new("a"), new("ü" * 500)])
        with pytest.raises(ArgumentError, match="characters"):
            await backend.create([new(id)])
        assert await backend.count(InstanceFilter()) == 2


async def test_a_sub_workflow_whose_id_is_too_long_fails_by_itself(url, schema):
    async with opened(PostgresBackend(url, schema=schema)) as backend:
        await backend.register_worker("w", "w")
        await backend.commit("w", [born("a")])
        ref = ParentRef("a", 1, "0:0")
        child = NewInstance("x" * 4000, "flow", "default", b"[]", ref)
        unit = step("a", 0)
        unit.instances.append(InstanceCommit(id=child.id, execution=1, number=0, new=child))
        assert await backend.commit("w", [unit, born("b")]) == [None, None]
        assert (await backend.get("a")).unread == 1
        assert await backend.count(InstanceFilter()) == 2


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("id", ["a", None, "", 'ü{}",\\']),
        ("id", ["same"] * 3),
        ("turns", [1, None, -(2**62)]),
        ("now", [1.5, None, float("inf")]),
        ("input", [b"", None, b"\0\xff"]),
        ("input", [None, None]),
    ],
)
def test_columns_arrive_as_they_were(url, column, values):
    types = {"id": "text", "turns": "bigint", "now": "float8", "input": "bytea"}
    connection = PgConnection(lambda: psycopg.connect(url), psycopg.Connection.close, prepare=True)
    query = f"SELECT unnest(?::{types[column]}[])"
    rows = connection.execute(query, (array(column, values),)).fetchall()
    connection.close()
    assert [row[0] for row in rows] == values


def test_an_error_leaves_the_connection_usable(url):
    connection = PgConnection(lambda: psycopg.connect(url), psycopg.Connection.close, prepare=True)
    for _ in range(2):
        with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():
            connection.execute("SELECT 1 / ?::int", (0,))
        with connection.transaction():
            texts = ["SELECT 1", "SELECT * FROM nowhere", "SELECT 2"]
            three = [connection.statement(text, ()) for text in texts]
            with pytest.raises(psycopg.errors.UndefinedTable), connection.transaction():
                connection.run(three)
            assert connection.in_transaction
            assert connection.execute("SELECT ?::int + 1", (2,)).fetchone() == (3,)
    connection.close()


def test_a_bad_address_is_refused():
    with pytest.raises(BackendError, match="no address of a PostgreSQL server"):
        PostgresBackend("nonsense=1")


async def test_a_look_for_work_reads_an_index_though_the_statistics_are_behind(url, schema, admin):
    """A backlog that was there when they were made seems to be found at once in any order."""
    queries = Queries(PostgresDialect(schema, "here"))
    asked = [
        (queries.any_ready, ("default", 0, 9e9, "w", "w", 9e9)),
        (queries.any_visible, ("default", 0, 9e9)),
    ]

    async with opened(backend_on(url, schema)) as backend:
        await backend.create([new(f"i{number}") for number in range(500)])
    admin.execute(f"SET search_path = {schema}")
    admin.execute(
        "INSERT INTO activities (instance, execution, command, queue, activity, input, options,"
        " visible_at, scheduled_at) SELECT id, 1, '0', 'default', 'a', '', '', 1, 1"
        " FROM instances"
    )
    admin.execute("ANALYZE")
    for query, values in asked:
        explain = f"EXPLAIN {query.replace('{exclude}', '').replace('?', '%s')}"
        plan = admin.execute(explain, values).fetchall()
        assert any("instances_ready" in row or "activities_visible" in row for (row,) in plan), plan
