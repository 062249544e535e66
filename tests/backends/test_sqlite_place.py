"""A SQLite file that is removed or replaced, or named from elsewhere, while it is open."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing

import pytest

from trioflow.backends.commits import NewInstance
from trioflow.backends.records import ActivityKey
from trioflow.backends.sqlite.backend import SqliteBackend
from trioflow.errors import BackendUnavailable

GONE = "was removed or replaced while it was open"


def new(id):
    return NewInstance(id, "flow", "default", b"[]")


async def opened(path, worker="w1"):
    backend = SqliteBackend(path)
    await backend.open()
    await backend.register_worker(worker, "here")
    await backend.create([new("a")])
    return backend


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory, with another one in it."""
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ids(path):
    with closing(sqlite3.connect(path)) as other:
        return [id for (id,) in other.execute("SELECT id FROM instances ORDER BY id")]


@pytest.mark.parametrize("path", ["flow.db", "file:flow.db", "file:flow.db?mode=rwc"])
async def test_a_relative_path_means_the_same_file_wherever_the_program_is(folder, path):
    backend = await opened(path)
    os.chdir("other")
    assert backend.heartbeat("w1").alive, "on a connection that is made now"
    assert await backend.get("a") is not None
    with backend.activity_transaction("w1", ActivityKey("a", 1, "0:0"), 1) as transaction:
        assert len(transaction.connection.execute("SELECT id FROM instances").fetchall()) == 1
    await backend.create([new("b")])
    await backend.aclose()
    assert not list((folder / "other").iterdir())
    assert ids(folder / "flow.db") == ["a", "b"]


def removed(folder):
    (folder / "flow.db").unlink()


def replaced(folder):
    shutil.copy(folder / "flow.db", folder / "copy.db")
    (folder / "copy.db").rename(folder / "flow.db")


def without_its_log(folder):
    (folder / "flow.db-wal").unlink()


@pytest.mark.parametrize("happens", [removed, replaced, without_its_log])
async def test_nothing_is_stored_in_a_file_that_nobody_else_sees(folder, happens):
    used, fresh = await opened("flow.db"), await opened("flow.db", "w2")
    used.heartbeat("w1")
    await used.get("a")
    happens(folder)
    before = sorted(folder.iterdir())
    for backend in (used, fresh):
        with pytest.raises(BackendUnavailable, match=GONE):
            await backend.create([new("b")])
        with pytest.raises(BackendUnavailable, match=GONE):
            await backend.get("a")
        with pytest.raises(BackendUnavailable, match=GONE):
            backend.heartbeat("w1")
    with closing(sqlite3.connect(":memory:")) as mine, pytest.raises(BackendUnavailable):
        used.in_transaction(mine).create([new("b")], replacing=None)
    transaction = used.activity_transaction("w1", ActivityKey("a", 1, "0:0"), 1)
    with pytest.raises(BackendUnavailable, match=GONE), transaction:
        pass
    assert sorted(folder.iterdir()) == before, "nor is another one made in its place"
    for backend in (used, fresh):
        await backend.aclose()


async def test_what_is_put_back_is_used_again(folder):
    backend = await opened("flow.db")
    aside = (folder / "flow.db").rename("aside.db")
    with pytest.raises(BackendUnavailable, match=GONE):
        await backend.create([new("b")])
    aside.rename("flow.db")
    await backend.create([new("b")])
    assert await backend.get("b") is not None
    await backend.aclose()


async def test_another_file_can_be_opened_next(folder):
    backend = await opened("flow.db")
    await backend.aclose()
    (folder / "flow.db").unlink()
    await backend.open()
    assert await backend.get("a") is None
    await backend.aclose()
