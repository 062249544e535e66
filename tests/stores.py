"""The stores that the suites run on, by name; each test gets an empty one. No test lives here."""

from __future__ import annotations

import itertools
import os
import sqlite3
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest

from trioflow.backends.memory import MemoryBackend
from trioflow.backends.sqlite.backend import SqliteBackend
from trioflow.testing.lockstep.model import Model

__all__ = [
    "ALL",
    "LOCAL",
    "SERVERS",
    "Clock",
    "PassesOn",
    "clock_of",
    "connection_of",
    "forget_worker",
    "marked",
    "open_store",
    "opened",
]

LOCAL = ("memory", "sqlite")
SERVERS = ("postgres", "mariadb", "redis")
ALL = LOCAL + SERVERS

_numbers = itertools.count()


def marked(params, store=lambda param: param, campaign=()):
    """Return parameters for pytest; those of servers' stores have the marker ``servers``.

    Those in ``campaign`` have that marker.
    """

    def marks(param):
        if store(param) in SERVERS:
            return [pytest.mark.servers]
        return [pytest.mark.campaign] if param in campaign else []

    return [
        pytest.param(
            param,
            id=param if isinstance(param, str) else "-".join(map(str, param)),
            marks=marks(param),
        )
        for param in params
    ]


class Clock:
    """A store's clock that is set by hand."""

    def __init__(self):
        self.now = 1_700_000_000.0

    def __call__(self):
        return self.now

    async def advance(self, seconds):
        self.now += seconds


class PassesOn:
    """A store that passes all calls on to another one, but for what a subclass does itself."""

    def __init__(self, backend):
        self._backend = backend

    def __getattr__(self, name):
        return getattr(self._backend, name)


def open_store(kind, path, servers, *, clock=None):
    """Return what makes backends, not opened, that share one empty store; for memory one backend.

    Args:
        kind: One of `ALL`, or ``"model"`` for what lockstep judges them by.
        path: An empty folder.
        servers: The fixture ``servers``.
        clock: Where the store's own can be replaced; see `clock_of`.
    """
    name = f"test_{os.getpid()}_{next(_numbers)}"
    given = {} if clock is None else {"clock": clock}
    if kind in ("memory", "model"):
        backend = MemoryBackend(**given) if kind == "memory" else Model(clock=clock)
        return lambda: backend
    if kind == "sqlite":
        return lambda: SqliteBackend(path / "flow.db", **given)
    url = servers.url(kind)
    # Here, because drivers are optional.
    if kind == "postgres":
        from trioflow.backends.postgres.backend import PostgresBackend  # noqa: PLC0415

        return lambda: PostgresBackend(url, schema=name, **given)
    if kind == "mariadb":
        return _mariadb(url, name)
    from trioflow.backends.redis.backend import RedisBackend  # noqa: PLC0415

    return lambda: RedisBackend(url, prefix=name)


@asynccontextmanager
async def opened(backend):
    """Open a backend, and close it."""
    await backend.open()
    try:
        yield backend
    finally:
        await backend.aclose()


def clock_of(kind):
    """Return a clock for a store, or ``None`` if only the server's own will do; and how to wait."""
    if kind in ("mariadb", "redis"):
        return None, anyio.sleep
    clock = Clock()
    return clock, clock.advance


async def forget_worker(backend, worker):
    """Delete a worker's row and nothing else, as no method of a store does."""
    if backend.name == "model":
        del backend.state.workers[worker]
        return
    if backend.name == "redis":
        import redis  # noqa: PLC0415

        with redis.Redis.from_url(backend.address.url) as client:
            assert client.zrem(f"{backend.address.tag}:workers", worker) == 1
        return
    store = backend._store()
    schema = f'"{backend.schema}".' if backend.name == "postgres" else ""

    def forget():
        with store.dialect.transaction(store.connection):
            store.execute(f"DELETE FROM {schema}workers WHERE id = '{worker}'")

    await backend._run(forget)


def connection_of(backend):
    """Return what makes a connection of a store's driver to its database; ``None`` for none."""
    if backend.name == "sqlite":
        return partial(sqlite3.connect, backend.path)
    if backend.name == "postgres":
        return backend._get
    if backend.name == "mysql":
        return lambda: backend._server._connect(charset="utf8mb4")
    return None


def _mariadb(url, name):
    import pymysql  # noqa: PLC0415

    from trioflow.backends.mysql.backend import MysqlBackend  # noqa: PLC0415

    socket = parse_qs(urlsplit(url).query)["unix_socket"][0]
    connection = pymysql.connect(unix_socket=socket, user="root", autocommit=True)
    connection.cursor().execute(f"CREATE DATABASE `{name}`")
    connection.close()
    return lambda: MysqlBackend(url.replace("/trioflow?", f"/{name}?"))
