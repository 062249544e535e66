"""Stores that cannot be used: each says what is wrong with it, and nothing is stored."""

from __future__ import annotations

import os
import sqlite3

import pytest

from tests.worker.flow import until, until_parked
from trioflow import (
    BackendError,
    BackendUnavailable,
    CorruptStore,
    Registry,
    SchemaError,
    Signal,
    open_client,
    open_worker,
)

number = Signal("number", int)
flows = Registry()


@flows.workflow
async def work(text: str) -> int:
    return len(text) + await number.receive()


async def opening(url, error, match):
    for opener in (open_client, open_worker):
        with pytest.raises(error, match=match):
            async with opener(url):
                pass


async def test_a_file_that_is_no_database(sqlite):
    sqlite.file.write_bytes(b"this is a letter, not a database" * 100)
    await opening(f"sqlite:///{sqlite.file}", CorruptStore, "flow.db")
    assert sqlite.file.read_bytes().startswith(b"this is a letter")


async def test_a_database_of_a_newer_trioflow(sqlite):
    async with open_client(f"sqlite:///{sqlite.file}"):
        pass
    connection = sqlite3.connect(sqlite.file)
    connection.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
        "SELECT migration_set, '9999_future', applied_at FROM _sqlite_migrations LIMIT 1"
    )
    connection.commit()
    connection.close()
    await opening(f"sqlite:///{sqlite.file}", SchemaError, "9999_future.*upgrade trioflow")


async def test_a_database_of_somebody_else(sqlite):
    connection = sqlite3.connect(sqlite.file)
    connection.execute("CREATE TABLE instances (x)")
    connection.commit()
    connection.close()
    await opening(f"sqlite:///{sqlite.file}", SchemaError, "did not make")


async def test_a_folder_that_does_not_exist(sqlite, tmp_path):
    url = f"sqlite:///{tmp_path}/no/such/folder/flow.db"
    await opening(url, BackendUnavailable, "flow.db")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only to root"
)
async def test_a_read_only_folder(sqlite, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    await opening(f"sqlite:///{folder}/flow.db", BackendUnavailable, "flow.db")


async def test_a_url_that_makes_no_sense(sqlite):
    for url in ("flow.db", "oracle://x", "sqlite://flow.db", "sqlite:///", "memory://x"):
        await opening(url, BackendError, "sqlite:///|memory://")


async def test_a_full_disk_refuses_new_instances_and_loses_none(sqlite, caplog):
    """The file may not grow: what is stored stays, what does not fit is refused."""
    backend = await sqlite.backend()
    async with sqlite.worker(flows, backend=backend) as worker:
        handle = await worker.client.start(work, "x")
        await until_parked(handle)

        def limit(pages):
            connection = backend._connections.calls.connection
            (used,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {used if pages is None else pages}")

        await backend._connections.thread.run(limit, None)
        async with sqlite.client(flows) as client:
            full = client.backend
            await full._connections.thread.run(_fill, full)
            with pytest.raises(BackendUnavailable, match="full"):
                await client.start(work, "x" * 100_000)
        await backend._connections.thread.run(limit, 1 << 30)
        await handle.signal(number, 1)
        assert await handle.result() == 2
        assert await worker.client.count() == 1


def _fill(backend):
    connection = backend._connections.calls.connection
    (used,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {used}")


async def test_a_worker_on_a_full_disk_goes_on_when_there_is_room(sqlite, caplog):
    @registry.activity
    async def take(text: str) -> int:
        return len(text)

    @registry.workflow
    async def grow() -> int:
        await number.receive()
        return await take("x" * 200_000)

    with caplog.at_level("WARNING", "trioflow"):
        backend = await sqlite.backend()
        async with sqlite.worker(flows, backend=backend) as worker:
            handle = await worker.client.start(grow)
            await until_parked(handle)
            await backend._connections.thread.run(_fill, backend)
            other = await sqlite.backend()
            async with open_client(other) as client:
                await client.handle(handle.id).signal(number, 1)

            async def warned():
                return any("full" in r.getMessage() for r in caplog.records)

            await until(warned)
            await backend._connections.thread.run(
                backend._connections.calls.connection.execute, "PRAGMA max_page_count = 1000000"
            )
            assert await handle.result() == 200_000


registry = flows
