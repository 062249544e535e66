"""Fixtures of the pages: a store with a shop in it, and what asks for its pages by itself.

Other stores than SQLite: ``@pytest.mark.parametrize("shopping", marked(ALL), indirect=True)``.
"""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager, closing

import httpx
import pytest
import trio

import trioflow.web
from tests.stores import open_store, opened
from tests.web.seed import fill, shop
from trioflow import open_client
from trioflow.backends import SqliteBackend


@asynccontextmanager
async def asking(client, base="http://localhost", **options):
    """Ask an application on a client for its pages, as a browser on this machine."""
    application = trioflow.web.app(client, **options)
    transport = httpx.ASGITransport(application, client=("127.0.0.1", 50_000))
    async with httpx.AsyncClient(transport=transport, base_url=base) as browser:
        yield browser


@pytest.fixture
def browse():
    """How to ask an application on a client: ``async with browse(client) as browser``."""
    return asking


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    """The file of a store with a shop; copy it."""
    file = tmp_path_factory.mktemp("shop") / "flow.db"

    async def fill_once():
        async with opened(SqliteBackend(file)) as backend:
            await fill(backend, waves=1)

    trio.run(fill_once)
    return file


@pytest.fixture
def shopping(request, tmp_path, harness):
    """A client of a store with a shop, and a browser of its pages; nobody works there any more."""
    made = Shop()
    kind = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        with (
            closing(sqlite3.connect(request.getfixturevalue("filled"))) as file,
            closing(sqlite3.connect(tmp_path / "flow.db")) as copy,
        ):
            file.backup(copy)
    backend = open_store(kind, tmp_path, request.getfixturevalue("servers"))

    @asynccontextmanager
    async def around():
        async with opened(backend()) as store:
            if kind != "sqlite":
                await fill(store, waves=1)
            async with (
                open_client(store, registry=shop) as made.client,
                asking(made.client, registry=shop, title="shop") as made.browser,
            ):
                yield

    harness.enter(around())
    return made


class Shop:
    """What the fixture `shopping` gives: a client, and a browser."""

    client = None
    browser = None

    async def page(self, path, status=200):
        """Return the text of a page."""
        answer = await self.browser.get(path)
        assert answer.status_code == status, answer.text
        return answer.text

    async def api(self, path, status=200):
        """Return what the API answers."""
        answer = await self.browser.get(f"/api/v1{path}")
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/json"
        return answer
