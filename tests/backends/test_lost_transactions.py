"""Calls that share a transaction are all stored or all told, whatever ends it on the server."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from outcome import Error, Value

from tests.stores import marked, open_store
from trioflow.backends.commits import InstanceCommit, Message, NewInstance, Unit
from trioflow.backends.sql.operations import changes, leases, reads, taking
from trioflow.backends.sql.operations.commit import commit
from trioflow.errors import BackendError, DataRefused

SQL = ("sqlite", "postgres", "mariadb")


@asynccontextmanager
async def stored(kind, path, servers):
    """Open a store with three instances; give its session, and what counts messages."""
    backend = open_store(kind, path, servers)()
    await backend.open()

    async def unread():
        return {id: (await backend.get(id)).unread for id in "abc"}

    try:
        await backend.create([NewInstance(id, "flow", "q", b"[]") for id in "abc"])
        yield backend._connections.calls, unread
    finally:
        await backend.aclose()


def send(store, id, event=b"event"):
    return partial(changes.send, store, id, event)


@pytest.mark.parametrize("kind", marked(SQL))
async def test_a_transaction_that_a_call_ends_is_no_others_loss(kind, tmp_path, servers):
    async with stored(kind, tmp_path, servers) as (session, unread):
        store = session.store

        def ending():
            with store.dialect.transaction(store.connection):
                changes.send(store, "b", b"lost")
                store.execute("ROLLBACK")
                store.execute("SELECT * FROM nowhere")

        outcomes = session.call_together([send(store, "a"), ending, send(store, "c")])
        assert outcomes[::2] == [Value("done")] * 2
        assert isinstance(outcomes[1].error, BackendError)
        assert await unread() == {"a": 1, "b": 0, "c": 1}


@pytest.mark.servers
async def test_what_comes_late_is_not_the_next_calls_error_postgres(tmp_path, servers):
    """A message is sent along with what comes next; here it is refused then."""
    async with stored("postgres", tmp_path, servers) as (session, unread):
        store = session.store
        schema = store.dialect._schema
        store.execute(
            f"CREATE FUNCTION {schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN RAISE EXCEPTION USING ERRCODE = ''22000''; END'"
        )
        store.execute(
            f"CREATE TRIGGER refusing BEFORE INSERT ON {schema}.inbox FOR EACH ROW"
            f" WHEN (NEW.instance = 'b') EXECUTE FUNCTION {schema}.refuse()"
        )
        await demand_only_b_is_refused(session, unread)


@pytest.mark.servers
async def test_what_comes_late_is_not_the_next_calls_error_mariadb(tmp_path, servers):
    async with stored("mariadb", tmp_path, servers) as (session, unread):
        store = session.store
        store.execute(
            "CREATE TRIGGER refusing BEFORE INSERT ON inbox FOR EACH ROW"
            " IF NEW.instance = 'b' THEN SIGNAL SQLSTATE '22000' SET MYSQL_ERRNO = 1366; END IF"
        )
        await demand_only_b_is_refused(session, unread)


async def demand_only_b_is_refused(session, unread):
    store = session.store
    leases.register_worker(store, "w", ("w", None, ""), ((), ()))
    changes.create(store, [NewInstance("sender", "flow", "of w", b"[]")])
    wanted = taking.Wanted("w", ("of w",), ())
    assert len(taking.take_instances(store, wanted, 1, 0.0).instances) == 1
    telling = InstanceCommit(id="sender", execution=1, number=0, messages=[Message("b", b"event")])
    telling_b = partial(commit, store, "w", [Unit(instances=[telling])])
    first, second, third = session.call_together([send(store, "a"), telling_b, send(store, "c")])
    assert (first, third) == (Value("done"), Value("done"))
    assert isinstance(second, Error)
    assert isinstance(second.error, DataRefused)
    assert await unread() == {"a": 1, "b": 0, "c": 1}


IDLE = {
    "postgres": "SET idle_in_transaction_session_timeout = '300ms'",
    "mariadb": "SET SESSION idle_transaction_timeout = 1",
}


@pytest.mark.servers
@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
async def test_a_transaction_that_was_idle_for_too_long_is_made_again(kind, tmp_path, servers):
    async with stored(kind, tmp_path, servers) as (session, unread):
        store = session.store
        store.execute(IDLE[kind])
        paused = []

        def slow():
            if not paused:
                paused.append(True)
                time.sleep(2.5)  # as a process that was stopped
            return changes.send(store, "b", b"event")

        outcomes = session.call_together([send(store, "a"), slow, send(store, "c")])
        assert outcomes == [Value("done")] * 3
        assert await unread() == {"a": 1, "b": 1, "c": 1}

        def alone():
            with store.dialect.transaction(store.connection):
                changes.send(store, "c", b"event")
                return slow()

        paused.clear()
        store.execute(IDLE[kind])
        assert session.call(alone) == "done"
        assert await unread() == {"a": 1, "b": 2, "c": 2}


@pytest.mark.servers
async def test_a_deadlock_takes_no_acknowledged_call_along(tmp_path, servers):
    async def waiting_for_a_lock(store):
        looking = store.connection._connect()
        with looking.cursor() as cursor:
            while True:
                cursor.execute(
                    "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
                )
                if cursor.fetchall():
                    break
                await trio.sleep(0.2)  # the answer is kept for a tenth of a second after each look
        looking.close()

    async with stored("mariadb", tmp_path, servers) as (session, unread):
        store = session.store
        # Whoever has changed more is the one that goes on.
        store.execute("CREATE TABLE ballast AS SELECT seq AS i, 0 AS v FROM seq_1_to_3000")
        other = store.connection._connect()
        other.begin()
        with other.cursor() as cursor:
            cursor.execute("UPDATE ballast SET v = 1")
            cursor.execute("SELECT 1 FROM instances WHERE id = 'b' FOR UPDATE")

        def cross():
            with other.cursor() as cursor:
                cursor.execute("SELECT 1 FROM instances WHERE id = 'a' FOR UPDATE")
            other.rollback()

        async def calls():
            joined = [send(store, "a"), send(store, "c"), send(store, "b")]
            outcomes.extend(await trio.to_thread.run_sync(session.call_together, joined))

        outcomes = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(calls)
            await waiting_for_a_lock(store)
            await trio.to_thread.run_sync(cross)
        other.close()
        assert outcomes == [Value("done")] * 3
        assert await unread() == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("kind", marked(SQL))
async def test_a_text_that_is_no_text_is_refused(kind, tmp_path, servers):
    async with stored(kind, tmp_path, servers) as (session, _):
        store = session.store
        with pytest.raises(DataRefused):
            session.call(changes.send, store, "a\ud800", b"event")
        assert session.call(changes.send, store, "a", b"event") == "done"


@pytest.mark.parametrize("kind", marked(SQL))
async def test_an_instance_is_terminated_when_its_family_is_locked(
    kind, tmp_path, servers, monkeypatch
):
    """What its children did while the call waited for their rows was before its end."""
    async with stored(kind, tmp_path, servers) as (session, _):
        store, now, family = session.store, [1000.0], changes._family

        def waits(store, instance):
            found = family(store, instance)
            now[0] += 50
            return found

        monkeypatch.setattr(store, "clock", lambda: now[0])
        monkeypatch.setattr(changes, "_family", waits)
        assert session.call(changes.terminate, store, "a", b"{}") == "done"
        record = session.call(reads.get, store, "a")
        assert record.finished_at == 1050.0
