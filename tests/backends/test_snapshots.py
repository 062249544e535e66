"""What a call reads by several statements is of one moment, whoever commits in between."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import trio

from tests.stores import marked, open_store
from trioflow.backends.commits import NewInstance, Unit
from trioflow.backends.sql.store import SqlStore
from trioflow.testing.conformance.sharing import asking
from trioflow.testing.conformance.stage import named, step

SQL = ("sqlite", "postgres", "mariadb")


class Between:
    """Makes whoever reads wait after its first statement until something is committed.

    Args:
        monkeypatch: The fixture.
        first: Returns that statement of a store.
    """

    def __init__(self, monkeypatch, first):
        self._reached, self._go_on = threading.Event(), threading.Event()
        execute = SqlStore.execute

        def waiting(store, sql, *parameters):
            answer = execute(store, sql, *parameters)
            if sql != first(store) or self._reached.is_set():
                return answer
            rows = answer.fetchall()
            self._reached.set()
            assert self._go_on.wait(30)
            return _Answer(rows)

        monkeypatch.setattr(SqlStore, "execute", waiting)

    async def read(self, read, write):
        """Return what ``read`` gives while ``write`` happens."""
        found = []

        async def keep():
            found.append(await read())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep)
            assert await trio.to_thread.run_sync(partial(self._reached.wait, 30))
            try:
                await write()
            finally:
                self._go_on.set()
        return found[0]


class _Answer:
    def __init__(self, rows):
        self._rows = rows

    def fetchall(self):
        return self._rows

    def fetchone(self):
        return self._rows[0] if self._rows else None


@pytest.mark.parametrize("kind", marked(SQL))
async def test_what_is_read_is_of_one_moment(kind, tmp_path, servers, monkeypatch):
    make = open_store(kind, tmp_path, servers)
    one, other = make(), make()
    await one.open()
    await other.open()

    async def commit(*commits):
        assert await other.commit("w", [Unit(instances=list(commits))]) == [None]

    try:
        await other.register_worker("w", "w", queues=["default"], activity_queues=["default"])
        await other.create([NewInstance("a", "flow", "default", b"[]")])
        await other.take_instances("w", ["default"], 9)
        await commit(asking("a", 0, "take"))

        with monkeypatch.context() as patch:
            between = Between(patch, lambda store: store.shared_queries.is_set)
            freed = asking("a", 1, "free")
            state = await between.read(lambda: one.shared_state("lock"), lambda: commit(freed))
        assert state.holders == ["a"]
        assert (await one.shared_state("lock")).holders == []

        with monkeypatch.context() as patch:
            between = Between(patch, lambda store: store.queries.instance_stats)
            calls = step("a", 2, activities=named("0:1"))
            (stats,) = await between.read(one.stats, lambda: commit(calls))
        assert (stats.running, stats.pending_activities) == (1, 0)
        (stats,) = await one.stats()
        assert (stats.running, stats.pending_activities) == (1, 1)
    finally:
        await one.aclose()
        await other.aclose()
